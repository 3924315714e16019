//! The time of a task with many databases: what each would do is looked at first, and then it is
//! shared out, so that what matters most comes first wherever it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use futures_util::future::join_all;
use serde_json::Value;

use super::time::for_work;
use super::{Known, Lanes, lanes, plan};
use crate::config::{Target, Task};
use crate::execute::{Shared, Stop};
use crate::history::Recorder;
use crate::plan::{Plan, Scope, Shares, share_out};
use crate::values::{wall_clock, with_causes};

/// The databases of a task, in the order of their turn, and the time they have together.
#[derive(Default)]
pub struct Among {
    /// Their places in what was asked for.
    pub order: Vec<usize>,
    /// None where there is as much as anybody needs, or only one of them.
    pub shared: Option<Arc<Shared>>,
}

impl Among {
    /// So many, one after the other, each with a time of its own.
    pub fn in_order(count: usize) -> Among {
        Among {
            order: (0..count).collect(),
            shared: None,
        }
    }
}

/// How many steps of these targets are at work at the same time.
fn at_once(task: &Task, targets: &[&Target]) -> u32 {
    let limits = &task.limits;
    let mut databases: HashMap<&str, usize> = HashMap::new();
    let mut alone = 0;
    for target in targets {
        match target.database.is_some() {
            true => *databases.entry(target.server()).or_default() += 1,
            false => alone += 1,
        }
    }
    let of_servers = databases
        .values()
        .map(|n| limits.databases_at_once().min(*n));
    let many = (alone + of_servers.sum::<usize>()).min(limits.targets_at_once());
    let jobs = targets
        .first()
        .map_or(1, |target| lanes::jobs(target, limits));
    u32::try_from(many.max(1))
        .unwrap_or(u32::MAX)
        .saturating_mul(jobs)
}

/// Shares the time of a task out among its plans.
pub fn shares<B>(task: &Task, plans: &[(&Target, &Plan<B>)], whole: Duration) -> Shares {
    let targets: Vec<&Target> = plans.iter().map(|(target, _)| *target).collect();
    let plans: Vec<&Plan<B>> = plans.iter().map(|(_, plan)| *plan).collect();
    share_out(&plans, whole, at_once(task, &targets))
}

/// Looks what the databases of a task would do, and shares its time out among them: the budget, and
/// what is left of the window until `closes_at`. Without either, or with one database, nobody has
/// to be asked.
pub async fn share(
    task: &Task,
    targets: &[&Target],
    closes_at: Option<DateTime<Utc>>,
    zone: Tz,
    (history, stop): (&Recorder, &Stop),
) -> Among {
    let began = Instant::now();
    let all = Among::in_order(targets.len());
    let budget = task.limits.budget.as_ref().map(|budget| budget.get());
    if targets.len() < 2 || (budget.is_none() && closes_at.is_none()) {
        return all;
    }
    let lanes = Lanes::of(&task.limits);
    let look = async |target: &Target| {
        let _leave = lanes.enter(target, &task.limits, stop).await;
        match stop.is_stopping() {
            true => None,
            false => looked_at(task, target, zone, history).await,
        }
    };
    // What cannot be planned is nothing that time is kept for: its run will say why.
    let plans: Vec<Plan<Value>> = join_all(targets.iter().map(|target| look(target)))
        .await
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    let window = closes_at.map(|at| (at - wall_clock()).to_std().unwrap_or_default());
    let budget = budget.map(|budget| for_work(budget, began.elapsed()));
    let whole = budget.into_iter().chain(window).min().unwrap_or_default();
    let pairs: Vec<(&Target, &Plan<Value>)> = targets.iter().copied().zip(&plans).collect();
    let Shares { mut order, chosen } = shares(task, &pairs, whole);
    // The server's own run tells what is new of its databases.
    order.sort_by_key(|n| targets[*n].scope != Scope::Server);
    let kept = targets.iter().zip(chosen);
    let kept = kept.map(|(target, steps)| (target.name.clone(), steps));
    let shared = Shared::new(
        Instant::now() + whole,
        whole,
        at_once(task, targets),
        kept.collect(),
    );
    Among {
        order,
        shared: Some(Arc::new(shared)),
    }
}

async fn looked_at(
    task: &Task,
    target: &Target,
    zone: Tz,
    history: &Recorder,
) -> Option<Plan<Value>> {
    let store = history.store().as_ref();
    let known = history.ask(Known::of(store, task, &target.name, zone));
    let known = known.await.unwrap_or_else(|| Known {
        zone,
        ..Known::default()
    });
    match plan(task, target, known).await {
        Ok(plan) => Some(plan),
        Err(error) => {
            tracing::info!(
                task = task.name,
                target = target.name,
                "not looked at: {}",
                with_causes(&error)
            );
            None
        }
    }
}
