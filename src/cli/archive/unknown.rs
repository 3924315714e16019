//! What lies beside files and the history does not know: it was lost, or set back to before that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Chosen;
use super::archived::{Archived, Known};
use super::manifests::{Everything, KIND, narrowed};
use crate::cli::context::Context;
use crate::cli::{Failure, documents};
use crate::config::Config;
use crate::engines::storage::{Storage, StorageError};
use crate::plan::archived::{MANIFEST, id_at, left_over_as, remembered_as, stranger_as};
use crate::report::text::{counted_rows, shown};
use crate::values::with_causes;

/// So many answers of a store are waited for at once.
const AT_ONCE: usize = 8;

/// What was seen in the places of files.
#[derive(Default)]
pub(super) struct Unknown {
    /// Archives of targets that are known here, or of nobody knows which; oldest first.
    archives: Vec<Known>,
    /// Manifests that cannot be read, with why.
    unread: Vec<String>,
    /// Places that cannot be looked at, with why.
    unseen: BTreeMap<String, String>,
    /// What is in tables of databases instead of files, and so does not come from there: what of, where, and how
    /// many rows.
    in_tables: BTreeMap<(String, String), i64>,
}

/// What the history has of all targets.
struct Memories {
    targets: BTreeSet<String>,
    /// Keys of manifests.
    keys: BTreeSet<String>,
    /// What they are of: tables and collections.
    sources: BTreeSet<String>,
    /// Manifests that runs have found to be another's, by their keys: whose runs, and of which target
    /// they say to be.
    others: HashMap<String, Vec<(String, Option<String>)>>,
}

impl Memories {
    async fn read(config: &Config) -> Result<Memories, Failure> {
        let store = crate::history::open_existing(config.history.expose()).await?;
        let targets: BTreeSet<String> = store.remembered(KIND).await?.into_iter().collect();
        let (mut keys, mut sources) = (BTreeSet::new(), BTreeSet::new());
        let mut others: HashMap<String, Vec<(String, Option<String>)>> = HashMap::new();
        for name in &targets {
            let memories = store.memories(name, KIND).await?.into_iter();
            for (key, value) in memories.filter(|(_, value)| !value.is_null()) {
                if key.starts_with("stranger ") {
                    let target = value.get("target").and_then(Value::as_str);
                    let said = (name.clone(), target.map(str::to_owned));
                    others.entry(key).or_default().push(said);
                } else if key.starts_with("left over ") {
                    keys.insert(key);
                } else if key.starts_with("archive ") {
                    sources.extend(Archived::read(value).ok().map(|one| one.source()));
                    keys.insert(key);
                }
            }
        }
        store.close().await;
        Ok(Memories {
            targets,
            keys,
            sources,
            others,
        })
    }

    /// Whether a target is one of this installation.
    fn has(&self, target: &str, config: &Config) -> bool {
        self.targets.contains(target) || config.target(target).is_some()
    }

    /// Whether nobody here misses a manifest.
    fn accounts_for(&self, id: Uuid, config: &Config) -> bool {
        let others = self.others.get(&stranger_as(id));
        // Of a target that has the same name elsewhere, its own runs know that it is another.
        let of_others = |(name, target): &(String, Option<String>)| match target {
            Some(target) => target == name || !self.has(target, config),
            None => false,
        };
        self.keys.contains(&remembered_as(id))
            || self.keys.contains(&left_over_as(id))
            || others.is_some_and(|others| others.iter().any(of_others))
    }
}

/// Looks beside the files of what is known of the targets that are asked for, and where their tasks
/// archive to: by the names of manifests, of which those that nobody knows are read. Who asks for
/// certain archives, or reads beside files anyhow, has it not done.
pub(super) async fn look(
    context: &Context<'_>,
    chosen: &Chosen,
    everything: &Everything,
) -> Result<Unknown, Failure> {
    let mut found = Unknown::default();
    if !chosen.ids.is_empty() {
        return Ok(found);
    }
    if chosen.files.is_some() {
        found.unread.clone_from(&everything.unread);
        return Ok(found);
    }
    let all = &everything.known;
    let config = context.config().await?;
    let wanted = chosen.of.as_ref().or(chosen.target.as_ref());
    let own = all
        .iter()
        .filter(|(_, one)| chosen.from.as_ref().is_none_or(|from| one.is_from(from)));
    let folders: BTreeSet<String> = match &chosen.from {
        Some(_) => own.filter_map(|(_, one)| one.folder()).collect(),
        None => BTreeSet::new(),
    };
    let mut listed: Vec<(String, String, Uuid)> = Vec::new();
    for (url, used) in places(&config, wanted, all) {
        match names(&url, &folders).await {
            Ok(paths) if paths.is_empty() && used && folders.is_empty() => {
                found
                    .unseen
                    .insert(url, "there is nothing there".to_owned());
            }
            Ok(paths) => {
                let ids = paths
                    .into_iter()
                    .filter_map(|path| Some((id_at(&path)?, path)));
                listed.extend(ids.map(|(id, path)| (url.clone(), path, id)));
            }
            Err(error) => {
                found.unseen.insert(url, with_causes(&error));
            }
        }
    }
    // Read after the names: what a run archives meanwhile is in the history before it has a file.
    let memories = Memories::read(&config).await?;
    listed.retain(|(_, _, id)| !memories.accounts_for(*id, &config));
    let read = stream::iter(&listed).map(|(url, path, id)| read(url, path, *id));
    let mut read: Vec<Read> = read.buffered(AT_ONCE).collect().await;
    read.sort_by_key(|one| match one {
        Read::Archive(known) => known.1.id(),
        _ => Uuid::nil(),
    });
    let mut archives = Vec::new();
    for one in read {
        match one {
            Read::Archive(known) => archives.push(*known),
            Read::Gone => {}
            Read::Unreadable(why) => found.unread.push(why),
            Read::Away(url, why) => _ = found.unseen.insert(url, why),
        }
    }
    archives.dedup_by_key(|(_, archived)| archived.id());
    // What another installation archives to the same place is its own.
    archives.retain(|(target, archived)| {
        let ours = target.as_ref().is_none_or(|target| {
            memories.has(target, &config) && wanted.is_none_or(|wanted| wanted == target)
        });
        ours && (memories.sources.contains(&archived.source()) || has_task(&config, archived))
    });
    let from = Chosen {
        ids: Vec::new(),
        from: chosen.from.clone(),
        target: None,
        of: None,
        files: None,
    };
    found.archives = narrowed(archives, &from)?;
    Ok(found)
}

/// Whether a task archives what an archive is of.
fn has_task(config: &Config, archived: &Archived) -> bool {
    let mut tasks = config.tasks.values().filter(|task| task.kind == KIND);
    tasks.any(|task| {
        let table = task.options.get("table").into_iter();
        let rules = task.options.get("rules").and_then(Value::as_array);
        let collections = rules
            .into_iter()
            .flatten()
            .filter_map(|rule| rule.get("collection"));
        let mut names = table.chain(collections).filter_map(Value::as_str);
        names.any(|name| archived.is_from(name))
    })
}

/// The places of files, each with whether the history knows archives there.
fn places(config: &Config, wanted: Option<&String>, all: &[Known]) -> BTreeMap<String, bool> {
    let address = |url: &str| url.trim_end_matches('/').to_owned();
    let is_of = |target: &String| {
        wanted.is_none_or(|wanted| {
            wanted == target
                || wanted
                    .split_once('/')
                    .is_some_and(|(server, _)| server == target)
        })
    };
    let tasks = config.tasks.values().filter(|task| task.kind == KIND);
    let tasks = tasks.filter(|task| task.targets.iter().any(is_of));
    let named = tasks.filter_map(|task| task.options.pointer("/destination/files")?.as_str());
    let mut found: BTreeMap<String, bool> = named.map(|url| (address(url), false)).collect();
    for (_, archived) in all.iter().filter(|(_, archived)| archived.has_files()) {
        found.insert(address(&archived.place().0), true);
    }
    found
}

/// The paths of what lies in these folders, or in each that there is.
async fn names(url: &str, folders: &BTreeSet<String>) -> Result<Vec<String>, StorageError> {
    let storage = Storage::open(url)?;
    let folders = match folders.is_empty() {
        true => storage.folders().await?,
        false => folders.iter().cloned().collect(),
    };
    let lists = stream::iter(&folders).map(|folder| storage.files_in(folder));
    let lists: Vec<_> = lists.buffered(AT_ONCE).collect().await;
    let mut found = Vec::new();
    for list in lists {
        found.extend(list?);
    }
    Ok(found)
}

/// What came of a manifest.
enum Read {
    Archive(Box<Known>),
    /// Whoever wrote it has taken it back meanwhile.
    Gone,
    Unreadable(String),
    Away(String, String),
}

async fn read(url: &str, path: &str, id: Uuid) -> Read {
    let away = |error: &StorageError| Read::Away(url.to_owned(), with_causes(error));
    let storage = match Storage::open(url) {
        Ok(storage) => storage,
        Err(error) => return away(&error),
    };
    let content = match storage.get(path, MANIFEST).await {
        Ok(content) => content,
        Err(error) if error.is_about_the_file() => {
            return match storage.stamp(path).await {
                Ok(None) => Read::Gone,
                _ => Read::Unreadable(with_causes(&error)),
            };
        }
        Err(error) => return away(&error),
    };
    let bad = |why: String| Read::Unreadable(format!("{}: {why}", storage.full(path)));
    let value = match serde_json::from_slice::<Value>(&content) {
        Ok(value) => value,
        Err(error) => return bad(with_causes(&error)),
    };
    match Archived::read(value) {
        Ok(archived) if archived.id() == id => Read::Archive(Box::new(archived.beside(url))),
        Ok(archived) => bad(format!("`id` is {}", archived.id())),
        Err(why) => bad(why),
    }
}

impl Unknown {
    /// Leaves what is in files of what is to come back, and notes the rest.
    pub(super) fn leave_files(&mut self, found: &mut Vec<Known>) {
        let all = std::mem::take(found);
        let (files, tables): (Vec<Known>, Vec<Known>) =
            all.into_iter().partition(|(_, one)| one.has_files());
        *found = files;
        for (_, one) in tables {
            *self
                .in_tables
                .entry((one.source(), one.place().0))
                .or_default() += one.rows();
        }
    }

    /// Leaves those of this table or collection.
    pub(super) fn only(&mut self, source: &str) {
        self.archives.retain(|(_, one)| one.source() == source);
        self.in_tables.retain(|(of, _), _| of == source);
    }

    /// Whether the history knows everything, and everything could be seen.
    pub(super) fn is_none(&self) -> bool {
        self.archives.is_empty()
            && self.unread.is_empty()
            && self.unseen.is_empty()
            && self.in_tables.is_empty()
    }

    /// Puts it into the list of archives, where there is any.
    pub(super) fn list_in<'a>(&'a self, document: &mut documents::Archives<'a>) {
        if self.is_none() {
            return;
        }
        let archives = self.archives.iter();
        let archives = archives.map(|(target, archived)| documents::UnknownArchive {
            target: target.as_deref(),
            storage: archived.place().0,
            manifest: archived.json(),
        });
        let unseen = self.unseen.iter();
        let unseen = unseen.map(|(storage, problem)| documents::Unseen { storage, problem });
        document.unknown = Some(archives.collect());
        document.unread = Some(&self.unread);
        document.unseen = Some(unseen.collect());
    }

    /// Puts it into a document, where there is any.
    pub(super) fn add_to(&self, document: &mut Value) {
        let archives = self.archives.iter().map(|(target, archived)| {
            json!({ "target": target, "storage": archived.place().0, "manifest": archived.json() })
        });
        let unseen = self.unseen.iter();
        let unseen = unseen.map(|(url, why)| json!({ "storage": url, "problem": why }));
        if self.is_none() {
            return;
        }
        document["unknown"] = archives.collect();
        document["unread"] = json!(self.unread);
        document["unseen"] = unseen.collect();
        let in_tables = self.in_tables.iter();
        let in_tables =
            in_tables.map(|((of, place), rows)| json!({ "table": of, "in": place, "rows": rows }));
        document["in_tables"] = in_tables.collect();
    }

    /// Tells it to a person.
    pub(super) fn tell(&self) {
        for line in self.lines() {
            outln!("{line}");
        }
    }

    /// The same, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut groups: BTreeMap<(String, Option<&str>), Vec<&Archived>> = BTreeMap::new();
        for (target, archived) in &self.archives {
            let of = (archived.place().0, target.as_deref());
            groups.entry(of).or_default().push(archived);
        }
        let mut lines = Vec::new();
        for ((of, place), rows) in &self.in_tables {
            lines.push(format!(
                "{}, a table and no files, has {} of {}: read them there, and bring back with INSERT INTO … SELECT what is wanted",
                shown(place),
                counted_rows(*rows, "row"),
                shown(of)
            ));
        }
        for ((url, target), all) in groups {
            let rows = all.iter().map(|archived| archived.rows()).sum();
            let unit = all.first().map_or("rows", |archived| archived.unit());
            let target = shown(target.unwrap_or("NAME"));
            lines.push(format!(
                "{} more, {}, lie in {url}, and the history does not know them: it was lost, or set back to before them. `maint archive adopt --files {url} --target {target}` makes them known, if they are of that target; `--files {url}` lists and restores what lies there",
                all.len(),
                counted_rows(rows, unit.trim_end_matches('s'))
            ));
        }
        if let Some(first) = self.unread.first() {
            lines.push(format!(
                "{} of what lies there as manifests and the history does not know cannot be read, and is left out: {}",
                self.unread.len(),
                shown(first)
            ));
        }
        for (url, why) in &self.unseen {
            lines.push(format!(
                "whether {url} has archives that the history does not know cannot be seen: {}",
                shown(why)
            ));
        }
        lines
    }
}
