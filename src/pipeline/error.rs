//! What can keep a run from being planned or started.

use crate::config::Target;
use crate::engines::EngineError;
use crate::history::HistoryError;
use crate::values::Engine;

/// Why a plan could not be made, or a run not be started.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The target could not be reached, or refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The history could not be used.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The kind rests on what the history remembers, and it did not answer.
    #[error("the history did not answer: this kind works only with what it remembers as proof")]
    NoProof(#[source] HistoryError),
    /// A saved plan does not fit the database any more.
    #[error("the saved plan does not fit any more, and none of its steps for this task was carried out: {}", .drift.join("; "))]
    Drifted {
        /// What has changed, a line each.
        drift: Vec<String>,
    },
    /// Nothing in this build works on such targets.
    #[error("kind `{kind}` for {engine} is not available in this version of maint")]
    NotAvailable {
        /// The task's kind.
        kind: String,
        /// Its engine.
        engine: Engine,
    },
    /// The options do not build the kind; configuration should have said so.
    #[error("task `{task}`: {message}")]
    Options {
        /// Which task.
        task: String,
        /// What is wrong.
        message: String,
    },
    /// A target stands for databases, and its server has none of them.
    #[error(
        "none of the {databases} databases of `{target}` is meant by its `databases`: {patterns}"
    )]
    NoDatabase {
        /// Which target.
        target: String,
        /// What it says of them.
        patterns: String,
        /// How many there are that may be connected to.
        databases: usize,
    },
    /// The target has no URL.
    #[error("target `{target}` is not configured: its `url` is empty")]
    NotConfigured {
        /// Which target.
        target: String,
    },
}

impl PipelineError {
    /// Whether the target, or a history that the work rests on, could not be reached: exit code 3.
    pub fn is_unreachable(&self) -> bool {
        match self {
            PipelineError::Engine(error) => error.is_unreachable(),
            PipelineError::History(error) | PipelineError::NoProof(error) => !error.is_usage(),
            PipelineError::Drifted { .. }
            | PipelineError::NotAvailable { .. }
            | PipelineError::Options { .. }
            | PipelineError::NoDatabase { .. }
            | PipelineError::NotConfigured { .. } => false,
        }
    }

    /// What to do next, where there is something better to say than the error itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            PipelineError::Engine(error) => error.hint(),
            PipelineError::History(error) | PipelineError::NoProof(error) => error.hint(),
            PipelineError::Drifted { .. }
            | PipelineError::NotAvailable { .. }
            | PipelineError::Options { .. }
            | PipelineError::NoDatabase { .. }
            | PipelineError::NotConfigured { .. } => None,
        }
    }
}

/// Refuses a target without a URL.
pub(super) fn configured(target: &Target) -> Result<(), PipelineError> {
    if target.configured {
        return Ok(());
    }
    Err(PipelineError::NotConfigured {
        target: target.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Place;
    use crate::values::with_causes;

    #[test]
    fn a_history_that_is_away_is_unreachable_and_said_with_its_cause() {
        let busy = |place| HistoryError::Busy {
            place,
            source: "canceling statement due to lock timeout (SQLSTATE 55P03)".into(),
        };
        let error = PipelineError::NoProof(busy(Place::Server("db:5432/maint".to_owned())));
        assert!(error.is_unreachable());
        assert_eq!(
            with_causes(&error),
            "the history did not answer: this kind works only with what it remembers as proof: \
             the history at db:5432/maint is too busy: a lock, or an answer, could not be had in time: \
             canceling statement due to lock timeout (SQLSTATE 55P03)"
        );
        // No advice for files where there is a server.
        assert!(error.hint().is_some_and(|hint| hint.contains("pg_locks")));
        let file = PipelineError::History(busy(Place::File("maint.db".into())));
        assert!(file.hint().is_some_and(|hint| hint.contains("fuser")));
        let usage = PipelineError::History(HistoryError::NoRuns);
        assert!(!usage.is_unreachable());
    }
}
