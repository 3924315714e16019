//! Whether archived rows are in their table again.
//!
//! After a failover that lost a moment, a restore to a point in time or a move to another
//! server, the transaction that deleted them may never have been; its number says nothing there,
//! or is another one's. The rows themselves say it: a batch left its table as a whole, so either
//! all of its rows are there as they were archived, or none is.

mod find;

use std::collections::{BTreeMap, HashSet};

use chrono::TimeDelta;

use self::find::{Found, Look, MOST_READ_BYTES};
use super::attempts::ends;
use super::came::Fields;
use super::export::check;
use super::gate::{self, Halt};
use super::known::{give_back, known, missing, put, remember};
use super::lot::ExportError;
use super::whence::{Source, table_of};
use super::{Job, came, there};
use crate::engines::EngineError;
use crate::engines::parquet::rows;
use crate::engines::postgres::Fault;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::storage::Storage;
use crate::plan::{Export, Fate, Finding, Manifest, Send, Severity, Walk, archived};
use crate::values::{several, with_causes};

/// A batch that was written down so long before another one has committed before it.
const BEFORE: TimeDelta = TimeDelta::days(1);

/// What was seen of a batch.
pub(super) struct Seen {
    /// Where its rows are.
    pub(super) rows: Rows,
    /// Whether the table that was looked at is another one than they left: made anew, or put in its
    /// place with rows that had left.
    pub(super) elsewhere: bool,
}

/// Where the rows of a batch are.
pub(super) enum Rows {
    /// None of them is in the table.
    Gone,
    /// All of them are, as they were archived.
    Back,
    /// Some are as they were archived, so many; or they have been changed.
    Between(i64, String),
    /// None is as it was archived; and nothing tells whether others of the table are those, changed.
    Unlike(String),
    /// Nobody can tell.
    Unseen(String),
    /// What was archived is not where it was put, so nobody can compare it.
    Away(String),
}

/// Looks where the rows of a batch are: in the table of this id, or else in the one that they left.
///
/// # Errors
/// When the server or the place of the files cannot be asked.
pub(super) async fn look(
    manifest: &Manifest,
    root: Option<u32>,
    job: Job<'_>,
) -> Result<Seen, ExportError> {
    let session = job.session;
    match gate::limit(session, job.execution, ends(job)).await {
        Ok(_) => {}
        Err(Halt::Failed(error)) => return Err(error.into()),
        Err(_) => {
            let why = "the run's time was up before archived rows were looked for";
            return Err(ExportError::Proof(why.to_owned()));
        }
    }
    session.execute("opening a transaction", "BEGIN").await?;
    let mut elsewhere = false;
    let rows = within(manifest, root, &mut elsewhere, job).await;
    let ended = session.execute("ending the transaction", "ROLLBACK").await;
    let rows = match rows {
        // Row security, for one: then a person looks.
        Err(ExportError::Engine(error)) if Fault::of(&error) == Fault::Forbidden => {
            Rows::Unseen(with_causes(&error))
        }
        rows => rows?,
    };
    ended?;
    Ok(Seen { rows, elsewhere })
}

async fn within(
    manifest: &Manifest,
    root: Option<u32>,
    elsewhere: &mut bool,
    job: Job<'_>,
) -> Result<Rows, ExportError> {
    let session = job.session;
    let found = table_of(manifest, root, job).await?;
    // Where rows are hidden from us, the server says so instead.
    let all = "SET LOCAL row_security = off";
    session.execute("asking for all rows", all).await?;
    let Some(Source {
        oid,
        name: table,
        bytes,
        is_another,
    }) = found
    else {
        return Ok(Rows::Gone);
    };
    *elsewhere = is_another;
    let trusted = there::trusted(&job.execution.target, job);
    trust::admit(session, &table, &[Use::Read], &trusted).await?;
    let look = Look::new(session, oid, table, &manifest.columns).await?;
    if look.key.is_none() && (bytes > MOST_READ_BYTES || !look.same) {
        return Ok(Rows::Unseen(format!(
            "{} has no key that the archive has as well",
            look.table
        )));
    }
    let mut all = Found::default();
    let mut asked = 0;
    if manifest.received.is_some() {
        let there = match came::rows_there(manifest, job).await? {
            Ok(there) => there,
            Err(why) => return Ok(Rows::Unseen(why)),
        };
        all = look.find(there).await?;
        asked = manifest.rows;
    } else {
        let storage = Storage::open(&manifest.storage)?;
        for file in &manifest.files {
            let content = match storage.get(&file.path, file.size()).await {
                Ok(content) => content,
                Err(error) => return Ok(Rows::Away(with_causes(&error))),
            };
            if let Err(why) = check(content.clone(), file, &manifest.columns) {
                return Ok(Rows::Away(format!("{}: {why}", storage.full(&file.path))));
            }
            let rows: Vec<Fields> = rows(content, &manifest.columns)?.collect::<Result<_, _>>()?;
            let found = look.find(rows).await?;
            all.equal += found.equal;
            all.other += found.other;
            asked += file.rows;
            // A batch went as a whole, or not at all.
            if all.equal + all.other == 0 {
                break;
            }
        }
    }
    Ok(match all {
        Found { equal: 0, other: 0 } if look.key.is_none() && look.has_rows().await? => {
            Rows::Unlike(format!(
                "no row of {} is like one of the {asked} that were archived, and it has no key that would find those that somebody has changed",
                look.table
            ))
        }
        Found { equal: 0, other: 0 } => Rows::Gone,
        Found { equal, other: 0 } if equal == asked && look.key.is_some() => Rows::Back,
        Found { equal, .. } if look.key.is_none() => Rows::Between(
            equal,
            format!(
                "{} of {} {} like the {asked} that were archived, and it has no key that would tell whether they are the same",
                several(equal, "row"),
                look.table,
                if equal == 1 { "is" } else { "are" }
            ),
        ),
        Found { equal, other } => Rows::Between(
            equal,
            format!(
                "of the {} {} in {} as they were archived, and {other} with other values",
                several(asked, "row"),
                if equal == 1 {
                    format!("{equal} is")
                } else {
                    format!("{equal} are")
                },
                look.table
            ),
        ),
    })
}

/// Whether the table of this id, or the partition of it that a batch left, has a key by which its
/// rows are found.
async fn keyed(manifest: &Manifest, root: u32, job: Job<'_>) -> Result<bool, ExportError> {
    let Some(found) = table_of(manifest, Some(root), job).await? else {
        return Ok(false);
    };
    let look = Look::new(job.session, found.oid, found.name, &manifest.columns).await?;
    Ok(look.key.is_some())
}

/// Looks at the newest batch, and at those before it if that is in its table again: no number of a
/// server tells that it was set back to a snapshot, once it has gone on from there. Without a key
/// nothing is looked at, since rows may well be alike.
///
/// # Errors
/// When it cannot be seen, or a person has to say it.
pub(super) async fn first(
    walk: &Walk,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let Some(newest) = &walk.newest else {
        return Ok(());
    };
    let (Fate::Export(Export { source, oid, .. }) | Fate::Send(Send { source, oid, .. })) =
        &walk.fate
    else {
        return Ok(());
    };
    let looked = async {
        if !keyed(newest, *oid, job).await? {
            return Ok(());
        }
        match look(newest, Some(*oid), job).await?.rows {
            Rows::Back | Rows::Between(1.., _) => {
                look_back(source, *oid, &BTreeMap::new(), job, findings).await
            }
            Rows::Gone | Rows::Between(..) | Rows::Unlike(_) | Rows::Unseen(_) | Rows::Away(_) => {
                Ok(())
            }
        }
    };
    looked.await.map_err(ExportError::into_engine)
}

/// Looks, from the newest to the oldest, whether batches that have left a table are in it again,
/// and takes back what was archived of those: what a server loses is the end of its history. What
/// somebody has put back may be of any time: of the partitions `put_back`, which are other tables by
/// now, each is looked at.
///
/// # Errors
/// When it cannot be seen, or a person has to say it.
pub(super) async fn look_back(
    source: &str,
    oid: u32,
    put_back: &BTreeMap<String, u32>,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let here = Standpoint::of(job.session).await?;
    let memories = known(job).await?;
    let mut gone: HashSet<String> = HashSet::new();
    let mut before = None;
    let (mut between, mut undone) = (Vec::new(), Vec::new());
    let left = Manifest::left(source, oid, &here, &memories);
    for manifest in left.into_iter().rev() {
        if gone.contains(&manifest.table) {
            continue;
        }
        if before.is_some_and(|before| manifest.created_at < before)
            && !put_back.contains_key(&manifest.table)
        {
            continue;
        }
        let seen = look(&manifest, Some(oid), job).await?;
        if matches!(seen.rows, Rows::Unseen(_)) {
            // Those before it are as unseen.
            gone.insert(manifest.table.clone());
        }
        match seen.rows {
            Rows::Gone => {
                before = before.or(Some(manifest.created_at - BEFORE));
                gone.insert(manifest.table);
            }
            // A table that was made anew gives the same keys to other rows, or has other columns.
            Rows::Between(0, why) | Rows::Unseen(why) if seen.elsewhere => {
                findings.push(unclear(&manifest, &why));
                gone.insert(manifest.table);
            }
            // Those before it are as unclear, and nothing of them is in the archive twice.
            Rows::Unlike(why) => {
                findings.push(unclear(&manifest, &why));
                gone.insert(manifest.table);
            }
            Rows::Back => {
                take_back(&manifest, job, findings).await?;
                undone.push(manifest);
            }
            Rows::Between(_, why) | Rows::Unseen(why) => {
                let unsettled = Manifest {
                    settled: false,
                    doubted: true,
                    ..manifest
                };
                remember(job, &unsettled).await?;
                between.push((unsettled, why));
            }
            // It is asked again once they are there.
            Rows::Away(why) => {
                let storage = Storage::open(&manifest.storage)?;
                findings.extend(missing(&storage, &manifest).await?);
                return Err(ExportError::Proof(format!(
                    "whether rows that were archived are in {source} again cannot be seen, and nothing was archived: {why}"
                )));
            }
        }
    }
    findings.extend(told_undone(source, &undone));
    let tables: Vec<u32> = put_back.values().copied().chain([oid]).collect();
    let looked = Manifest::looked(source, &here, &tables, &memories);
    put(job, &archived::seen_as(source), looked).await?;
    match between.first() {
        None => Ok(()),
        Some((manifest, why)) => Err(ExportError::Proof(format!(
            "batches that were archived before this server took over, or was set back, or the database or the table was put back, may be in their table again, and it cannot be told: {}. Of the newest, {why}. Nothing was archived meanwhile. {}",
            between.len(),
            super::known::by_hand(manifest)
        ))),
    }
}

/// Removes what was archived of rows that are in their table.
pub(super) async fn take_back(
    manifest: &Manifest,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    if manifest.received.is_some() {
        return came::take_back(manifest, job).await;
    }
    give_back(job, manifest, findings).await
}

fn unclear(manifest: &Manifest, why: &str) -> Finding {
    Finding {
        code: "archive.unclear".to_owned(),
        severity: Severity::Warning,
        object: manifest.source.clone(),
        message: format!(
            "whether rows that left {} before this server took over, or was set back, or the database or the table was put back or made anew, are in it again, changed since, cannot be told: {why}. The newest of them are the archive {}, of {}; what is in the table is archived as it is by now",
            manifest.table,
            manifest.id,
            manifest.created_at.format("%Y-%m-%d %H:%M:%S UTC")
        ),
        suggestion: None,
    }
}

fn told_undone(source: &str, undone: &[Manifest]) -> Option<Finding> {
    let first = undone.last()?;
    let rows: i64 = undone.iter().map(|m| m.rows).sum();
    Some(Finding {
        code: "archive.undone".to_owned(),
        severity: Severity::Warning,
        object: source.to_owned(),
        message: format!(
            "{} that had been archived in {} since {} {} in the table again: the server that took over, or the backup that it, the database or the table came from, does not know that they left, or somebody has put them back. What was archived of them was removed, and they are archived anew. Whatever else was written since may be lost as well",
            several(rows, "row"),
            match undone.len() {
                1 => "1 batch".to_owned(),
                many => format!("{many} batches"),
            },
            first.created_at.format("%Y-%m-%d %H:%M:%S UTC"),
            if rows == 1 { "is" } else { "are" }
        ),
        suggestion: None,
    })
}
