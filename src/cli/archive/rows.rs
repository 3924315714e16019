//! Rows that come back from files.

use super::former;
use super::returning::{Before, ByDatabase, How, Into, Notes, Returning, ids, missing};
use super::twins::{There, twins};
use super::unknown::Unknown;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::{RelationName, Session, copies};
use crate::engines::storage::Storage;
use crate::execute::{self, Back};
use crate::pipeline::{self, PipelineError};
use crate::plan::{Manifest, Restored};
use crate::report::text::{counted, counted_do, counted_rows, shown};
use crate::values::{TableName, with_causes};

impl Returning for Manifest {
    type Mark = Restored;

    fn marks(&mut self) -> &mut Vec<Restored> {
        &mut self.restored
    }

    fn went(mark: &Restored) -> String {
        format!(
            "into {} on {}",
            shown(&mark.into),
            mark.at.format("%Y-%m-%d %H:%M UTC")
        )
    }

    fn place(&self) -> (&str, String) {
        (&self.storage, self.path())
    }
}

/// What is wrong with the files of a manifest, if anything.
pub(super) async fn problem(manifest: &Manifest) -> Option<String> {
    let storage = match Storage::open(&manifest.storage) {
        Ok(storage) => storage,
        Err(error) => return Some(with_causes(&error)),
    };
    for file in &manifest.files {
        match storage.get(&file.path, file.size()).await {
            Ok(content) => {
                if let Err(why) = execute::check_file(content, file, &manifest.columns) {
                    return Some(format!("{}: {why}", storage.full(&file.path)));
                }
            }
            Err(error) => return Some(with_causes(&error)),
        }
    }
    None
}

/// What is to come back.
pub(super) struct Coming {
    pub(super) manifests: Vec<Manifest>,
    /// The ids of partitions that were archived and dropped.
    pub(super) wholes: Vec<u32>,
    pub(super) by_database: ByDatabase,
    /// Whether it is the history that says so, and not what lies beside the files.
    pub(super) recorded: bool,
}

/// Brings rows back into a table.
pub(super) async fn restore(
    context: &Context<'_>,
    (from, target): (Option<String>, &Target),
    into: Into<'_>,
    coming: Coming,
    how: How,
    unknown: &Unknown,
) -> Result<u8, Failure> {
    if into.database.is_some() {
        return Err(Failure::Usage(
            "`--database` is for documents; rows come back into the target's own".to_owned(),
        ));
    }
    let into: TableName = into
        .name
        .parse()
        .map_err(|why| Failure::Usage(format!("`--into {}`: {why}", into.name)))?;
    let dial = pipeline::dial(target)?;
    let session = Session::open(&dial, execute::RESTORING)
        .await
        .map_err(PipelineError::from)?;
    if session.server.in_recovery {
        let server = dial.describe();
        return Err(PipelineError::from(EngineError::InRecovery { server }).into());
    }
    let notes = Notes::open(context, &target.name, from).await?;
    let last = notes.last_place().await?;
    copies::none_left_behind(&dial, execute::RESTORING, &session, last.as_ref())
        .await
        .map_err(PipelineError::from)?;
    let Coming {
        manifests: found,
        wholes,
        by_database,
        recorded,
    } = coming;
    let (found, former) = match by_database {
        ByDatabase::Any => (found, Vec::new()),
        ByDatabase::One => former::of_one_database(&found).map(|()| (found, Vec::new()))?,
        ByDatabase::Present => {
            let here = Standpoint::of(&session)
                .await
                .map_err(PipelineError::from)?;
            former::apart(found, &here)
        }
    };
    if found.is_empty() {
        let why = former::left_out(&former, "left out").unwrap_or_default();
        return Err(Failure::Usage(format!("nothing is left to restore: {why}")));
    }
    let table = RelationName::new(&*into.schema, &*into.table);
    let is_back =
        async |manifest: &Manifest| execute::is_back(&session, manifest, &table, &wholes).await;
    let all = found.clone();
    let (manifests, before) = notes.not_back(found, how.again, is_back).await?;
    if !how.again {
        let marks = notes.known(&all).await?;
        let name = table.to_string();
        let left_out = all
            .iter()
            .filter(|m| before.iter().any(|(id, _)| *id == m.id));
        let there = left_out.filter_map(|m| {
            let later = marks.get(&m.id).map_or(&[][..], Vec::as_slice);
            There::of(m, later, &name, recorded)
        });
        let there: Vec<There<'_>> = there.collect();
        if let Some((one, other, file)) = twins(&there, &manifests) {
            return Err(Failure::Usage(format!(
                "{one} and {other} hold the same {}, in {}: they would be twice in {}\n  hint: choose by id; `--again`, with ids, brings both",
                counted_rows(file.rows, "row"),
                shown(&file.path),
                shown(&name)
            )));
        }
    }
    if how.dry_run {
        return would(
            context,
            &session,
            &table,
            (&manifests[..], &before, &former[..]),
            how,
            unknown,
        )
        .await;
    }
    let still = async || match how.again {
        true => Ok(()),
        false => not_meanwhile(&notes, &manifests, is_back).await,
    };
    let note = async |marks: Vec<Restored>| notes.mark(&manifests, &marks).await;
    let into = execute::Restore {
        dial: &dial,
        into: &table,
        disable_triggers: how.disable_triggers,
        trust_owners: &target.trust_owners,
    };
    let returned = execute::restore(&session, into, &manifests, still, note)
        .await
        .map_err(PipelineError::from)?;
    if context.json() {
        let mut document = serde_json::json!({ "into": table.to_string(), "rows": returned.rows, "skipped": ids::<Manifest>(&before), "former": of(&former), "unlogged": returned.unlogged, "computed": returned.computed });
        unknown.add_to(&mut document);
        outln!("{document}");
    } else {
        left_out(&before, "was left out");
        tell(&former, "left out");
        outln!(
            "{} back in {table}",
            counted_do(returned.rows, "row", ("is", "are"))
        );
        if !returned.computed.is_empty() {
            outln!(
                "{table} computes by itself: {}; what was archived of these columns stays in the archive, and was not compared",
                shown(&returned.computed.join(", "))
            );
        }
        if returned.unlogged {
            outln!("{}", unlogged(&table));
        }
        unknown.tell();
    }
    // Whoever asks for all has not got it.
    Ok(u8::from(!unknown.is_none()))
}

/// Fails where another restore has brought one of these back since it was
/// looked whether they are.
async fn not_meanwhile(
    notes: &Notes<'_>,
    manifests: &[Manifest],
    is_back: impl AsyncFn(&Manifest) -> Result<Back<Restored>, EngineError>,
) -> Result<(), EngineError> {
    for manifest in manifests {
        let mut now = manifest.clone();
        now.restored.extend(notes.marks_now(manifest).await?);
        // Where there is no history, restores are noted beside the files.
        if let Some(beside) = manifest.read_beside().await {
            now.restored.extend(beside.restored);
        }
        if !matches!(is_back(&now).await?, Back::No) {
            return Err(EngineError::Files {
                message: format!(
                    "nothing was restored: another restore has brought {} back meanwhile",
                    manifest.id
                ),
            });
        }
    }
    Ok(())
}

/// Tells what would come back.
async fn would(
    context: &Context<'_>,
    session: &Session,
    into: &RelationName,
    (manifests, before, former): (&[Manifest], &Before<Manifest>, &[Manifest]),
    how: How,
    unknown: &Unknown,
) -> Result<u8, Failure> {
    let site = execute::look_at(session, into, manifests)
        .await
        .map_err(PipelineError::from)?;
    execute::allowed_to_restore(session, into, &site, how.disable_triggers)
        .await
        .map_err(PipelineError::from)?;
    let unseen = unseen(session, into, &site, manifests).await?;
    let rows: i64 = manifests.iter().map(|m| m.rows).sum();
    let problems = missing(manifests).await;
    let changed = !site.changing.is_empty() && !how.disable_triggers;
    let none = changed || !problems.is_empty();
    let code = u8::from(!unknown.is_none() || none);
    if context.json() {
        let retyped = site.retyped.iter().map(
            |(name, is, was)| serde_json::json!({ "column": name, "type": is, "archived_as": was }),
        );
        let retyped: Vec<_> = retyped.collect();
        let each: Vec<_> = manifests
            .iter()
            .map(|m| serde_json::json!({ "id": m.id, "table": m.table, "rows": m.rows }))
            .collect();
        let mut document = serde_json::json!({ "into": into.to_string(), "made": site.oid.is_none(), "rows": rows,
            "manifests": each, "skipped": ids::<Manifest>(before), "former": of(former), "changing": site.changing, "computed": site.computed,
            "retyped": retyped, "unseen": unseen, "problems": problems, "unlogged": site.unlogged });
        unknown.add_to(&mut document);
        outln!("{document}");
        return Ok(code);
    }
    for manifest in manifests {
        outln!(
            "{} {} of {}",
            manifest.id,
            counted_rows(manifest.rows, "row"),
            shown(&manifest.table)
        );
    }
    left_out(before, "would be left out");
    tell(former, "left out");
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
    if site.unlogged {
        outln!("{}", unlogged(into));
    }
    for (name, is, was) in &site.retyped {
        outln!(
            "column {} of {into} is {}, and was {} when rows were archived: whether it takes all their values is seen by the restore itself",
            shown(name),
            shown(is),
            shown(was)
        );
    }
    for what in &unseen {
        outln!("{}", shown(what));
    }
    for problem in &problems {
        outln!("nothing would be restored: {}", shown(problem));
    }
    if changed {
        outln!(
            "nothing would be restored without `--disable-triggers`: {} may change rows",
            shown(&site.changing.join(", "))
        );
    }
    if !none {
        let rows = counted(usize::try_from(rows).unwrap_or(0), "row");
        let far = match unseen.is_empty() {
            true => "",
            false => ", as far as it was looked at",
        };
        outln!("{rows} would come back into {into}{far}");
    }
    unknown.tell();
    Ok(code)
}

/// What is seen by the restore only: fails where it is known that some rows would not come back.
async fn unseen(
    session: &Session,
    into: &RelationName,
    site: &execute::Site,
    manifests: &[Manifest],
) -> Result<Vec<String>, Failure> {
    let mut unseen = Vec::new();
    match execute::room_for(session, into, site, manifests).await {
        Ok(execute::Places::Lacking(why)) => return Err(PipelineError::from(why).into()),
        Ok(execute::Places::Unseen(what)) => unseen.push(what),
        Ok(execute::Places::Enough) => {}
        Err(why) => unseen.push(format!(
            "whether {into} has a partition for each of the rows is seen by the restore itself: {}",
            with_causes(&why)
        )),
    }
    match execute::labels_lost(session, into, site, manifests).await {
        Ok(execute::Labels {
            lost: Some(why), ..
        }) => return Err(PipelineError::from(why).into()),
        Ok(looked) => unseen.extend(looked.unseen),
        Err(why) => unseen.push(format!(
            "whether {into} has all labels of the rows is seen by the restore itself: {}",
            with_causes(&why)
        )),
    }
    if site.oid.is_some() {
        match execute::unforeseen(session, into).await {
            Ok(what) => unseen.extend(what),
            Err(why) => unseen.push(format!(
                "whether policies of {into} keep or hide rows is seen by the restore itself: {}",
                with_causes(&why)
            )),
        }
    }
    Ok(unseen)
}

/// What is told of a table that is not there after a crash.
fn unlogged(into: &RelationName) -> String {
    format!(
        "{into} is UNLOGGED, or a partition of it is: a crash of the server, or a failover, empties it, while the archive is noted as brought back; ALTER TABLE … SET LOGGED keeps the rows, and `--again` brings them once more"
    )
}

/// The ids of what another database had.
fn of(former: &[Manifest]) -> Vec<String> {
    former.iter().map(|m| m.id.to_string()).collect()
}

fn tell(former: &[Manifest], how: &str) {
    if let Some(line) = former::left_out(former, how) {
        outln!("{line}");
    }
}

fn left_out(before: &Before<Manifest>, how: &str) {
    for (id, mark) in before {
        outln!(
            "{id} {how}: it went back into {} on {}",
            mark.into,
            mark.at.format("%Y-%m-%d")
        );
    }
}
