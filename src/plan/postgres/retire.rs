//! A partition that leaves as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Manifest, Query, Required, Statement, Walk};

/// A partition that leaves as a whole: it is detached, exported as it is, and
/// dropped when, under a lock, it holds exactly what was stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Retire {
    /// The partition, quoted and qualified.
    pub table: String,
    /// Its id.
    pub oid: u32,
    /// The table that it is, or was, a partition of, as manifests have it.
    pub source: String,
    /// `FOR VALUES …`, with which it could be attached again; unknown where
    /// it has been detached before.
    pub bounds: Option<String>,
    /// Takes it out of its table.
    pub detach: Vec<Statement>,
    /// How all its rows are read, and where they are kept. Without, it has to
    /// be empty.
    pub walk: Option<Walk>,
    /// Answers `true` if it may be dropped: it is no partition any more.
    pub detached: Query,
    /// Asked under the lock as well: whether all its rows are as old as those that leave. Whoever writes to what is
    /// detached is kept from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older: Option<Required>,
    /// What an earlier run came to.
    pub begun: Option<Manifest>,
}

impl Retire {
    /// The statements, as shown to people.
    pub fn text(&self) -> String {
        let detach = self.detach.iter().map(|s| format!("{}; ", s.sql));
        let detach: String = detach.collect();
        let read = match &self.walk {
            Some(_) => format!("SELECT … FROM ONLY {}; ", self.table),
            None => String::new(),
        };
        format!(
            "{detach}{read}BEGIN; {}; SELECT … FROM ONLY {}; {}; COMMIT",
            self.lock(),
            self.table,
            self.drop_table()
        )
    }

    /// Keeps everybody from writing.
    pub fn lock(&self) -> String {
        format!("LOCK TABLE ONLY {} IN SHARE MODE", self.table)
    }

    /// Drops it.
    pub fn drop_table(&self) -> String {
        format!("DROP TABLE {}", self.table)
    }
}
