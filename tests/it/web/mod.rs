//! The status page: what it shows, to whom, and what may be done there.

mod browser;
mod fleet;
mod site;

use chrono::{TimeDelta, Utc};
use maint::history::{RunStatus, StepRecord, StepStatus};
use maint::plan::{Finding, Severity};
use reqwest::StatusCode;

use self::site::{Site, TOKEN, run};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

const PAGES: [&str; 9] = [
    "/",
    "/runs",
    "/tasks",
    "/findings",
    "/fleet",
    "/trends",
    "/report",
    "/next",
    "/login",
];

/// On record it is at work until the next run looks; whoever looks at the pages before is told that it is not.
#[tokio::test]
async fn a_run_whose_process_is_gone_is_not_shown_at_work() {
    let site = Site::start("postgres://127.0.0.1:1/x", None).await;
    let mut process = std::process::Command::new("true").spawn().unwrap();
    process.wait().unwrap();
    let (gone, ours) = (process.id(), std::process::id());
    let own = maint::values::process(ours);
    let words: Vec<&str> = own.split(' ').collect();
    let [boot, space, _, _, machine] = words[..] else {
        panic!("{own}");
    };
    for (pid, process, alive) in [
        (gone, None, false),
        (ours, None, true),
        (gone, Some(maint::values::process(gone)), false),
        (ours, Some(own.clone()), true),
        // Its id is another process's by now: in a container that is started anew, always.
        (
            ours,
            Some(format!("{boot} {space} {ours} 1 {machine}")),
            false,
        ),
        // A container of the same name: nobody here can know.
        (
            gone,
            Some(format!("{boot} pid:[1] {gone} 1 {machine}")),
            true,
        ),
    ] {
        let run = maint::history::RunRecord {
            host: maint::values::host(),
            pid: i64::from(pid),
            process,
            finished_at: None,
            ..run(RunStatus::Running, Utc::now())
        };
        site.store.open_run(&run).await.unwrap();
        for path in ["/", "/runs", &format!("/runs/{}", run.id)] {
            let html = site.get(path).await.text().await.unwrap();
            let said = ["✗ interrupted</span>", "● running</span>"].map(|word| html.contains(word));
            assert_eq!(said, [!alive, alive], "{path} {html}");
        }
        let one = site.get(&format!("/runs/{}", run.id)).await;
        let html = one.text().await.unwrap();
        assert_ne!(html.contains("its process is gone"), alive, "{html}");
        assert_eq!(html.contains("None yet."), alive, "{html}");
        let closed = maint::history::RunRecord {
            status: RunStatus::Succeeded,
            ..run
        };
        site.store.close_run(&closed).await.unwrap();
    }
}

#[tokio::test]
async fn every_page_is_there_protected_and_read_only() {
    let site = Site::start("postgres://127.0.0.1:1/x", None).await;
    let run = run(RunStatus::Succeeded, Utc::now());
    site.store.close_run(&run).await.unwrap();
    let one = format!("/runs/{}", run.id);
    for path in PAGES.iter().chain([&one.as_str()]) {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("cache-control"), "no-store");
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        let html = answer.text().await.unwrap();
        for tag in ["<script", "<style"] {
            for element in html.split(tag).skip(1) {
                let opened = element.split('>').next().unwrap();
                assert!(
                    opened.contains(&format!("nonce=\"{nonce}\"")),
                    "{path}: {tag}{opened}"
                );
            }
        }
        // The policy would not let them through.
        assert!(
            !html.contains(" style=\"") && !html.contains(" onclick="),
            "{path}"
        );
        assert!(
            !html.contains("<form method=\"post\" action=\"/runs"),
            "{path}"
        );
        assert_eq!(html.matches("<h1").count(), 1, "{path}");
        // From every page to every other, also from the report.
        let html = html.replace("&#x2f;", "/");
        for to in PAGES.iter().filter(|to| **to != "/login") {
            let link = format!("<a href=\"{to}\"");
            assert!(html.contains(&link), "{path} does not lead to {to}");
        }
        let here = format!("<a href=\"{path}\" aria-current=\"page\"");
        let has_entry = PAGES.contains(path) && *path != "/login";
        assert_eq!(html.contains(&here), has_entry, "{path}");
    }
    let overview = site.get("/").await.text().await.unwrap();
    for label in ["Mon", "Wed", "Fri"] {
        let text = format!(">{label}</text>");
        assert!(overview.contains(&text), "{label}: {overview}");
    }
    assert_eq!(
        site.get("/runs/ffffffff").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        site.get("/runs?status=x").await.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        site.get("/trends?target=x").await.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        site.get("/trends?target=app").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        site.get("/runs?after=x").await.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        site.get("/report?period=x").await.status(),
        StatusCode::BAD_REQUEST
    );
    for path in [
        "/runs",
        &format!("{one}/cancel"),
        "/schedules/hourly/pause",
        "/schedules/hourly/resume",
    ] {
        let refused = site.post(path, "what=analyze%40app", &[]).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn names_of_other_machines_are_not_answered() {
    let site = Site::start("postgres://127.0.0.1:1/x", None).await;
    for host in ["evil.example.com", "127.0.0.1.evil.example.com", "10.0.0.1"] {
        let answer = site
            .client
            .get(format!("{}/", site.url))
            .header("host", host);
        let status = answer.send().await.unwrap().status();
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
}

#[tokio::test]
async fn hostile_names_are_text_on_every_page() {
    let site = Site::start("postgres://127.0.0.1:1/x", None).await;
    let evil = "public.\"<script>alert(1)</script>\" {{ 7001*7001 }}";
    let mut run = run(RunStatus::Partial, Utc::now() - TimeDelta::minutes(1));
    run.error = Some(evil.into());
    run.steps = vec![StepRecord {
        seq: 1,
        object: evil.into(),
        action: "reindex".into(),
        status: StepStatus::Failed,
        reason: evil.into(),
        statement: evil.into(),
        rows: None,
        bytes_before: Some(2),
        bytes_after: Some(1),
        started_at: Some(run.started_at),
        duration_ms: 1,
        attempts: 1,
        error: Some(evil.into()),
        lock_waits: Vec::new(),
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }];
    run.findings = vec![Finding {
        code: "x".into(),
        severity: Severity::Critical,
        object: evil.into(),
        message: evil.into(),
        suggestion: Some(evil.into()),
    }];
    site.store.close_run(&run).await.unwrap();
    let one = format!("/runs/{}", run.id);
    let mut seen = 0;
    let search = "/runs?task=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in PAGES.iter().chain([&one.as_str(), &search]) {
        let html = site.get(path).await.text().await.unwrap();
        assert!(!html.contains("<script>alert"), "{path}");
        assert!(!html.contains("49014001"), "{path}");
        seen += html.matches("&lt;script&gt;alert(1)").count();
    }
    assert!(seen > 8, "{seen}");
}

#[tokio::test]
async fn runs_are_turned_page_by_page() {
    let site = Site::start("postgres://127.0.0.1:1/x", None).await;
    let now = Utc::now();
    let mut ids = Vec::new();
    for n in 0..120 {
        // Several begin in the same millisecond.
        let mut one = run(RunStatus::Succeeded, now - TimeDelta::minutes(n / 3));
        one.task = if n % 2 == 0 { "analyze" } else { "vacuum" }.into();
        ids.push(one.id.to_string());
        site.store.close_run(&one).await.unwrap();
    }
    for (filter, expected) in [("", 120_usize), ("task=vacuum", 60)] {
        let mut path = format!("/runs?{filter}");
        let mut seen = std::collections::BTreeSet::new();
        let mut pages = 0;
        loop {
            let html = site.get(&path).await.text().await.unwrap();
            pages += 1;
            seen.extend(
                ids.iter()
                    .filter(|id| html.contains(&format!("\"/runs/{id}\"")))
                    .cloned(),
            );
            let Some(next) = html.split("rel=\"next\" href=\"").nth(1) else {
                break;
            };
            path = next.split('"').next().unwrap().replace("&amp;", "&");
        }
        assert_eq!(
            (seen.len(), pages),
            (expected, expected.div_ceil(50)),
            "{filter}"
        );
    }
}

#[tokio::test]
async fn with_the_token_a_run_is_started_and_a_schedule_paused() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let site = Site::start(&db.url, Some(TOKEN)).await;
    // By a program.
    let bearer = [("authorization", format!("Bearer {TOKEN}"))];
    let started = site.post("/runs", "what=analyze%40app", &bearer).await;
    assert_eq!(started.status(), StatusCode::SEE_OTHER);
    let record = site.ended("analyze").await;
    assert_eq!(
        (record.status, record.steps.len()),
        (RunStatus::Succeeded, 1)
    );
    for what in ["analyze%40other", "other%40app", "analyze", ""] {
        let refused = site.post("/runs", &format!("what={what}"), &bearer).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{what}");
    }
    let wrong = [("authorization", format!("Bearer {TOKEN}x"))];
    let refused = site.post("/runs", "what=analyze%40app", &wrong).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);

    // By a person.
    let refused = site.post("/login", "token=wrong", &[]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.headers().get("set-cookie").is_none());
    let entered = site.post("/login", &format!("token={TOKEN}"), &[]).await;
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(!cookie.contains(TOKEN));
    let cookie = [("cookie", cookie.split(';').next().unwrap().to_owned())];
    // Another page can make the browser send the cookie, but does not know the word.
    for form in ["", "form_token=guess"] {
        let refused = site.post("/schedules/hourly/pause", form, &cookie).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{form}");
    }
    let request = site.client.get(format!("{}/next", site.url));
    let page = request.header("cookie", &cookie[0].1).send().await.unwrap();
    let page = page.text().await.unwrap();
    let word = page.split("name=\"form_token\" value=\"").nth(1).unwrap();
    let form = format!("form_token={}", word.split('"').next().unwrap());
    let paused = site.post("/schedules/hourly/pause", &form, &cookie).await;
    assert_eq!(paused.status(), StatusCode::SEE_OTHER);
    assert_eq!(site.store.pauses().await.unwrap()[0].schedule, "hourly");
    let request = site.client.get(format!("{}/next", site.url));
    let page = request.header("cookie", &cookie[0].1).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("paused"));
    let unknown = site.post("/schedules/nope/pause", &form, &cookie).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    site.post("/schedules/hourly/resume", &form, &cookie).await;
    assert_eq!(site.store.pauses().await.unwrap(), []);
    site.post("/logout", &form, &cookie).await;
    let refused = site.post("/schedules/hourly/pause", &form, &cookie).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

/// A task that is off runs where it is asked for by name, and that is said; what pages tell of
/// times and of runs without a step is so.
#[tokio::test]
async fn what_is_off_or_was_never_begun_is_said() {
    let workspace = Workspace::new(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: { engine: postgres, url: \"postgres://app@127.0.0.1:1/app?sslmode=disable\" }\n\
         schedules:\n  yearly: { cron: \"0 1 30 11 *\", tasks: [analyze] }\n",
    )
    .task("analyze", "kind: analyze\ntarget: app\nenabled: false\n");
    let site = Site::of(workspace, "127.0.0.1:1", Some(TOKEN)).await;
    let bearer = [("authorization", format!("Bearer {TOKEN}"))];
    let started = site.post("/runs", "what=analyze%40app", &bearer).await;
    assert_eq!(started.status(), StatusCode::SEE_OTHER);
    let said: serde_json::Value = started.json().await.unwrap();
    let note = said["note"].as_str().unwrap();
    assert!(note.contains("`analyze` has `enabled: false`"), "{said}");
    let run = site.ended("analyze").await;
    assert_eq!((run.status, run.steps.len()), (RunStatus::Failed, 0));

    let read = async |path: &str| {
        let request = site.client.get(format!("{}{path}", site.url));
        let answer = request.header("authorization", &bearer[0].1).send();
        answer.await.unwrap().text().await.unwrap()
    };
    let page = read(&format!("/runs/{}", run.id)).await;
    assert!(page.contains("could not do its work"), "{page}");
    assert!(!page.contains("Nothing was to be done"), "{page}");
    // Of a schedule of every year each line has its year.
    let page = read("/next").await;
    let year = chrono::Datelike::year(&chrono::Utc::now());
    assert!(page.contains(&format!("30 Nov {}", year + 2)), "{page}");
    // What was measured today stands at today.
    let size = maint::plan::Measurement {
        metric: "database.bytes".into(),
        object: String::new(),
        value: 1e9,
    };
    let now = chrono::Utc::now();
    site.store
        .add_measurements("app", now, &[size])
        .await
        .unwrap();
    let page = read("/trends").await;
    // Midnight may come between.
    let days = [now, chrono::Utc::now()].map(|at| at.format("%-d %b").to_string());
    assert!(days.iter().any(|day| page.contains(day)), "{page}");
}

/// A program says how long, and why; what is not understood pauses nothing.
#[tokio::test]
async fn a_pause_ends_when_its_body_says() {
    let site = Site::start("postgres://127.0.0.1:1/none", Some(TOKEN)).await;
    let bearer = [("authorization", format!("Bearer {TOKEN}"))];
    let path = "/schedules/hourly/pause";
    for wrong in [
        "until=tomorrow",
        "{\"until\": \"2000-01-01T00:00:00Z\"}",
        "{\"until\": \"2999-01-01T00:00:00Z\", \"for\": \"2d\"}",
        "{\"untill\": \"2999-01-01T00:00:00Z\"}",
        "for=long",
        "sometime=soon",
        "{",
    ] {
        let refused = site.post(path, wrong, &bearer).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(site.store.pauses().await.unwrap(), [], "{wrong}");
    }
    let json = "{\"until\": \"2999-01-01T02:00:00+02:00\", \"reason\": \"the move\"}";
    let form = "until=2999-01-01T00%3A00%3A00Z&reason=the+move";
    for body in [json, form] {
        let paused = site.post(path, body, &bearer).await;
        assert_eq!(paused.status(), StatusCode::SEE_OTHER, "{body}");
        let pause = site.store.pauses().await.unwrap().remove(0);
        let end: chrono::DateTime<chrono::Utc> = "2999-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(pause.until, Some(end), "{body}");
        assert!(pause.by.ends_with("(the move)"), "{}", pause.by);
        site.post("/schedules/hourly/resume", "", &bearer).await;
    }
    let paused = site.post(path, "for=2d", &bearer).await;
    assert_eq!(paused.status(), StatusCode::SEE_OTHER);
    let pause = site.store.pauses().await.unwrap().remove(0);
    assert_eq!(pause.until, Some(pause.since + chrono::TimeDelta::days(2)));
}

#[tokio::test]
async fn who_listens_to_the_world_shows_nothing_without_the_token() {
    let site = Site::start_at("0.0.0.0:1", "postgres://127.0.0.1:1/x", Some(TOKEN)).await;
    for path in ["/", "/runs", "/runs/last", "/report", "/live"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.headers()["location"], "/login");
    }
    assert_eq!(site.get("/login").await.status(), StatusCode::OK);
    let request = site.client.get(format!("{}/runs", site.url));
    let answer = request.header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(answer.send().await.unwrap().status(), StatusCode::OK);
}
