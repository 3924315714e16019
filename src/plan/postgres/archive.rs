//! Rows that are kept elsewhere before they go: where to, and the proof.

mod again;

pub use again::Looked;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::engines::parquet::Column;
use crate::engines::postgres::timeline::Standpoint;
use crate::plan::Finding;
use crate::plan::archived::{self, ArchivedFile, Beside, Manifested, folder};

/// What becomes of the rows of a walk.
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
    /// Its schema, unquoted.
    pub schema: String,
    /// Name of the table here, as manifests have it.
    pub source: String,
    /// Its id.
    #[serde(default)]
    pub oid: u32,
    /// What is kept.
    pub columns: Vec<Column>,
    /// Whether some may read only a part of the table here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confined: bool,
    /// The newest batch that came there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Received>,
}

/// SQL: keeps everybody but its owner from the rows of a table that is made for those of one of which some may
/// read only a part, whatever default privileges give them.
pub fn only_for_its_owner(table: &str) -> String {
    format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
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
    /// Which server that is, as [`Manifest::server`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// When that was started, as [`Manifest::since`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The id of the database there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_oid: Option<u32>,
    /// The id of the table there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// Checksum of the rows as they came, in any order: a server that was set back gives the id of
    /// the transaction to another one, whose rows look the same by it. Older manifests do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// Rows of a table that another target has lost: told until a person says that it is seen to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// The table that they left, as manifests have it.
    pub source: String,
    /// The manifests, newest first.
    pub batches: Vec<Uuid>,
    /// What is told.
    pub finding: Finding,
}

impl Lost {
    /// What is told of a table by now, with the key that it is remembered under.
    pub fn among(memories: &HashMap<String, Value>) -> Vec<(&String, Lost)> {
        let mut found: Vec<_> = memories
            .iter()
            .filter(|(key, _)| key.starts_with("lost by "))
            .filter_map(|(key, value)| Some((key, Lost::deserialize(value).ok()?)))
            .collect();
        found.sort_by_key(|(key, _)| *key);
        found
    }
}

/// How rows become files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// Folder or bucket: `file:///…`, `s3://bucket/prefix`.
    pub storage: String,
    /// The table as files name it: of a partition, the partitioned table.
    pub source: String,
    /// Its id.
    #[serde(default)]
    pub oid: u32,
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

/// What a manifest has to say of a partition that leaves as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Whole {
    /// Its id.
    pub oid: u32,
    /// `FOR VALUES …`, with which it could be attached again.
    pub bounds: Option<String>,
    /// Up to which block its rows are stored.
    pub place: i64,
}

/// What an archive has to know before it goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settle {
    /// The table, as manifests have it.
    pub source: String,
    /// Its id.
    pub oid: u32,
    /// Batches whose end nobody saw.
    pub pending: Vec<Manifest>,
    /// Batches whose rows are in the table, and whose files could not be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_over: Vec<Manifest>,
    /// Whether batches that have left may be in the table again.
    pub look_back: bool,
    /// Partitions that batches have left, and that are other tables by now: their names and ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub put_back: BTreeMap<String, u32>,
    /// What lies beside the files, and the history does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// Other names that this target had: what is remembered under them is taken over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<String>,
}

impl Settle {
    /// What is asked, as shown to people.
    pub fn text(&self) -> String {
        let mut asked = Vec::new();
        if let Some(beside) = &self.beside {
            let (some, place) = (beside.ids.len(), &beside.storage);
            asked.push(format!(
                "read {some} manifests of {place}/{}",
                beside.folder
            ));
        }
        if !self.pending.is_empty() {
            asked.push("SELECT pg_catalog.pg_xact_status(…)".to_owned());
        }
        if !self.left_over.is_empty() {
            asked.push("remove files".to_owned());
        }
        if self.look_back {
            let seen = "JOIN the newest archived rows";
            asked.push(format!("SELECT … FROM {} {seen}", self.source));
        }
        asked.join("; ")
    }
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
    /// Whether a look has found what contradicts that they have left: what a server says of the
    /// transaction counts no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
    /// The table as files name it.
    pub source: String,
    /// Its id, whatever it is called by now; older manifests do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// The table that held the rows: perhaps a partition of `source`. Quoted.
    pub table: String,
    /// Its id; older manifests do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_oid: Option<u32>,
    /// The condition they met.
    pub condition: String,
    /// Which columns were kept, and how.
    pub columns: Vec<Column>,
    /// Rows in all files.
    pub rows: i64,
    /// The server's id of the transaction that deleted them, or dropped their
    /// table; empty where it has not come to that, or a person has said that they are gone.
    pub transaction: String,
    /// Which server that was: its system identifier and its timeline. On another one, or after a
    /// failover, the same id is another transaction's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// When that server was started: one that was started anew may have been set back to before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Folder or bucket; empty where the rows are in another database.
    pub storage: String,
    /// Where they are in another database.
    #[serde(default)]
    pub received: Option<Received>,
    /// Where they are, or were, a partition that leaves as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
    /// The target that the rows came from; older manifests do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The database that they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Its id; older manifests do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_oid: Option<u32>,
    /// Where they have been brought back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restored: Vec<Restored>,
    /// The files, with their paths below `storage`.
    pub files: Vec<ArchivedFile>,
}

/// Rows of a [`Manifest`] that were brought back, once the transaction commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// When.
    pub at: DateTime<Utc>,
    /// Into which table, quoted and qualified.
    pub into: String,
    /// Its id.
    pub oid: u32,
    /// The database's name and id.
    pub database: String,
    /// The server's id of the transaction.
    pub transaction: String,
    /// Which server, as [`Manifest::server`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Whether that was, then, the table that the rows came from, a part of it, or one that it is
    /// a part of: whoever reads that table has them again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub home: bool,
}

impl Manifested for Manifest {
    fn id(&self) -> Uuid {
        self.id
    }

    fn source(&self) -> String {
        self.source.clone()
    }

    fn rows(&self) -> i64 {
        self.rows
    }

    fn files(&self) -> &[ArchivedFile] {
        &self.files
    }

    fn settled(&self) -> bool {
        self.settled
    }
}

impl Manifest {
    /// Under which key it is remembered.
    pub fn key(&self) -> String {
        archived::remembered_as(self.id)
    }

    /// The batches of a table that have left it, and were not brought back into it, as far as
    /// servers have said so and no person; oldest first.
    pub fn left(
        source: &str,
        oid: u32,
        here: &Standpoint,
        memories: &HashMap<String, Value>,
    ) -> Vec<Manifest> {
        let mut all = archived::among::<Manifest>(memories.iter());
        all.retain(|m| m.settled && !m.transaction.is_empty());
        // A table that was renamed has the same id. One that has got its name may have been put in
        // its place, with rows that had left.
        let same = |m: &Manifest| m.database_oid.is_none_or(|own| own == here.database);
        all.retain(|m| m.source == source || (m.oid == Some(oid) && same(m)));
        all.retain(|m| {
            let later = memories.get(&archived::restored_as(m.id));
            let later = later.and_then(|marks| Vec::<Restored>::deserialize(marks).ok());
            let mut marks = m.restored.iter().chain(later.iter().flatten());
            !marks.any(|mark| mark.home || mark.into == m.source || mark.into == m.table)
        });
        all
    }

    /// The batches that went into this table of another database, oldest first.
    pub fn received_by(
        send: &Send,
        memories: &HashMap<String, Value>,
    ) -> Vec<(Manifest, Received)> {
        let all = archived::among::<Manifest>(memories.iter()).into_iter();
        let of = |m: Manifest| {
            let received = m.received.clone()?;
            let same = received.target == send.target && received.table == send.into;
            (same && m.settled).then_some((m, received))
        };
        all.filter_map(of).collect()
    }

    /// Where its copy beside the files is.
    pub fn path(&self) -> String {
        format!(
            "{}_{}.manifest.json",
            Self::folder_of(&self.source, &self.columns),
            self.id
        )
    }

    /// The folder of the files of a table with these columns.
    pub fn folder_of(source: &str, columns: &[Column]) -> String {
        format!("{}={}/", folder_key("table", columns), folder(source))
    }
}

/// What a folder says `=` of: readers take it for a column, and prefer it to
/// one of that name in the file.
pub fn folder_key(name: &str, columns: &[Column]) -> String {
    let mut key = name.to_owned();
    while columns.iter().any(|c| c.name.eq_ignore_ascii_case(&key)) {
        key.push('_');
    }
    key
}
