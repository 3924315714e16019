//! What only MongoDB's targets are asked for, outside of runs.

use super::PipelineError;
use super::error::configured;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::mongodb::Session;
use crate::execute::mongodb;

/// A session on a target; `name` is what it is called on the server.
///
/// # Errors
/// When it has no URL, or cannot be reached.
pub async fn session(target: &Target, name: &str) -> Result<Session, PipelineError> {
    configured(target)?;
    let dial = mongodb::dial(target)?;
    Ok(Session::open(&dial, name)
        .await
        .map_err(EngineError::from)?)
}
