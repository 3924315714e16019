//! What the server has to do besides us: the limits under `throttle:`.

use std::time::{Duration, Instant};

use super::reach::{Door, Seen};
use crate::config::{ReplicaGone, Throttle};
use crate::engines::EngineError;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::disk::{self, Free};
use crate::engines::postgres::load::{self, Position};
use crate::engines::postgres::{Identifier, Row, Session, copies, first, meaning};
use crate::execute::Busy;
use crate::plan::postgres::Under;
use crate::values::Bytes;

/// What one question may take before the answer is that it took too long.
const PATIENCE: &str = "SET statement_timeout = '10s'; SET lock_timeout = '1s'";

/// Over how long the rate of the log is taken, at least.
const RATE_OVER: Duration = Duration::from_millis(900);

/// Compares the limits with what the server says.
pub(super) async fn busy(
    seen: &mut Seen,
    limits: &Throttle,
    door: &Door,
) -> Result<Option<Busy>, EngineError> {
    if seen.primary.is_none() {
        let session = door.another().await?;
        session.execute("setting timeouts", PATIENCE).await?;
        seen.primary = Some(session);
    }
    let Some(primary) = &seen.primary else {
        return Ok(None);
    };
    if let Some(most) = limits.max_active_sessions {
        let now = load::sessions(primary, &door.name).await?;
        if now.unseen > 0 {
            return Err(EngineError::NotVisible {
                what: format!(
                    "`throttle.max_active_sessions` cannot be heeded: the role may not see what {} sessions do; let it: GRANT pg_read_all_stats TO {}",
                    now.unseen,
                    Identifier::new(&*primary.server.role)
                ),
            });
        }
        if now.active > i64::from(most) {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "max_active_sessions",
                text: format!("{} sessions are active, more than {most}", now.active),
            }));
        }
    }
    if let Some(query) = &limits.query
        && asked(primary, query).await?
    {
        return Ok(Some(Busy {
            abort: false,
            passing: false,
            setting: "query",
            text: format!("the query answers true: {query}"),
        }));
    }
    if let Some(least) = limits.min_free_disk {
        let free = free_disk(primary, limits.free_disk_query.as_deref()).await?;
        let free = free.map_err(|why| EngineError::NotVisible {
            what: format!(
                "`throttle.min_free_disk` cannot be heeded: {why}; `throttle.free_disk_query` may answer it"
            ),
        })?;
        if free.bytes < least.get() {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "min_free_disk",
                text: format!(
                    "{} are free on the disk of the server ({}), less than {least}",
                    rounded(free.bytes as f64),
                    free.place
                ),
            }));
        }
    }
    let log_bytes = load::log_bytes(primary).await?;
    if let Some(most) = limits.max_wal_rate {
        let now = Instant::now();
        // A rate is one of a second: what one batch writes in a moment is none.
        let due = |(at, _): (Instant, i64)| now.duration_since(at) >= RATE_OVER;
        if seen.log.is_none_or(due) {
            let before = seen.log.replace((now, log_bytes));
            seen.rate = before.map(|(at, bytes)| {
                let seconds = now.duration_since(at).as_secs_f64().max(0.001);
                (log_bytes - bytes) as f64 / seconds
            });
        }
        if let Some(rate) = seen.rate.filter(|rate| *rate > most.get() as f64) {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "max_wal_rate",
                text: format!(
                    "{} of WAL are written per second, more than {most}",
                    rounded(rate)
                ),
            }));
        }
    }
    if limits.max_replica_lag.is_some() || limits.max_replica_lag_bytes.is_some() {
        let now = Instant::now();
        let flushed = load::flushed_bytes(primary).await?;
        seen.marks.note(now, flushed);
        let mut positions = load::senders(primary, flushed).await?;
        let mut gone = None;
        for (n, dial) in door.replicas.iter().enumerate() {
            match position((n, dial), primary, &mut seen.standbys, door, flushed).await {
                Ok(Some(position)) => positions.push(position),
                // It has nothing to replay, so it is never late: after a failover one of
                // `replicas` is the primary.
                Ok(None) => tracing::warn!(
                    "replica {} is no standby; `throttle.max_replica_lag` does not count it",
                    n + 1
                ),
                Err(error) => {
                    seen.standbys.retain(|(known, _)| *known != n);
                    let text = format!("replica {} does not say how far it is: {error}", n + 1);
                    match limits.replica_gone {
                        None => {
                            return Err(EngineError::NotVisible {
                                what: format!(
                                    "`throttle.max_replica_lag` cannot be heeded: {text}"
                                ),
                            });
                        }
                        Some(ReplicaGone::Ignore) => tracing::warn!("{text}; going on without it"),
                        // The others may be further behind than is allowed meanwhile.
                        Some(policy) => {
                            gone.get_or_insert(Busy {
                                abort: policy == ReplicaGone::Abort,
                                passing: false,
                                setting: "replica_gone",
                                text,
                            });
                        }
                    }
                }
            }
        }
        if let Some(gone) = gone.take_if(|gone| gone.abort) {
            return Ok(Some(gone));
        }
        let most_bytes = positions
            .iter()
            .map(|p| flushed.saturating_sub(p.replayed))
            .max();
        let lags = positions.into_iter().map(|p| seen.marks.lag(p, now));
        let worst = lags.fold(0.0, f64::max);
        if let Some(most) = limits.max_replica_lag
            && worst > most.get().as_secs_f64()
        {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "max_replica_lag",
                text: format!("a replica is {worst:.1} s behind, more than {most}"),
            }));
        }
        if let (Some(most), Some(missing)) = (limits.max_replica_lag_bytes, most_bytes)
            && u64::try_from(missing).unwrap_or(0) > most.get()
        {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "max_replica_lag_bytes",
                text: format!("a replica has not replayed {missing} bytes, more than {most}"),
            }));
        }
        return Ok(gone);
    }
    Ok(None)
}

async fn position(
    (n, dial): (usize, &Dial),
    primary: &Session,
    standbys: &mut Vec<(usize, Session)>,
    door: &Door,
    flushed: i64,
) -> Result<Option<Position>, EngineError> {
    if !standbys.iter().any(|(known, _)| *known == n) {
        let session = Session::open(dial, &door.name).await?;
        session.execute("setting timeouts", PATIENCE).await?;
        // What a copy of something else has replayed says nothing of this server.
        if !copies::began_as_one(primary, &session).await? {
            return Err(EngineError::NotVisible {
                what: format!(
                    "{} is a copy of another server: put `replicas` of the target right",
                    dial.describe()
                ),
            });
        }
        standbys.push((n, session));
    }
    match standbys.iter().find(|(known, _)| *known == n) {
        Some((_, session)) => load::standby(session, flushed).await,
        None => Ok(None),
    }
}

/// What is free on the disk of the server: as the query says, where there is one.
pub(super) async fn free_disk(
    session: &Session,
    query: Option<&str>,
) -> Result<Result<Free, String>, EngineError> {
    let Some(query) = query else {
        return disk::free(session).await;
    };
    let answer = answered(session, query).await?;
    let bytes = first::<Option<i64>>(&answer, 0).ok().flatten().flatten();
    Ok(match bytes.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) => Ok(Free {
            bytes,
            place: "as `throttle.free_disk_query` says".to_owned(),
        }),
        None => Err(
            "`throttle.free_disk_query` has to answer one whole number (`…::int8`), and answers something else"
                .to_owned(),
        ),
    })
}

async fn asked(session: &Session, query: &str) -> Result<bool, EngineError> {
    let answer = answered(session, query).await?;
    let answer = first::<Option<bool>>(&answer, 0).map_err(|_| EngineError::NotVisible {
        what: "the query of `throttle` cannot be heeded: it has to answer `true` or `false`, and answers something else"
            .to_owned(),
    })?;
    Ok(answer == Some(Some(true)))
}

/// The first row of an answer, asked for in a transaction that may not write.
async fn answered(session: &Session, query: &str) -> Result<Vec<Row>, EngineError> {
    let doing = "asking the query of `throttle`";
    let meaning = meaning::of(session, &[query], &[]).await?;
    if let Some(why) = meaning.refused {
        return Err(EngineError::NotVisible {
            what: format!("the query of `throttle` cannot be heeded: {why}"),
        });
    }
    let under = Under {
        schemas: meaning.schemas,
        all_rows: true,
        their_time: true,
    };
    let begin = format!("BEGIN READ ONLY; {}", under.settings("SET LOCAL"));
    session.execute(doing, &begin).await?;
    let answer = session.query_first(doing, query).await;
    let ended = session.execute(doing, "ROLLBACK").await;
    let answer = answer?;
    ended?;
    Ok(answer)
}

/// To whole megabytes, or kilobytes where there are only few.
fn rounded(rate: f64) -> Bytes {
    let unit = if rate < 10.0 * 1024.0 * 1024.0 {
        1024
    } else {
        1024 * 1024
    };
    Bytes(rate as u64 / unit * unit)
}
