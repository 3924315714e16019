//! Whether another database still has what it received: a failover there that lost the last
//! moments, or a restore, takes rows with it that are nowhere else.

use super::export::ExportError;
use super::settle::{known, put};
use super::{Job, came, there};
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Session, first};
use crate::plan::{Finding, Manifest, Send, Severity, archived};

/// So many batches are looked at, from the newest backwards.
const MOST: usize = 100;

/// Looks once at each server that has taken the place of the one that received rows.
///
/// # Errors
/// When it cannot be asked.
pub(super) async fn look(
    there: &Session,
    send: &Send,
    job: Job<'_>,
) -> Result<Option<Finding>, ExportError> {
    let Some(newest) = &send.newest else {
        return Ok(None);
    };
    let here = Standpoint::of(there).await?;
    if !here.may_have_lost(newest.server.as_deref(), &newest.transaction)
        || send.seen.as_deref() == Some(&here.server)
    {
        return Ok(None);
    }
    let memories = known(job).await?;
    let mut lost = Vec::new();
    let received = Manifest::received_by(send, &memories);
    let all: i64 = received.iter().map(|(manifest, _)| manifest.rows).sum();
    let batches = received.into_iter().rev();
    for (manifest, received) in batches.take(MOST) {
        if !here.may_have_lost(received.server.as_deref(), &received.transaction) {
            break;
        }
        let id = Some(&received.transaction);
        let rows = count(there, &received.table, &received.target, id, job).await?;
        // What a server loses is the end of its history.
        if rows >= manifest.rows {
            break;
        }
        lost.push((manifest, rows));
    }
    // Whoever moves a database with a dump writes all rows anew.
    let moved = |server: &str| server.split('/').next() != here.server.split('/').next();
    if newest.server.as_deref().is_some_and(moved)
        && count(there, &send.into, &send.target, None, job).await? >= all
    {
        lost.clear();
    }
    let seen = archived::received_as(&send.target, &send.into);
    put(job, &seen, here.server.into()).await?;
    Ok(told(send, &lost))
}

/// How many rows there are, or how many as a transaction has written them.
async fn count(
    there: &Session,
    table: &str,
    target: &str,
    transaction: Option<&String>,
    job: Job<'_>,
) -> Result<i64, ExportError> {
    there
        .execute("opening a transaction there", "BEGIN")
        .await?;
    let counted = async {
        let trusted = there::trusted(target, job);
        trust::admit(there, table, &[Use::Read], &trusted).await?;
        let doing = "counting archived rows there";
        let sql = format!("SELECT pg_catalog.count(*) FROM {table}");
        let rows = match transaction {
            Some(id) => {
                let sql = format!("{sql} WHERE {}", came::CAME);
                there.query(doing, &sql, &[id]).await?
            }
            None => there.query(doing, &sql, &[]).await?,
        };
        first::<i64>(&rows, 0)
    };
    let counted = counted.await;
    there.execute("rolling back there", "ROLLBACK").await?;
    Ok(counted?.unwrap_or(0))
}

fn told(send: &Send, lost: &[(Manifest, i64)]) -> Option<Finding> {
    let (oldest, _) = lost.last()?;
    let sent: i64 = lost.iter().map(|(manifest, _)| manifest.rows).sum();
    let there: i64 = lost.iter().map(|(_, rows)| rows).sum();
    Some(Finding {
        code: "archive.lost_there".to_owned(),
        severity: Severity::Critical,
        object: send.source.clone(),
        message: format!(
            "the server of target {} is another one, or was set back, since rows came into {}: of the {sent} rows of the last {} batches, from {} on, {there} are there as they came. The others are lost, unless somebody has changed, copied or deleted them there since, or they are back where they came from: look whether they are there, or in a backup of either database, before it is too late",
            send.target,
            send.into,
            lost.len(),
            oldest.created_at.format("%Y-%m-%d %H:%M:%S UTC")
        ),
        suggestion: None,
    })
}
