//! Repack: tables shrink while others write, no row is lost or doubled, no
//! trigger fires, and what cannot be done is refused by name.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::Client;
use url::Url;

use super::{finding, objects};
use crate::support::servers::{TestDatabase, connect, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(url: &str, options: &str) -> Workspace {
    Workspace::for_target(url).task(
        "repack",
        &format!("kind: repack\ntarget: app\noptions: {{ {options} }}\nlimits: {{ transaction_wait: 30s }}\n"),
    )
}

const SMALL: &str = "min_size: 100kB";

fn run(workspace: &Workspace, code: i32) -> Value {
    workspace
        .run(["run", "repack", "--now", "--output", "json"])
        .expect(code)
        .json()
}

fn plan(workspace: &Workspace) -> Value {
    let document = workspace
        .run(["plan", "repack", "--output", "json"])
        .expect(0)
        .json();
    document["plans"][0]["plan"].clone()
}

/// A table that has lost most of its rows at random, with three indexes, a
/// foreign key each way, and triggers that tell who writes.
pub(super) async fn damaged(db: &TestDatabase, rows: u32) {
    db.execute(&format!(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 9);
         CREATE TABLE t (id bigint PRIMARY KEY, parent int NOT NULL REFERENCES parent, gone text, n int NOT NULL,
             twice int GENERATED ALWAYS AS (n * 2) STORED, note text, big text);
         INSERT INTO t (id, parent, gone, n, note, big)
             SELECT g, g % 10, 'x', g, CASE WHEN g % 3 > 0 THEN md5(g::text) || md5((g + 1)::text) END,
                 CASE WHEN g % 1000 = 0 THEN (SELECT string_agg(md5((g + k)::text), '') FROM generate_series(1, 200) k) END
             FROM generate_series(1, {rows}) g;
         ALTER TABLE t DROP COLUMN gone;
         CREATE INDEX t_note ON t (note); CREATE INDEX t_parent ON t (parent, id);
         CREATE TABLE child (t bigint PRIMARY KEY REFERENCES t ON UPDATE CASCADE);
         CREATE TABLE audit (who text, what text);
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             INSERT INTO public.audit VALUES (current_setting('application_name'), TG_OP); RETURN NEW; END$$;
         CREATE TRIGGER told BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION tell();
         CREATE TRIGGER told_after AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION tell();
         SELECT setseed(0.5); DELETE FROM t WHERE random() < 0.7;
         INSERT INTO child SELECT id FROM t WHERE id % 7 = 0"
    ))
    .await;
    db.execute("VACUUM ANALYZE t").await;
}

/// Rows below this key belong to nobody, and stay as they are.
const STATIC: &str = "SELECT count(*)::text || ' ' || sum(hashtextextended(ROW(t.*)::text, 0)::numeric)::text FROM t WHERE id < 1000000";

/// What one writer has done to rows of its own.
pub(super) async fn write(client: Client, from: i64, stop: Arc<AtomicBool>) -> BTreeMap<i64, i32> {
    let mut ledger = BTreeMap::new();
    let mut next = from;
    while !stop.load(Ordering::Relaxed) {
        next += 1;
        let (id, n) = (next, (next % 100) as i32);
        let insert =
            "INSERT INTO t (id, parent, n, note) VALUES ($1, 3, $2, md5(($1::bigint)::text))";
        client.execute(insert, &[&id, &n]).await.unwrap();
        ledger.insert(id, n);
        if next % 3 == 0 {
            let older = from + (next - from) / 2;
            let update = "UPDATE t SET n = n + 1, note = note || 'x' WHERE id = $1";
            let changed = client.execute(update, &[&older]).await.unwrap();
            assert_eq!(changed, u64::from(ledger.contains_key(&older)), "{older}");
            ledger.entry(older).and_modify(|n| *n += 1);
        }
        if next % 5 == 0 {
            let older = from + (next - from) / 3;
            let deleted = client
                .execute("DELETE FROM t WHERE id = $1", &[&older])
                .await
                .unwrap();
            assert_eq!(
                deleted,
                u64::from(ledger.remove(&older).is_some()),
                "{older}"
            );
        }
        // Rows that move are written by others, too, and pointed at.
        let moving = (next * 7919) % 40_000;
        client
            .execute("UPDATE t SET n = n WHERE id = $1", &[&moving])
            .await
            .unwrap();
        client
            .execute(
                "INSERT INTO child SELECT id FROM t WHERE id = $1 ON CONFLICT DO NOTHING",
                &[&moving],
            )
            .await
            .unwrap();
    }
    ledger
}

/// The same size as a rebuilt copy, as good as.
async fn is_tight(db: &TestDatabase, table: &str) {
    let now = db
        .number(&format!("SELECT pg_relation_size('{table}')"))
        .await;
    db.execute(&format!("VACUUM (FULL) {table}")).await;
    let best = db
        .number(&format!("SELECT pg_relation_size('{table}')"))
        .await;
    assert!(
        now as f64 <= best as f64 * 1.12 + 65_536.0,
        "{table}: {now}, at best {best}"
    );
}

async fn nothing_is_lost_while_others_write(major: u32) {
    let db = fresh_database(major).await;
    db.execute("CREATE EXTENSION amcheck").await;
    damaged(&db, 40_000).await;
    let before = db.strings(STATIC).await;
    let size = db.number("SELECT pg_relation_size('t')").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for n in 1..=2 {
        let client = connect(&db.url).await;
        client
            .batch_execute("SET application_name = 'shop'")
            .await
            .unwrap();
        writers.push(tokio::spawn(write(
            client,
            n * 1_000_000,
            Arc::clone(&stop),
        )));
    }
    // Of what the writers make meanwhile, nothing is asked.
    let workspace = workspace(&db.url, "min_size: 100kB, include: [t]");
    let running = workspace
        .process(["run", "repack", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap())
        .await
        .unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut ledger = BTreeMap::new();
    for writer in writers {
        ledger.extend(writer.await.unwrap());
    }
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let document: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        objects(&document, "move_rows", "succeeded").len(),
        1,
        "{document:#}"
    );
    assert_eq!(db.strings(STATIC).await, before);
    let theirs = db
        .client
        .query(
            "SELECT id, n, twice FROM t WHERE id >= 1000000 ORDER BY id",
            &[],
        )
        .await
        .unwrap();
    let theirs: Vec<(i64, i32, i32)> = theirs
        .iter()
        .map(|r| (r.get(0), r.get(1), r.get(2)))
        .collect();
    let expected: Vec<(i64, i32, i32)> = ledger.iter().map(|(id, n)| (*id, *n, n * 2)).collect();
    assert_eq!(theirs, expected);
    let after = db.number("SELECT pg_relation_size('t')").await;
    assert!(after * 2 < size, "{size} -> {after}: {document:#}");
    assert_eq!(
        db.strings("SELECT DISTINCT who FROM audit ORDER BY 1")
            .await,
        ["shop"]
    );
    assert_eq!(
        db.number("SELECT count(*) FROM child c LEFT JOIN t ON t.id = c.t WHERE t.id IS NULL")
            .await,
        0
    );
    db.execute("SELECT bt_index_check(indexrelid::regclass, true) FROM pg_index WHERE indrelid = 't'::regclass").await;
    db.execute("ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t; ALTER TABLE t ADD FOREIGN KEY (parent) REFERENCES parent").await;
}

#[tokio::test]
async fn nothing_is_lost_while_others_write_pg14() {
    nothing_is_lost_while_others_write(14).await;
}

#[tokio::test]
async fn nothing_is_lost_while_others_write_pg17() {
    nothing_is_lost_while_others_write(17).await;
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// As small as a rebuild makes it, no value changed, no trigger fired; and a
    /// second run does nothing.
    async fn as_small_as_can_be(major: u32) {
        let db = fresh_database(major).await;
        damaged(&db, 40_000).await;
        let before = db.strings(STATIC).await;
        let workspace = workspace(&db.url, SMALL);
        let planned = plan(&workspace);
        let step = &planned["steps"][0];
        assert_eq!(step["object"], "public.t", "{planned:#}");
        // Small, no index looks at it, and no generated column is made from it.
        assert!(
            step["statement"]
                .as_str()
                .unwrap()
                .contains("UPDATE ONLY public.t SET note = note")
                || step["statement"]
                    .as_str()
                    .unwrap()
                    .contains("UPDATE ONLY public.t SET big = big"),
            "{step:#}"
        );
        let done = run(&workspace, 0);
        assert_eq!(
            objects(&done, "move_rows", "succeeded").len(),
            1,
            "{done:#}"
        );
        assert_eq!(done["runs"][0]["findings"], serde_json::json!([]));
        assert_eq!(db.strings(STATIC).await, before);
        assert_eq!(db.number("SELECT count(*) FROM audit").await, 0);
        // Nothing is left to do, and nothing is done.
        let place = "SELECT count(*)::text || ' ' || max(ctid)::text || ' ' || max(xmin::text::int8)::text FROM t";
        let here = db.strings(place).await;
        let again = run(&workspace, 0);
        assert_eq!(again["runs"][0]["steps"], serde_json::json!([]));
        assert_eq!(db.strings(place).await, here);
        is_tight(&db, "t").await;
    }
}

/// Killed in the middle, run again: no row is lost, and it ends as small.
#[tokio::test]
async fn killed_in_the_middle_and_run_again() {
    let db = fresh_database(17).await;
    damaged(&db, 60_000).await;
    let before = db.strings(STATIC).await;
    let workspace = workspace(&db.url, SMALL);
    let blocks = db.number("SELECT pg_relation_size('t') / 8192").await;
    let moved = format!("SELECT count(*) FROM t WHERE ctid >= '({},0)'", blocks - 32);
    for _ in 0..3 {
        let mut process = workspace
            .process(["run", "repack", "--now"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while db.number(&moved).await > 0 && process.try_wait().unwrap().is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "no row has moved"
            );
        }
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(db.strings(STATIC).await, before);
    }
    let done = run(&workspace, 0);
    assert_eq!(done["runs"][0]["status"], "succeeded", "{done:#}");
    assert_eq!(db.strings(STATIC).await, before);
    is_tight(&db, "t").await;
}

/// Who may still see old rows is named, nothing is moved in vain, and once he
/// has gone the work is done.
#[tokio::test]
async fn an_old_snapshot_is_named() {
    let db = fresh_database(17).await;
    damaged(&db, 20_000).await;
    let reader = db.connect().await;
    reader
        .batch_execute("SET application_name = 'report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t LIMIT 1")
        .await
        .unwrap();
    let workspace = Workspace::for_target(&db.url).task(
        "repack",
        "kind: repack\ntarget: app\noptions: { min_size: 100kB }\nlimits: { transaction_wait: 300ms }\n",
    );
    let place = "SELECT max(ctid)::text || ' ' || sum(n)::text FROM t";
    let before = db.strings(place).await;
    let done = run(&workspace, 0);
    assert_eq!(done["runs"][0]["status"], "incomplete", "{done:#}");
    let told = finding(&done, "vacuum.held_back");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("(postgres, report, idle in transaction)"),
        "{told:#}"
    );
    assert!(
        told["suggestion"]
            .as_str()
            .unwrap()
            .contains("pg_terminate_backend"),
        "{told:#}"
    );
    assert_eq!(db.strings(place).await, before);
    reader.batch_execute("COMMIT").await.unwrap();
    let done = run(&workspace, 0);
    assert_eq!(
        objects(&done, "move_rows", "succeeded").len(),
        1,
        "{done:#}"
    );
}

/// Names are data, partitions are taken one by one, and a table of which every
/// column is indexed, or made by the server, is moved as well.
#[tokio::test]
async fn names_partitions_and_columns_of_every_sort() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE SCHEMA \"Ünïcode\";
         CREATE TABLE \"Ünïcode\".\"weird \"\"name; DROP TABLE x\" (\"Key\" bigint PRIMARY KEY, \"select\" text, \"a\"\"b\" text UNIQUE);
         INSERT INTO \"Ünïcode\".\"weird \"\"name; DROP TABLE x\" SELECT g, md5(g::text), md5(g::text) FROM generate_series(1, 20000) g;
         CREATE INDEX ON \"Ünïcode\".\"weird \"\"name; DROP TABLE x\" (\"select\");
         CREATE TABLE p (id bigint GENERATED ALWAYS AS IDENTITY, at int, note text) PARTITION BY RANGE (at);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10000);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10000) TO (30000);
         INSERT INTO p (at, note) SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
         CREATE TABLE only_key (id bigint PRIMARY KEY); INSERT INTO only_key SELECT generate_series(1, 40000);
         DELETE FROM \"Ünïcode\".\"weird \"\"name; DROP TABLE x\" WHERE \"Key\" % 10 > 1;
         DELETE FROM p WHERE at % 10 > 2; DELETE FROM only_key WHERE id % 10 > 2"
    ).await;
    db.execute("VACUUM ANALYZE").await;
    let sums = "SELECT sum(hashtextextended(r, 0)::numeric)::text FROM (
        SELECT t::text FROM \"Ünïcode\".\"weird \"\"name; DROP TABLE x\" t UNION ALL SELECT p::text FROM p UNION ALL SELECT k::text FROM only_key k) AS all_rows(r)";
    let before = db.strings(sums).await;
    let workspace = workspace(&db.url, SMALL);
    let done = run(&workspace, 0);
    let moved = objects(&done, "move_rows", "succeeded");
    let expected = [
        "\"Ünïcode\".\"weird \"\"name; DROP TABLE x\"",
        "public.only_key",
        "public.p1",
        "public.p2",
    ];
    assert_eq!(moved, expected.map(str::to_owned).into(), "{done:#}");
    assert_eq!(db.strings(sums).await, before);
    let again = run(&workspace, 0);
    assert_eq!(again["runs"][0]["steps"], serde_json::json!([]));
    for table in expected {
        is_tight(&db, table).await;
    }
}

/// What cannot be done is refused by name: a trigger that fires whatever, a
/// constraint that old rows may break, rows that policies hide, a role that
/// may not keep triggers from firing. Nothing of it is touched.
#[tokio::test]
async fn what_cannot_be_done_is_refused_by_name() {
    let db = fresh_database(17).await;
    let role = format!("{}_maint", db.name);
    db.execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT CREATE ON SCHEMA public TO \"{role}\";
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; ALTER FUNCTION f OWNER TO \"{role}\"")).await;
    db.execute("CREATE SCHEMA sent; CREATE TABLE sent.above (id bigint, note text) PARTITION BY RANGE (id);
        GRANT USAGE ON SCHEMA sent TO PUBLIC").await;
    for name in [
        "always",
        "unproved",
        "hidden",
        "ordinary",
        "published",
        "below",
    ] {
        db.execute(&format!(
            "CREATE TABLE {name} (id bigint, note text); INSERT INTO {name} SELECT g, md5(g::text) FROM generate_series(1, 10000) g;
             DELETE FROM {name} WHERE id % 10 > 1; ALTER TABLE {name} OWNER TO \"{role}\""
        )).await;
    }
    db.execute("CREATE TRIGGER always_told BEFORE UPDATE ON always FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE always ENABLE ALWAYS TRIGGER always_told;
        ALTER TABLE unproved ADD CONSTRAINT small CHECK (id < 10) NOT VALID;
        ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY; CREATE POLICY none ON hidden USING (id > 5);
        CREATE TRIGGER told BEFORE UPDATE ON ordinary FOR EACH ROW EXECUTE FUNCTION f()").await;
    // The second lists the table above the partition, and nothing else.
    db.execute("CREATE PUBLICATION news FOR TABLE published; ALTER TABLE sent.above ATTACH PARTITION below DEFAULT;
        CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA sent WITH (publish_via_partition_root)").await;
    db.execute("VACUUM ANALYZE").await;
    let mut url = Url::parse(&db.url).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("p")).unwrap();
    let exact = "min_size: 100kB, method: exact";
    db.execute("CREATE EXTENSION pgstattuple").await;
    let workspace = workspace(url.as_str(), exact);
    // The extension is there: what is missing is the right to call it.
    let planned = plan(&workspace);
    let findings = planned["findings"].as_array().unwrap();
    let forbidden = findings
        .iter()
        .find(|f| f["object"] == "pgstattuple")
        .unwrap();
    assert_eq!(forbidden["code"], "privilege.missing", "{forbidden}");
    db.execute(forbidden["suggestion"].as_str().unwrap()).await;
    let sizes = "SELECT sum(pg_relation_size(c.oid))::int8 FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace";
    let before = db.number(sizes).await;
    let planned = plan(&workspace);
    let refused = planned["refused"].as_array().unwrap();
    let why = |object: &str| {
        let found = refused.iter().find(|r| r["object"] == object);
        found.unwrap_or_else(|| panic!("{object} in {planned:#}"))["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(
        why("public.always").contains("trigger always_told would fire"),
        "{planned:#}"
    );
    assert!(
        why("public.unproved").contains("constraint small is NOT VALID"),
        "{planned:#}"
    );
    assert!(why("public.hidden").contains("row security"), "{planned:#}");
    assert!(
        why("public.ordinary").contains("trigger told would fire; GRANT SET ON PARAMETER"),
        "{planned:#}"
    );
    for published in ["public.published", "public.below"] {
        assert!(
            why(published).contains("no replica identity"),
            "{planned:#}"
        );
    }
    // Each of them is a finding, where a run only names the first.
    let findings = planned["findings"].as_array().unwrap();
    for object in ["always", "unproved", "hidden", "published", "below"] {
        let object = format!("public.{object}");
        let found = findings
            .iter()
            .any(|f| f["object"] == *object && f["code"] == "table.bloat");
        assert!(found, "{object}: {planned:#}");
    }
    run(&workspace, 1);
    assert_eq!(db.number(sizes).await, before);
    // Given the parameter, the ordinary one is moved, and its trigger does not fire.
    db.execute(&format!(
        "GRANT SET ON PARAMETER session_replication_role TO \"{role}\""
    ))
    .await;
    let done = run(&workspace, 1);
    assert_eq!(
        objects(&done, "move_rows", "succeeded"),
        ["public.ordinary".to_owned()].into(),
        "{done:#}"
    );
    is_tight(&db, "ordinary").await;
    db.execute(&format!("REVOKE SET ON PARAMETER session_replication_role FROM \"{role}\"; DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

/// Code of an owner who is not trusted runs with nobody else's rights.
#[tokio::test]
async fn code_of_others_is_left_alone() {
    let db = fresh_database(17).await;
    let role = format!("{}_mallory", db.name);
    db.execute(&format!("CREATE ROLE \"{role}\"; CREATE TABLE t (id bigint, note text);
        INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 10000) g; DELETE FROM t WHERE id % 10 > 1;
        CREATE FUNCTION f(text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true'; ALTER FUNCTION f OWNER TO \"{role}\";
        ALTER TABLE t ADD CHECK (f(note)); ALTER TABLE t OWNER TO \"{role}\"")).await;
    db.execute("VACUUM ANALYZE t").await;
    let workspace = workspace(&db.url, SMALL);
    let before = db.number("SELECT pg_relation_size('t')").await;
    let done = run(&workspace, 1);
    assert_eq!(finding(&done, "role.untrusted_code")["object"], "public.t");
    assert_eq!(db.number("SELECT pg_relation_size('t')").await, before);
    db.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""))
        .await;
}

/// Statistics that are out of date are renewed once, and then it is decided;
/// what the options leave out is left out.
#[tokio::test]
async fn analyzes_once_and_heeds_the_options() {
    let db = fresh_database(14).await;
    for name in ["stale", "other", "tiny"] {
        db.execute(&format!("CREATE TABLE {name} (id bigint, note text) WITH (autovacuum_enabled = false); INSERT INTO {name} SELECT g, md5(g::text) FROM generate_series(1, 20000) g")).await;
    }
    db.execute("DELETE FROM tiny WHERE id > 500").await;
    db.execute("VACUUM ANALYZE").await;
    db.execute("DELETE FROM stale WHERE id % 10 > 1; DELETE FROM other WHERE id % 10 > 1; DELETE FROM tiny WHERE id % 10 > 1").await;
    db.execute("VACUUM").await;
    // VACUUM counts rows; only ANALYZE forgets how many changed. 14 hears of it after a while.
    let began = std::time::Instant::now();
    let changed = "SELECT count(*) FROM pg_stat_user_tables WHERE n_mod_since_analyze >= 16000";
    while db.number(changed).await < 2 {
        let waited = began.elapsed();
        assert!(
            waited.as_secs() < 60,
            "the changes of two tables are never counted"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let workspace = workspace(&db.url, "min_size: 200kB, exclude: [other], min_bloat: 50%");
    let done = run(&workspace, 0);
    assert_eq!(
        objects(&done, "analyze", "succeeded"),
        ["public.stale".to_owned()].into(),
        "{done:#}"
    );
    assert_eq!(
        objects(&done, "move_rows", "succeeded"),
        ["public.stale".to_owned()].into(),
        "{done:#}"
    );
    let picky = workspace_with(&db, "min_size: 200kB, include: [other], min_bloat: 95%");
    assert_eq!(objects(&run(&picky, 0), "move_rows", "succeeded").len(), 0);
}

fn workspace_with(db: &TestDatabase, options: &str) -> Workspace {
    workspace(&db.url, options)
}

/// What is lost in TOAST is told, with how much; in its window, and only where
/// it is allowed, the table is blocked and rebuilt.
#[tokio::test]
async fn lost_in_toast_and_rebuilt_in_a_window() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE docs (id int, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
        INSERT INTO docs SELECT n, repeat('x', 6000) FROM generate_series(1, 1000) n;
        UPDATE docs SET body = 'small' WHERE id % 10 > 1",
    )
    .await;
    db.execute("VACUUM ANALYZE docs").await;
    let size = "SELECT pg_total_relation_size('docs')";
    let before = db.number(size).await;
    let done = run(&workspace(&db.url, SMALL), 0);
    assert_eq!(
        finding(&done, "table.bloat")["object"],
        "public.docs",
        "{done:#}"
    );
    assert_eq!(done["runs"][0]["steps"], serde_json::json!([]), "{done:#}");
    assert_eq!(db.number(size).await, before);
    let closed =
        "min_size: 100kB, allow_blocking: true, blocking_window: \"Mon 00:00-00:01 Etc/GMT+12\"";
    let done = run(&workspace(&db.url, closed), 0);
    assert_eq!(done["runs"][0]["steps"], serde_json::json!([]), "{done:#}");
    let open = "min_size: 100kB, allow_blocking: true, blocking_window: \"00:00-24:00\"";
    let done = run(&workspace(&db.url, open), 0);
    assert_eq!(
        objects(&done, "vacuum_full", "succeeded").len(),
        1,
        "{done:#}"
    );
    assert!(db.number(size).await * 3 < before);
    assert_eq!(
        run(&workspace(&db.url, open), 0)["runs"][0]["steps"],
        serde_json::json!([])
    );
}

/// What blocks everybody ends with the window in which it may: while it still waits, or is `copying`.
async fn ends_with_its_window(major: u32, copying: bool) {
    let db = fresh_database(major).await;
    db.execute(
        "CREATE TABLE docs (id int, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
        INSERT INTO docs SELECT n, repeat('x', 6000) FROM generate_series(1, 1000) n;
        UPDATE docs SET body = 'small' WHERE id % 10 > 1",
    )
    .await;
    db.execute("VACUUM ANALYZE docs").await;
    let reader = db.connect().await;
    if copying {
        // The copy has its index built anew, which takes minutes.
        db.execute(
            "CREATE FUNCTION slowly(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n; END';
             CREATE INDEX docs_id ON docs (slowly(id)); ANALYZE docs;
             CREATE OR REPLACE FUNCTION slowly(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN n; END'",
        )
        .await;
    } else {
        reader
            .batch_execute("BEGIN; LOCK TABLE docs IN ACCESS SHARE MODE")
            .await
            .unwrap();
    }
    let size = "SELECT pg_total_relation_size('docs')";
    let before = db.number(size).await;
    let now = chrono::Utc::now();
    let at = |seconds: i64| (now + chrono::TimeDelta::seconds(seconds)).format("%H:%M");
    let options = format!(
        "min_size: 100kB, allow_blocking: true, blocking_window: \"{}-{} UTC\"",
        at(-3600),
        at(110)
    );
    // It would wait for the reader, or copy, for longer than the window is open.
    let workspace = Workspace::for_target(&db.url).task(
        "repack",
        &format!("kind: repack\ntarget: app\noptions: {{ {options} }}\nlimits: {{ lock_timeout: 1h, max_block: 1h }}\n"),
    );
    let done = run(&workspace, 0);
    let step = &done["runs"][0]["steps"][0];
    assert_eq!(step["action"], "vacuum_full", "{done:#}");
    assert_eq!(step["status"], "deferred", "{done:#}");
    let why = step["error"].as_str().unwrap();
    assert!(why.contains("`blocking_window`"), "{why}");
    assert_eq!(done["runs"][0]["status"], "incomplete", "{done:#}");
    assert_eq!(db.number(size).await, before);
    // Nobody waits for it any more, and nothing of the copy is left.
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'docs'::regclass AND (NOT granted OR mode = 'AccessExclusiveLock')";
    assert_eq!(db.number(waits).await, 0);
    let copies = "SELECT count(*) FROM pg_class WHERE relname LIKE 'pg\\_temp\\_%'";
    assert_eq!(db.number(copies).await, 0);
    // It was begun, and at work until then: the window is open for three quarters of a minute at least.
    assert!(step["duration_ms"].as_i64().unwrap() > 5_000, "{done:#}");
}

#[tokio::test]
async fn what_blocks_everybody_ends_with_its_window_14() {
    ends_with_its_window(14, false).await;
}

#[tokio::test]
async fn what_blocks_everybody_ends_with_its_window_17() {
    ends_with_its_window(17, true).await;
}

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    /// What rows could be moved for is done in the first run; what is left in TOAST, less than half of it, fails none
    /// of those after it, and is told by each of them, from the limit of the task on.
    async fn what_stays_in_toast_fails_no_run(major: u32) {
        let db = fresh_database(major).await;
        // No key: the server's own REPACK is none for it.
        db.execute(
            "CREATE TABLE fat (id int, pad text, body text); ALTER TABLE fat ALTER body SET STORAGE EXTERNAL;
            INSERT INTO fat SELECT n, repeat('x', 900), CASE WHEN n % 8 = 0 THEN repeat('y', 6000) END FROM generate_series(1, 8000) n;
            DELETE FROM fat WHERE id % 8 <> 0 AND id % 7 <> 0 OR id % 16 = 0 AND id % 5 <> 0",
        )
        .await;
        db.execute("VACUUM (ANALYZE) fat").await;
        let rows = "SELECT count(*)::text || ' ' || sum(hashtextextended(ROW(fat.*)::text, 0)::numeric)::text FROM fat";
        let (before, size) = (db.strings(rows).await, "SELECT pg_table_size('fat')");
        let large = db.number(size).await;
        let options = "min_size: 100kB, min_bloat: 20%";
        let done = run(&workspace(&db.url, options), 0);
        assert_eq!(objects(&done, "move_rows", "succeeded").len(), 1, "{done:#}");
        assert!(db.number(size).await < large);
        db.execute("VACUUM (ANALYZE) fat").await;
        for _ in 0..2 {
            let workspace = workspace(&db.url, options);
            let done = run(&workspace, 0);
            assert_eq!(done["runs"][0]["steps"], serde_json::json!([]), "{done:#}");
            assert_eq!(done["runs"][0]["status"], "succeeded", "{done:#}");
            let told = finding(&done, "table.bloat");
            assert_eq!(told["object"], "public.fat");
            let message = told["message"].as_str().unwrap();
            assert!(message.contains("`min_bloat` is 20%") && message.contains("pg_repack"), "{message}");
        }
        let less = run(&workspace(&db.url, "min_size: 100kB, min_bloat: 90%"), 0);
        assert_eq!(less["runs"][0]["findings"], serde_json::json!([]), "{less:#}");
        assert_eq!(db.strings(rows).await, before);
    }
}

/// Somebody rewrites the table after the plan was made: no row moves, since that could only make it larger.
#[tokio::test]
async fn what_was_rewritten_meanwhile_is_left_alone() {
    let db = fresh_database(17).await;
    damaged(&db, 20_000).await;
    let workspace = Workspace::for_target(&db.url);
    let pause = workspace.path().join("pause");
    let workspace = workspace.task(
        "repack",
        &format!("kind: repack\ntarget: app\noptions: {{ {SMALL}, way: move }}\nthrottle: {{ pause_file: {} }}\n", pause.display()),
    );
    std::fs::write(&pause, "").unwrap();
    let mut running = super::throttle::Running::begin(&workspace, "repack");
    running.until("paused: ");
    db.execute("VACUUM FULL t").await;
    let size = "SELECT pg_table_size('t')";
    let before = db.number(size).await;
    std::fs::remove_file(&pause).unwrap();
    let said = running.end(0);
    let steps = said["runs"][0]["steps"].as_array().unwrap();
    let step = steps
        .iter()
        .find(|step| step["action"] == "move_rows")
        .unwrap();
    assert_eq!(step["status"], "skipped", "{said:#}");
    let why = step["error"].as_str().unwrap();
    assert!(why.contains("not bloated any more"), "{why}");
    assert_eq!(db.number(size).await, before);
}
