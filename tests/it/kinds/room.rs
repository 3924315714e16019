//! What a run leaves to others on the disk, and of transaction ids.

use serde_json::Value;

use super::throttle::Running;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, database_on, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

/// How much the disk has, as far as a query tells.
const TOLD: &str = "CREATE TABLE told (bytes int8 NOT NULL)";

const FILE: &str = "SELECT pg_catalog.pg_relation_filenode('t_id')::int8";
const LEFT: &str =
    "SELECT count(*) FROM pg_catalog.pg_index WHERE NOT indisvalid OR NOT indisready";

async fn with_index(major: u32) -> TestDatabase {
    indexed(fresh_database(major).await).await
}

async fn indexed(db: TestDatabase) -> TestDatabase {
    db.execute(
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 3000);
         CREATE INDEX t_id ON t (id); ANALYZE t",
    )
    .await;
    db
}

fn reindexing(db: &TestDatabase, more: &str) -> Workspace {
    Workspace::for_target(&db.url).task(
        "reindex",
        &format!("kind: reindex\ntarget: app\noptions: {{ min_size: 0MB, min_bloat: 0%, include: [\"public.t\"] }}\n{more}"),
    )
}

/// The only step of the only run.
fn step(document: &Value, status: &str) -> Value {
    let run = &document["runs"][0];
    assert_eq!(run["status"], status, "{document:#}");
    run["steps"][0].clone()
}

fn run(workspace: &Workspace) -> Value {
    let words = ["run", "reindex", "--now", "--output", "json"];
    workspace.run(words).expect(0).json()
}

#[tokio::test]
async fn a_full_disk_pauses_and_ends_a_run() {
    let db = fresh_database(17).await;
    db.execute(TOLD).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000); INSERT INTO told VALUES (5)")
        .await;
    let with = |throttle: &str| {
        Workspace::for_target(&db.url).task(
            "analyze",
            &format!("kind: analyze\ntarget: app\nthrottle: {{ {throttle}, free_disk_query: 'SELECT bytes FROM public.told' }}\n"),
        )
    };
    let pausing = with("min_free_disk: 10MB");
    let mut running = Running::begin(&pausing, "analyze");
    let line = running.until("paused: ");
    assert!(
        line.contains("5 bytes are free") || line.contains("0 bytes are free"),
        "{line}"
    );
    assert!(
        line.contains("less than 10 MB (`throttle.min_free_disk`)"),
        "{line}"
    );
    db.execute("UPDATE told SET bytes = 20000000").await;
    let document = running.end(0);
    let pause = &document["runs"][0]["steps"][0]["throttled"][0];
    assert_eq!(pause["setting"], "min_free_disk", "{document:#}");

    db.execute("UPDATE told SET bytes = 5; INSERT INTO t SELECT generate_series(1, 50000)")
        .await;
    let ending = with("abort_free_disk: 10MB");
    let words = ["run", "analyze", "--now", "--output", "json"];
    let ended = ending.run(words).expect(0).json();
    assert_eq!(ended["runs"][0]["status"], "incomplete", "{ended:#}");
    let findings = ended["runs"][0]["findings"].to_string();
    assert!(
        findings.contains("throttle.aborted") && findings.contains("throttle.abort_free_disk"),
        "{ended:#}"
    );
    // What is no number says nothing, and nothing goes on unseen.
    db.execute("DELETE FROM told").await;
    let failed = pausing.run(words).expect(1).json();
    let why = failed["runs"][0]["steps"][0]["error"].to_string();
    assert!(why.contains("free_disk_query"), "{failed:#}");
}

/// The server is a process of this machine: how much its disk has is seen without a query, by a role
/// that may see where its data is.
#[tokio::test]
async fn the_disk_of_a_server_on_this_machine_is_seen() {
    for major in [14, 18] {
        let db = with_index(major).await;
        let small = reindexing(&db, "throttle: { min_free_disk: 1kB }\n");
        let before = db.number(FILE).await;
        step(&run(&small), "succeeded");
        assert_ne!(db.number(FILE).await, before);
        let huge = reindexing(&db, "throttle: { min_free_disk: 4000TB }\n");
        let mut running = Running::begin(&huge, "reindex");
        let line = running.until("paused: ");
        assert!(
            line.contains("are free on the disk of the server (/"),
            "{line}"
        );
        running.stop();
        let doctor = small.run(["doctor"]).stdout;
        assert!(!doctor.contains("free on the disk"), "{doctor}");
    }
    let cluster = private_cluster(18, &[]);
    let db = database_on(&cluster, 18).await;
    db.execute(
        "CREATE ROLE keeper LOGIN PASSWORD 'keeper'; CREATE TABLE t (id int); ALTER TABLE t OWNER TO keeper;
         INSERT INTO t SELECT generate_series(1, 3000); CREATE INDEX t_id ON t (id); ANALYZE t",
    )
    .await;
    let mut url = url::Url::parse(&db.url).unwrap();
    url.set_username("keeper").unwrap();
    url.set_password(Some("keeper")).unwrap();
    let task = "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0%, include: [\"public.t\"] }\n";
    let blind = Workspace::for_target(url.as_str()).task("reindex", task);
    let before = db.number(FILE).await;
    step(&run(&blind), "succeeded");
    assert_ne!(db.number(FILE).await, before);
    let doctor = blind.run(["doctor"]);
    let said = format!("{}{}", doctor.stdout, doctor.stderr);
    assert!(
        said.contains("GRANT pg_read_all_settings TO")
            && said.contains("Rebuilds begin without looking"),
        "{said}"
    );
    let limited = format!("{task}throttle: {{ min_free_disk: 1kB }}\n");
    let limited = Workspace::for_target(url.as_str()).task("reindex", &limited);
    let words = ["run", "reindex", "--now", "--output", "json"];
    let failed = limited.run(words).expect(1).json();
    assert!(
        failed.to_string().contains("GRANT pg_read_all_settings"),
        "{failed:#}"
    );
}

/// A rebuild for which there is no room is not begun.
#[tokio::test]
async fn a_rebuild_without_room_is_left() {
    for major in [14, 18] {
        let db = with_index(major).await;
        db.execute(TOLD).await;
        db.execute("INSERT INTO told VALUES (100000)").await;
        let workspace = reindexing(
            &db,
            "throttle: { free_disk_query: 'SELECT bytes FROM public.told' }\n",
        );
        let before = db.number(FILE).await;
        let left = step(&run(&workspace), "incomplete");
        assert_eq!(left["status"], "deferred", "{left:#}");
        assert_eq!(left["kept_by"], "server", "{left:#}");
        let why = left["error"].as_str().unwrap();
        assert!(
            why.contains("on the disk of the server") && why.contains("98 kB"),
            "{why}"
        );
        assert_eq!(db.number(FILE).await, before);
        db.execute("UPDATE told SET bytes = 1000000000").await;
        let done = step(&run(&workspace), "succeeded");
        assert_eq!(done["status"], "succeeded", "{done:#}");
        assert_ne!(db.number(FILE).await, before);
    }
}

/// Uses transaction ids up.
async fn burn(db: &TestDatabase, ids: u32) {
    let sql = format!(
        "DO $$BEGIN FOR n IN 1..{ids} LOOP PERFORM pg_catalog.pg_current_xact_id(); COMMIT; END LOOP; END$$"
    );
    db.execute(&sql).await;
}

/// What holds old transaction ids back already would be joined by a rebuild, and outlived.
#[tokio::test]
async fn old_ids_are_not_held_back_for_longer() {
    for major in [14, 18] {
        // Others on the same server use ids up as well.
        let cluster = private_cluster(major, &[]);
        let db = indexed(database_on(&cluster, major).await).await;
        let workspace = reindexing(&db, "limits: { max_xid_age: 50 }\n");
        let before = db.number(FILE).await;
        let writer = db.connect().await;
        let open =
            "SET application_name = 'left open'; BEGIN; SELECT pg_catalog.pg_current_xact_id()";
        writer.batch_execute(open).await.unwrap();
        burn(&db, 200).await;
        let left = step(&run(&workspace), "incomplete");
        assert_eq!(left["status"], "deferred", "{left:#}");
        assert_eq!(left["kept_by"], "transaction", "{left:#}");
        let why = left["error"].as_str().unwrap();
        assert!(
            why.contains("limits.max_xid_age") && why.contains("left open"),
            "{why}"
        );
        assert_eq!(db.number(FILE).await, before);
        writer.batch_execute("COMMIT").await.unwrap();
        step(&run(&workspace), "succeeded");
        assert_ne!(db.number(FILE).await, before);
    }
}

/// A rebuild that has come to hold back old ids itself is cancelled, and leaves nothing behind.
#[tokio::test]
async fn a_rebuild_that_holds_back_old_ids_is_cancelled() {
    for major in [14, 18] {
        let cluster = private_cluster(major, &[]);
        let db = database_on(&cluster, major).await;
        db.execute(
            "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 3000);
             CREATE FUNCTION held(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(42); RETURN n; END';
             CREATE INDEX t_id ON t (public.held(id)); ANALYZE t",
        )
        .await;
        let workspace = reindexing(&db, "limits: { max_xid_age: 500 }\n");
        let before = db.number(FILE).await;
        let holder = db.connect().await;
        holder
            .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
            .await
            .unwrap();
        let running = Running::begin(&workspace, "reindex");
        let builds = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE wait_event = 'advisory' AND backend_xmin IS NOT NULL";
        let patience = Patience::until("the rebuild to look at rows");
        while db.number(builds).await == 0 {
            patience.pause().await;
        }
        burn(&db, 2_000).await;
        let document = running.end(0);
        let left = step(&document, "incomplete");
        assert_eq!(left["status"], "deferred", "{left:#}");
        assert_eq!(left["kept_by"], "transaction", "{left:#}");
        let why = left["error"].as_str().unwrap();
        assert!(
            why.contains("cancelled") && why.contains("limits.max_xid_age"),
            "{why}"
        );
        assert_eq!(db.number(FILE).await, before);
        assert_eq!(db.number(LEFT).await, 0);
        holder
            .batch_execute("SELECT pg_catalog.pg_advisory_unlock(42)")
            .await
            .unwrap();
        step(&run(&workspace), "succeeded");
        assert_ne!(db.number(FILE).await, before);
        assert_eq!(db.number(LEFT).await, 0);
    }
}
