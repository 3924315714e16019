//! What becomes of archived batches whose end nobody saw, and what is written down of manifests:
//! beside their files, and in the history.

use super::again::{self};
use super::fate::fate_of;
use super::known::{by_hand, clear_away, give_back, gone, missing, remember};
use super::lot::ExportError;
use super::{Job, begun, came, former, strangers};
use crate::engines::EngineError;
use crate::engines::storage::Storage;
use crate::history::{RunStatus, StepRecord, StepStatus};
use crate::plan::postgres::Settle;
use crate::plan::{Finding, Manifest};

/// Carries out [`Work::Settle`](crate::plan::Work::Settle).
pub(super) async fn carry_out(
    work: &Settle,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    let settled = async {
        former::take_over(&work.former, job).await?;
        if let Some(beside) = &work.beside {
            strangers::look(beside, (&*work.source, work.oid), job, findings).await?;
        }
        settle(&work.pending, job, findings).await?;
        for manifest in &work.left_over {
            clear_away(job, manifest, findings).await?;
        }
        match work.look_back {
            true => {
                let (source, put_back) = (&work.source, &work.put_back);
                again::look_back(source, work.oid, put_back, job, findings).await
            }
            false => Ok(()),
        }
    };
    settled.await.map_err(ExportError::into_engine)?;
    record.status = StepStatus::Succeeded;
    Ok(())
}

/// Finds out what became of batches whose end nobody saw, and clears away
/// the files of those that were not deleted.
async fn settle(
    pending: &[Manifest],
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    for manifest in pending {
        let alive = job
            .execution
            .history
            .store()
            .run(&manifest.run.to_string())
            .await
            .is_ok_and(|run| run.status == RunStatus::Running);
        if alive && manifest.run != job.execution.run {
            continue;
        }
        if manifest.whole.is_some() {
            begun::settle(manifest, job, findings).await?;
            continue;
        }
        let was = fate_of(job, manifest).await?;
        match was.as_deref() {
            Some("committed") if manifest.received.is_some() => {
                let known = Manifest {
                    settled: true,
                    ..manifest.clone()
                };
                remember(job, &known).await?;
            }
            Some("committed") => {
                let storage = Storage::open(&manifest.storage)?;
                findings.extend(missing(&storage, manifest).await?);
                gone(&storage, manifest, job).await?;
            }
            Some("aborted") if manifest.received.is_some() => {
                came::take_back(manifest, job).await?;
            }
            Some("aborted") => {
                give_back(job, manifest, findings).await?;
            }
            other => {
                return Err(ExportError::Proof(format!(
                    "what became of transaction {} is not known ({}). {}",
                    manifest.transaction,
                    other.unwrap_or("too long ago"),
                    by_hand(manifest)
                )));
            }
        }
    }
    Ok(())
}
