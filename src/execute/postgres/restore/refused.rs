//! What a refusal of the server means for the rows that were to come back, and what helps.

use std::collections::BTreeSet;

use super::super::returning::files;
use super::rights::{guarded, may_not_read};
use super::site::{PartOf, knows_its_zone};
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::Manifest;

/// So many partitions are named.
const MOST_NAMED: usize = 20;

/// What the catalog says of the table, once it was refused.
#[derive(Default)]
pub(super) struct Situation {
    /// Whether row-level security holds for the role.
    pub(super) guards: bool,
    /// Partitions that the role may not read.
    pub(super) unread: Vec<String>,
    /// Where it is a partition itself.
    pub(super) part_of: Option<PartOf>,
}

/// Says what the server's refusal means for the rows, and what helps.
pub(super) fn not_taken(
    error: EngineError,
    into: &RelationName,
    role: &Identifier,
    why: &Situation,
) -> EngineError {
    let EngineError::Statement {
        sqlstate,
        message,
        origin,
        ..
    } = &error
    else {
        return error;
    };
    let elsewhere = "or restore into a table of its own (`--into`)";
    let rule = origin.rule.as_deref().unwrap_or("a constraint");
    let said = match sqlstate.as_str() {
        // Somebody's code speaks for itself.
        _ if origin.is_raised() => message.clone(),
        "23502" => format!(
            "{rule}: some of the archived rows have no value there, or no such column; give it one by DEFAULT where they lack it, take NOT NULL away (ALTER TABLE {into} ALTER COLUMN … DROP NOT NULL), {elsewhere}"
        ),
        "23503" => format!(
            "the foreign key {rule}: rows that some of the archived ones point at are not there; bring those back first, {elsewhere}"
        ),
        "23505" | "23P01" => format!(
            "{rule}: some of the archived rows meet rows that {into} has, or each other: they may be there already; look for them, {elsewhere}"
        ),
        "23514"
            if origin.rule.is_none()
                && let Some(part) = &why.part_of =>
        {
            return outside(into, part);
        }
        "23514" => format!(
            "the check {rule}: some of the archived rows do not meet it; make it one that they meet, {elsewhere}"
        ),
        "42501" if why.guards => guarded(into, role),
        "42501" if !why.unread.is_empty() => may_not_read(into, role, &why.unread),
        _ => message.clone(),
    };
    let said = said.trim_start_matches("nothing was restored: ");
    let said = format!("nothing was restored: {said}");
    error.reworded(|_| said)
}

/// Says which partitions are missing, where the server has none for a row.
pub(super) fn without_partition(
    error: EngineError,
    into: &RelationName,
    key: Option<&str>,
    manifests: &[Manifest],
) -> EngineError {
    let none = match &error {
        EngineError::Statement {
            sqlstate, origin, ..
        } => sqlstate == "23514" && origin.file.as_deref() == Some("execPartition.c"),
        _ => false,
    };
    match none {
        true => no_room(into, key, manifests),
        false => error,
    }
}

/// Says that the bounds of a partition leave some of the rows out.
pub(super) fn outside(into: &RelationName, part: &PartOf) -> EngineError {
    let PartOf { table, bounds } = part;
    files(format!(
        "nothing was restored: {into} is a partition of {table} that takes rows {bounds} only, and some of the archived rows are others; restore into {table} (`--into {table}`), or into a table of its own"
    ))
}

/// Says which partitions are missing.
pub(super) fn no_room(
    into: &RelationName,
    key: Option<&str>,
    manifests: &[Manifest],
) -> EngineError {
    let wanted: BTreeSet<String> = manifests
        .iter()
        .filter_map(|manifest| {
            if let Some(bounds) = manifest.whole.as_ref().and_then(|w| w.bounds.as_ref()) {
                let table = &manifest.table;
                return Some(format!("CREATE TABLE {table} PARTITION OF {into} {bounds}"));
            }
            // What the files span is a time; the table may be partitioned by something else.
            let by_time = |key: &str| {
                let named = key.split(['(', ')', ',', ' ']);
                let named: Vec<&str> = named.map(|word| word.trim_matches('"')).collect();
                let mut columns = manifest.columns.iter();
                columns.any(|c| named.contains(&&*c.name) && knows_its_zone(&c.pg_type).is_some())
            };
            if let Some(key) = key.filter(|key| !by_time(key)) {
                return Some(format!("partitions for the values of these rows ({key})"));
            }
            let spans = || manifest.files.iter().filter_map(|f| f.span.as_ref());
            let oldest = spans().map(|(oldest, _)| oldest).min()?;
            let newest = spans().map(|(_, newest)| newest).max()?;
            Some(format!("partitions for {oldest} to {newest}"))
        })
        .collect();
    let more = match wanted.len().checked_sub(MOST_NAMED) {
        Some(more @ 1..) => format!("; and {more} more"),
        _ => String::new(),
    };
    let wanted: Vec<String> = wanted.into_iter().take(MOST_NAMED).collect();
    files(format!(
        "nothing was restored: {into} has no partition for some of the rows. Make what is missing of these: {}{more}. Or restore into a table of its own (`--into`)",
        wanted.join("; ")
    ))
}
