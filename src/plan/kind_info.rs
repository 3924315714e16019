//! A kind as the configuration sees it: its name, its options, and what is known of it without
//! building one.

use super::{Ageing, Replacing, Unfit};
use schemars::Schema;
use serde_json::Value;

use crate::values::Engine;

/// What configuration needs to know of a kind, without building one.
#[derive(Clone, Copy)]
pub struct KindInfo {
    /// The word written after `kind:`.
    pub name: &'static str,
    /// The engine whose targets this kind works on.
    pub engine: Engine,
    /// One line for help texts.
    pub summary: &'static str,
    /// Whether the rows that its runs count are gone afterwards.
    pub removes_rows: bool,
    /// Whether its work rests on what the history remembers, as proof.
    pub needs_history: bool,
    /// Whether part of what it looks at belongs to the whole server.
    pub looks_at_server: bool,
    /// What such options take by its age alone.
    pub ages: fn(&Value) -> Vec<Ageing>,
    /// What runs with such options put in the place of what is there.
    pub replaces: fn(&Value) -> Vec<Replacing>,
    /// Whether runs with such options go on with what others have taken out of this table of a schema.
    pub goes_on_with: fn(&Value, &str, &str) -> bool,
    /// JSON Schema of the kind's `options:`.
    pub options_schema: fn() -> Schema,
    /// Whether the options build the kind, and what is wrong with them.
    pub check_options: fn(&Value) -> Result<(), Unfit>,
}
