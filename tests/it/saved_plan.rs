//! Plans that are saved, looked at, and carried out later.

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Two tables with a bloated index each, and a task that rebuilds them.
async fn bloated() -> (TestDatabase, Workspace) {
    let db = fresh_database(17).await;
    for table in ["alpha", "beta"] {
        bloat(&db, table).await;
    }
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30% }\n",
    );
    (db, workspace)
}

async fn bloat(db: &TestDatabase, table: &str) {
    db.execute(&format!(
        "CREATE TABLE {table} (id bigint); INSERT INTO {table} SELECT generate_series(1, 20000);
         CREATE INDEX {table}_id ON {table} (id); DELETE FROM {table} WHERE id % 5 <> 0"
    ))
    .await;
    db.execute(&format!("VACUUM ANALYZE {table}")).await;
}

async fn file_of(db: &TestDatabase, index: &str) -> i64 {
    db.number(&format!("SELECT pg_relation_filenode('{index}')::int8"))
        .await
}

#[tokio::test]
async fn exactly_what_was_saved_is_carried_out() {
    let (db, workspace) = bloated().await;
    let saved = workspace
        .run(["plan", "reindex", "--save", "plan.json"])
        .expect(0);
    assert!(saved.stdout.contains("2 steps"), "{saved:#?}");
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    // What has come up since is another difference, but not carried out.
    bloat(&db, "gamma").await;
    let checked = workspace.run(["plan", "--check", "plan.json"]).expect(5);
    assert!(
        checked.stdout.contains("public.gamma_id: new"),
        "{checked:#?}"
    );
    let gamma = file_of(&db, "gamma_id").await;
    let alpha = file_of(&db, "alpha_id").await;
    let ran = workspace
        .run(["run", "--plan", "plan.json", "--output", "json"])
        .expect(0);
    let run = &ran.json()["runs"][0];
    assert_eq!(run["status"], "succeeded", "{ran:#?}");
    let steps: Vec<&str> = run["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["object"].as_str())
        .collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(!steps.contains(&"public.gamma_id"), "{steps:?}");
    assert_eq!(file_of(&db, "gamma_id").await, gamma);
    assert_ne!(file_of(&db, "alpha_id").await, alpha);
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(workspace.path().join("plan.json")).unwrap())
            .unwrap();
    let findings = run["findings"].to_string();
    assert!(
        findings.contains(document["hash"].as_str().unwrap()),
        "the run does not name what it carried out: {findings}"
    );
    // Done is done: what it rested on is gone.
    let again = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    assert!(
        again.stderr.contains("would not be done any more"),
        "{again:#?}"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_nothing_is_touched() {
    let (db, workspace) = bloated().await;
    workspace
        .run(["plan", "reindex", "--save", "plan.json"])
        .expect(0);
    let beta = file_of(&db, "beta_id").await;
    let refused = |why: &'static str| {
        let refused = workspace.run(["run", "--plan", "plan.json"]).expect(2);
        assert!(refused.stderr.contains(why), "{refused:#?}");
    };
    // Another index of the same name.
    db.execute("DROP INDEX alpha_id; CREATE INDEX alpha_id ON alpha (id)")
        .await;
    refused("alpha_id");
    // Other options.
    workspace.file(
        "tasks/reindex.yaml",
        "kind: reindex\ntarget: app\noptions: { min_size: 50kB, min_bloat: 30% }\n",
    );
    refused("options of task `reindex` have changed");
    // Another database behind the same name.
    let other = fresh_database(17).await;
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
            other.url
        ),
    );
    refused("is another database");
    // A document that somebody edited.
    let path = workspace.path().join("plan.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("REINDEX INDEX", "DROP INDEX")).unwrap();
    refused("was changed after it was made");
    std::fs::write(&path, "{}").unwrap();
    refused("no saved plan");
    assert_eq!(file_of(&db, "beta_id").await, beta);
    let history = workspace.run(["history", "--output", "json"]);
    assert!(!history.stdout.contains("reindex"), "{history:#?}");
}
