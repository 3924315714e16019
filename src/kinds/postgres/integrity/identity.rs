//! Which object it was that was found in order: one that was made again or restored has its name, and not what was
//! looked at.

use std::collections::HashMap;

use crate::engines::EngineError;
use crate::engines::postgres::catalog::NOT_SYSTEM_SCHEMA;
use crate::engines::postgres::{Session, first};

/// What an object is besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The server, the database and the object: another one where the object was dropped and made again.
    pub(super) made: String,
    /// The files that hold its rows: others after a TRUNCATE or a rebuild.
    pub(super) files: String,
}

/// What the objects of a database are besides their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    database: String,
    files: HashMap<u32, String>,
}

// A table with partitions has no file itself: the files of all its partitions are its own.
const FILES: &str = "WITH RECURSIVE tree (top, oid) AS (
        SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p'
        UNION SELECT t.top, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
    SELECT c.oid, c.relfilenode::text FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'i') AND {not_system}
    UNION ALL SELECT t.top, pg_catalog.hashtextextended(
            pg_catalog.string_agg(c.oid::text || ':' || c.relfilenode::text, ' ' ORDER BY c.oid), 0)::text
        FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid GROUP BY t.top";

const DATABASE: &str =
    "SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// Reads them.
pub(super) async fn read(db: &Session) -> Result<Identities, EngineError> {
    let server = db.system_identifier().await?;
    let server = server.as_deref().unwrap_or("0");
    let rows = db
        .query("asking which database it is", DATABASE, &[])
        .await?;
    let database: u32 = first(&rows, 0)?.unwrap_or(0);
    let sql = FILES.replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let mut files = HashMap::new();
    for row in db.query("reading which files there are", &sql, &[]).await? {
        files.insert(row.get(0)?, row.get(1)?);
    }
    Ok(Identities {
        database: format!("{server}/{database}"),
        files,
    })
}

impl Identities {
    /// Of what is told by these oids: `relations` have files, `others` do not.
    pub(super) fn of(&self, relations: &[u32], others: &[u32]) -> Identity {
        let words = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(" ");
        let mut oids = relations.iter().chain(others).map(u32::to_string);
        let mut files = relations
            .iter()
            .filter_map(|oid| self.files.get(oid))
            .cloned();
        Identity {
            made: format!("{} {}", self.database, words(&mut oids)),
            files: words(&mut files),
        }
    }

    /// Of what is no object by itself, and known by its text.
    pub(super) fn of_text(&self, text: &str) -> Identity {
        Identity {
            made: format!("{} {text}", self.database),
            files: String::new(),
        }
    }
}
