//! Whether an index serves a foreign key: as the server's planner sees it, by access method, operator family,
//! collation and predicate. One question for `snapshot` and for what deletes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const PARENTS: &str = r#"CREATE EXTENSION btree_gist; CREATE EXTENSION btree_gin; CREATE EXTENSION bloom; CREATE EXTENSION citext;
    CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE pt (id text PRIMARY KEY); CREATE TABLE pi (id int PRIMARY KEY); CREATE TABLE pb (id bigint PRIMARY KEY); CREATE TABLE pn (id numeric PRIMARY KEY);
    CREATE TABLE p2 (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE pnd (id text COLLATE nd PRIMARY KEY); CREATE TABLE pci (id citext PRIMARY KEY);
    CREATE TABLE pbp (id char(5) PRIMARY KEY)"#;

/// Tables whose foreign key, which has the name of the table, an index serves.
const SERVED: &[&str] = &[
    r#"CREATE TABLE y_text (s text CONSTRAINT y_text REFERENCES pt); CREATE INDEX ON y_text (s);"#,
    r#"CREATE TABLE y_ccol (s text COLLATE "C" CONSTRAINT y_ccol REFERENCES pt); CREATE INDEX ON y_ccol (s);"#,
    r#"CREATE TABLE y_pattern (s text CONSTRAINT y_pattern REFERENCES pt); CREATE INDEX ON y_pattern (s text_pattern_ops);"#,
    r#"CREATE TABLE y_varchar (s varchar CONSTRAINT y_varchar REFERENCES pt); CREATE INDEX ON y_varchar (s);"#,
    r#"CREATE TABLE y_ci (s citext CONSTRAINT y_ci REFERENCES pci); CREATE INDEX ON y_ci (s);"#,
    r#"CREATE TABLE y_nd (s text COLLATE nd CONSTRAINT y_nd REFERENCES pnd); CREATE INDEX ON y_nd (s);"#,
    r#"CREATE TABLE y_int8 (i int CONSTRAINT y_int8 REFERENCES pb); CREATE INDEX ON y_int8 (i);"#,
    r#"CREATE TABLE y_gist (i int CONSTRAINT y_gist REFERENCES pi, r int4range, EXCLUDE USING gist (i WITH =, r WITH &&));"#,
    r#"CREATE TABLE y_gin (i int CONSTRAINT y_gin REFERENCES pi, r int[]); CREATE INDEX ON y_gin USING gin (r, i);"#,
    r#"CREATE TABLE y_bloom (i int CONSTRAINT y_bloom REFERENCES pi, r int); CREATE INDEX ON y_bloom USING bloom (r, i);"#,
    r#"CREATE TABLE y_spgist (s text CONSTRAINT y_spgist REFERENCES pt); CREATE INDEX ON y_spgist USING spgist (s);"#,
    r#"CREATE TABLE y_hash (i int CONSTRAINT y_hash REFERENCES pi); CREATE INDEX ON y_hash USING hash (i);"#,
    r#"CREATE TABLE y_nn (i int CONSTRAINT y_nn REFERENCES pi, o int); CREATE INDEX ON y_nn (i) WHERE i IS NOT NULL;"#,
    r#"CREATE TABLE y_or (i int CONSTRAINT y_or REFERENCES pi, o int); CREATE INDEX ON y_or (i) WHERE i IS NOT NULL OR o = 1;"#,
    r#"CREATE TABLE y_or2 (i int CONSTRAINT y_or2 REFERENCES pi, o text); CREATE INDEX ON y_or2 (i) WHERE lower(o) = ANY ('{a,b}') OR o::varchar(3) LIKE 'x{%' OR i IS NOT NULL;"#,
    r#"CREATE TABLE y_nn2 (a int, b int, CONSTRAINT y_nn2 FOREIGN KEY (a,b) REFERENCES p2); CREATE INDEX ON y_nn2 (a,b) WHERE a IS NOT NULL AND b IS NOT NULL;"#,
    r#"CREATE TABLE y_lead (a int, b int, CONSTRAINT y_lead FOREIGN KEY (a,b) REFERENCES p2); CREATE INDEX ON y_lead (a);"#,
    r#"CREATE TABLE y_btw (a int, b int, x int, CONSTRAINT y_btw FOREIGN KEY (a,b) REFERENCES p2); CREATE INDEX ON y_btw (a, x, b);"#,
    r#"CREATE TABLE y_rev (a int, b int, x int, CONSTRAINT y_rev FOREIGN KEY (a,b) REFERENCES p2); CREATE INDEX ON y_rev (b, x);"#,
    r#"CREATE TABLE y_part (x int, i int CONSTRAINT y_part REFERENCES pi) PARTITION BY LIST (x); CREATE TABLE y_part1 (i int, x int); ALTER TABLE y_part ATTACH PARTITION y_part1 FOR VALUES IN (1); CREATE INDEX ON y_part1 (i);"#,
    r#"CREATE TABLE y_cast (i int CONSTRAINT y_cast REFERENCES pn); CREATE INDEX ON y_cast ((i::numeric));"#,
    r#"CREATE TABLE y_pad (s text CONSTRAINT y_pad REFERENCES pbp); CREATE INDEX ON y_pad ((s::bpchar));"#,
    r#"CREATE TABLE y_padops (s text CONSTRAINT y_padops REFERENCES pbp); CREATE INDEX ON y_padops (s bpchar_ops);"#,
];

/// The like, where the server would read all of the table, or as good as that.
const UNSERVED: &[&str] = &[
    r#"CREATE TABLE n_posix (s text CONSTRAINT n_posix REFERENCES pt); CREATE INDEX ON n_posix (s COLLATE "POSIX");"#,
    r#"CREATE TABLE n_ccol (s text COLLATE "C" CONSTRAINT n_ccol REFERENCES pt); CREATE INDEX ON n_ccol (s COLLATE "default");"#,
    r#"CREATE TABLE n_ci (s citext CONSTRAINT n_ci REFERENCES pci); CREATE INDEX ON n_ci ((s::text));"#,
    r#"CREATE TABLE n_nd (s text COLLATE nd CONSTRAINT n_nd REFERENCES pnd); CREATE INDEX ON n_nd (s COLLATE "C");"#,
    r#"CREATE TABLE n_num (i int CONSTRAINT n_num REFERENCES pn); CREATE INDEX ON n_num (i);"#,
    r#"CREATE TABLE n_cast (i int CONSTRAINT n_cast REFERENCES pn, x int); CREATE INDEX ON n_cast ((x::numeric));"#,
    r#"CREATE TABLE n_other (i int CONSTRAINT n_other REFERENCES pn); CREATE INDEX ON n_other ((i::float8));"#,
    r#"CREATE TABLE n_sum (i int CONSTRAINT n_sum REFERENCES pn); CREATE INDEX ON n_sum (((i + 1)::numeric));"#,
    r#"CREATE TABLE n_pad (s text CONSTRAINT n_pad REFERENCES pbp); CREATE INDEX ON n_pad (s);"#,
    r#"CREATE TABLE n_gist2 (i int CONSTRAINT n_gist2 REFERENCES pi, r int4range, EXCLUDE USING gist (r WITH &&, i WITH =));"#,
    r#"CREATE TABLE n_brin (i int CONSTRAINT n_brin REFERENCES pi); CREATE INDEX ON n_brin USING brin (i);"#,
    r#"CREATE TABLE n_none (i int CONSTRAINT n_none REFERENCES pi);"#,
    r#"CREATE TABLE n_and (i int CONSTRAINT n_and REFERENCES pi, o int); CREATE INDEX ON n_and (i) WHERE i IS NOT NULL AND o = 1;"#,
    r#"CREATE TABLE n_or3 (i int CONSTRAINT n_or3 REFERENCES pi, o int); CREATE INDEX ON n_or3 (i) WHERE (i IS NOT NULL AND o = 2) OR o = 1;"#,
    r#"CREATE TABLE n_or4 (i int CONSTRAINT n_or4 REFERENCES pi, o int); CREATE INDEX ON n_or4 (i) WHERE o IS NOT NULL OR o = 1;"#,
    r#"CREATE TABLE n_isn (i int CONSTRAINT n_isn REFERENCES pi, o int); CREATE INDEX ON n_isn (i) WHERE i IS NULL;"#,
    r#"CREATE TABLE n_op (i int CONSTRAINT n_op REFERENCES pi, o bool); CREATE INDEX ON n_op (i) WHERE (i IS NOT NULL) = o;"#,
    r#"CREATE TABLE n_not (i int CONSTRAINT n_not REFERENCES pi, o bool); CREATE INDEX ON n_not (i) WHERE NOT (i IS NOT NULL);"#,
    r#"CREATE TABLE n_mid (a int, b int, x int, CONSTRAINT n_mid FOREIGN KEY (a,b) REFERENCES p2); CREATE INDEX ON n_mid (x, a, b);"#,
    r#"CREATE TABLE n_incl (i int CONSTRAINT n_incl REFERENCES pi, x int); CREATE INDEX ON n_incl (x) INCLUDE (i);"#,
    r#"CREATE TABLE n_part (x int, i int CONSTRAINT n_part REFERENCES pi) PARTITION BY LIST (x); CREATE TABLE n_part1 (i int, x int); ALTER TABLE n_part ATTACH PARTITION n_part1 FOR VALUES IN (1); CREATE INDEX ON n_part1 (x);"#,
];

/// What there is since 18.
const PERIODS: &[&str] = &[
    r#"CREATE TABLE y_pgist (id int, d daterange, CONSTRAINT y_pgist FOREIGN KEY (id, PERIOD d) REFERENCES pp (id, PERIOD d)); CREATE INDEX ON y_pgist USING gist (id, d);"#,
    r#"CREATE TABLE y_pgistd (id int, d daterange, CONSTRAINT y_pgistd FOREIGN KEY (id, PERIOD d) REFERENCES pp (id, PERIOD d)); CREATE INDEX ON y_pgistd USING gist (d);"#,
    r#"CREATE TABLE y_pbt (id int, d daterange, CONSTRAINT y_pbt FOREIGN KEY (id, PERIOD d) REFERENCES pp (id, PERIOD d)); CREATE INDEX ON y_pbt (id);"#,
    r#"CREATE TABLE n_pbt (id int, d daterange, CONSTRAINT n_pbt FOREIGN KEY (id, PERIOD d) REFERENCES pp (id, PERIOD d)); CREATE INDEX ON n_pbt (d);"#,
];

/// The table that a statement makes.
fn name(statement: &str) -> &str {
    statement.split(' ').nth(2).unwrap()
}

async fn make(db: &TestDatabase, statements: &[&str]) {
    for statement in statements {
        db.execute(statement).await;
        let columns = "SELECT string_agg(CASE atttypid::regtype::text WHEN 'integer' THEN '1' ELSE 'NULL' END, ', ' ORDER BY attnum)
            FROM pg_attribute WHERE attnum > 0 AND attrelid = ";
        let name = name(statement);
        let values = db
            .strings(&format!("{columns}'{name}'::regclass"))
            .await
            .remove(0);
        db.execute(&format!("INSERT INTO {name} VALUES ({values})"))
            .await;
    }
}

fn objects(findings: &Value, code: &str) -> BTreeSet<String> {
    let all = findings.as_array().unwrap().iter();
    let of = all.filter(|finding| finding["code"] == code);
    of.map(|finding| finding["object"].as_str().unwrap().to_owned())
        .collect()
}

for_oldest_and_newest! {
    /// What is told to be missing is what the server lacks, and nothing else.
    async fn an_index_serves_a_key_where_the_server_uses_it(major: u32) {
        let db = fresh_database(major).await;
        db.execute(PARENTS).await;
        let parents = ["pt", "pi", "pb", "pn", "p2", "pnd", "pci", "pbp"];
        for parent in parents {
            // One is referred to, and the other may go.
            let rows = if parent == "p2" { "(1, 1), (2, 2)" } else { "('1'), ('2')" };
            db.execute(&format!("INSERT INTO {parent} VALUES {rows}; ALTER TABLE {parent} ADD at timestamptz NOT NULL DEFAULT '2020-01-01'")).await;
        }
        make(&db, SERVED).await;
        make(&db, UNSERVED).await;
        let (mut served, mut unserved): (Vec<&str>, Vec<&str>) = (SERVED.to_vec(), UNSERVED.to_vec());
        let mut rules = parents.to_vec();
        if major >= 18 {
            db.execute("CREATE TABLE pp (id int, d daterange, at timestamptz NOT NULL DEFAULT '2020-01-01', PRIMARY KEY (id, d WITHOUT OVERLAPS)); INSERT INTO pp VALUES (1, '[2020-01-01,2021-01-01)'), (2, '[2020-01-01,2021-01-01)')").await;
            make(&db, PERIODS).await;
            rules.push("pp");
            let periods = PERIODS.iter().copied().partition::<Vec<&str>, _>(|statement| name(statement).starts_with("y_"));
            served.extend(periods.0);
            unserved.extend(periods.1);
        }
        db.execute("ANALYZE").await;
        // It names ten at once.
        for some in unserved.chunks(9) {
            let include: Vec<String> = some.iter().chain(&served).map(|one| format!("public.{}", name(one))).collect();
            let workspace = Workspace::for_target(&db.url).task(
                "snapshot",
                &format!("kind: snapshot\ntarget: app\noptions: {{ min_size: 1kB, include: {} }}\n", json!(include)),
            );
            let document = workspace.run(["run", "snapshot", "--now", "--output", "json"]).json();
            let expected: BTreeSet<String> = some.iter().map(|one| format!("public.{0}.{0}", name(one))).collect();
            assert_eq!(objects(&document["runs"][0]["findings"], "index.missing_foreign_key"), expected, "{document:#}");
        }
        let folder = tempfile::tempdir().unwrap();
        let expected: BTreeSet<String> = unserved.iter().map(|one| format!("public.{}", name(one))).collect();
        let rules: Vec<Value> = rules.iter().map(|parent| json!({ "table": parent, "column": "at", "older_than": "90d" })).collect();
        let options = json!({ "rules": rules });
        let workspace = Workspace::for_target(&db.url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {options}\n"));
        let document = workspace.run(["plan", "cleanup", "--output", "json"]).json();
        assert_eq!(objects(&document["plans"][0]["plan"]["findings"], "foreign_key.unindexed"), expected, "{document:#}");
        for parent in ["pi", "pt"] {
            let files = format!("file://{}", folder.path().display());
            let options = json!({ "table": parent, "column": "at", "older_than": "90d", "destination": { "files": files } });
            let workspace = Workspace::for_target(&db.url).task("archive", &format!("kind: archive\ntarget: app\noptions: {options}\n"));
            let document = workspace.run(["plan", "archive", "--output", "json"]).json();
            let points = unserved.iter().filter(|one| one.contains(&format!("REFERENCES {parent}")));
            let expected: BTreeSet<String> = points.map(|one| format!("public.{}", name(one))).collect();
            assert_eq!(objects(&document["plans"][0]["plan"]["findings"], "foreign_key.unindexed"), expected, "{document:#}");
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// An exclusion constraint serves its key: parents go. An index of another collation does not: they stay.
    async fn parents_go_where_an_index_serves(major: u32) {
        let db = fresh_database(major).await;
        db.execute(PARENTS).await;
        db.execute("ALTER TABLE pi ADD at timestamptz NOT NULL DEFAULT '2020-01-01'; INSERT INTO pi SELECT generate_series(1, 3000);
            ALTER TABLE pt ADD at timestamptz NOT NULL DEFAULT '2020-01-01'; INSERT INTO pt SELECT generate_series(1, 3000)::text;
            CREATE TABLE bookings (i int REFERENCES pi, r int4range, pad text DEFAULT repeat('x', 1000), EXCLUDE USING gist (i WITH =, r WITH &&));
            INSERT INTO bookings SELECT 1 + n % 10, int4range(n, n + 1) FROM generate_series(1, 3000) n;
            CREATE TABLE notes (s text CONSTRAINT of_notes REFERENCES pt, pad text DEFAULT repeat('x', 1000)); CREATE INDEX ON notes (s COLLATE \"POSIX\");
            INSERT INTO notes SELECT 1 + n % 10 FROM generate_series(1, 3000) n; ANALYZE").await;
        let rules = json!([
            { "table": "pi", "column": "at", "older_than": "90d" },
            { "table": "pt", "column": "at", "older_than": "90d" },
        ]);
        let options = json!({ "rules": rules });
        let workspace = Workspace::for_target(&db.url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {options}\n"));
        let document = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(objects(&document["runs"][0]["findings"], "foreign_key.unindexed"), ["public.notes".to_owned()].into(), "{document:#}");
        assert_eq!(db.number("SELECT count(*) FROM pi").await, 10, "{document:#}");
        assert_eq!(db.number("SELECT count(*) FROM pt").await, 3_000, "{document:#}");
        // The next one finds nothing of the first table, and the same of the second.
        let again = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
        assert!(again.to_string().contains("the foreign key of_notes of public.notes"), "{again:#}");
        assert_eq!(db.number("SELECT count(*) FROM pi").await, 10, "{again:#}");
        assert_eq!(db.number("SELECT count(*) FROM bookings").await, 3_000, "{again:#}");
    }
}
