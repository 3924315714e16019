//! How the migrations that a history has had compare with those that this program knows, the same
//! for every place it is kept in.

use sqlx::migrate::Migrator;

use super::{HistoryError, Place};

/// Whether a migration of `known` is not among the applied ones, wherever it
/// stands: two branches of this program may have numbered theirs in any order.
///
/// # Errors
///
/// [`HistoryError::NewerSchema`] where one was applied that is not known.
pub(super) fn is_behind(
    known: &Migrator,
    applied: &[i64],
    place: impl FnOnce() -> Place,
) -> Result<bool, HistoryError> {
    let versions = || known.iter().map(|migration| migration.version);
    let strange = |one: &&i64| !versions().any(|version| version == **one);
    if let Some(found) = applied.iter().rfind(strange) {
        return Err(HistoryError::NewerSchema {
            place: place(),
            found: *found,
            known: versions().max().unwrap_or(0),
        });
    }
    Ok(versions().any(|version| !applied.contains(&version)))
}
