//! Ten thousand tables: as many questions as for twenty, and no more memory
//! than a small process has.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// The most data the process may have, in kB, as `ulimit -d` counts it.
const MEMORY: u32 = 64 * 1024;

async fn tables(db: &TestDatabase, count: u32) {
    db.execute("CREATE EXTENSION pg_stat_statements").await;
    db.execute(&format!(
        "DO $$ BEGIN FOR n IN 1..{count} LOOP
            EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, parent int%s, v text)', 'Table ' || n,
                CASE WHEN n % 2 = 0 THEN format(' REFERENCES %I', 'Table ' || n - 1) END);
            EXECUTE format('CREATE INDEX ON %I (v)', 'Table ' || n);
            IF n % 100 = 0 THEN EXECUTE format('CREATE INDEX ON %I (v, id)', 'Table ' || n); END IF;
            IF n % 200 = 0 THEN COMMIT; END IF;
        END LOOP; END $$"
    ))
    .await;
    db.execute("ANALYZE \"Table 1\"").await;
}

/// Runs it with bounded memory; tells how many statements the server saw.
async fn questions(db: &TestDatabase) -> i64 {
    let workspace =
        Workspace::for_target(&db.url).task("snapshot", "kind: snapshot\ntarget: app\n");
    db.client.batch_execute("SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)").await.unwrap();
    let inner = workspace.process(["run", "snapshot", "--now", "--output", "json"]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", &format!("ulimit -d {MEMORY}; exec \"$0\" \"$@\"")])
        .arg(inner.get_program())
        .args(inner.get_args());
    shell
        .current_dir(workspace.path())
        .env_clear()
        .env("HOME", workspace.path());
    let output =
        tokio::task::spawn_blocking(move || shell.stderr(Stdio::piped()).output().unwrap())
            .await
            .unwrap();
    assert_ne!(
        output.status.signal(),
        Some(Signal::SIGABRT as i32),
        "out of memory: {output:?}"
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["runs"][0]["status"], "succeeded");
    db.number(
        "SELECT sum(calls)::int8 FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND query NOT LIKE '%pg_stat_statements_reset%'",
    )
    .await
}

#[tokio::test]
async fn a_snapshot_of_ten_thousand_tables_costs_as_many_questions_as_one_of_twenty() {
    let (few, many) = (fresh_database(17).await, fresh_database(17).await);
    tables(&few, 20).await;
    tables(&many, 10_000).await;
    let (small, large) = (questions(&few).await, questions(&many).await);
    assert!(small > 10, "{small}");
    assert_eq!(small, large);
}
