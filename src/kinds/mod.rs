//! What can be done. `ls` is the feature list.

pub mod mongodb;
pub mod postgres;

use crate::plan::KindInfo;

/// What configuration needs to know of every kind.
pub fn catalog() -> Vec<KindInfo> {
    let postgres = postgres::KINDS.iter().map(|entry| entry.info);
    let mongodb = mongodb::KINDS.iter().map(|entry| entry.info);
    postgres.chain(mongodb).collect()
}

/// Whether the rows that runs of this kind count are gone afterwards.
pub fn removes_rows(kind: &str) -> bool {
    catalog()
        .iter()
        .any(|info| info.name == kind && info.removes_rows)
}
