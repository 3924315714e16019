//! Carries steps out; knows no kind. The one gate for every statement that
//! changes a target is `gate.rs`.

mod gate;
mod monitor;
mod observer;
mod step;
mod stop;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use uuid::Uuid;

pub use observer::{Event, Observer, Silent};
pub use stop::{Stop, StopReason};

use self::monitor::Monitor;
use crate::config::Limits;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::connect::Dial;
use crate::history::{StepRecord, StepStatus, Store};
use crate::plan::Step;

/// Everything a step needs besides itself.
pub struct Execution {
    /// Where to connect.
    pub dial: Dial,
    /// What our sessions are called on the server.
    pub application_name: String,
    /// Name of the target, under which baselines are kept.
    pub target: String,
    /// The task's limits.
    pub limits: Limits,
    /// No statement runs beyond this.
    pub deadline: Option<Instant>,
    /// How the run is stopped from outside.
    pub stop: Stop,
    /// Where steps are recorded.
    pub store: Arc<dyn Store>,
    /// The run they belong to.
    pub run: Uuid,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

/// Carries out the steps: in order, `jobs` at a time, never two in one lane.
/// One failing step stops no other.
///
/// # Errors
/// Only when the monitoring connection cannot be had; whatever happens to a
/// step is in its record.
pub async fn carry_out(
    steps: Vec<Step>,
    execution: Arc<Execution>,
) -> Result<Vec<StepRecord>, EngineError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let watcher = Session::open(&execution.dial, &execution.application_name).await?;
    let monitor = Monitor::start(watcher, &execution);
    let mut waiting: VecDeque<Step> = steps.into();
    let mut busy: HashSet<String> = HashSet::new();
    let mut idle: Vec<Session> = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut records = Vec::new();
    let jobs = usize::try_from(execution.limits.jobs.max(1)).unwrap_or(1);
    loop {
        while running.len() < jobs {
            let Some(next) = waiting.iter().position(|step| !busy.contains(&step.lane)) else {
                break;
            };
            let Some(step) = waiting.remove(next) else {
                break;
            };
            busy.insert(step.lane.clone());
            let (execution, monitor) = (Arc::clone(&execution), monitor.handle());
            let session = idle.pop();
            running.push(step::carry_out(step, session, execution, monitor));
        }
        match running.next().await {
            None => break,
            Some((record, lane, session)) => {
                busy.remove(&lane);
                idle.extend(session);
                records.push(record);
            }
        }
    }
    monitor.end().await;
    records.sort_by_key(|record| record.seq);
    Ok(records)
}

/// Sums up how the steps of a run ended.
pub fn failed(records: &[StepRecord]) -> usize {
    records
        .iter()
        .filter(|r| r.status == StepStatus::Failed)
        .count()
}
