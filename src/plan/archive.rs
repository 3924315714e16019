//! Rows that are kept elsewhere before they go: where to, and the proof.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engines::parquet::Column;

/// What becomes of the rows of a [`Walk`](super::Walk).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// They are deleted.
    Delete,
    /// They move into another table of the same database, in one statement.
    Move {
        /// That table, quoted and qualified.
        into: String,
        /// The columns, quoted.
        columns: Vec<String>,
    },
    /// They are written into files, proved to be there, and deleted.
    Export(Export),
    /// They are written into a table of another target, proved to be there,
    /// and deleted.
    Send(Send),
}

/// How rows get into another database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Send {
    /// The other target.
    pub target: String,
    /// The table there, quoted and qualified.
    pub into: String,
    /// Name of the table here, as manifests have it.
    pub source: String,
    /// What is kept.
    pub columns: Vec<Column>,
}

/// Rows in a table of another target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// The other target.
    pub target: String,
    /// The table there, quoted and qualified.
    pub table: String,
    /// The id, on that server, of the transaction that wrote them.
    pub transaction: String,
}

/// How rows become files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// Folder or bucket: `file:///…`, `s3://bucket/prefix`.
    pub storage: String,
    /// The table as files name it: of a partition, the partitioned table.
    pub source: String,
    /// What is kept.
    pub columns: Vec<Column>,
    /// Which column tells the year and month of a row, from 0, and how.
    pub month: Option<(usize, MonthOf)>,
}

/// How a column tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonthOf {
    /// Days, or microseconds, since 2000, as the server sends them.
    Calendar,
    /// A whole number; so many of them are a second.
    Epoch(i64),
    /// The first 48 bits of a UUID are milliseconds.
    Uuid,
}

/// What was archived at once, and the proof that it can be had back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Its own.
    pub id: Uuid,
    /// The run that wrote it.
    pub run: Uuid,
    /// Version of maint.
    pub maint: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Whether the rows are known to have left the table.
    pub settled: bool,
    /// The table as files name it.
    pub source: String,
    /// The table that held the rows: perhaps a partition of `source`. Quoted.
    pub table: String,
    /// The condition they met.
    pub condition: String,
    /// Which columns were kept, and how.
    pub columns: Vec<Column>,
    /// Rows in all files.
    pub rows: i64,
    /// The server's id of the transaction that deleted them.
    pub transaction: String,
    /// Folder or bucket; empty where the rows are in another database.
    pub storage: String,
    /// Where they are in another database.
    #[serde(default)]
    pub received: Option<Received>,
    /// The files, with their paths below `storage`.
    pub files: Vec<ArchivedFile>,
}

/// One file of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedFile {
    /// Its path below the folder or bucket.
    pub path: String,
    /// Its rows.
    pub rows: i64,
    /// Its size.
    pub bytes: i64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// Checksum of its rows as the server sent them, in any order.
    pub checksum: String,
    /// Its earliest and latest row by age, as text.
    pub span: Option<(String, String)>,
}

impl Manifest {
    /// Under which key it is remembered.
    pub fn key(&self) -> String {
        format!("archive {}", self.id)
    }

    /// The manifests among what the kind remembers, oldest first.
    pub fn among<'a>(
        memories: impl Iterator<Item = (&'a String, &'a serde_json::Value)>,
    ) -> Vec<Manifest> {
        let mut found: Vec<Manifest> = memories
            .filter(|(key, _)| key.starts_with("archive "))
            .filter_map(|(_, value)| serde_json::from_value(value.clone()).ok())
            .collect();
        found.sort_by_key(|manifest| manifest.id);
        found
    }

    /// Where its copy beside the files is.
    pub fn path(&self) -> String {
        format!("table={}/_{}.manifest.json", folder(&self.source), self.id)
    }
}

/// A name as part of a path that every store accepts.
pub fn folder(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
