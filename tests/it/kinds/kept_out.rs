//! What was kept out by something else than time says so, and is a warning once that lasts.

use serde_json::Value;

use super::finding;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn go(workspace: &Workspace, task: &str) -> Value {
    workspace
        .run(["run", task, "--now", "--output", "json"])
        .expect(0)
        .json()
}

fn codes(document: &Value) -> Vec<&str> {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect()
}

/// With a file that letters are written to, and what is told by default.
fn workspace(db: &TestDatabase, task: &str, yaml: &str) -> Workspace {
    let schedules = format!(
        "targets:\n  app: {{ engine: postgres, url: \"{}\" }}\nnotify: {{ file: letters.json }}\n",
        db.url
    );
    Workspace::new(&schedules).task(task, yaml)
}

fn letters(workspace: &Workspace) -> String {
    std::fs::read_to_string(workspace.path().join("letters.json")).unwrap_or_default()
}

for_oldest_and_newest! {
    /// An old transaction: the third time in a row is a warning, which is sent and stands until the work is done.
    async fn what_is_kept_out_again_and_again_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 3000); CREATE INDEX t_id ON t (id); ANALYZE t").await;
        let workspace = workspace(
            &db,
            "reindex",
            "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0% }\nlimits: { max_transaction_age: 1ms }\n",
        );
        let old = db.connect().await;
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        for severity in ["info", "info", "warning", "warning"] {
            let done = go(&workspace, "reindex");
            assert_eq!(done["runs"][0]["status"], "incomplete", "{done:#}");
            assert_eq!(done["runs"][0]["steps"][0]["kept_by"], "transaction", "{done:#}");
            // Nothing is said of time, of which there was enough.
            assert_eq!(codes(&done), ["kept_out.transaction"], "{done:#}");
            let told = finding(&done, "kept_out.transaction");
            assert_eq!(told["severity"], severity, "{done:#}");
            assert_eq!(told["object"], "public.t_id", "{done:#}");
            let standing = workspace.run(["status"]);
            let is_told = standing.stdout.contains("kept_out.transaction");
            assert_eq!(is_told, severity == "warning", "{}", standing.stdout);
            assert_eq!(letters(&workspace).contains("runs in a row"), severity == "warning", "{}", letters(&workspace));
        }
        assert!(finding(&go(&workspace, "reindex"), "kept_out.transaction")["message"].as_str().unwrap().contains("for 5 runs in a row"));
        old.batch_execute("ROLLBACK").await.unwrap();
        let done = go(&workspace, "reindex");
        assert_eq!(done["runs"][0]["status"], "succeeded", "{done:#}");
        assert_eq!(done["runs"][0]["steps"][0]["kept_by"], Value::Null, "{done:#}");
        workspace.run(["status"]).expect(0);
    }

}

for_oldest_and_newest! {
    /// What skips a table in use has succeeded, and says so once it is always in use.
    async fn a_table_that_is_always_in_use_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 5000); DELETE FROM t WHERE id % 2 = 0").await;
        let workspace = workspace(
            &db,
            "vacuum",
            "kind: vacuum\ntarget: app\nlimits: { lock_timeout: 200ms, lock_retries: 0 }\n",
        );
        let held = db.connect().await;
        held.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.unwrap();
        for warned in [false, false, true] {
            let done = go(&workspace, "vacuum");
            let step = &done["runs"][0]["steps"][0];
            assert_eq!((&step["status"], &step["kept_by"]), (&"skipped".into(), &"sessions".into()), "{done:#}");
            assert_eq!(codes(&done).contains(&"kept_out.sessions"), warned, "{done:#}");
        }
        assert_eq!(finding(&go(&workspace, "vacuum"), "kept_out.sessions")["severity"], "warning");
        held.batch_execute("ROLLBACK").await.unwrap();
        assert!(!codes(&go(&workspace, "vacuum")).contains(&"kept_out.sessions"));
    }
}

/// A pause that lasts to the end is no lack of time, neither for the step that waited nor for those behind it.
#[tokio::test]
async fn a_pause_to_the_end_is_no_lack_of_time() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE a (id int); CREATE TABLE b (id int); INSERT INTO a SELECT generate_series(1, 5000); INSERT INTO b TABLE a").await;
    let workspace = workspace(
        &db,
        "analyze",
        "kind: analyze\ntarget: app\nlimits: { budget: 2s }\nthrottle: { pause_file: pause }\n",
    );
    let file = workspace.path().join("pause");
    let yaml = format!(
        "kind: analyze\ntarget: app\nlimits: {{ budget: 2s }}\nthrottle: {{ pause_file: {} }}\n",
        file.display()
    );
    workspace.file("tasks/analyze.yaml", &yaml);
    workspace.file("pause", "");
    let done = go(&workspace, "analyze");
    assert_eq!(done["runs"][0]["status"], "incomplete", "{done:#}");
    let steps = done["runs"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{done:#}");
    for step in steps {
        assert_eq!(step["kept_by"], "throttle", "{done:#}");
        assert!(
            step["error"]
                .as_str()
                .unwrap()
                .contains("`throttle.pause_file`"),
            "{done:#}"
        );
    }
    assert_eq!(codes(&done), ["kept_out.throttle"], "{done:#}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(go(&workspace, "analyze")["runs"][0]["status"], "succeeded");
}
