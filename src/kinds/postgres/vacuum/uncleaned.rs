//! Tables whose storage parameter `vacuum_index_cleanup` is off: a vacuum removes their dead rows, and leaves what pointed
//! at them. ANALYZE counts that as dead rows, and no further vacuum of the same kind removes it.

use serde_json::{Value, json};

use super::facts::{Heap, TableFacts};
use crate::plan::{Finding, Memory, Moment, Severity};

/// What a step on such a table says.
pub(super) const SAID: &str = "`vacuum_index_cleanup` is off: what pointed at dead rows stays, and is counted as dead rows by the next ANALYZE";

/// Under which key it is remembered how many rows had been changed when such a table was vacuumed.
fn key(table: &TableFacts) -> String {
    format!("changed {}", table.heap.oid)
}

fn heaps(table: &TableFacts) -> impl Iterator<Item = &Heap> {
    let heaps = std::iter::once(&table.heap).chain(&table.toast);
    heaps.filter(|heap| heap.uncleaned)
}

/// Whether that is so of any part of the table.
pub(super) fn is_in(table: &TableFacts) -> bool {
    heaps(table).next().is_some()
}

/// What is remembered once a vacuum has counted, and not ANALYZE, and found few dead rows: none where that is not so of all
/// parts. What ANALYZE counts later, and has not died since, is what that vacuum has left.
pub(super) fn seen(table: &TableFacts, is_dead: impl Fn(&Heap) -> bool) -> Option<Memory> {
    let is_clean = |heap: &Heap| {
        let by_vacuum = heap.last_vacuum.is_some() && heap.last_vacuum >= heap.last_analyze;
        by_vacuum && !is_dead(heap)
    };
    if !is_in(table) || !heaps(table).all(is_clean) {
        return None;
    }
    let seen = heaps(table).map(|heap| (heap.oid.to_string(), json!(heap.changed)));
    Some(Memory {
        key: key(table),
        value: Value::Object(seen.collect()),
    })
}

/// How many rows may have died since it was vacuumed; none where nobody knows, as where the server counts anew.
pub(super) fn died_since(table: &TableFacts, heap: &Heap, at: &Moment) -> Option<i64> {
    let then = at.memories.get(&key(table))?;
    let then = then.get(heap.oid.to_string())?.as_i64()?;
    (heap.uncleaned && heap.changed >= then).then(|| heap.changed - then)
}

/// Why no vacuum helps.
pub(super) fn reason(reason: &str) -> String {
    format!(
        "{reason}; but `vacuum_index_cleanup` is off, and they are what the last vacuum has left of dead rows"
    )
}

/// What is told of it.
pub(super) fn finding(table: &TableFacts) -> Finding {
    let name = &table.name;
    let (of, reset) = match heaps(table).any(|heap| heap.oid == table.heap.oid) {
        true => ("", "vacuum_index_cleanup"),
        false => (" of its TOAST table", "toast.vacuum_index_cleanup"),
    };
    Finding {
        code: "vacuum.uncleaned".to_owned(),
        severity: Severity::Info,
        object: name.to_string(),
        message: format!(
            "the dead rows{of} that the server counts in {name} are gone but for what points at them: its storage parameter `{reset}` is off, so no VACUUM removes that, whoever reads what. It takes 4 bytes a row, and its place in the indexes. Have one clean the indexes now and then, or take the parameter away (ALTER TABLE {name} RESET ({reset}))"
        ),
        suggestion: Some(format!("VACUUM (INDEX_CLEANUP ON) {name}")),
    }
}
