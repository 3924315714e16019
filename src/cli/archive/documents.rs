//! Documents that come back from files.

use super::returning::{Before, How, Into, Notes, Returning, ids, missing};
use super::unknown::Unknown;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::mongodb::{LONGEST_NAMESPACE, Session, misnamed, misnamed_database, namespace};
use crate::execute::mongodb::dial;
pub(super) use crate::execute::mongodb::restore::problem;
use crate::execute::mongodb::restore::{self as back, NAME, Place};
use crate::pipeline::PipelineError;
use crate::plan::archived::Manifested;
use crate::plan::mongodb::{Manifest, Restored};
use crate::report::text::{counted_do, counted_rows, shown};

impl Returning for Manifest {
    type Mark = Restored;

    fn marks(&mut self) -> &mut Vec<Restored> {
        &mut self.restored
    }

    fn went(mark: &Restored) -> String {
        format!(
            "into {} on {}",
            shown(&namespace(&mark.database, &mark.collection)),
            mark.at.format("%Y-%m-%d %H:%M UTC")
        )
    }

    fn place(&self) -> (&str, String) {
        (&self.storage, self.path())
    }
}

/// Brings documents back into a collection.
pub(super) async fn restore(
    context: &Context<'_>,
    (from, target): (Option<String>, &Target),
    into: Into<'_>,
    found: Vec<Manifest>,
    how: How,
    unknown: &Unknown,
) -> Result<u8, Failure> {
    if how.disable_triggers {
        return Err(Failure::Usage(
            "`--disable-triggers` is for rows; collections have none".to_owned(),
        ));
    }
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
    let found = (found, unknown);
    let ended = with(context, (from, target), &session, &place, found, how).await;
    session.close().await;
    ended
}

async fn with(
    context: &Context<'_>,
    (from, target): (Option<String>, &Target),
    session: &Session,
    place: &Place,
    (found, unknown): (Vec<Manifest>, &Unknown),
    how: How,
) -> Result<u8, Failure> {
    let notes = Notes::open(context, &target.name, from).await?;
    let is_back = async |manifest: &Manifest| {
        let mark = back::is_back(session, manifest, place).await?;
        Ok(mark.into())
    };
    let (manifests, before) = notes.not_back(found, how.again, is_back).await?;
    if how.dry_run {
        return would(context, session, place, (&manifests[..], &before), unknown).await;
    }
    let note = async |mark: Restored| notes.mark(&manifests, &vec![mark; manifests.len()]).await;
    let restored = back::restore(session, place, &manifests, note).await;
    let rows = restored.map_err(PipelineError::from)?;
    let whole: i64 = manifests.iter().map(|m| m.rows).sum();
    if context.json() {
        let mut document = serde_json::json!({ "into": place.to_string(), "rows": rows, "there": whole - rows, "skipped": ids::<Manifest>(&before) });
        unknown.add_to(&mut document);
        outln!("{document}");
        return Ok(u8::from(!unknown.is_none()));
    }
    left_out(&before, "was left out");
    if rows < whole {
        outln!(
            "{} there already, as archived",
            counted_do(whole - rows, "document", ("was", "were"))
        );
    }
    outln!(
        "{} back in {}",
        counted_do(rows, "document", ("is", "are")),
        shown(&place.to_string())
    );
    unknown.tell();
    // Whoever asks for all has not got it.
    Ok(u8::from(!unknown.is_none()))
}

fn left_out(before: &Before<Manifest>, how: &str) {
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
    let (name, database) = (&place.collection, &place.database);
    let wrong = |option: &str, name: &str, why: &str| {
        Err(Failure::Usage(format!("`{option} {}` {why}", shown(name))))
    };
    if let Some(why) = misnamed(name) {
        return wrong("--into", name, why);
    }
    if let Some(why) = misnamed_database(database) {
        return wrong("--database", database, why);
    }
    if place.to_string().len() > LONGEST_NAMESPACE {
        let why = "is longer than 255 bytes together with its database";
        return wrong("--into", name, why);
    }
    Ok(())
}

/// Tells what would come back.
async fn would(
    context: &Context<'_>,
    session: &Session,
    into: &Place,
    (manifests, before): (&[Manifest], &Before<Manifest>),
    unknown: &Unknown,
) -> Result<u8, Failure> {
    let there = back::look(session, into).await;
    let made = there.map_err(PipelineError::from)?.is_none();
    let rows: i64 = manifests.iter().map(|m| m.rows).sum();
    let problems = missing(manifests).await;
    let code = u8::from(!unknown.is_none() || !problems.is_empty());
    if context.json() {
        let each: Vec<_> = manifests
            .iter()
            .map(|m| serde_json::json!({ "id": m.id, "collection": m.source(), "rows": m.rows }))
            .collect();
        let mut document = serde_json::json!({ "into": into.to_string(), "made": made, "rows": rows, "manifests": each, "skipped": ids::<Manifest>(before), "problems": problems });
        unknown.add_to(&mut document);
        outln!("{document}");
        return Ok(code);
    }
    for manifest in manifests {
        outln!(
            "{} {} of {}",
            manifest.id,
            counted_rows(manifest.rows, "document"),
            shown(&manifest.source())
        );
    }
    left_out(before, "would be left out");
    let name = into.to_string();
    if made {
        outln!("{} would be made", shown(&name));
    }
    for problem in &problems {
        outln!("nothing would be restored: {}", shown(problem));
    }
    if problems.is_empty() {
        outln!(
            "{} would come back into {}",
            counted_rows(rows, "document"),
            shown(&name)
        );
    }
    unknown.tell();
    Ok(code)
}
