//! What makes an archive quick, and takes nothing from what it proves.

use serde_json::json;

use super::{archive, nothing_is_left, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

/// A table with old rows.
async fn rows(db: &TestDatabase, kind: &str, table: &str) {
    db.execute(&format!(
        "CREATE {kind} {table} (id int PRIMARY KEY, at date NOT NULL);
        INSERT INTO {table} SELECT g, '2020-01-01' FROM generate_series(1, 100) g"
    ))
    .await;
}

for_versions! {
    [pg14 = 14]
    /// Batches that a crash undoes as a whole do not wait for the disk; those that it would undo on one side
    /// only do: an unlogged table is empty after a crash.
    async fn only_what_is_undone_as_one_does_not_wait_for_the_disk(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE modes (of text, mode text);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.modes VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$").await;
        for (kind, table, mode) in [("TABLE", "logged", "off"), ("UNLOGGED TABLE", "unlogged", "on")] {
            rows(&db, kind, table).await;
            db.execute(&format!("CREATE TRIGGER note AFTER DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION note()")).await;
            let workspace = workspace(&db, &json!({ "table": table, "column": "at", "older_than": "1d",
                "destination": { "table": format!("old_{table}") } }));
            assert_eq!(archive(&workspace)["rows"], 100, "{table}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM old_{table}")).await, 100, "{table}");
            let modes = db.strings(&format!("SELECT DISTINCT mode FROM modes WHERE of = '{table}'")).await;
            assert_eq!(modes, [mode], "{table}");
            nothing_is_left(&workspace);
        }
    }
}
