//! What was archived into files.

mod documents;

use std::borrow::Cow;

use super::Failure;
use super::context::Context;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session};
use crate::engines::storage::{Storage, StorageError};
use crate::execute;
use crate::pipeline::{self, PipelineError};
use crate::plan::{ArchivedFile, Manifest, Memory, Restored};
use crate::report::text::{Align, Cell, Columns, Cut, human_bytes, human_count, shown};
use crate::values::{Engine, TableName, with_causes};
use serde::Deserialize;

/// What was archived into files: lists it, proves it, brings it back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint archive list\n  maint archive verify\n  maint archive restore --from learning_analytics --into restored.learning_analytics\n  maint archive list --files s3://backups/learning"
)]
pub(super) struct Archive {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// What was archived, oldest first
    List(Chosen),
    /// Reads every file and compares it with its manifest
    Verify(Chosen),
    /// Copies archived rows into a table, all or nothing, or documents into a
    /// collection; the files stay
    Restore {
        #[command(flatten)]
        chosen: Chosen,
        /// The table or collection to fill; made where it does not exist
        #[arg(long, value_name = "TABLE")]
        into: String,
        /// Of documents: the database of that collection; by default the target's own
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
        /// Tells what would come back, and changes nothing
        #[arg(long)]
        dry_run: bool,
        /// Keeps the table's own triggers from touching the rows; for its owner
        #[arg(long)]
        disable_triggers: bool,
        /// Also what was brought back before
        #[arg(long)]
        again: bool,
        /// Also what may still be in its table, too: no manifest beside the
        /// files says that it has left
        #[arg(long, requires = "files")]
        unsettled: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// Beginnings of manifest ids; all where none is given
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only what came from this table or collection
    #[arg(long, value_name = "TABLE")]
    from: Option<String>,
    /// Only of this target; with `--files`, the target to restore into
    #[arg(long)]
    target: Option<String>,
    /// With `--files`: only what came from this target
    #[arg(long, value_name = "TARGET", requires = "files")]
    of: Option<String>,
    /// Reads the manifests beside the files of this place, `file:///folder` or
    /// `s3://bucket/prefix`, instead of the history
    #[arg(long, value_name = "URL")]
    files: Option<String>,
}

impl Archive {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        match &self.verb {
            Verb::List(chosen) => list(context, chosen).await,
            Verb::Verify(chosen) => verify(context, chosen).await,
            Verb::Restore {
                chosen,
                into,
                database,
                dry_run,
                disable_triggers,
                again,
                unsettled,
            } => {
                let how = How {
                    dry_run: *dry_run,
                    disable_triggers: *disable_triggers,
                    again: *again,
                    unsettled: *unsettled,
                };
                let into = Into {
                    name: into,
                    database: database.as_deref(),
                };
                restore(context, chosen, into, how).await
            }
        }
    }
}

#[derive(Clone, Copy)]
struct How {
    dry_run: bool,
    disable_triggers: bool,
    again: bool,
    unsettled: bool,
}

/// Where it comes back to, as written.
#[derive(Clone, Copy)]
struct Into<'a> {
    name: &'a str,
    database: Option<&'a str>,
}

/// What was archived at once.
enum Archived {
    /// Of a table.
    Rows(Box<Manifest>),
    /// Of a collection.
    Documents(Box<documents::Manifest>),
}

impl Archived {
    fn id(&self) -> uuid::Uuid {
        match self {
            Archived::Rows(m) => m.id,
            Archived::Documents(m) => m.id,
        }
    }

    /// The table or collection, as manifests have it.
    fn source(&self) -> String {
        match self {
            Archived::Rows(m) => m.source.clone(),
            Archived::Documents(m) => m.source(),
        }
    }

    /// The table or partition, or the collection.
    fn table(&self) -> String {
        match self {
            Archived::Rows(m) => m.table.clone(),
            Archived::Documents(m) => m.source(),
        }
    }

    fn is_from(&self, name: &str) -> bool {
        match self {
            Archived::Rows(m) => name
                .parse::<TableName>()
                .is_ok_and(|t| RelationName::new(&*t.schema, &*t.table).to_string() == m.source),
            Archived::Documents(m) => name == m.collection || name == m.source(),
        }
    }

    fn rows(&self) -> i64 {
        match self {
            Archived::Rows(m) => m.rows,
            Archived::Documents(m) => m.rows,
        }
    }

    fn files(&self) -> &[ArchivedFile] {
        match self {
            Archived::Rows(m) => &m.files,
            Archived::Documents(m) => &m.files,
        }
    }

    fn settled(&self) -> bool {
        match self {
            Archived::Rows(m) => m.settled,
            Archived::Documents(m) => m.settled,
        }
    }

    /// Rows in another database have no files.
    fn has_files(&self) -> bool {
        match self {
            Archived::Rows(m) => m.received.is_none(),
            Archived::Documents(_) => true,
        }
    }

    /// What its rows are called.
    fn unit(&self) -> &'static str {
        match self {
            Archived::Rows(_) => "rows",
            Archived::Documents(_) => "documents",
        }
    }

    /// Reads what is one, and refuses what cannot be.
    fn read(value: serde_json::Value) -> Result<Archived, String> {
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

    fn json(&self) -> serde_json::Value {
        let value = match self {
            Archived::Rows(m) => serde_json::to_value(m),
            Archived::Documents(m) => serde_json::to_value(m),
        };
        value.unwrap_or_default()
    }
}

/// What was archived, and the target it is of, where that is known.
type Known = (Option<String>, Archived);

/// The manifests asked for.
async fn manifests(context: &Context<'_>, chosen: &Chosen) -> Result<Vec<Known>, Failure> {
    let mut found = match &chosen.files {
        Some(url) => beside(url).await?,
        None => remembered(context, chosen).await?,
    };
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

/// What lies beside the files of a place, oldest first.
async fn beside(url: &str) -> Result<Vec<Known>, Failure> {
    let storage = Storage::open(url).map_err(|e| Failure::Usage(e.to_string()))?;
    let failed = |error: StorageError| Failure::Other(with_causes(&error));
    let mut found = Vec::new();
    for path in storage.list("").await.map_err(failed)? {
        if !Manifest::is_at(&path) {
            continue;
        }
        let bad = |why: String| Failure::Usage(format!("{}: {why}", storage.full(&path)));
        let content = storage.get(&path, Manifest::SIZE).await;
        let content = content.map_err(|error| Failure::Usage(with_causes(&error)))?;
        let value: serde_json::Value = serde_json::from_slice(&content).map_err(|error| {
            bad(format!(
                "is no manifest that this version can read: {error}"
            ))
        })?;
        let mut archived = Archived::read(value).map_err(bad)?;
        if !path.ends_with(&format!("_{}.manifest.json", archived.id())) {
            return Err(bad(format!(
                "`id` is {}, and its name says another",
                archived.id()
            )));
        }
        // They may have been moved since.
        let target = match &mut archived {
            Archived::Rows(m) => {
                url.clone_into(&mut m.storage);
                m.target.clone()
            }
            Archived::Documents(m) => {
                url.clone_into(&mut m.storage);
                Some(m.target.clone())
            }
        };
        found.push((target, archived));
    }
    if found.is_empty() {
        return Err(Failure::Usage(format!(
            "there are no manifests below {url}\n  hint: they lie in folders `table=…` and `collection=…` as `_ID.manifest.json`"
        )));
    }
    found.sort_by_key(|(_, archived)| archived.id());
    found.dedup_by_key(|(_, archived)| archived.id());
    Ok(found)
}

/// What the history knows.
async fn remembered(context: &Context<'_>, chosen: &Chosen) -> Result<Vec<Known>, Failure> {
    let config = context.config()?;
    if let Some(target) = &chosen.target {
        super::context::known_target(&config, target)?;
    }
    let store = crate::history::open_existing(config.history.expose()).await?;
    let mut found = Vec::new();
    let mut names: Vec<String> = config.targets.keys().cloned().collect();
    for server in config.targets.values().filter(|one| one.is_many()) {
        // Of one that is gone the archive is all there is.
        let seen = crate::history::databases_of(store.as_ref(), &server.name).await?;
        names.extend(
            seen.keys()
                .map(|database| server.of_database(database).name),
        );
    }
    for name in &names {
        if chosen.target.as_ref().is_some_and(|target| target != name) {
            continue;
        }
        let memories = store.memories(name, "archive").await?;
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

async fn list(context: &Context<'_>, chosen: &Chosen) -> Result<u8, Failure> {
    let found = manifests(context, chosen).await?;
    if context.json() {
        let all: Vec<_> = found
            .iter()
            .map(|(target, archived)| serde_json::json!({ "target": target, "manifest": archived.json() }))
            .collect();
        outln!("{}", serde_json::json!({ "archived": all }));
        return Ok(0);
    }
    let mut table = Columns::new()
        .column("id", Align::Left, Cut::Never)
        .column("target", Align::Left, Cut::Never)
        .column("table", Align::Left, Cut::Middle)
        .column("rows", Align::Right, Cut::Never)
        .column("size", Align::Right, Cut::Never)
        .column("oldest", Align::Left, Cut::Never)
        .column("newest", Align::Left, Cut::Never)
        .column("where", Align::Left, Cut::End);
    for (target, archived) in &found {
        let spans = || archived.files().iter().filter_map(|f| f.span.as_ref());
        let bytes = archived.files().iter().map(|f| f.bytes).sum();
        let (storage, whole) = match archived {
            Archived::Rows(m) => match &m.received {
                Some(received) => (
                    format!("{} on {}", received.table, received.target),
                    m.whole.is_some(),
                ),
                None => (m.storage.clone(), m.whole.is_some()),
            },
            Archived::Documents(m) => (m.storage.clone(), false),
        };
        let place = match whole {
            _ if archived.settled() => storage,
            true => format!("{storage} (the partition is on its way out)"),
            false if chosen.files.is_some() => format!("{storage} (perhaps still in its table)"),
            false => format!("{storage} (not settled: the next run finds out)"),
        };
        table.row([
            Cell::from(&archived.id().to_string()),
            Cell::from(target.as_deref().unwrap_or("?")),
            Cell::from(&shown(&archived.table()).into_owned()),
            Cell::from(&human_count(archived.rows())),
            Cell::from(&human_bytes(bytes)),
            Cell::from(&spans().map(|(a, _)| a.clone()).min().unwrap_or_default()),
            Cell::from(&spans().map(|(_, b)| b.clone()).max().unwrap_or_default()),
            Cell::from(&place),
        ]);
    }
    out!("{}", table.render(0, &context.style(chrono_tz::Tz::UTC)));
    let rows = found.iter().map(|(_, m)| m.rows()).sum();
    outln!("{} archived, {} rows", found.len(), human_count(rows));
    Ok(0)
}

async fn verify(context: &Context<'_>, chosen: &Chosen) -> Result<u8, Failure> {
    let mut found = manifests(context, chosen).await?;
    found.retain(|(_, archived)| archived.has_files());
    let mut results = Vec::new();
    let mut broken = 0;
    for (target, archived) in &found {
        let problem = match archived {
            Archived::Rows(manifest) => problem(manifest).await,
            Archived::Documents(manifest) => execute::mongodb::restore::problem(manifest).await,
        };
        let (id, unit) = (archived.id(), archived.unit());
        broken += usize::from(problem.is_some());
        if !context.json() {
            match &problem {
                None => outln!("✓ {id} {} {unit}", human_count(archived.rows())),
                Some(why) => outln!("✗ {id} {}", shown(why)),
            }
        }
        results.push(serde_json::json!({
            "target": target, "id": id, "rows": archived.rows(), "problem": problem,
        }));
    }
    if context.json() {
        outln!("{}", serde_json::json!({ "verified": results }));
    } else {
        outln!("{} of {} are as written", found.len() - broken, found.len());
    }
    Ok(u8::from(broken > 0))
}

/// What is wrong with the files of a manifest, if anything.
async fn problem(manifest: &Manifest) -> Option<String> {
    let storage = match Storage::open(&manifest.storage) {
        Ok(storage) => storage,
        Err(error) => return Some(error.to_string()),
    };
    for file in &manifest.files {
        match storage.get(&file.path, file.size()).await {
            Ok(content) => {
                if let Err(why) = execute::check_file(content, file, &manifest.columns) {
                    return Some(format!("{}: {why}", storage.full(&file.path)));
                }
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

async fn restore(
    context: &Context<'_>,
    chosen: &Chosen,
    into: Into<'_>,
    how: How,
) -> Result<u8, Failure> {
    let mut found = manifests(context, chosen).await?;
    found.retain(|(_, archived)| archived.has_files());
    let Some((name, first)) = found.first() else {
        return Err(Failure::Usage(
            "nothing is archived that fits\n  hint: `maint archive list` shows what is".to_owned(),
        ));
    };
    let engine = std::mem::discriminant(first);
    if let Some((other, archived)) = found.iter().find(|(other, m)| {
        other != name || m.source() != first.source() || std::mem::discriminant(m) != engine
    }) {
        let of = |name: &Option<String>| {
            name.as_deref()
                .map_or(String::new(), |n| format!(" of {n}"))
        };
        return Err(Failure::Usage(format!(
            "these {} came from several {}: {}{} and {}{}\n  hint: choose with `--from` and {}",
            first.unit(),
            match first {
                Archived::Rows(_) => "tables",
                Archived::Documents(_) => "collections",
            },
            first.source(),
            of(name),
            archived.source(),
            of(other),
            if chosen.files.is_some() {
                "`--of`"
            } else {
                "`--target`"
            }
        )));
    }
    if let Some((_, open)) = found.iter().find(|(_, m)| !m.settled() && !how.unsettled) {
        let hint = match &chosen.files {
            None => "run the archive task once more, or choose ids",
            Some(_) => {
                "look into the table, and choose ids; or restore them all the same with `--unsettled`"
            }
        };
        return Err(Failure::Usage(format!(
            "whether the {} of {} have left {} is not known\n  hint: {hint}",
            open.unit(),
            open.id(),
            open.table()
        )));
    }
    let config = context.config()?;
    let name = match &chosen.files {
        Some(_) => chosen.target.as_ref(),
        None => name.as_ref(),
    };
    let engine = match first {
        Archived::Rows(_) => Engine::Postgres,
        Archived::Documents(_) => Engine::Mongodb,
    };
    let mut all = config.targets.iter().filter(|(_, t)| t.engine == engine);
    let target = match (name, all.next(), all.next()) {
        (Some(name), ..) => config
            .target(name)
            .ok_or_else(|| Failure::Usage(format!("there is no target `{name}`")))?,
        (None, Some((_, only)), None) if !only.is_many() => Cow::Borrowed(only),
        _ => {
            return Err(Failure::Usage(
                "into which target?\n  hint: say with `--target`".to_owned(),
            ));
        }
    };
    if target.is_many() {
        let name = &target.name;
        return Err(Failure::Usage(format!(
            "into which database of `{name}`?\n  hint: say with `--target {name}/DATABASE`"
        )));
    }
    if target.engine != engine {
        return Err(Failure::Usage(format!(
            "these are {} of {engine}, and the target `{}` is {}",
            first.unit(),
            target.name,
            target.engine
        )));
    }
    let (mut rows, mut documents) = (Vec::new(), Vec::new());
    for (known, archived) in found {
        match archived {
            Archived::Rows(manifest) => rows.push((known, *manifest)),
            Archived::Documents(manifest) => documents.push(*manifest),
        }
    }
    if !documents.is_empty() {
        return documents::restore(context, &target, into, documents, how).await;
    }
    if into.database.is_some() {
        return Err(Failure::Usage(
            "`--database` is for documents; rows come back into the target's own".to_owned(),
        ));
    }
    let into: TableName = into
        .name
        .parse()
        .map_err(|why| Failure::Usage(format!("`--into {}`: {why}", into.name)))?;
    rows_back(context, &target, &into, rows, how).await
}

/// Brings rows back into a table.
async fn rows_back(
    context: &Context<'_>,
    target: &Target,
    into: &TableName,
    mut found: Vec<(Option<String>, Manifest)>,
    how: How,
) -> Result<u8, Failure> {
    let config = context.config()?;
    let dial = pipeline::dial(target)?;
    let session = Session::open(&dial, execute::RESTORING)
        .await
        .map_err(PipelineError::from)?;
    let table = RelationName::new(&*into.schema, &*into.table);
    let store = crate::history::open(config.history.expose()).await.ok();
    let known = match &store {
        Some(store) => store.memories(&target.name, "archive").await?,
        None => std::collections::HashMap::new(),
    };
    for (_, manifest) in &mut found {
        let marks = known.get(&marks_of(manifest.id)).cloned();
        let marks: Option<Vec<Restored>> = marks.and_then(|v| serde_json::from_value(v).ok());
        manifest.restored.extend(marks.unwrap_or_default());
    }
    let (manifests, before) = not_back(&session, &table, found, how.again).await?;
    if manifests.is_empty() {
        return Err(Failure::Usage(format!(
            "{} is back already\n  hint: `--again` brings it back once more",
            if before.len() == 1 { "it" } else { "all of it" }
        )));
    }
    if how.dry_run {
        return would(context, &session, &table, &manifests, &before).await;
    }
    let note = async |mark: Restored| {
        let store = store.as_deref().map(|store| (store, target.name.as_str()));
        mark_all(store, &manifests, &mark).await
    };
    let how = execute::Restore {
        dial: &dial,
        into: &table,
        disable_triggers: how.disable_triggers,
        trust_owners: &target.trust_owners,
    };
    let rows = execute::restore(&session, how, &manifests, note)
        .await
        .map_err(PipelineError::from)?;
    if context.json() {
        outln!(
            "{}",
            serde_json::json!({ "into": table.to_string(), "rows": rows, "skipped": ids(&before) })
        );
    } else {
        for (id, mark) in &before {
            outln!(
                "{id} was left out: it went back into {} on {}",
                mark.into,
                mark.at.format("%Y-%m-%d")
            );
        }
        outln!("{} rows are back in {table}", human_count(rows));
    }
    Ok(0)
}

/// What was brought back before, and where to.
type Before = Vec<(uuid::Uuid, Restored)>;

fn ids(before: &Before) -> Vec<String> {
    before.iter().map(|(id, _)| id.to_string()).collect()
}

/// Leaves out what is back already: nothing may come twice.
async fn not_back(
    session: &Session,
    into: &RelationName,
    found: Vec<(Option<String>, Manifest)>,
    again: bool,
) -> Result<(Vec<Manifest>, Before), Failure> {
    let (mut manifests, mut before) = (Vec::new(), Vec::new());
    for (_, manifest) in found {
        let back = execute::is_back(session, &manifest, into).await;
        match back.map_err(PipelineError::from)? {
            Some(mark) if !again => before.push((manifest.id, mark)),
            _ => manifests.push(manifest),
        }
    }
    Ok((manifests, before))
}

/// Under which key the history keeps where a manifest was restored to.
fn marks_of(id: uuid::Uuid) -> String {
    format!("restored {id}")
}

/// Writes down that rows come back: in the history, or where there is none,
/// beside the files. One of the two has to take it.
async fn mark_all(
    store: Option<(&dyn crate::history::Store, &str)>,
    manifests: &[Manifest],
    mark: &Restored,
) -> Result<(), EngineError> {
    for manifest in manifests {
        let mut marked = manifest.clone();
        marked.restored.push(mark.clone());
        if let Some((store, target)) = store {
            let memory = [Memory {
                key: marks_of(manifest.id),
                value: serde_json::to_value(&marked.restored).unwrap_or_default(),
            }];
            let at = chrono::Utc::now();
            let noted = store.remember(target, "archive", at, &memory).await;
            if noted.is_ok() {
                continue;
            }
        }
        execute::put_beside(&marked)
            .await
            .map_err(|error| EngineError::Files {
                message: format!(
                    "nothing was restored: that {} comes back could not be written down, and it could come twice: {}",
                    manifest.id,
                    with_causes(&error)
                ),
            })?;
    }
    Ok(())
}

/// Tells what would come back.
async fn would(
    context: &Context<'_>,
    session: &Session,
    into: &RelationName,
    manifests: &[Manifest],
    before: &Before,
) -> Result<u8, Failure> {
    let site = execute::look_at(session, into, manifests)
        .await
        .map_err(PipelineError::from)?;
    let rows: i64 = manifests.iter().map(|m| m.rows).sum();
    if context.json() {
        let each: Vec<_> = manifests
            .iter()
            .map(|m| serde_json::json!({ "id": m.id, "table": m.table, "rows": m.rows }))
            .collect();
        outln!(
            "{}",
            serde_json::json!({ "into": into.to_string(), "made": site.oid.is_none(), "rows": rows,
                "manifests": each, "skipped": ids(before), "changing": site.changing, "computed": site.computed })
        );
        return Ok(0);
    }
    for manifest in manifests {
        outln!(
            "{} {} rows of {}",
            manifest.id,
            human_count(manifest.rows),
            shown(&manifest.table)
        );
    }
    for (id, mark) in before {
        outln!(
            "{id} would be left out: it went back into {} on {}",
            mark.into,
            mark.at.format("%Y-%m-%d")
        );
    }
    if site.oid.is_none() {
        let columns: Vec<String> = site
            .columns
            .iter()
            .map(|(n, t)| format!("{n} {t}"))
            .collect();
        outln!("{into} would be made: {}", shown(&columns.join(", ")));
    }
    if !site.computed.is_empty() {
        outln!(
            "{into} computes by itself: {}",
            shown(&site.computed.join(", "))
        );
    }
    if !site.changing.is_empty() {
        outln!(
            "nothing would be restored without `--disable-triggers`: {} may change rows",
            shown(&site.changing.join(", "))
        );
    }
    outln!("{} rows would come back into {into}", human_count(rows));
    Ok(0)
}
