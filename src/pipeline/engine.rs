//! Which engine a task works on: the one place where that is asked.

use std::time::Duration;

use super::{PipelineError, Through, Way, through};
use crate::config::{Target, Task};
use crate::execute::{mongodb, postgres};
use crate::kinds;
use crate::plan::{self};
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
pub(super) async fn databases(target: &Target) -> Result<Vec<String>, PipelineError> {
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

/// The locks that a recorded statement takes, and whom they keep waiting, in words.
pub fn locks(engine: Engine, statement: &str) -> Vec<String> {
    match engine {
        Engine::Postgres => plan::postgres::locks(statement),
        Engine::Mongodb => plan::mongodb::locks(statement),
    }
}
