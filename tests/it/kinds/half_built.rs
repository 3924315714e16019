//! What concurrent rebuilds leave behind, and what only looks like it.

use serde_json::Value;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(url: &str) -> Workspace {
    let task = |kind: &str| format!("kind: {kind}\ntarget: app\n");
    let workspace = Workspace::for_target(url).task("reindex", &task("reindex"));
    workspace.task("integrity", &task("integrity"))
}

fn run(workspace: &Workspace, task: &str) -> Value {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    output.expect(0).json()["runs"][0].clone()
}

/// The indexes that a run has rebuilt.
fn succeeded(run: &Value) -> Vec<&str> {
    let steps = run["steps"].as_array().unwrap().iter();
    let done = steps.filter(|s| s["action"] == "reindex" && s["status"] == "succeeded");
    done.map(|s| s["object"].as_str().unwrap()).collect()
}

/// Message and suggestion of what is said of an invalid index.
fn told(run: &Value, index: &str) -> (String, String) {
    let all = run["findings"].as_array().unwrap();
    let one = all
        .iter()
        .find(|f| f["code"] == "index.invalid" && f["object"] == index);
    let one = one.unwrap_or_else(|| panic!("nothing of {index}: {run:#}"));
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    (text("message"), text("suggestion"))
}

async fn invalid(db: &TestDatabase) -> Vec<String> {
    db.strings("SELECT x.relname::text FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE NOT i.indisvalid ORDER BY 1").await
}

/// A statement that fails, as the build of an index over keys that are there twice does.
async fn fails(db: &TestDatabase, sql: &str) {
    let failed = db.connect().await.batch_execute(sql).await;
    assert!(failed.is_err(), "{sql}");
}

for_oldest_and_newest! {
    /// An index that is to keep keys apart is no leftover of one that is not, and both kinds say so.
    async fn a_unique_index_is_no_leftover_of_another(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, v int); INSERT INTO t SELECT n % 50, n FROM generate_series(1, 100) n; CREATE INDEX t_id ON t (id); ANALYZE t").await;
        fails(&db, "CREATE UNIQUE INDEX CONCURRENTLY t_id_ccnew ON t (id)").await;
        assert_eq!(invalid(&db).await, ["t_id_ccnew"]);
        let workspace = workspace(&db.url);
        for task in ["reindex", "integrity", "reindex"] {
            let run = run(&workspace, task);
            let (message, suggestion) = told(&run, "public.t_id_ccnew");
            assert!(message.contains("Keys that are there twice") && !message.contains("removes it"), "{message}");
            assert_eq!(suggestion, "");
            assert_eq!(invalid(&db).await, ["t_id_ccnew"]);
        }
        // What was the reason is mended, and then the index is.
        db.execute("DELETE FROM t WHERE v > 50").await;
        db.execute("REINDEX INDEX CONCURRENTLY t_id_ccnew").await;
        assert_eq!(invalid(&db).await, [""; 0]);
    }
}

for_oldest_and_newest! {
    /// A rebuild of an index that is invalid itself leaves another one, which goes; the first stays.
    async fn a_rebuild_of_an_invalid_index_leaves_one_that_goes(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, v int); INSERT INTO t SELECT n % 50, n FROM generate_series(1, 100) n; ANALYZE t").await;
        fails(&db, "CREATE UNIQUE INDEX CONCURRENTLY u ON t (id)").await;
        fails(&db, "REINDEX INDEX CONCURRENTLY u").await;
        fails(&db, "REINDEX INDEX CONCURRENTLY u_ccnew").await;
        assert_eq!(invalid(&db).await, ["u", "u_ccnew", "u_ccnew_ccnew"]);
        let workspace = workspace(&db.url);
        let (message, suggestion) = told(&run(&workspace, "integrity"), "public.u_ccnew");
        assert!(message.contains("`maint run reindex` removes it"), "{message}");
        assert_eq!(suggestion, "DROP INDEX CONCURRENTLY public.u_ccnew");
        let done = run(&workspace, "reindex");
        assert_eq!(done["steps"].as_array().unwrap().len(), 2, "{done:#}");
        assert_eq!(invalid(&db).await, ["u"]);
        let again = run(&workspace, "reindex");
        assert_eq!(again["steps"].as_array().unwrap().len(), 0, "{again:#}");
        assert!(told(&again, "public.u").0.contains("Keys that are there twice"));
    }
}

for_versions! {
    [pg15 = 15]
    /// What an attempt left, and cannot remove while a transaction is open, is left once, not as
    /// often as there are attempts; afterwards it goes, and the index is rebuilt.
    async fn what_cannot_be_removed_is_left_once(major: u32) {
        let cluster = crate::support::servers::private_cluster(major, &[("max_prepared_transactions", "2"), ("autovacuum", "off")]);
        let client = crate::support::servers::connect(&cluster.url("postgres")).await;
        client.batch_execute("CREATE TABLE t (id int, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 40000) n;
            CREATE INDEX t_id ON t (id); CREATE INDEX t_v ON t (v); CREATE INDEX t_both ON t (id, v); DELETE FROM t WHERE id % 10 <> 0;
            CREATE TABLE other AS SELECT n AS id FROM generate_series(1, 40000) n; CREATE INDEX other_id ON other (id); DELETE FROM other WHERE id % 10 <> 0").await.unwrap();
        client.batch_execute("VACUUM ANALYZE t").await.unwrap();
        client.batch_execute("VACUUM ANALYZE other").await.unwrap();
        client.batch_execute("BEGIN; UPDATE t SET v = 'x' WHERE id = 10; PREPARE TRANSACTION 'forgotten'").await.unwrap();
        let workspace = Workspace::for_target(&cluster.url("postgres")).task("reindex",
            "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 20% }\nlimits: { transaction_wait: 500ms, lock_timeout: 500ms, lock_retries: 4, max_transaction_age: 1h }\n");
        let output = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        let first = output.json()["runs"][0].clone();
        let on_t = first["steps"].as_array().unwrap().iter().filter(|s| s["object"].as_str().unwrap().starts_with("public.t_"));
        let (tried, others): (Vec<_>, Vec<_>) = on_t.partition(|s| s["attempts"] != 0);
        assert_eq!((tried.len(), others.len()), (1, 2), "{first:#}");
        let tried_step = tried[0];
        let (tried, said) = (tried_step["object"].as_str().unwrap(), tried_step["error"].as_str().unwrap());
        assert!(said.contains(&format!("not tried again in this run: {tried}_ccnew was left behind")), "{said}");
assert_eq!(tried_step["attempts"], 1, "{first:#}");
        // No other index of the table gets a copy that nobody can remove; other tables are not concerned.
        let why = format!("not begun, as it might leave something half built here: reindex of {tried} did, and it could not be removed yet");
        for other in others {
            assert_eq!((&other["status"], &other["error"], &other["kept_by"]), (&"deferred".into(), &why.as_str().into(), &"sessions".into()));
        }
        assert_eq!(succeeded(&first), ["public.other_id"]);
        let left = "SELECT count(*) FROM pg_class WHERE relname ~ '_ccnew'";
        assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 1);
        client.batch_execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
        let next = run(&workspace, "reindex");
        assert_eq!(next["status"], "succeeded", "{next:#}");
        assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
        assert_eq!(succeeded(&next).len(), 3, "{next:#}");
    }
}

/// Who may rebuild an index may not drop it: that is told, with the statement for its owner, and
/// is no failure of every night.
#[tokio::test]
async fn who_may_only_maintain_tells_what_its_owner_has_to_drop() {
    for major in [17, 18] {
        let db = fresh_database(major).await;
        let role = format!("keeper_{}", db.name);
        db.execute(&format!("CREATE TABLE t (id int, v int); INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n;
            CREATE INDEX t_id ON t (id); CREATE INDEX t_id_ccnew ON t (id); ANALYZE t;
            UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_id_ccnew'::regclass;
            CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT, MAINTAIN ON t TO {role}")).await;
        let mut url: url::Url = db.url.parse().unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("x")).unwrap();
        let workspace = workspace(url.as_str());
        for _ in 0..2 {
            let run = run(&workspace, "reindex");
            assert_eq!(run["status"], "succeeded", "{run:#}");
            // Bloated as it is, it is not rebuilt beside what is left of the last time.
            assert_eq!(run["steps"].as_array().unwrap().len(), 0, "{run:#}");
            let (message, suggestion) = told(&run, "public.t_id_ccnew");
            assert!(
                message.contains("Only its owner may drop it")
                    && message.contains("MAINTAIN does not suffice"),
                "{message}"
            );
            assert_eq!(suggestion, "DROP INDEX CONCURRENTLY public.t_id_ccnew");
            assert_eq!(invalid(&db).await, ["t_id_ccnew"]);
        }
        db.execute("DROP INDEX CONCURRENTLY public.t_id_ccnew")
            .await;
        let run = run(&workspace, "reindex");
        assert!(
            !run["findings"].to_string().contains("index.invalid"),
            "{run:#}"
        );
        db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
    }
}

for_oldest_and_newest! {
    /// Rebuilt, what a build left that was begun again under another name would be there twice.
    async fn a_twin_of_a_valid_one_is_dropped_not_rebuilt(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, v int); INSERT INTO t SELECT n % 50, n FROM generate_series(1, 100) n; ANALYZE t").await;
        fails(&db, "CREATE UNIQUE INDEX CONCURRENTLY first ON t (id)").await;
        fails(&db, "CREATE UNIQUE INDEX CONCURRENTLY alone ON t (id, (v / 1000))").await;
        db.execute("DELETE FROM t WHERE v > 50").await;
        db.execute("CREATE UNIQUE INDEX second ON t (id)").await;
        assert_eq!(invalid(&db).await, ["alone", "first"]);
        let workspace = workspace(&db.url);
        for task in ["reindex", "integrity"] {
            let run = run(&workspace, task);
            let (message, suggestion) = told(&run, "public.first");
            assert!(message.contains("public.second is defined alike, and valid"), "{message}");
            assert_eq!(suggestion, "DROP INDEX CONCURRENTLY public.first");
            let (message, suggestion) = told(&run, "public.alone");
            assert!(message.contains("Keys that are there twice"), "{message}");
            assert_eq!(suggestion, "");
        }
        db.execute("DROP INDEX CONCURRENTLY first").await;
        assert_eq!(invalid(&db).await, ["alone"]);
    }
}

for_versions! {
    [pg16 = 16]
    /// Whoever reads the table for long keeps what a rebuild has left from being dropped: until it is, no
    /// night makes one more.
    async fn what_cannot_be_dropped_gets_no_company(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, n FROM generate_series(1, 60000) n;
            CREATE INDEX t_v ON t (v); DELETE FROM t WHERE id % 10 > 0").await;
        db.execute("VACUUM t").await;
        db.execute("ANALYZE t").await;
        let workspace = Workspace::for_target(&db.url).task(
            "reindex",
            "kind: reindex\ntarget: app\noptions: { min_size: 0kB }\nlimits: { lock_timeout: 200ms, lock_retries: 1, transaction_wait: 1s }\n",
        );
        let reader = db.connect().await;
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await.unwrap();
        let night = || workspace.run(["run", "reindex", "--now", "--output", "json"]).json()["runs"][0].clone();
        night();
        let left = invalid(&db).await;
        assert!(left.iter().any(|name| name.ends_with("_ccnew")), "{left:?}");
        for n in 1..=2 {
            let run = night();
            assert_eq!(invalid(&db).await, left, "night {n}: {run:#}");
            assert_ne!(run["status"], "succeeded", "{run:#}");
        }
        reader.batch_execute("COMMIT").await.unwrap();
        let run = night();
        assert_eq!((&run["status"], invalid(&db).await.len()), (&serde_json::json!("succeeded"), 0), "{run:#}");
        let rebuilt = run["steps"].as_array().unwrap().iter().filter(|s| s["action"] == "reindex").count();
        assert_eq!(rebuilt, 2, "{run:#}");
    }
}

for_oldest_and_newest! {
    /// Keys that are there twice in spite of a unique index keep it from being built again: what that says of the
    /// database is a finding, and no value of a row.
    async fn keys_that_are_there_twice_are_found_by_a_rebuild(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, v text); CREATE UNIQUE INDEX t_v ON t (v);
            INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n; DELETE FROM t WHERE id % 10 > 0;
            UPDATE pg_index SET indisready = false WHERE indexrelid = 't_v'::regclass; INSERT INTO t SELECT n + 1, md5(n::text) FROM generate_series(10, 30, 10) n;
            UPDATE pg_index SET indisready = true WHERE indexrelid = 't_v'::regclass").await;
        db.execute("VACUUM ANALYZE t").await;
        let workspace = Workspace::for_target(&db.url).task(
            "reindex",
            "kind: reindex\ntarget: app\noptions: { min_size: 8kB, min_bloat: 0% }\n",
        );
        let output = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        let run = output.expect(1).json()["runs"][0].clone();
        let findings = run["findings"].as_array().unwrap();
        let found: Vec<_> = findings.iter().filter(|f| f["code"] == "index.duplicate_keys").collect();
        assert_eq!(found.len(), 1, "{run:#}");
        assert_eq!((&found[0]["object"], &found[0]["severity"]), (&"public.t_v".into(), &"critical".into()));
        for n in [10, 20, 30] {
            let key = db.strings(&format!("SELECT md5('{n}')")).await;
            assert!(!run.to_string().contains(&key[0]), "{run:#}");
        }
        assert_eq!(invalid(&db).await, [""; 0]);
        // Rows that are moved meet them as well.
        let repack = Workspace::for_target(&db.url).task(
            "repack",
            "kind: repack\ntarget: app\noptions: { min_size: 8kB, min_bloat: 1%, way: move }\n",
        );
        let run = repack.run(["run", "repack", "--now", "--output", "json"]).expect(1).json()["runs"][0].clone();
        let findings = run["findings"].as_array().unwrap();
        let found = findings.iter().find(|f| f["code"] == "index.duplicate_keys");
        assert_eq!(found.unwrap_or_else(|| panic!("{run:#}"))["object"], "public.t");
        db.execute("DELETE FROM t WHERE id % 10 = 1").await;
        let output = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        let run = output.expect(0).json()["runs"][0].clone();
        assert_eq!((&run["status"], &run["findings"]), (&"succeeded".into(), &serde_json::json!([])), "{run:#}");
    }
}
