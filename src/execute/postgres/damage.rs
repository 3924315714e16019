//! What an error says of the database, whatever it was that met it: people hear of it also where nobody
//! looked for it.

use crate::engines::EngineError;
use crate::engines::postgres::{Damage, Fault};
use crate::plan::{Finding, Severity, Step};

/// The server says that something is damaged.
pub(super) fn told(
    what: Damage,
    error: &EngineError,
    object: &str,
    suggestion: Option<String>,
) -> Finding {
    let code = match what {
        Damage::Data => "corruption.data",
        Damage::Index => "corruption.index",
        Damage::File => "corruption.file",
    };
    let message = match error {
        EngineError::Statement { message, .. } => message.clone(),
        other => other.to_string(),
    };
    Finding {
        code: code.to_owned(),
        severity: Severity::Critical,
        object: object.to_owned(),
        message: format!("{object} is damaged: {message}"),
        suggestion,
    }
}

/// What is found by a step that failed of this error.
pub(super) fn met(error: &EngineError, step: &Step) -> Option<Finding> {
    let EngineError::Statement {
        sqlstate, origin, ..
    } = error
    else {
        return None;
    };
    match Fault::of(error) {
        Fault::Damaged(what) => Some(told(what, error, &step.object, None)),
        // unique_violation, of rows that were there before.
        _ if sqlstate == "23505" && !origin.is_raised() => step.body.if_twice.clone(),
        _ => None,
    }
}
