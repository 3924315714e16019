//! Leaves the server to others while it has enough to do.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{Event, Execution};
use crate::config::Throttle;
use crate::engines::EngineError;
use crate::engines::postgres::{Session, load};
use crate::history::{StepRecord, Throttled};
use crate::values::Bytes;

/// How often the server is asked; between two questions the last answer holds.
const EVERY: Duration = Duration::from_secs(1);

/// What one question may take before the answer is that it took too long.
const PATIENCE: &str = "SET statement_timeout = '10s'; SET lock_timeout = '1s'";

/// The conditions under which a run pauses, and what was last seen of them.
/// Shared by all steps of a run.
pub struct Throttler {
    settings: Throttle,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    primary: Option<Session>,
    standbys: Vec<(usize, Session)>,
    at: Option<Instant>,
    reason: Option<Reason>,
    /// When, and how many bytes of log there were.
    log: Option<(Instant, i64)>,
}

/// Why there is a pause.
#[derive(Clone)]
struct Reason {
    setting: &'static str,
    text: String,
}

impl Throttler {
    /// A throttler for a task with these settings.
    pub fn new(settings: Throttle) -> Throttler {
        Throttler {
            settings,
            seen: Mutex::default(),
        }
    }

    /// Waits while there is a reason to pause, and notes it in the record.
    /// Returns early when the run is stopped, or its time is up.
    ///
    /// # Errors
    /// When a condition cannot be asked for: going on regardless could do the
    /// harm that it is there to prevent.
    pub(super) async fn hold(
        &self,
        execution: &Execution,
        record: &mut StepRecord,
    ) -> Result<(), EngineError> {
        if self.settings == Throttle::default() {
            return Ok(());
        }
        let mut told = None;
        loop {
            let late = execution.deadline.is_some_and(|d| Instant::now() >= d);
            if late || execution.stop.is_stopping() {
                return Ok(());
            }
            let Some(reason) = self.reason(execution).await? else {
                return Ok(());
            };
            let began = Instant::now();
            if told != Some(reason.setting) {
                told = Some(reason.setting);
                let text = format!("paused: {} (`throttle.{}`)", reason.text, reason.setting);
                execution.observer.on(Event::Waiting(record, &text));
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = execution.stop.stopping() => {}
            }
            note(record, &reason, began.elapsed());
        }
    }

    async fn reason(&self, execution: &Execution) -> Result<Option<Reason>, EngineError> {
        if let Some(file) = &self.settings.pause_file
            && file.exists()
        {
            return Ok(Some(Reason {
                setting: "pause_file",
                text: format!("{} exists", file.display()),
            }));
        }
        let only_file = Throttle {
            pause_file: self.settings.pause_file.clone(),
            ..Throttle::default()
        };
        if self.settings == only_file {
            return Ok(None);
        }
        // Steps that wait here for each other would ask the same.
        let mut seen = self.seen.lock().await;
        if seen.at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(seen.reason.clone());
        }
        let reason = self.look(&mut seen, execution).await;
        if let Err(error) = &reason
            && error.is_unreachable()
        {
            *seen = Seen::default();
        }
        let reason = reason?;
        seen.at = Some(Instant::now());
        seen.reason.clone_from(&reason);
        Ok(reason)
    }

    async fn look(
        &self,
        seen: &mut Seen,
        execution: &Execution,
    ) -> Result<Option<Reason>, EngineError> {
        if seen.primary.is_none() {
            let session = Session::open(&execution.dial, &execution.application_name).await?;
            session.execute("setting timeouts", PATIENCE).await?;
            seen.primary = Some(session);
        }
        let Some(primary) = &seen.primary else {
            return Ok(None);
        };
        if let Some(most) = self.settings.max_active_sessions {
            let now = load::sessions(primary, &execution.application_name).await?;
            if now.unseen > 0 {
                return Err(EngineError::NotVisible {
                    what: format!(
                        "`throttle.max_active_sessions` cannot be heeded: the role may not see what {} sessions do; let it: GRANT pg_read_all_stats TO {}",
                        now.unseen,
                        crate::engines::postgres::Identifier::new(&*primary.server.role)
                    ),
                });
            }
            if now.active > i64::from(most) {
                return Ok(Some(Reason {
                    setting: "max_active_sessions",
                    text: format!("{} sessions are active, more than {most}", now.active),
                }));
            }
        }
        if let Some(query) = &self.settings.query
            && asked(primary, query).await?
        {
            return Ok(Some(Reason {
                setting: "query",
                text: format!("the query answers true: {query}"),
            }));
        }
        let log_bytes = load::log_bytes(primary).await?;
        if let Some(most) = self.settings.max_wal_rate {
            let now = Instant::now();
            let before = seen.log.replace((now, log_bytes));
            if let Some((at, bytes)) = before {
                let seconds = now.duration_since(at).as_secs_f64().max(0.001);
                let rate = (log_bytes - bytes) as f64 / seconds;
                if rate > most.get() as f64 {
                    return Ok(Some(Reason {
                        setting: "max_wal_rate",
                        text: format!(
                            "{} of WAL are written per second, more than {most}",
                            rounded(rate)
                        ),
                    }));
                }
            }
        }
        if let Some(most) = self.settings.max_replica_lag {
            let mut worst = load::senders_lag(primary).await?;
            for (n, dial) in execution.replicas.iter().enumerate() {
                match lag_of(n, dial, &mut seen.standbys, execution, log_bytes).await {
                    Ok(lag) => worst = worst.max(lag),
                    Err(error) => {
                        // Nobody reads from it now, so it keeps nobody waiting.
                        seen.standbys.retain(|(known, _)| *known != n);
                        tracing::warn!(%error, "a replica does not say how far it is behind");
                    }
                }
            }
            if worst > most.get().as_secs_f64() {
                return Ok(Some(Reason {
                    setting: "max_replica_lag",
                    text: format!("a replica is {worst:.1} s behind, more than {most}"),
                }));
            }
        }
        Ok(None)
    }
}

async fn lag_of(
    n: usize,
    dial: &crate::engines::postgres::connect::Dial,
    standbys: &mut Vec<(usize, Session)>,
    execution: &Execution,
    log_bytes: i64,
) -> Result<f64, EngineError> {
    if !standbys.iter().any(|(known, _)| *known == n) {
        let session = Session::open(dial, &execution.application_name).await?;
        session.execute("setting timeouts", PATIENCE).await?;
        standbys.push((n, session));
    }
    match standbys.iter().find(|(known, _)| *known == n) {
        Some((_, session)) => load::standby_lag(session, log_bytes).await,
        None => Ok(0.0),
    }
}

/// Asks in a transaction that may not write.
async fn asked(session: &Session, query: &str) -> Result<bool, EngineError> {
    let doing = "asking `throttle.query`";
    session.execute(doing, "BEGIN READ ONLY").await?;
    let answer = session.query(doing, query, &[]).await;
    let ended = session.execute(doing, "ROLLBACK").await;
    let answer = answer?;
    ended?;
    let value = answer.first().map(|row| row.try_get::<_, Option<bool>>(0));
    match value {
        None | Some(Ok(None)) => Ok(false),
        Some(Ok(Some(yes))) => Ok(yes),
        Some(Err(error)) => Err(EngineError::statement(doing, error)),
    }
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

fn note(record: &mut StepRecord, reason: &Reason, waited: Duration) {
    let waited_ms = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
    let known = record.throttled.iter_mut();
    match known.into_iter().find(|p| p.setting == reason.setting) {
        Some(pause) => {
            pause.reason.clone_from(&reason.text);
            pause.waited_ms = pause.waited_ms.saturating_add(waited_ms);
        }
        None => record.throttled.push(Throttled {
            setting: reason.setting.to_owned(),
            reason: reason.text.clone(),
            waited_ms,
        }),
    }
}
