//! Advice that is followed does no harm: what is suggested helps, and what is
//! lost with it is missed by nobody.

use serde_json::Value;
use tokio_postgres::Client;

use super::integrity::found;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, cluster, connect, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

fn workspace(db: &TestDatabase) -> Workspace {
    Workspace::for_target(&db.url)
        .task(
            "snapshot",
            "kind: snapshot\ntarget: app\noptions: { min_size: 1kB }\n",
        )
        .task("integrity", "kind: integrity\ntarget: app\n")
}

fn run(workspace: &Workspace, task: &str) -> Value {
    workspace
        .run(["run", task, "--now", "--output", "json"])
        .json()
}

/// Waits until the server has counted so of this many tables: what is counted late is added to
/// what a vacuum has said.
async fn counted(db: &Client, so: &str, tables: i64) {
    let patience = Patience::until(&format!("{so} of {tables} tables"));
    let sql = format!("SELECT count(*) FROM pg_stat_user_tables WHERE {so}");
    while db.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) < tables {
        patience.pause().await;
    }
}

/// Findings of this code, as `object -> suggestion`.
fn advice(document: &Value, code: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = document["runs"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["code"] == code)
        .map(|f| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            (text(&f["object"]), text(&f["suggestion"]))
        })
        .collect();
    all.sort();
    all
}

/// What the finding about this object says.
fn finding(document: &Value, code: &str, object: &str) -> String {
    let all = document["runs"][0]["findings"].as_array().unwrap();
    let found = all
        .iter()
        .find(|f| f["code"] == code && f["object"] == object);
    found.map_or_else(String::new, |f| f["message"].as_str().unwrap().to_owned())
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// Of two indexes one is superfluous only where nothing but its space goes with it.
    async fn only_what_nobody_misses_is_called_a_duplicate(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, a int, b int, c text, d tsvector, e int); INSERT INTO t SELECT g, g, g, g::text, to_tsvector('simple', g::text), g FROM generate_series(1, 3000) g;
            ALTER TABLE t ADD CONSTRAINT a_deferred UNIQUE (a) DEFERRABLE; CREATE UNIQUE INDEX a_immediate ON t (a);
            CREATE INDEX b_first ON t (b); CREATE INDEX b_clustered ON t (b); ALTER TABLE t CLUSTER ON b_clustered;
            CREATE INDEX c_plain ON t (c); CREATE INDEX c_pattern ON t (c text_pattern_ops); CREATE INDEX c_order ON t (c COLLATE \"C\"); CREATE INDEX c_down ON t (c DESC);
            CREATE INDEX c_part ON t (c) WHERE id > 5; CREATE INDEX c_includes ON t (c) INCLUDE (id); CREATE INDEX c_hash ON t USING hash (c); CREATE UNIQUE INDEX c_unique ON t (c, id);
            CREATE INDEX d_plain ON t USING gist (d); CREATE INDEX d_signed ON t USING gist (d tsvector_ops(siglen = 200));
            CREATE INDEX e_brin ON t USING brin (e); CREATE INDEX e_brin_fine ON t USING brin (e) WITH (pages_per_range = 4);
            CREATE INDEX lower_one ON t (lower(c), id); CREATE INDEX lower_two ON t    (lower(  c ),  id);
            CREATE TABLE identity (id int NOT NULL, v text); INSERT INTO identity SELECT g, g::text FROM generate_series(1, 3000) g;
            CREATE UNIQUE INDEX one ON identity (id); CREATE UNIQUE INDEX two ON identity (id); ALTER TABLE identity REPLICA IDENTITY USING INDEX two;
            CREATE TABLE packed (id int); INSERT INTO packed SELECT generate_series(1, 3000); CREATE INDEX loose ON packed (id) WITH (fillfactor = 50); CREATE INDEX usual ON packed (id);
            CREATE TABLE parent (id int PRIMARY KEY); CREATE UNIQUE INDEX referenced ON parent (id);
            CREATE TABLE p (id int, k int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT; INSERT INTO p SELECT g, g FROM generate_series(1, 3000) g;
            CREATE INDEX p_one ON p (k); CREATE INDEX p_two ON p (k)").await;
        if major >= 15 {
            db.execute("CREATE TABLE n (a int); INSERT INTO n SELECT generate_series(1, 3000); CREATE UNIQUE INDEX n_plain ON n (a); CREATE UNIQUE INDEX n_strict ON n (a) NULLS NOT DISTINCT").await;
        }
        let workspace = workspace(&db);
        let document = run(&workspace, "snapshot");
        assert_eq!(advice(&document, "index.duplicate"), [
            ("public.b_first", "DROP INDEX CONCURRENTLY public.b_first"),
            ("public.loose", "DROP INDEX CONCURRENTLY public.loose"),
            ("public.lower_two", "DROP INDEX CONCURRENTLY public.lower_two"),
            ("public.one", "DROP INDEX CONCURRENTLY public.one"),
            ("public.p_two", "DROP INDEX public.p_two"),
            ("public.referenced", "DROP INDEX CONCURRENTLY public.referenced"),
        ].map(|(object, statement)| (object.to_owned(), statement.to_owned())), "{document:#}");
        assert_eq!(advice(&document, "index.overlapping"), [("public.c_plain".to_owned(), "DROP INDEX CONCURRENTLY public.c_plain".to_owned())]);
        for (_, statement) in advice(&document, "index.duplicate").iter().chain(&advice(&document, "index.overlapping")) {
            db.execute(statement).await;
        }
        // What the names stand for still works.
        db.execute("CLUSTER t; INSERT INTO parent VALUES (1) ON CONFLICT (id) DO NOTHING;
            UPDATE identity SET v = 'x' WHERE id = 5").await;
        let again = run(&workspace, "snapshot");
        assert!(!found(&again).iter().any(|l| l.starts_with("index.duplicate") || l.starts_with("index.overlapping")), "{again:#}");
        // Small ones are not worth it.
        db.execute("CREATE INDEX b_again ON t (b)").await;
        workspace.file("tasks/snapshot.yaml", "kind: snapshot\ntarget: app\noptions: { min_size: 10MB }\n");
        assert_eq!(advice(&run(&workspace, "snapshot"), "index.duplicate"), []);
    }
}

for_oldest_and_newest! {
    /// An index over the rows whose key is given serves a foreign key, and one
    /// that serves it, or makes another superfluous, is not called unused.
    async fn an_index_that_serves_a_foreign_key_is_neither_missing_nor_unused(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 3000); CREATE TABLE two (a int, b int, PRIMARY KEY (a, b)); INSERT INTO two SELECT g, g FROM generate_series(1, 3000) g;
            CREATE TABLE good (id int, \"The Parent\" int REFERENCES parent, x int, y int, FOREIGN KEY (x, y) REFERENCES two); INSERT INTO good SELECT g, g, g, g FROM generate_series(1, 3000) g;
            CREATE INDEX \"good one\" ON good (\"The Parent\") WHERE \"The Parent\" IS NOT NULL; CREATE INDEX good_two ON good (y, x) WHERE x IS NOT NULL AND y IS NOT NULL;
            CREATE TABLE bad (id int, p int REFERENCES parent, q int REFERENCES parent, r int REFERENCES parent, s int REFERENCES parent); INSERT INTO bad SELECT g, g, g, g, g FROM generate_series(1, 3000) g;
            CREATE INDEX ON bad (p) WHERE p > 5; CREATE INDEX ON bad (q) WHERE q IS NULL; CREATE INDEX ON bad (r) WHERE id IS NOT NULL; CREATE INDEX ON bad (s) WHERE (s IS NOT NULL AND id > 1) OR id IS NULL;
            CREATE TABLE idle (id int, k int); INSERT INTO idle SELECT g, g FROM generate_series(1, 3000) g; CREATE INDEX really_idle ON idle (id);
            CREATE INDEX k_one ON idle (k); CREATE INDEX k_two ON idle (k);
            CREATE TABLE local (id int, k int REFERENCES parent) PARTITION BY RANGE (id); CREATE TABLE local_1 PARTITION OF local FOR VALUES FROM (0) TO (2000);
            CREATE TABLE local_2 (k int, id int); ALTER TABLE local ATTACH PARTITION local_2 FOR VALUES FROM (2000) TO (4000); INSERT INTO local SELECT g, g FROM generate_series(1, 3000) g;
            CREATE INDEX good_local_1 ON local_1 (k); CREATE INDEX good_local_2 ON local_2 (k);
            CREATE TABLE above (id int, k int) PARTITION BY RANGE (id); CREATE TABLE above_1 (k int, id int, FOREIGN KEY (k) REFERENCES parent);
            ALTER TABLE above ATTACH PARTITION above_1 FOR VALUES FROM (0) TO (4000); INSERT INTO above SELECT g, g FROM generate_series(1, 3000) g;
            CREATE INDEX good_above ON above (k); CREATE INDEX idle_above ON above (id);
            CREATE TABLE partly (id int, k int REFERENCES parent) PARTITION BY RANGE (id); CREATE TABLE partly_1 PARTITION OF partly FOR VALUES FROM (0) TO (2000);
            CREATE TABLE partly_2 (k int, id int); ALTER TABLE partly ATTACH PARTITION partly_2 FOR VALUES FROM (2000) TO (4000); INSERT INTO partly SELECT g, g FROM generate_series(1, 3000) g;
            CREATE INDEX ON partly_1 (k); CREATE INDEX ON partly_2 (id)").await;
        let workspace = workspace(&db);
        let document = run(&workspace, "snapshot");
        let missing: Vec<String> = advice(&document, "index.missing_foreign_key").into_iter().map(|(o, _)| o).collect();
        // Partitions whose own indexes serve it need none of their parent's; one alone does not do.
        let (bad, partly): (Vec<&String>, Vec<&String>) = missing.iter().partition(|name| name.contains("bad"));
        assert_eq!(bad, ["p", "q", "r", "s"].map(|c| format!("public.bad.bad_{c}_fkey")).iter().collect::<Vec<_>>(), "{document:#}");
        assert_eq!(partly, ["public.partly.partly_k_fkey"], "{document:#}");
        workspace.file("tasks/snapshot.yaml", "kind: snapshot\ntarget: app\noptions: { min_size: 1kB, unused_after: 0s }\n");
        let unused: Vec<String> = advice(&run(&workspace, "snapshot"), "index.unused").into_iter().map(|(o, _)| o).collect();
        assert!(unused.contains(&"public.really_idle".to_owned()), "{unused:?}");
        assert!(unused.contains(&"public.idle_above".to_owned()), "{unused:?}");
        assert!(!unused.iter().any(|i| i.contains("good") || i.contains("k_")), "{unused:?}");
    }
}

for_versions! {
    [pg16 = 16]
    /// A table that autovacuum serves badly gets the setting that helps it, which the server
    /// takes; one whose dead rows somebody still wants to see gets his name instead.
    async fn autovacuum_is_set_from_what_is_seen(major: u32) {
        // On, and not coming during the test.
        let cluster = private_cluster(major, &[("autovacuum_naptime", "1d")]);
        let db = connect(&cluster.url("postgres")).await;
        let fill = "INSERT INTO {t} SELECT g FROM generate_series(1, 35000) g";
        for table in ["off", "rare", "behind", "fine", "held"] {
            db.batch_execute(&format!("CREATE TABLE {table} (id int); {}", fill.replace("{t}", table))).await.unwrap();
        }
        db.batch_execute("ALTER TABLE off SET (autovacuum_enabled = false); ALTER TABLE behind SET (autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0.01);
            ALTER TABLE fine SET (autovacuum_vacuum_threshold = 4000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_limit = '1.5e3')").await.unwrap();
        counted(&db, "n_tup_ins = 35000", 5).await;
        for table in ["off", "rare", "behind", "fine", "held"] {
            db.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
        }
        counted(&db, "vacuum_count = 1 AND analyze_count = 1", 5).await;
        let report = connect(&cluster.url("postgres")).await;
        report.batch_execute("SET application_name = 'the old report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        for table in ["rare", "behind", "fine"] {
            db.batch_execute(&format!("DELETE FROM {table} WHERE id <= 5000")).await.unwrap();
        }
        db.batch_execute("DELETE FROM held WHERE id <= 30000").await.unwrap();
        counted(&db, "n_tup_del > 0", 4).await;
        // In vain, and known to be.
        db.batch_execute("VACUUM held").await.unwrap();
        counted(&db, "vacuum_count = 2", 1).await;
        let workspace = Workspace::for_target(&cluster.url("postgres")).task("snapshot", "kind: snapshot\ntarget: app\noptions: { min_dead_rows: 1000 }\n");
        // That it does not keep up is not seen at one moment, since it may be about to come.
        let first = run(&workspace, "snapshot");
        assert_eq!(advice(&first, "autovacuum.behind"), [], "{first:#}");
        let store = maint::history::open(&format!("sqlite:{}", workspace.history().display())).await.unwrap();
        let long_ago = maint::plan::Memory {
            key: "behind".to_owned(),
            value: serde_json::json!({ "public.behind": chrono::Utc::now() - chrono::TimeDelta::days(2) }),
        };
        store.remember("app", "snapshot", chrono::Utc::now(), &[long_ago]).await.unwrap();
        store.close().await;
        let document = run(&workspace, "snapshot");
        let of = |code: &str| advice(&document, code);
        assert_eq!(of("autovacuum.disabled"), [("public.off".to_owned(), "ALTER TABLE public.off RESET (autovacuum_enabled)".to_owned())], "{document:#}");
        let rare = "ALTER TABLE public.rare SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000)";
        assert_eq!(of("autovacuum.rare"), [("public.rare".to_owned(), rare.to_owned())], "{document:#}");
        let behind = "ALTER TABLE public.behind SET (autovacuum_vacuum_cost_limit = 1000)";
        assert_eq!(of("autovacuum.behind"), [("public.behind".to_owned(), behind.to_owned())], "{document:#}");
        let held = of("table.dead_rows");
        assert_eq!(held.len(), 1, "{document:#}");
        assert!(held[0].0 == "public.held" && held[0].1.contains("pg_terminate_backend"), "{held:?}");
        assert!(document.to_string().contains("can remove none of them while session") && document.to_string().contains("the old report"), "{document:#}");
        // In one file, to be read; then nothing of it is left to be said.
        let sql = workspace.run(["advise"]).expect(0).stdout;
        for statement in ["ALTER TABLE public.off RESET (autovacuum_enabled);", &format!("{rare};"), &format!("{behind};")] {
            assert!(sql.lines().any(|line| line == statement), "{sql}");
        }
        advice_becomes_a_saved_plan(&workspace, &[rare, behind]);
        let settings = "SELECT count(*) FROM pg_class WHERE relname IN ('off', 'rare', 'behind') AND reloptions::text LIKE '%autovacuum_vacuum_%' OR relname = 'off' AND reloptions IS NULL";
        assert_eq!(db.query_one(settings, &[]).await.unwrap().get::<_, i64>(0), 3);
        report.batch_execute("COMMIT").await.unwrap();
        for table in ["rare", "behind", "held"] {
            db.batch_execute(&format!("VACUUM {table}")).await.unwrap();
        }
        counted(&db, "relname IN ('rare', 'behind', 'held') AND n_dead_tup = 0", 3).await;
        let again = run(&workspace, "snapshot");
        assert!(!found(&again).iter().any(|line| line.starts_with("autovacuum") || line.starts_with("table.dead")), "{again:#}");
    }
}

/// A file that a person can read, a plan that can be approved, and nothing done unasked; what ends
/// sessions is in none of them.
fn advice_becomes_a_saved_plan(workspace: &Workspace, statements: &[&str]) {
    let none = workspace
        .run(["plan", "--from-advice", "--target", "nowhere"])
        .expect(2);
    assert!(none.stderr.contains("`nowhere`"), "{none:?}");
    let saved = workspace
        .run(["plan", "--from-advice", "--save", "advice.json"])
        .expect(0);
    let text = std::fs::read_to_string(workspace.path().join("tasks/advice-app.yaml")).unwrap();
    let count = text.matches("  sql: ").count();
    assert!(count >= 3, "{text}");
    let steps = format!("{count} steps of 1 plan");
    assert!(saved.stdout.contains(&steps), "{saved:?}");
    let written = format!("tasks/advice-app.yaml: {count} statements");
    assert!(saved.stderr.contains(&written), "{saved:?}");
    assert!(saved.stderr.contains("left to people"), "{saved:?}");
    assert!(
        text.contains("enabled: false") && !text.contains("pg_terminate_backend"),
        "{text}"
    );
    assert!(
        text.contains("# ") && statements.iter().all(|sql| text.contains(sql)),
        "{text}"
    );
    workspace.run(["check"]).expect(0);
    let again = workspace.run(["plan", "--from-advice"]).expect(2);
    assert!(
        again.stderr.contains("advice-app.yaml is there already"),
        "{again:?}"
    );
    workspace.run(["plan", "--check", "advice.json"]).expect(0);
    let done = workspace
        .run(["run", "--plan", "advice.json", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(done["runs"][0]["status"], "succeeded", "{done:#}");
    assert_eq!(
        done["runs"][0]["steps"].as_array().unwrap().len(),
        count,
        "{done:#}"
    );
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// An invalid index of a partitioned table gets the statement that makes it valid.
    async fn an_invalid_index_of_a_partitioned_table_is_mended_by_what_is_suggested(major: u32) {
        let db = fresh_database(major).await;
        for table in ["whole", "broken", "partly"] {
            db.execute(&format!("CREATE TABLE {table} (id int, k int) PARTITION BY RANGE (id); CREATE TABLE {table}_1 PARTITION OF {table} FOR VALUES FROM (0) TO (10);
                CREATE TABLE {table}_2 PARTITION OF {table} FOR VALUES FROM (10) TO (20); INSERT INTO {table} SELECT g, g / 2 FROM generate_series(0, 19) g;
                CREATE INDEX {table}_k ON ONLY {table} (k); CREATE INDEX {table}_1_k ON {table}_1 (k); ALTER INDEX {table}_k ATTACH PARTITION {table}_1_k")).await;
        }
        db.execute("ALTER TABLE whole DETACH PARTITION whole_2").await;
        // A concurrent build that fails leaves an invalid part.
        db.execute("CREATE INDEX broken_2_k ON broken_2 (k); ALTER INDEX broken_k ATTACH PARTITION broken_2_k;
            UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('broken_2_k'::regclass, 'broken_k'::regclass)").await;
        let workspace = workspace(&db);
        let document = run(&workspace, "integrity");
        let all = advice(&document, "index.invalid");
        assert_eq!(all.iter().map(|(o, _)| o.as_str()).collect::<Vec<_>>(), ["public.broken_2_k", "public.broken_k", "public.partly_k", "public.whole_k"], "{document:#}");
        for (object, statements) in &all {
            for statement in statements.split("; ").filter(|s| !s.is_empty()) {
                db.execute(statement).await;
            }
            assert_eq!(statements.is_empty(), object == "public.partly_k", "{object}: {statements}");
        }
        let left = advice(&run(&workspace, "integrity"), "index.invalid");
        assert_eq!(left.iter().map(|(o, _)| o.as_str()).collect::<Vec<_>>(), ["public.partly_k"]);
        assert!(document.to_string().contains("public.partly_2 has no part of it"), "{document:#}");
        // Nothing can be built concurrently on what has partitions itself; what is told instead works.
        db.execute("CREATE TABLE nested (id int, k int) PARTITION BY RANGE (id); CREATE TABLE nested_1 PARTITION OF nested FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
            CREATE TABLE nested_1a PARTITION OF nested_1 FOR VALUES FROM (0) TO (5); CREATE INDEX nested_k ON ONLY nested (k)").await;
        let nested = run(&workspace, "integrity");
        let told = finding(&nested, "index.invalid", "public.nested_k");
        assert!(told.contains("nothing can be built CONCURRENTLY") && told.contains("CREATE INDEX … ON ONLY public.nested_1,"), "{told}");
        for statement in ["CREATE INDEX CONCURRENTLY nested_1a_k ON nested_1a (k)", "CREATE INDEX nested_1_k ON ONLY nested_1 (k)",
            "ALTER INDEX nested_1_k ATTACH PARTITION nested_1a_k", "ALTER INDEX nested_k ATTACH PARTITION nested_1_k"] {
            db.execute(statement).await;
        }
        assert_eq!(finding(&run(&workspace, "integrity"), "index.invalid", "public.nested_k"), "");
    }
}

for_each_version! {
    /// What a failed rebuild left is dropped: rebuilt, it would be a second index for ever.
    async fn the_remains_of_a_rebuild_are_dropped_not_rebuilt(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (a int); CREATE INDEX t_a ON t (a); CREATE INDEX t_a_ccnew ON t (a); CREATE INDEX t_a_ccold1 ON t (a); CREATE INDEX built ON t (a DESC);
            UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('t_a_ccnew'::regclass, 't_a_ccold1'::regclass, 'built'::regclass)").await;
        let workspace = workspace(&db);
        let all = advice(&run(&workspace, "integrity"), "index.invalid");
        let of = |object: &str, help: &str| (object.to_owned(), help.to_owned());
        assert_eq!(all, [of("public.built", "REINDEX INDEX CONCURRENTLY public.built"),
            of("public.t_a_ccnew", "DROP INDEX CONCURRENTLY public.t_a_ccnew"), of("public.t_a_ccold1", "DROP INDEX CONCURRENTLY public.t_a_ccold1")]);
        let sql = workspace.run(["advise"]).expect(0).stdout;
        assert!(sql.contains("\n-- DROP INDEX CONCURRENTLY public.t_a_ccnew") && sql.contains("\nREINDEX INDEX CONCURRENTLY public.built;"), "{sql}");
    }
}

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    /// When what is suggested has been done, a sequence has numbers again.
    async fn what_is_suggested_gives_a_sequence_more_numbers(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE plain (id serial PRIMARY KEY, v int); SELECT setval('plain_id_seq', 2147483646);
            CREATE TABLE small (id smallserial, v int); ALTER TABLE small ALTER COLUMN id TYPE int; SELECT setval('small_id_seq', 32767);
            CREATE TABLE identity (id int GENERATED ALWAYS AS IDENTITY, v int); SELECT setval('identity_id_seq', 2147483646);
            CREATE TABLE wide (id bigint, v int); CREATE SEQUENCE limited AS bigint MAXVALUE 100; ALTER SEQUENCE limited OWNED BY wide.id; ALTER TABLE wide ALTER id SET DEFAULT nextval('limited'); SELECT setval('limited', 100);
            CREATE SEQUENCE alone AS int MAXVALUE 1000; SELECT setval('alone', 999);
            CREATE SEQUENCE \"Down; wards\" AS int INCREMENT -1 MINVALUE -1000 MAXVALUE -1; SELECT setval('\"Down; wards\"', -999);
            CREATE TABLE parted (id serial, k int) PARTITION BY LIST (k); CREATE TABLE parted_1 PARTITION OF parted DEFAULT; SELECT setval('parted_id_seq', 2147483646);
            CREATE TABLE shown (id serial PRIMARY KEY); CREATE TABLE refers (shown_id int REFERENCES shown); SELECT setval('shown_id_seq', 2147483646); CREATE VIEW above AS SELECT id FROM shown").await;
        let workspace = workspace(&db);
        let document = run(&workspace, "integrity");
        let all = advice(&document, "sequence.near_end");
        assert_eq!(all.iter().map(|(o, _)| o.as_str()).collect::<Vec<_>>(),
            ["public.\"Down; wards\"", "public.alone", "public.identity.id", "public.parted.id", "public.plain.id", "public.shown.id", "public.small.id", "public.wide.id"], "{document:#}");
        // What stands in the way is named, and what refers to the column goes along.
        assert!(finding(&document, "sequence.near_end", "public.shown.id").contains("drop public.above before"), "{document:#}");
        // What writes a table anew stands in the file of all advice, but is not run with it.
        let sql = workspace.run(["advise"]).expect(0).stdout;
        for statement in ["ALTER TABLE public.plain ALTER COLUMN id TYPE bigint", "ALTER TABLE public.shown ALTER COLUMN id TYPE bigint"] {
            let mut lines = sql.lines().skip_while(|line| !line.contains("blocks everybody who reads"));
            assert!(lines.any(|line| line.starts_with(&format!("-- {statement}"))), "{sql}");
            assert!(!sql.lines().any(|line| line.starts_with(statement)), "{sql}");
        }
        db.execute("DROP VIEW above").await;
        for (object, statements) in &all {
            assert!(!statements.is_empty(), "{object}: {document:#}");
            db.execute(statements).await;
        }
        assert_eq!(advice(&run(&workspace, "integrity"), "sequence.near_end"), []);
        db.execute("INSERT INTO shown VALUES (2147483648); INSERT INTO refers VALUES (2147483648)").await;
        for _ in 0..3 {
            db.execute("INSERT INTO plain (v) VALUES (1); INSERT INTO small (v) VALUES (1); INSERT INTO identity (v) VALUES (1); INSERT INTO wide (v) VALUES (1);
                INSERT INTO parted (k) VALUES (1); SELECT nextval('alone'), nextval('\"Down; wards\"')").await;
        }
    }
}

for_oldest_and_newest! {
    /// What is suggested against an open transaction ends that one and no other.
    async fn a_process_id_is_ended_only_while_it_is_the_same(major: u32) {
        let db = fresh_database(major).await;
        let other = db.connect().await;
        other.batch_execute("BEGIN; SELECT 1").await.unwrap();
        let workspace = workspace(&db);
        workspace.file("tasks/snapshot.yaml", "kind: snapshot\ntarget: app\noptions: { max_transaction: 0s }\n");
        let document = run(&workspace, "snapshot");
        let all = advice(&document, "transaction.long");
        assert_eq!(all.len(), 1, "{document:#}");
        assert!(all[0].1.contains("backend_start"), "{all:?}");
        // The session has gone on to something else.
        other.batch_execute("COMMIT; BEGIN; SELECT 2").await.unwrap();
        assert_eq!(db.client.query(&all[0].1, &[]).await.unwrap().len(), 0);
        let again = advice(&run(&workspace, "snapshot"), "transaction.long");
        assert_eq!(db.client.query(&again[0].1, &[]).await.unwrap().len(), 1, "{again:?}");
    }
}

for_each_version! {
    /// Whoever asks for little is told everything that is missing at once, by name.
    async fn one_grant_is_enough_for_amcheck(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("little_{}", db.name);
        db.execute(&format!("CREATE SCHEMA tools; CREATE EXTENSION amcheck SCHEMA tools; CREATE SCHEMA app; CREATE TABLE app.t (id serial PRIMARY KEY CHECK (id > 0)); INSERT INTO app.t DEFAULT VALUES;
            CREATE MATERIALIZED VIEW app.never AS SELECT 1 AS one WITH NO DATA; CREATE UNIQUE INDEX ON app.never (one);
            CREATE ROLE {role} LOGIN PASSWORD 'x'")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let workspace = Workspace::for_target(&url).task("integrity", "kind: integrity\ntarget: app\noptions: { amcheck: full, recheck_after: 0s, parent_check: true }\n");
        for statements in advice(&run(&workspace, "integrity"), "privilege.missing") {
            assert!(!statements.1.contains("pg_read_all_data"), "{statements:?}");
            db.execute(&statements.1).await;
        }
        let document = run(&workspace, "integrity");
        assert_eq!(advice(&document, "privilege.missing"), [], "{document:#}");
        let run = &document["runs"][0];
        assert_eq!(run["status"], "succeeded", "{document:#}");
        assert!(run["steps"].as_array().unwrap().iter().any(|s| s["action"] == "check_table" && s["object"] == "app.t"), "{document:#}");
        assert!(!run["steps"].as_array().unwrap().iter().any(|s| s["object"].as_str().unwrap().contains("never")), "{document:#}");
    }
}

for_oldest_and_newest! {
    /// Statistics of an index are of what the index stores, not of its column:
    /// words under a column of whole numbers stop nobody.
    async fn an_index_that_stores_something_else_stops_no_look(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pg_trgm; CREATE TABLE tags (id int PRIMARY KEY, name text); INSERT INTO tags SELECT g, 'name' || g FROM generate_series(1, 2000) g;
            CREATE INDEX ON tags USING gin (lower(name) gin_trgm_ops); CREATE INDEX ON tags USING gist (lower(name) gist_trgm_ops); CREATE INDEX ON tags USING hash (lower(name));
            CREATE INDEX ON tags USING spgist (lower(name)); CREATE INDEX ON tags USING brin (lower(name)); ANALYZE tags").await;
        let workspace = workspace(&db);
        let document = run(&workspace, "integrity");
        assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
    }
}

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    /// maint's own statements are not the application's.
    async fn what_maint_asks_is_not_called_slow(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id int PRIMARY KEY CHECK (id > 0)); INSERT INTO t SELECT generate_series(1, 1000)").await;
        let workspace = workspace(&db);
        workspace.file("tasks/snapshot.yaml", "kind: snapshot\ntarget: app\noptions: { max_statement_mean: 0s, min_calls: 1 }\n");
        workspace.file("tasks/integrity.yaml", "kind: integrity\ntarget: app\noptions: { recheck_after: 0s }\n");
        for task in ["integrity", "snapshot", "integrity"] {
            run(&workspace, task);
        }
        db.execute("SELECT count(*) AS of_the_application FROM t").await;
        let document = run(&workspace, "snapshot");
        let slow: Vec<String> = advice(&document, "statement.slow").into_iter().map(|(o, _)| o).collect();
        assert!(slow.iter().any(|o| o.contains("of_the_application")), "{document:#}");
        let kept = db.strings("SELECT query FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query !~ '/[*] maint [*]/\\s*$'").await;
        let ours = kept.iter().filter(|q| q.contains("pg_catalog.pg_class c JOIN") || q.contains("FROM ONLY public.t")).count();
        assert_eq!(ours, 0, "{kept:#?}");
    }
}

for_oldest_and_newest! {
    /// Who looks at a part of a task by hand does not make advice about the rest vanish; who
    /// looks closer does not look at less.
    async fn advice_outlives_a_run_over_a_part(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE a (id int); CREATE TABLE b (id int); INSERT INTO a SELECT generate_series(1, 3000); INSERT INTO b SELECT generate_series(1, 3000);
            CREATE INDEX a_one ON a (id); CREATE INDEX a_two ON a (id); CREATE INDEX b_one ON b (id); CREATE INDEX b_two ON b (id)").await;
        let workspace = workspace(&db);
        let drop_of = |table: &str| {
            let advice = workspace.run(["advise"]).expect(0).stdout;
            advice.contains(&format!("DROP INDEX CONCURRENTLY public.{table}_two"))
        };
        let part = |settings: &[&str]| {
            let arguments = ["run", "snapshot", "--now", "--output", "json"];
            let document = workspace.run(arguments.iter().chain(settings)).expect(0).json();
            document["runs"][0]["part"].clone()
        };
        assert_eq!(part(&[]), Value::Null);
        assert!(drop_of("a") && drop_of("b"));
        db.execute("DROP INDEX a_two").await;
        assert_eq!(part(&["--set", "include=[public.a*]"]), "--set include=[public.a*]");
        assert!(drop_of("b"), "b was not looked at");
        assert_eq!(part(&["--set", "min_size=1GB", "--set", "top=10"]), "--set min_size=1GB");
        assert!(drop_of("b"), "b was too small for this once");
        let shown = workspace.run(["show", "last"]).expect(0).stdout;
        assert!(shown.contains("--set min_size=1GB"), "{shown}");
        // What is new is told, too.
        db.execute("CREATE INDEX a_two ON a (id)").await;
        part(&["--set", "include=[public.a*]"]);
        assert!(drop_of("a") && drop_of("b"));
        db.execute("DROP INDEX a_two; DROP INDEX b_two").await;
        assert_eq!(part(&["--set", "min_size=0kB"]), Value::Null);
        assert!(!drop_of("a") && !drop_of("b"), "all of it was looked at");
    }
}

for_versions! {
    [pg16 = 16]
    /// One index serves all foreign keys whose columns it begins with: it is asked for once, and made once.
    async fn one_index_is_enough_for_several_keys(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE q (a int, b int, PRIMARY KEY (a, b)); INSERT INTO p SELECT generate_series(1, 100); INSERT INTO q SELECT n, n FROM generate_series(1, 100) n;
            CREATE TABLE t (x int REFERENCES p, y int REFERENCES p, pad text DEFAULT repeat('x', 500), FOREIGN KEY (x) REFERENCES p, FOREIGN KEY (x, y) REFERENCES q);
            INSERT INTO t SELECT 1 + n % 100, 1 + n % 100 FROM generate_series(1, 5000) n; ANALYZE").await;
        let workspace = Workspace::for_target(&db.url).task("snapshot", "kind: snapshot\ntarget: app\noptions: { min_size: 8kB }\n");
        workspace.run(["run", "snapshot", "--now"]).expect(0);
        let sql = workspace.run(["advise"]).expect(0).stdout;
        let made: Vec<&str> = sql.lines().filter(|line| line.starts_with("CREATE INDEX")).collect();
        assert_eq!(made, ["CREATE INDEX CONCURRENTLY ON public.t (x, y);", "CREATE INDEX CONCURRENTLY ON public.t (y);"], "{sql}");
        assert_eq!(sql.matches("index.missing_foreign_key").count(), 4, "{sql}");
        for one in made {
            db.execute(one).await;
        }
        workspace.run(["run", "snapshot", "--now"]).expect(0);
        let sql = workspace.run(["advise"]).expect(0).stdout;
        assert!(!sql.contains("index."), "{sql}");
    }
}
