//! The status page in Chromium, used as a person does.

use std::path::Path;

use chrono::{TimeDelta, Utc};
use maint::history::RunStatus;
use maint::plan::{Finding, Severity};

use super::site::{Site, TOKEN, run};
use crate::support::servers::fresh_database;

#[tokio::test]
async fn a_person_starts_a_run_watches_it_and_cancels_it() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let site = Site::start(&db.url, Some(TOKEN)).await;
    // Something to see on every page.
    let mut earlier = run(RunStatus::Partial, Utc::now() - TimeDelta::hours(1));
    earlier.task = "vacuum".into();
    earlier.kind = "vacuum".into();
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        earlier.findings.push(Finding {
            code: "index.unused".into(),
            severity,
            // As long as names of constraints are.
            object: format!(
                "public.learning_analytics.learning_analytics_of_courses_fkey_{severity:?}"
            ),
            message: "The index has not been used for 90 days.".into(),
            suggestion: Some("DROP INDEX CONCURRENTLY public.i;".into()),
        });
    }
    site.store.close_run(&earlier).await.unwrap();
    // Somebody is in the way, so that there is something to watch.
    let blocker = db.connect().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let tools = std::env::var("MAINT_TEST_TOOLS").expect(
        "MAINT_TEST_TOOLS names the folder of the tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
    );
    let modules = Path::new(&tools)
        .with_file_name("node")
        .join("node_modules");
    let output = tokio::process::Command::new("node")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/web/browser.js"
        ))
        .args([&site.url, TOKEN])
        .env("NODE_PATH", modules)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:#?}");
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["errors"], serde_json::json!([]), "{seen:#}");
    assert_eq!(seen["before"]["buttons"], 0, "{seen:#}");
    assert_eq!(seen["refused"], 403, "{seen:#}");
    assert_eq!(seen["wrong"], "That is not the token.", "{seen:#}");
    let plan = seen["plan"].as_str().unwrap();
    assert!(
        plan.contains("would do now")
            && plan.contains("analyze public.t")
            && plan.contains("changed"),
        "{seen:#}"
    );
    let begun = seen["begun"].as_str().unwrap();
    assert!(begun.contains("/runs/") && seen["run"] == begun, "{seen:#}");
    let progress = seen["progress"].as_str().unwrap();
    assert!(progress.contains("analyze on app"), "{seen:#}");
    assert!(progress.contains("waiting:"), "{seen:#}");
    let record = seen["record"].as_str().unwrap();
    assert!(record.contains("cancelled"), "{seen:#}");
    assert_eq!(seen["first_stop"], "to the content", "{seen:#}");
    let headings = seen["plain"].as_array().unwrap();
    assert!(headings.contains(&"Running now".into()), "{seen:#}");
    assert_eq!(seen["unreadable"], serde_json::json!([]), "{seen:#}");
    assert_eq!(seen["judged"], 72, "{seen:#}");
    assert_eq!(seen["lost"]["status"], 404, "{seen:#}");
    assert_eq!(seen["lost"]["heading"], "There is no such page", "{seen:#}");
    let run = site.ended("analyze").await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert!(seen["run"].as_str().unwrap().ends_with(&run.id.to_string()));
}
