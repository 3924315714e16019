//! What rows contain is told nowhere: not in errors, findings, the record or its file.

use serde_json::json;

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Whether none of it is in what a run says, and in the history.
fn untold(workspace: &Workspace, task: &str, holds: &[&str]) {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    let (out, log) = (output.stdout, output.stderr);
    for text in [&out, &log] {
        assert!(!text.contains("geheim"), "{task}: {text}");
    }
    for part in holds {
        assert!(out.contains(part), "{task}: no {part} in {out}");
    }
    for file in std::fs::read_dir(workspace.path()).unwrap() {
        let path = file.unwrap().path();
        let history = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("maint.db");
        if history {
            let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!content.contains("geheim"), "{task}: {}", path.display());
        }
    }
}

for_oldest_and_newest! {
    /// A table that rows are archived into refuses them, by each kind of constraint; so does one that they are deleted
    /// from. Constraints, columns and tables are named.
    async fn constraints_are_named_and_no_rows(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION btree_gist; CREATE TABLE keys (v text PRIMARY KEY);
            CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text UNIQUE, gone text);
            INSERT INTO t SELECT g, now() - interval '2 years', 'geheim' || g FROM generate_series(1, 3) g;
            CREATE TABLE child (v text CONSTRAINT points REFERENCES t (v) ON DELETE SET NULL, CONSTRAINT whole CHECK (v IS NOT NULL));
            INSERT INTO child SELECT v FROM t").await;
        let mut workspace = Workspace::for_target(&db.url).task("cleanup", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: t, column: at, older_than: 1y }] }\n");
        for (name, columns, after, _) in REFUSES {
            db.execute(&format!("CREATE TABLE {name} ({columns}) {after}")).await;
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "table": name } });
            workspace = workspace.task(name, &format!("kind: archive\ntarget: app\noptions: {options}\n"));
        }
        db.execute("INSERT INTO uniq VALUES (7, now(), 'geheim2'); INSERT INTO excl VALUES (7, now(), 'geheim2')").await;
        untold(&workspace, "cleanup", &["whole", "23514", "public.child"]);
        db.execute("DROP TABLE child").await;
        for (name, _, _, parts) in REFUSES {
            untold(&workspace, name, parts);
// Where one row is in the way, the others have gone.
            assert_eq!(db.number("SELECT count(*) FROM t WHERE v = 'geheim2'").await, 1, "{name}");
            db.execute("TRUNCATE t; INSERT INTO t SELECT g, now() - interval '2 years', 'geheim' || g FROM generate_series(1, 3) g").await;
        }
    }
}

type Refuses = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// Tables that take none of the rows, or not all: what they are made of, and what is told.
const REFUSES: [Refuses; 6] = [
    (
        "nulls",
        "id int, at timestamptz, v text, gone text NOT NULL",
        "",
        &["gone", "nulls", "23502"],
    ),
    (
        "uniq",
        "id int, at timestamptz, v text CONSTRAINT lone UNIQUE, gone text",
        "",
        &["lone", "public.uniq", "23505"],
    ),
    (
        "refers",
        "id int, at timestamptz, v text CONSTRAINT refers_v REFERENCES keys, gone text",
        "",
        &["refers_v", "refers", "23503"],
    ),
    (
        "checks",
        "id int, at timestamptz, v text CONSTRAINT fine CHECK (v = 'x'), gone text",
        "",
        &["fine", "checks", "23514"],
    ),
    (
        "excl",
        "id int, at timestamptz, v text, gone text, CONSTRAINT apart EXCLUDE USING gist (v WITH =)",
        "",
        &["apart", "public.excl", "23P01"],
    ),
    (
        "parts",
        "id int, at timestamptz, v text, gone text",
        "PARTITION BY LIST (v)",
        &["parts", "23514"],
    ),
];

for_oldest_and_newest! {
    /// What cannot be read as a number or a date, rows that a view would hold twice, and arguments of a query: in
    /// statements of one's own, hooks, checks, views, and triggers. What stands in the statement itself is told.
    async fn what_cannot_be_read_is_not_repeated(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text); INSERT INTO t SELECT g, now() - interval '2 years', 'geheim' FROM generate_series(1, 3) g;
            CREATE TABLE w AS TABLE t; CREATE FUNCTION reads() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM old.v::date; RETURN old; END';
            CREATE TRIGGER reads BEFORE DELETE ON w FOR EACH ROW EXECUTE FUNCTION reads();
            CREATE FUNCTION strict(text) RETURNS int LANGUAGE plpgsql AS $$DECLARE n int; BEGIN SELECT t.id INTO STRICT n FROM public.t WHERE t.v = $1; RETURN n; END $$ SET plpgsql.print_strict_params = on;
            CREATE TABLE j (id int, v text); INSERT INTO j VALUES (1, 'x');
            CREATE MATERIALIZED VIEW m AS SELECT id, v FROM j; CREATE UNIQUE INDEX ON m (id);
            CREATE TABLE k (n int); CREATE UNIQUE INDEX unik ON k (n)").await;
        let sql = |sql: &str| format!("kind: sql\ntarget: app\noptions: {}\n", json!({ "statements": [{ "name": "one", "sql": sql }] }));
        let workspace = Workspace::for_target(&db.url)
            .task("number", &sql("UPDATE public.t SET id = v::int"))
            .task("day", &sql("SELECT v::timestamptz FROM public.t"))
            .task("document", &sql("SELECT v::json FROM public.t"))
            .task("strict", &sql("SELECT public.strict(v) FROM public.t"))
            .task("query", &sql("SELECT to_tsquery('simple', v || ' & ') FROM public.t"))
            .task("setting", &sql("SELECT current_setting(v) FROM public.t"))
            .task("names", &sql("SELECT v::regclass FROM public.t"))
            .task("role", &sql("SELECT has_table_privilege(v, 'public.t', 'SELECT') FROM public.t"))
            .task("schema", &sql("SELECT v::regnamespace FROM public.t"))
            .task("made", &sql("DO $$DECLARE v text; BEGIN SELECT t.v INTO v FROM public.t LIMIT 1; EXECUTE 'SELECT ' || v; END $$"))
            .task("missing", &sql("DO $$BEGIN PERFORM FROM public.not_there; END $$"))
            .task("tenant", &sql("SELECT current_setting('app.tenant') FROM public.t"))
            .task("literal", &sql("SELECT 'twelve'::int"))
            .task("cleanup", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: w, column: at, older_than: 1y }] }\n")
            .task("refresh", "kind: refresh\ntarget: app\noptions: { include: [m] }\n")
            .task("integrity", &format!("kind: integrity\ntarget: app\noptions: {}\n", json!({ "queries": [{ "name": "mine", "sql": "SELECT 1 FROM public.t WHERE v::int > 0" }] })));
        untold(&workspace, "number", &["22P02", "the server's log"]);
        untold(&workspace, "day", &["22007"]);
        untold(&workspace, "document", &["22P02"]);
        untold(&workspace, "strict", &["P0003"]);
        for (task, code) in [("query", "42601"), ("setting", "42704"), ("names", "42P01"), ("role", "42704"), ("schema", "3F000"), ("made", "42703")] {
            untold(&workspace, task, &[code, "the server's log"]);
        }
        untold(&workspace, "missing", &["42P01", "public.not_there"]);
        untold(&workspace, "tenant", &["42704", "app.tenant"]);
        untold(&workspace, "literal", &["22P02", "twelve"]);
        untold(&workspace, "cleanup", &["22007"]);
        untold(&workspace, "integrity", &["22P02"]);
        assert_eq!(db.number("SELECT count(*) FROM w").await, 3);
        db.execute("INSERT INTO j VALUES (2, 'geheim'), (2, 'geheim')").await;
        untold(&workspace, "refresh", &["21000"]);
    }
}
