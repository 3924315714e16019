//! What is decided from has an epoch and a unit: what was counted before a
//! crash, on another server, or in something else than now, is unknown, and
//! unknown is neither zero nor done.

use serde_json::Value;

use super::objects;
use crate::support::patience::Patience;
use crate::support::servers::{
    TestDatabase, cluster, connect, fresh_database, private_cluster, wait_for_statistics,
};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

fn run(workspace: &Workspace, task: &str) -> Value {
    workspace
        .run(["run", task, "--now", "--output", "json"])
        .json()
}

fn codes(document: &Value) -> Vec<&str> {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect()
}

/// `action object: status` of all steps.
fn steps(document: &Value) -> Vec<String> {
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    let word = |v: &Value| v.as_str().unwrap().to_owned();
    steps
        .iter()
        .map(|s| {
            format!(
                "{} {}: {}",
                word(&s["action"]),
                word(&s["object"]),
                word(&s["status"])
            )
        })
        .collect()
}

fn reasons(document: &Value) -> String {
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| s["reason"].as_str().unwrap().to_owned() + "\n")
        .collect()
}

async fn client_number(url: &str, sql: &str) -> i64 {
    connect(url).await.query_one(sql, &[]).await.unwrap().get(0)
}

/// Counters become visible some time after the commit.
async fn change(db: &TestDatabase, sql: &str) {
    db.execute(sql).await;
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    db.execute("SELECT 1").await;
    wait_for_statistics(&db.url);
}

for_oldest_and_newest! {
    /// A view whose sources were counted from anew is not called unchanged.
    async fn counters_that_began_anew_tell_nothing(major: u32) {
        let db = fresh_database(major).await;
        change(&db, "CREATE TABLE src (id int PRIMARY KEY, v int); INSERT INTO src SELECT g, g FROM generate_series(1, 100) g;
            CREATE MATERIALIZED VIEW mv AS SELECT id, v FROM src; CREATE UNIQUE INDEX ON mv (id)").await;
        let workspace = Workspace::for_target(&db.url).task("views", "kind: refresh\ntarget: app\n");
        assert_eq!(steps(&run(&workspace, "views")), ["refresh public.mv: succeeded"]);
        assert_eq!(steps(&run(&workspace, "views")), Vec::<String>::new());
        // As many changes as the counters stand at, after they were set back to nothing.
        change(&db, "SELECT pg_stat_reset()").await;
        change(&db, "UPDATE src SET v = -v").await;
        let document = run(&workspace, "views");
        assert_eq!(steps(&document), ["refresh public.mv: succeeded"], "{document:#}");
        assert!(reasons(&document).contains("counts changes anew"), "{document:#}");
        assert_eq!(db.number("SELECT count(*) FROM mv WHERE v < 0").await, 100);
        assert_eq!(steps(&run(&workspace, "views")), Vec::<String>::new());
    }
}

for_versions! {
    [pg17 = 17]
    /// After a crash nobody knows what changed before it: views are refreshed,
    /// statistics gathered, tables vacuumed, each once; a healthy index that
    /// grew before is not called bloated.
    async fn after_a_crash_nothing_is_taken_for_known(major: u32) {
        let cluster = private_cluster(major, &[("autovacuum", "off"), ("restart_after_crash", "on")]);
        let url = cluster.url("postgres");
        let client = connect(&url).await;
        client.batch_execute("CREATE TABLE src (id int PRIMARY KEY, v text); INSERT INTO src SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
            CREATE INDEX src_v ON src (v); CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM src; CREATE UNIQUE INDEX ON mv (n)").await.unwrap();
        client.batch_execute("VACUUM ANALYZE").await.unwrap();
        client.batch_execute("INSERT INTO src SELECT g, md5(g::text) FROM generate_series(20001, 200000) g").await.unwrap();
        let workspace = Workspace::for_target(&url).task("views", "kind: refresh\ntarget: app\n").task("analyze", "kind: analyze\ntarget: app\n")
            .task("vacuum", "kind: vacuum\ntarget: app\n").task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 1MB }\n");
        run(&workspace, "views");
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let witness = connect(&url).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        // The server lets others in until it has noticed: then it ends all sessions.
        let patience = Patience::until("the server to notice the crash");
        while witness.simple_query("SELECT 1").await.is_ok() {
            patience.pause().await;
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            if let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
                tokio::spawn(connection);
                if client.simple_query("SELECT 1").await.is_ok() { break; }
            }
            assert!(std::time::Instant::now() < deadline, "the server did not come back after the crash");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let document = run(&workspace, "reindex");
        assert!(!steps(&document).iter().any(|s| s.starts_with("reindex")), "{document:#}");
        assert_eq!(steps(&run(&workspace, "views")), ["refresh public.mv: succeeded"]);
        let vacuumed = run(&workspace, "vacuum");
        // An ANALYZE counts dead rows too: what reindex had analyzed is known again.
        let known = objects(&document, "analyze", "succeeded").contains("public.src");
        assert_ne!(objects(&vacuumed, "vacuum", "succeeded").contains("public.src"), known, "{document:#} {vacuumed:#}");
        assert_eq!(client_number(&url, "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'src'
            AND last_analyze IS NULL AND last_vacuum IS NULL").await, 0);
        let analyzed = run(&workspace, "analyze");
        assert!(objects(&analyzed, "analyze", "succeeded").contains("public.mv"), "{analyzed:#}");
        for task in ["views", "analyze", "vacuum", "reindex"] {
            let again = run(&workspace, task);
            assert_eq!(steps(&again), Vec::<String>::new(), "{task} {again:#}");
        }
    }
}

for_oldest_and_newest! {
    /// What nobody counts is said, and refreshed by age, whatever its form.
    async fn sources_that_nobody_counts_are_refreshed_by_age(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SEQUENCE seq; CREATE TABLE src (id int); INSERT INTO src SELECT generate_series(1, 100);
            CREATE FUNCTION lies() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM public.src'; CREATE FUNCTION pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'").await;
        for (name, query) in [("counted", "SELECT pure(id) AS a FROM src"), ("by_seq", "SELECT last_value AS a FROM seq"), ("by_function", "SELECT lies() AS a"),
            ("by_clock", "SELECT id AS a FROM src WHERE now() > '2020-01-01'"), ("by_sample", "SELECT id AS a FROM src TABLESAMPLE bernoulli (50)"),
            ("by_session", "SELECT pg_postmaster_start_time() AS a"), ("by_catalog", "SELECT oid AS a FROM pg_class WHERE relname = 'src'")] {
            db.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}; CREATE UNIQUE INDEX ON {name} (a)")).await;
        }
        change(&db, "SELECT 1").await;
        let workspace = Workspace::for_target(&db.url).task("views", "kind: refresh\ntarget: app\n");
        assert_eq!(steps(&run(&workspace, "views")).len(), 7);
        assert_eq!(steps(&run(&workspace, "views")), Vec::<String>::new());
        workspace.file("tasks/views.yaml", "kind: refresh\ntarget: app\noptions: { uncounted_max_age: 0s }\n");
        let document = run(&workspace, "views");
        let refreshed = objects(&document, "refresh", "succeeded");
        assert_eq!(refreshed.len(), 6, "{document:#}");
        assert!(!refreshed.contains("public.counted"));
        assert!(reasons(&document).contains("a sequence"), "{document:#}");
    }
}

for_versions! {
    [pg17 = 17]
    /// Entries and rows are not divided by each other: a rebuilt index of any
    /// kind is left alone, on a table and on a materialized view.
    async fn what_was_rebuilt_is_not_rebuilt_again(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION bloom; CREATE EXTENSION btree_gist; CREATE TABLE docs (id int, body text, at timestamptz, p point);
            INSERT INTO docs SELECT g, repeat('word' || g || ' other' || g % 100 || ' ', 8), '2020-01-01'::timestamptz + g * interval '1 s', point(g, g) FROM generate_series(1, 20000) g;
            CREATE INDEX docs_btree ON docs (body); CREATE INDEX docs_hash ON docs USING hash (body); CREATE INDEX docs_gin ON docs USING gin (to_tsvector('simple', body));
            CREATE INDEX docs_gin_part ON docs USING gin (to_tsvector('simple', body)) WHERE id % 3 = 0; CREATE INDEX docs_gist ON docs USING gist (p); CREATE INDEX docs_gist_text ON docs USING gist (to_tsvector('simple', body));
            CREATE INDEX docs_spgist ON docs USING spgist (p); CREATE INDEX docs_brin ON docs USING brin (at) WITH (pages_per_range = 1); CREATE INDEX docs_bloom ON docs USING bloom (id);
            CREATE MATERIALIZED VIEW seen AS SELECT * FROM docs; CREATE INDEX seen_btree ON seen (body); CREATE INDEX seen_gin ON seen USING gin (to_tsvector('simple', body))").await;
        db.execute("VACUUM ANALYZE").await;
        let indexes = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname IN ('docs', 'seen')";
        let workspace = Workspace::for_target(&db.url).task("once", "kind: reindex\ntarget: app\noptions: { min_size: 1kB, min_bloat: 0%, include: [docs, seen] }\n")
            .task("nightly", "kind: reindex\ntarget: app\noptions: { min_size: 1kB, min_bloat: 10%, include: [docs, seen] }\n");
        let first = run(&workspace, "once");
        assert_eq!(objects(&first, "reindex", "succeeded").len() as i64, db.number(indexes).await, "{first:#}");
        for vacuum in ["SELECT 1", "VACUUM docs", "ANALYZE", "VACUUM ANALYZE"] {
            db.execute(vacuum).await;
            let night = run(&workspace, "nightly");
            assert_eq!(objects(&night, "reindex", "succeeded").len(), 0, "{vacuum}: {night:#}");
            assert_eq!(night["runs"][0]["status"], "succeeded");
        }
        // What did grow is still seen.
        db.execute("UPDATE docs SET body = body || 'x'; UPDATE docs SET body = body || 'y'").await;
        db.execute("VACUUM ANALYZE docs").await;
        let night = run(&workspace, "nightly");
        assert!(objects(&night, "reindex", "succeeded").contains("public.docs_gin"), "{night:#}");
        assert_eq!(objects(&run(&workspace, "nightly"), "reindex", "succeeded").len(), 0);
    }
}

for_oldest_and_newest! {
    /// Every kind of missing statistics is found once and gathered once; what
    /// cannot be gathered is not asked for over and over.
    async fn missing_statistics_are_gathered_once(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ext (a int, b int, c int); INSERT INTO ext SELECT g % 10, g % 10, g FROM generate_series(1, 3000) g;
            CREATE TABLE newer (a int); INSERT INTO newer SELECT generate_series(1, 3000); CREATE TABLE expr (a text); INSERT INTO expr SELECT g::text FROM generate_series(1, 3000) g;
            CREATE TABLE never_ever (a int, b int, c text); INSERT INTO never_ever SELECT g, g, g::text FROM generate_series(1, 3000) g;
            CREATE TABLE old (a int); CREATE TABLE old_1 () INHERITS (old); INSERT INTO old_1 SELECT generate_series(1, 3000);
            CREATE TABLE top (a int, b int) PARTITION BY RANGE (a); CREATE TABLE top_1 PARTITION OF top DEFAULT PARTITION BY LIST (b); CREATE TABLE top_1_1 PARTITION OF top_1 DEFAULT; INSERT INTO top SELECT g, g FROM generate_series(1, 3000) g;").await;
        change(&db, "ANALYZE ext, newer, expr, never_ever, old_1, top_1_1").await;
        db.execute("CREATE STATISTICS ext_nd (ndistinct) ON a, b FROM ext; CREATE STATISTICS ext_dep (dependencies) ON a, b FROM ext; CREATE STATISTICS ext_mcv (mcv) ON a, c FROM ext; CREATE STATISTICS ext_expr ON (a + b) FROM ext;
            ALTER TABLE newer ADD COLUMN b int DEFAULT 5; CREATE INDEX expr_upper ON expr (upper(a));
            CREATE INDEX never_part ON never_ever (upper(c)) WHERE a < 0; CREATE INDEX never_expr ON never_ever (lower(c)); ALTER INDEX never_expr ALTER COLUMN 1 SET STATISTICS 0;
            CREATE STATISTICS never_ext ON a, b FROM never_ever; ALTER STATISTICS never_ext SET STATISTICS 0; ALTER TABLE never_ever ADD COLUMN d int; ALTER TABLE never_ever ALTER COLUMN d SET STATISTICS 0").await;
        let workspace = Workspace::for_target(&db.url).task("analyze", "kind: analyze\ntarget: app\n").task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 1kB }\n");
        let document = run(&workspace, "analyze");
        let mut expected = vec!["public.expr", "public.ext", "public.newer", "public.old", "public.top"];
        if major >= 18 { expected.push("public.top_1"); }
        assert_eq!(objects(&document, "analyze", "succeeded").into_iter().collect::<Vec<_>>(), expected, "{document:#}");
        for missing in [
            "SELECT count(*) FROM pg_statistic_ext x WHERE x.stxname LIKE 'ext%' AND NOT EXISTS (SELECT 1 FROM pg_statistic_ext_data d WHERE d.stxoid = x.oid AND num_nulls(d.stxdndistinct, d.stxddependencies, d.stxdmcv, d.stxdexpr) < 4)",
            "SELECT count(*) - 3 FROM pg_stats WHERE tablename IN ('newer', 'expr_upper')",
            "SELECT count(*) - 5 FROM pg_stats WHERE inherited AND tablename IN ('old', 'top', 'top_1')",
        ] {
            assert_eq!(db.number(missing).await, 0, "{missing} {document:#}");
        }
        for task in ["analyze", "analyze", "reindex", "reindex"] {
            let again = run(&workspace, task);
            assert_eq!(steps(&again).iter().filter(|s| s.starts_with("analyze")).count(), 0, "{task} {again:#}");
        }
    }
}

for_oldest_and_newest! {
    /// A vacuum without effect says who may still read the dead rows.
    async fn a_vacuum_without_effect_says_why(major: u32) {
        let db = fresh_database(major).await;
        let holder = db.connect().await;
        holder.batch_execute("SET application_name = 'an old report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await.unwrap();
        change(&db, "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 20000); DELETE FROM t").await;
        let workspace = Workspace::for_target(&db.url).task("vacuum", "kind: vacuum\ntarget: app\n");
        let document = run(&workspace, "vacuum");
        assert!(codes(&document).contains(&"vacuum.held_back"), "{document:#}");
        assert!(document.to_string().contains("an old report"), "{document:#}");
        holder.batch_execute("COMMIT").await.unwrap();
        let document = run(&workspace, "vacuum");
        assert_eq!(codes(&document), Vec::<&str>::new(), "{document:#}");
        assert_eq!(objects(&document, "vacuum", "succeeded").len(), 1);
        assert_eq!(steps(&run(&workspace, "vacuum")), Vec::<String>::new());
    }
}

for_versions! {
    [pg18 = 18]
    /// What a vacuum leaves where `vacuum_index_cleanup` is off, and ANALYZE counts as dead rows, is neither vacuumed again
    /// nor anybody's fault; what dies since is vacuumed.
    async fn what_points_at_dead_rows_is_told_for_what_it_is(major: u32) {
        let db = fresh_database(major).await;
        change(&db, "CREATE TABLE t (id int PRIMARY KEY) WITH (vacuum_index_cleanup = OFF); INSERT INTO t SELECT generate_series(1, 20000); DELETE FROM t WHERE id % 2 = 0").await;
        let workspace = Workspace::for_target(&db.url).task("vacuum", "kind: vacuum\ntarget: app\n");
        // It sees none of the rows that are gone, and is older than the vacuum.
        let holder = db.connect().await;
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await.unwrap();
        let first = run(&workspace, "vacuum");
        assert_eq!((objects(&first, "vacuum", "succeeded").len(), codes(&first)), (1, vec![]), "{first:#}");
        for _ in 0..2 {
            change(&db, "ANALYZE t").await;
            assert_eq!(db.number("SELECT n_dead_tup FROM pg_stat_user_tables").await, 10_000);
            let document = run(&workspace, "vacuum");
            assert_eq!((steps(&document), codes(&document)), (vec![], vec!["vacuum.uncleaned"]), "{document:#}");
        }
        holder.batch_execute("COMMIT").await.unwrap();
        change(&db, "DELETE FROM t WHERE id % 4 = 1").await;
        let more = run(&workspace, "vacuum");
        assert_eq!(objects(&more, "vacuum", "succeeded").len(), 1, "{more:#}");
        change(&db, "ANALYZE t").await;
        let told = run(&workspace, "vacuum");
        assert_eq!((steps(&told), codes(&told)), (vec![], vec!["vacuum.uncleaned"]), "{told:#}");
        let help = told["runs"][0]["findings"][0]["suggestion"].as_str().unwrap();
        change(&db, help).await;
        change(&db, "ANALYZE t").await;
        let done = run(&workspace, "vacuum");
        assert_eq!((steps(&done), codes(&done)), (vec![], vec![]), "{done:#}");
    }
}

for_versions! {
    [pg16 = 16]
    /// An old transaction in another database, with tables vacuumed side by side: a vacuum that
    /// says it succeeded has removed the dead rows, or it is told who keeps them.
    async fn an_old_transaction_elsewhere_makes_no_vacuum_a_lie(major: u32) {
        let (db, other) = (fresh_database(major).await, fresh_database(major).await);
        let holder = other.connect().await;
        holder.batch_execute("SET application_name = 'elsewhere'; BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE with_an_id ()").await.unwrap();
        for n in 0..6 {
            change(&db, &format!("CREATE TABLE t{n} (id int); INSERT INTO t{n} SELECT generate_series(1, 20000); DELETE FROM t{n} WHERE id % 2 = 0")).await;
        }
        let workspace = Workspace::for_target(&db.url).task("vacuum", "kind: vacuum\ntarget: app\nlimits: { jobs: 3 }\n");
        let document = run(&workspace, "vacuum");
        let done = objects(&document, "vacuum", "succeeded");
        assert_eq!(done.len(), 6, "{document:#}");
        db.execute("CREATE EXTENSION pgstattuple").await;
        let dead = db.number("SELECT sum(s.dead_tuple_count)::int8 FROM pg_class c, pgstattuple(c.oid) s WHERE c.relname ~ '^t[0-5]$'").await;
        let told = codes(&document).contains(&"vacuum.held_back");
        assert!(dead == 0 || told, "{dead} dead rows stayed without a word: {document:#}");
        holder.batch_execute("ROLLBACK").await.unwrap();
        run(&workspace, "vacuum");
        assert_eq!(db.number("SELECT sum(s.dead_tuple_count)::int8 FROM pg_class c, pgstattuple(c.oid) s WHERE c.relname ~ '^t[0-5]$'").await, 0);
        assert_eq!(steps(&run(&workspace, "vacuum")), Vec::<String>::new());
    }
}

for_versions! {
    [pg14 = 14, pg18 = 18]
    /// A name that does not exist, a rule that is refused, no privilege for
    /// anything: the run has not succeeded.
    async fn what_could_not_be_done_has_not_succeeded(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("little_{}", db.name);
        change(&db, &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, at timestamptz); INSERT INTO app.t SELECT g, now() FROM generate_series(1, 20000) g; DELETE FROM app.t WHERE id % 2 = 0")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let workspace = Workspace::for_target(&url).task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.misspelt], interval: month }\n")
            .task("cleanup", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: app.misspelt, column: at, older_than: 1d }] }\n")
            .task("analyze", "kind: analyze\ntarget: app\n").task("vacuum", "kind: vacuum\ntarget: app\n");
        for task in ["partitions", "cleanup", "analyze", "vacuum"] {
            let output = workspace.run(["run", task, "--now", "--output", "json"]).expect(1);
            let document = output.json();
            assert_eq!(document["runs"][0]["status"], "failed", "{document:#}");
            assert_ne!(document["runs"][0]["error"], Value::Null, "{document:#}");
        }
        // A condition that reads what the role may not read is refused with all it needs, at once.
        db.execute(&format!("CREATE SCHEMA hidden; CREATE TABLE hidden.\"Holds\" (id int); CREATE TABLE app.parent (id int PRIMARY KEY); CREATE FUNCTION app.held(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT false';
            REVOKE ALL ON FUNCTION app.held(int) FROM PUBLIC; CREATE TABLE app.mine (id int PRIMARY KEY, at timestamptz, parent int); INSERT INTO app.mine SELECT g, '2001-01-01', g FROM generate_series(1, 9) g;
            GRANT USAGE ON SCHEMA app TO {role}; GRANT SELECT, DELETE ON app.mine TO {role};
            CREATE ROLE {role}_view; CREATE TABLE app.behind (id int); CREATE VIEW app.seen AS SELECT id FROM app.behind;
            ALTER VIEW app.seen OWNER TO {role}_view; GRANT SELECT ON app.seen TO {role}")).await;
        for (rule, grants) in [
            ("column: at, older_than: 1d, keep: ['id IN (SELECT id FROM hidden.\"Holds\") OR app.held(id)']",
             format!("GRANT EXECUTE ON FUNCTION app.held(integer) TO {role}; GRANT USAGE ON SCHEMA hidden TO {role}; GRANT SELECT ON hidden.\"Holds\" TO {role}")),
            ("orphaned: { columns: [parent], parent: app.parent }", format!("GRANT SELECT ON app.parent TO {role}")),
            // A view reads as its owner.
            ("column: at, older_than: 1d, keep: ['id IN (SELECT id FROM app.seen)']", format!("GRANT SELECT ON app.behind TO {role}_view")),
        ] {
            workspace.file("tasks/cleanup.yaml", &format!("kind: cleanup\ntarget: app\ntrust_owners: [postgres]\noptions:\n  rules: [{{ table: app.mine, {rule} }}]\n"));
            let document = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
            let found = &document["runs"][0]["findings"][0];
            assert_eq!((found["code"].as_str(), found["suggestion"].as_str()), (Some("cleanup.rule"), Some(grants.as_str())), "{document:#}");
            assert_eq!(db.number("SELECT count(*) FROM app.mine").await, 9);
            db.execute(&grants).await;
            workspace.run(["plan", "cleanup"]).expect(0);
        }
        db.execute("DROP SCHEMA hidden CASCADE; DROP FUNCTION app.held; DROP TABLE app.mine, app.parent; DROP VIEW app.seen; DROP TABLE app.behind").await;
        // Names that nothing goes by; one that does makes the others a warning.
        for kind in ["analyze", "vacuum", "reindex", "repack", "refresh", "snapshot", "integrity"] {
            let of = |include: &str| format!("kind: {kind}\ntarget: app\noptions: {{ include: [{include}] }}\n");
            workspace.file("tasks/named.yaml", &of("'nosuch.*', 'app.T', '\"app\".x?.*'").replace(", '\"app\".x?.*'", ""));
            let document = workspace.run(["run", "named", "--now", "--output", "json"]).expect(1).json();
            let nothing = |document: &Value| document["runs"][0]["findings"].as_array().unwrap().iter().filter(|f| f["code"] == "include.nothing").count();
            assert_eq!((nothing(&document), &document["runs"][0]["status"]), (2, &Value::from("failed")), "{kind} {document:#}");
            workspace.file("tasks/named.yaml", &of("'nosuch.*', 'app.*'"));
            let document = workspace.run(["run", "named", "--now", "--output", "json"]).json();
            assert_eq!(nothing(&document), 1, "{kind} {document:#}");
            // What is misspelt in `exclude` is not spared.
            workspace.file("tasks/named.yaml", &format!("kind: {kind}\ntarget: app\noptions: {{ exclude: [app.T, 'audti.*', 'app.tmp_*', 'app.*'] }}\n"));
            let document = workspace.run(["run", "named", "--now", "--output", "json"]).json();
            let spared = document["runs"][0]["findings"].as_array().unwrap().iter().filter(|f| f["code"] == "exclude.nothing");
            let spared: Vec<(&str, &str)> = spared.map(|f| (f["object"].as_str().unwrap(), f["severity"].as_str().unwrap())).collect();
            assert_eq!(spared, [("app.T", "warning"), ("audti.*", "warning"), ("app.tmp_*", "info")], "{kind} {document:#}");
        }
        // What is suggested is all that is missing; of a superuser nobody is to become a member.
        let document = run(&workspace, "analyze");
        let of_postgres = document["runs"][0]["findings"].as_array().unwrap().iter().find(|f| f["code"] == "privilege.missing").unwrap();
        assert_eq!(of_postgres["suggestion"].is_null(), major < 17, "{document:#}");
        db.execute(&format!("CREATE ROLE {role}_owner; ALTER TABLE app.t OWNER TO {role}_owner")).await;
        let document = run(&workspace, "analyze");
        let findings = document["runs"][0]["findings"].as_array().unwrap();
        let missing = findings.iter().find(|f| f["code"] == "privilege.missing").unwrap();
        let grant = missing["suggestion"].as_str().unwrap();
        assert!(grant.contains(&role) && !grant.contains("pg_maintain"), "{grant}");
        db.execute(grant).await;
        for task in ["analyze", "vacuum"] {
            let document = run(&workspace, task);
            assert_eq!(document["runs"][0]["status"], "succeeded", "{grant} {document:#}");
            assert_eq!(objects(&document, task, "succeeded").len(), 1, "{grant} {document:#}");
        }
    }
}

/// Lag is the age of what a standby has not replayed: not the age of the last
/// commit, and nothing for a server that is no standby. One that cannot be
/// asked fails the step.
#[tokio::test]
async fn lag_is_what_was_not_replayed() {
    let major = 17;
    let cluster = private_cluster(major, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let (url, client) = (
        cluster.url("postgres"),
        connect(&cluster.url("postgres")).await,
    );
    client
        .batch_execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000)")
        .await
        .unwrap();
    // Counted before it is analyzed: counted later, the rows would be changes since.
    client
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .await
        .unwrap();
    let replica = standby(major, &cluster, |_| {}).await;
    let of = |replicas: &str| {
        Workspace::new(&format!("history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\", replicas: [{replicas}] }}\n"))
            .task("analyze", "kind: analyze\ntarget: app\nthrottle: { max_replica_lag: 1s }\nlimits: { budget: 30s }\n")
            .task("snapshot", "kind: snapshot\ntarget: app\noptions: { max_replication_lag: 1s, exclude: ['*'] }\n")
    };
    // Quiet for longer than the limit.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let good = of(&format!("\"{}\"", replica.url("postgres")));
    let document = run(&good, "snapshot");
    assert!(
        !codes(&document).contains(&"replication.lag"),
        "{document:#}"
    );
    let document = run(&good, "analyze");
    assert_eq!(
        document["runs"][0]["steps"][0]["throttled"],
        serde_json::json!([]),
        "{document:#}"
    );
    assert_eq!(steps(&document), ["analyze public.t: succeeded"]);
    // The primary itself is never late.
    client
        .batch_execute("CREATE TABLE u (id int); INSERT INTO u SELECT generate_series(1, 1000)")
        .await
        .unwrap();
    client
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .await
        .unwrap();
    let itself = of(&format!("\"{url}\""));
    assert!(codes(&run(&itself, "snapshot")).contains(&"replica.not_a_standby"));
    assert_eq!(
        steps(&run(&itself, "analyze")),
        ["analyze public.u: succeeded"]
    );
    // Out of reach: nobody goes on regardless.
    client
        .batch_execute("CREATE TABLE v (id int); INSERT INTO v SELECT generate_series(1, 1000)")
        .await
        .unwrap();
    let gone = of("\"postgres://postgres:x@127.0.0.1:1/postgres?sslmode=disable\"");
    let document = run(&gone, "analyze");
    assert_eq!(
        steps(&document),
        ["analyze public.v: failed"],
        "{document:#}"
    );
}
