//! The manifest of a partition on its way out: the one to go on with, and
//! what becomes of one that nobody goes on with.

use uuid::Uuid;

use super::Job;
use super::export::Exporter;
use super::fate::fate_of;
use super::known::{
    by_hand, discard, give_back, gone, keep_in_mind, known, missing, put, remember,
};
use super::living::claim_of_the_living;
use super::lot::ExportError;
use super::seen::Seen;
use crate::engines::postgres::{claim, first};
use crate::engines::storage::Storage;
use crate::plan::{Fate, Finding, Manifest, Retire, Whole, archived};
use crate::values::{several, wall_clock, with_causes};

/// What a run goes on with.
pub(super) struct Begun {
    pub(super) manifest: Manifest,
    /// Why what an earlier run stored is not gone on with.
    pub(super) anew: Option<String>,
}

/// The manifest to go on with: the earlier run's, the one beside the files
/// where the history has lost it, or a new one, written down. Only who holds
/// the lock of the partition may ask: then no manifest of it is a living run's.
pub(super) async fn begin(
    retire: &Retire,
    exporter: Option<&Exporter<'_>>,
    seen: &Seen,
    job: Job<'_>,
) -> Result<Begun, ExportError> {
    let mut anew = None;
    if let Some(exporter) = exporter {
        let mut known = remembered(retire, job).await?;
        if known.is_empty() && retire.detach.is_empty() {
            known.extend(find(&exporter.storage, retire, job).await?);
        }
        let mut found: Option<Manifest> = None;
        for mut manifest in known {
            if !manifest.transaction.is_empty() {
                let was = fate_of(job, &manifest).await?;
                if was.as_deref() != Some("aborted") {
                    return Err(unknown(&manifest, was.as_deref()));
                }
                manifest.transaction.clear();
                manifest.server = None;
                manifest.since = None;
            }
            let unfit = match &found {
                Some(_) => Some("there is another manifest of it".to_owned()),
                None => unfit(&manifest, exporter, seen).await?,
            };
            match unfit {
                None => found = Some(manifest),
                Some(why) => {
                    let removed = take_away(&manifest, job).await?;
                    anew = Some(format!(
                        "{} of it that an earlier run had stored {} stored again: {why}{removed}",
                        several(manifest.rows, "row"),
                        if manifest.rows == 1 { "was" } else { "were" }
                    ));
                }
            }
        }
        if let Some(mut manifest) = found {
            manifest.run = job.execution.run;
            remember(job, &manifest).await?;
            clear(&exporter.storage, &manifest).await?;
            return Ok(Begun { manifest, anew });
        }
    }
    let export = exporter.map(|exporter| exporter.export);
    let manifest = Manifest {
        id: Uuid::now_v7(),
        run: job.execution.run,
        maint: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: wall_clock(),
        settled: false,
        doubted: false,
        source: retire.source.clone(),
        oid: export.map(|e| e.oid),
        table: retire.table.clone(),
        table_oid: Some(retire.oid),
        condition: "all rows of the partition".to_owned(),
        columns: export.map(|e| e.columns.clone()).unwrap_or_default(),
        rows: 0,
        transaction: String::new(),
        server: None,
        since: None,
        storage: export.map(|e| e.storage.clone()).unwrap_or_default(),
        received: None,
        target: Some(job.execution.target.clone()),
        database: Some(job.session.server.database.clone()),
        database_oid: Some(job.session.server.database_oid),
        restored: Vec::new(),
        whole: Some(Whole {
            oid: retire.oid,
            bounds: retire.bounds.clone(),
            place: 0,
        }),
        files: Vec::new(),
    };
    if exporter.is_some() {
        remember(job, &manifest).await?;
    }
    Ok(Begun { manifest, anew })
}

/// What the history knows of this partition now. The plan is older: another
/// run may have come further, or have finished.
async fn remembered(retire: &Retire, job: Job<'_>) -> Result<Vec<Manifest>, ExportError> {
    let memories = known(job).await?;
    let all = archived::among::<Manifest>(memories.iter());
    Ok(all.into_iter().filter(|m| is_of(m, retire)).collect())
}

fn is_of(manifest: &Manifest, retire: &Retire) -> bool {
    let same = manifest.whole.as_ref().is_some_and(|w| w.oid == retire.oid);
    same && !manifest.settled && manifest.table == retire.table
}

/// Why what a manifest says cannot be gone on with. All its rows are in the
/// partition, so beginning anew is always right.
async fn unfit(
    manifest: &Manifest,
    exporter: &Exporter<'_>,
    seen: &Seen,
) -> Result<Option<String>, ExportError> {
    let export = exporter.export;
    let place = |url: &str| url.trim_end_matches('/').to_owned();
    if place(&manifest.storage) != place(&export.storage) {
        return Ok(Some(format!(
            "they were in {}, and it goes to {} now",
            manifest.storage, export.storage
        )));
    }
    if manifest.columns != export.columns {
        return Ok(Some("its columns have changed since".to_owned()));
    }
    seen.wrong(&exporter.storage, &manifest.files).await
}

/// Removes what was stored for a manifest, and what is known of it. What
/// cannot be removed is told, and keeps nobody from beginning anew.
async fn take_away(manifest: &Manifest, job: Job<'_>) -> Result<String, ExportError> {
    let removed = async {
        let storage = Storage::open(&manifest.storage)?;
        clear(&storage, manifest).await?;
        discard(&storage, job, manifest).await
    };
    match removed.await {
        Ok(()) => Ok(String::new()),
        Err(ExportError::Storage(error)) => {
            put(job, &manifest.key(), serde_json::Value::Null).await?;
            Ok(format!(
                "; files that begin with {} remain in {} and belong to nothing: {}",
                manifest.id,
                manifest.storage,
                with_causes(&error)
            ))
        }
        Err(error) => Err(error),
    }
}

/// The manifest of this partition beside the files. Another database, whose
/// table may have the same id and name, may use the same place.
async fn find(
    storage: &Storage,
    retire: &Retire,
    job: Job<'_>,
) -> Result<Option<Manifest>, ExportError> {
    let columns = match retire.walk.as_ref().map(|walk| &walk.fate) {
        Some(Fate::Export(export)) => export.columns.as_slice(),
        _ => &[],
    };
    let folder = Manifest::folder_of(&retire.source, columns);
    let (target, database) = (&job.execution.target, &job.session.server.database);
    look_for(storage, &folder, |m| {
        is_of(m, retire)
            && m.target.as_ref().is_none_or(|of| of == target)
            && m.database.as_ref().is_none_or(|of| of == database)
    })
    .await
}

async fn look_for(
    storage: &Storage,
    folder: &str,
    is_it: impl Fn(&Manifest) -> bool,
) -> Result<Option<Manifest>, ExportError> {
    for path in storage.list(folder).await? {
        if !archived::is_at(&path) {
            continue;
        }
        let content = storage.get(&path, archived::MANIFEST).await?;
        let found: Option<Manifest> = serde_json::from_slice(&content).ok();
        if let Some(manifest) = found.filter(&is_it) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// Removes files that were written for this manifest and are not part of it.
pub(super) async fn clear(storage: &Storage, manifest: &Manifest) -> Result<(), ExportError> {
    let mine = format!("{}-", manifest.id);
    let folder = Manifest::folder_of(&manifest.source, &manifest.columns);
    for path in storage.list(&folder).await? {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.starts_with(&mine) && !manifest.files.iter().any(|f| f.path == path) {
            storage.remove(&path).await?;
        }
    }
    Ok(())
}

fn unknown(manifest: &Manifest, was: Option<&str>) -> ExportError {
    ExportError::Proof(format!(
        "what became of transaction {}, which would have dropped {}, is not known ({}). {}",
        manifest.transaction,
        manifest.table,
        was.unwrap_or("too long ago"),
        by_hand(manifest)
    ))
}

const THERE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1)";

/// Finds out what became of a partition that no run will go on with. One that
/// somebody works on is left to them.
pub(super) async fn settle(
    manifest: &Manifest,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let Some(whole) = &manifest.whole else {
        return Ok(());
    };
    if claim_of_the_living(whole.oid, job).await?.is_some() {
        return Ok(());
    }
    let done = settle_alone(manifest, whole, job, findings).await;
    if let Err(ExportError::Engine(error)) = &done
        && error.is_unreachable()
    {
        return done;
    }
    let released = claim::release_partition(job.session, whole.oid).await;
    done?;
    Ok(released?)
}

async fn settle_alone(
    manifest: &Manifest,
    whole: &Whole,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let storage = Storage::open(&manifest.storage)?;
    let dropped = if manifest.transaction.is_empty() {
        false
    } else {
        let was = fate_of(job, manifest).await?;
        match was.as_deref() {
            Some("committed") => true,
            Some("aborted") => false,
            other => return Err(unknown(manifest, other)),
        }
    };
    if !dropped {
        let looking = "looking for the partition";
        let rows = job.session.query(looking, THERE, &[&whole.oid]).await?;
        if first(&rows, 0)? == Some(true) || by_another(&storage, manifest, whole).await? {
            // All its rows are there, or in another manifest: they were only copied.
            return match clear(&storage, manifest).await {
                Err(ExportError::Storage(why)) => keep_in_mind(job, manifest, &why, findings).await,
                Err(error) => Err(error),
                Ok(()) => give_back(job, manifest, findings).await,
            };
        }
        // Somebody else dropped it. What was stored by then is all there is.
        tracing::warn!(
            table = manifest.table,
            rows = manifest.rows,
            "somebody dropped a partition before it was archived as a whole; what was stored of it is kept"
        );
        clear(&storage, manifest).await?;
    }
    findings.extend(missing(&storage, manifest).await?);
    settled(&storage, manifest, job).await
}

/// Whether another run has archived this very partition, and dropped it: of
/// another target for the same database.
async fn by_another(
    storage: &Storage,
    manifest: &Manifest,
    whole: &Whole,
) -> Result<bool, ExportError> {
    let folder = Manifest::folder_of(&manifest.source, &manifest.columns);
    let other = look_for(storage, &folder, |m| {
        m.settled
            && m.id != manifest.id
            && m.table == manifest.table
            && m.database.is_some()
            && m.database == manifest.database
            && m.whole.as_ref().is_some_and(|w| w.oid == whole.oid)
            && m.rows >= manifest.rows
    });
    Ok(other.await?.is_some())
}

/// The table is gone, and what the manifest says is all there is of its rows.
pub(super) async fn settled(
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<(), ExportError> {
    if manifest.files.is_empty() {
        return discard(storage, job, manifest).await;
    }
    gone(storage, manifest, job).await
}
