//! Partitions: bounds to the second, everything their siblings have, and nobody in the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{finding, objects};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(url: &str, options: &str) -> Workspace {
    Workspace::for_target(url).task(
        "partitions",
        &format!("kind: partitions\ntarget: app\noptions: {{ {options} }}\nlimits: {{ lock_timeout: 2s }}\n"),
    )
}

fn run(workspace: &Workspace) -> Value {
    ended(workspace, 0)
}

/// Work that was due could not be done.
fn run_in_part(workspace: &Workspace) -> Value {
    ended(workspace, 1)
}

fn ended(workspace: &Workspace, code: i32) -> Value {
    workspace
        .run(["run", "partitions", "--now", "--output", "json"])
        .expect(code)
        .json()
}

fn steps(document: &Value) -> usize {
    document["runs"][0]["steps"].as_array().unwrap().len()
}

fn codes(document: &Value) -> Vec<&str> {
    document["runs"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect()
}

/// Bounds of all partitions, lowest first, as a session in UTC sees them.
async fn bounds(db: &TestDatabase, table: &str) -> Vec<String> {
    db.client
        .batch_execute("SET TimeZone = 'UTC'")
        .await
        .unwrap();
    // Integers smaller than eight bytes come without quotes.
    db.strings(&format!("SELECT regexp_replace(pg_get_expr(c.relpartbound, c.oid), '\\((\\d+)\\)', '(''\\1'')', 'g') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{table}'::regclass ORDER BY 1")).await
}

/// The same, calculated by the server: the periods from the current one on,
/// `edge` turning the local day `d` into a literal.
async fn expected(
    db: &TestDatabase,
    zone: &str,
    interval: &str,
    step: &str,
    ahead: i32,
    edge: &str,
) -> Vec<String> {
    let edge = |day: &str| edge.replace("{d}", day).replace("{zone}", zone);
    db.strings(&format!("SELECT 'FOR VALUES FROM (''' || ({}) || ''') TO (''' || ({}) || ''')'
        FROM generate_series(0, {ahead}) n, LATERAL (SELECT (date_trunc('{interval}', now() AT TIME ZONE '{zone}') + n * interval '{step}') AS d,
            (date_trunc('{interval}', now() AT TIME ZONE '{zone}') + (n + 1) * interval '{step}') AS e) x ORDER BY 1",
        edge("x.d"), edge("x.e"))).await
}

const INSTANT: &str =
    "to_char(({d} AT TIME ZONE '{zone}') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00'";

for_versions! {
    [pg16 = 16]
    /// Four hundred days hold every change of the clocks; the database's own
    /// time zone is yet another.
    async fn days_begin_at_midnight_of_the_zone_all_year(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&format!("ALTER DATABASE \"{}\" SET TimeZone = 'Pacific/Chatham'", db.name)).await;
        for zone in ["America/New_York", "Asia/Kathmandu"] {
            db.execute("DROP TABLE IF EXISTS e; CREATE TABLE e (at timestamptz NOT NULL) PARTITION BY RANGE (at)").await;
            let workspace = workspace(&db.url, &format!("tables: [e], interval: day, ahead: 400, time_zone: {zone}"));
            assert_eq!(steps(&run(&workspace)), 401);
            assert_eq!(bounds(&db, "e").await, expected(&db, zone, "day", "1 day", 400, INSTANT).await, "{zone}");
            assert_eq!(steps(&run(&workspace)), 0);
        }
    }
}

for_versions! {
    [pg16 = 16]
    async fn every_key_and_interval(major: u32) {
        let db = fresh_database(major).await;
        let uuid = "substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-0000-0000-000000000000'";
        let millis = "(extract(epoch FROM ({d} AT TIME ZONE '{zone}')) * 1000)::int8";
        let uuid = format!("(SELECT {uuid} FROM (SELECT lpad(to_hex({millis}), 12, '0') AS h) hex)");
        let zone = "Asia/Kathmandu";
        for (n, (key, options, edge)) in [
            ("date", "", "to_char({d}, 'YYYY-MM-DD')"),
            ("timestamp", "", "to_char({d}, 'YYYY-MM-DD HH24:MI:SS')"),
            ("timestamptz", "", INSTANT),
            ("bigint", ", epoch: seconds", "extract(epoch FROM ({d} AT TIME ZONE '{zone}'))::int8::text"),
            ("integer", ", epoch: seconds", "extract(epoch FROM ({d} AT TIME ZONE '{zone}'))::int8::text"),
            ("bigint", ", epoch: millis", &*format!("({millis})::text")),
            ("uuid", "", &*uuid),
        ].into_iter().enumerate() {
            let all = [("day", "1 day"), ("week", "1 week"), ("month", "1 month"), ("quarter", "3 months"), ("year", "1 year")];
            // All of them for the key that has every difficulty, two in turn for the others.
            for (_, (interval, step)) in all.into_iter().enumerate().filter(|(at, _)| n == 2 || (at + n) % 5 < 2) {
                let table = format!("t_{n}_{interval}");
                db.execute(&format!("CREATE TABLE {table} (k {key}, v int, PRIMARY KEY (k)) PARTITION BY RANGE (k)")).await;
                let workspace = workspace(&db.url, &format!("tables: [{table}], interval: {interval}, ahead: 5, time_zone: {zone}{options}"));
                assert_eq!(steps(&run(&workspace)), 6, "{table}");
                assert_eq!(bounds(&db, &table).await, expected(&db, zone, interval, step, 5, edge).await, "{key} by {interval}");
                assert_eq!(steps(&run(&workspace)), 0);
            }
        }
    }
}

for_oldest_and_newest! {
    /// A key that has no numbers for what is asked for gets partitions up to its end, and a word.
    async fn a_type_that_ends_is_told_before_it_does(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (k int, v int) PARTITION BY RANGE (k)").await;
        let workspace = workspace(&db.url, "tables: [t], interval: year, ahead: 30, time_zone: UTC, epoch: seconds");
        let document = run(&workspace);
        let run_of = &document["runs"][0];
        assert_eq!(run_of["status"], "succeeded", "{document:#}");
        let last = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY relname DESC LIMIT 1";
        assert_eq!(db.strings(last).await, ["FOR VALUES FROM (2145916800) TO (2147483647)"]);
        let finding = run_of["findings"].as_array().unwrap().iter().find(|f| f["code"] == "partitions.type_ends");
        let told = finding.unwrap()["message"].as_str().unwrap();
        assert!(told.contains("2038-01-19") && told.contains("bigint"), "{told}");
        db.execute("INSERT INTO t VALUES (2147483646, 1)").await;
        assert_eq!(steps(&run(&workspace)), 0);
        workspace.file("tasks/partitions.yaml", "kind: partitions\ntarget: app\noptions: { tables: [t], interval: year, ahead: 3, time_zone: UTC, epoch: seconds }\n");
        let near = run(&workspace);
        assert!(!near.to_string().contains("type_ends"), "{near:#}");
    }
}

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    async fn a_new_partition_has_what_its_siblings_have(major: u32) {
        let db = fresh_database(major).await;
        let name = &db.name;
        db.execute(&format!("CREATE ROLE \"{name} owner\"; CREATE ROLE \"{name} reader\"; GRANT CREATE ON SCHEMA public TO \"{name} owner\";
            CREATE SCHEMA \"select\";
            CREATE TABLE \"select\".\"weird \"\"name; DROP TABLE x\" (\"the Day\" date NOT NULL, id int NOT NULL, note text DEFAULT 'it''s', twice int GENERATED ALWAYS AS (id * 2) STORED,
                CHECK (id > 0), UNIQUE (id, \"the Day\")) PARTITION BY RANGE (\"the Day\");
            CREATE INDEX ON \"select\".\"weird \"\"name; DROP TABLE x\" (note);
            COMMENT ON COLUMN \"select\".\"weird \"\"name; DROP TABLE x\".note IS 'said';
            CREATE TABLE \"select\".old PARTITION OF \"select\".\"weird \"\"name; DROP TABLE x\" FOR VALUES FROM (MINVALUE) TO ('2020-01-01') WITH (fillfactor = 71, autovacuum_enabled = off, toast.autovacuum_enabled = off);
            COMMENT ON TABLE \"select\".old IS 'events of ''a \\ month';
            GRANT SELECT, INSERT ON \"select\".old TO \"{name} reader\" WITH GRANT OPTION; GRANT SELECT ON \"select\".old TO PUBLIC;
            ALTER TABLE \"select\".old REPLICA IDENTITY USING INDEX old_id_the_Day_key;
            CREATE PUBLICATION \"{name} pub\" FOR TABLE ONLY \"select\".old;
            ALTER TABLE \"select\".old OWNER TO \"{name} owner\"; GRANT CREATE ON SCHEMA \"select\" TO \"{name} owner\"").replace("old_id_the_Day_key", "\"old_id_the Day_key\"")).await;
        let workspace = workspace(&db.url, "tables: [\"select.\\\"weird \\\"\\\"name; DROP TABLE x\\\"\"], interval: year, ahead: 0, name: \"p{year}\"");
        let document = run(&workspace);
        assert_eq!(steps(&document), 1, "{document:#}");
        let new = db.strings("SELECT relname::text FROM pg_class WHERE relname ~ '^p[0-9]+$'").await.remove(0);
        let of = |sql: &str| sql.replace("{t}", &format!("'\"select\".{new}'::regclass"));
        for (sql, is) in [
            ("SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = {t}", format!("{name} owner")),
            ("SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE oid = {t}", "fillfactor=71 autovacuum_enabled=off".to_owned()),
            ("SELECT array_to_string(t.reloptions, ' ') FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = {t}", "autovacuum_enabled=off".to_owned()),
            ("SELECT obj_description({t}, 'pg_class')", "events of 'a \\ month".to_owned()),
            ("SELECT relreplident::text FROM pg_class WHERE oid = {t}", "i".to_owned()),
            ("SELECT count(*)::text FROM pg_index WHERE indrelid = {t} AND indisreplident AND indisunique", "1".to_owned()),
            ("SELECT count(*)::text FROM pg_index WHERE indrelid = {t}", "2".to_owned()),
            ("SELECT string_agg(pubname::text, ' ') FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE prrelid = {t}", format!("{name} pub")),
            ("SELECT col_description({t}, 3)", "said".to_owned()),
            ("SELECT string_agg(coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC') || privilege_type || is_grantable, ' ' ORDER BY grantee DESC, privilege_type) FROM pg_class, aclexplode(relacl) WHERE oid = {t} AND grantee <> relowner",
                format!("\"{name} reader\"INSERTtrue \"{name} reader\"SELECTtrue PUBLICSELECTfalse")),
        ] {
            assert_eq!(db.strings(&of(sql)).await, [is], "{sql}");
        }
        // Defaults, computed columns and checks hold in it; rows find their way.
        db.execute("INSERT INTO \"select\".\"weird \"\"name; DROP TABLE x\" VALUES (current_date, 7)").await;
        assert_eq!(db.number(&format!("SELECT count(*) FROM \"select\".{new} WHERE note = 'it''s' AND twice = 14")).await, 1);
        assert_eq!(steps(&run(&workspace)), 0);
        db.execute(&format!("DROP SCHEMA \"select\" CASCADE; DROP OWNED BY \"{name} owner\", \"{name} reader\"; DROP ROLE \"{name} owner\", \"{name} reader\"")).await;
    }
}

for_oldest_and_newest! {
    /// Siblings on a disk of their own, in a table access method and without a log of their own.
    async fn a_new_partition_lies_where_its_siblings_lie(major: u32) {
        let db = fresh_database(major).await;
        let disk = tempfile::tempdir().unwrap();
        let data = db.strings("SELECT current_setting('data_directory')").await.remove(0);
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data).unwrap());
        std::os::unix::fs::chown(disk.path(), Some(owner), None).unwrap();
        let space = format!("{} space", db.name);
        db.execute(&format!("CREATE TABLESPACE \"{space}\" LOCATION '{}'", disk.path().display())).await;
        db.execute(&format!("CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
            CREATE TABLE e (at date NOT NULL) PARTITION BY RANGE (at);
            CREATE UNLOGGED TABLE e_old PARTITION OF e FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') USING other TABLESPACE \"{space}\"")).await;
        assert_eq!(steps(&run(&workspace(&db.url, "tables: [e], interval: year, ahead: 0"))), 1);
        let found = db.strings("SELECT t.spcname || ' ' || a.amname || ' ' || c.relpersistence::text FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
            JOIN pg_am a ON a.oid = c.relam WHERE c.relname LIKE 'e_y%'").await;
        assert_eq!(found, [format!("{space} other u")]);
        db.execute("DROP TABLE e").await;
        db.execute(&format!("DROP TABLESPACE \"{space}\"")).await;
    }
}

for_each_version! {
    /// A partition that is partitioned itself gets the same parts again.
    async fn partitions_of_partitions_are_copied(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (at date NOT NULL, region text NOT NULL, id int) PARTITION BY RANGE (at);
            CREATE TABLE e_old PARTITION OF e FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (region);
            CREATE TABLE e_old_eu PARTITION OF e_old FOR VALUES IN ('de', 'fr') WITH (fillfactor = 50);
            CREATE TABLE e_old_rest PARTITION OF e_old DEFAULT PARTITION BY HASH (id);
            CREATE TABLE e_old_rest_0 PARTITION OF e_old_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE e_old_rest_1 PARTITION OF e_old_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1)").await;
        let workspace = workspace(&db.url, "tables: [e], interval: year, ahead: 1");
        let document = run(&workspace);
        assert_eq!(steps(&document), 2, "{document:#}");
        let year = db.number("SELECT extract(year FROM now())::int8").await;
        db.execute("INSERT INTO e SELECT current_date, r, n FROM unnest(ARRAY['de', 'us']) r, generate_series(1, 20) n").await;
        for (part, least) in [("eu", 20), ("rest_0", 1), ("rest_1", 1)] {
            assert!(db.number(&format!("SELECT count(*) FROM e_y{year}_{part}")).await >= least, "{part}");
        }
        assert_eq!(db.strings(&format!("SELECT array_to_string(reloptions, '') FROM pg_class WHERE relname = 'e_y{year}_eu'")).await, ["fillfactor=50"]);
        assert_eq!(steps(&run(&workspace)), 0);
        db.execute("CREATE TABLE r (at date NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE r1 PARTITION OF r FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY RANGE (at)").await;
        let refused = self::workspace(&db.url, "tables: [r], interval: year");
        let document = run_in_part(&refused);
        assert!(finding(&document, "partitions.unsuitable")["message"].as_str().unwrap().contains("public.r1 is itself partitioned by range"), "{document:#}");
    }
}

for_each_version! {
    async fn rows_in_the_default_partition_are_named_and_moved(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int GENERATED ALWAYS AS IDENTITY, note text, at date NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE e_rest (at date NOT NULL, id int NOT NULL, note text); ALTER TABLE e ATTACH PARTITION e_rest DEFAULT;
            INSERT INTO e (note, at) SELECT n::text, current_date FROM generate_series(1, 30) n;
            INSERT INTO e (note, at) VALUES ('ancient', '1999-12-31'), ('endless', 'infinity')").await;
        let sum = "SELECT md5(string_agg(e::text, ',' ORDER BY id)) FROM e";
        let before = db.strings(sum).await;
        let told = workspace(&db.url, "tables: [e], interval: month, ahead: 1");
        let document = run_in_part(&told);
        assert_eq!(document["runs"][0]["status"], "partial");
        assert_eq!(steps(&document), 1, "next month's only: {document:#}");
        let found = finding(&document, "partitions.default_in_the_way");
        assert_eq!(found["object"], "public.e_rest");
        assert!(found["message"].as_str().unwrap().starts_with("30 rows from '20"), "{found:#}");
        assert_eq!(db.number(found["suggestion"].as_str().unwrap()).await, 30);
        let elsewhere = finding(&document, "partitions.default_rows");
        assert!(elsewhere["message"].as_str().unwrap().starts_with("1 row of public.e sits in its default partition, about '1999-12-31'"), "{elsewhere:#}");
        let moving = workspace(&db.url, "tables: [e], interval: month, ahead: 1, move_default_rows: true");
        let document = run(&moving);
        assert_eq!(steps(&document), 1, "{document:#}");
        assert_eq!(db.strings(sum).await, before);
        assert_eq!(db.number("SELECT count(*) FROM e_rest").await, 2);
        assert_eq!(db.number("SELECT count(*) FROM pg_constraint WHERE conname = 'maint_bounds'").await, 0);
        assert_eq!(steps(&run(&moving)), 0);
    }
}

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    async fn old_partitions_are_retired_after_a_grace_period(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE SCHEMA attic").await;
        for years_ago in 1..=5 {
            db.execute(&format!("DO $$ DECLARE y timestamptz := date_trunc('year', now()) - interval '{years_ago} years'; BEGIN
                EXECUTE format('CREATE TABLE e_{years_ago} PARTITION OF e FOR VALUES FROM (%L) TO (%L)', y, y + interval '1 year'); END $$")).await;
        }
        db.execute("INSERT INTO e SELECT date_trunc('year', now()) - interval '1 day' - n * interval '3 months' FROM generate_series(0, 18) n").await;
        let all = db.number("SELECT count(*) FROM e").await;
        let patient = workspace(&db.url, "tables: [e], interval: year, ahead: 0, keep: 3y, time_zone: UTC");
        let document = run(&patient);
        // The fourth year back still has rows that are younger than three years ago, unless today is its last day.
        assert_eq!(objects(&document, "retire_partition", "succeeded").into_iter().collect::<Vec<_>>(), ["public.e_4", "public.e_5"], "{document:#}");
        let gone = db.number("SELECT (SELECT count(*) FROM e_4) + (SELECT count(*) FROM e_5)").await;
        assert_eq!(db.number("SELECT count(*) FROM e").await, all - gone);
        assert_eq!(steps(&run(&patient)), 0);
        let hasty = patient.run(["run", "partitions", "--now", "--set", "grace=0s", "--output", "json"]).expect(0).json();
        assert_eq!(objects(&hasty, "drop_partition", "succeeded").len(), 2, "{hasty:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname IN ('e_4', 'e_5')").await, 0);
        let kept = patient.run(["run", "partitions", "--now", "--set", "expired=keep", "--set", "keep_in=attic", "--set", "keep=2y", "--output", "json"]);
        assert_eq!(kept.code, 2, "{kept:#?}");
        let keeping = workspace(&db.url, "tables: [e], interval: year, ahead: 0, keep: 2y, expired: keep, keep_in: attic, time_zone: UTC");
        assert_eq!(objects(&run(&keeping), "retire_partition", "succeeded").len(), 1);
        assert_eq!(db.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'attic' AND tablename = 'e_3'").await, 1);
        // The last partition stays, however old.
        db.execute("CREATE TABLE lone (at date) PARTITION BY RANGE (at); CREATE TABLE lone_1 PARTITION OF lone FOR VALUES FROM ('2000-01-01') TO ('2001-01-01')").await;
        let document = run(&workspace(&db.url, "tables: [lone], interval: year, ahead: 0, keep: 1y"));
        assert_eq!(objects(&document, "retire_partition", "succeeded").len(), 0, "{document:#}");
        // What is referred to stays.
        db.execute("CREATE TABLE p (at date PRIMARY KEY) PARTITION BY RANGE (at); CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
            CREATE TABLE child (at date REFERENCES p)").await;
        run(&workspace(&db.url, "tables: [p], interval: year, ahead: 0"));
        let document = run_in_part(&workspace(&db.url, "tables: [p], interval: year, ahead: 0, keep: 1y"));
        assert_eq!(steps(&document), 0);
        assert!(finding(&document, "partitions.referenced")["message"].as_str().unwrap().contains("public.child"), "{document:#}");
    }
}

for_oldest_and_newest! {
    /// Where there is something of its name already, a partition stays, and the plan says so.
    async fn a_name_that_is_taken_is_told_before(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE SCHEMA attic").await;
        for years_ago in 0..=5 {
            db.execute(&format!("DO $$ DECLARE y timestamptz := date_trunc('year', now()) - interval '{years_ago} years'; BEGIN
                EXECUTE format('CREATE TABLE e_{years_ago} PARTITION OF e FOR VALUES FROM (%L) TO (%L)', y, y + interval '1 year'); END $$")).await;
        }
        db.execute("CREATE INDEX same ON e_5 (at); CREATE TABLE attic.e_4 (other int); CREATE TABLE attic.t (id int); CREATE INDEX same ON attic.t (id)").await;
        let keeping = workspace(&db.url, "tables: [e], interval: year, ahead: 0, keep: 2y, expired: keep, keep_in: attic, time_zone: UTC");
        let document = run_in_part(&keeping);
        assert_eq!(objects(&document, "retire_partition", "succeeded").into_iter().collect::<Vec<_>>(), ["public.e_3"], "{document:#}");
        let told: Vec<String> = document["runs"][0]["findings"].as_array().unwrap().iter().filter(|f| f["code"] == "partitions.name_taken")
            .map(|f| f["message"].as_str().unwrap().to_owned()).collect();
        assert_eq!(told.len(), 2, "{document:#}");
        assert!(told.iter().any(|m| m.contains("attic.e_4 exists already")) && told.iter().any(|m| m.contains("attic.same exists already")), "{told:#?}");
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhrelid IN ('e_4'::regclass, 'e_5'::regclass)").await, 2);
        db.execute("ALTER TABLE attic.e_4 RENAME TO e_4_of_before; DROP TABLE attic.t").await;
        assert_eq!(objects(&run(&keeping), "retire_partition", "succeeded").len(), 2);
        assert_eq!(db.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'attic' AND tablename IN ('e_3', 'e_4', 'e_5')").await, 3);
    }
}

for_each_version! {
    /// What somebody began to detach is finished.
    async fn a_pending_detach_is_finished(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (at date) PARTITION BY RANGE (at); CREATE TABLE e_1 PARTITION OF e FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
            CREATE TABLE e_2 PARTITION OF e FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')").await;
        let reader = db.connect().await;
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM e").await.unwrap();
        let detacher = db.connect().await;
        detacher.batch_execute("SET statement_timeout = '500ms'").await.unwrap();
        detacher.batch_execute("ALTER TABLE e DETACH PARTITION e_1 CONCURRENTLY").await.unwrap_err();
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await, 1);
        reader.batch_execute("ROLLBACK").await.unwrap();
        let workspace = workspace(&db.url, "tables: [e], interval: year, ahead: 0");
        assert_eq!(objects(&run(&workspace), "finish_detach", "succeeded").into_iter().collect::<Vec<_>>(), ["public.e_1"]);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await, 0);
        assert_eq!(steps(&run(&workspace)), 0);
    }
}

for_oldest_and_newest! {
    async fn gaps_are_told_and_filled(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (at date) PARTITION BY RANGE (at); CREATE TABLE e_1 PARTITION OF e FOR VALUES FROM ('2024-01-01') TO ('2024-01-20');
            CREATE TABLE e_2 PARTITION OF e FOR VALUES FROM ('2024-03-01') TO ('2099-01-01')").await;
        let told = run(&workspace(&db.url, "tables: [e], interval: month"));
        assert_eq!((steps(&told), codes(&told)), (0, vec!["partitions.gap"]));
        assert!(finding(&told, "partitions.gap")["message"].as_str().unwrap().contains("from '2024-01-20' to '2024-03-01'"));
        let filling = workspace(&db.url, "tables: [e], interval: month, fill_gaps: true");
        assert_eq!(steps(&run(&filling)), 2);
        assert_eq!(bounds(&db, "e").await[1..3], ["FOR VALUES FROM ('2024-01-20') TO ('2024-02-01')", "FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')"]);
        assert_eq!(steps(&run(&filling)), 0);
    }
}

for_oldest_and_newest! {
    /// Names that collide once they are cut still name different tables.
    async fn long_names_keep_their_period(major: u32) {
        let db = fresh_database(major).await;
        let long = "ü".repeat(31);
        for last in ["a", "b"] {
            db.execute(&format!("CREATE TABLE \"{long}{last}\" (at date) PARTITION BY RANGE (at)")).await;
        }
        let tables = format!("tables: [\"{long}a\", \"{long}b\"]");
        let workspace = workspace(&db.url, &format!("{tables}, interval: month, ahead: 2"));
        let document = run(&workspace);
        let names = objects(&document, "create_partition", "succeeded");
        assert_eq!(names.len(), 6, "{document:#}");
        let year = db.number("SELECT extract(year FROM now())::int8").await;
        let month = db.number("SELECT extract(month FROM now())::int8").await;
        let period = format!("_y{year}m{month:02}");
        assert_eq!(names.iter().filter(|name| name.contains(&period)).count(), 2, "{names:?}");
        assert_eq!(steps(&run(&workspace)), 0);
    }
}

for_oldest_and_newest! {
    /// Rows come in all the while; the server itself would refuse one that
    /// had to wait longer than the task's lock timeout.
    async fn inserts_go_on_all_the_while(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (at timestamptz NOT NULL DEFAULT now(), id bigint, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)").await;
        db.execute("DO $$ BEGIN FOR n IN 0..20 LOOP EXECUTE format('CREATE TABLE e_%s PARTITION OF e FOR VALUES FROM (%L) TO (%L)', n,
            date_trunc('day', now()) - n * interval '1 day', date_trunc('day', now()) - (n - 1) * interval '1 day'); END LOOP; END $$").await;
        let (done, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut writers = Vec::new();
        for writer in 0..2_i64 {
            let client = db.connect().await;
            client.batch_execute("SET lock_timeout = '2s'").await.unwrap();
            let (done, rows) = (Arc::clone(&done), Arc::clone(&rows));
            writers.push(tokio::spawn(async move {
                let mut n = 0_i64;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    client.execute("INSERT INTO e (id) VALUES ($1)", &[&(n * 2 + writer)]).await.unwrap();
                    rows.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let workspace = workspace(&db.url, "tables: [e], interval: day, ahead: 20, keep: 5d, grace: 0s, time_zone: UTC");
        let document = tokio::task::spawn_blocking(move || run(&workspace)).await.unwrap();
        done.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(objects(&document, "create_partition", "succeeded").len(), 20, "{document:#}");
        assert!(objects(&document, "retire_partition", "succeeded").len() >= 14, "{document:#}");
        let written = i64::try_from(rows.load(Ordering::Relaxed)).unwrap();
        assert!(written > 100, "{written}");
        assert_eq!(db.number("SELECT count(*) FROM e").await, written);
    }
}

for_oldest_and_newest! {
    /// What cannot have partitions is said clearly, and nothing is touched.
    async fn unsuitable_tables_are_refused(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE plain (at date); CREATE TABLE listed (at date) PARTITION BY LIST (at);
            CREATE TABLE two (a date, b int) PARTITION BY RANGE (a, b); CREATE TABLE expression (at timestamp) PARTITION BY RANGE (date_trunc('day', at));
            CREATE TABLE words (w text) PARTITION BY RANGE (w); CREATE TABLE numbers (n bigint) PARTITION BY RANGE (n)").await;
        for (table, said) in [
            ("missing", "there is no such table"),
            ("'num*'", "`tables` takes names, not patterns, so that no table is partitioned or loses partitions because of how it is called; name each (it would fit public.numbers)"),
            ("'public.n?w'", "name each (no partitioned table would fit)"),
            ("plain", "public.plain is not partitioned; a table becomes partitioned only when it is created, see docs/partitions.md"),
            ("listed", "public.listed is not partitioned by range"),
            ("two", "the partition key of public.two is not a single plain column"),
            ("expression", "the partition key of public.expression is not a single plain column"),
            ("words", "its key is of type text; expected a date, a timestamp, a UUIDv7 or an integer"),
            ("numbers", "say with `epoch` whether it counts seconds or millis since 1970"),
        ] {
            let output = workspace(&db.url, &format!("tables: [{table}], interval: month")).run(["run", "partitions", "--now", "--output", "json"]);
            let document = output.expect(1).json();
            let message = finding(&document, "partitions.unsuitable")["message"].as_str().unwrap();
            assert!(message.contains(said), "{message}");
            assert_eq!(steps(&document), 0);
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits").await, 0);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (options, said) in [
        (
            "tables: [], interval: day",
            "`tables` is empty: name at least one",
        ),
        (
            "tables: [e], interval: day, expired: keep",
            "`expired: keep` needs `keep_in`",
        ),
        (
            "tables: [e], interval: day, name: \"{table}_{year}_{month}\"",
            "`name` lacks {day}",
        ),
        (
            "tables: [e], interval: day, name: \"{tabel}\"",
            "`{tabel}` is none of them",
        ),
        (
            "tables: [e], interval: day, ahead: 99999",
            "`ahead` is 99999; expected at most 36500",
        ),
    ] {
        let output = workspace("postgres://localhost/x", options)
            .run(["check"])
            .expect(2);
        assert!(output.stderr.contains(said), "{output:#?}");
    }
}

for_oldest_and_newest! {
    /// A table that is a part of another takes no more than its bounds say: a partition beyond them would be there, and
    /// take no row.
    async fn none_is_made_beyond_the_table_itself(major: u32) {
        let db = fresh_database(major).await;
        let month = |n: i32| format!("(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '{n} months')");
        // The part ends in the middle of the second period ahead.
        db.execute(&format!("DO $$ BEGIN
            CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            EXECUTE format('CREATE TABLE ev_part PARTITION OF ev FOR VALUES FROM (%L) TO (%L) PARTITION BY RANGE (at)', {} AT TIME ZONE 'UTC', ({} + interval '10 days') AT TIME ZONE 'UTC');
            EXECUTE format('CREATE TABLE ev_part_old PARTITION OF ev_part FOR VALUES FROM (%L) TO (%L)', {} AT TIME ZONE 'UTC', {} AT TIME ZONE 'UTC'); END $$",
            month(-1), month(2), month(-1), month(0))).await;
        let workspace = workspace(&db.url, "tables: [ev_part], interval: month, ahead: 4, time_zone: UTC");
        let document = run(&workspace);
        assert_eq!(codes(&document), ["partitions.table_ends"], "{document:#}");
        let message = document["runs"][0]["findings"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("3 of the partitions that are asked for reach beyond what public.ev_part takes"), "{message}");
        assert_eq!(steps(&document), 3, "{document:#}");
        // Each row that fits comes in by the table above, up to the last moment; and none is left that cannot.
        db.execute(&format!("INSERT INTO ev SELECT 1, at AT TIME ZONE 'UTC' FROM generate_series({}, {} + interval '10 days' - interval '1 second', interval '1 day') at", month(-1), month(2))).await;
        let full = bounds(&db, "ev_part").await;
        assert_eq!(full.len(), 4, "{full:?}");
        let again = run(&workspace);
        assert_eq!(steps(&again), 0, "{again:#}");
    }
}

for_oldest_and_newest! {
    /// A gap of times that are over is no gap: what would fill it would be retired by the next run, and made again.
    async fn gaps_that_are_over_stay(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE g (id int, at date NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE g_old PARTITION OF g FOR VALUES FROM ('2020-01-01') TO ('2020-02-01'); CREATE VIEW reads AS SELECT * FROM g_old").await;
        db.execute("DO $$ BEGIN EXECUTE format('CREATE TABLE g_now PARTITION OF g FOR VALUES FROM (%L) TO (%L)', date_trunc('month', now() AT TIME ZONE 'UTC')::date,
            (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month')::date); END $$").await;
        let options = "tables: [g], interval: month, ahead: 1, keep: 6mo, time_zone: UTC";
        let told = workspace(&db.url, options).run(["plan", "partitions"]).stdout;
        assert!(told.contains("partitions.gap"), "{told}");
        assert!(!told.contains("covers the values from '2020-"), "{told}");
        let filling = workspace(&db.url, &format!("{options}, fill_gaps: true"));
        filling.run(["run", "partitions", "--now"]);
        let made = bounds(&db, "g").await;
        // This month and the next, six or seven before, and the one that something depends on.
        assert!((9..=10).contains(&made.len()), "{made:?}");
        for _ in 0..2 {
            filling.run(["run", "partitions", "--now"]);
            assert_eq!(bounds(&db, "g").await, made);
        }
    }
}

/// A partition that is partitioned itself is as large as all that is below it, while it is a partition and once it is
/// detached: what a saved plan allows rests on that.
#[tokio::test]
async fn what_is_below_a_partition_counts() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE e (id int, at date NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE e_old PARTITION OF e FOR VALUES FROM ('2000-01-01') TO ('2001-01-01') PARTITION BY HASH (id);
        CREATE TABLE e_0 PARTITION OF e_old FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE e_1 PARTITION OF e_old FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE e_now PARTITION OF e FOR VALUES FROM ('2024-01-01') TO ('2100-01-01');
        INSERT INTO e SELECT n, '2000-06-01' FROM generate_series(1, 10000) n").await;
    let size = db
        .number("SELECT pg_relation_size('e_0') + pg_relation_size('e_1')")
        .await;
    let planned = |workspace: &Workspace| {
        let document = workspace
            .run(["plan", "partitions", "--output", "json"])
            .expect(0)
            .json();
        let step = document["plans"][0]["plan"]["steps"][0].clone();
        (step["action"].clone(), step["estimate"]["bytes"].clone())
    };
    let with = |grace: &str| {
        let options = format!("tables: [e], interval: year, ahead: 0, keep: 3y, grace: {grace}");
        format!("kind: partitions\ntarget: app\noptions: {{ {options} }}\n")
    };
    let workspace = Workspace::for_target(&db.url).task("partitions", &with("0s"));
    assert_eq!(
        planned(&workspace),
        (json!("retire_partition"), json!(size))
    );
    let saved = workspace.path().join("saved.json");
    let saved = saved.to_str().unwrap();
    let save = ["plan", "partitions", "--save", saved];
    workspace.run(save).expect(0);
    db.execute("INSERT INTO e SELECT n, '2000-06-01' FROM generate_series(1, 100000) n")
        .await;
    workspace.run(["plan", "--check", saved]).expect(5);
    workspace.run(["run", "--plan", saved]).expect(2);
    assert_eq!(db.number("SELECT count(*) FROM e").await, 110_000);
    workspace.file("tasks/partitions.yaml", &with("7d"));
    run(&workspace);
    workspace.file("tasks/partitions.yaml", &with("0s"));
    let size = db
        .number("SELECT pg_relation_size('e_0') + pg_relation_size('e_1')")
        .await;
    assert_eq!(planned(&workspace), (json!("drop_partition"), json!(size)));
}
