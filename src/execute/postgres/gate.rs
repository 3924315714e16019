//! The one gate for every statement that changes a target: timeouts before,
//! cancellation during, a verdict afterwards.

mod asking;
mod judge;
mod limits;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub(super) use self::asking::{answer, aside, ask, ask_alone, ask_aside, bound};
pub(super) use self::judge::judge;
pub(super) use self::limits::{TimeLimit, first_limit, limit, limits, time_left};
use self::limits::{millis, under_limits};
use super::Execution;
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::watch::{self, Blocker};
use crate::engines::postgres::{Fault, Session};
use crate::plan::{LockWaiting, Query, Required, Statement};
use crate::values::with_causes;

/// What came of something that was tried: it is done, or why it is not.
pub(super) type Outcome<T> = Result<T, Halt>;

/// What statements did.
#[derive(Debug, Default)]
pub(super) struct Did {
    /// Warnings the server raised.
    pub(super) warnings: Vec<String>,
    /// Rows changed or returned.
    pub(super) rows: u64,
}

impl Did {
    /// Adds what another did.
    pub(super) fn add(&mut self, other: Did) {
        self.warnings.extend(other.warnings);
        self.rows = self.rows.saturating_add(other.rows);
    }
}

/// Why something is not done.
#[derive(Debug)]
pub(super) enum Halt {
    /// Somebody holds its locks; nothing has changed. `asked_to_skip` where
    /// the statement itself was told not to wait.
    Locked {
        asked_to_skip: bool,
        message: String,
    },
    /// A name leads nowhere.
    Missing(EngineError),
    /// Somebody changed the same rows meanwhile; nothing has changed.
    Conflict(EngineError),
    /// The role may not.
    NotAllowed(String),
    /// The server says that it has left out what it was to do.
    LeftOut(String),
    /// What the step is about is not there any more, or is another's by now.
    Vanished(String),
    /// Something is not as the plan saw it, and what is needed has to be decided anew.
    Changed(String),
    /// Cancelled because the run is being stopped.
    Stopped,
    /// Not begun, or cancelled, because no time was left.
    OutOfTime(TimeLimit),
    /// Not begun: it would wait for this transaction, perhaps for ever.
    Waits(Blocker),
    /// Not begun: what it would hold back is so many transactions old already.
    HoldsBack(i64),
    /// All slots are taken by which it would have followed the log; nothing has changed.
    NoSlot,
    /// Cancelled because it held up a vacuum that prevents wraparound.
    GaveWay,
    /// The server said no.
    Failed(EngineError),
}

impl Halt {
    /// What has to be so for the step is not.
    pub(super) fn otherwise(required: &Required) -> Halt {
        let why = required.otherwise.clone();
        match required.still_needed {
            true => Halt::Changed(why),
            false => Halt::LeftOut(why),
        }
    }
}

/// The server ends a statement when its time is up. One that goes on for this long
/// after that is cancelled by us: the server may have heard of no limit, or not act on it.
const LATE: Duration = Duration::from_secs(2);

/// A statement that goes on for this long after it was cancelled is cancelled again.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// Waits for the end of what the session does, and has the server give it up
/// where the run is stopped, it has to give way, or it goes on although its time
/// is up: again where it was between two statements when it was told.
pub(super) async fn until_stopped<F: Future>(
    session: &Session,
    work: F,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> F::Output {
    let (ends, _) = first_limit(execution, step_ends);
    tokio::pin!(work);
    tokio::select! {
        ended = &mut work => return ended,
        () = execution.stop.now() => {}
        () = give_way.cancelled() => {}
        () = tokio::time::sleep_until((ends + LATE).into()) => {}
    }
    loop {
        cancel(session).await;
        if let Ok(ended) = tokio::time::timeout(CANCEL_AGAIN, &mut work).await {
            return ended;
        }
    }
}

/// Commits what the session has done. A server that waits for a synchronous standby has committed
/// already: once the step's time is up, it is told to wait no longer.
pub(super) async fn commit(
    session: &Session,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Result<(), EngineError> {
    let committing = session.execute("committing", "COMMIT");
    let done = until_stopped(session, committing, execution, step_ends, give_way).await?;
    for notice in done.notices.iter().filter(|notice| notice.is_warning) {
        tracing::warn!(notice = notice.with_code(), "committed, with a warning");
    }
    Ok(())
}

/// Lets statements pass in one transaction: all or nothing.
pub(super) async fn pass_together(
    session: &Session,
    statements: &[Statement],
    guard: Option<&Guard>,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<Did> {
    let begun = session.execute("opening a transaction", "BEGIN").await;
    begun.map_err(Halt::Failed)?;
    let mut all = Did::default();
    let mut guard = guard;
    for statement in statements {
        // The isolation level can only be set before anything is asked.
        if !statement.sql.starts_with("SET TRANSACTION")
            && let Some(guard) = guard.take()
            && let Err(halt) = keep(session, guard, execution, step_ends, give_way).await
        {
            return Err(roll_back(session, halt).await);
        }
        // What the statements before it have locked stays so until the end.
        if let Some(required) = &statement.required {
            let asked = ask(session, &required.query, execution, step_ends, give_way).await;
            let so = asked.and_then(|rows| answer(&rows).map_err(Halt::Failed));
            let halt = match so {
                Ok(true) => None,
                Ok(false) => Some(Halt::otherwise(required)),
                Err(halt) => Some(halt),
            };
            if let Some(halt) = halt {
                return Err(roll_back(session, halt).await);
            }
        }
        match pass(session, statement, execution, step_ends, give_way).await {
            Ok(did) => all.add(did),
            Err(halt) => return Err(roll_back(session, halt).await),
        }
    }
    if execution.stop.is_now() {
        return Err(roll_back(session, Halt::Stopped).await);
    }
    // Deferred constraints are checked here.
    match commit(session, execution, step_ends, give_way).await {
        Ok(()) => Ok(all),
        Err(error) => Err(judge(error, execution, step_ends, give_way)),
    }
}

/// A lock, and what has to be so under it.
#[derive(Clone, Copy)]
pub(super) struct Under<'a> {
    pub(super) lock: &'a str,
    pub(super) required: &'a Required,
}

/// Lets one statement pass in one transaction with a lock, under which it is
/// asked whether it may; `None` where it may not, and nothing has changed.
pub(super) async fn pass_under(
    session: &Session,
    under: Under<'_>,
    statement: &Statement,
    guard: Option<&Guard>,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<Option<Did>> {
    let begun = session.execute("opening a transaction", "BEGIN").await;
    begun.map_err(Halt::Failed)?;
    let passed = async {
        if let Some(guard) = guard {
            keep(session, guard, execution, step_ends, give_way).await?;
        }
        let lock = Statement::brief(under.lock);
        pass(session, &lock, execution, step_ends, give_way).await?;
        let query = &under.required.query;
        let rows = ask(session, query, execution, step_ends, give_way).await?;
        if !answer(&rows).map_err(Halt::Failed)? {
            return Ok(None);
        }
        let did = pass(session, statement, execution, step_ends, give_way).await?;
        match execution.stop.is_now() {
            true => Err(Halt::Stopped),
            false => Ok(Some(did)),
        }
    };
    match passed.await {
        Ok(Some(did)) => match commit(session, execution, step_ends, give_way).await {
            Ok(()) => Ok(Some(did)),
            Err(error) => Err(judge(error, execution, step_ends, give_way)),
        },
        Ok(None) => match session.execute("rolling back", "ROLLBACK").await {
            Ok(_) => Ok(None),
            Err(error) => Err(Halt::Failed(error)),
        },
        Err(halt) => Err(roll_back(session, halt).await),
    }
}

/// Takes a guard in the transaction that is open.
pub(super) async fn keep(
    session: &Session,
    guard: &Guard,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<()> {
    limit(session, execution, step_ends).await?;
    let taken = guard.take(session).await;
    taken.map_err(|error| judge(error, execution, step_ends, give_way))
}

async fn roll_back(session: &Session, halt: Halt) -> Halt {
    match session.execute("rolling back", "ROLLBACK").await {
        Ok(_) => halt,
        Err(error) => match halt {
            // What went wrong first is what matters.
            Halt::Failed(first) | Halt::Missing(first) => Halt::Failed(first),
            _ => Halt::Failed(error),
        },
    }
}

/// Refuses a build that would wait for an old transaction: for its snapshot, or
/// for its lock on `relation`; or for what it writes in any database.
pub(super) async fn unless_it_waits(
    session: &Session,
    relation: Option<u32>,
    everywhere: bool,
    execution: &Execution,
) -> Outcome<()> {
    let limit = millis(execution.limits.max_transaction_age.get());
    let relation = relation.unwrap_or(0);
    match watch::old_transaction(session, relation, everywhere, limit).await {
        Ok(None) => Ok(()),
        Ok(Some(blocker)) => Err(Halt::Waits(blocker)),
        Err(error) => Err(Halt::Failed(error)),
    }
}

/// Refuses a build whose view of the data would hold back transaction ids that are old already.
pub(super) async fn unless_it_holds_back(session: &Session, execution: &Execution) -> Outcome<()> {
    match watch::would_hold_back(session).await {
        Ok(age) if age > i64::from(execution.limits.max_xid_age) => Err(Halt::HoldsBack(age)),
        Ok(_) => Ok(()),
        Err(error) => Err(Halt::Failed(error)),
    }
}

/// Lets one statement pass.
pub(super) async fn pass(
    session: &Session,
    statement: &Statement,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<Did> {
    let left = time_left(execution, step_ends)?;
    let brief = execution.limits.lock_timeout.get();
    if let LockWaiting::Patient { probe, .. } = &statement.waiting {
        // A simple query of several statements is one transaction: the lock
        // is given back by the ROLLBACK, or by the failure itself.
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; {probe}; ROLLBACK",
            millis(brief)
        );
        if let Err(error) = session.execute("trying the lock", &sql).await {
            // After a failure inside of it the transaction is still open.
            if !error.is_unreachable()
                && let Err(error) = session.execute("ending the try", "ROLLBACK").await
            {
                return Err(Halt::Failed(error));
            }
            return Err(judge(error, execution, step_ends, give_way));
        }
    }
    let lock_timeout = match statement.waiting {
        LockWaiting::Brief => brief,
        LockWaiting::Patient { .. } | LockWaiting::Untried => {
            execution.limits.transaction_wait.get()
        }
    };
    tracing::debug!(statement = statement.sql, "running");
    if statement.counts {
        let query = Query::new(statement.sql.clone(), statement.params.clone());
        let rows = match ask(session, &query, execution, step_ends, give_way).await {
            Ok(answer) => answer.first().and_then(|row| row.get::<i64>(0).ok()),
            Err(halt) => return Err(halt),
        };
        return Ok(Did {
            warnings: Vec::new(),
            rows: rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0),
        });
    }
    let params = bound(&statement.params);
    let work = if params.is_empty() {
        session.execute("running it", &statement.sql)
    } else {
        session.execute_with("running it", &statement.sql, &params)
    };
    let limits = limits(lock_timeout, left);
    let result = under_limits(session, &limits, work, execution, step_ends, give_way).await;
    let (mut notices, done) =
        result.map_err(|error| judge(error, execution, step_ends, give_way))?;
    notices.extend(done.notices);
    let mut warnings = Vec::new();
    for notice in notices {
        match Fault::of_notice(&notice) {
            Some(Fault::Locked) => {
                return Err(Halt::Locked {
                    asked_to_skip: true,
                    message: notice.with_code(),
                });
            }
            Some(Fault::Missing | Fault::Forbidden) if is_a_part(session, statement).await? => {
                warnings.push(format!("a part was left out: {}", notice.with_code()));
            }
            // Left out, whatever the command tag says.
            Some(Fault::Missing) => {
                return Err(Halt::Vanished(format!("vanished: {}", notice.with_code())));
            }
            // Whoever writes a statement means all of what it names.
            Some(Fault::Forbidden) if statement.own_settings => {
                return Err(Halt::NotAllowed(format!(
                    "the server has left out what the role may neither vacuum nor analyze, and done what else the statement names ({}); GRANT MAINTAIN on it (since 17), or a role that owns it, is needed",
                    notice.with_code()
                )));
            }
            Some(Fault::Forbidden) => return Err(Halt::LeftOut(notice.with_code())),
            _ if notice.is_warning || !notice.code.starts_with("00") => {
                warnings.push(notice.with_code());
            }
            _ => {}
        }
    }
    Ok(Did {
        warnings,
        rows: done.rows,
    })
}

/// Whether what the server has left out is a part only; its words name it, and are not read.
async fn is_a_part(session: &Session, statement: &Statement) -> Result<bool, Halt> {
    let Some(query) = &statement.whole else {
        return Ok(false);
    };
    let doing = "looking what was left out";
    let answer = super::ask(session, doing, query).await;
    let rows = answer.map_err(Halt::Failed)?;
    let whole = rows.first().map(|row| row.get::<Option<bool>>(0));
    Ok(matches!(whole, Some(Ok(Some(true)))))
}

/// Asks the server to give up; the statement's own answer then tells whether it did.
async fn cancel(session: &Session) {
    if let Err(error) = session.cancel().await {
        tracing::warn!(error = %with_causes(&error), "could not cancel a statement");
    }
}
