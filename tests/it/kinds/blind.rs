//! What the role may not see is not taken for healthy.

use super::snapshot::series;
use super::{finding, objects};
use crate::settings::role;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

async fn unseen_statistics(major: u32) {
    let db = fresh_database(major).await;
    db.execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 60000) n;
        CREATE INDEX t_name ON t (name); DELETE FROM t WHERE id % 8 <> 0").await;
    db.execute("VACUUM ANALYZE t").await;
    let (keeper, url) = role(&db, "IN ROLE pg_maintain").await;
    db.execute(&format!("GRANT USAGE ON SCHEMA public TO {keeper}"))
        .await;
    let workspace = Workspace::for_target(&url)
        .task(
            "reindex",
            "kind: reindex\ntarget: app\noptions: { min_size: 1MB }\n",
        )
        .task(
            "repack",
            "kind: repack\ntarget: app\noptions: { min_size: 1MB }\n",
        )
        .task("snapshot", "kind: snapshot\ntarget: app\n");
    let repack = workspace
        .run(["run", "repack", "--now", "--output", "json"])
        .json();
    let missing = finding(&repack, "privilege.missing");
    assert_eq!(
        missing["suggestion"],
        format!("GRANT SELECT ON public.t TO {keeper}"),
        "{repack:#}"
    );
    // Some of the columns tell nothing of how wide rows are.
    db.execute(&format!("CREATE TABLE wide (id int, text text); INSERT INTO wide SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 20000) n; GRANT SELECT (id) ON wide TO {keeper}")).await;
    db.execute("VACUUM ANALYZE wide").await;
    workspace.run(["run", "snapshot", "--now"]).expect(0);
    let bloat = series(&workspace, "table.bloat").await;
    assert_eq!(bloat.get("public.wide"), None);
    db.execute(&format!("GRANT SELECT ON wide TO {keeper}"))
        .await;
    workspace.run(["run", "snapshot", "--now"]).expect(0);
    assert!(series(&workspace, "table.bloat").await["public.wide"] < 0.1);
    for _ in 0..2 {
        let blind = workspace
            .run(["run", "reindex", "--now", "--output", "json"])
            .json();
        let missing = finding(&blind, "privilege.missing");
        let suggestion = missing["suggestion"].as_str().unwrap();
        assert!(
            suggestion.contains("GRANT SELECT ON public.t TO"),
            "{blind:#}"
        );
        assert!(
            objects(&blind, "analyze", "succeeded").is_empty(),
            "{blind:#}"
        );
        workspace.run(["run", "snapshot", "--now"]).expect(0);
    }
    let doctor = workspace.run(["doctor"]).stdout;
    assert!(doctor.contains("sees no statistics of"), "{doctor}");
    let suggestion = format!("GRANT SELECT ON public.t TO {keeper}");
    db.execute(&suggestion).await;
    let seen = workspace
        .run(["run", "reindex", "--now", "--output", "json"])
        .expect(0)
        .json();
    let rebuilt = objects(&seen, "reindex", "succeeded");
    assert!(rebuilt.contains("public.t_name"), "{seen:#}");
}

#[tokio::test]
async fn unseen_statistics_pg17() {
    unseen_statistics(17).await;
}

#[tokio::test]
async fn unseen_statistics_pg18() {
    unseen_statistics(18).await;
}
