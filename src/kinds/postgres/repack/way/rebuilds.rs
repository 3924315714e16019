//! What follows a table whose rows were moved.

use super::super::Facts;
use super::super::facts::TableFacts;
use super::MOVE;
use crate::kinds::postgres::reindex;
use crate::plan::Step;

/// The rebuilds of the indexes that moved rows have made grow.
pub(in crate::kinds::postgres::repack) fn rebuilds(table: &TableFacts, facts: &Facts) -> Vec<Step> {
    let own = facts.indexes.iter().filter(|i| i.table_oid == table.oid);
    own.filter_map(|index| reindex::rebuild_if_grown(index, facts.version_num))
        .map(|step| {
            step.because(
                "moved rows get new entries in it; it is rebuilt if it has grown by more than a tenth by then",
            )
            .after(MOVE, table.name.to_string())
        })
        .collect()
}
