//! The report, from a history with everything unpleasant in it.

use chrono::{TimeDelta, Utc};
use maint::history::{
    Occurrence, OccurrenceStatus, RunRecord, RunStatus, StepRecord, StepStatus, Store, Trigger,
    open,
};
use maint::plan::{Finding, Measurement, Severity};
use uuid::Uuid;

use crate::support::workspace::Workspace;

const HOSTILE: &str = "public.\"<script>alert(1)</script>\"";
const TEMPLATE: &str = "{{ 7001*7001 }} {% raw %} <b>bold</b> & \u{202e}reversed\nnext line";

fn workspace() -> Workspace {
    Workspace::new(
        "timezone: Europe/Berlin\nhistory: sqlite:maint.db\n\
         targets:\n  app: { engine: postgres, url: \"postgres://app:geheim@127.0.0.1:1/app\" }\n\
         schedules:\n  weekly: { cron: \"0 1 * * SUN\", tasks: [reindex] }\n",
    )
    .task("reindex", "kind: reindex\ntarget: app\n")
}

async fn history(workspace: &Workspace) -> std::sync::Arc<dyn Store> {
    open(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap()
}

fn step(seq: u32, object: &str, status: StepStatus) -> StepRecord {
    StepRecord {
        seq,
        object: object.into(),
        action: "reindex".into(),
        status,
        reason: "bloat".into(),
        statement: "REINDEX".into(),
        rows: None,
        bytes_before: Some(900 << 20),
        bytes_after: Some(100 << 20),
        started_at: Some(Utc::now() - TimeDelta::hours(2)),
        duration_ms: 500,
        attempts: 1,
        error: (status == StepStatus::Failed).then(|| TEMPLATE.to_owned()),
        lock_waits: Vec::new(),
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }
}

fn run(status: RunStatus, days_ago: i64) -> RunRecord {
    RunRecord {
        id: Uuid::now_v7(),
        task: "reindex".into(),
        kind: "reindex".into(),
        target: "app".into(),
        trigger: Trigger::Schedule,
        status,
        scheduled_for: None,
        started_at: Utc::now() - TimeDelta::days(days_ago) - TimeDelta::hours(2),
        finished_at: Some(Utc::now()),
        duration_ms: 61_000,
        inspect_ms: 5,
        rows: 0,
        bytes_before: 900 << 20,
        bytes_after: 100 << 20,
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

fn finding(severity: Severity, object: &str) -> Finding {
    Finding {
        code: "index.odd".into(),
        severity,
        object: object.into(),
        message: TEMPLATE.into(),
        suggestion: Some(format!("DROP INDEX {HOSTILE};\n-- {TEMPLATE}")),
    }
}

async fn filled(workspace: &Workspace) {
    let store = history(workspace).await;
    let mut before = run(RunStatus::Succeeded, 10);
    before.findings = vec![finding(Severity::Warning, "public.gone")];
    store.close_run(&before).await.unwrap();
    let mut last = run(RunStatus::Partial, 0);
    last.steps = vec![
        step(1, HOSTILE, StepStatus::Succeeded),
        step(2, HOSTILE, StepStatus::Failed),
    ];
    last.findings = vec![
        finding(Severity::Critical, HOSTILE),
        finding(Severity::Info, "public.fine"),
    ];
    store.close_run(&last).await.unwrap();
    for (days, value) in [(6, 1e9), (3, 1.5e9), (0, 2e9)] {
        let size = Measurement {
            metric: "database.bytes".into(),
            object: String::new(),
            value,
        };
        let at = Utc::now() - TimeDelta::days(days) - TimeDelta::minutes(1);
        store.add_measurements("app", at, &[size]).await.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn the_json_says_what_matters() {
    let workspace = workspace();
    filled(&workspace).await;
    let report = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(report["verdict"], "attention");
    assert_eq!(report["summary"]["runs"], 1);
    assert_eq!(report["summary"]["partial"], 1);
    assert_eq!(report["summary"]["bytes_reclaimed"], 800_i64 << 20);
    assert_eq!(report["before"]["succeeded"], 1);
    assert_eq!(report["tasks"][0]["last"]["status"], "partial");
    assert_eq!(report["gains"][0]["object"], HOSTILE);
    assert_eq!(report["troubles"][0]["object"], HOSTILE);
    assert_eq!(
        report["troubles"][0]["command"],
        "maint run reindex --target app --now"
    );
    let states: Vec<_> = report["findings"]["listed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["state"].as_str().unwrap(),
                one["object"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [
            ("new", HOSTILE),
            ("new", "public.fine"),
            ("gone", "public.gone")
        ]
    );
    assert_eq!(report["trends"][0]["last"], 2e9);
    assert_eq!(report["planned"][0]["schedule"], "weekly");
    assert!(
        report["reasons"][0]["text"]
            .as_str()
            .unwrap()
            .contains("reindex on app failed in part")
    );
    assert!(!report.to_string().contains("geheim"));
}

/// A fleet of shards: what is well is one line, what went wrong in the same way is told once, and
/// names come in the order that people count in.
#[tokio::test]
async fn a_fleet_is_told_in_few_lines() {
    let mut schedules = "environment: production\nhistory: sqlite:maint.db\ntargets:\n".to_owned();
    let shards: Vec<String> = (1..=12).map(|n| format!("shard_{n}")).collect();
    for shard in &shards {
        schedules += &format!(
            "  {shard}: {{ engine: postgres, url: \"postgres://127.0.0.1:1/{shard}\" }}\n"
        );
    }
    schedules += &format!("groups: {{ all: [{}] }}\n", shards.join(", "));
    let workspace = Workspace::new(&schedules)
        .task("analyze", "kind: analyze\ntarget: all\n")
        .task("vacuum", "kind: vacuum\ntarget: all\n");
    let store = history(&workspace).await;
    for shard in &shards {
        for task in ["analyze", "vacuum"] {
            let well = task == "analyze" || shard == "shard_2";
            let mut one = run(
                if well {
                    RunStatus::Succeeded
                } else {
                    RunStatus::Failed
                },
                0,
            );
            one.target.clone_from(shard);
            one.task = task.to_owned();
            one.kind = task.to_owned();
            one.error = (!well).then(|| "the disk is full".to_owned());
            store.close_run(&one).await.unwrap();
        }
    }
    store.close().await;
    let text = workspace.run(["report"]).expect(0).stdout;
    assert_eq!(text.matches("the disk is full").count(), 2, "{text}");
    assert!(
        text.contains("vacuum on 11 targets (shard_1 … shard_12) failed: the disk is full"),
        "{text}"
    );
    assert!(text.contains("12 targets"), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.trim_start().starts_with("vacuum  "))
        .collect();
    let place = |shard: &str| {
        lines
            .iter()
            .position(|line| line.contains(&format!("{shard} ")))
            .unwrap()
    };
    assert!(place("shard_3") < place("shard_10"), "{text}");
    let file = workspace.path().join("r.html");
    let subject = workspace
        .run(["report", "--html", file.to_str().unwrap()])
        .expect(0)
        .stdout;
    assert!(
        subject.starts_with("[production] Needs attention"),
        "{subject}"
    );
    let html = std::fs::read_to_string(&file).unwrap();
    assert!(html.contains("12 targets"), "{html}");
    let json = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(
        json["tasks"].as_array().unwrap().len(),
        24,
        "the document has all of them"
    );
    assert_eq!(
        json["troubles"][0]["also_on"].as_array().unwrap().len(),
        10,
        "{json:#}"
    );
}

/// What is alike is one line, however many targets have it, and leaves room for what is not.
#[tokio::test]
async fn findings_that_are_alike_hide_no_other() {
    let mut schedules = "history: sqlite:maint.db\ntargets:\n".to_owned();
    let shards: Vec<String> = (1..=40).map(|n| format!("shard_{n}")).collect();
    for shard in &shards {
        schedules += &format!(
            "  {shard}: {{ engine: postgres, url: \"postgres://127.0.0.1:1/{shard}\" }}\n"
        );
    }
    schedules += &format!("groups: {{ all: [{}] }}\n", shards.join(", "));
    let workspace = Workspace::new(&schedules).task("analyze", "kind: analyze\ntarget: all\n");
    let store = history(&workspace).await;
    for shard in &shards {
        let mut one = run(RunStatus::Succeeded, 0);
        (one.task, one.target) = ("analyze".to_owned(), shard.clone());
        one.findings = vec![finding(Severity::Critical, "public.alike")];
        if shard == "shard_5" {
            one.findings.push(finding(Severity::Critical, "public.zz"));
        }
        store.close_run(&one).await.unwrap();
    }
    store.close().await;
    let report = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    let listed = report["findings"]["listed"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "{report:#}");
    assert_eq!(listed[0]["also_on"].as_array().unwrap().len(), 39);
    assert_eq!(report["findings"]["more"], 0);
    assert_eq!(report["headline"], "Needs attention: 2 reasons");
    let text = workspace.run(["report"]).expect(0).stdout;
    assert!(
        text.contains("public.alike on 40 targets (shard_1 … shard_40)"),
        "{text}"
    );
    assert!(text.contains("public.zz on shard_5"), "{text}");
    assert_eq!(text.matches("critical (new): ").count(), 2, "{text}");
}

/// What is worst comes first, and then the names, in whatever form the report is read; what is well
/// is folded behind it.
#[tokio::test]
async fn the_worst_comes_first_everywhere() {
    let mut schedules = "history: sqlite:maint.db\ntargets:\n".to_owned();
    let shards: Vec<String> = (1..=10).map(|n| format!("shard_{n}")).collect();
    for shard in &shards {
        schedules += &format!(
            "  {shard}: {{ engine: postgres, url: \"postgres://127.0.0.1:1/{shard}\" }}\n"
        );
    }
    schedules += &format!("groups: {{ all: [{}] }}\n", shards.join(", "));
    let workspace = Workspace::new(&schedules)
        .task("analyze", "kind: analyze\ntarget: all\n")
        .task("zero", "kind: vacuum\ntarget: shard_1\nenabled: false\n");
    let store = history(&workspace).await;
    let put = async |task: &str, shard: &str, status, days, findings: Vec<Finding>| {
        let mut one = run(status, days);
        one.task = task.to_owned();
        one.target = shard.to_owned();
        one.findings = findings;
        store.close_run(&one).await.unwrap();
    };
    put("zero", "shard_1", RunStatus::Failed, 0, Vec::new()).await;
    for shard in &shards {
        let status = match shard.as_str() {
            "shard_10" | "shard_9" => RunStatus::Failed,
            "shard_8" => RunStatus::Partial,
            "shard_6" => RunStatus::Incomplete,
            // The configuration has it, and nobody has run it.
            "shard_5" => continue,
            _ => RunStatus::Succeeded,
        };
        let found = match shard.as_str() {
            "shard_7" => vec![finding(Severity::Critical, "public.t")],
            _ => Vec::new(),
        };
        if shard == "shard_4" {
            put("analyze", shard, RunStatus::Failed, 1, Vec::new()).await;
        }
        put("analyze", shard, status, 0, found).await;
    }
    store.close().await;
    let json = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    let told: Vec<String> = json["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap();
            format!("{} {} {}", text("task"), text("target"), text("standing"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "analyze shard_9 failed",
            "analyze shard_10 failed",
            "analyze shard_8 partly",
            "analyze shard_7 critical",
            "analyze shard_6 incomplete",
            "analyze shard_5 never",
            "analyze shard_4 mixed",
            "analyze shard_1 well",
            "analyze shard_2 well",
            "analyze shard_3 well",
            "zero shard_1 off",
        ]
    );
    let first = json["reasons"][0]["text"].as_str().unwrap();
    assert!(
        first.contains("analyze on shard_9 and shard_10 failed"),
        "{json:#}"
    );
    let text = workspace.run(["report"]).expect(0).stdout;
    let file = workspace.path().join("r.html");
    workspace
        .run(["report", "--html", file.to_str().unwrap()])
        .expect(0);
    let html = std::fs::read_to_string(&file).unwrap();
    let table = |text: &str, begin: &str| {
        let at = text.find(begin).unwrap_or_else(|| panic!("{text}"));
        text[at..].to_owned()
    };
    for text in [table(&text, "\nTASKS\n"), table(&html, ">Tasks</h2>")] {
        let places: Vec<usize> = [9, 10, 8, 7, 6, 5, 4, 1, 2, 3]
            .map(|n| {
                let ends = [' ', '<', '\n'];
                let name = format!("shard_{n}");
                let found = ends
                    .iter()
                    .filter_map(|end| text.find(&format!("{name}{end}")));
                found.min().unwrap_or_else(|| panic!("{name}: {text}"))
            })
            .to_vec();
        assert!(places.is_sorted(), "{places:?} {text}");
    }
}

#[tokio::test]
async fn hostile_names_are_text_everywhere() {
    let workspace = workspace();
    filled(&workspace).await;
    let page = workspace.path().join("report.html");
    workspace
        .run(["report", "--html", page.to_str().unwrap()])
        .expect(0);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(!html.contains("<script"), "a script got in");
    assert!(!html.contains("<b>bold"), "markup got in");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(html.contains("{{ 7001*7001 }}") && !html.contains("49014001"));
    assert!(!html.contains('\u{202e}'));
    assert!(html.contains("<svg") && !html.contains("http-equiv"));
    let text = workspace.run(["report"]).expect(0).stdout;
    assert!(
        text.contains("{{ 7001*7001 }}") && text.contains(HOSTILE),
        "{text}"
    );
    assert!(!text.contains('\u{202e}'));
    assert!(text.starts_with("NEEDS ATTENTION"), "{text}");
}

/// Only a few reasons are told one by one; the headline counts all of them,
/// also those that no list has room for.
#[tokio::test]
async fn the_headline_counts_every_reason() {
    let workspace = workspace();
    let store = history(&workspace).await;
    let mut last = run(RunStatus::Partial, 0);
    last.findings = (0..50)
        .map(|n| finding(Severity::Critical, &format!("public.i{n}")))
        .collect();
    store.close_run(&last).await.unwrap();
    store.close().await;
    let report = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(report["headline"], "Needs attention: 51 reasons");
    assert_eq!(report["reasons"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn lines_of_the_text_fit_a_terminal() {
    let workspace = workspace();
    filled(&workspace).await;
    let text = workspace.run(["report"]).expect(0).stdout;
    let too_long: Vec<&str> = text
        .lines()
        // Statements and commands stay whole, to be copied.
        .filter(|line| !line.starts_with("    >") && !line.starts_with("    then"))
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
}

#[tokio::test]
async fn a_large_report_stays_small() {
    let workspace = workspace();
    let store = history(&workspace).await;
    for n in 0..200 {
        let mut one = run(RunStatus::Partial, 0);
        one.task = format!("task-{n}");
        one.steps = (1..20)
            .map(|seq| {
                let status = if seq % 2 == 0 {
                    StepStatus::Failed
                } else {
                    StepStatus::Succeeded
                };
                let mut step = step(seq, &format!("public.{}_{n}_{seq}", "x".repeat(63)), status);
                step.error = step.error.map(|error| error.repeat(50));
                step
            })
            .collect();
        one.findings = (0..20)
            .map(|m| {
                let mut one = finding(
                    Severity::Warning,
                    &format!("public.{}_{n}_{m}", "y".repeat(63)),
                );
                one.message = one.message.repeat(50);
                one
            })
            .collect();
        store.close_run(&one).await.unwrap();
    }
    store.close().await;
    let config = maint::config::load(
        &workspace.path().join("schedules.yaml"),
        &maint::kinds::catalog(),
        &|_| None,
    )
    .unwrap();
    let store = history(&workspace).await;
    let now = Utc::now();
    let scope = maint::report::Scope {
        period: maint::history::Period {
            since: now - TimeDelta::days(7),
            until: now,
        },
        text: "the last 7d".into(),
        now,
    };
    let report = maint::report::gather(store.as_ref(), &config, &scope)
        .await
        .unwrap();
    let composed = maint::report::compose(
        &report,
        &maint::report::Templates::built_in(),
        config.timezone,
        maint::report::Pictures::Attached,
    )
    .unwrap();
    let html = &composed.rendered.html;
    assert!(html.len() < 100_000, "{} bytes", html.len());
    for (id, png) in &composed.pictures {
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{id}");
        assert!(png.len() < 100_000, "{id}: {} bytes", png.len());
        let image = html.split(&format!("<img src=\"cid:{id}\" alt=\"")).nth(1);
        let alt = image.unwrap().split('"').next().unwrap();
        assert!(alt.contains(char::is_numeric), "{id}: {alt}");
    }
    assert_eq!(composed.pictures.len(), 2);
}

#[tokio::test]
async fn a_broken_template_is_told_and_not_used() {
    let workspace = workspace();
    filled(&workspace).await;
    workspace.file(
        "templates/report/text.txt.j2",
        "mine\n{{ report.headline | no_such_filter }}\n",
    );
    workspace.file(
        "templates/report/subject.txt.j2",
        "MY SUBJECT {{ report.summary.runs }}",
    );
    workspace.file("templates/report/txet.txt.j2", "?");
    let folder = workspace.path().join("templates/failed/text.txt.j2");
    std::fs::create_dir_all(folder).unwrap();
    let check = workspace.run(["check"]).expect(2);
    assert!(
        check.stderr.contains("templates/report/text.txt.j2:2:1"),
        "{check:#?}"
    );
    assert!(check.stderr.contains("no_such_filter"), "{check:#?}");
    assert!(
        check.stderr.contains("did you mean `report/text.txt.j2`?"),
        "{check:#?}"
    );
    assert!(
        check
            .stderr
            .contains("templates/failed/text.txt.j2: cannot be read: it is a folder"),
        "{check:#?}"
    );
    assert!(!check.stderr.contains("subject.txt.j2"), "{check:#?}");
    let page = workspace.path().join("report.html");
    let said = workspace
        .run(["report", "--html", page.to_str().unwrap()])
        .expect(0);
    assert!(said.stdout.starts_with("MY SUBJECT 1:"), "{said:#?}");
    let text = workspace.run(["report"]).expect(0).stdout;
    assert!(text.starts_with("NEEDS ATTENTION"), "{text}");
}

/// Whatever lies there, checking it comes to an end.
#[test]
fn a_template_that_never_ends_is_told() {
    let workspace = workspace();
    workspace.file(
        "templates/failed/text.txt.j2",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    );
    let pipe = workspace.path().join("templates/failed/html.html.j2");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let check = workspace.run(["check"]).expect(2);
    for told in [
        "templates/failed/text.txt.j2",
        "it goes on for too long",
        "templates/failed/html.html.j2: cannot be read: it is not a regular file",
    ] {
        assert!(check.stderr.contains(told), "{check:#?}");
    }
}

/// Pages and what they share are written with made-up data: a mistake that
/// only shows when the page is written is found as well, in every branch.
#[test]
fn a_broken_page_is_told_with_its_line() {
    let workspace = workspace();
    let original = |name: &str| {
        let mut all = maint::report::built_in_files();
        all.find(|(known, _)| *known == name).unwrap().1.to_owned()
    };
    for (name, found, broken) in [
        // Only where there are steps, and only where there are none.
        (
            "page/run.html.j2",
            "{{ step.error }}",
            "{{ step.error | no_such_filter }}",
        ),
        (
            "page/tasks.html.j2",
            "There are no tasks.",
            "{{ no_such_function() }}",
        ),
        // Shared: it breaks on pages that use it.
        (
            "page/parts.html.j2",
            "run.error | cut(160)",
            "run.error | kut(160)",
        ),
    ] {
        let text = original(name);
        let line = 1 + text
            .lines()
            .position(|line| line.contains(found))
            .unwrap_or_else(|| panic!("{found} in {name}"));
        let file = format!("templates/{name}");
        workspace.file(&file, &text.replace(found, broken));
        let check = workspace.run(["check"]).expect(2);
        assert!(
            check.stderr.contains(&format!("{file}:{line}:1")),
            "{check:#?}"
        );
        workspace.file(&file, &text);
        workspace.run(["check"]).expect(0);
    }
}

#[test]
fn a_period_that_makes_no_sense_is_refused() {
    let said = workspace()
        .run(["report", "--period", "yesterday"])
        .expect(2);
    assert!(said.stderr.contains("`since-last`"), "{said:#?}");
    let said = workspace().run(["report", "--period", "0d"]).expect(2);
    assert!(said.stderr.contains("no time at all"), "{said:#?}");
    let said = workspace().run(["report", "--period", "2999-01"]).expect(2);
    assert!(
        said.stderr.contains("January 2999 is yet to come"),
        "{said:#?}"
    );
}

/// Of a down-time only what nobody made up for is a reason.
#[tokio::test]
async fn what_a_later_occurrence_did_is_no_reason() {
    for (reason, reasons) in [
        ("the one of 2026-11-27 04:00 does its work", 0),
        ("nobody was there at its time", 1),
    ] {
        let workspace = workspace();
        let store = history(&workspace).await;
        store
            .close_run(&run(RunStatus::Succeeded, 0))
            .await
            .unwrap();
        let at = Utc::now() - TimeDelta::hours(3);
        let missed: Vec<Occurrence> = (0..100)
            .map(|minutes| Occurrence {
                schedule: "weekly".into(),
                scheduled_for: at + TimeDelta::minutes(minutes),
                status: OccurrenceStatus::Missed,
                catch_up: false,
                claimed_by: None,
                lease_until: None,
                claims: 0,
                recorded_at: Utc::now(),
                finished_at: None,
                succeeded: None,
                reason: Some(reason.into()),
                runs: Vec::new(),
            })
            .collect();
        store.record_occurrences(&missed).await.unwrap();
        store.close().await;
        let report = workspace
            .run(["report", "--output", "json"])
            .expect(0)
            .json();
        assert_eq!(report["summary"]["missed"], 100 * reasons, "{report:#}");
        let told = report["reasons"].as_array().unwrap();
        let told = told
            .iter()
            .filter(|one| one["text"].as_str().unwrap().contains("did not run"));
        assert_eq!(told.count(), reasons, "{report:#}");
    }
}

#[test]
fn the_preview_has_every_message() {
    let workspace = workspace();
    workspace.run(["report", "--preview", "preview"]).expect(0);
    for message in maint::report::Message::ALL {
        for file in ["subject.txt", "text.txt", "html.html"] {
            let path = workspace
                .path()
                .join("preview")
                .join(message.folder())
                .join(file);
            assert!(
                std::fs::read_to_string(&path).unwrap().len() > 20,
                "{}",
                path.display()
            );
        }
    }
}
