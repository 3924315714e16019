//! Who is told what, and when: from records to mails that have arrived.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use mail_parser::{Message, MessageParser, MimeHeaders};
use maint::config::Config;
use maint::history::{RunRecord, RunStatus, StepRecord, StepStatus, Store, Trigger, open};
use maint::notify::Teller;
use maint::plan::{Finding, Severity};
use maint::report::Templates;
use uuid::Uuid;

use super::hook::Hook;
use super::server::{Fault, MailServer, PASSWORD};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

fn config(workspace: &Workspace) -> Config {
    maint::config::load(
        &workspace.path().join("schedules.yaml"),
        &maint::kinds::catalog(),
        &|_| None,
    )
    .unwrap()
}

/// Forty shards, one task, every hour.
fn workspace(notify: &str) -> Workspace {
    let shards: Vec<String> = (0..40).map(|n| format!("shard_{n}")).collect();
    let targets: String = shards
        .iter()
        .map(|name| {
            format!("  {name}: {{ engine: postgres, url: \"postgres://127.0.0.1:1/{name}\" }}\n")
        })
        .collect();
    Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n{targets}groups: {{ shards: [{}] }}\n\
         schedules:\n  hourly: {{ cron: \"0 * * * *\", tasks: [analyze] }}\n{notify}",
        shards.join(", ")
    ))
    .task("analyze", "kind: analyze\ntarget: shards\n")
}

fn teller(workspace: &Workspace) -> Teller {
    Teller::new(
        Arc::new(config(workspace)),
        Templates::built_in(),
        "db-tools".to_owned(),
    )
}

fn noon(minutes: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap() + TimeDelta::minutes(minutes)
}

fn run(target: &str, status: RunStatus, at: DateTime<Utc>) -> RunRecord {
    RunRecord {
        id: Uuid::now_v7(),
        task: "analyze".into(),
        kind: "analyze".into(),
        target: target.into(),
        trigger: Trigger::Schedule,
        status,
        scheduled_for: Some(at),
        started_at: at,
        finished_at: Some(at + TimeDelta::seconds(1)),
        duration_ms: 1_000,
        inspect_ms: 0,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: "h".into(),
        pid: 1,
        process: None,
        schedule: None,
        part: None,
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

async fn note(teller: &Teller, store: &dyn Store, run: &RunRecord) {
    store.close_run(run).await.unwrap();
    teller.note(store, run).await.unwrap();
}

/// With a mail server and further lines for `notify`.
fn mailing(server: &MailServer, more: &str) -> Workspace {
    workspace(&format!(
        "smtp: {{ url: \"{}\", from: \"maint <maint@example.com>\" }}\n\
         notify: {{ email: {{ to: [dba@example.com] }}, group_wait: 1min{more} }}\n",
        server.url("smtp", PASSWORD, "")
    ))
}

fn subjects(server: &MailServer) -> Vec<String> {
    let mails = server.mails();
    let parsed = mails
        .iter()
        .map(|mail| MessageParser::default().parse(mail).unwrap());
    parsed
        .map(|mail| mail.subject().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_outage_of_forty_shards_is_one_mail_and_so_is_its_end() {
    let server = MailServer::start(Fault::None);
    let workspace = mailing(&server, "");
    let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
    let store = store.as_ref();
    for n in 0..40 {
        let mut run = run(&format!("shard_{n}"), RunStatus::Failed, noon(0));
        run.error = Some("the server <script>alert(1)</script> {{ 7*7 }} refused".into());
        note(&teller, store, &run).await;
    }
    // More may be coming.
    let done = teller
        .tell(store, noon(0) + TimeDelta::seconds(30), true)
        .await;
    assert_eq!(done.unwrap().sent, 0);
    let done = teller.tell(store, noon(2), true).await.unwrap();
    assert_eq!((done.sent, done.problems), (1, vec![]));
    let mails = server.mails();
    let mail = MessageParser::default().parse(&mails[0]).unwrap();
    assert_eq!(mail.subject(), Some("analyze failed on 40 targets"));
    let (text, html) = (mail.body_text(0).unwrap(), mail.body_html(0).unwrap());
    assert!(
        text.contains("shard_0") && text.contains("and 30 more"),
        "{text}"
    );
    assert!(text.contains("maint run analyze --now"), "{text}");
    assert!(text.contains("{{ 7*7 }}") && html.contains("{{ 7*7 }}"));
    assert!(!html.contains("<script"), "a script got in");
    // The next hour changes nothing: the outage is known.
    for n in 0..40 {
        note(
            &teller,
            store,
            &run(&format!("shard_{n}"), RunStatus::Failed, noon(60)),
        )
        .await;
    }
    assert_eq!(teller.tell(store, noon(65), true).await.unwrap().sent, 0);
    for n in 0..40 {
        note(
            &teller,
            store,
            &run(&format!("shard_{n}"), RunStatus::Succeeded, noon(120)),
        )
        .await;
    }
    assert_eq!(teller.tell(store, noon(125), true).await.unwrap().sent, 1);
    let mut told = subjects(&server);
    told.sort();
    assert_eq!(
        told,
        [
            "Recovered: analyze recovered on 40 targets",
            "analyze failed on 40 targets"
        ]
    );
    // A success without a failure before is no news.
    note(
        &teller,
        store,
        &run("shard_0", RunStatus::Succeeded, noon(180)),
    )
    .await;
    assert_eq!(teller.tell(store, noon(185), false).await.unwrap().sent, 0);
}

#[tokio::test]
async fn what_lasts_is_escalated_to_somebody_else() {
    let server = MailServer::start(Fault::None);
    let workspace = mailing(
        &server,
        ", escalate_after: 3, escalate_to: { to: [boss@example.com] }",
    );
    let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
    let store = store.as_ref();
    let mut sent = Vec::new();
    for hour in 0..8 {
        note(
            &teller,
            store,
            &run("shard_7", RunStatus::Failed, noon(60 * hour)),
        )
        .await;
        let told = teller
            .tell(store, noon(60 * hour + 1), false)
            .await
            .unwrap();
        sent.push(told.sent);
    }
    // Told at once, and again after three hours, and three more.
    assert_eq!(sent, [1, 0, 0, 1, 0, 0, 1, 0]);
    let mails = server.mails();
    let to: Vec<String> = mails
        .iter()
        .map(|mail| {
            let mail = MessageParser::default().parse(mail).unwrap();
            let to = mail.to().unwrap().first().unwrap().address().unwrap();
            format!("{to}: {}", mail.subject().unwrap())
        })
        .collect();
    assert!(
        to.contains(&"dba@example.com: analyze failed on shard_7".to_owned()),
        "{to:?}"
    );
    assert!(
        to.contains(
            &"boss@example.com: Still failing: analyze keeps failing on shard_7".to_owned()
        ),
        "{to:?}"
    );
}

#[tokio::test]
async fn beyond_the_limit_news_wait_for_each_other() {
    let server = MailServer::start(Fault::None);
    let workspace = mailing(&server, ", max_per_hour: 2");
    let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
    let store = store.as_ref();
    let mut sent = Vec::new();
    for n in 0..5 {
        note(
            &teller,
            store,
            &run(&format!("shard_{n}"), RunStatus::Failed, noon(n)),
        )
        .await;
        sent.push(teller.tell(store, noon(n), false).await.unwrap().sent);
    }
    assert_eq!(sent, [1, 1, 0, 0, 0]);
    assert_eq!(teller.tell(store, noon(62), false).await.unwrap().sent, 1);
    assert!(subjects(&server).contains(&"analyze failed on 3 targets".to_owned()));
}

#[tokio::test]
async fn rows_and_secrets_stay_at_home() {
    let workspace = workspace("notify: { file: told.jsonl, on: [partial, critical] }\n");
    let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
    let store = store.as_ref();
    let mut run = run("shard_1", RunStatus::Partial, noon(0));
    run.steps = vec![StepRecord {
        seq: 1,
        object: "public.users".into(),
        action: "delete".into(),
        status: StepStatus::Failed,
        reason: String::new(),
        statement: "DELETE FROM users".into(),
        rows: None,
        bytes_before: None,
        bytes_after: None,
        started_at: Some(noon(0)),
        duration_ms: 1,
        attempts: 1,
        error: Some("duplicate key value violates unique constraint \"u\". Key (email)=(zoe@example.com) already exists. (SQLSTATE 23505, while deleting)".into()),
        lock_waits: Vec::new(),
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }];
    run.findings = vec![Finding {
        code: "freeze.age".into(),
        severity: Severity::Critical,
        object: "public.users".into(),
        message: "Its oldest transaction id is 1.9 billion old.".into(),
        suggestion: None,
    }];
    note(&teller, store, &run).await;
    assert_eq!(teller.tell(store, noon(1), false).await.unwrap().sent, 1);
    // The finding stands the next night; that is no news.
    run.id = Uuid::now_v7();
    note(&teller, store, &run).await;
    assert_eq!(teller.tell(store, noon(2), false).await.unwrap().sent, 0);
    let told = std::fs::read_to_string(workspace.path().join("told.jsonl")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let text = told.to_string();
    assert!(
        text.contains("unique constraint") && !text.contains("zoe@"),
        "{text}"
    );
    assert_eq!(told["message"], "failed");
    assert_eq!(told["digest"]["groups"][0]["event"], "partial");
    assert_eq!(told["digest"]["groups"][1]["event"], "critical");
}

#[tokio::test]
async fn webhooks_are_shaped_as_asked_and_names_mean_nothing_there() {
    for format in ["generic", "slack", "teams", "ntfy", "apprise"] {
        let hook = Hook::start(200).await;
        let workspace = workspace(&format!(
            "notify: {{ webhook: {{ url: \"{}\", format: {format} }} }}\n",
            hook.url
        ));
        let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
        let mut run = run("shard_1", RunStatus::Failed, noon(0));
        run.error =
            Some("<!channel> *loud* _`code`_ \"quoted\" {{ 7*7 }} \\ & [link](http://evil)".into());
        note(&teller, store.as_ref(), &run).await;
        let done = teller.tell(store.as_ref(), noon(1), false).await.unwrap();
        assert_eq!((done.sent, done.problems), (1, vec![]), "{format}");
        let body = &hook.bodies()[0];
        match format {
            "slack" => {
                assert_eq!(body["text"], "analyze failed on shard_1");
                assert_eq!(body["mrkdwn"], false);
                let section = &body["blocks"][1];
                assert_eq!(section["type"], "rich_text");
                let parts = section["elements"][0]["elements"].as_array().unwrap();
                // Plain text elements: nothing in them is a link, a mention or bold.
                assert!(parts.iter().all(|part| part["type"] == "text"), "{section}");
                assert_eq!(parts[0]["text"], "analyze failed on shard_1\n");
                let told = parts[1]["text"].as_str().unwrap();
                assert!(told.starts_with("shard_1\n"), "{told}");
                assert!(
                    told.contains("<!channel> *loud* _`code`_ \"quoted\" {{ 7*7 }}"),
                    "{told}"
                );
                assert!(!body.to_string().contains("mrkdwn\":\""), "{body}");
            }
            "teams" => {
                let card = &body["attachments"][0]["content"];
                assert_eq!(card["type"], "AdaptiveCard");
                let told = &card["body"][3]["inlines"][0];
                // Plain text runs: nothing in them is a link.
                assert_eq!(told["type"], "TextRun");
                assert!(
                    told["text"].as_str().unwrap().contains("<!channel>"),
                    "{told}"
                );
            }
            "ntfy" => {
                // JSON goes to the server, and names the topic.
                assert_eq!(hook.paths(), ["/geheimer/"]);
                assert_eq!(body["topic"], "weg");
                assert_eq!(body["title"], "analyze failed on shard_1");
                assert_eq!(
                    (&body["priority"], &body["tags"][0]),
                    (&4.into(), &"x".into())
                );
                let told = body["message"].as_str().unwrap();
                assert!(
                    told.starts_with("analyze failed on shard_1\nshard_1\n<!channel>"),
                    "{told}"
                );
                assert!(
                    body.get("click").is_none() && body.get("markdown").is_none(),
                    "{body}"
                );
            }
            "apprise" => {
                assert_eq!(hook.paths(), ["/geheimer/weg"]);
                assert_eq!(body["title"], "analyze failed on shard_1");
                assert_eq!(
                    (&body["type"], &body["format"]),
                    (&"failure".into(), &"text".into())
                );
                let told = body["body"].as_str().unwrap();
                assert!(
                    told.starts_with("analyze failed on shard_1\nshard_1\n<!channel>"),
                    "{told}"
                );
            }
            _ => {
                assert_eq!(body["message"], "failed");
                let line = &body["digest"]["groups"][0]["lines"][0];
                assert_eq!(line["target"], "shard_1");
                assert!(line["text"].as_str().unwrap().contains("<!channel>"));
            }
        }
    }
}

/// Several findings of one run are a line each, or whatever is one there.
#[tokio::test]
async fn each_finding_is_a_line() {
    for format in ["generic", "slack", "teams", "ntfy", "apprise"] {
        let hook = Hook::start(200).await;
        let workspace = workspace(&format!(
            "notify: {{ webhook: {{ url: \"{}\", format: {format} }} }}\n",
            hook.url
        ));
        let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
        let mut run = run("shard_1", RunStatus::Succeeded, noon(0));
        let critical = |object: &str| Finding {
            code: "freeze.age".into(),
            severity: Severity::Critical,
            object: object.into(),
            message: "It is\nold.".into(),
            suggestion: None,
        };
        run.findings = vec![critical("public.one"), critical("public.two")];
        note(&teller, store.as_ref(), &run).await;
        let done = teller.tell(store.as_ref(), noon(1), false).await.unwrap();
        assert_eq!((done.sent, done.problems), (1, vec![]), "{format}");
        let body = &hook.bodies()[0];
        let lines = match format {
            "teams" => "public.one: It is old.\"}],\"type\":\"RichTextBlock\"},{",
            "generic" => "\"texts\":[\"public.one: It is old.\",\"public.two: It is old.\"]",
            _ => "public.one: It is old.\\npublic.two: It is old.",
        };
        let all = body.to_string();
        assert!(
            all.contains(lines) || format == "teams" && all.matches("It is old.").count() == 2,
            "{format}: {all}"
        );
    }
}

/// What went well is not sent as a failure, and with something worse beside it, it is as bad as that.
#[tokio::test]
async fn a_letter_is_as_bad_as_the_worst_that_it_tells() {
    for (statuses, kind, tag) in [
        (&[RunStatus::Succeeded][..], "success", "white_check_mark"),
        (
            &[RunStatus::Succeeded, RunStatus::Incomplete],
            "warning",
            "warning",
        ),
        (&[RunStatus::Succeeded, RunStatus::Failed], "failure", "x"),
    ] {
        for format in ["ntfy", "apprise"] {
            let hook = Hook::start(200).await;
            let workspace = workspace(&format!(
                "notify: {{ on: [succeeded, incomplete, failed], webhook: {{ url: \"{}\", format: {format} }} }}\n",
                hook.url
            ));
            let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
            for (n, status) in statuses.iter().enumerate() {
                note(
                    &teller,
                    store.as_ref(),
                    &run(&format!("shard_{n}"), *status, noon(0)),
                )
                .await;
            }
            let done = teller.tell(store.as_ref(), noon(1), false).await.unwrap();
            assert_eq!((done.sent, done.problems), (1, vec![]), "{format}");
            let body = &hook.bodies()[0];
            match format {
                "ntfy" => assert_eq!(body["tags"][0], tag, "{body}"),
                _ => assert_eq!(body["type"], kind, "{body}"),
            }
        }
    }
}

#[tokio::test]
async fn a_webhook_that_is_down_gets_it_later_and_its_address_stays_secret() {
    let hook = Hook::start(503).await;
    let workspace = workspace(&format!(
        "notify: {{ webhook: {{ url: \"{}\" }} }}\n",
        hook.url
    ));
    let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
    note(
        &teller,
        store.as_ref(),
        &run("shard_1", RunStatus::Failed, noon(0)),
    )
    .await;
    let done = teller.tell(store.as_ref(), noon(1), false).await.unwrap();
    assert_eq!(done.sent, 0);
    assert!(done.problems[0].contains("503"), "{done:?}");
    assert!(!done.problems[0].contains("geheimer"), "{done:?}");
    teller.tell(store.as_ref(), noon(3), false).await.unwrap();
    assert_eq!(hook.bodies().len(), 2);
}

#[tokio::test]
async fn a_watchdog_hears_of_the_start_and_of_the_end() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    for (url, last) in [
        (db.url.clone(), "/geheimer/weg"),
        (
            "postgres://127.0.0.1:1/nowhere?sslmode=disable".to_owned(),
            "/geheimer/weg/fail",
        ),
    ] {
        let hook = Hook::start(200).await;
        let workspace = Workspace::new(&format!(
            "timezone: UTC\ntargets: {{ app: {{ engine: postgres, url: \"{url}\" }} }}\n\
             schedules:\n  yearly: {{ cron: \"0 0 1 1 *\", tasks: [analyze], ping: {{ url: \"{}\" }} }}\n",
            hook.url
        ))
        .task("analyze", "kind: analyze\ntarget: app\n");
        let ran = tokio::task::spawn_blocking(move || workspace.run(["run", "--all"]))
            .await
            .unwrap();
        assert_eq!(hook.paths(), ["/geheimer/weg/start", last], "{ran:#?}");
    }
}

#[tokio::test]
async fn a_failed_run_is_told_at_the_end_of_the_command() {
    let server = MailServer::start(Fault::None);
    let workspace = mailing(&server, "");
    let ran = workspace.run(["run", "analyze", "--now"]).expect(3);
    assert!(!ran.stderr.contains("not sent"), "{ran:#?}");
    assert_eq!(subjects(&server), ["analyze failed on 40 targets"]);
    workspace.run(["run", "analyze", "--now"]).expect(3);
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_test_says_what_came_of_each_way() {
    let server = MailServer::start(Fault::None);
    let hook = Hook::start(404).await;
    let workspace = mailing(
        &server,
        &format!(", webhook: {{ url: \"{}\" }}, file: told.jsonl", hook.url),
    );
    let (said, workspace) = tokio::task::spawn_blocking(move || {
        (workspace.run(["notify", "test"]).expect(1), workspace)
    })
    .await
    .unwrap();
    assert!(said.stdout.contains("email: sent\n"), "{said:#?}");
    assert!(
        said.stdout
            .contains("webhook: refused: the webhook answered 404"),
        "{said:#?}"
    );
    assert!(said.stdout.contains("file: sent\n"), "{said:#?}");
    assert!(!said.stdout.contains("geheim"), "{said:#?}");
    assert!(subjects(&server)[0].starts_with("A test from maint"));
    assert!(workspace.path().join("told.jsonl").exists());
}

fn structure(mail: &Message<'_>) -> Vec<String> {
    let parts = mail.parts.iter().filter_map(|part| part.content_type());
    parts
        .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn the_report_arrives_whole() {
    let server = MailServer::start(Fault::None);
    let workspace = mailing(&server, "");
    let yaml = std::fs::read_to_string(workspace.path().join("schedules.yaml")).unwrap();
    workspace.file(
        "schedules.yaml",
        // Right after an hour has begun, the runs below would not be its.
        &format!(
            "{}reports:\n  weekly: {{ cron: \"0 8 * * MON\", period: 7d, email: {{ to: [all@example.com], reply_to: dba@example.com }} }}\n",
            yaml.replace("0 * * * *", "0 0 1 1 *")
        ),
    );
    let store = open(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap();
    for days in 0..5 {
        let at = Utc::now() - TimeDelta::days(days) - TimeDelta::minutes(5);
        let mut run = run("shard_1", RunStatus::Succeeded, at);
        run.steps = vec![StepRecord {
            seq: 1,
            object: "public.\"<script>alert(1)</script>\"".into(),
            action: "reindex".into(),
            status: StepStatus::Succeeded,
            reason: String::new(),
            statement: String::new(),
            rows: None,
            bytes_before: Some(800 << 20),
            bytes_after: Some(100 << 20),
            started_at: Some(at),
            duration_ms: 1,
            attempts: 1,
            error: None,
            lock_waits: Vec::new(),
            throttled: Vec::new(),
            predicted_ms: None,
            planned_bytes: None,
            cut_off: false,
            kept_by: None,
            piled_up: false,
        }];
        store.close_run(&run).await.unwrap();
    }
    store.close().await;
    workspace.run(["report", "--email"]).expect(0);
    workspace
        .run(["report", "--email", "--period", "since-last"])
        .expect(0);
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    let parsed: Vec<_> = mails
        .iter()
        .map(|mail| MessageParser::default().parse(mail).unwrap())
        .collect();
    let whole = parsed
        .iter()
        .find(|mail| mail.subject() == Some("All well · the last 7 days · 5 runs"))
        .unwrap_or_else(|| {
            panic!(
                "{:?}",
                parsed.iter().map(Message::subject).collect::<Vec<_>>()
            )
        });
    assert_eq!(
        structure(whole),
        [
            "multipart/alternative",
            "text/plain",
            "multipart/related",
            "text/html",
            "image/png",
            "image/png"
        ]
    );
    let html = whole.body_html(0).unwrap();
    let text = whole.body_text(0).unwrap();
    assert!(
        html.len() < 100_000 && text.starts_with("ALL WELL"),
        "{text}"
    );
    assert!(!html.contains("<script") && !html.contains("<svg"));
    assert!(text.contains("<script>alert(1)</script>"));
    for picture in whole.attachments() {
        let id = picture.content_id().unwrap();
        assert!(html.contains(&format!("src=\"cid:{id}\"")), "{id}");
        assert!(picture.contents().starts_with(b"\x89PNG"), "{id}");
        assert!(picture.content_disposition().unwrap().is_inline(), "{id}");
    }
    assert!(
        whole
            .header_raw("List-Id")
            .unwrap()
            .contains("<maint.example.com>")
    );
    assert_eq!(
        whole.reply_to().unwrap().first().unwrap().address(),
        Some("dba@example.com")
    );
    let since = parsed
        .iter()
        .find(|mail| mail.message_id() != whole.message_id())
        .unwrap();
    assert_eq!(since.subject(), Some("Nothing ran · since the last report"));
    // One conversation, two mails.
    assert_eq!(since.references().as_text(), whole.references().as_text());
}

/// A mail server that takes the connection and never says a word keeps nobody: after a signal the
/// process ends soon, and the letter is kept for the next.
#[tokio::test]
async fn a_signal_does_not_wait_for_a_mail_server() {
    use std::time::{Duration, Instant};
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (met, meets) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in server.incoming().flatten() {
            kept.push(connection);
            if met.send(()).is_err() {
                break;
            }
        }
    });
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\n\
         targets:\n  app: {{ engine: postgres, url: \"postgres://127.0.0.1:1/none\" }}\n\
         reports:\n  w: {{ cron: \"* * * * *\", period: 7d, email: {{ to: [dba@example.com] }} }}\n\
         smtp: {{ url: \"smtp://127.0.0.1:{port}\", from: maint@example.com }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    let mut process = workspace
        .process(["run", "--due", "--schedule", "report:w"])
        .spawn()
        .unwrap();
    meets
        .recv_timeout(Duration::from_secs(120))
        .expect("the mail server is called");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    // The mail server would have been waited for three times as long.
    let until = Instant::now() + Duration::from_secs(20);
    let ended = loop {
        if let Some(ended) = process.try_wait().unwrap() {
            break ended;
        }
        if Instant::now() > until {
            process.kill().unwrap();
            panic!("still there after a signal");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ended.code(), Some(143));
    let file = workspace.history();
    let store = open(&format!("sqlite:{}", file.display())).await.unwrap();
    let later = Utc::now() + TimeDelta::hours(1);
    let letter = store.claim_letter(later, later).await.unwrap();
    assert_eq!(letter.expect("the letter is kept").channel, "email");
}

/// Where it is known how people reach the status page, every message links to the run that it is
/// about: in both texts of a mail, and in a webhook of each format. Where it is not, none does.
#[tokio::test]
async fn messages_link_to_their_runs() {
    for (format, page) in [
        ("generic", Some("https://maint.example.com")),
        ("slack", Some("https://maint.example.com")),
        ("teams", Some("https://maint.example.com")),
        ("ntfy", Some("https://maint.example.com")),
        ("apprise", Some("https://maint.example.com")),
        ("ntfy", None),
        ("generic", None),
    ] {
        let server = MailServer::start(Fault::None);
        let hook = Hook::start(200).await;
        let web = page.map_or_else(String::new, |page| format!("web: {{ url: \"{page}\" }}\n"));
        let workspace = workspace(&format!(
            "smtp: {{ url: \"{}\", from: \"maint <maint@example.com>\" }}\n{web}\
             notify: {{ email: {{ to: [dba@example.com] }}, webhook: {{ url: \"{}\", format: {format} }}, group_wait: 1min }}\n",
            server.url("smtp", PASSWORD, ""),
            hook.url
        ));
        let (teller, store) = (teller(&workspace), open("sqlite::memory:").await.unwrap());
        let store = store.as_ref();
        let mut failed = run("shard_1", RunStatus::Failed, noon(0));
        failed.error = Some("the disk is full".into());
        note(&teller, store, &failed).await;
        let done = teller.tell(store, noon(2), true).await.unwrap();
        assert_eq!((done.sent, done.problems), (2, vec![]));
        let mails = server.mails();
        let mail = MessageParser::default().parse(&mails[0]).unwrap();
        let (text, html) = (mail.body_text(0).unwrap(), mail.body_html(0).unwrap());
        let posted = serde_json::json!(hook.bodies()).to_string();
        let link = format!("https://maint.example.com/runs/{}", failed.id);
        for told in [&*text, &*html, &posted] {
            assert_eq!(told.contains(&link), page.is_some(), "{format}: {told}");
            assert_eq!(
                told.contains("https://maint"),
                page.is_some(),
                "{format}: {told}"
            );
        }
    }
}
