//! What files of an archive have in common, whatever the engine: where they
//! lie, what proves them, and a look at what a manifest says of them before
//! anything is done for it.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::engines::parquet::Checksum;
use crate::engines::storage::Size;
use crate::plan::{Finding, Severity};

const LONGEST_PATH: usize = 1_024;
/// The largest file that is read, in bytes: it is held in memory.
const MOST_FILE_BYTES: u64 = 1 << 30;

/// How large a manifest may be: a table of many months has many files.
pub const MANIFEST: Size = Size::UpTo(64 << 20);

/// What manifests of every engine say.
pub trait Manifested {
    /// Its own.
    fn id(&self) -> Uuid;
    /// The table or collection, as manifests have it.
    fn source(&self) -> String;
    /// Rows or documents in all files.
    fn rows(&self) -> i64;
    /// The files, with their paths below the folder or bucket.
    fn files(&self) -> &[ArchivedFile];
    /// Whether the rows are known to have left their table.
    fn settled(&self) -> bool;
}

/// Whether there is a manifest at this path.
pub fn is_at(path: &str) -> bool {
    path.ends_with(".manifest.json")
}

/// The id of the manifest at this path, as its name says.
pub fn id_at(path: &str) -> Option<Uuid> {
    let name = path.rsplit('/').next()?.strip_prefix('_')?;
    name.strip_suffix(".manifest.json")?.parse().ok()
}

/// Manifests beside the files of a table or collection that the history does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Beside {
    /// Folder or bucket: `file:///…`, `s3://bucket/prefix`.
    pub storage: String,
    /// The folder of the table or collection in it.
    pub folder: String,
    /// Their ids, oldest first.
    pub ids: Vec<Uuid>,
}

impl Beside {
    /// Those among `ids` that are not known; none where all are.
    pub fn unknown(
        storage: &str,
        folder: &str,
        ids: &[Uuid],
        is_known: impl Fn(Uuid) -> bool,
    ) -> Option<Beside> {
        let mut ids: Vec<Uuid> = ids.iter().copied().filter(|id| !is_known(*id)).collect();
        ids.sort();
        (!ids.is_empty()).then(|| Beside {
            storage: storage.to_owned(),
            folder: folder.to_owned(),
            ids,
        })
    }

    /// Where one of them is.
    pub fn path(&self, id: Uuid) -> String {
        format!("{}_{id}.manifest.json", self.folder)
    }
}

/// Whether a history that remembers this knows a manifest: as its own, or as another's.
pub fn is_known(id: Uuid, memories: &HashMap<String, Value>) -> bool {
    let keys = [remembered_as(id), stranger_as(id), left_over_as(id)];
    let known = |key: &String| memories.get(key).is_some_and(|value| !value.is_null());
    keys.iter().any(known)
}

/// Under which key it is remembered that a manifest beside the files is another target's.
pub fn stranger_as(id: Uuid) -> String {
    format!("stranger {id}")
}

/// Under which key a manifest is remembered whose rows are in their table, and whose files could not
/// be removed.
pub fn left_over_as(id: Uuid) -> String {
    format!("left over {id}")
}

/// What is told of them; `unit` is what their rows are called, and `of` what they are in.
pub fn cannot_be_removed(
    manifest: &dyn Manifested,
    (unit, of): (&str, &str),
    storage: &str,
    why: &str,
) -> Finding {
    let (id, rows) = (manifest.id(), manifest.rows());
    Finding {
        code: "archive.left_over".to_owned(),
        severity: Severity::Warning,
        object: of.to_owned(),
        message: format!(
            "files of {rows} {unit} that are in {of} still, of a batch that was taken back, lie in {storage} and cannot be removed: {why}. Each run tries again"
        ),
        suggestion: Some(format!("maint archive settle {id} --seen-to")),
    }
}

/// Under which key a manifest is remembered.
pub fn remembered_as(id: Uuid) -> String {
    format!("archive {id}")
}

/// Under which key it is remembered where a manifest was restored to.
pub fn restored_as(id: Uuid) -> String {
    format!("restored {id}")
}

/// Under which key it is remembered on which server the archived rows of a table were last seen
/// to have left it.
pub fn seen_as(source: &str) -> String {
    format!("archived from {source}")
}

/// Under which key it is remembered on which server of another target the rows that came into a
/// table were last looked for.
pub fn received_as(target: &str, table: &str) -> String {
    format!("received by {target} in {table}")
}

/// Under which key it is remembered what another target has lost of the rows that came into a table.
pub fn lost_as(target: &str, table: &str) -> String {
    format!("lost by {target} in {table}")
}

/// The manifests among what a kind remembers, oldest first.
pub fn among<'a, M: Manifested + DeserializeOwned>(
    memories: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Vec<M> {
    of_keys("archive ", memories)
}

/// Those whose rows are in their table, and whose files could not be removed, oldest first.
pub fn left_over<'a, M: Manifested + DeserializeOwned>(
    memories: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Vec<M> {
    of_keys("left over ", memories)
}

fn of_keys<'a, M: Manifested + DeserializeOwned>(
    begin: &str,
    memories: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Vec<M> {
    let mut found: Vec<M> = memories
        .filter(|(key, _)| key.starts_with(begin))
        .filter_map(|(_, value)| M::deserialize(value).ok())
        .collect();
    found.sort_by_key(M::id);
    found
}

/// One file of a manifest.
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

impl ArchivedFile {
    /// How large it was written.
    pub fn size(&self) -> Size {
        Size::Exactly(u64::try_from(self.bytes).unwrap_or(0))
    }
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct Flaw {
    /// Where: `files[3].path`.
    pub field: String,
    /// What is wrong there.
    pub why: String,
}

pub(super) fn flaw(field: impl Into<String>, why: impl Into<String>) -> Flaw {
    Flaw {
        field: field.into(),
        why: why.into(),
    }
}

/// Looks at all files of a manifest, and gives the sum of their rows.
/// `ending` is what their names end with: of files that are `kind`.
///
/// # Errors
/// The first flaw found.
pub(super) fn examine(files: &[ArchivedFile], ending: &str, kind: &str) -> Result<i64, Flaw> {
    let mut rows = 0_i64;
    let mut paths = HashSet::new();
    for (n, file) in files.iter().enumerate() {
        one(file, ending, kind).map_err(|f| flaw(format!("files[{n}].{}", f.field), f.why))?;
        if !paths.insert(file.path.as_str()) {
            return Err(flaw(format!("files[{n}].path"), "is named twice"));
        }
        rows = rows.saturating_add(file.rows);
    }
    Ok(rows)
}

fn one(file: &ArchivedFile, ending: &str, kind: &str) -> Result<(), Flaw> {
    path(&file.path).map_err(|why| flaw("path", why))?;
    if !file.path.ends_with(ending) {
        let why = format!("is `{}`, which is no {kind} file", file.path);
        return Err(flaw("path", why));
    }
    if file.rows < 0 {
        return Err(flaw("rows", "is negative"));
    }
    if u64::try_from(file.bytes).map_or(true, |bytes| bytes > MOST_FILE_BYTES) {
        let why = format!("is {}; expected 0 to {MOST_FILE_BYTES}", file.bytes);
        return Err(flaw("bytes", why));
    }
    let hexadecimal = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if file.sha256.len() != 64 || !hexadecimal(&file.sha256) {
        return Err(flaw("sha256", "is not 64 hexadecimal digits"));
    }
    let sum = file.checksum.parse::<Checksum>();
    if sum.map_or(true, |sum| sum.to_string() != file.checksum) {
        return Err(flaw("checksum", "is not 32 hexadecimal digits"));
    }
    let spans = file.span.iter().flat_map(|(a, b)| [a, b]);
    if spans.into_iter().any(|text| text.len() > 64) {
        return Err(flaw("span", "is no time"));
    }
    Ok(())
}

/// Whether a path is below the folder or bucket, whatever lies there.
///
/// # Errors
/// What is wrong with it.
fn path(path: &str) -> Result<(), String> {
    if path.is_empty() || path.len() > LONGEST_PATH {
        return Err("is empty, or longer than any path".to_owned());
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has characters that no path of an archive has".to_owned());
    }
    if path.starts_with('/') {
        return Err(format!("is `{path}`; expected a path below the archive"));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("is `{path}`, which leads out of the archive"));
    }
    Ok(())
}

/// File systems take names of 255 bytes; what stands before and behind is short.
const LONGEST_FOLDER: usize = 220;

/// A name as part of a path that every store accepts. Of a long one its beginning, and what
/// tells it from others that begin so.
pub fn folder(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() > LONGEST_FOLDER {
        let digest = Sha256::digest(name.as_bytes());
        let digits: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        out.truncate(LONGEST_FOLDER);
        // No half of what stands for a byte.
        if let Some(at) = out.rfind('%').filter(|at| at + 3 > out.len()) {
            out.truncate(at);
        }
        out = format!("{out}~{digits}");
    }
    out
}
