//! What was archived at once, of whatever engine, as its manifest says.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::engines::postgres::RelationName;
use crate::engines::storage::Storage;
use crate::plan::archived::{ArchivedFile, MANIFEST, Manifested};
use crate::plan::{mongodb, postgres};
use crate::report::text::shown;
use crate::values::{Engine, TableName, with_causes};

/// What was archived at once.
pub(super) enum Archived {
    /// Of a table.
    Rows(Box<postgres::Manifest>),
    /// Of a collection.
    Documents(Box<mongodb::Manifest>),
}

impl Archived {
    /// What manifests of every engine say.
    fn said(&self) -> &dyn Manifested {
        match self {
            Archived::Rows(m) => m.as_ref(),
            Archived::Documents(m) => m.as_ref(),
        }
    }

    pub(super) fn id(&self) -> Uuid {
        self.said().id()
    }

    /// The table or collection, as manifests have it.
    pub(super) fn source(&self) -> String {
        self.said().source()
    }

    pub(super) fn rows(&self) -> i64 {
        self.said().rows()
    }

    pub(super) fn files(&self) -> &[ArchivedFile] {
        self.said().files()
    }

    pub(super) fn settled(&self) -> bool {
        self.said().settled()
    }

    /// The table or partition, or the collection.
    pub(super) fn table(&self) -> String {
        match self {
            Archived::Rows(m) => m.table.clone(),
            Archived::Documents(m) => m.source(),
        }
    }

    /// Whether that is a name of what it came from: of the table, or of the partition that
    /// `archive list` shows.
    pub(super) fn is_from(&self, name: &str) -> bool {
        match self {
            Archived::Rows(m) => {
                let own = [&m.source, &m.table];
                let quoted = name
                    .parse::<TableName>()
                    .map(|t| RelationName::new(&*t.schema, &*t.table).to_string());
                own.iter().any(|one| shown(one) == name)
                    || quoted.is_ok_and(|quoted| own.contains(&&quoted))
            }
            Archived::Documents(m) => name == m.collection || name == m.source(),
        }
    }

    /// Where it is, and whether that is a partition as a whole.
    pub(super) fn place(&self) -> (String, bool) {
        match self {
            Archived::Rows(m) => match &m.received {
                Some(received) => (
                    format!("{} on {}", received.table, received.target),
                    m.whole.is_some(),
                ),
                None => (m.storage.clone(), m.whole.is_some()),
            },
            Archived::Documents(m) => (m.storage.clone(), false),
        }
    }

    /// Where its manifest is, below the place of its files.
    pub(super) fn path(&self) -> String {
        match self {
            Archived::Rows(m) => m.path(),
            Archived::Documents(m) => m.path(),
        }
    }

    /// The folder of its manifest, where it has files.
    pub(super) fn folder(&self) -> Option<String> {
        let path = self.path();
        let folder = path
            .rsplit_once('/')
            .map(|(folder, _)| format!("{folder}/"));
        folder.filter(|_| self.has_files())
    }

    /// As it lies in this place, with the target that it is of, where it says that.
    pub(super) fn beside(mut self, url: &str) -> Known {
        // They may have been moved since.
        let target = match &mut self {
            Archived::Rows(m) => {
                url.clone_into(&mut m.storage);
                m.target.clone()
            }
            Archived::Documents(m) => {
                url.clone_into(&mut m.storage);
                Some(m.target.clone())
            }
        };
        (target, self)
    }

    /// What is wrong with the manifest beside the files, as the history knows it: without it, nobody
    /// finds them once the history is lost.
    pub(super) async fn strayed(&self) -> Option<String> {
        // It is put there when the files are proved.
        if !self.has_files() || self.files().is_empty() || !self.settled() {
            return None;
        }
        let (url, path) = (self.place().0, self.path());
        let storage = Storage::open(&url).ok()?;
        let what = "its files are as written, and the manifest beside them";
        let lost = "without it nobody finds them once the history is lost: put it back from a copy of the place";
        let content = match storage.get(&path, MANIFEST).await {
            Ok(content) => content,
            Err(error) if error.is_about_the_file() => {
                let full = storage.full(&path);
                return Some(format!("{what}, {full}, is gone; {lost}"));
            }
            Err(error) => return Some(format!("{what} {}", with_causes(&error))),
        };
        let read = serde_json::from_slice(&content).map_err(|error| error.to_string());
        let differs = match read.and_then(Archived::read) {
            Err(why) => why,
            Ok(beside) => match self.differing(&beside).as_slice() {
                [] => return None,
                fields => format!("it differs from the history in {}", fields.join(", ")),
            },
        };
        let full = storage.full(&path);
        Some(format!(
            "{what}, {full}, is not as written: {differs}; {lost}"
        ))
    }

    /// In which fields of a manifest that lies beside files something else is said than here: each of them
    /// counts once it is all there is. Where it lies may change; what came later, and by which server and session
    /// it was settled, is noted in the history alone.
    fn differing(&self, beside: &Archived) -> Vec<String> {
        const MAY_DIFFER: [&str; 7] = [
            "storage",
            "restored",
            "doubted",
            "transaction",
            "server",
            "since",
            "session",
        ];
        let (own, other) = (self.fields(), beside.fields());
        let names: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
        let differ = |name: &&&String| own.get(**name) != other.get(**name);
        let differing = names
            .iter()
            .filter(|name| !MAY_DIFFER.contains(&name.as_str()))
            .filter(differ);
        differing.map(|name| format!("`{name}`")).collect()
    }

    fn fields(&self) -> Map<String, Value> {
        let written = match self {
            Archived::Rows(m) => serde_json::to_value(m),
            Archived::Documents(m) => serde_json::to_value(m),
        };
        match written {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }

    /// As whoever could write beside the files may have changed it, of a batch whose end nobody has
    /// seen: what it says of the server's transaction or session counts no more. Of rows the next run
    /// looks for themselves. Of documents the files count as all there is: those that are in their
    /// collection still are archived once more, and come back once, by their `_id`.
    pub(super) fn doubted(mut self) -> Archived {
        match &mut self {
            Archived::Rows(m) if !m.settled => m.doubted = true,
            Archived::Documents(m) => {
                m.settled = true;
                m.session = None;
            }
            Archived::Rows(_) => {}
        }
        self
    }

    /// The engine it is of.
    pub(super) fn engine(&self) -> Engine {
        match self {
            Archived::Rows(_) => Engine::Postgres,
            Archived::Documents(_) => Engine::Mongodb,
        }
    }

    /// Rows in another database have no files.
    pub(super) fn has_files(&self) -> bool {
        match self {
            Archived::Rows(m) => m.received.is_none(),
            Archived::Documents(_) => true,
        }
    }

    /// What its rows come from.
    pub(super) fn containers(&self) -> &'static str {
        match self {
            Archived::Rows(_) => "tables",
            Archived::Documents(_) => "collections",
        }
    }

    /// One of them.
    pub(super) fn container(&self) -> &'static str {
        self.containers().trim_end_matches('s')
    }

    /// What its rows are called.
    pub(super) fn unit(&self) -> &'static str {
        match self {
            Archived::Rows(_) => "rows",
            Archived::Documents(_) => "documents",
        }
    }

    /// Reads what is one, and refuses what cannot be.
    pub(super) fn read(value: serde_json::Value) -> Result<Archived, String> {
        let unreadable = |error: serde_json::Error| {
            format!("is no manifest that this version can read: {error}")
        };
        let engine = value.get("engine").cloned();
        let archived = match engine.as_ref().map(Engine::deserialize) {
            None | Some(Ok(Engine::Postgres)) => {
                Archived::Rows(Box::new(serde_json::from_value(value).map_err(unreadable)?))
            }
            Some(Ok(Engine::Mongodb)) => {
                Archived::Documents(Box::new(serde_json::from_value(value).map_err(unreadable)?))
            }
            Some(Err(error)) => return Err(format!("`engine` is none that is known: {error}")),
        };
        let examined = match &archived {
            Archived::Rows(m) => m.examine(),
            Archived::Documents(m) => m.examine(),
        };
        examined.map_err(|flaw| flaw.to_string())?;
        Ok(archived)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let value = match self {
            Archived::Rows(m) => serde_json::to_value(m),
            Archived::Documents(m) => serde_json::to_value(m),
        };
        value.unwrap_or_default()
    }
}

/// What was archived, and the target it is of, where that is known.
pub(super) type Known = (Option<String>, Archived);
