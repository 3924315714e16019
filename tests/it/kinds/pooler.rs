//! A real PgBouncer between us and the server.

use std::time::{Duration, Instant};

use crate::support::pooler::Pooler;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

for_each_version! {
    /// In transaction mode locks and settings would be somebody else's:
    /// nothing is done. A session pool is as good as the server.
    async fn a_pool_of_transactions_is_refused_and_one_of_sessions_is_not(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)").await;
        for (mode, code) in [("transaction", 3), ("statement", 3), ("session", 0)] {
            let pooler = Pooler::start(&db, mode);
            let workspace = Workspace::for_target(&pooler.url)
                .task("analyze", "kind: analyze\ntarget: app\n");
            let ran = workspace.run(["run", "analyze", "--now"]).expect(code);
            let doctor = workspace.run(["doctor"]);
            let analyzed = db.number("SELECT count(*) FROM pg_stats WHERE tablename = 't'").await;
            if code == 3 {
                let doctor = doctor.expect(3);
                for said in [&ran.stdout, &doctor.stdout] {
                    assert!(said.contains("through a pooler in transaction mode"), "{mode}: {said}");
                    assert!(said.contains("point the target's `url` at PostgreSQL itself"), "{mode}: {said}");
                }
                assert_eq!(analyzed, 0, "{mode}");
            } else {
                assert_eq!(analyzed, 1, "{mode}");
                // It has a word to say about superusers, and none about the pool.
                assert!(doctor.stdout.contains("ok  app: analyze: works"), "{mode}: {}", doctor.stdout);
                assert!(!doctor.stdout.contains("pooler"), "{mode}: {}", doctor.stdout);
            }
        }
    }
}

/// A pool with fewer connections than a run needs: said in plain words with what helps, and only the
/// first step waits in vain.
#[tokio::test]
async fn a_pool_that_is_too_small_is_told_and_waited_for_once() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY);
        INSERT INTO a SELECT generate_series(1, 5000); INSERT INTO b SELECT generate_series(1, 5000); INSERT INTO c SELECT generate_series(1, 5000)").await;
    for (size, jobs, done) in [(1, 1, 0), (2, 1, 0), (3, 2, 2), (3, 1, 3)] {
        db.execute("VACUUM ANALYZE").await;
        let pooler = Pooler::sized(&db, "session", size, 3);
        let workspace = Workspace::for_target(&pooler.url)
            .task("reindex", &format!("kind: reindex\ntarget: app\noptions: {{ min_size: 0MB, min_bloat: 0% }}\nlimits: {{ jobs: {jobs} }}\n"));
        let doctor = workspace.run(["doctor", "--output", "json"]);
        let told = format!("a run needs 3 connections at once, and just now there were {size}");
        // Where there is one only, it does not come as far.
        let said = doctor.stdout.contains(&told)
            || size == 1 && doctor.stdout.contains("a run needs three at once");
        assert_eq!(said, size < 3, "{size}: {doctor:#?}");
        let began = Instant::now();
        let ran = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        let took = began.elapsed();
        let document = ran.json();
        let steps = document["runs"][0]["steps"].as_array().unwrap();
        let count = |status: &str| steps.iter().filter(|s| s["status"] == status).count();
        assert_eq!(count("succeeded"), done, "{size}: {document:#}");
        if done == 3 {
            continue;
        }
        let told = "had no connection to the server free for as long as its `query_wait_timeout` lets wait";
        assert_eq!(
            document.to_string().matches(told).count().min(1),
            1,
            "{document:#}"
        );
        assert!(
            document.to_string().contains("a run needs three at once"),
            "{document:#}"
        );
        // query_wait_timeout is three seconds.
        assert!(
            took < Duration::from_secs(3 + 6),
            "{size}: {took:?}: {document:#}"
        );
        if size == 2 {
            assert_eq!((count("failed"), count("skipped")), (1, 2), "{document:#}");
        }
    }
}
