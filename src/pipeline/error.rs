//! What can keep a run from being planned or started.

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
    #[error("the saved plan does not fit any more, and nothing was touched:\n  {}", .drift.join("\n  "))]
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
