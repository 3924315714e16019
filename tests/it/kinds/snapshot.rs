//! The numbers go into the history; each threshold has its finding, with one
//! statement that helps; and nobody is accused too early.

use std::collections::BTreeMap;

use maint::plan::Memory;
use serde_json::{Value, json};

use super::integrity::found;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, cluster, connect, fresh_database, private_cluster};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

fn workspace(url: &str, options: &str) -> Workspace {
    Workspace::for_target(url).task("snapshot", &task(options))
}

fn task(options: &str) -> String {
    format!("kind: snapshot\ntarget: app\noptions: {options}\n")
}

fn run(workspace: &Workspace) -> Value {
    let document = workspace
        .run(["run", "snapshot", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
    assert_eq!(document["runs"][0]["steps"], json!([]));
    document
}

/// What is remembered under this key.
async fn remembered(workspace: &Workspace, key: &str) -> Value {
    let store = maint::history::open_existing(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap();
    let memories = store.memories("app", "snapshot").await.unwrap();
    store.close().await;
    memories[key].clone()
}

async fn remember(workspace: &Workspace, key: &str, value: Value) {
    let store = maint::history::open_existing(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap();
    let memory = Memory {
        key: key.to_owned(),
        value,
    };
    store
        .remember("app", "snapshot", chrono::Utc::now(), &[memory])
        .await
        .unwrap();
    store.close().await;
}

pub(super) async fn series(workspace: &Workspace, metric: &str) -> BTreeMap<String, f64> {
    let store = maint::history::open_existing(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap();
    let all = store
        .measurements("app", metric, chrono::DateTime::UNIX_EPOCH)
        .await
        .unwrap();
    store.close().await;
    all.into_iter()
        .map(|m| (m.measurement.object, m.measurement.value))
        .collect()
}

/// Statistics are written when a session is idle or ends; waits until they say so.
async fn settled(client: &tokio_postgres::Client, condition: &str) {
    for _ in 0..2400 {
        let asked = format!("SELECT coalesce(({condition}), false)");
        if client
            .query_one(&asked, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never became true: {condition}");
}

fn suggestion(document: &Value, code: &str) -> String {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let finding = findings
        .iter()
        .find(|f| f["code"] == code)
        .unwrap_or_else(|| panic!("{code}: {document:#}"));
    finding["suggestion"].as_str().unwrap().to_owned()
}

async fn shop(db: &TestDatabase) {
    db.execute("CREATE EXTENSION pg_stat_statements; CREATE SCHEMA \"select\";
        CREATE TABLE parents (id bigint PRIMARY KEY, a int, b int, v text);
        CREATE TABLE \"select\".\"weird \"\"name\" (id bigint PRIMARY KEY, \"Parent\" bigint REFERENCES parents, other bigint REFERENCES parents, v text);
        CREATE INDEX \"other;i\" ON \"select\".\"weird \"\"name\" (other, id);
        INSERT INTO parents SELECT g, g % 7, g, md5(g::text) FROM generate_series(1, 20000) g;
        INSERT INTO \"select\".\"weird \"\"name\" SELECT id, id, id, v FROM parents;
        CREATE MATERIALIZED VIEW sums AS SELECT a, sum(b) FROM parents GROUP BY a; ANALYZE").await;
}

for_each_version! {
    /// The numbers are those the server has; a healthy database has no findings.
    async fn numbers_go_into_the_history(major: u32) {
        let db = fresh_database(major).await;
        shop(&db).await;
        db.execute("CREATE INDEX ON \"select\".\"weird \"\"name\" (\"Parent\")").await;
        // Enough blocks for a ratio that means something.
        db.execute("DO $$ BEGIN FOR n IN 1..600 LOOP PERFORM count(*) FROM parents; END LOOP; END $$").await;
        settled(&db.client, "SELECT blks_hit > 100000 FROM pg_stat_database WHERE datname = current_database()").await;
        let workspace = workspace(&db.url, "{}");
        let document = run(&workspace);
        assert_eq!(found(&document), Vec::<String>::new(), "{document:#}");
        let tables = series(&workspace, "table.bytes").await;
        // Without the maps of free and visible space.
        let files = "SELECT sum(pg_relation_size(r))::int8 FROM (SELECT oid, reltoastrelid FROM pg_class WHERE oid = '{}'::regclass) t,
            LATERAL (SELECT oid UNION ALL SELECT reltoastrelid UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid IN (oid, reltoastrelid)) parts(r)";
        for (name, size) in [("public.parents", "parents"), ("\"select\".\"weird \"\"name\"", "\"select\".\"weird \"\"name\""), ("public.sums", "sums")] {
            assert_eq!(tables[name] as i64, db.number(&files.replace("{}", size)).await, "{name}");
        }
        let total = series(&workspace, "tables.bytes").await[""] as i64;
        assert_eq!(total, tables.values().sum::<f64>() as i64);
        // A few rows of maint's own session may be written meanwhile.
        let size = series(&workspace, "database.bytes").await[""];
        assert!(size > total as f64);
        assert!(series(&workspace, "table.bloat").await["public.parents"] < 0.1);
        for metric in ["connections.used", "connections.limit", "freeze.age", "cache.hit_ratio", "statement.mean_ms"] {
            assert!(!series(&workspace, metric).await.is_empty(), "{metric}");
        }
        assert_eq!(found(&run(&workspace)), Vec::<String>::new());
    }
}

for_each_version! {
    /// Everything that passes its threshold is told, with one statement that
    /// is right; when it has been carried out, nothing is told any more.
    async fn thresholds_become_findings(major: u32) {
        let db = fresh_database(major).await;
        shop(&db).await;
        db.execute("CREATE INDEX same_again ON \"select\".\"weird \"\"name\" (other, id); CREATE INDEX beginning ON \"select\".\"weird \"\"name\" (other);
            CREATE UNIQUE INDEX not_superfluous ON \"select\".\"weird \"\"name\" (other) WHERE other > 5; CREATE INDEX include_too ON \"select\".\"weird \"\"name\" (other) INCLUDE (v);
            UPDATE parents SET v = v || '!'; UPDATE parents SET v = v || '?';
            CREATE MATERIALIZED VIEW empty AS SELECT 1 WITH NO DATA").await;
        settled(&db.client, "SELECT pg_stat_get_dead_tuples('parents'::regclass) >= 20000").await;
        // Statements have a test of their own; here a slow machine must not make some slow.
        let options = "{ max_statement_mean: 1h, view_fresh_within: 0s, max_transaction: 0s, max_connections: 0%, max_freeze_age: 0, min_size: 100kB }";
        let workspace = workspace(&db.url, options);
        run(&workspace);
        // One change is not yet staleness for who has just looked.
        db.execute("INSERT INTO parents VALUES (0, 0, 0, '')").await;
        settled(&db.client, "SELECT pg_stat_get_tuples_inserted('parents'::regclass) > 20000").await;
        run(&workspace);
        // What is granted on a view does not refresh it.
        db.execute("GRANT SELECT ON sums TO pg_monitor").await;
        let other = db.connect().await;
        other.batch_execute("SET application_name = 'a report'; BEGIN; SELECT 1").await.unwrap();
        let document = run(&workspace);
        let all = found(&document);
        let mut codes: Vec<&str> = all.iter().map(|l| l.split_once(' ').unwrap().0).collect();
        codes.dedup();
        // The pause is told once, in the snapshot after it.
        assert_eq!(codes, ["connections.many", "freeze.age", "index.duplicate", "index.missing_foreign_key", "index.overlapping",
            "table.dead_rows", "transaction.long", "view.stale"], "{document:#}");
        for line in ["index.duplicate \"select\".same_again", "index.overlapping \"select\".beginning", "table.dead_rows public.parents",
            "index.missing_foreign_key \"select\".\"weird \"\"name\".\"weird \"\"name_Parent_fkey\"", "view.stale public.sums", "view.stale public.empty"] {
            assert!(all.contains(&line.to_owned()), "{line}: {all:#?}");
        }
        assert_eq!(all.iter().filter(|l| l.starts_with("index.")).count(), 3, "{all:#?}");
        for finding in document["runs"][0]["findings"].as_array().unwrap() {
            let statement = finding["suggestion"].as_str().unwrap_or_else(|| panic!("{finding:#}"));
            let client = db.connect().await;
            client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{finding:#} {e:?}"));
        }
        drop(other);
        settled(&db.client, "SELECT pg_stat_get_dead_tuples('parents'::regclass) < 10000").await;
        let document = run(&workspace);
        let left = found(&document);
        let gone = ["index.", "table.", "view."];
        assert!(!left.iter().any(|l| gone.iter().any(|g| l.starts_with(g))), "{document:#}");
    }
}

for_each_version! {
    /// Blocks that come from the disk all the time are told; once they come
    /// from the cache they are not: what counts is what happened since the last snapshot.
    async fn a_cache_that_is_too_small_is_told(major: u32) {
        // More than a quarter of the cache is read through a ring of a few pages, so nothing of it stays.
        let cluster = private_cluster(major, &[("autovacuum", "off"), ("shared_buffers", "4MB")]);
        let client = connect(&cluster.url("postgres")).await;
        client.batch_execute("CREATE TABLE large (pad text); ALTER TABLE large ALTER pad SET STORAGE PLAIN;
            INSERT INTO large SELECT repeat('x', 7000) FROM generate_series(1, 5000);
            CREATE TABLE small (pad text); ALTER TABLE small ALTER pad SET STORAGE PLAIN;
            INSERT INTO small SELECT repeat('x', 7000) FROM generate_series(1, 20)").await.unwrap();
        let blocks = |column: &str, more: i64| format!(
            "SELECT {column} > {more} FROM pg_stat_database WHERE datname = 'postgres'");
        client.batch_execute("DO $$ BEGIN FOR n IN 1..30 LOOP PERFORM count(*) FROM large; END LOOP; END $$").await.unwrap();
        settled(&client, &blocks("blks_read", 120_000)).await;
        let workspace = workspace(&cluster.url("postgres"), "{ exclude: ['*'] }");
        let document = run(&workspace);
        assert_eq!(found(&document), ["cache.hit_ratio shared_buffers", "statements.missing pg_stat_statements"], "{document:#}");
        let told = series(&workspace, "cache.hit_ratio").await[""];
        assert!(told < 0.5, "{told}");
        let listed: String = client.query_one(&format!("SELECT (ARRAY(SELECT relid::text FROM ({}) t))[1]", suggestion(&document, "cache.hit_ratio")), &[]).await.unwrap().get(0);
        assert_eq!(listed, "large");
        let hits: i64 = client.query_one("SELECT blks_hit FROM pg_stat_database WHERE datname = 'postgres'", &[]).await.unwrap().get(0);
        client.batch_execute("DO $$ BEGIN FOR n IN 1..20000 LOOP PERFORM count(*) FROM small; END LOOP; END $$").await.unwrap();
        settled(&client, &blocks("blks_hit", hits + 400_000)).await;
        let document = run(&workspace);
        assert_eq!(found(&document), ["statements.missing pg_stat_statements"], "{document:#}");
        assert!(series(&workspace, "cache.hit_ratio").await[""] > 0.9);
    }
}

for_oldest_and_newest! {
    /// The bloat of indexes is what rebuilding them wins; nothing is said
    /// where it cannot be known.
    async fn bloat_of_indexes_is_what_a_rebuild_would_win(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pg_stat_statements;
            CREATE TABLE t (id bigint PRIMARY KEY, few int, name text);
            INSERT INTO t SELECT g, g % 50, md5(g::text) FROM generate_series(1, 150000) g;
            CREATE TABLE \"Fresh; one\" AS SELECT * FROM t; CREATE INDEX \"as; new\" ON \"Fresh; one\" (name);
            CREATE TABLE changing AS SELECT * FROM t; CREATE INDEX changing_id ON changing (id);
            CREATE INDEX t_few ON t (few); CREATE INDEX t_name ON t (name); CREATE INDEX t_gin ON t USING gin ((ARRAY[few, id::int])); CREATE INDEX t_small ON t (id) WHERE id < 100;
            DELETE FROM t WHERE id % 5 <> 0").await;
        db.execute("VACUUM t").await;
        db.execute("ANALYZE").await;
        db.execute("DELETE FROM changing WHERE id % 5 <> 0").await;
        settled(&db.client, "pg_stat_get_mod_since_analyze('changing'::regclass) >= 100000").await;
        let workspace = workspace(&db.url, "{}");
        run(&workspace);
        let told = series(&workspace, "index.bloat").await;
        assert_eq!(told.keys().collect::<Vec<_>>(), ["public.\"as; new\"", "public.t_few", "public.t_name", "public.t_pkey"], "{told:?}");
        for (index, estimate) in told {
            let size = format!("SELECT pg_relation_size('{index}'::regclass)");
            let before = db.number(&size).await;
            db.execute(&format!("REINDEX INDEX {index}")).await;
            let won = 1.0 - db.number(&size).await as f64 / before as f64;
            assert!((estimate - won).abs() < 0.1, "{index}: estimated {estimate}, was {won}");
        }
    }
}

for_each_version! {
    /// A statement is slow by what it took since the last snapshot, and its
    /// text comes without values.
    async fn slow_statements_are_named(major: u32) {
        let db = fresh_database(major).await;
        shop(&db).await;
        let workspace = workspace(&db.url, "{ max_statement_mean: 4ms }");
        run(&workspace);
        for n in 0..12 {
            db.execute(&format!("SELECT 'secret{n}', pg_sleep(0.005)")).await;
            // Kept with its values, and so not for anybody's eyes.
            db.execute(&format!("CREATE ROLE r{n}_{} PASSWORD 'secret'", db.name)).await;
        }
        let document = run(&workspace);
        let all = found(&document);
        let slow: Vec<&String> = all.iter().filter(|l| l.contains("pg_sleep")).collect();
        assert_eq!(slow.len(), 1, "{document:#}");
        assert!(!document.to_string().contains("secret"), "{document:#}");
        let listed = db.client.query(&suggestion(&document, "statement.slow"), &[]).await.unwrap();
        assert_eq!(listed.len(), 1);
        let again = run(&workspace);
        assert!(!found(&again).iter().any(|l| l.contains("pg_sleep")), "{again:#}");
        // Not installed: told what that costs, nothing else is missing.
        db.execute("DROP EXTENSION pg_stat_statements").await;
        assert!(found(&run(&workspace)).contains(&"statements.missing pg_stat_statements".to_owned()));
    }
}

for_each_version! {
    /// Unused means: on no server, seen so for long enough, and counted for long enough.
    async fn unused_means_unused_everywhere(major: u32) {
        let cluster = private_cluster(major, &[("autovacuum", "off"), ("wal_level", "replica"), ("wal_keep_size", "1GB")]);
        let client = connect(&cluster.url("postgres")).await;
        client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, a int, b int, c int);
            INSERT INTO t SELECT g, g, g, g FROM generate_series(1, 60000) g;
            CREATE INDEX on_primary ON t (a); CREATE INDEX on_replica ON t (b); CREATE INDEX \"on Nobody\" ON t (c); ANALYZE t;
            CREATE TABLE p (id int, k int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100000); CREATE TABLE p2 PARTITION OF p DEFAULT;
            INSERT INTO p SELECT g, g FROM generate_series(1, 60000) g; CREATE INDEX p_k ON p (k); ANALYZE p").await.unwrap();
        let replica = standby(major, &cluster, |_| {}).await;
        for (server, column, index) in [(cluster.url("postgres"), "a", "on_primary"), (replica.url("postgres"), "b", "on_replica")] {
            connect(&server).await.batch_execute(&format!("SELECT count(*) FROM t WHERE {column} = 5")).await.unwrap();
            settled(&connect(&server).await, &format!("SELECT idx_scan > 0 FROM pg_stat_all_indexes WHERE indexrelname = '{index}'")).await;
        }
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", replicas: [\"{}\"] }}\n",
            cluster.url("postgres"), replica.url("postgres")
        )).task("snapshot", &task("{}"));
        let unused = |document: &Value| found(document).into_iter().filter(|l| l.starts_with("index.")).collect::<Vec<_>>();
        assert_eq!(unused(&run(&workspace)), Vec::<String>::new(), "seen for the first time");
        let seen = remembered(&workspace, "unused").await;
        assert_eq!(seen.as_object().unwrap().keys().collect::<Vec<_>>(), ["public.\"on Nobody\"", "public.p_k"], "{seen:#}");
        // Weeks later.
        let long_ago = json!({ "public.\"on Nobody\"": "2020-01-01T00:00:00Z", "public.p_k": "2020-01-01T00:00:00Z" });
        remember(&workspace, "unused", long_ago.clone()).await;
        let document = run(&workspace);
        assert_eq!(unused(&document), Vec::<String>::new(), "counted since the cluster was made, today");
        workspace.file("tasks/snapshot.yaml", &task("{ unused_after: 1s }"));
        // The replica counts since it was started, which may be a moment ago.
        for server in [cluster.url("postgres"), replica.url("postgres")] {
            settled(&connect(&server).await, "SELECT coalesce(max(stats_reset) < clock_timestamp() - interval '1500 ms', true)
                FROM (SELECT stats_reset FROM pg_stat_bgwriter UNION ALL SELECT stats_reset FROM pg_stat_archiver UNION ALL SELECT stats_reset FROM pg_stat_database) counting").await;
        }
        let document = run(&workspace);
        assert_eq!(unused(&document), ["index.unused public.\"on Nobody\"", "index.unused public.p_k"], "{document:#}");
        assert!(document.to_string().contains("not been used on any of 2 servers"));
        workspace.file("tasks/snapshot.yaml", &task("{}"));
        // Somebody throws the statistics away: who knows what was used before?
        client.batch_execute("SELECT pg_stat_reset()").await.unwrap();
        settled(&client, "SELECT bool_and(idx_scan = 0) FROM pg_stat_user_indexes").await;
        remember(&workspace, "unused", long_ago.clone()).await;
        assert_eq!(unused(&run(&workspace)), Vec::<String>::new());
        // A replica that does not answer may be the one that uses it.
        drop(replica);
        remember(&workspace, "unused", long_ago.clone()).await;
        let document = run(&workspace);
        assert_eq!(found(&document).iter().filter(|l| l.starts_with("index.unused")).count(), 0, "{document:#}");
        assert_eq!(remembered(&workspace, "unused").await, long_ago, "nothing learned, nothing forgotten");
    }
}

for_each_version! {
    /// A replica that stands still is behind; a slot that nobody reads is told before the disk is full.
    async fn a_late_replica_and_an_idle_slot_are_told(major: u32) {
        let cluster = private_cluster(major, &[("wal_level", "replica"), ("wal_keep_size", "1GB"), ("max_replication_slots", "4")]);
        let client = connect(&cluster.url("postgres")).await;
        client.batch_execute("SELECT pg_create_physical_replication_slot('forgotten', true)").await.unwrap();
        let replica = standby(major, &cluster, |_| {}).await;
        let copy = connect(&replica.url("postgres")).await;
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", replicas: [\"{}\"] }}\n",
            cluster.url("postgres"), replica.url("postgres")
        )).task("snapshot", &task("{ max_replication_lag: 0s, max_slot_retention: 1kB }"));
        copy.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        // It is only asked to, and replays until it has noticed.
        let patience = Patience::until("the replica to pause");
        while !copy.query_one("SELECT pg_get_wal_replay_pause_state() = 'paused'", &[]).await.unwrap().get::<_, bool>(0) {
            patience.pause().await;
        }
        client.batch_execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10000)").await.unwrap();
        // What was written to the log, which may not be on the disk yet.
        let end: String = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
        let patience = Patience::until("the replica to have what it does not replay");
        while !copy.query_one(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'::pg_lsn"), &[]).await.unwrap().get::<_, bool>(0) {
            patience.pause().await;
        }
        let document = run(&workspace);
        let all = found(&document);
        assert!(all.contains(&"replication.lag replica 1".to_owned()) && all.contains(&"replication.slot forgotten".to_owned()), "{document:#}");
        assert!(series(&workspace, "replication.lag_bytes").await["replica 1"] > 0.0);
        // What is suggested helps.
        copy.batch_execute(&suggestion(&document, "replication.lag")).await.unwrap();
        client.batch_execute(&suggestion(&document, "replication.slot")).await.unwrap();
        let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let patience = Patience::until("the replica to catch up");
        while !copy.query_one(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn"), &[]).await.unwrap().get::<_, bool>(0) {
            patience.pause().await;
        }
        let document = run(&workspace);
        assert!(!found(&document).iter().any(|l| l.starts_with("replication.slot")), "{document:#}");
    }
}

for_each_version! {
    /// Who may see little gets what they may see, and a finding.
    async fn an_ordinary_role_is_told_what_it_does_not_see(major: u32) {
        let db = fresh_database(major).await;
        shop(&db).await;
        let role = format!("guest_{}", db.name);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let workspace = workspace(&url, "{}");
        let document = run(&workspace);
        assert!(found(&document).contains(&"privilege.missing pg_monitor".to_owned()), "{document:#}");
        assert!(series(&workspace, "table.bytes").await["public.parents"] > 0.0);
    }
}

for_each_version! {
    /// What writes a view's file anew without what its sources say now is no refresh.
    async fn who_packs_a_view_has_not_refreshed_it(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE source (id int); INSERT INTO source SELECT generate_series(1, 1000);
            CREATE MATERIALIZED VIEW packed AS SELECT id FROM source; CREATE INDEX by_id ON packed (id); CREATE MATERIALIZED VIEW hollow AS SELECT id FROM source WHERE id < 0").await;
        settled(&db.client, "SELECT pg_stat_get_tuples_inserted('source'::regclass) = 1000 AND pg_stat_get_live_tuples('packed'::regclass) = 1000").await;
        let workspace = workspace(&db.url, "{ view_fresh_within: 0s, min_size: 1GB }");
        let stale = || {
            let document = workspace.run(["run", "snapshot", "--now", "--output", "json"]).expect(0).json();
            let findings = document["runs"][0]["findings"].as_array().unwrap().clone();
            let views = findings.into_iter().filter(|f| f["code"] == "view.stale");
            views.map(|f| f["object"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(stale(), [""; 0]);
        db.execute("INSERT INTO source SELECT generate_series(1001, 1500)").await;
        settled(&db.client, "SELECT pg_stat_get_tuples_inserted('source'::regclass) = 1500").await;
        stale();
        assert_eq!(stale(), ["public.hollow", "public.packed"]);
        for packs in ["VACUUM FULL packed", "CLUSTER packed USING by_id"] {
            db.execute(packs).await;
            assert_eq!(stale(), ["public.hollow", "public.packed"], "{packs}");
            assert_eq!(stale(), ["public.hollow", "public.packed"], "{packs}");
        }
        // Also where the view was packed just before, and where there is nothing in it.
        db.execute("VACUUM FULL packed").await;
        db.execute("REFRESH MATERIALIZED VIEW packed").await;
        db.execute("REFRESH MATERIALIZED VIEW hollow").await;
        settled(&db.client, "SELECT pg_stat_get_live_tuples('packed'::regclass) = 1500").await;
        assert_eq!(stale(), [""; 0]);
        assert_eq!(stale(), [""; 0]);
    }
}
