//! One step: is it still needed, measure, try, try again, clear away, measure.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::door::BodyOf;
use super::{Door, Event, Execution, Job, Size, StopReason};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Baseline, Basis, Body, Finding, KeptBy, Step};
use crate::values::{wall_clock, with_causes};

/// How long a step that destroys waits until its beginning is on disk.
const OPENING: Duration = Duration::from_secs(1);
/// How long a step that keeps its work elsewhere may go on after its time was up: what it does
/// here has ended by then, and has not been committed.
const SILENT: Duration = Duration::from_secs(8);

/// A step that has ended.
pub(super) struct Ended<D: Door> {
    pub(super) step: Step<BodyOf<D>>,
    pub(super) record: StepRecord,
    /// What it noticed.
    pub(super) findings: Vec<Finding>,
    /// Its session, unless that broke.
    pub(super) session: Option<D::Session>,
    /// Whether it was its turn at all.
    pub(super) begun: bool,
    /// Whether it has waited for a connection until a pooler gave up.
    pub(super) has_waited: bool,
}

/// Carries one step out, on `session` or a new one, and records it.
pub(super) fn carry_out<'a, D: Door>(
    step: Step<BodyOf<D>>,
    session: Option<D::Session>,
    door: &'a D,
    watch: &'a D::Watch,
    execution: &'a Execution,
) -> BoxFuture<'a, Ended<D>> {
    Box::pin(async move {
        let mut session = session;
        let mut findings = Vec::new();
        let (record, has_waited) =
            recorded(&step, &mut session, &mut findings, door, watch, execution).await;
        Ended {
            step,
            record,
            findings,
            session,
            begun: true,
            has_waited,
        }
    })
}

/// Why a step cannot begin any more.
pub(super) struct NotBegun {
    /// How it is recorded.
    pub(super) status: StepStatus,
    /// What is said of it.
    pub(super) why: String,
    /// What kept it, where that is known.
    pub(super) kept_by: Option<KeptBy>,
    /// What is told besides.
    pub(super) finding: Option<Finding>,
}

impl NotBegun {
    pub(super) fn new(status: StepStatus, why: String) -> NotBegun {
        NotBegun {
            status,
            why,
            kept_by: None,
            finding: None,
        }
    }
}

/// Records a step that cannot begin any more.
pub(super) fn not_begun<D: Door>(
    step: Step<BodyOf<D>>,
    ended: NotBegun,
    execution: &Execution,
) -> BoxFuture<'_, Ended<D>> {
    Box::pin(async move {
        let mut record = blank(&step);
        record.kept_by = ended.kept_by;
        end(&mut record, ended.status, ended.why);
        kept(&mut record, execution);
        record.hide(&execution.filled);
        let mut findings: Vec<Finding> = ended.finding.into_iter().collect();
        still_so(&step, &record, &mut findings);
        for finding in &mut findings {
            finding.hide(&execution.filled);
        }
        execution.history.step(execution.run, &record);
        execution.observer.on(Event::Finished(&record));
        execution.history.add_findings(execution.run, &findings);
        Ended {
            step,
            record,
            findings,
            session: None,
            begun: false,
            has_waited: false,
        }
    })
}

pub(super) fn blank<B: Body>(step: &Step<B>) -> StepRecord {
    StepRecord {
        seq: step.seq,
        object: step.object.clone(),
        action: step.action.clone(),
        status: StepStatus::Running,
        reason: step.reason.clone(),
        statement: step.statement_text(),
        rows: None,
        bytes_before: None,
        bytes_after: None,
        started_at: None,
        duration_ms: 0,
        attempts: 0,
        error: None,
        lock_waits: Vec::new(),
        throttled: Vec::new(),
        predicted_ms: step
            .predicted_ms
            .filter(|_| step.predicted_from != Some(Basis::Nothing)),
        planned_bytes: step.estimate.bytes,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }
}

/// Notes what kept a step from being done, where whoever ended it has not said so.
fn kept(record: &mut StepRecord, execution: &Execution) {
    match record.status {
        StepStatus::Deferred | StepStatus::Cancelled => {}
        StepStatus::Skipped => return,
        // What has failed in spite of another try is left for nobody.
        _ => {
            record.kept_by = None;
            return;
        }
    }
    let too_much = matches!(
        execution.stop.reason(),
        Some(StopReason::TooMuch | StopReason::Unseen)
    );
    let paused = execution.throttle.to_the_end();
    record.kept_by = match (record.kept_by, paused) {
        (Some(known), _) => Some(known),
        (None, _) if too_much => Some(KeptBy::Throttle),
        (None, _) if execution.stop.is_stopping() => Some(KeptBy::Stop),
        (None, Some(paused)) => {
            end(
                record,
                record.status,
                format!("paused until the run's time was up: {paused}"),
            );
            Some(KeptBy::Throttle)
        }
        (None, None) => Some(KeptBy::Time),
    };
}

/// Its record, and whether it has waited for a connection until a pooler gave up.
async fn recorded<D: Door>(
    step: &Step<BodyOf<D>>,
    session: &mut Option<D::Session>,
    findings: &mut Vec<Finding>,
    door: &D,
    watch: &D::Watch,
    execution: &Execution,
) -> (StepRecord, bool) {
    let mut record = blank(step);
    record.hide(&execution.filled);
    let mut has_waited = false;
    let held = execution.throttle.hold(door, execution, &mut record).await;
    if let Err(error) = held {
        end(&mut record, StepStatus::Failed, with_causes(&error));
    } else if execution.stop.is_stopping() {
        end(
            &mut record,
            StepStatus::Deferred,
            "the run was stopped before its turn",
        );
    } else if execution
        .deadline
        .is_some_and(|deadline| Instant::now() >= deadline)
    {
        end(&mut record, StepStatus::Deferred, "no time was left");
    } else {
        record.started_at = Some(wall_clock());
        execution.pace.begins();
        execution.history.step(execution.run, &record);
        if step.body.destroys() {
            // A history that does not answer stops no work; what it did not take is told by itself.
            let _ = timeout(OPENING, execution.history.settle()).await;
        }
        execution.observer.on(Event::Started(&record));
        let began = Instant::now();
        match run(step, session, &mut record, findings, door, watch, execution).await {
            Ok(true) => {}
            // It may be in the middle of something: its end takes that back.
            Ok(false) => *session = None,
            Err(error) => {
                if error.is_unreachable() {
                    *session = None;
                }
                has_waited = error.has_waited();
                end(&mut record, StepStatus::Failed, with_causes(&error));
            }
        }
        record.duration_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        execution.pace.ended(&record);
    }
    kept(&mut record, execution);
    record.hide(&execution.filled);
    still_so(step, &record, findings);
    for finding in &mut *findings {
        finding.hide(&execution.filled);
    }
    execution.history.step(execution.run, &record);
    execution.observer.on(Event::Finished(&record));
    execution.history.add_findings(execution.run, findings);
    (record, has_waited)
}

/// Adds what is so until the step has succeeded, unless that was looked at: where it was skipped at its beginning, or
/// has said itself what has become of it.
fn still_so<B>(step: &Step<B>, record: &StepRecord, findings: &mut Vec<Finding>) {
    let looked = record.started_at.is_some() && record.status == StepStatus::Skipped;
    if looked || record.status == StepStatus::Succeeded {
        return;
    }
    for so in &step.until_done {
        let told = |one: &Finding| one.code == so.code && one.object == so.object;
        if !findings.iter().any(told) {
            findings.push(so.clone());
        }
    }
}

/// Carries it out; whether its session is of use afterwards.
async fn run<D: Door>(
    step: &Step<BodyOf<D>>,
    session: &mut Option<D::Session>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
    door: &D,
    watch: &D::Watch,
    execution: &Execution,
) -> Result<bool, EngineError> {
    let awaited = execution.stop.awaited();
    let looking = awaited.aside("a question before a step");
    let session = match session {
        Some(session) => session,
        None => session.insert(door.session(step.place).await?),
    };
    if let Some(why) = door.unneeded(session, step).await? {
        end(record, StepStatus::Skipped, why);
        if !step.until_done.is_empty() && door.is_still_so(session, step).await? {
            findings.extend(step.until_done.iter().cloned());
        }
        return Ok(true);
    }
    let before = door.measure(session, step, execution).await?;
    record.bytes_before = before.map(|size| size.bytes);
    let job = Job {
        step,
        session,
        door,
        watch,
        execution,
    };
    drop(looking);
    let ends = Instant::now() + execution.limits.step_timeout.get();
    let (ends, limit, over) = match execution.deadline {
        Some(deadline) if deadline <= ends => (
            deadline,
            "a step beyond the run's time",
            "the run's time was up".to_owned(),
        ),
        _ => (
            ends,
            "a step beyond `limits.step_timeout`",
            format!(
                "`limits.step_timeout` ({}) was over",
                execution.limits.step_timeout
            ),
        ),
    };
    let working = awaited.by(ends, limit);
    let carrying_out = door.carry_out(job, record, findings);
    match step.body.elsewhere() {
        None => carrying_out.await?,
        Some(place) => {
            let by_then = (ends + SILENT).into();
            match tokio::time::timeout_at(by_then, carrying_out).await {
                Ok(done) => done?,
                Err(_) => {
                    silent(record, &place, &over);
                    return Ok(false);
                }
            }
        }
    }
    drop(working);
    let _looking = awaited.aside("a question after a step");
    if let (StepStatus::Succeeded, true, Some(memory)) =
        (record.status, findings.is_empty(), &step.remember)
    {
        let (target, kind) = (&execution.target, &execution.kind);
        let memory = std::slice::from_ref(memory);
        execution
            .history
            .remember(target, kind, wall_clock(), memory);
    }
    if let Some(Size { bytes, entries }) = door.measure(session, step, execution).await? {
        record.bytes_after = Some(bytes);
        let shed = before.and_then(|size| size.entries).zip(entries);
        if let Some((before, after)) = shed.filter(|_| step.sheds) {
            #[expect(clippy::cast_possible_truncation, reason = "counts of rows")]
            let gone = (before - after).max(0.0) as i64;
            record.rows = Some(gone);
        }
        let learned = entries.filter(|_| step.learn && record.status == StepStatus::Succeeded);
        if let Some(tuples) = learned {
            let baseline = Baseline {
                object: step.object.clone(),
                bytes,
                tuples,
                learned_at: wall_clock(),
                rebuilt: true,
                made_as: step.made_as.clone(),
            };
            execution.history.learn(&execution.target, baseline);
        }
    }
    Ok(true)
}

/// Leaves a step whose work is to be kept by somebody who says nothing. It is as if the process
/// had died: what it had not committed is given back, and the next run finds what it had begun.
fn silent(record: &mut StepRecord, place: &str, over: &str) {
    let rows = record.rows.unwrap_or(0);
    let why = format!(
        "{place} does not answer: {over}, and {} s later what was asked of it had still not come to an end. Nothing goes from here that is not proved to be there: the batch at work was given back, and {rows} had gone before it. Look at {place}, and at any proxy or firewall before it; the next run finds out what became of the batch, and goes on",
        SILENT.as_secs()
    );
    tracing::warn!(place, "a step was left, since it got no answer");
    record.status = StepStatus::Failed;
    record.error = Some(why);
    record.kept_by = None;
}

pub(super) fn end(record: &mut StepRecord, status: StepStatus, why: impl Into<String>) {
    record.status = status;
    let why = why.into();
    record.error = Some(match record.error.take() {
        Some(before) => format!("{why}; {before}"),
        None => why,
    });
}
