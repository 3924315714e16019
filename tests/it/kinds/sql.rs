//! Statements of one's own: order, transactions, values, and what is refused.

use serde_json::Value;

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

const TABLES: &str = "CREATE SCHEMA \"select\";
    CREATE TABLE \"select\".\"weird \"\"name; DROP TABLE x\" (id int, day date, note text);
    CREATE TABLE x (id int);
    INSERT INTO \"select\".\"weird \"\"name; DROP TABLE x\"
        SELECT n, DATE '2026-01-01' + n, 'note ' || n FROM generate_series(0, 9) n";

fn steps(document: &Value) -> Vec<(String, String, Option<i64>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| (text(&s["object"]), text(&s["status"]), s["rows"].as_i64()))
        .collect()
}

fn step(object: &str, status: &str, rows: Option<i64>) -> (String, String, Option<i64>) {
    (object.to_owned(), status.to_owned(), rows)
}

for_each_version! {
    /// Values are bound as what the statement wants, whatever is in them.
    async fn statements_run_in_order_with_bound_values(major: u32) {
        let db = fresh_database(major).await;
        db.execute(TABLES).await;
        let workspace = Workspace::for_target(&db.url).task("own", r#"
kind: sql
target: app
options:
  parameters: { before: "2026-01-05", note: "it's; DROP TABLE x --", least: 8 }
  statements:
    - name: delete old
      sql: 'DELETE FROM "select"."weird ""name; DROP TABLE x" WHERE day < $1'
      with: [before]
    - name: rename
      sql: 'UPDATE "select"."weird ""name; DROP TABLE x" SET note = $1 WHERE id >= $2'
      with: [note, least]
    - name: only where needed
      sql: "DELETE FROM public.x"
      only_if: "SELECT count(*) > 0 FROM public.x"
    - name: by itself
      sql: 'VACUUM "select"."weird ""name; DROP TABLE x"'
"#);
        let plan = workspace.run(["plan", "own"]).expect(0).stdout;
        assert!(plan.contains("DELETE") || plan.contains("delete old"), "{plan}");
        let document = workspace.run(["run", "own", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(steps(&document), [
            step("delete old", "succeeded", Some(4)), step("rename", "succeeded", Some(2)),
            step("only where needed", "succeeded", None), step("by itself", "succeeded", None),
        ]);
        assert_eq!(db.number("SELECT count(*) FROM \"select\".\"weird \"\"name; DROP TABLE x\" WHERE note = 'it''s; DROP TABLE x --'").await, 2);
        assert_eq!(db.number("SELECT count(*) FROM x").await, 0);
        let again = workspace.run(["run", "own", "--now", "--set", "parameters.before=2026-01-07", "--output", "json"]).expect(0).json();
        assert_eq!(steps(&again)[0], step("delete old", "succeeded", Some(2)));
        assert_eq!(db.number("SELECT count(*) FROM \"select\".\"weird \"\"name; DROP TABLE x\"").await, 4);
    }
}

for_each_version! {
    async fn a_failure_ends_it_and_a_transaction_is_all_or_nothing(major: u32) {
        let db = fresh_database(major).await;
        db.execute(TABLES).await;
        let task = |transaction: bool| format!("
kind: sql
target: app
options:
  transaction: {transaction}
  statements:
    - {{ name: one, sql: INSERT INTO public.x VALUES (1) }}
    - {{ name: two, sql: INSERT INTO public.misspelt VALUES (2) }}
    - {{ name: three, sql: INSERT INTO public.x VALUES (3) }}
");
        let workspace = Workspace::for_target(&db.url).task("each", &task(false)).task("whole", &task(true));
        let document = workspace.run(["run", "whole", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(steps(&document), [step("all statements", "failed", None)]);
        assert!(document["runs"][0]["steps"][0]["error"].as_str().unwrap().contains("relation \"public.misspelt\" does not exist"));
        assert_eq!(db.number("SELECT count(*) FROM x").await, 0);
        let document = workspace.run(["run", "each", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(steps(&document), [step("one", "succeeded", Some(1)), step("two", "failed", None), step("three", "skipped", None)]);
        assert_eq!(db.number("SELECT count(*) FROM x").await, 1);
    }
}

for_each_version! {
    /// Nothing is touched where a statement cannot be read.
    async fn sql_that_cannot_be_read_ends_the_run_before_anything_happens(major: u32) {
        let db = fresh_database(major).await;
        db.execute(TABLES).await;
        let last = |sql: &str| format!("
kind: sql
target: app
options:
  parameters: {{ one: 1 }}
  statements:
    - {{ name: good, sql: INSERT INTO public.x VALUES (1) }}
    - {{ name: bad, sql: \"{sql}\", with: [one] }}
");
        for (sql, said) in [
            ("DELET FROM public.x WHERE id = $1", "syntax error at or near \"DELET\""),
            ("DELETE FROM public.x WHERE id = $1; DELETE FROM public.x", "cannot insert multiple commands into a prepared statement"),
            ("DELETE FROM public.x", "0 placeholders ($1, …), but 1 values, while reading the SQL of `bad`"),
        ] {
            let workspace = Workspace::for_target(&db.url).task("own", &last(sql));
            let document = workspace.run(["run", "own", "--now", "--output", "json"]).expect(1).json();
            let error = document["runs"][0]["error"].as_str().unwrap();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(db.number("SELECT count(*) FROM x").await, 0);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (options, said) in [
        ("statements: []", "`statements` is empty: name at least one"),
        (
            "statements: [{ name: a, sql: SELECT 1 }, { name: a, sql: SELECT 2 }]",
            "two statements are called `a`",
        ),
        (
            "statements: [{ name: a, sql: begin }]",
            "`a` begins with BEGIN, but transactions are maint's business: use `transaction: true`",
        ),
        (
            "statements: [{ name: a, sql: 'SELECT $1', with: [days] }]",
            "`a` names the parameter `days`, which `parameters` does not have",
        ),
        (
            "parameters: { days: 1 }, statements: [{ name: a, sql: SELECT 1 }]",
            "parameter `days` is used by no statement",
        ),
        (
            "transaction: true, statements: [{ name: a, sql: SELECT 1, only_if: SELECT true }]",
            "`a` has an `only_if`, but with `transaction: true` it is all or nothing",
        ),
    ] {
        let workspace = Workspace::for_target("postgres://localhost/x").task(
            "own",
            &format!("kind: sql\ntarget: app\noptions: {{ {options} }}\n"),
        );
        let output = workspace.run(["check"]).expect(2);
        assert!(output.stderr.contains(said), "{output:#?}");
    }
}
