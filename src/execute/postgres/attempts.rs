//! The one loop of tries: what cannot have its locks is tried again, what
//! ended otherwise is noted in the record. It knows no kind of work.

mod halted;
mod in_the_way;
mod leftovers;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::halted::{halted, no_slot, too_much_log};
pub(super) use self::in_the_way::held_up;
use self::in_the_way::{before, lock_wait, stepped_back, waiting};
use self::leftovers::{note_left, sweep};
use super::gate::{self, Halt, Outcome};
use super::monitor::{Entered, Seen, describe};
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Body as _, KeptBy, Place};
use crate::values::{wall_clock, with_causes};

/// First pause after a lock could not be had; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A session that says nothing for so long after its time was up is given up,
/// although the server still answers others.
const STUCK: Duration = Duration::from_secs(300);

/// What is tried, and tried again, as one: when it halts, nothing of it has
/// changed the target.
#[async_trait]
pub(super) trait Attempt: Send {
    /// What comes of it.
    type Done: Send;

    /// Whether whoever tries can try less of it where others changed the same
    /// rows meanwhile, instead of the same again.
    fn shrinks(&self) -> bool {
        false
    }

    /// What comes of it where it stepped back because others waited for it, and whoever tries can try
    /// less of it next; none where the same is tried again.
    fn less(&self) -> Option<Self::Done> {
        None
    }

    /// Whether the server may have done a part of it already, so that it must
    /// not be begun again.
    fn is_in_part(&self) -> bool {
        false
    }

    /// Whether it waits for whoever has written to the table, as concurrent builds do.
    fn waits_for_writers(&self) -> bool {
        false
    }

    /// Whether it waits for whoever writes in any database, by a process of the
    /// server's that is not watched.
    fn waits_everywhere(&self) -> bool {
        false
    }

    /// Tries once. Nothing goes on beyond `step_ends`.
    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Self::Done>;
}

/// When the time of a step that begins now is up.
pub(super) fn ends(job: Job<'_>) -> Instant {
    let ends = Instant::now() + job.execution.limits.step_timeout.get();
    match job.step.body.until {
        Some(until) => {
            ends.min(Instant::now() + (until - wall_clock()).to_std().unwrap_or_default())
        }
        None => ends,
    }
}

/// Tries until it is done; `None` where the step has ended otherwise, which is
/// then in the record. `attempts` in the record are one, and one for every
/// wait, however many statements or batches the step has.
pub(super) async fn until_done<A: Attempt>(
    attempt: &mut A,
    step_ends: Instant,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<A::Done>, EngineError> {
    let (session, execution) = (job.session, job.execution);
    let (mut pause, mut waits) = (FIRST_PAUSE, 0);
    let piles_up = job.step.body.piles_up();
    record.attempts = record.attempts.max(1);
    loop {
        // The monitor looks at the primary: there the pid of a session on a
        // replica belongs to somebody else.
        let watched = job.step.place == Place::Primary;
        let entered = watched.then(|| job.watch.enter(session.pid, job.step));
        let give_way = entered
            .as_ref()
            .map_or_else(CancellationToken::new, |entered| entered.give_way.clone());
        // Nothing begins that nobody watches.
        let outcome = if give_way.is_cancelled() {
            Err(Halt::GaveWay)
        } else {
            let (ends, _) = gate::first_limit(execution, step_ends);
            let tried = attempt.once(job, step_ends, &give_way);
            match tokio::time::timeout_at((ends + STUCK).into(), tried).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Halt::Failed(EngineError::Stuck {
                    server: session.describe().to_owned(),
                })),
            }
        };
        let mut seen = entered.map_or_else(Seen::default, Entered::leave);
        if let (Err(Halt::Locked { .. }), Some(relation), true) = (
            &outcome,
            job.step.body.relation,
            watched && seen.blockers.is_empty(),
        ) {
            seen.blockers = job
                .watch
                .holders(relation, session.pid, attempt.waits_for_writers())
                .await;
        }
        if let (Err(Halt::Locked { .. }), true) = (
            &outcome,
            watched && seen.blockers.is_empty() && attempt.waits_everywhere(),
        ) {
            seen.blockers = job.watch.oldest_writer().await;
        }
        let number = record.attempts;
        let blockers = seen.blockers.iter().map(|seen| lock_wait(number, seen));
        record.lock_waits.extend(blockers);
        let halt = match outcome {
            Ok(done) => {
                // What an earlier attempt said is no news once a later one succeeded; what it
                // left has to go all the same.
                (record.error, record.kept_by) = (None, None);
                if record.attempts > 1 && piles_up {
                    note_left(job, record).await?;
                }
                return Ok(Some(done));
            }
            Err(Halt::Conflict(error)) if attempt.shrinks() => return Err(error),
            Err(Halt::Conflict(error)) => Halt::Locked {
                asked_to_skip: false,
                message: with_causes(&error),
            },
            Err(halt) => halt,
        };
        let gave_way = matches!(halt, Halt::GaveWay) && !seen.waiters.is_empty();
        // Who had them may be gone by the time it is asked: there is a slot again.
        let free_again = matches!(halt, Halt::NoSlot) && job.watch.repacking().await.is_empty();
        let (status, why, so) = match halt {
            Halt::NoSlot if free_again => {
                record.kept_by = Some(KeptBy::Server);
                let so = "all slots for REPACK were taken a moment ago".to_owned();
                (StepStatus::Deferred, no_slot(&[]), so)
            }
            // Not because of a vacuum: somebody else has waited long enough.
            Halt::GaveWay if gave_way => {
                let waiters = seen.waiters.iter();
                record
                    .lock_waits
                    .extend(waiters.map(|waiter| stepped_back(number, waiter)));
                let who = seen.waiters.first().map(waiting).unwrap_or_default();
                let limit = execution.limits.max_block;
                record.kept_by = Some(KeptBy::Sessions);
                let why = format!("others waited longer than `limits.max_block` ({limit}): {who}");
                (StepStatus::Deferred, why, format!("stepped back for {who}"))
            }
            Halt::GaveWay if let Some(why) = &seen.blind => {
                record.kept_by = Some(KeptBy::Server);
                let why = format!(
                    "for too long nobody could see whether others wait for it, and it is not to hold them up unseen: {why}"
                );
                let so = "stopped, since nobody sees who waits for it".to_owned();
                (StepStatus::Deferred, why, so)
            }
            // Another try would begin from the start.
            Halt::GaveWay if let Some(age) = seen.too_old => {
                record.kept_by = Some(KeptBy::Transaction);
                let why = format!(
                    "cancelled, since it held back transaction ids that had become {age} transactions old, more than `limits.max_xid_age` ({}): meanwhile no vacuum could remove dead rows, or freeze, past them; a quieter hour, or a larger limit, lets it end",
                    execution.limits.max_xid_age
                );
                end(record, StepStatus::Deferred, why);
                note_left(job, record).await?;
                return Ok(None);
            }
            Halt::GaveWay if let Some(kept) = seen.too_much_log => {
                record.kept_by = Some(KeptBy::Server);
                end(record, StepStatus::Deferred, too_much_log(kept, job));
                note_left(job, record).await?;
                return Ok(None);
            }
            Halt::Locked {
                asked_to_skip,
                message,
            } => {
                let status = match asked_to_skip {
                    true => StepStatus::Skipped,
                    false => StepStatus::Failed,
                };
                record.kept_by = asked_to_skip.then_some(KeptBy::Sessions);
                match seen.blockers.first() {
                    Some((blocker, _)) => {
                        let who = describe(blocker);
                        let so = format!("locked by {who}");
                        (status, format!("{message}; in the way: {who}"), so)
                    }
                    // It was seen earlier, if not this time: most likely it is the same.
                    None => match before(&record.lock_waits) {
                        Some(who) => {
                            let so = format!("locked, before by {who}");
                            (status, format!("{message}; in the way before: {who}"), so)
                        }
                        None => (status, message, "locked".to_owned()),
                    },
                }
            }
            Halt::Failed(error) | Halt::Missing(error)
                if attempt.is_in_part() && had_begun(&error) =>
            {
                let source = Box::new(error);
                return Err(EngineError::InPart { source });
            }
            halt => {
                halted(halt, job, record).await?;
                if attempt.is_in_part()
                    && matches!(record.status, StepStatus::Cancelled | StepStatus::Deferred)
                {
                    record.error = record.error.take().map(|why| in_part(&why));
                }
                return Ok(None);
            }
        };
        let mut left = sweep(job).await?;
        if attempt.is_in_part() {
            end(record, StepStatus::Failed, in_part(&why));
            return Ok(None);
        }
        loop {
            let over = waits >= execution.limits.lock_retries;
            match &left {
                Some(left) if piles_up && (over || !left.for_now) => {
                    let why = format!("{why}; not tried again in this run: {}", left.text);
                    record.piled_up = true;
                    end(record, status, why);
                    return Ok(None);
                }
                _ if over => {
                    let in_a_row = i64::from(waits) + 1;
                    let all = i64::from(record.attempts);
                    // The record counts what came before, such as another statement's, too.
                    let behind = if in_a_row < all { " in a row" } else { "" };
                    let why = format!("given up after {in_a_row} attempts{behind}: {why}");
                    end(record, status, why);
                    return Ok(None);
                }
                _ => {}
            }
            if !rests(job, record, &so, pause).await {
                if left.is_some() {
                    note_left(job, record).await?;
                }
                return Ok(None);
            }
            waits += 1;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !(piles_up && left.is_some()) {
                break;
            }
            // What was only locked may be free by now; another attempt would leave as much again.
            left = sweep(job).await?;
            if left.is_none() {
                break;
            }
        }
        record.attempts += 1;
        if let Some(less) = attempt.less().filter(|_| gave_way) {
            (record.error, record.kept_by) = (None, None);
            return Ok(Some(less));
        }
    }
}

/// Waits until the next attempt, about so long; whether it may begin. Otherwise the record says
/// why not.
async fn rests(job: Job<'_>, record: &mut StepRecord, so: &str, pause: Duration) -> bool {
    let execution = job.execution;
    // Two that step back for each other must not meet again.
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let jittered = Duration::from_millis(pause_ms / 2 + jitter(pause_ms / 2));
    let text = format!("{so}; next attempt in {:.1} s", jittered.as_secs_f64());
    execution.observer.on(Event::Waiting(record, &text));
    execution.history.step(execution.run, record);
    tokio::select! {
        () = tokio::time::sleep(jittered) => true,
        () = execution.stop.stopping() => {
            end(record, StepStatus::Cancelled, "the run was stopped while it waited for a lock");
            false
        }
    }
}

/// Classes of errors that the server finds before it begins: that make no sense, are not known, may not be, or have
/// values that do not fit (PostgreSQL's Appendix A).
const BEFORE_IT_BEGINS: [&str; 6] = ["0A", "22", "25", "26", "3F", "42"];

/// Whether a statement had begun when it failed. Code that was at work says where; at its last commit (deferred
/// constraints, a full disk), and where the session is lost, nobody does.
fn had_begun(error: &EngineError) -> bool {
    match error {
        EngineError::Statement {
            sqlstate, origin, ..
        } => {
            let mut before = BEFORE_IT_BEGINS.iter();
            origin.context.is_some() || !before.any(|class| sqlstate.starts_with(class))
        }
        EngineError::Lost { .. }
        | EngineError::NoAnswer { .. }
        | EngineError::Stuck { .. }
        | EngineError::Driver { .. } => true,
        _ => false,
    }
}

/// How an error begins of what may have been done in part.
const IN_PART: &str = "it may have done part of its work";

/// Whether the record says so.
pub(super) fn is_told_in_part(record: &StepRecord) -> bool {
    let error = record.error.as_deref();
    error.is_some_and(|error| error.starts_with(IN_PART))
}

/// How it is said of what is not begun again.
fn in_part(why: &str) -> String {
    format!(
        "{IN_PART}, and is not begun again by this run: {why}. Look at what it has done before the next run begins it once more"
    )
}

/// A number below `most`, another each time.
fn jitter(most: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now()) % most.max(1)
}
