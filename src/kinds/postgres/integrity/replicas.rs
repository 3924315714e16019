//! Which replica is read, and which is not to be believed.

use std::time::Duration;

use serde_json::json;

use crate::engines::EngineError;
use crate::engines::postgres::{Session, copies, first, load};
use crate::plan::{Finding, Memory, Moment, Plan, Severity};
use crate::values::{Bytes, TimeSpan};

/// Under which key it is remembered which replica was read last.
const LAST_REPLICA: &str = "replica";

/// The replica whose turn it is. Each has files of its own, and damage in
/// them is seen only by who reads that one: every run takes the next.
pub(super) fn next_replica(usable: &[usize], at: &Moment, plan: &mut Plan) -> Option<usize> {
    let last = at.memories.get(LAST_REPLICA).and_then(|v| v.as_u64());
    let next = usable
        .iter()
        .find(|n| last.is_some_and(|last| **n as u64 > last))
        .or(usable.first())
        .copied()?;
    plan.memories.push(Memory {
        key: LAST_REPLICA.to_owned(),
        value: json!(next),
    });
    Some(next)
}

/// What is wrong with a replica that is no copy of the primary: its files
/// and object ids tell nothing about the primary's.
pub(super) async fn not_a_copy(
    primary: &Session,
    replica: &Session,
    n: usize,
) -> Result<Option<Finding>, EngineError> {
    let copy = replica.server.in_recovery
        && primary.server.database == replica.server.database
        && copies::began_as_one(primary, replica).await?;
    Ok((!copy).then(|| Finding {
        code: "replica.not_a_standby".to_owned(),
        severity: Severity::Warning,
        object: format!("replica {}", n + 1),
        message: format!(
            "replica {} is no standby of this target, or another database of it; nothing was checked there",
            n + 1
        ),
        suggestion: None,
    }))
}

/// So long a replica may be behind whose word is taken for the primary's.
const LONGEST_BEHIND: f64 = 60.0;

/// Whether replay is paused on a standby.
const PAUSED: &str = "SELECT pg_catalog.pg_is_wal_replay_paused()";

/// What is wrong with a replica whose replay is paused, delayed or far behind: what is all well there may be so of
/// another day, and would not be looked at again for long. A moment is given it to arrive where the primary is.
pub(super) async fn held_back(
    primary: &Session,
    replica: &Session,
    n: usize,
) -> Result<Option<Finding>, EngineError> {
    let flushed = load::flushed_bytes(primary).await?;
    let mut position = None;
    for _ in 0..10 {
        position = load::standby(replica, flushed).await?;
        if position.is_none_or(|at| at.replayed >= flushed) {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let Some(at) = position else {
        return Ok(None);
    };
    let doing = "asking whether replay is paused";
    let paused: bool = first(&replica.query(doing, PAUSED, &[]).await?, 0)?.unwrap_or(false);
    if !paused && at.seconds <= LONGEST_BEHIND {
        return Ok(None);
    }
    let how = match paused {
        true => "its replay is paused".to_owned(),
        false => format!(
            "what it has replayed last is of {} ago",
            TimeSpan::from(Duration::try_from_secs_f64(at.seconds).unwrap_or_default()).about()
        ),
    };
    Ok(Some(Finding {
        code: "replica.held_back".to_owned(),
        severity: Severity::Warning,
        object: format!("replica {}", n + 1),
        message: format!(
            "replica {} lacks {} of log that the primary has, and {how}: what is all well there is so of an earlier state; nothing was checked there",
            n + 1,
            Bytes(u64::try_from(flushed - at.replayed).unwrap_or_default()),
        ),
        suggestion: Some(match paused {
            true => "SELECT pg_wal_replay_resume()".to_owned(),
            false => "SHOW recovery_min_apply_delay".to_owned(),
        }),
    }))
}
