//! The page that has a row for every target.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use maint::history::{Entry, RunRecord, RunStatus, Seen, Store};
use maint::plan::{Finding, Measurement, Memory, Severity};
use uuid::Uuid;

use super::site::{Site, run};
use crate::support::workspace::Workspace;

/// A page of so many targets and a server with three databases.
async fn site(targets: usize) -> Site {
    let mut yaml = "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  server:\n    \
                    engine: postgres\n    url: postgres://127.0.0.1:1/x\n    databases: [\"*\"]\n"
        .to_owned();
    for n in 1..=targets {
        yaml.push_str(&format!(
            "  t{n:04}: {{ engine: postgres, url: \"postgres://127.0.0.1:1/x\" }}\n"
        ));
    }
    yaml.push_str("groups: { all: [\"*\"] }\n");
    let workspace = Workspace::new(&yaml)
        .task("analyze", "kind: analyze\ntarget: all\n")
        .task("look", "kind: snapshot\ntarget: all\n");
    Site::of(workspace, "127.0.0.1:1", None).await
}

fn at(hours: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::hours(hours)
}

fn ran(task: &str, target: &str, status: RunStatus, hours: i64) -> RunRecord {
    RunRecord {
        id: Uuid::now_v7(),
        task: task.to_owned(),
        kind: task.replace("look", "snapshot"),
        target: target.to_owned(),
        ..run(status, at(hours))
    }
}

fn finding(severity: Severity, object: &str) -> Finding {
    Finding {
        code: "index.bloat".to_owned(),
        severity,
        object: object.to_owned(),
        message: "it is larger than it has to be".to_owned(),
        suggestion: None,
    }
}

fn sized(target: &str, bytes: f64, hours: i64) -> Entry {
    Entry::Measurements {
        target: target.to_owned(),
        at: at(hours),
        measurements: vec![Measurement {
            metric: "database.bytes".to_owned(),
            object: String::new(),
            value: bytes,
        }],
    }
}

/// Alike ones of many targets take one place of the few that the first page has.
#[tokio::test]
async fn findings_that_are_alike_hide_no_other_on_the_first_page() {
    let site = site(12).await;
    for n in 1..=12 {
        let mut one = ran("look", &format!("t{n:04}"), RunStatus::Succeeded, 1);
        one.findings = vec![finding(Severity::Critical, "public.alike")];
        if n == 5 {
            one.findings.push(finding(Severity::Critical, "public.zz"));
        }
        site.store.close_run(&one).await.unwrap();
    }
    let html = site.get("/").await.text().await.unwrap();
    assert!(html.contains("t0001 and 11 more"), "{html}");
    assert!(html.contains("public.zz</span>"), "{html}");
}

async fn knows_databases(store: &dyn Store, names: &[&str]) {
    let memory = |name: &&str| Memory {
        key: (*name).to_owned(),
        value: serde_json::json!(Seen {
            since: at(1),
            gone: name.contains("gone").then(Utc::now)
        }),
    };
    let memories: Vec<Memory> = names.iter().map(memory).collect();
    store
        .remember("server", maint::history::DATABASES, Utc::now(), &memories)
        .await
        .unwrap();
}

/// The targets in the order of their rows.
fn rows(html: &str) -> Vec<String> {
    let cells = html.split("<td><a href=\"/runs?target=").skip(1);
    let name = |cell: &str| cell.split(['<', '>']).nth(1).map(str::to_owned);
    cells
        .map(|cell| name(cell).unwrap().replace("&#x2f;", "/"))
        .collect()
}

#[tokio::test]
async fn what_needs_attention_comes_first_and_what_is_well_is_folded() {
    let site = site(12).await;
    let store = site.store.as_ref();
    knows_databases(store, &["a b", "shop", "gone"]).await;
    for n in 1..=12 {
        let run = ran("analyze", &format!("t{n:04}"), RunStatus::Succeeded, 5);
        store.close_run(&run).await.unwrap();
    }
    let mut bad = ran("look", "t0007", RunStatus::Succeeded, 2);
    bad.findings = vec![
        finding(Severity::Warning, "one"),
        finding(Severity::Critical, "worst"),
    ];
    store.close_run(&bad).await.unwrap();
    let mut odd = ran("look", "t0003", RunStatus::Succeeded, 2);
    odd.findings = vec![
        finding(Severity::Warning, "t.idx"),
        finding(Severity::Info, "other"),
    ];
    store.close_run(&odd).await.unwrap();
    store
        .close_run(&ran("analyze", "server/a%20b", RunStatus::Failed, 1))
        .await
        .unwrap();
    let mut partly = ran("look", "server/a%20b", RunStatus::Partial, 1);
    partly.error = None;
    store.close_run(&partly).await.unwrap();
    store
        .close_run(&ran("analyze", "server/shop", RunStatus::Succeeded, 1))
        .await
        .unwrap();
    store
        .close_run(&ran("analyze", "server/gone", RunStatus::Failed, 1))
        .await
        .unwrap();
    let sizes = [sized("t0007", 1e9, 200), sized("t0007", 2e9, 2)];
    store.record(&sizes).await.unwrap();

    let html = site.get("/fleet").await.text().await.unwrap();
    let (urgent, well) = html.split_once("<details>").unwrap();
    assert_eq!(
        rows(urgent),
        ["t0007", "server/a b".replace(' ', "%20").as_str(), "t0003"]
    );
    assert!(urgent.contains("Needs attention: 3 of 14"), "{urgent}");
    assert!(
        urgent.contains("worst") && urgent.contains("and 1 more"),
        "{urgent}"
    );
    assert!(urgent.contains("analyze failed<"), "{urgent}");
    assert!(urgent.contains("look failed in part<"), "{urgent}");
    assert!(
        urgent.contains("1.9 GB") && urgent.contains("+100"),
        "{urgent}"
    );
    assert!(well.contains("<summary>11 are well</summary>"), "{well}");
    let well = rows(well);
    assert_eq!(well.first().map(String::as_str), Some("server/shop"));
    assert_eq!(well.len(), 11);
    assert!(!well.contains(&"server/gone".to_owned()), "{well:?}");

    // When all is well, that is said.
    store
        .close_run(&ran("look", "t0007", RunStatus::Succeeded, 0))
        .await
        .unwrap();
    store
        .close_run(&ran("look", "t0003", RunStatus::Succeeded, 0))
        .await
        .unwrap();
    store
        .close_run(&ran("analyze", "server/a%20b", RunStatus::Succeeded, 0))
        .await
        .unwrap();
    store
        .close_run(&ran("look", "server/a%20b", RunStatus::Succeeded, 0))
        .await
        .unwrap();
    let html = site.get("/fleet").await.text().await.unwrap();
    assert!(html.contains("Nothing needs attention."), "{html}");
    assert_eq!(rows(&html).len(), 14);
}

/// Tells how long the page takes with a thousand targets:
/// `cargo test --test it web::fleet -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "fills a history with 60,000 runs, and measures"]
async fn a_thousand_targets() {
    let site = site(1_000).await;
    let store = site.store.as_ref();
    for day in (0..30_i64).rev() {
        let mut entries = Vec::new();
        for n in 1..=1_000 {
            let target = format!("t{n:04}");
            for task in ["analyze", "look"] {
                let mut run = ran(task, &target, RunStatus::Succeeded, day * 24);
                if n % 50 == 0 {
                    run.findings = vec![finding(Severity::Warning, "t.idx")];
                }
                entries.push(Entry::Closed(Box::new(run)));
            }
            entries.push(sized(
                &target,
                1e9 * (1.0 + n as f64 / day.max(1) as f64),
                day * 24,
            ));
        }
        store.record(&entries).await.unwrap();
    }
    let html = site.get("/fleet?all=true").await.text().await.unwrap();
    assert_eq!(rows(&html).len(), 1_001, "and the server");
    let mut took = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let html = site.get("/fleet").await.text().await.unwrap();
        took.push(began.elapsed());
        assert_eq!(rows(&html).len(), 20, "what is well is not sent");
        assert!(html.contains("981 are well"), "{html}");
        assert!(html.contains("Needs attention: 20 of"));
    }
    took.sort();
    eprintln!(
        "/fleet with 1,000 targets and 60,000 runs: {:?} (median of 10)",
        took[5]
    );
}
