//! Documents that are kept in files before they go: how, and the proof.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engines::mongodb::{Field, FieldType, Json, namespace};
use crate::plan::archived::{self, ArchivedFile, Beside, Flaw, Manifested, flaw, folder};
use crate::values::Engine;

/// No namespace of the server, and no column of ours, has a longer name, in bytes.
pub const LONGEST_NAME: usize = 255;
/// No index or document of ours has more.
const MOST_FIELDS: usize = 1_000;

/// How documents become files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// Folder or bucket: `file:///…`, `s3://bucket/prefix`.
    pub storage: String,
    /// How they are written.
    pub format: Format,
    /// Fields with a column of their own, in Parquet files.
    pub columns: Vec<Field>,
    /// The field that tells the age, for the earliest and the latest.
    pub age: Option<String>,
}

/// Manifests beside the files of a collection that the history does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stray {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// What lies there.
    pub beside: Beside,
}

/// How documents are written into files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line of canonical extended JSON for each document, compressed with zstd.
    #[default]
    Jsonl,
    /// Parquet: `_id`, the declared columns, and the whole document as BSON.
    Parquet,
}

impl Format {
    /// What names of files end with.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Jsonl => ".jsonl.zst",
            Format::Parquet => ".parquet",
        }
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
    /// The engine: what tells such a manifest from those of other engines.
    pub engine: Engine,
    /// Whether the documents are known to have left the collection.
    pub settled: bool,
    /// The target that they came from.
    pub target: String,
    /// The database that they came from.
    pub database: String,
    /// The collection that they came from.
    pub collection: String,
    /// Its identity on the server: another of the same name has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The filter that they met.
    pub condition: Json,
    /// How they are written.
    pub format: Format,
    /// Fields with a column of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Field>,
    /// Documents in all files.
    pub rows: i64,
    /// The database whose collection `maint.archives` tells whether the
    /// transaction that deleted them was committed.
    pub marks: String,
    /// The session of that transaction, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Folder or bucket.
    pub storage: String,
    /// Where they have been brought back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restored: Vec<Restored>,
    /// The files, with their paths below `storage`.
    pub files: Vec<ArchivedFile>,
}

/// Documents of a [`Manifest`] that were brought back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// When.
    pub at: DateTime<Utc>,
    /// Into which database.
    pub database: String,
    /// Into which collection.
    pub collection: String,
    /// Its identity on the server.
    pub uuid: String,
}

impl Manifested for Manifest {
    fn id(&self) -> Uuid {
        self.id
    }

    fn source(&self) -> String {
        namespace(&self.database, &self.collection)
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

    /// Where its copy beside the files is.
    pub fn path(&self) -> String {
        format!(
            "{}_{}.manifest.json",
            Self::folder_of(&self.database, &self.collection),
            self.id
        )
    }

    /// The folder of the files of a collection.
    pub fn folder_of(database: &str, collection: &str) -> String {
        format!("collection={}/", folder(&namespace(database, collection)))
    }

    /// Looks at everything that is used of a manifest.
    ///
    /// # Errors
    /// The first flaw found.
    pub fn examine(&self) -> Result<(), Flaw> {
        if self.engine != Engine::Mongodb {
            return Err(flaw("engine", "is not `mongodb`"));
        }
        let names = [
            ("database", &self.database),
            ("collection", &self.collection),
            ("marks", &self.marks),
        ];
        for (field, name) in names {
            let odd = name.is_empty() || name.len() > LONGEST_NAME || name.contains('\0');
            let dots = field != "collection" && name.contains(['.', '$', '/', '\\', ' ', '"']);
            if odd || dots {
                return Err(flaw(field, "is no name of one"));
            }
        }
        if let Some(session) = &self.session
            && (session.len() != 32 || !session.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(flaw("session", "is not 32 hexadecimal digits"));
        }
        fields(&self.columns).map_err(|(n, why)| flaw(format!("columns[{n}].name"), why))?;
        if self.rows < 0 {
            return Err(flaw("rows", "is negative"));
        }
        let kind = match self.format {
            Format::Jsonl => "`.jsonl.zst`",
            Format::Parquet => "Parquet",
        };
        let rows = archived::examine(&self.files, self.format.ending(), kind)?;
        if rows != self.rows {
            let why = format!("is {}, and the files have {rows}", self.rows);
            return Err(flaw("rows", why));
        }
        Ok(())
    }
}

/// Whether each field can have a column of its own.
///
/// # Errors
/// Which cannot, from 0, and why.
pub fn fields(fields: &[Field]) -> Result<(), (usize, String)> {
    let mut names = HashSet::from(["_id".to_owned()]);
    if fields.len() > MOST_FIELDS {
        return Err((
            MOST_FIELDS,
            format!("is one too many; expected up to {MOST_FIELDS}"),
        ));
    }
    let mut rest = fields
        .iter()
        .enumerate()
        .filter(|(_, f)| f.kind == FieldType::Rest);
    if let Some((n, _)) = rest.nth(1) {
        return Err((n, "is the second for the `rest`".to_owned()));
    }
    for (n, field) in fields.iter().enumerate() {
        let name = &field.name;
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains('\0') {
            return Err((n, "is no name of a field".to_owned()));
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return Err((n, format!("is `{name}`, as another's")));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn every_collection_has_a_folder_that_every_store_takes() {
        let folder = |name: &str| Manifest::folder_of("app", name);
        assert_eq!(folder("events"), "collection=app.events/");
        assert_eq!(folder("a/../b$c"), "collection=app.a%2F..%2Fb%24c/");
        let mut seen = HashSet::new();
        for last in ["a", "b", "ü", "üü"] {
            let long = folder(&format!("{}{last}", "日".repeat(60)));
            assert!(long.len() < 255 && !long.contains(['日', ' ']), "{long}");
            let name = long.trim_end_matches('/');
            assert!(!name.split('~').next().unwrap().ends_with('%'), "{long}");
            assert!(seen.insert(long));
        }
    }

    fn good() -> Value {
        json!({
            "id": "0199c0de-0000-7000-8000-000000000001", "run": "0199c0de-0000-7000-8000-000000000002",
            "maint": "0.1.0", "created_at": "2026-01-01T00:00:00Z", "engine": "mongodb", "settled": true,
            "target": "app", "database": "app", "collection": "ev.$x", "condition": {}, "format": "jsonl", "rows": 3,
            "columns": [{ "name": "at", "type": "date" }, { "name": "n", "type": "objectId" }],
            "marks": "app", "session": "0f".repeat(16), "storage": "file:///x",
            "files": [{ "path": "collection=app.x/a.jsonl.zst", "rows": 3, "bytes": 900, "sha256": "ab".repeat(32),
                "checksum": "0f".repeat(16), "span": null }]
        })
    }

    fn examined(value: Value) -> Result<(), String> {
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| e.to_string())?;
        manifest.examine().map_err(|flaw| flaw.field)
    }

    #[test]
    fn flaws_are_named() {
        examined(good()).unwrap();
        for (pointer, value, field) in [
            (
                "/files/0/path",
                json!("../../etc/x.jsonl.zst"),
                "files[0].path",
            ),
            ("/files/0/path", json!("/etc/x.jsonl.zst"), "files[0].path"),
            ("/files/0/path", json!("a/x.parquet"), "files[0].path"),
            ("/files/0/bytes", json!(1_i64 << 40), "files[0].bytes"),
            ("/files/0/rows", json!(-1), "files[0].rows"),
            ("/files/0/sha256", json!("zz"), "files[0].sha256"),
            ("/engine", json!("postgres"), "engine"),
            ("/database", json!("a.b"), "database"),
            ("/marks", json!(""), "marks"),
            ("/collection", json!("a\0"), "collection"),
            ("/collection", json!("x".repeat(256)), "collection"),
            ("/columns/0/name", json!("N"), "columns[1].name"),
            ("/columns/0/name", json!("_ID"), "columns[0].name"),
            (
                "/columns",
                json!([{ "name": "a", "type": "rest" }, { "name": "b", "type": "rest" }]),
                "columns[1].name",
            ),
            ("/session", json!("x"), "session"),
            ("/rows", json!(4), "rows"),
        ] {
            let mut changed = good();
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(
                examined(changed),
                Err(field.to_owned()),
                "{pointer} {value}"
            );
        }
    }

    /// Every value of a document, by its pointer.
    fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    pointers(value, &format!("{at}/{key}"), all);
                }
            }
            Value::Array(list) => {
                for (n, value) in list.iter().enumerate() {
                    pointers(value, &format!("{at}/{n}"), all);
                }
            }
            _ => {}
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            Just(json!([])),
            Just(json!({})),
            Just(json!("collection=x/../../../etc/passwd.jsonl.zst")),
            Just(json!([{ "name": "a", "type": "rest" }])),
        ]
    }

    proptest! {
        /// Whatever is changed: it is examined or refused, and of a manifest that
        /// passes nothing leads out of its place.
        #[test]
        fn nothing_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..4)) {
            let mut value = good();
            for (which, new) in changes {
                let mut all = Vec::new();
                pointers(&value, "", &mut all);
                let at = all[which.index(all.len())].clone();
                if let Some(old) = value.pointer_mut(&at) {
                    *old = new;
                }
            }
            if let Ok(manifest) = serde_json::from_value::<Manifest>(value)
                && manifest.examine().is_ok()
            {
                prop_assert!(!manifest.database.contains(['/', '.', '\0']));
                for file in &manifest.files {
                    prop_assert!(!file.path.split('/').any(|part| part == "..") && !file.path.starts_with('/'));
                    prop_assert!(file.rows >= 0 && file.bytes >= 0);
                }
            }
        }
    }
}
