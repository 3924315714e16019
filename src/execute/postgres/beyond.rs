//! Whether another database still has what it received: a failover there that lost the last
//! moments, or a restore of the server, the database or the table, takes rows with it that are
//! nowhere else.

use super::known::{known, put};
use super::lot::ExportError;
use super::{Job, came, there};
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Session, first};
use crate::plan::postgres::Lost;
use crate::plan::{Finding, Manifest, Send, Severity, archived};
use crate::values::several;

/// So many batches are looked at, from the newest backwards.
const MOST: usize = 100;

/// Looks once at each server that has taken the place of the one that received rows, or was
/// started anew since; and at each database and table of this id, in the place of another.
///
/// # Errors
/// When it cannot be asked.
pub(super) async fn look(
    there: &Session,
    send: &Send,
    into: u32,
    job: Job<'_>,
) -> Result<Option<Finding>, ExportError> {
    let Some(newest) = &send.newest else {
        return Ok(None);
    };
    let here = Standpoint::of(there).await?;
    let memories = known(job).await?;
    let put_back = newest.is_elsewhere(&here, into);
    let replaced = put_back || here.may_have_lost(newest.server.as_deref(), &newest.transaction);
    let missed = archived::lost_as(&send.target, &send.into);
    // What another server had lost, this one may have.
    let is_missed = memories.get(&missed).is_some_and(|lost| !lost.is_null());
    if !replaced && !is_missed && here.has_run_since(newest.since.as_deref()) {
        return Ok(None);
    }
    let seen = archived::received_as(&send.target, &send.into);
    let now = format!("{} in {} {into}", here.run(), here.database);
    if memories.get(&seen).and_then(|seen| seen.as_str()) == Some(&now) {
        return Ok(None);
    }
    let mut lost = Vec::new();
    let received = Manifest::received_by(send, &memories);
    let all: i64 = received.iter().map(|(manifest, _)| manifest.rows).sum();
    let batches = received.into_iter().rev();
    for (manifest, received) in batches.take(MOST) {
        if here.has_run_since(received.since.as_deref()) && !received.is_elsewhere(&here, into) {
            break;
        }
        let came = came::count(there, &manifest, &received, job).await?;
        // What a server loses is the end of its history.
        if came.whole {
            break;
        }
        lost.push((manifest, came.rows));
    }
    // Whoever moves a database with a dump writes all rows anew.
    let moved = |server: &str| server.split('/').next() != here.server.split('/').next();
    if (put_back || newest.server.as_deref().is_some_and(moved))
        && rows_in(there, &send.into, &send.target, job).await? >= all
    {
        lost.clear();
    }
    let found = told(send, &lost, replaced);
    let lost = found.clone().map(|finding| Lost {
        source: send.source.clone(),
        batches: lost.iter().map(|(manifest, _)| manifest.id).collect(),
        finding,
    });
    if lost.is_some() || is_missed {
        // Told from now on, or not any more.
        let value = serde_json::to_value(lost).unwrap_or_default();
        put(job, &missed, value).await?;
    }
    put(job, &seen, now.into()).await?;
    Ok(found)
}

/// How many rows there are.
async fn rows_in(
    there: &Session,
    table: &str,
    target: &str,
    job: Job<'_>,
) -> Result<i64, ExportError> {
    there
        .execute("opening a transaction there", "BEGIN")
        .await?;
    let counted = async {
        let trusted = there::trusted(target, job);
        trust::admit(there, table, &[Use::Read], &trusted).await?;
        let sql = format!("SELECT pg_catalog.count(*) FROM {table}");
        let rows = there.query("counting rows there", &sql, &[]).await?;
        first::<i64>(&rows, 0)
    };
    let counted = counted.await;
    there.execute("rolling back there", "ROLLBACK").await?;
    Ok(counted?.unwrap_or(0))
}

fn told(send: &Send, lost: &[(Manifest, i64)], replaced: bool) -> Option<Finding> {
    let (oldest, _) = lost.last()?;
    let sent: i64 = lost.iter().map(|(manifest, _)| manifest.rows).sum();
    // Of a transaction that wrote as many rows as came, or more, none is ours.
    let ours = |(manifest, rows): &(Manifest, i64)| if *rows < manifest.rows { *rows } else { 0 };
    let there = match lost.iter().map(ours).sum::<i64>() {
        0 => "0".to_owned(),
        some => format!("at most {some}"),
    };
    let (severity, since) = match replaced {
        true => (
            Severity::Critical,
            ", its database or the table there is another one, or was set back,",
        ),
        false => (
            Severity::Warning,
            " was started anew, and perhaps set back to a snapshot before that,",
        ),
    };
    Some(Finding {
        code: "archive.lost_there".to_owned(),
        severity,
        object: send.source.clone(),
        message: format!(
            "the server of target {}{since} since rows came into {}: of the {} of the last {}, from {} on, {there} are there as they came. The others are lost, unless somebody has changed, copied or deleted them there since, or they are back where they came from: look whether they are there, or in a backup of either database, before it is too late. Once they are brought back or given up, say so: `maint archive settle {} --seen-to`",
            send.target,
            send.into,
            several(sent, "row"),
            match lost.len() {
                1 => "batch".to_owned(),
                many => format!("{many} batches"),
            },
            oldest.created_at.format("%Y-%m-%d %H:%M:%S UTC"),
            oldest.id
        ),
        suggestion: None,
    })
}
