//! Which engine a task works on: the one place where that is asked.

use std::time::Duration;

use serde_json::Value;

use super::checkup::Line;
use super::{PipelineError, Through, Way, through};
use crate::config::{Target, Task};
use crate::execute::{Database, mongodb, postgres};
use crate::history::Store;
use crate::kinds;
use crate::plan;
use crate::values::Engine;

/// The way of this task.
pub(super) fn of(task: &Task) -> Result<Box<dyn Way>, PipelineError> {
    match task.engine {
        Engine::Postgres => Ok(Box::new(Through::<postgres::Door>::of(
            task,
            kinds::postgres::KINDS,
        )?)),
        Engine::Mongodb => Ok(Box::new(Through::<mongodb::Door>::of(
            task,
            kinds::mongodb::KINDS,
        )?)),
    }
}

/// Every database of the target's server that work may be done in.
pub(super) async fn databases(target: &Target) -> Result<Vec<Database>, PipelineError> {
    match target.engine {
        Engine::Postgres => through::databases::<postgres::Door>(target).await,
        Engine::Mongodb => through::databases::<mongodb::Door>(target).await,
    }
}

/// What a query for targets answers there: a row as a JSON object each.
pub(super) async fn targets(
    target: &Target,
    query: &str,
    limit: Duration,
) -> Result<Vec<String>, PipelineError> {
    super::postgres::targets(target, query, limit).await
}

/// What the target lacks (versions, rights, extensions), what that costs, and what was left
/// unfinished there; `last` is where runs have worked last, and `history` what they have remembered. What was found until
/// something failed is in `lines`.
///
/// # Errors
/// When it cannot be reached or asked, or is a server that a failover has left behind.
pub async fn examine(
    target: &Target,
    tasks: &[&Task],
    last: Option<&Value>,
    history: Option<&dyn Store>,
    lines: &mut Vec<Line>,
) -> Result<(), PipelineError> {
    match target.engine {
        Engine::Postgres => super::postgres::examine(target, tasks, last, history, lines).await,
        Engine::Mongodb => super::mongodb::examine(target, tasks, lines).await,
    }
}

/// What can be said of a target's URL without asking anybody: files that it names and cannot be used,
/// and what it leaves unverified.
pub fn warnings(target: &Target) -> Vec<String> {
    match target.engine {
        Engine::Postgres => Vec::new(),
        Engine::Mongodb => super::mongodb::warnings(target),
    }
}

/// Who and what is there, in one sentence; `last` is where runs have worked last.
///
/// # Errors
/// When it cannot be reached or asked, or is a server that a failover has left behind.
pub async fn introduce(target: &Target, last: Option<&Value>) -> Result<String, PipelineError> {
    match target.engine {
        Engine::Postgres => super::postgres::introduce(target, last).await,
        Engine::Mongodb => super::mongodb::introduce(target).await,
    }
}

/// The locks that a recorded statement takes, and whom they keep waiting, in words.
pub fn locks(engine: Engine, statement: &str) -> Vec<String> {
    match engine {
        Engine::Postgres => plan::postgres::locks(statement),
        Engine::Mongodb => plan::mongodb::locks(statement),
    }
}
