//! The one loop of tries: what cannot have its locks is tried again, what
//! ended otherwise is noted in the record. It knows no kind of work.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::gate::{self, Halt, Outcome, TimeLimit, answer};
use super::monitor::{Entered, Seen, describe};
use super::{Event, Job, ask, end};
use crate::engines::EngineError;
use crate::engines::postgres::Fault;
use crate::engines::postgres::watch::{Blocker, Waiter, prepared};
use crate::execute::Door;
use crate::history::{LockWait, StepRecord, StepStatus};
use crate::plan::predict::human;
use crate::plan::{KeptBy, Param, Place, Query, Sweep, Work};
use crate::values::{Bytes, wall_clock, with_causes};

/// First pause after a lock could not be had; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between two tries to clear away what somebody holds the locks of.
const CLEAR_AGAIN: Duration = Duration::from_millis(500);
/// How long a try takes at most besides its wait for locks.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);
/// A limit that is so near has passed.
const SOON: TimeDelta = TimeDelta::milliseconds(200);
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

/// Whether the time is up in which the step may block others.
fn may_not_block_any_more(job: Job<'_>) -> bool {
    // What is begun at the end is begun with a little time left.
    let soon = wall_clock() + SOON;
    job.step.body.until.is_some_and(|until| until <= soon)
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
    let piles_up = |sweep: &Sweep| sweep.piles_up;
    let piles_up = job.step.body.on_abort.as_ref().is_some_and(piles_up);
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
            // The server has said why, and where in it: some of it went before.
            Halt::Failed(error) | Halt::Missing(error)
                if attempt.is_in_part() && inside(&error) =>
            {
                end(record, StepStatus::Failed, in_part(&with_causes(&error)));
                return Ok(None);
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

/// Whether an error comes from code that was at work.
fn inside(error: &EngineError) -> bool {
    matches!(error, EngineError::Statement { origin, .. } if origin.context.is_some())
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

/// Notes how the step ended, and clears away what it left.
async fn halted(halt: Halt, job: Job<'_>, record: &mut StepRecord) -> Result<(), EngineError> {
    record.cut_off = matches!(halt, Halt::OutOfTime(_));
    let (status, why) = match halt {
        Halt::Locked { message, .. } => (StepStatus::Failed, message),
        // The step's own table is there: what is missing may be another server's, or who the role is there.
        Halt::Missing(error)
            if !job.step.body.away.is_empty()
                && matches!(job.door.unneeded(job.session, job.step).await, Ok(None)) =>
        {
            return Err(error);
        }
        Halt::Missing(error) => match (missing(error, job).await, record.rows) {
            ((StepStatus::Skipped, why), Some(rows @ 1..)) => {
                let s = if rows == 1 { "" } else { "s" };
                let why = format!(
                    "{why}; {rows} row{s} had gone before, and what is left was not looked at. Where the table has another name or schema now, correct it in the task file"
                );
                (StepStatus::Failed, why)
            }
            (ended, _) => ended,
        },
        Halt::Conflict(error) => (StepStatus::Failed, with_causes(&error)),
        Halt::NotAllowed(why) => (StepStatus::Failed, format!("not allowed: {why}")),
        Halt::LeftOut(why) => (StepStatus::Skipped, why),
        Halt::Stopped => (StepStatus::Cancelled, "the run was stopped".to_owned()),
        Halt::OutOfTime(TimeLimit::Run) => {
            (StepStatus::Deferred, "the run's time was up".to_owned())
        }
        Halt::OutOfTime(TimeLimit::Step) if may_not_block_any_more(job) => {
            let why = "cancelled, or not begun, since the window has closed in which it may block others (`blocking_window`); the next run within it tries again, and a longer window gives it more time";
            (StepStatus::Deferred, why.to_owned())
        }
        Halt::OutOfTime(TimeLimit::Step) => {
            let limit = job.execution.limits.step_timeout;
            let why = format!(
                "took longer than `limits.step_timeout` ({limit}) and was cancelled; the next run tries it again, and a larger `step_timeout` gives it more time"
            );
            (StepStatus::Failed, why)
        }
        Halt::Waits(blocker) => {
            record.lock_waits.push(lock_wait(
                record.attempts,
                &(blocker.clone(), Duration::ZERO),
            ));
            record.kept_by = Some(KeptBy::Transaction);
            let limit = job.execution.limits.max_transaction_age;
            let why = format!(
                "not begun, since it would wait for a transaction that is older than `limits.max_transaction_age` ({limit}): {}, open for {}",
                describe(&blocker),
                human(blocker.transaction_age_ms)
            );
            (StepStatus::Deferred, why)
        }
        Halt::HoldsBack(age) => {
            record.kept_by = Some(KeptBy::Transaction);
            let oldest = job.watch.oldest_writer().await;
            let who = oldest.first().map_or_else(String::new, |(blocker, _)| {
                record.lock_waits.push(lock_wait(
                    record.attempts,
                    &(blocker.clone(), Duration::ZERO),
                ));
                format!(
                    "; the oldest transaction that writes: {}",
                    describe(blocker)
                )
            });
            let why = format!(
                "not begun, since it would hold back transaction ids that are {age} transactions old already, more than `limits.max_xid_age` ({}){who}",
                job.execution.limits.max_xid_age
            );
            (StepStatus::Deferred, why)
        }
        Halt::NoSlot => {
            let holders = job.watch.repacking().await;
            let tries = holders.iter().map(|seen| lock_wait(record.attempts, seen));
            record.lock_waits.extend(tries);
            record.kept_by = Some(KeptBy::Server);
            (StepStatus::Deferred, no_slot(&holders))
        }
        Halt::GaveWay => {
            let why = "gave way to a vacuum that prevents transaction id wraparound";
            (StepStatus::Skipped, why.to_owned())
        }
        Halt::Failed(error) => {
            if !error.is_unreachable() {
                note_left(job, record).await?;
            }
            return Err(error);
        }
    };
    end(record, status, why);
    note_left(job, record).await
}

/// What is said where the log kept for a step has become too much.
fn too_much_log(kept: i64, job: Job<'_>) -> String {
    let shown = |bytes: i64| Bytes(u64::try_from(bytes).unwrap_or(0)).to_string();
    format!(
        "cancelled, and its slot is given back, since the server kept {} of log for it, more than {} (`max_slot_retention`, or the server's max_slot_wal_keep_size where that is less), which would fill its disk, or make the slot useless; nothing has changed. A quieter hour, or a larger limit where there is room, lets it end",
        shown(kept),
        shown(job.step.body.most_log.unwrap_or(0))
    )
}

/// What is said where all slots are taken, and by whom.
fn no_slot(holders: &[(Blocker, Duration)]) -> String {
    let who: Vec<String> = holders
        .iter()
        .map(|(blocker, _)| describe(blocker))
        .collect();
    let who = match who.is_empty() {
        true => "who has them is gone by now".to_owned(),
        false => format!("by {}", who.join(", ")),
    };
    format!(
        "not begun, since all slots are taken that the server has for REPACK (`max_repack_replication_slots`): {who}; the next run tries it again, and a larger value, which needs a restart, lets more be repacked at once"
    )
}

/// Clears away what an attempt left, and notes what could not be. Where the run is
/// stopped and somebody only holds its locks, it is tried for as long as the grace
/// lasts: the process is to leave nothing, and has that time.
async fn note_left(job: Job<'_>, record: &mut StepRecord) -> Result<(), EngineError> {
    let mut left = sweep(job).await?;
    while left.as_ref().is_some_and(|left| left.for_now) && may_clear_again(job) {
        tokio::time::sleep(CLEAR_AGAIN).await;
        left = sweep(job).await?;
    }
    if let Some(Left { text, .. }) = left {
        record.error = Some(match record.error.take() {
            Some(before) if before.contains(&text) => before,
            Some(before) => format!("{before}; {text}"),
            None => text,
        });
    }
    Ok(())
}

/// Whether another try at clearing away ends before the run is given up.
fn may_clear_again(job: Job<'_>) -> bool {
    let execution = job.execution;
    let Some(since) = execution.stop.since() else {
        return false;
    };
    let try_takes = CLEAR_AGAIN + execution.limits.lock_timeout.get() + CANCELLED_WITHIN;
    Instant::now() + try_takes < since + execution.limits.clearing()
}

/// A name led nowhere. Only if the step's own object is gone is that no
/// failure: it is asked for again, as before the step.
async fn missing(error: EngineError, job: Job<'_>) -> (StepStatus, String) {
    if job.step.body.only_if.is_none() {
        // What the plan never saw cannot have vanished: it is misspelt.
        return (StepStatus::Failed, with_causes(&error));
    }
    if let Ok(Some(_)) = job.door.unneeded(job.session, job.step).await
        && !goes_on_detached(job).await
    {
        return (
            StepStatus::Skipped,
            format!("vanished: {}", with_causes(&error)),
        );
    }
    let context = match &error {
        EngineError::Statement { origin, .. } => origin.context.as_deref(),
        _ => None,
    };
    let Some(context) = context else {
        let why = format!(
            "{}. {} itself is still there",
            with_causes(&error),
            job.step.object
        );
        return (StepStatus::Failed, why);
    };
    let why = format!(
        "{error}. {} itself is still there: something is missing for code that runs with it, such as a trigger, an event trigger, a check or an index expression: {context}. Sessions of maint search pg_catalog only; a function that relies on another path needs one of its own: ALTER FUNCTION … SET search_path = …",
        job.step.object
    );
    (StepStatus::Failed, why)
}

/// Whether the step's partition is there, though none any more: the step itself
/// has detached it.
async fn goes_on_detached(job: Job<'_>) -> bool {
    let required = |work: &Work| match work {
        Work::Each(statements) => statements.iter().any(|one| one.required.is_some()),
        _ => false,
    };
    if !required(&job.step.body.work) {
        return false;
    }
    let sql = "SELECT pg_catalog.to_regclass($1::text) IS NOT NULL";
    let query = Query::new(sql, [Param::Text(job.step.object.clone())]);
    let there = ask(job.session, "looking whether it is there", &query).await;
    there.is_ok_and(|rows| answer(&rows).is_ok_and(|there| there))
}

/// What an attempt has left, and could not remove.
struct Left {
    text: String,
    /// Whether it is only that somebody holds its locks.
    for_now: bool,
}

/// Removes what the aborted attempt left. It goes on although the run is
/// being stopped: that is what a clean stop means.
/// Answers with what could not be removed.
async fn sweep(job: Job<'_>) -> Result<Option<Left>, EngineError> {
    let session = job.session;
    let Some(sweep) = &job.step.body.on_abort else {
        return Ok(None);
    };
    let mut left: Vec<String> = Vec::new();
    let mut for_now = true;
    gate::aside(session, job.execution).await?;
    let doing = "looking for what it left";
    for row in ask(session, doing, &sweep.query).await? {
        let object: String = row.get(0)?;
        let Some(sql) = row.get::<Option<String>>(1)? else {
            left.push(format!(
                "{object} was left behind, as somebody works on its table; the next run removes it"
            ));
            continue;
        };
        tracing::info!(
            object,
            statement = sql,
            "removing what an aborted attempt left"
        );
        if let Err(error) = session.execute("removing what it left", &sql).await {
            // The next run finds it again, by name and definition.
            tracing::warn!(object, %error, "could not remove it");
            let fault = Fault::of(&error);
            for_now &= fault == Fault::Locked;
            let text = match fault {
                Fault::Forbidden => {
                    format!("{object} was left behind, as only its owner may remove it: {sql}")
                }
                _ => format!("{object} was left behind: {error}; the next run removes it"),
            };
            left.push(text);
        }
    }
    Ok((!left.is_empty()).then(|| Left {
        text: left.join("; "),
        for_now,
    }))
}

/// Who was last seen in the way, in an earlier attempt.
fn before(waits: &[LockWait]) -> Option<String> {
    let last = waits.iter().rev().find(|wait| !wait.stepped_back)?;
    if let Some(name) = prepared(&last.blocker_application) {
        return Some(format!(
            "the prepared transaction {name} of {}, in attempt {}",
            last.blocker_user, last.attempt
        ));
    }
    Some(format!(
        "pid {} ({}, {}, {}), in attempt {}",
        last.blocker_pid,
        last.blocker_user,
        last.blocker_application,
        last.blocker_state,
        last.attempt
    ))
}

fn lock_wait(attempt: u32, (blocker, waited): &(Blocker, Duration)) -> LockWait {
    LockWait {
        attempt,
        blocker_pid: blocker.pid,
        blocker_user: blocker.user.clone(),
        blocker_application: blocker.application.clone(),
        blocker_state: blocker.state.clone(),
        blocker_query_age_ms: blocker.query_age_ms,
        blocker_transaction_age_ms: blocker.transaction_age_ms,
        waited_ms: i64::try_from(waited.as_millis()).unwrap_or(i64::MAX),
        stepped_back: false,
        relation: None,
    }
}

fn stepped_back(attempt: u32, waiter: &Waiter) -> LockWait {
    LockWait {
        attempt,
        blocker_pid: waiter.pid,
        blocker_user: waiter.user.clone(),
        blocker_application: waiter.application.clone(),
        blocker_state: waiter.state.clone(),
        blocker_query_age_ms: waiter.query_age_ms,
        blocker_transaction_age_ms: waiter.transaction_age_ms,
        waited_ms: waiter.waited_ms,
        stepped_back: true,
        relation: waiter.relation.clone(),
    }
}

fn waiting(waiter: &Waiter) -> String {
    let on = waiter.relation.as_deref();
    format!(
        "pid {} ({}, {}), which had waited {:.1} s{}",
        waiter.pid,
        waiter.user,
        waiter.application,
        f64::from(i32::try_from(waiter.waited_ms).unwrap_or(i32::MAX)) / 1000.0,
        on.map(|on| format!(" for {on}")).unwrap_or_default()
    )
}

/// A number below `most`, another each time.
fn jitter(most: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now()) % most.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_seen_last_is_named() {
        let wait = |attempt: u32, pid: i32, stepped_back: bool| LockWait {
            attempt,
            blocker_pid: pid,
            blocker_user: "ann".to_owned(),
            blocker_application: "psql".to_owned(),
            blocker_state: "idle in transaction".to_owned(),
            blocker_query_age_ms: 0,
            blocker_transaction_age_ms: 0,
            waited_ms: 0,
            stepped_back,
            relation: None,
        };
        assert_eq!(before(&[]), None);
        assert_eq!(before(&[wait(1, 7, true)]), None);
        let waits = [wait(1, 7, false), wait(2, 8, false), wait(3, 9, true)];
        assert_eq!(
            before(&waits).as_deref(),
            Some("pid 8 (ann, psql, idle in transaction), in attempt 2")
        );
    }
}
