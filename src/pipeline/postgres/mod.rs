//! What only PostgreSQL's targets are asked for, outside of runs.

use super::PipelineError;
use super::way::configured;
use crate::config::Target;
use crate::engines::postgres::connect::Dial;
use crate::execute::postgres;

/// Resolves how to reach a target.
///
/// # Errors
/// When it has no URL, or one that makes no sense.
pub fn dial(target: &Target) -> Result<Dial, PipelineError> {
    configured(target)?;
    Ok(postgres::dial(target)?)
}
