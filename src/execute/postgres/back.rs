//! Whether archived rows are back already: nothing may come twice.

use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session, first};
use crate::plan::{Manifest, Restored};

/// First half of the key of the lock that restores of one archive take: `mnt3`.
const LOCK_CLASS: i32 = 0x6d6e_7433;

/// What is known of rows that were brought back before.
#[derive(Clone, Debug)]
pub enum Back<M> {
    /// They are not back.
    No,
    /// They are.
    Yes(M),
    /// They may be: why that is not known.
    Perhaps(String),
}

impl<M> From<Option<M>> for Back<M> {
    fn from(mark: Option<M>) -> Self {
        mark.map_or(Back::No, Back::Yes)
    }
}

/// Waits, in the transaction that is open and until it ends, for other
/// restores of the same tables into this database.
pub(super) async fn wait_for_turn(
    session: &Session,
    manifests: &[Manifest],
) -> Result<(), EngineError> {
    let mut sources: Vec<&str> = manifests.iter().map(|m| m.source.as_str()).collect();
    // In one order for everybody.
    sources.sort_unstable();
    sources.dedup();
    let doing = "waiting for other restores";
    for source in sources {
        let sql =
            "SELECT pg_catalog.pg_try_advisory_xact_lock($1::int4, pg_catalog.hashtext($2::text))";
        let rows = session.query(doing, sql, &[&LOCK_CLASS, &source]).await?;
        if first(&rows, 0)? == Some(true) {
            continue;
        }
        tracing::warn!(
            table = source,
            "another restore is at work; this one waits until it has ended"
        );
        let sql = "SELECT pg_catalog.pg_advisory_xact_lock($1::int4, pg_catalog.hashtext($2::text))::text";
        session.query(doing, sql, &[&LOCK_CLASS, &source]).await?;
    }
    Ok(())
}

/// The table of that name, whether it holds anything, and this database.
const STANDS: &str = "SELECT pg_catalog.to_regclass($1::text)::oid,
        (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(t.oid)) > 0
            FROM (SELECT pg_catalog.to_regclass($1::text)::oid
                UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1::text))) AS t (oid)),
        (SELECT d.oid::text FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())";

/// Whether rows of a manifest are back in this very table, or were put back
/// into the table that they came from.
///
/// # Errors
/// When the server cannot be asked.
pub async fn is_back(
    session: &Session,
    manifest: &Manifest,
    into: &RelationName,
) -> Result<Back<Restored>, EngineError> {
    let mut perhaps = Back::No;
    for mark in &manifest.restored {
        let here = mark.into == into.to_string();
        if !here && mark.into != manifest.source {
            continue;
        }
        let doing = "looking where an earlier restore went";
        let rows = session.query(doing, STANDS, &[&mark.into]).await?;
        let Some(row) = rows.first() else {
            continue;
        };
        let (oid, holds): (Option<u32>, Option<bool>) = (row.get(0)?, row.get(1)?);
        let Some(oid) = oid else {
            continue;
        };
        // The same id may be another's in another database.
        let (name, id) = mark.database.rsplit_once(' ').unwrap_or_default();
        let named = name == session.server.database;
        let same = id == row.get::<String>(2)?;
        if !named && !same {
            continue;
        }
        if named && (same || oid == mark.oid) {
            let fate =
                super::settle::fate(session, &mark.transaction, mark.server.as_deref()).await;
            match fate.as_ref().map(Option::as_deref) {
                Ok(Some("aborted")) => continue,
                Ok(Some("committed") | None) | Err(_) => {}
                // A failover, or a restore of the server, may have undone it.
                Ok(Some(why)) => {
                    perhaps = Back::Perhaps(format!(
                        "on {} it went into {}, and whether it is there still is not known: {why}",
                        mark.at.format("%Y-%m-%d"),
                        mark.into
                    ));
                    continue;
                }
            }
        }
        if named && oid == mark.oid {
            return Ok(Back::Yes(mark.clone()));
        }
        // A table that was made anew and holds nothing has none of the rows.
        if here && holds != Some(true) {
            continue;
        }
        let what = match named {
            true => "that is another table now, which may have its rows".to_owned(),
            false => format!("of the database {name}, which may be this one"),
        };
        perhaps = Back::Perhaps(format!(
            "on {} it went into {}, and {what}",
            mark.at.format("%Y-%m-%d"),
            mark.into
        ));
    }
    Ok(perhaps)
}
