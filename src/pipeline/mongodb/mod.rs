//! What only MongoDB's targets are asked for, outside of runs.

mod checkup;
mod destinations;
mod missing;

use super::PipelineError;
use super::error::configured;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::mongodb::Session;
use crate::execute::mongodb;

pub(super) use checkup::examine;

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

/// What can be said of its URL without asking anybody.
pub(super) fn warnings(target: &Target) -> Vec<String> {
    match mongodb::dial(target) {
        Ok(dial) if target.configured => dial.warnings(),
        _ => Vec::new(),
    }
}

/// Who and what is there.
pub(super) async fn introduce(target: &Target) -> Result<String, PipelineError> {
    let session = session(target, "maint check").await?;
    let server = &session.server;
    let mut text = format!(
        "MongoDB {} at {}, database {}",
        server.version,
        session.describe(),
        session.database()
    );
    if let Some(set) = &server.set {
        text.push_str(&format!(", replica set {set}"));
    }
    // Where no task can run, the server is as far away as one that does not answer.
    let lacks = match session.can_be_worked_on().await {
        Ok(()) => checkup::lacks_some(&session).await,
        Err(error) => Err(error),
    };
    session.close().await;
    if lacks.map_err(EngineError::from)? {
        text.push_str(
            ", where the user lacks rights that some kinds need: `maint doctor` says which",
        );
    }
    Ok(text)
}
