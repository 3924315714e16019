//! How busy a server is, as far as the limits of a task ask.

use mongodb::bson::{Document, doc};

use crate::config::{ReplicaGone, Throttle};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Members, Session, number};
use crate::execute::Busy;
use crate::values::{Bytes, several_do};

/// What holds a task up, if anything does.
pub(super) async fn busy(
    session: &Session,
    limits: &Throttle,
) -> Result<Option<Busy>, EngineError> {
    if limits.max_wal_rate.is_some() {
        return Err(unknown("max_wal_rate"));
    }
    if limits.query.is_some() {
        return Err(unknown("query"));
    }
    if limits.free_disk_query.is_some() {
        return Err(unknown("free_disk_query"));
    }
    if let Some(least) = limits.min_free_disk {
        let doing = "asking how much is free on the disk";
        let stats = session
            .command(
                doing,
                session.database(),
                doc! { "dbStats": 1 },
                Limit::ASIDE,
            )
            .await;
        let stats = match stats {
            Ok(stats) => stats,
            Err(error) if error.is_passing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some((free, place)) = free_disk(&stats, session.describe()) else {
            return Err(EngineError::NotVisible {
                what: "`throttle.min_free_disk` cannot be heeded: the server does not say how much is free on its disk"
                    .to_owned(),
            });
        };
        if free < least.get() {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "min_free_disk",
                text: format!(
                    "{} are free on the disk of {place}, less than {least}",
                    Bytes(free)
                ),
            }));
        }
    }
    if let Some(most) = limits.max_active_sessions {
        let doing = "counting busy connections";
        let status = session
            .command(doing, "admin", doc! { "serverStatus": 1 }, Limit::ASIDE)
            .await;
        let status = match status {
            Ok(status) => status,
            // It will be asked again in a second; meanwhile nobody is let down.
            Err(error) if error.is_passing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let active = status
            .get_document("globalLock")
            .and_then(|lock| lock.get_document("activeClients"))
            .ok()
            .and_then(|clients| number(clients.get("total")))
            .unwrap_or(0);
        if active > i64::from(most) {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "max_active_sessions",
                text: format!(
                    "{} active, more than {most}",
                    several_do(active, "operation", ("is", "are"))
                ),
            }));
        }
    }
    if limits
        .max_replica_lag_bytes
        .is_some_and(|most| most.get() < u64::MAX)
    {
        return Err(unknown("max_replica_lag_bytes"));
    }
    if limits.asks_replicas() {
        match Members::of(session).await {
            Ok(members) => {
                let gone = members.gone().next().map(|member| {
                    format!(
                        "{} does not say how far it is: it is {}",
                        member.name, member.state
                    )
                });
                let gone = gone.and_then(|text| match limits.replica_gone {
                    None => None,
                    Some(ReplicaGone::Ignore) => {
                        tracing::warn!("{text}; going on without it");
                        None
                    }
                    Some(policy) => Some(Busy {
                        abort: policy == ReplicaGone::Abort,
                        passing: false,
                        setting: "replica_gone",
                        text,
                    }),
                });
                if gone.as_ref().is_some_and(|gone| gone.abort) {
                    return Ok(gone);
                }
                if let (Some(most), Some((member, lag))) =
                    (limits.max_replica_lag, members.worst_lag())
                    && lag > most.get().as_secs_f64()
                {
                    return Ok(Some(Busy {
                        abort: false,
                        passing: false,
                        setting: "max_replica_lag",
                        text: format!("{} is {lag:.1} s behind, more than {most}", member.name),
                    }));
                }
                if gone.is_some() {
                    return Ok(gone);
                }
                if limits.max_replica_lag.is_some() && is_held_back(session).await {
                    return Ok(Some(Busy {
                        abort: false,
                        passing: true,
                        setting: "max_replica_lag",
                        text: "flow control slows writes down: a majority of the members is behind"
                            .to_owned(),
                    }));
                }
            }
            Err(error) if error.is_passing() => {
                return Ok(Some(Busy {
                    abort: false,
                    passing: false,
                    // Passes by itself, and is no lag: a limit that ends runs is not passed.
                    setting: "replica_gone",
                    text: "the set has no primary just now".to_owned(),
                }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Whether the primary itself slows writes down because a majority does not follow, as far as that
/// may be asked.
async fn is_held_back(session: &Session) -> bool {
    let ask = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0, "wiredTiger": 0 };
    let doing = "asking whether writes are slowed down";
    let status = session.command(doing, "admin", ask, Limit::ASIDE).await;
    status.is_ok_and(|status| slows_down(&status))
}

/// Whether a server says that it slows writes down.
fn slows_down(status: &Document) -> bool {
    let flow = status.get_document("flowControl");
    flow.is_ok_and(|flow| flow.get_bool("isLagged").unwrap_or(false))
}

/// What is free where the least is: of the server itself, or of the shards behind it.
fn free_disk(stats: &Document, server: &str) -> Option<(u64, String)> {
    let free = |stats: &Document| {
        let total = number(stats.get("fsTotalSize")).filter(|total| *total > 0)?;
        let used = number(stats.get("fsUsedSize"))?;
        u64::try_from(total.checked_sub(used)?).ok()
    };
    match stats.get_document("raw") {
        Ok(shards) => shards
            .iter()
            .map(|(shard, stats)| Some((free(stats.as_document()?)?, shard.clone())))
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .min(),
        Err(_) => Some((free(stats)?, server.to_owned())),
    }
}

/// A condition that there is no way of heeding.
fn unknown(setting: &str) -> EngineError {
    EngineError::NotVisible {
        what: format!(
            "`throttle.{setting}` cannot be heeded: MongoDB knows no such thing; use max_replica_lag, max_active_sessions, min_free_disk or pause_file"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_slows_writes_down_holds_a_task_up() {
        let of = |lagged: bool| doc! { "flowControl": { "enabled": true, "isLagged": lagged } };
        assert!(slows_down(&of(true)));
        assert!(!slows_down(&of(false)));
        // Those that stand alone, and older ones, say nothing of it.
        assert!(!slows_down(&doc! { "ok": 1 }));
    }

    #[test]
    fn the_fullest_disk_is_the_one_that_counts() {
        let stats = |free: i64| doc! { "fsUsedSize": 1_000_i64, "fsTotalSize": 1_000 + free };
        let told = |stats: &Document| free_disk(stats, "a:1");
        assert_eq!(told(&stats(5)), Some((5, "a:1".to_owned())));
        let sharded = doc! { "raw": { "s0/a": stats(7), "s1/b": stats(3) }, "fsUsedSize": 2_000_i64, "fsTotalSize": 9_000_i64 };
        assert_eq!(told(&sharded), Some((3, "s1/b".to_owned())));
        // One that says nothing may be full.
        let silent = doc! { "raw": { "s0/a": stats(7), "s1/b": { "ok": 1 } } };
        assert_eq!(told(&silent), None);
        assert_eq!(told(&doc! { "fsUsedSize": 0, "fsTotalSize": 0 }), None);
    }
}
