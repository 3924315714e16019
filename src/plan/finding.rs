//! Something noticed that a person should know, with how much it matters; its code is what scripts
//! rely on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Filled;

/// How much a finding matters, mildest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Wants attention in the coming days.
    Warning,
    /// Wants attention now.
    Critical,
}

impl Severity {
    /// The word used in JSON and in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// Something noticed that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable, dotted: `index.invalid`, `freeze.age`. Scripts filter by it.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, quoted where SQL would need it: `public.orders`.
    pub object: String,
    /// What was seen and why it matters, in one or two sentences.
    pub message: String,
    /// One statement that would help, ready to paste.
    pub suggestion: Option<String>,
}

impl Finding {
    /// Says it as the configuration writes it, whatever variables hold.
    pub fn hide(&mut self, filled: &Filled) {
        filled.hide(&mut self.message);
        if let Some(suggestion) = &mut self.suggestion {
            filled.hide(suggestion);
        }
    }
}
