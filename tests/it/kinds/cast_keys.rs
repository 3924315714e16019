//! Foreign keys between columns of unlike types: the server casts before it compares, and so does everybody who asks
//! whether something refers to a row.

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// `parent` has two rows of old and one of today; who refers to the first does so in another type.
const KEYS: &[(&str, &str, &str, &str)] = &[
    // parent's type, its two old keys and a third one, child's type, what the child has.
    ("char(5)", "'de', 'fr', 'it'", "text", "'fr   '"),
    ("char(5)", "'de', 'fr', 'it'", "varchar(9)", "'fr  '"),
    ("float4", "1, 0.1, 3", "numeric", "0.1"),
    ("float4", "1, 16777216, 3", "bigint", "16777217"),
    ("numeric", "1, 2, 3", "int", "2"),
    (
        "macaddr8",
        "'08:00:2b:ff:fe:01:02:01', '08:00:2b:ff:fe:01:02:03', '08:00:2b:ff:fe:01:02:05'",
        "macaddr",
        "'08:00:2b:01:02:03'",
    ),
    ("char(5)", "'de', 'fr', 'it'", "words", "'fr   '"),
    ("padded", "'de', 'fr', 'it'", "text", "'fr   '"),
    ("int[]", "'{1}', '{2}', '{3}'", "numbers", "'{2}'"),
];

/// Makes `p0`, `c0` and so on: of each parent the first two rows are old, and a child, which `action` concerns,
/// refers to the second.
async fn make(db: &TestDatabase, action: &str) {
    db.execute("CREATE DOMAIN words AS text; CREATE DOMAIN padded AS char(5); CREATE DOMAIN numbers AS int[];").await;
    for (n, (parent, keys, child, key)) in KEYS.iter().enumerate() {
        let values: Vec<String> = keys.split(", ").map(|key| format!("({key})")).collect();
        db.execute(&format!(
            "CREATE TABLE p{n} (id {parent} PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2020-01-01');
             INSERT INTO p{n} VALUES {}; UPDATE p{n} SET at = now() WHERE id::text = ({}::{parent})::text;
             CREATE TABLE c{n} (n int PRIMARY KEY, id {child} CONSTRAINT c{n}_key REFERENCES p{n} {action});
             INSERT INTO c{n} VALUES (1, {key}), (2, NULL)",
            values.join(", "),
            keys.split(", ").last().unwrap(),
        ))
        .await;
    }
}

/// How many rows each table has.
async fn counts(db: &TestDatabase, table: char) -> Vec<i64> {
    let mut counts = Vec::new();
    for n in 0..KEYS.len() {
        counts.push(db.number(&format!("SELECT count(*) FROM {table}{n}")).await);
    }
    counts
}

for_versions! {
    [pg14 = 14, pg18 = 18]
    /// Who refers to a row that is there is no orphan, whatever the types: nothing goes, and nothing is told. A row
    /// that got in past the key is one.
    async fn orphans_are_told_as_the_key_tells_them(major: u32) {
        let db = fresh_database(major).await;
        make(&db, "").await;
        let rules: Vec<Value> = (0..KEYS.len())
            .map(|n| json!({ "table": format!("c{n}"), "orphaned": { "columns": ["id"], "parent": format!("p{n}"), "parent_columns": ["id"] }, "max_share": "100%" }))
            .collect();
        let options = json!({ "rules": rules });
        let workspace = Workspace::for_target(&db.url)
            .task("orphans", &format!("kind: cleanup\ntarget: app\noptions: {options}\n"))
            .task("integrity", "kind: integrity\ntarget: app\noptions: { amcheck: \"off\", recheck_after: 0s }\n");
        let document = workspace.run(["run", "orphans", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(counts(&db, 'c').await, vec![2; KEYS.len()], "{document:#}");
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(0).json();
        assert!(!document.to_string().contains("foreign_key.orphans"), "{document:#}");
        for n in 0..KEYS.len() {
            db.execute(&format!("ALTER TABLE p{n} DISABLE TRIGGER ALL; DELETE FROM p{n} WHERE at < '2021-01-01'")).await;
        }
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).json();
        let findings = document["runs"][0]["findings"].as_array().unwrap();
        let told = findings.iter().filter(|finding| finding["code"] == "foreign_key.orphans");
        assert_eq!(told.count(), KEYS.len(), "{document:#}");
        // What is suggested shows the row.
        for finding in findings.iter().filter(|finding| finding["code"] == "foreign_key.orphans") {
            let sql = finding["suggestion"].as_str().unwrap();
            assert_eq!(db.number(&format!("SELECT count(*) FROM ({sql}) AS s")).await, 1, "{finding:#}");
        }
        workspace.run(["run", "orphans", "--now"]).expect(0);
        assert_eq!(counts(&db, 'c').await, vec![1; KEYS.len()]);
    }
}

for_versions! {
    [pg15 = 15, pg18 = 18]
    /// An archive takes no row that somebody refers to who would go or be changed along.
    async fn rows_that_are_referred_to_stay(major: u32) {
        for action in ["ON DELETE CASCADE", "ON DELETE SET NULL", ""] {
            let db = fresh_database(major).await;
            make(&db, action).await;
            let folder = tempfile::tempdir().unwrap();
            let mut workspace = Workspace::for_target(&db.url);
            for n in 0..KEYS.len() {
                let files = format!("file://{}/{n}", folder.path().display());
                let options = json!({ "table": format!("p{n}"), "column": "at", "older_than": "90d", "destination": { "files": files } });
                workspace = workspace.task(&format!("archive{n}"), &format!("kind: archive\ntarget: app\noptions: {options}\n"));
            }
            for (n, key) in KEYS.iter().enumerate() {
                let document = workspace.run(["run", &format!("archive{n}"), "--now", "--output", "json"]).json();
                let (parents, children) = (format!("SELECT count(*) FROM p{n}"), format!("SELECT count(id) FROM c{n}"));
                assert_eq!(db.number(&parents).await, 2, "{action} {:?} {document:#}", key);
                assert_eq!(db.number(&children).await, 1, "{action} {:?} {document:#}", key);
                let of_child = format!("c{n}_key");
                assert!(document.to_string().contains(&of_child), "{action} {:?} {document:#}", key);
            }
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// What is suggested for a key without an index is what serves it: built, it is not asked for again, and the
    /// parents go.
    async fn the_index_that_is_suggested_helps(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE pn (id numeric PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2020-01-01'); INSERT INTO pn SELECT generate_series(1, 500);
            CREATE TABLE cn (n int PRIMARY KEY, pid int REFERENCES pn, pad text DEFAULT repeat('x', 1000)); INSERT INTO cn SELECT n, 1 FROM generate_series(1, 3000) n;
            CREATE TABLE pc (id char(5) PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2020-01-01'); INSERT INTO pc SELECT generate_series(1, 500);
            CREATE TABLE cc (n int PRIMARY KEY, pid text REFERENCES pc, pad text DEFAULT repeat('x', 1000)); INSERT INTO cc SELECT n, '1' FROM generate_series(1, 3000) n;
            CREATE TABLE pv (id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2020-01-01'); INSERT INTO pv SELECT generate_series(1, 500);
            CREATE TABLE cv (n int PRIMARY KEY, pid varchar(9) REFERENCES pv, pad text DEFAULT repeat('x', 1000)); INSERT INTO cv SELECT n, '1' FROM generate_series(1, 3000) n;
            ANALYZE").await;
        let rules: Vec<Value> = ["pn", "pc", "pv"].iter().map(|table| json!({ "table": table, "column": "at", "older_than": "90d" })).collect();
        let options = json!({ "rules": rules });
        let workspace = Workspace::for_target(&db.url)
            .task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {options}\n"))
            .task("snapshot", "kind: snapshot\ntarget: app\noptions: { min_size: 1kB }\n");
        let document = workspace.run(["run", "cleanup", "--now", "--output", "json"]).json();
        let suggested = |document: &Value, code: &str| -> Vec<String> {
            let findings = document["runs"][0]["findings"].as_array().unwrap().iter();
            let of = findings.filter(|finding| finding["code"] == code);
            of.map(|finding| finding["suggestion"].as_str().unwrap().to_owned()).collect()
        };
        let statements = suggested(&document, "foreign_key.unindexed");
        let expected = [
            "CREATE INDEX CONCURRENTLY ON public.cc ((pid::pg_catalog.bpchar))",
            "CREATE INDEX CONCURRENTLY ON public.cn ((pid::pg_catalog.\"numeric\"))",
            "CREATE INDEX CONCURRENTLY ON public.cv (pid)",
        ];
        let mut sorted = statements.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "{document:#}");
        let seen = workspace.run(["run", "snapshot", "--now", "--output", "json"]).json();
        let mut seen = suggested(&seen, "index.missing_foreign_key");
        seen.sort();
        assert_eq!(seen, expected);
        for statement in statements {
            db.execute(&statement).await;
        }
        db.execute("ANALYZE").await;
        let document = workspace.run(["run", "cleanup", "--now", "--output", "json"]).json();
        assert_eq!(suggested(&document, "foreign_key.unindexed"), Vec::<String>::new(), "{document:#}");
        for table in ["pn", "pc", "pv"] {
            assert_eq!(db.number(&format!("SELECT count(*) FROM {table}")).await, 1, "{table} {document:#}");
        }
        let seen = workspace.run(["run", "snapshot", "--now", "--output", "json"]).json();
        assert_eq!(suggested(&seen, "index.missing_foreign_key"), Vec::<String>::new());
    }
}

for_versions! {
    [pg16 = 16]
    /// Without a foreign key, who is the same by either of two types is no orphan: what an extension's type takes for
    /// equal, the type that it is cast to may not.
    async fn types_of_extensions_have_their_say(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION citext; CREATE TABLE people (email citext PRIMARY KEY); INSERT INTO people VALUES ('Ann@x.org');
            CREATE TABLE plain (email text PRIMARY KEY); INSERT INTO plain VALUES ('Ann@x.org')").await;
        let kinds = ["char(20)", "varchar(20)", "text", "citext"];
        let mut rules = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            db.execute(&format!("CREATE TABLE of_people{n} (n int PRIMARY KEY, email {kind}); INSERT INTO of_people{n} VALUES (1, 'ann@x.org'), (2, 'bob@x.org')")).await;
            rules.push(json!({ "table": format!("of_people{n}"), "orphaned": { "columns": ["email"], "parent": "people", "parent_columns": ["email"] }, "max_share": "100%" }));
        }
        db.execute("CREATE TABLE of_plain (n int PRIMARY KEY, email citext); INSERT INTO of_plain VALUES (1, 'ann@x.org'), (2, 'bob@x.org')").await;
        rules.push(json!({ "table": "of_plain", "orphaned": { "columns": ["email"], "parent": "plain", "parent_columns": ["email"] }, "max_share": "100%" }));
        let options = json!({ "rules": rules });
        let workspace = Workspace::for_target(&db.url).task("orphans", &format!("kind: cleanup\ntarget: app\noptions: {options}\n"));
        workspace.run(["run", "orphans", "--now"]).expect(0);
        for table in ["of_people0", "of_people1", "of_people2", "of_people3", "of_plain"] {
            assert_eq!(db.strings(&format!("SELECT n::text FROM {table}")).await, ["1"], "{table}");
        }
    }
}

/// Periods (18 on) are compared by whether they cover others: without a foreign key that says so nothing goes.
#[tokio::test]
async fn periods_are_not_taken_for_equal() {
    let db = fresh_database(18).await;
    db.execute("CREATE EXTENSION btree_gist; CREATE TABLE rooms (id int, open daterange, PRIMARY KEY (id, open WITHOUT OVERLAPS));
        INSERT INTO rooms VALUES (1, '[2020-01-01,2021-01-01)');
        CREATE TABLE bookings (n int PRIMARY KEY, room int, during daterange);
        INSERT INTO bookings VALUES (1, 1, '[2020-02-01,2020-02-03)'), (2, 2, '[2020-02-01,2020-02-03)')").await;
    let rule = json!({ "table": "bookings", "orphaned": { "columns": ["room", "during"], "parent": "rooms", "parent_columns": ["id", "open"] }, "max_share": "100%" });
    let options = json!({ "rules": [rule] });
    let workspace = Workspace::for_target(&db.url).task(
        "orphans",
        &format!("kind: cleanup\ntarget: app\noptions: {options}\n"),
    );
    let document = workspace
        .run(["run", "orphans", "--now", "--output", "json"])
        .expect(1)
        .json();
    assert!(
        document
            .to_string()
            .contains("the period of a key WITHOUT OVERLAPS"),
        "{document:#}"
    );
    assert_eq!(
        db.number("SELECT count(*) FROM bookings").await,
        2,
        "{document:#}"
    );
    db.execute("ALTER TABLE bookings ADD FOREIGN KEY (room, PERIOD during) REFERENCES rooms (id, PERIOD open) NOT VALID").await;
    let document = workspace
        .run(["run", "orphans", "--now", "--output", "json"])
        .json();
    assert_eq!(
        db.strings("SELECT n::text FROM bookings ORDER BY 1").await,
        ["1"],
        "{document:#}"
    );
}
