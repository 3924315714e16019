//! A real PgBouncer between us and the server.

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
