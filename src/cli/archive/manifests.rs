//! The manifests that are chosen, of the history or beside the files.

use std::collections::BTreeSet;

use serde::Deserialize;
use uuid::Uuid;

use super::Chosen;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::engines::postgres::RelationName;
use crate::engines::storage::{Storage, StorageError};
use crate::history::HistoryError;
use crate::plan::archived::{ArchivedFile, MANIFEST, Manifested, is_at};
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
    fn path(&self) -> String {
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
            Ok(beside) => {
                let of = |one: &Archived| (one.id(), one.rows(), one.files().to_vec());
                match of(&beside) == of(self) {
                    true => return None,
                    false => "it names other files or rows than the history".to_owned(),
                }
            }
        };
        let full = storage.full(&path);
        Some(format!(
            "{what}, {full}, is not as written: {differs}; {lost}"
        ))
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

/// What is said of a target that only the history has.
pub(super) const NOT_CONFIGURED: &str = "which is not configured any more";

/// What is in a place, or known of targets.
pub(super) struct Everything {
    /// Oldest first.
    pub(super) known: Vec<Known>,
    /// What lies beside files as a manifest and cannot be read as one, with why.
    pub(super) unread: Vec<String>,
}

/// The manifests of the history that are asked for, oldest first.
pub(super) async fn asked_for(
    context: &Context<'_>,
    chosen: &Chosen,
) -> Result<Vec<Known>, Failure> {
    narrowed(remembered(context, chosen).await?, chosen)
}

/// All manifests of that place, or of these targets, oldest first.
pub(super) async fn everything(
    context: &Context<'_>,
    chosen: &Chosen,
) -> Result<Everything, Failure> {
    match &chosen.files {
        Some(url) => beside(url).await,
        None => Ok(Everything {
            known: remembered(context, chosen).await?,
            unread: Vec::new(),
        }),
    }
}

/// The ids of partitions that have left as a whole.
pub(super) fn wholes(found: &[Known]) -> Vec<u32> {
    let of = |(_, archived): &Known| match archived {
        Archived::Rows(m) if m.settled => m.whole.as_ref().map(|whole| whole.oid),
        _ => None,
    };
    found.iter().filter_map(of).collect()
}

/// Those of them that are asked for.
pub(super) fn narrowed(mut found: Vec<Known>, chosen: &Chosen) -> Result<Vec<Known>, Failure> {
    if let Some(of) = &chosen.of {
        found.retain(|(target, _)| target.as_ref() == Some(of));
    }
    found.retain(|(_, m)| chosen.from.as_ref().is_none_or(|from| m.is_from(from)));
    let begins = |m: &Archived, wanted: &String| m.id().to_string().starts_with(wanted.as_str());
    for wanted in &chosen.ids {
        if !found.iter().any(|(_, m)| begins(m, wanted)) {
            return Err(Failure::Usage(format!(
                "nothing archived has an id that begins with `{wanted}`\n  hint: `maint archive list` shows them"
            )));
        }
    }
    found.retain(|(_, m)| {
        chosen.ids.is_empty() || chosen.ids.iter().any(|wanted| begins(m, wanted))
    });
    Ok(found)
}

/// What lies beside the files of a place, oldest first. One manifest that cannot be read keeps nobody
/// from the others: whoever can write to the place may have put it there.
async fn beside(url: &str) -> Result<Everything, Failure> {
    let storage = Storage::open(url).map_err(|e| Failure::Usage(with_causes(&e)))?;
    let failed = |error: StorageError| Failure::Other(with_causes(&error));
    let all: BTreeSet<String> = storage
        .list("")
        .await
        .map_err(failed)?
        .into_iter()
        .collect();
    let (mut known, mut unread) = (Vec::new(), Vec::new());
    for path in all.iter().filter(|path| is_at(path)) {
        let content = match storage.get(path, MANIFEST).await {
            Ok(content) => content,
            Err(error) if error.is_about_the_file() => {
                unread.push(with_causes(&error));
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        match lying_at(path, &content, &all, url) {
            Ok(archived) => known.push(archived.beside(url)),
            Err(why) => unread.push(format!("{}: {why}", storage.full(path))),
        }
    }
    match (known.is_empty(), unread.is_empty()) {
        (true, true) => {
            let hint = match above(url) {
                Some(root) => format!(
                    "they lie at the top of the folder of a table or collection, and are found from the folder above it: --files {root}"
                ),
                None => "they lie in folders `table=…` and `collection=…` as `_ID.manifest.json`"
                    .to_owned(),
            };
            return Err(Failure::Usage(format!(
                "there are no manifests below {url}\n  hint: {hint}"
            )));
        }
        (true, false) => return Err(Failure::Usage(unread.swap_remove(0))),
        (false, _) => {}
    }
    known.sort_by_key(|(_, archived)| archived.id());
    known.dedup_by_key(|(_, archived)| archived.id());
    Ok(Everything { known, unread })
}

/// The manifest with this content at this path, one of `all` below the place.
fn lying_at(
    path: &str,
    content: &[u8],
    all: &BTreeSet<String>,
    url: &str,
) -> Result<Archived, String> {
    let value: serde_json::Value = serde_json::from_slice(content)
        .map_err(|error| format!("is no manifest that this version can read: {error}"))?;
    let archived = Archived::read(value)?;
    if !path.ends_with(&format!("_{}.manifest.json", archived.id())) {
        return Err(format!(
            "`id` is {}, and its name says another",
            archived.id()
        ));
    }
    let files = archived.files();
    if !files.is_empty()
        && !files.iter().any(|file| all.contains(&file.path))
        && let Some(root) = root(url, path, &archived.path())
    {
        return Err(format!(
            "the files that it names begin with a folder `{}` below {url}, where none of them is\n  hint: their place is another folder: --files {root}",
            archived.path().split('/').next().unwrap_or_default()
        ));
    }
    Ok(archived)
}

/// The folder that paths begin at, where a manifest that was found at this path below this folder is
/// at another one: the folder is too deep then, or not deep enough.
fn root(url: &str, found: &str, path: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let ends = |whole: &str, end: &str| {
        let rest = whole.strip_suffix(end)?.strip_suffix('/')?;
        (!rest.is_empty()).then(|| rest.to_owned())
    };
    if let Some(below) = ends(found, path) {
        return Some(format!("{url}/{below}"));
    }
    let place = ends(url, &ends(path, found)?)?;
    let is_one = |(_, folder): (&str, &str)| !folder.is_empty() && folder != "/";
    place.split_once("://").is_some_and(is_one).then_some(place)
}

/// The folder above the one of a table or collection that a place is in.
fn above(url: &str) -> Option<String> {
    let is_of_a_table = |folder: &str| {
        folder
            .split_once('=')
            .is_some_and(|(key, _)| ["table", "collection"].contains(&key.trim_end_matches('_')))
    };
    let (scheme, path) = url.split_once("://")?;
    let folders: Vec<&str> = path.split('/').collect();
    let at = folders.iter().position(|folder| is_of_a_table(folder))?;
    Some(format!("{scheme}://{}", folders.get(..at)?.join("/")))
}

/// By which kind archives are remembered.
pub(super) const KIND: &str = "archive";

/// What the history knows.
async fn remembered(context: &Context<'_>, chosen: &Chosen) -> Result<Vec<Known>, Failure> {
    let config = context.config().await?;
    let store = match crate::history::open_existing(config.history.expose()).await {
        // Nothing was archived yet that it knows of; what was not found is not out of reach.
        Err(error @ HistoryError::Missing { .. }) => {
            let hint = error.hint().map(|hint| format!("\n  hint: {hint}"));
            return Err(Failure::Usage(format!(
                "{error}{}",
                hint.unwrap_or_default()
            )));
        }
        opened => opened?,
    };
    let mut found = Vec::new();
    // Of a target that is gone, or goes by another name now, the archive is all there is.
    let names = store.remembered(KIND).await?;
    // What is brought back may come from another target than it goes to.
    let wanted = chosen.of.as_ref().or(chosen.target.as_ref());
    for name in [&chosen.of, &chosen.target].into_iter().flatten() {
        if !names.contains(name) {
            crate::cli::context::known_target(&config, name)?;
        }
    }
    for name in &names {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let memories = store.memories(name, KIND).await?;
        let manifests = memories
            .into_iter()
            .filter(|(key, value)| key.starts_with("archive ") && !value.is_null());
        let mut here = Vec::new();
        for (key, value) in manifests {
            let id = key.trim_start_matches("archive ");
            let mut archived = Archived::read(value)
                .map_err(|why| Failure::Usage(format!("what the history says of {id}: {why}")))?;
            if let Archived::Rows(manifest) = &mut archived {
                manifest.target.get_or_insert_with(|| name.clone());
            }
            here.push((Some(name.clone()), archived));
        }
        here.sort_by_key(|(_, archived)| archived.id());
        found.extend(here);
    }
    Ok(found)
}

/// What one of all these is called. Of both kinds together the words of tables do.
pub(super) fn unit_of<'a>(all: impl IntoIterator<Item = &'a Known>) -> &'static str {
    let mut engines = all.into_iter().map(|(_, archived)| archived.engine());
    match engines.next() {
        Some(first) if engines.all(|engine| engine == first) => first.counted(),
        _ => Engine::Postgres.counted(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_that_is_meant_is_found() {
        let path = "table=public.t/_1.manifest.json";
        for (url, found, meant) in [
            ("file:///a/b", path, None),
            (
                "file:///a/b/table=public.t/",
                "_1.manifest.json",
                Some("file:///a/b"),
            ),
            (
                "file:///a",
                "b/c/table=public.t/_1.manifest.json",
                Some("file:///a/b/c"),
            ),
            ("file:///a/other", "_1.manifest.json", None),
            ("s3://table=public.t", "_1.manifest.json", None),
        ] {
            let root = root(url, found, path);
            assert_eq!(root.as_deref(), meant, "{url} {found}");
        }
        for (url, meant) in [
            ("s3://b/a/table_=public.t/year=2020", Some("s3://b/a")),
            ("file:///a/collection=d.c", Some("file:///a")),
            ("file:///a/year=2020", None),
            ("/a/table=t", None),
        ] {
            assert_eq!(above(url).as_deref(), meant, "{url}");
        }
    }
}
