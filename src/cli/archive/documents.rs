//! Documents that come back from files.

use uuid::Uuid;

use super::{How, Into, marks_of};
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::mongodb::{Session, namespace};
use crate::execute::mongodb::restore::{self as back, Place};
use crate::execute::mongodb::{dial, restore::NAME};
use crate::history::Store;
use crate::pipeline::PipelineError;
use crate::plan::Memory;
pub(super) use crate::plan::mongodb::Manifest;
use crate::plan::mongodb::Restored;
use crate::report::text::{human_count, shown};
use crate::values::with_causes;

/// The longest namespace that a server takes, in bytes.
const LONGEST: usize = 255;

/// Brings documents back into a collection.
pub(super) async fn restore(
    context: &Context<'_>,
    target: &Target,
    into: Into<'_>,
    mut found: Vec<Manifest>,
    how: How,
) -> Result<u8, Failure> {
    if how.disable_triggers {
        return Err(Failure::Usage(
            "`--disable-triggers` is for rows; collections have none".to_owned(),
        ));
    }
    let config = context.config()?;
    let dial = dial(target).map_err(PipelineError::from)?;
    let place = Place {
        database: into.database.unwrap_or(dial.database()).to_owned(),
        collection: into.name.to_owned(),
    };
    examine(&place)?;
    let session = Session::open(&dial, NAME).await;
    let session = session
        .map_err(EngineError::from)
        .map_err(PipelineError::from)?;
    let store = crate::history::open(config.history.expose()).await.ok();
    if let Some(store) = &store {
        let known = store.memories(&target.name, "archive").await?;
        for manifest in &mut found {
            let marks = known.get(&marks_of(manifest.id)).cloned();
            let marks: Option<Vec<Restored>> = marks.and_then(|v| serde_json::from_value(v).ok());
            manifest.restored.extend(marks.unwrap_or_default());
        }
    }
    let (mut manifests, mut before) = (Vec::new(), Vec::new());
    for manifest in found {
        let mark = back::is_back(&session, &manifest, &place).await;
        match mark.map_err(PipelineError::from)? {
            Some(mark) if !how.again => before.push((manifest.id, mark)),
            _ => manifests.push(manifest),
        }
    }
    if manifests.is_empty() {
        return Err(Failure::Usage(format!(
            "{} is back already\n  hint: `--again` brings it back once more",
            if before.len() == 1 { "it" } else { "all of it" }
        )));
    }
    if how.dry_run {
        return would(context, &session, &place, &manifests, &before).await;
    }
    let note = async |mark: Restored| {
        let store = store.as_deref().map(|store| (store, target.name.as_str()));
        mark_all(store, &manifests, &mark).await
    };
    let restored = back::restore(&session, &place, &manifests, note).await;
    let rows = restored.map_err(PipelineError::from)?;
    let whole: i64 = manifests.iter().map(|m| m.rows).sum();
    if context.json() {
        outln!(
            "{}",
            serde_json::json!({ "into": place.to_string(), "rows": rows, "there": whole - rows, "skipped": ids(&before) })
        );
        return Ok(0);
    }
    left_out(&before, "was left out");
    if rows < whole {
        outln!(
            "{} of them were there already, as they are archived",
            human_count(whole - rows)
        );
    }
    outln!(
        "{} documents are back in {}",
        human_count(rows),
        shown(&place.to_string())
    );
    Ok(0)
}

/// What was brought back before, and where to.
type Before = Vec<(Uuid, Restored)>;

fn ids(before: &Before) -> Vec<String> {
    before.iter().map(|(id, _)| id.to_string()).collect()
}

fn left_out(before: &Before, how: &str) {
    for (id, mark) in before {
        outln!(
            "{id} {how}: it went back into {} on {}",
            shown(&namespace(&mark.database, &mark.collection)),
            mark.at.format("%Y-%m-%d")
        );
    }
}

/// A name that no collection has is refused before anybody is asked.
fn examine(place: &Place) -> Result<(), Failure> {
    let name = &place.collection;
    let why = if name.is_empty() || name.contains('\0') {
        "is no name of a collection"
    } else if name.starts_with("system.") {
        "belongs to the server"
    } else if place.to_string().len() > LONGEST {
        "is longer than 255 bytes together with its database"
    } else {
        return Ok(());
    };
    Err(Failure::Usage(format!("`--into {}` {why}", shown(name))))
}

/// Tells what would come back.
async fn would(
    context: &Context<'_>,
    session: &Session,
    into: &Place,
    manifests: &[Manifest],
    before: &Before,
) -> Result<u8, Failure> {
    let there = back::look(session, into).await;
    let made = there.map_err(PipelineError::from)?.is_none();
    let rows: i64 = manifests.iter().map(|m| m.rows).sum();
    if context.json() {
        let each: Vec<_> = manifests
            .iter()
            .map(|m| serde_json::json!({ "id": m.id, "collection": m.source(), "rows": m.rows }))
            .collect();
        outln!(
            "{}",
            serde_json::json!({ "into": into.to_string(), "made": made, "rows": rows, "manifests": each, "skipped": ids(before) })
        );
        return Ok(0);
    }
    for manifest in manifests {
        outln!(
            "{} {} documents of {}",
            manifest.id,
            human_count(manifest.rows),
            shown(&manifest.source())
        );
    }
    left_out(before, "would be left out");
    let name = into.to_string();
    if made {
        outln!("{} would be made", shown(&name));
    }
    outln!(
        "{} documents would come back into {}",
        human_count(rows),
        shown(&name)
    );
    Ok(0)
}

/// Writes down that documents are back: in the history, or where there is
/// none, beside the files.
async fn mark_all(
    store: Option<(&dyn Store, &str)>,
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
            let noted = store
                .remember(target, "archive", chrono::Utc::now(), &memory)
                .await;
            if noted.is_ok() {
                continue;
            }
        }
        back::put_beside(&marked)
            .await
            .map_err(|error| EngineError::Files {
                message: format!(
                    "the documents are back, and that {} is could not be written down: {}",
                    manifest.id,
                    with_causes(&error)
                ),
            })?;
    }
    Ok(())
}
