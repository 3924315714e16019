//! Which column is written so that rows move: none whose writing has the server compute stored values anew, by a
//! function that somebody has replaced since.

use serde_json::Value;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn run(db: &TestDatabase, code: i32) -> Value {
    let workspace = Workspace::for_target(&db.url).task(
        "repack",
        "kind: repack\ntarget: app\noptions: { min_size: 100kB, way: move }\n",
    );
    let output = workspace.run(["run", "repack", "--now", "--output", "json"]);
    output.expect(code).json()["runs"][0].clone()
}

fn moved(run: &Value) -> Vec<&str> {
    let steps = run["steps"].as_array().unwrap().iter();
    let moves = steps.filter(|s| s["action"] == "move_rows" && s["status"] == "succeeded");
    moves.map(|s| s["object"].as_str().unwrap()).collect()
}

for_versions! {
    [pg17 = 17]
    /// A table all of whose columns are bases of one, or that has a trigger before updates, is refused by name and
    /// keeps the values that are stored; one with a column beside, or whose function is the server's own, shrinks and
    /// keeps them, too.
    async fn stored_values_stay_as_they_are(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE FUNCTION made(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'then ' || $1 $$;
            CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'").await;
        let small = "WITH (autovacuum_enabled = false)";
        let tables = [
            ("bases", "note text, stored text GENERATED ALWAYS AS (made(note)) STORED"),
            ("watched", "note text, stored text GENERATED ALWAYS AS (made(note)) STORED, free int"),
            ("beside", "note text, stored text GENERATED ALWAYS AS (made(note)) STORED, free int"),
            ("plain", "note text, stored text GENERATED ALWAYS AS (lower(note)) STORED"),
        ];
        for (name, columns) in tables {
            db.execute(&format!("CREATE TABLE {name} ({columns}) {small}; INSERT INTO {name} (note) SELECT md5(g::text) FROM generate_series(1, 20000) g")).await;
        }
        db.execute("CREATE TRIGGER t BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION nothing()").await;
        for (name, _) in tables {
            db.execute(&format!("DELETE FROM {name} WHERE right(note, 1) <> '0'")).await;
            db.execute(&format!("VACUUM (ANALYZE) {name}")).await;
        }
        db.execute("CREATE OR REPLACE FUNCTION made(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'now ' || $1 $$").await;
        let run = run(&db, 1);
        let mut shrunk = moved(&run);
        shrunk.sort_unstable();
        assert_eq!(shrunk, ["public.beside", "public.plain"], "{run:#}");
        let told = run["findings"].to_string();
        for name in ["bases", "watched"] {
            assert!(told.contains(&format!("public.{name}")), "{run:#}");
        }
        assert!(told.contains("the server computes stored anew"), "{run:#}");
        for name in ["bases", "watched", "beside"] {
            let changed = format!("SELECT count(*) FROM {name} WHERE stored LIKE 'now %'");
            assert_eq!(db.number(&changed).await, 0, "{name}");
        }
    }
}
