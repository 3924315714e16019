//! What variables hold that stand in conditions and statements: it is run, and shown nowhere.

use std::fs;

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Has what JSON and SQL would write in another way.
const HOLDS: &str = "wort mit \" und '' zugeheim";

fn workspace(url: &str, holds: &str) -> Workspace {
    let rule = "column: at, older_than: 1y, where: \"note <> '${HIDDEN}'\"";
    Workspace::for_target(url)
        .env("HIDDEN", holds)
        .task("sql", "kind: sql\ntarget: app\noptions:\n  parameters: { other: \"${HIDDEN}\" }\n  statements:\n    - { name: first, sql: \"INSERT INTO public.said VALUES ('${HIDDEN}')\" }\n    - { name: second, sql: \"INSERT INTO public.said VALUES ($1)\", with: [other] }\n    - { name: third, sql: \"SELECT (note || '${HIDDEN}')::int FROM public.said\" }\n")
        .task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: d, {rule} }}] }}\n"))
        .task("archive", &format!("kind: archive\ntarget: app\noptions: {{ table: m, {rule}, destination: {{ table: kept }} }}\n"))
        .task("integrity", "kind: integrity\ntarget: app\noptions: { amcheck: off, queries: [{ name: a, sql: \"SELECT 1 FROM public.d WHERE note = '${HIDDEN}'\" }] }\n")
}

for_versions! {
    [pg14 = 14]
    async fn what_a_variable_holds_is_run_and_not_shown(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE said (note text, id int)").await;
        for table in ["d", "m"] {
            db.execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, at timestamptz NOT NULL, note text NOT NULL);
                INSERT INTO {table} SELECT n, now() - interval '2 years', CASE WHEN n = 1 THEN 'wort mit \" und '' zugeheim' ELSE 'x' END FROM generate_series(1, 10) n;
                ANALYZE {table}")).await;
        }
        let workspace = workspace(&db.url, HOLDS);
        let mut shown = String::new();
        for task in ["sql", "cleanup", "archive", "integrity"] {
            let saved = format!("{task}.json");
            for arguments in [
                vec!["plan", task], vec!["plan", task, "--output", "json"], vec!["plan", task, "--save", &saved],
                vec!["run", task, "--now", "--dry-run"],
            ] {
                let output = workspace.run(arguments);
                shown += &format!("{}{}", output.stdout, output.stderr);
            }
            let plan = fs::read_to_string(workspace.path().join(&saved)).unwrap();
            assert!(plan.contains("${HIDDEN}"), "{plan}");
            shown += &plan;
        }
        // What was approved is not done with something else in it.
        let other = self::workspace(&db.url, "something else");
        fs::copy(workspace.path().join("cleanup.json"), other.path().join("cleanup.json")).unwrap();
        let refused = other.run(["run", "--plan", "cleanup.json"]).expect(2).stderr;
        assert!(refused.contains("`${HIDDEN}`, which stands in the options of task `cleanup`, holds something else than when the plan was made"), "{refused}");
        let output = workspace.run(["run", "--plan", "cleanup.json"]).expect(0);
        shown += &format!("{}{}", output.stdout, output.stderr);
        for (task, code) in [("sql", 1), ("archive", 0), ("integrity", 0)] {
            let output = workspace.run(["run", task, "--now", "--output", "json"]).expect(code);
            shown += &format!("{}{}", output.stdout, output.stderr);
        }
        for arguments in [
            vec!["history", "--output", "json"], vec!["archive", "list", "--output", "json"], vec!["report", "--format", "html"],
            vec!["show", "last"], vec!["show", "last~1"],
        ] {
            let output = workspace.run(arguments);
            shown += &format!("{}{}", output.stdout, output.stderr);
        }
        for file in fs::read_dir(workspace.path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                shown += &String::from_utf8_lossy(&fs::read(path).unwrap());
            }
        }
        assert!(shown.contains("INSERT INTO public.said VALUES ('${HIDDEN}')"), "{shown}");
        for piece in ["wort mit", "zugeheim"] {
            let at = shown.find(piece);
            let around = at.map(|at| &shown[shown.floor_char_boundary(at.saturating_sub(400))..shown.floor_char_boundary(at + 100)]);
            assert_eq!(around, None, "{piece}");
        }
        // It was run as it became.
        assert_eq!(db.strings("SELECT note FROM said").await, ["wort mit \" und ' zugeheim", HOLDS]);
        assert_eq!(db.strings("SELECT id::text FROM d UNION ALL SELECT id::text FROM m").await, ["1", "1"]);
        assert_eq!(db.number("SELECT count(*) FROM kept WHERE note = 'x'").await, 9);
    }
}

/// A secret that is written out in a statement is run, and shown nowhere: not in plans, nor in one that is saved. What was
/// approved is done, and nothing else in its place.
#[tokio::test]
async fn a_secret_that_is_written_out_is_not_shown() {
    let db = fresh_database(17).await;
    let role = format!("{}_worker", db.name);
    db.execute(&format!("CREATE ROLE \"{role}\" LOGIN")).await;
    let task = |secret: &str| {
        let sql = format!("ALTER ROLE \"{role}\"   PASSWORD '{secret}' NOINHERIT");
        let options = serde_json::json!({ "statements": [{ "name": "give", "sql": sql }] });
        Workspace::for_target(&db.url).task(
            "sql",
            &format!("kind: sql\ntarget: app\noptions: {options}\n"),
        )
    };
    let workspace = task("S3cret  word");
    let mut shown = Vec::new();
    for arguments in [
        vec!["plan", "sql"],
        vec!["plan", "sql", "--output", "json"],
        vec!["plan", "sql", "--output", "json", "--full"],
        vec!["run", "sql", "--now", "--dry-run"],
        vec!["plan", "sql", "--save", "plan.json"],
    ] {
        let output = workspace.run(arguments.clone()).expect(0);
        shown.push(format!("{arguments:?}: {}{}", output.stdout, output.stderr));
    }
    let saved = workspace.path().join("plan.json");
    shown.push(fs::read_to_string(&saved).unwrap());
    for text in &shown {
        assert!(!text.contains("S3cret"), "{text}");
    }
    for text in &shown[..3] {
        assert!(text.contains("PASSWORD *** NOINHERIT"), "{text}");
    }
    let changed = "SELECT count(*) FROM pg_roles WHERE NOT rolinherit AND rolname = current_database() || '_worker'";
    // With another secret it is another plan.
    let other = task("another word");
    fs::copy(&saved, other.path().join("plan.json")).unwrap();
    let refused = other.run(["run", "--plan", "plan.json"]).expect(2).stderr;
    assert!(refused.contains("`*** in statements.0.sql`, which stands in the options of task `sql`, holds something else"), "{refused}");
    assert_eq!(db.number(changed).await, 0);
    workspace.run(["run", "--plan", "plan.json"]).expect(0);
    assert_eq!(db.number(changed).await, 1);
    db.execute(&format!("DROP ROLE \"{role}\"")).await;
}
