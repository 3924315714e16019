//! One PostgreSQL database of a run: how it is reached, and what a run keeps about it.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::Mutex;

use super::ahead::Ahead;
use super::bounds::Bounds;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::copies::{self, Copy};
use crate::engines::postgres::load::Marks;
use crate::engines::postgres::{Damage, Fault, Session};
use crate::execute;

/// What carrying out a step on PostgreSQL needs besides its record.
pub(super) type Job<'a> = execute::Job<'a, Door>;

/// One PostgreSQL database and its replicas.
pub(crate) struct Door {
    /// Where to connect.
    pub(super) dial: Dial,
    /// Its replicas, in the order of the configuration.
    pub(super) replicas: Vec<Dial>,
    /// What our sessions are called on the server.
    pub(super) name: String,
    /// Where the run began, if the primary may be one of several hosts.
    pub(super) begun_on: OnceLock<Copy>,
    /// For the limits under `throttle:`.
    pub(super) seen: Mutex<Seen>,
    /// What steps still have before them, by their names.
    pub(super) ahead: Ahead,
    /// Rows that have gone in this run, by the bound that they count for.
    pub(super) gone: Bounds,
    /// Whether it has been said that nobody knows how much room there is.
    pub(super) room_unknown: AtomicBool,
}

impl Door {
    /// One more session with the primary, and with none that was it before.
    pub(super) async fn another(&self) -> Result<Session, EngineError> {
        self.way().open().await
    }

    pub(super) fn way(&self) -> Way {
        Way {
            dial: self.dial.clone(),
            name: self.name.clone(),
            begun_on: self.begun_on.get().cloned(),
        }
    }
}

/// How a run gets more sessions with the primary that it began on.
pub(super) struct Way {
    dial: Dial,
    name: String,
    begun_on: Option<Copy>,
}

impl Way {
    pub(super) async fn open(&self) -> Result<Session, EngineError> {
        let session = Session::open(&self.dial, &self.name).await?;
        if let Some(begun_on) = &self.begun_on {
            copies::goes_on(begun_on, &self.dial, &session).await?;
        }
        Ok(session)
    }
}

/// Where a target is, as the history keeps it.
pub(super) async fn place(
    dial: &Dial,
    session: &Session,
    begun_on: Option<&Copy>,
    last: Option<&Value>,
) -> Result<Option<Value>, EngineError> {
    let last = last.and_then(|last| serde_json::from_value(last.clone()).ok());
    let now = copies::place(dial, session, begun_on, last.as_ref()).await?;
    Ok(now.and_then(|now| serde_json::to_value(now).ok()))
}

/// Resolves how to reach a target.
pub(crate) fn dial(target: &Target) -> Result<Dial, EngineError> {
    let env = |name: &str| std::env::var(name).ok();
    let url = target.url.as_ref().map(|url| url.expose());
    Ok(of(target, Dial::resolve(url, &env)?).following_the_primary())
}

/// Resolves how to reach what a target calls its replicas.
pub(crate) fn replicas(target: &Target) -> Result<Vec<Dial>, EngineError> {
    let env = |name: &str| std::env::var(name).ok();
    let urls = target.replicas.iter();
    urls.map(|url| Ok(of(target, Dial::resolve(Some(url.expose()), &env)?)))
        .collect()
}

/// The same server, and of many databases the one that is meant.
fn of(target: &Target, dial: Dial) -> Dial {
    match &target.database {
        Some(database) => dial.to_database(&database.name),
        None => dial,
    }
}

/// Whether an error may be another server's, for all that is known: it is
/// none of those that mean that this one is damaged, or away, or was told to end.
pub(super) fn is_elsewhere(error: &EngineError) -> bool {
    let EngineError::Statement { origin, .. } = error else {
        return false;
    };
    match Fault::of(error) {
        // Wrappers of files cannot do without a file either.
        Fault::Damaged(Damage::File) => origin.file.as_deref() != Some("md.c"),
        Fault::Broken | Fault::Forbidden | Fault::Missing => true,
        Fault::Locked | Fault::Cancelled | Fault::NoSlot | Fault::Damaged(_) | Fault::Lost => false,
    }
}

/// What was last seen, and the sessions that see it.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) primary: Option<Session>,
    pub(super) standbys: Vec<(usize, Session)>,
    /// When, and how many bytes of log there were.
    pub(super) log: Option<(Instant, i64)>,
    /// Bytes of log per second between the last two looks at it.
    pub(super) rate: Option<f64>,
    /// When the log reached how far.
    pub(super) marks: Marks,
}
