//! Which column is written with its own value, so that a row moves, and no other value changes.

use super::facts::{ColumnFacts, TableFacts};

/// A column that costs nothing to write: nothing is made from it, few look at
/// it, and it is small.
///
/// A stored generated column is computed anew when what it is made from is written, and each of them where a trigger
/// before the update could have changed anything, whether or not that fires: by functions as they are today.
///
/// # Errors
/// Why no column is.
pub(super) fn to_write(table: &TableFacts) -> Result<&ColumnFacts, String> {
    let columns = || table.columns.iter().filter(|c| !c.dropped);
    let computed: Vec<&str> = columns()
        .filter(|c| c.replaceable)
        .map(|c| c.name.as_str())
        .collect();
    let written = || columns().filter(|c| !c.made);
    let harmless =
        written().filter(|c| computed.is_empty() || !(table.computes_all || c.recomputes));
    let least = harmless.min_by_key(|c| (c.computed_from, c.used, c.length <= 0, c.length));
    least.ok_or_else(|| match written().next() {
        None => "rows cannot be moved: it has no column that can be written".to_owned(),
        Some(_) => format!(
            "rows cannot be moved: whatever is written of one, the server computes {} anew, by functions as they are today, and may store other values than there are",
            computed.join(", ")
        ),
    })
}
