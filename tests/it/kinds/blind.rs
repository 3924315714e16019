//! What the role may not see is not taken for healthy.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::snapshot::series;
use super::{finding, objects};
use crate::settings::role;
use crate::support::patience::Patience;
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

for_versions! {
    [pg16 = 16]
    /// A role that may not read the server's locks, or who is connected, sees nobody who waits for a step:
    /// told before the first one, with what lets it, and no step is begun.
    async fn nothing_is_begun_that_nobody_could_watch(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, "").await;
        db.execute(&format!("GRANT ALL ON SCHEMA public TO {keeper}; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL); ALTER TABLE t OWNER TO {keeper};
            INSERT INTO t SELECT n, now() - interval '1 year' FROM generate_series(1, 50) n;
            CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM t; CREATE UNIQUE INDEX ON v (count); ALTER MATERIALIZED VIEW v OWNER TO {keeper}; DELETE FROM t WHERE id > 40")).await;
        db.execute("VACUUM ANALYZE t").await;
        let workspace = Workspace::for_target(&url)
            .task("cleanup", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.t, column: at, older_than: 1d }] }\n")
            .task("sql", "kind: sql\ntarget: app\noptions: { statements: [{ name: all, sql: DELETE FROM public.t }] }\n")
            .task("refresh", "kind: refresh\ntarget: app\n")
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0% }\n");
        for (what, right) in [
            ("pg_stat_activity", "SELECT ON pg_catalog.pg_stat_activity"),
            ("pg_locks", "SELECT ON pg_catalog.pg_locks"),
            ("pg_blocking_pids(int4)", "EXECUTE ON FUNCTION pg_catalog.pg_blocking_pids(int4)"),
        ] {
            let grant = format!("GRANT {right} TO {keeper}");
            db.execute(&format!("REVOKE {right} FROM PUBLIC")).await;
            for task in ["cleanup", "sql", "refresh", "reindex"] {
                let ran = workspace.run(["run", task, "--now", "--output", "json"]).expect(1).json();
                let lacks = finding(&ran, "privilege.missing");
                assert_eq!(lacks["suggestion"], grant, "{task}: {ran:#}");
                assert!(lacks["message"].as_str().unwrap().contains(what), "{task}: {ran:#}");
                assert_eq!(ran["runs"][0]["status"], "failed", "{task}: {ran:#}");
                assert_eq!(ran["runs"][0]["steps"], serde_json::json!([]), "{task}: {ran:#}");
                let plan = workspace.run(["plan", task]);
                assert!(format!("{}{}", plan.stdout, plan.stderr).contains(&grant), "{task}: {plan:#?}");
            }
            assert_eq!(db.number("SELECT count(*) FROM t").await, 40);
            let doctor = workspace.run(["doctor"]).stdout;
            assert!(doctor.contains(&grant), "{doctor}");
            // It does not stop there.
            for task in ["cleanup", "sql", "refresh", "reindex"] {
                assert!(doctor.contains(&format!("app: {task}: ")), "{doctor}");
            }
            db.execute(&grant).await;
        }
        // Of what is read only by some kinds, who is refused is told what helps.
        let size = "EXECUTE ON FUNCTION pg_catalog.pg_relation_size(regclass)";
        db.execute(&format!("REVOKE {size} FROM PUBLIC")).await;
        let ran = workspace.run(["run", "reindex", "--now", "--output", "json"]).expect(1).json();
        let grant = format!("GRANT {size} TO {keeper}");
        assert_eq!(finding(&ran, "privilege.missing")["suggestion"], grant, "{ran:#}");
        assert!(workspace.run(["doctor"]).stdout.contains(&grant));
        db.execute(&grant).await;
        db.execute("REVOKE SELECT ON pg_catalog.pg_roles FROM PUBLIC").await;
        let grant = format!("GRANT SELECT ON pg_catalog.pg_roles, pg_catalog.pg_database TO {keeper}");
        for args in [&["run", "sql", "--now"][..], &["doctor"]] {
            let said = workspace.run(args);
            assert!(said.stdout.contains(&grant), "{said:#?}");
        }
        db.execute(&grant).await;
        for task in ["reindex", "refresh", "cleanup", "sql"] {
            let ran = workspace.run(["run", task, "--now", "--output", "json"]).expect(0).json();
            assert!(!ran.to_string().contains("privilege.missing"), "{ran:#}");
        }
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    }
}

/// What is taken away while a step is at work does not come back by itself: the step ends at once, and
/// it is said once.
#[tokio::test]
async fn a_right_that_goes_meanwhile_ends_the_step() {
    let db = fresh_database(17).await;
    let (keeper, url) = role(&db, "").await;
    let workspace = Workspace::for_target(&url).task(
        "sql",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: sleep, sql: SELECT pg_sleep(120) }] }\nlimits: { lock_retries: 0 }\n",
    );
    let process = workspace
        .process(["run", "sql", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Patience::until("the statement to be at work");
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'SELECT pg_sleep%'";
    while db.number(at_work).await == 0 {
        patience.pause().await;
    }
    db.execute("REVOKE SELECT ON pg_catalog.pg_locks FROM PUBLIC")
        .await;
    let began = Instant::now();
    let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(25), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let ran: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        ran["runs"][0]["steps"][0]["error"]
            .as_str()
            .unwrap()
            .contains("pg_locks"),
        "{ran:#}"
    );
    assert_eq!(
        said.matches("it is not seen who waits").count(),
        1,
        "{said}"
    );
    let next = workspace
        .run(["run", "sql", "--now", "--output", "json"])
        .expect(1)
        .json();
    let grant = format!("GRANT SELECT ON pg_catalog.pg_locks TO {keeper}");
    assert_eq!(
        finding(&next, "privilege.missing")["suggestion"],
        grant,
        "{next:#}"
    );
}
