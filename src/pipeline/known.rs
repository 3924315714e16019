//! What one run learns and the next one knows.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono_tz::Tz;

use super::{Request, Surroundings};
use crate::config::Task;
use crate::execute::{LAST_PLACE, PLACES};
use crate::history::{HistoryError, Store};
use crate::plan::{Baseline, Moment, Past, Plan};
use crate::values::wall_clock;

/// What is known of a target and task before looking at it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What earlier runs learned about its objects.
    pub baselines: HashMap<String, Baseline>,
    /// What the kind asked to remember.
    pub memories: HashMap<String, serde_json::Value>,
    /// What it asked to remember of targets that are not configured any more, by name.
    pub former: BTreeMap<String, HashMap<String, serde_json::Value>>,
    /// Where the target was last.
    pub place: Option<serde_json::Value>,
    /// The steps of the latest runs of the kind, newest first.
    pub past: Vec<Past>,
    /// How much time a whole run has, where that is limited.
    pub whole: Option<Duration>,
    /// The time zone of the configuration.
    pub zone: Tz,
}

impl Known {
    /// Asks the history.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn of(
        store: &dyn Store,
        task: &Task,
        target: &str,
        zone: Tz,
    ) -> Result<Known, HistoryError> {
        Ok(Known {
            past: store.past_steps(target, &task.kind).await?,
            ..Known::for_look(store, task, target, zone).await?
        })
    }

    /// The same without how long steps took: that is asked where there are some to do, and may be
    /// thousands of answers.
    pub(super) async fn for_look(
        store: &dyn Store,
        task: &Task,
        target: &str,
        zone: Tz,
    ) -> Result<Known, HistoryError> {
        Ok(Known {
            baselines: store.baselines(target).await?,
            memories: store.memories(target, &task.kind).await?,
            former: former(store, task, target).await?,
            place: last_place(store, target).await?,
            past: Vec::new(),
            whole: None,
            zone,
        })
    }
}

/// Where a target was last.
pub(super) async fn last_place(
    store: &dyn Store,
    target: &str,
) -> Result<Option<serde_json::Value>, HistoryError> {
    Ok(store.memories(target, PLACES).await?.remove(LAST_PLACE))
}

/// What is remembered of targets that have gone from the configuration, or have another name there.
async fn former(
    store: &dyn Store,
    task: &Task,
    target: &str,
) -> Result<BTreeMap<String, HashMap<String, serde_json::Value>>, HistoryError> {
    let mut former = BTreeMap::new();
    if !task.needs_history {
        return Ok(former);
    }
    // Of a server that stands for many databases, one that nobody asks for now is no other's.
    let configured = |name: &str| {
        let server = name.split_once('/').map_or(name, |(server, _)| server);
        task.elsewhere.contains_key(name) || task.elsewhere.contains_key(server)
    };
    for name in store.remembered(&task.kind).await? {
        if name != target && !configured(&name) {
            let memories = store.memories(&name, &task.kind).await?;
            former.insert(name, memories);
        }
    }
    Ok(former)
}

/// Keeps what the plan saw.
pub(super) fn learn<B>(around: &Surroundings, request: &Request<'_>, at: &Moment, plan: &Plan<B>) {
    let (target, kind) = (&request.target.name, &request.task.kind);
    let history = &around.history;
    history.add_measurements(target, at.now, &plan.measurements);
    history.remember(target, kind, at.now, &plan.memories);
    for seen in &plan.observations {
        let baseline = Baseline {
            object: seen.object.clone(),
            bytes: seen.bytes,
            tuples: seen.tuples,
            learned_at: wall_clock(),
            rebuilt: false,
            made_as: seen.made_as.clone(),
        };
        history.learn(target, baseline);
    }
}
