//! What comes into being between the plan and the work, what the archive's own words make,
//! and casts: none of it runs with our rights, and none of it decides what a value is.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::{Value, json};

use crate::kinds::finding;

use super::{archive, checksum, into_files, nothing_is_left, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Rows of ours, and somebody who has a schema of her own with a function that notes whose
/// rights it has.
async fn scene(major: u32) -> (TestDatabase, String) {
    let db = fresh_database(major).await;
    let mallory = format!("mallory_{}", &db.name[20..]);
    db.execute(&format!(
        "CREATE ROLE {mallory}; CREATE SCHEMA arc; GRANT ALL ON SCHEMA arc TO {mallory}; CREATE SCHEMA hers AUTHORIZATION {mallory};
         CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text);
         INSERT INTO t SELECT n, now() - interval '2 years', 'v' || n FROM generate_series(1, 20) n;
         SET SESSION AUTHORIZATION {mallory};
         CREATE TABLE hers.log (who text);
         CREATE FUNCTION hers.note(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO hers.log VALUES (current_user); RETURN true; END $$;
         CREATE FUNCTION hers.trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM hers.note(''''); RETURN new; END';
         CREATE DOMAIN hers.evil AS text CHECK (hers.note(value))"
    ))
    .await;
    (db, mallory)
}

async fn by(db: &TestDatabase, role: &str, sql: &str) {
    db.execute(&format!("SET SESSION AUTHORIZATION {role}; {sql}"))
        .await;
}

async fn nothing_ran(db: &TestDatabase, mallory: &str) {
    let who = format!("SELECT who FROM hers.log WHERE who <> '{mallory}'");
    assert_eq!(db.strings(&who).await, [""; 0]);
}

/// A run that waits before its first step, until it is let go.
struct Waiting<'a> {
    workspace: &'a Workspace,
    process: Child,
    said: BufReader<ChildStderr>,
}

impl Waiting<'_> {
    fn begin(workspace: &Workspace) -> Waiting<'_> {
        workspace.file("hold", "");
        let mut process = workspace
            .process(["run", "archive", "--now"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut all = String::new();
        while !all.contains("`throttle.pause_file`") {
            let read = said.read_line(&mut all).unwrap();
            assert!(read > 0, "it never waited: {all}");
        }
        Waiting {
            workspace,
            process,
            said,
        }
    }

    /// Lets it go, and gives what was recorded.
    fn end(mut self, code: i32) -> Value {
        std::fs::remove_file(self.workspace.path().join("hold")).unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut rest).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(code), "{rest}");
        let shown = self.workspace.run(["show", "last", "--output", "json"]);
        shown.expect(0).json()["runs"][0].clone()
    }
}

fn held(workspace: Workspace, options: &Value) -> Workspace {
    let hold = workspace.path().join("hold");
    let task = format!(
        "kind: archive\ntarget: app\noptions: {options}\nthrottle: {{ pause_file: {} }}\n",
        hold.display()
    );
    workspace.task("archive", &task)
}

for_versions! {
    [pg15 = 15]
    /// Somebody makes the table of the archive's name, or puts another in its place, after the
    /// plan: no row goes there, and her trigger does not run with our rights.
    async fn a_table_that_came_in_between_gets_no_rows(major: u32) {
        let hostile = "CREATE TABLE arc.t (id int, at timestamptz, v text);
            CREATE TRIGGER x AFTER INSERT ON arc.t FOR EACH ROW EXECUTE FUNCTION hers.trg()";
        for (before, code) in [("", 1), ("CREATE TABLE arc.t (id int, at timestamptz, v text)", 1)] {
            let (db, mallory) = scene(major).await;
            db.execute(before).await;
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "table": "arc.t" } });
            let workspace = held(Workspace::for_target(&db.url), &options);
            let waiting = Waiting::begin(&workspace);
            if !before.is_empty() {
                // Whoever owns a schema may drop what is in it.
                db.execute("DROP TABLE arc.t").await;
            }
            by(&db, &mallory, hostile).await;
            let run = waiting.end(code);
            nothing_ran(&db, &mallory).await;
            assert_eq!(db.number("SELECT count(*) FROM t").await, 20, "{run:#}");
            assert_eq!(db.number("SELECT count(*) FROM arc.t").await, 0);
            assert_ne!(run["status"], "succeeded", "{run:#}");
            // The next run says whose it is.
            let again = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1).json();
            assert_eq!(finding(&again, "role.untrusted_code")["object"], "public.t", "{again:#}");
            nothing_ran(&db, &mallory).await;
            // Nobody's but ours: it is made, or used, and the rows go.
            db.execute("DROP TABLE arc.t").await;
            let run = archive(&workspace);
            assert_eq!((&run["rows"], db.number("SELECT count(*) FROM arc.t").await), (&json!(20), 20), "{run:#}");
            nothing_is_left(&workspace);
        }
    }
}

for_oldest_and_newest! {
    /// A type that the archive names may be anybody's domain: its check does not run in a new
    /// table either, whether the archived table had it or somebody wrote it into the manifest.
    async fn a_new_table_has_no_types_of_others(major: u32) {
        let (db, mallory) = scene(major).await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1y" }));
        assert_eq!(archive(&workspace)["rows"], 20);
        let below = folder.path().join("table=public.t");
        let manifest = std::fs::read_dir(&below).unwrap().map(|e| e.unwrap().path())
            .find(|p| p.to_string_lossy().ends_with(".manifest.json")).unwrap();
        let honest = std::fs::read_to_string(&manifest).unwrap();
        let files = format!("file://{}", folder.path().display());
        let restore = ["archive", "restore", "--files", &files, "--target", "app", "--from", "t", "--into", "arc.back"];
        let mut forged: Value = serde_json::from_str(&honest).unwrap();
        assert_eq!(forged["columns"][2]["pg_type"], "text");
        forged["columns"][2]["pg_type"] = json!("hers.evil");
        std::fs::write(&manifest, forged.to_string()).unwrap();
        let output = workspace.run(restore).expect(1);
        assert!(output.stderr.contains("hers.evil") || output.stderr.contains("domain of column v"), "{output:#?}");
        nothing_ran(&db, &mallory).await;
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'back'").await, 0);
        std::fs::write(&manifest, honest).unwrap();
        workspace.run(restore).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM arc.back WHERE v = 'v' || id").await, 20);
    }
}

/// A type of one's own, with casts that say something else than the type does.
const CAST: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad', 'NULL', 'it''s \"odd\" \\');
    CREATE FUNCTION label(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE $1 WHEN 'good' THEN 'G' ELSE 'B' END $$;
    CREATE FUNCTION parse(text) RETURNS mood LANGUAGE sql IMMUTABLE AS $$ SELECT CASE $1 WHEN 'G' THEN 'good'::public.mood ELSE 'bad' END $$;
    CREATE CAST (mood AS text) WITH FUNCTION label(mood); CREATE CAST (text AS mood) WITH FUNCTION parse(text)";

const MOODS: &str = "
    CREATE DOMAIN feeling AS mood; CREATE DOMAIN feelings AS mood[];
    CREATE TABLE em (id int PRIMARY KEY, at timestamptz, v mood, \"a 'b\" mood[], f feeling, fs feelings);
    INSERT INTO em SELECT n, '2020-01-01', m, ARRAY[m, NULL, 'good'], m, ARRAY[ARRAY[m], ARRAY['bad'::mood]]
        FROM ROWS FROM (unnest(enum_range(NULL::mood)), generate_series(1, 4)) AS r (m, n);
    INSERT INTO em VALUES (5, '2020-01-01', NULL, '{}', NULL, '[2:3]={good,NULL}')";

for_versions! {
    [pg16 = 16]
    /// A value is what its type writes and reads, whatever casts somebody has made: in files
    /// and back, in another table, and in another database.
    async fn casts_do_not_decide_what_a_value_is(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        for place in [&db, &there] {
            place.execute(CAST).await;
            place.execute("CREATE DOMAIN feeling AS mood; CREATE DOMAIN feelings AS mood[]").await;
        }
        db.execute("DROP DOMAIN feeling; DROP DOMAIN feelings").await;
        db.execute(MOODS).await;
        let all = "SELECT * FROM em";
        let old = checksum(&db, all).await;
        let rule = json!({ "table": "em", "column": "at", "older_than": "1y" });

        let (files, _folder) = into_files(&db, &rule);
        assert_eq!(archive(&files)["rows"], 5);
        assert_eq!(db.number("SELECT count(*) FROM em").await, 0);
        files.run(["archive", "verify"]).expect(0);
        // As text they are the labels.
        db.execute("CREATE TABLE texts (id int, at timestamptz, v text, \"a 'b\" text[], f text, fs text)").await;
        files.run(["archive", "restore", "--from", "em", "--into", "texts"]).expect(0);
        assert_eq!(db.strings("SELECT v FROM texts WHERE v IS NOT NULL ORDER BY id").await, ["good", "bad", "NULL", "it's \"odd\" \\"]);
        files.run(["archive", "restore", "--from", "em", "--into", "em", "--again"]).expect(0);
        assert_eq!(checksum(&db, all).await, old);
        files.run(["archive", "restore", "--from", "em", "--into", "fresh", "--again"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM fresh").await, old);

        let mut options = rule.clone();
        options["destination"] = json!({ "table": "moved" });
        assert_eq!(archive(&workspace(&db, &options))["rows"], 5);
        assert_eq!(checksum(&db, "SELECT * FROM moved").await, old);

        db.execute("INSERT INTO em SELECT * FROM moved").await;
        options["destination"] = json!({ "database": "warehouse", "table": "sent" });
        let away = workspace(&db, &options);
        away.file("schedules.yaml", &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  warehouse: {{ engine: postgres, url: \"{}\" }}\n",
            db.url, there.url
        ));
        assert_eq!(archive(&away)["rows"], 5);
        assert_eq!(checksum(&there, "SELECT * FROM sent").await, old);
    }
}

for_oldest_and_newest! {
    /// Whoever owns a type may make a cast of it at any moment: it does not run with our rights.
    async fn a_cast_that_is_made_meanwhile_does_not_run(major: u32) {
        let (db, mallory) = scene(major).await;
        by(&db, &mallory, "CREATE TYPE hers.mood AS ENUM ('a', 'b');
            CREATE FUNCTION hers.label(hers.mood) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM hers.note(''''); RETURN ''a''; END'").await;
        db.execute(&format!("GRANT USAGE ON SCHEMA hers TO PUBLIC; GRANT SELECT ON t TO {mallory};
            CREATE TABLE em (id int PRIMARY KEY, at timestamptz, v hers.mood);
            INSERT INTO em SELECT n, '2020-01-01', CASE n % 2 WHEN 0 THEN 'a' ELSE 'b' END::hers.mood FROM generate_series(1, 40) n")).await;
        let old = checksum(&db, "SELECT * FROM em").await;
        let folder = tempfile::tempdir().unwrap();
        let options = json!({ "table": "em", "column": "at", "older_than": "1y",
            "destination": { "files": format!("file://{}", folder.path().display()) } });
        let workspace = held(Workspace::for_target(&db.url), &options);
        let waiting = Waiting::begin(&workspace);
        by(&db, &mallory, "CREATE CAST (hers.mood AS text) WITH FUNCTION hers.label(hers.mood)").await;
        // Seen under the lock or not: it is not called.
        let run = waiting.end(0);
        assert_eq!(run["rows"], 40, "{run:#}");
        nothing_ran(&db, &mallory).await;
        by(&db, &mallory, "DROP CAST (hers.mood AS text)").await;
        workspace.run(["archive", "restore", "--from", "em", "--into", "em", "--again"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM em").await, old);
    }
}
