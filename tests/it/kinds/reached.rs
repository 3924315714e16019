//! Code of others that is reached without being named: by a function that takes a type at
//! run time, by the clone of a trigger, by a view where a table was meant, by an object that
//! came in between.

use serde_json::{Value, json};

use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Ways to have a function of the server's own call one of mallory's: a name, the first
/// version that has it, what is done to the table before, and a condition of a trigger.
const WAYS: &[(&str, u32, &str, &str)] = &[
    ("domain_in", 14, "", "domain_in(textout(old.v), {evil}::oid, -1) IS NULL"),
    ("record_in", 14, "", "record_in(textout('(' || old.v || ')'), {comp}::oid, -1) IS NULL"),
    ("array_in", 14, "", "array_in(textout('{' || old.v || '}'), {evil}::oid, -1) IS NULL"),
    (
        "populated",
        14,
        "ALTER TABLE {t} ADD w m.evil",
        "json_populate_record(old, json_build_object('w', old.v::text)) IS NULL",
    ),
    (
        "to_json",
        14,
        "CREATE TYPE m.mood_{n} AS ENUM ('a'); ALTER TABLE {t} ADD w m.mood_{n} DEFAULT 'a';
         CREATE FUNCTION m.cast_{n}(m.mood_{n}) RETURNS json LANGUAGE sql AS 'SELECT json_build_object(1, m.f(''{n}''))';
         CREATE CAST (m.mood_{n} AS json) WITH FUNCTION m.cast_{n}(m.mood_{n})",
        "to_json(old.w) IS NULL",
    ),
    (
        "quoted",
        14,
        "CREATE FUNCTION m.cast_{n}({t}) RETURNS text LANGUAGE sql AS 'SELECT m.f($1.v)::text';
         CREATE CAST ({t} AS text) WITH FUNCTION m.cast_{n}({t})",
        "quote_literal(old) IS NULL",
    ),
    (
        "joined",
        14,
        "CREATE FUNCTION m.cast_{n}({t}) RETURNS text LANGUAGE sql AS 'SELECT m.f($1.v)::text';
         CREATE CAST ({t} AS text) WITH FUNCTION m.cast_{n}({t})",
        "textanycat('x', old) IS NULL",
    ),
    (
        "rewritten",
        14,
        "",
        "ts_rewrite('a'::tsquery, 'SELECT ''b''::tsquery, ''c''::tsquery WHERE m.f(''rewritten'')') IS NULL",
    ),
    (
        "as_xml",
        14,
        "",
        "query_to_xml('SELECT m.f(''as_xml'')', true, true, '') IS NULL",
    ),
    ("is_valid", 16, "", "pg_input_is_valid(old.v, 'm.evil') IS NULL"),
    ("error_info", 16, "", "pg_input_error_info(old.v, 'm.evil') IS NOT NULL"),
    (
        "in_array",
        16,
        "CREATE TYPE m.mood_{n} AS ENUM ('a'); ALTER TABLE {t} ADD w m.mood_{n} DEFAULT 'a';
         CREATE FUNCTION m.cast_{n}(m.mood_{n}) RETURNS json LANGUAGE sql AS 'SELECT json_build_object(1, m.f(''{n}''))';
         CREATE CAST (m.mood_{n} AS json) WITH FUNCTION m.cast_{n}(m.mood_{n})",
        "JSON_ARRAY(old.w) IS NULL",
    ),
    (
        "value_of",
        17,
        "",
        "JSON_VALUE(to_jsonb(old.v), '$' RETURNING m.evil) IS NULL",
    ),
    (
        "query_of",
        17,
        "",
        "JSON_QUERY(to_jsonb(old.v), '$' RETURNING m.evil OMIT QUOTES) IS NULL",
    ),
];

/// Somebody's schema, with a function that notes under whose rights it ran.
async fn scene(major: u32) -> (TestDatabase, String) {
    let db = fresh_database(major).await;
    let mallory = format!("mallory_{}", &db.name[20..]);
    db.execute(&format!(
        "CREATE ROLE {mallory}; CREATE SCHEMA m AUTHORIZATION {mallory}; CREATE SCHEMA other;
         SET SESSION AUTHORIZATION {mallory};
         CREATE TABLE m.log (who text, what text);
         CREATE FUNCTION m.f(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO m.log VALUES (current_user, $1); RETURN true; END $$;
         CREATE FUNCTION m.trg() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM m.f(tg_table_name); RETURN coalesce(new, old); END $$;
         CREATE DOMAIN m.evil AS text CHECK (m.f(value)); CREATE TYPE m.comp AS (x m.evil)"
    ))
    .await;
    (db, mallory)
}

async fn by(db: &TestDatabase, role: &str, sql: &str) {
    db.execute(&format!("SET SESSION AUTHORIZATION {role}; {sql}"))
        .await;
}

/// What ran, and with whose rights: by others than its owner.
async fn ran(db: &TestDatabase, mallory: &str) -> Vec<String> {
    let sql = format!("SELECT DISTINCT what FROM m.log WHERE who <> '{mallory}' ORDER BY 1");
    db.strings(&sql).await
}

fn cleanup(tables: &[&str]) -> String {
    let rules: Vec<String> = tables
        .iter()
        .map(|t| format!("  - {{ table: {t}, column: at, older_than: 1y }}\n"))
        .collect();
    format!(
        "kind: cleanup\ntarget: app\noptions:\n  rules:\n{}",
        rules.concat()
    )
}

/// The same target, whose owner may do what she likes.
fn trusting(db: &TestDatabase, mallory: &str) -> Workspace {
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", trust_owners: [{mallory}] }}\n",
        db.url
    ))
}

/// The objects that a run tells of because of somebody's code.
fn left_alone(run: &Value) -> Vec<String> {
    let findings = run["findings"].as_array().unwrap().iter();
    let told = findings.filter(|f| f["code"] == "role.untrusted_code");
    let mut told: Vec<String> = told
        .map(|f| f["object"].as_str().unwrap().to_owned())
        .collect();
    told.sort();
    told
}

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    /// A trigger that calls no function but the server's own is left alone where that would
    /// call somebody's: and it would, for who trusts her.
    async fn functions_that_take_types_are_not_harmless(major: u32) {
        let (db, mallory) = scene(major).await;
        let ways: Vec<_> = WAYS.iter().filter(|(_, since, ..)| *since <= major).collect();
        let number = |name: &str| format!("SELECT '{name}'::regtype::oid::text");
        let evil = db.strings(&number("m.evil")).await.remove(0);
        let comp = db.strings(&number("m.comp")).await.remove(0);
        for (name, _, before, when) in &ways {
            let sql = format!(
                "CREATE TABLE {{t}} (id int PRIMARY KEY, at timestamptz, v text);
                 INSERT INTO {{t}} SELECT n, now() - interval '2 years', '{name}' FROM generate_series(1, 5) n;
                 {before};
                 CREATE TRIGGER x BEFORE DELETE ON {{t}} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            );
            let sql = sql.replace("{t}", &format!("m.{name}")).replace("{n}", name);
            by(&db, &mallory, &sql.replace("{evil}", &evil).replace("{comp}", &comp)).await;
        }
        let mut tables: Vec<String> = ways.iter().map(|(name, ..)| format!("m.{name}")).collect();
        tables.sort();
        let names: Vec<&str> = tables.iter().map(String::as_str).collect();
        let workspace = Workspace::for_target(&db.url).task("cleanup", &cleanup(&names));
        for _ in 0..2 {
            let run = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
            let run = &run["runs"][0];
            assert_eq!(left_alone(run), tables, "{run:#}");
            assert_eq!(ran(&db, &mallory).await, [""; 0]);
            for table in &tables {
                assert_eq!(db.number(&format!("SELECT count(*) FROM {table}")).await, 5, "{table}");
            }
        }
        let workspace = trusting(&db, &mallory).task("cleanup", &cleanup(&names));
        workspace.run(["run", "cleanup", "--now"]).expect(0);
        let mut real: Vec<&str> = ways.iter().map(|(name, ..)| *name).collect();
        real.sort_unstable();
        assert_eq!(ran(&db, &mallory).await, real, "each of them is a way");
    }
}

/// What people write: of this nothing is told, and everything is done.
const ORDINARY: &str = "
    CREATE SEQUENCE m.numbers; CREATE TYPE m.mood AS ENUM ('fine', 'odd');
    CREATE TABLE m.plain (id bigint DEFAULT nextval('m.numbers') PRIMARY KEY, uid uuid DEFAULT gen_random_uuid(),
        at timestamptz NOT NULL DEFAULT now(), naive timestamp DEFAULT localtimestamp, day date DEFAULT current_date,
        who text DEFAULT current_user, v text CHECK (length(v) > 0 AND (v ~ '^a' OR lower(v) = upper(v) OR v LIKE 'r%')),
        j jsonb DEFAULT '{\"a\": 1}', n numeric(8,2) DEFAULT 0, words text[] DEFAULT '{a}', r int4range DEFAULT '[3,5)',
        mood m.mood DEFAULT 'fine', name public.citext DEFAULT 'abc', more public.hstore DEFAULT 'a=>b', ip inet, took interval DEFAULT '1 day',
        found tsvector GENERATED ALWAYS AS (to_tsvector('pg_catalog.english', coalesce(v, ''))) STORED, seen tsvector,
        doubled bigint GENERATED ALWAYS AS (n * 2) STORED);
    ALTER TABLE m.plain ADD CHECK (j ? 'a' AND j @> '{\"a\": 1}' AND (j ->> 'a')::int > 0 AND j #>> '{a,b}' IS NULL AND jsonb_typeof(j) = 'object'
            AND jsonb_path_exists(j, '$.a')),
        ADD CHECK (at > '2000-01-01'::timestamptz + interval '1 day' AND at - took < now() AND day >= '2000-01-01'::date
            AND extract(year FROM day) > 3 AND date_trunc('day', at) <= now() AND age(at) > '-1 day' AND at::date > '2000-01-01'
            AND to_char(at, 'YYYY') <> 'x' AND (at AT TIME ZONE 'UTC') > '2000-01-01'),
        ADD CHECK ('x' || id <> 'y' AND to_json(id) IS NOT NULL AND jsonb_build_object('a', v) IS NOT NULL AND quote_literal(id) <> ''),
        ADD CHECK (mood = 'fine' AND mood IN ('fine') AND coalesce(v, 'x') <> 'q' AND greatest(1, n) > 0 AND nullif(n, 2) IS DISTINCT FROM 3
            AND CASE WHEN v IS NULL THEN true ELSE v NOT LIKE 'b%' END),
        ADD CHECK (lower(r) > 2 AND r && int4range(1, 4) AND words[1] = 'a' AND cardinality(words) < 4 AND array_length(words, 1) < 4
            AND NOT ('z' = ANY (words)) AND words @> ARRAY['a'] AND array_to_string(words, ',') <> '' AND num_nonnulls(v, j) > 0
            AND format('%s', v) <> '' AND concat(v, id) <> '' AND row(id, v) IS DISTINCT FROM row(0::bigint, 'x')),
        ADD CHECK (name = 'ABC' AND name LIKE 'a%' AND more ? 'a' AND more -> 'a' = 'b' AND ip IS NULL AND round(n, 1) >= 0 AND md5(v) <> ''
            AND isfinite(at) AND trim(v) = v AND substring(v FROM 1 FOR 2) <> '' AND octet_length(v) < 99);
    CREATE INDEX ON m.plain (lower(v)); CREATE INDEX ON m.plain ((j ->> 'a')) WHERE v IS NOT NULL AND at > '2020-01-01';
    CREATE INDEX ON m.plain USING gin (to_tsvector('english', v)); CREATE INDEX ON m.plain USING gin (j jsonb_path_ops);
    CREATE INDEX ON m.plain (date_trunc('day', at AT TIME ZONE 'UTC')); CREATE STATISTICS m.sts ON lower(v), id FROM m.plain;
    CREATE TRIGGER a BEFORE UPDATE ON m.plain FOR EACH ROW WHEN (old.v IS NOT DISTINCT FROM new.v) EXECUTE FUNCTION suppress_redundant_updates_trigger();
    CREATE TRIGGER b BEFORE INSERT OR UPDATE ON m.plain FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger('seen', 'pg_catalog.english', 'v');
    CREATE TRIGGER c BEFORE DELETE ON m.plain FOR EACH ROW WHEN (old.at > now() AND old.* IS NOT NULL AND current_setting('a.b', true) IS NULL)
        EXECUTE FUNCTION suppress_redundant_updates_trigger();
    INSERT INTO m.plain (at, v) SELECT now() - interval '2 years', 'r' || n FROM generate_series(1, 5) n;
    INSERT INTO m.plain (v) SELECT 'r' || n FROM generate_series(1, 3) n;
    CREATE TABLE m.parted (id int, at timestamptz) PARTITION BY RANGE (date_trunc('day', at AT TIME ZONE 'utc'));
    CREATE TABLE m.parted_all PARTITION OF m.parted DEFAULT;
    INSERT INTO m.parted SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n";

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    /// A table of somebody else's with the defaults, checks, indexes and triggers that
    /// people have: its rows go, and rows go into it, and there is nothing to tell.
    async fn ordinary_code_of_others_is_no_finding(major: u32) {
        let (db, mallory) = scene(major).await;
        db.execute("CREATE EXTENSION citext; CREATE EXTENSION hstore").await;
        by(&db, &mallory, ORDINARY).await;
        if major >= 17 {
            by(&db, &mallory, "ALTER TABLE m.plain ADD CHECK (j IS JSON AND JSON_VALUE(j, '$.a' RETURNING int DEFAULT 0 ON ERROR) < 3
                AND JSON_EXISTS(j, '$.a') AND JSON_QUERY(j, '$') IS NOT NULL AND JSON_OBJECT('a': id) IS NOT NULL AND JSON_SCALAR(v) IS NOT NULL)").await;
        }
        db.execute("CREATE TABLE feed (v text, at timestamptz); INSERT INTO feed SELECT 'r' || n, now() - interval '1 year 1 month' FROM generate_series(1, 4) n;
            ANALYZE").await;
        let workspace = Workspace::for_target(&db.url)
            .task("cleanup", &cleanup(&["m.plain", "m.parted"]))
            .task("archive", "kind: archive\ntarget: app\noptions: { table: feed, column: at, older_than: 1y, destination: { table: m.plain } }\n");
        for (task, rows, left) in [("cleanup", 10, 3), ("archive", 4, 7)] {
            if task == "archive" {
                // Whatever it does, a trigger before the insert could keep rows out.
                by(&db, &mallory, "DROP TRIGGER b ON m.plain").await;
            }
            let run = workspace.run(["run", task, "--now", "--output", "json"]).expect(0).json();
            let run = &run["runs"][0];
            assert_eq!((left_alone(run), &run["rows"]), (Vec::new(), &json!(rows)), "{run:#}");
            assert_eq!(db.number("SELECT count(*) FROM m.plain").await, left);
        }
        assert_eq!(db.number("SELECT count(*) FROM m.plain WHERE found IS NOT NULL AND doubled = 0 AND uid IS NOT NULL").await, 7);
        assert_eq!(db.number("SELECT (SELECT count(*) FROM m.parted) + (SELECT count(*) FROM feed)").await, 0);
    }
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// The clone of a row trigger on a partition counts, whatever the version calls it: as
    /// somebody's code, and as what keeps rows.
    async fn clones_of_triggers_count(major: u32) {
        let (db, mallory) = scene(major).await;
        by(&db, &mallory, "
            CREATE TABLE m.ev (id int, at timestamptz) PARTITION BY RANGE (at);
            CREATE TABLE m.ev_2020 PARTITION OF m.ev FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
            INSERT INTO m.ev SELECT n, '2020-06-01' FROM generate_series(1, 10) n;
            CREATE TRIGGER x BEFORE DELETE ON m.ev FOR EACH ROW EXECUTE FUNCTION m.trg()").await;
        db.execute("
            CREATE TABLE p (id int PRIMARY KEY);
            INSERT INTO p SELECT generate_series(1, 1000);
            CREATE TABLE r (id int REFERENCES p, at timestamptz, held bool) PARTITION BY RANGE (at);
            CREATE TABLE mid PARTITION OF r FOR VALUES FROM ('2019-01-01') TO ('2022-01-01') PARTITION BY RANGE (at);
            CREATE TABLE mid_2020 PARTITION OF mid FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
            INSERT INTO r SELECT n, '2020-06-01', n <= 100 FROM generate_series(1, 1000) n;
            CREATE INDEX ON r (id);
            CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF old.held THEN RETURN NULL; END IF; RETURN old; END';
            CREATE TRIGGER hold BEFORE DELETE ON r FOR EACH ROW EXECUTE FUNCTION hold();
            ANALYZE").await;
        let workspace = Workspace::for_target(&db.url)
            .task("theirs", &cleanup(&["m.ev_2020"]))
            .task("held", &cleanup(&["mid"]));
        let run = workspace.run(["run", "theirs", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(left_alone(&run["runs"][0]), ["m.ev_2020"], "{run:#}");
        assert_eq!(ran(&db, &mallory).await, [""; 0]);
        assert_eq!(db.number("SELECT count(*) FROM m.ev").await, 10);
        for gone in [900, 0] {
            let run = workspace.run(["run", "held", "--now", "--output", "json"]).expect(1).json();
            let run = &run["runs"][0];
            assert_eq!(run["rows"], gone, "{run:#}");
            assert!(run["findings"].to_string().contains("rows.refused"), "{run:#}");
            assert_eq!(db.number("SELECT count(*) FROM mid_2020 WHERE held").await, 100);
            assert_eq!(db.number("SELECT count(*) FROM mid_2020").await, 100);
        }
    }
}

for_each_version! {
    /// Rows of a partition whose table has an UPDATE trigger are not moved: their values
    /// would change.
    async fn no_values_change_where_a_clone_would_change_them(major: u32) {
        let db = fresh_database(major).await;
        let owner = format!("owner_{}", &db.name[20..]);
        db.execute(&format!("CREATE ROLE {owner} LOGIN PASSWORD 'x'; GRANT CREATE ON SCHEMA public TO {owner};
            SET SESSION AUTHORIZATION {owner};
            CREATE TABLE ev (id int, at timestamptz, touched timestamptz) PARTITION BY RANGE (at);
            CREATE TABLE ev_2026 PARTITION OF ev FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.touched := now(); RETURN new; END';
            INSERT INTO ev SELECT n, '2026-06-01' FROM generate_series(1, 40000) n;
            CREATE TRIGGER touch BEFORE UPDATE ON ev FOR EACH ROW EXECUTE FUNCTION touch();
            DELETE FROM ev WHERE id % 3 > 0")).await;
        // Its statistics are old: only the second look knows what it is about.
        db.execute("VACUUM ev_2026").await;
        let (_, server) = db.url.split_once('@').unwrap();
        let url = format!("postgres://{owner}:x@{server}");
        let workspace = Workspace::for_target(&url)
            .task("repack", "kind: repack\ntarget: app\noptions: { min_size: 100kB, min_bloat: 10% }\n");
        for (status, actions) in [("partial", vec!["analyze"]), ("failed", vec![])] {
            let run = workspace.run(["run", "repack", "--now", "--output", "json"]).expect(1);
            let run = run.json()["runs"][0].clone();
            let steps = run["steps"].as_array().unwrap().iter();
            assert_eq!(steps.map(|s| s["action"].as_str().unwrap()).collect::<Vec<_>>(), actions, "{run:#}");
            assert_eq!(run["status"], status, "{run:#}");
            assert!(run["error"].as_str().unwrap().contains("trigger touch would fire"), "{run:#}");
            assert_eq!(db.number("SELECT count(*) FROM ev WHERE touched IS NOT NULL").await, 0);
            // Before 15 what ANALYZE did is known to others a little later.
            let counted = Patience::until("the statistics are counted");
            while db.number("SELECT pg_stat_get_mod_since_analyze('ev_2026'::regclass)").await != 0 {
                counted.pause().await;
            }
        }
    }
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// A view in the place of a table: what it calls is its owner's code, also where it is
    /// read through another one. What calls nothing of anybody's is read.
    async fn a_view_is_its_owners_code(major: u32) {
        let (db, mallory) = scene(major).await;
        db.execute(&format!("
            CREATE TABLE ch (id int, pid int);
            INSERT INTO ch SELECT n, n FROM generate_series(1, 90) n;
            CREATE TABLE real (id int PRIMARY KEY);
            INSERT INTO real SELECT generate_series(1, 80);
            GRANT SELECT ON real TO {mallory}; GRANT USAGE ON SCHEMA m TO PUBLIC")).await;
        by(&db, &mallory, "CREATE VIEW m.p AS SELECT id FROM public.real WHERE m.f('p')").await;
        db.execute(&format!("
            GRANT SELECT ON m.p TO PUBLIC;
            CREATE VIEW through AS SELECT id FROM m.p;
            CREATE FUNCTION fine(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
            CREATE VIEW own AS SELECT id FROM real WHERE fine(id); ANALYZE; GRANT SELECT ON own TO {mallory}")).await;
        let task = |parent: &str| format!(
            "kind: cleanup\ntarget: app\noptions:\n  rules:\n  - {{ table: ch, orphaned: {{ columns: [pid], parent: {parent}, parent_columns: [id] }} }}\n"
        );
        let workspace = Workspace::for_target(&db.url)
            .task("hers", &task("m.p"))
            .task("through", &task("through"))
            .task("own", &task("own"));
        for name in ["hers", "through"] {
            let run = workspace.run(["run", name, "--now", "--output", "json"]).expect(1).json();
            assert_eq!(left_alone(&run["runs"][0]), ["public.ch"], "{run:#}");
            assert!(run.to_string().contains("the query of view m.p calls m.f"), "{run:#}");
            assert_eq!(ran(&db, &mallory).await, [""; 0]);
            assert_eq!(db.number("SELECT count(*) FROM ch").await, 90);
        }
        for gone in [10, 0] {
            let run = workspace.run(["run", "own", "--now", "--output", "json"]).expect(0).json();
            assert_eq!(run["runs"][0]["rows"], gone, "{run:#}");
            assert_eq!(db.number("SELECT count(*) FROM ch").await, 80);
        }
    }
}
