//! Copies of one database: of several hosts only one may be the primary. One that comes back after
//! a failover takes writes as if it still were, and whoever asks it first takes it for the database.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connect::Dial;
use super::timeline::{self, STARTED, Standpoint, TIMELINE};
use super::{Session, first};
use crate::engines::EngineError;

/// So long the other hosts may take to answer: whoever is down does not delay the run.
const PATIENCE: Duration = Duration::from_secs(5);

impl Standpoint {
    /// Asks the server of a session.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn of(session: &Session) -> Result<Standpoint, EngineError> {
        let doing = "asking which server this is";
        let sql = format!(
            "SELECT {TIMELINE}, pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text, {STARTED}"
        );
        let rows = session.query(doing, &sql, &[]).await?;
        let line: Option<String> = first(&rows, 0)?.flatten();
        let next: Option<String> = first(&rows, 1)?;
        let system = session.system_identifier().await?.unwrap_or_default();
        Ok(Standpoint {
            server: timeline::place(&system, &line.unwrap_or_default()),
            database: session.server.database_oid,
            since: first(&rows, 2)?.unwrap_or_default(),
            next_transaction: next.and_then(|id| id.parse().ok()).unwrap_or_default(),
        })
    }
}

/// Which copy a session is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The system identifier, where it is told.
    system: Option<String>,
    /// Another one, and a higher one, after each failover.
    timeline: u32,
    /// When the server was started.
    since: String,
}

impl Copy {
    /// The copy that is written to through this session; `None` on a standby.
    async fn of(session: &Session) -> Result<Option<Copy>, EngineError> {
        if session.server.in_recovery {
            return Ok(None);
        }
        let doing = "asking which copy of the database this is";
        let sql = format!("SELECT {TIMELINE}, {STARTED}");
        let rows = session.query(doing, &sql, &[]).await?;
        let timeline: Option<String> = first(&rows, 0)?.flatten();
        let timeline = timeline.and_then(|text| u32::from_str_radix(&text, 16).ok());
        let Some(timeline) = timeline else {
            return Ok(None);
        };
        Ok(Some(Copy {
            system: session.system_identifier().await?,
            timeline,
            since: first(&rows, 1)?.unwrap_or_default(),
        }))
    }

    /// Whether both began as one, as far as can be told.
    fn is_of(&self, other: &Copy) -> bool {
        are_one(&self.system, &other.system)
    }
}

/// Whether both servers began as one, as copies of each other do, as far as can be told.
///
/// # Errors
/// When one of the sessions is lost.
pub async fn began_as_one(one: &Session, other: &Session) -> Result<bool, EngineError> {
    let one = one.system_identifier().await?;
    Ok(are_one(&one, &other.system_identifier().await?))
}

fn are_one(one: &Option<String>, other: &Option<String>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// Where the runs on a target have worked last, for those that come after a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    system: Option<String>,
    timeline: u32,
}

/// Where a target is now, to be remembered: of several hosts the copy that a run begins on, which
/// is none that a failover has left behind. A host that is named alone is believed, and counts from
/// then on, where anything was known.
///
/// # Errors
/// When it was left behind, or the session is lost.
pub async fn place(
    dial: &Dial,
    session: &Session,
    begun_on: Option<&Copy>,
    last: Option<&Last>,
) -> Result<Option<Last>, EngineError> {
    let alone = match begun_on {
        None if last.is_some() && !dial.has_several_hosts() => Copy::of(session).await?,
        _ => None,
    };
    let Some(now) = begun_on.or(alone.as_ref()) else {
        return Ok(None);
    };
    if let Some(last) = last
        && dial.has_several_hosts()
        && are_one(&now.system, &last.system)
        && now.timeline < last.timeline
    {
        return Err(EngineError::OtherCopy {
            message: format!(
                "of the hosts of {} only one answers that takes writes, and it has an older copy of the database (timeline {}; earlier runs have worked on {}): it was the primary before a failover, and what is written there is lost when it follows the new one. Nothing was done. See why the new one does not answer; if this is the one to go on with, name it alone in the URL for one run",
                dial.describe(),
                now.timeline,
                last.timeline
            ),
        });
    }
    Ok(Some(Last {
        system: now.system.clone(),
        timeline: now.timeline,
    }))
}

/// Refuses a server that a failover has left behind, for who works where runs do, by what the history
/// keeps of where they have worked (`last`).
///
/// # Errors
/// Then, where several copies answer, and when the session is lost.
pub async fn none_left_behind(
    dial: &Dial,
    name: &str,
    session: &Session,
    last: Option<&Value>,
) -> Result<(), EngineError> {
    let copy = only_one(dial, name, session).await?;
    let last = last.and_then(|last| serde_json::from_value(last.clone()).ok());
    place(dial, session, copy.as_ref(), last.as_ref()).await?;
    Ok(())
}

/// Refuses two sessions that are not with one server, where the address has several hosts: what one
/// has written is not the other's.
///
/// # Errors
/// Then, and when one of them is lost.
pub async fn both_with_one(dial: &Dial, one: &Session, other: &Session) -> Result<(), EngineError> {
    if !dial.has_several_hosts() || Copy::of(one).await? == Copy::of(other).await? {
        return Ok(());
    }
    Err(EngineError::OtherCopy {
        message: format!(
            "two sessions with {} are on two different servers: another one took over in between, or its hosts are no copies of one database",
            dial.describe()
        ),
    })
}

/// The copy that a run begins on, where its target has several hosts.
///
/// # Errors
/// When another of them takes writes, too; or when the session is lost.
pub async fn only_one(
    dial: &Dial,
    name: &str,
    session: &Session,
) -> Result<Option<Copy>, EngineError> {
    if !dial.has_several_hosts() {
        return Ok(None);
    }
    let Some(ours) = Copy::of(session).await? else {
        return Ok(None);
    };
    let hosts = dial.each_host(PATIENCE);
    let looks = hosts.iter().map(|host| async move {
        let copy = async { Copy::of(&Session::open(host, name).await?).await };
        match copy.await {
            Ok(copy) => Some((host.describe(), copy?)),
            // Whoever does not answer does not take writes from us either.
            Err(error) => {
                tracing::debug!(%error, "one of several hosts could not be looked at");
                None
            }
        }
    });
    let primaries: Vec<(String, Copy)> = join_all(looks).await.into_iter().flatten().collect();
    if let Some((place, copy)) = primaries
        .iter()
        .find(|(_, copy)| copy.is_of(&ours) && *copy != ours)
    {
        let (newer, older) = match copy.timeline > ours.timeline {
            true => (copy.timeline, ours.timeline),
            false => (ours.timeline, copy.timeline),
        };
        return Err(EngineError::OtherCopy {
            message: format!(
                "more than one host of {} is a primary, each with a copy of its own (timelines {older} and {newer}; {place} is one of them): nobody can tell which one the application uses, and nothing was done on either",
                dial.describe()
            ),
        });
    }
    Ok(Some(ours))
}

/// Whether a later session of a run is where the run began, or where a failover has taken it.
///
/// # Errors
/// When it is not, or the session is lost.
pub async fn goes_on(begun_on: &Copy, dial: &Dial, session: &Session) -> Result<(), EngineError> {
    let Some(now) = Copy::of(session).await? else {
        return Ok(());
    };
    if now.is_of(begun_on) && now.timeline >= begun_on.timeline {
        return Ok(());
    }
    Err(EngineError::OtherCopy {
        message: format!(
            "the run began on another server of {} than the one that answers now: that has an older copy of the database (timeline {}, the run began on {})",
            dial.describe(),
            now.timeline,
            begun_on.timeline
        ),
    })
}
