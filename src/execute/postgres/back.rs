//! Whether archived rows are back already: nothing may come twice.

use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session, each, first};
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

/// The table of that name, whether it holds anything, this database, and whether there is one of that id.
const STANDS: &str = "SELECT pg_catalog.to_regclass($1::text)::oid AS named_so,
        (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(t.oid)) > 0
            FROM (SELECT pg_catalog.to_regclass($1::text)::oid
                UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1::text))) AS t (oid)) AS holds,
        (SELECT d.oid::text FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) AS database,
        EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $2::oid) AS there";

/// Whether a table is one of those of these ids or names, or a part of one of them, or one that they are parts of:
/// partitions and children, at any depth. What is in the one is read with the other.
const KIN: &str = "WITH RECURSIVE above (oid) AS (SELECT $1::oid
            UNION SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid),
        below (oid) AS (SELECT $1::oid
            UNION SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid)
    SELECT EXISTS (SELECT FROM (SELECT o.oid FROM pg_catalog.unnest($2::oid[]) AS o (oid)
                UNION ALL SELECT pg_catalog.to_regclass(n.name)::oid FROM pg_catalog.unnest($3::text[]) AS n (name)) AS other
            JOIN (SELECT above.oid FROM above UNION ALL SELECT below.oid FROM below) AS kin ON kin.oid = other.oid)";

/// Asks it.
async fn is_kin(
    session: &Session,
    oid: u32,
    oids: &[u32],
    names: &[&str],
) -> Result<bool, EngineError> {
    let doing = "looking what the table is a part of";
    let rows = session.query(doing, KIN, &[&oid, &oids, &names]).await?;
    Ok(first(&rows, 0)? == Some(true))
}

/// Whether a table is the one that rows of a manifest came from, by its id or its name, or a part of it, or
/// one that it is a part of: the task archives them from there again.
pub(super) async fn is_home(
    session: &Session,
    oid: u32,
    manifest: &Manifest,
) -> Result<bool, EngineError> {
    let oids: Vec<u32> = ids(session, manifest).collect();
    is_kin(session, oid, &oids, &[&manifest.source, &manifest.table]).await
}

const TABLES: &str =
    "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::oid[]) ORDER BY c.oid";

/// Whether one of these tables, by its id or its name, is one of which some may read only a part.
const CONFINED: &str = "SELECT EXISTS (SELECT FROM (SELECT o.oid FROM pg_catalog.unnest($1::oid[]) AS o (oid)
            UNION ALL SELECT pg_catalog.to_regclass(n.name)::oid FROM pg_catalog.unnest($2::text[]) AS n (name)) AS source
        JOIN pg_catalog.pg_class c ON c.oid = source.oid
    WHERE c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL))";

/// Whether a table that the rows came from is here, and some may read only a part of it: row-level security hides
/// rows, or they may read some of its columns.
pub(super) async fn is_confined(
    session: &Session,
    manifests: &[Manifest],
) -> Result<bool, EngineError> {
    let oids: Vec<u32> = manifests.iter().flat_map(|m| ids(session, m)).collect();
    let names: Vec<&str> = manifests
        .iter()
        .flat_map(|m| [m.source.as_str(), m.table.as_str()])
        .collect();
    shows_some_only(session, &oids, &names).await
}

/// The same of tables by their ids and names.
pub(super) async fn shows_some_only(
    session: &Session,
    oids: &[u32],
    names: &[&str],
) -> Result<bool, EngineError> {
    let doing = "looking who may read the rows";
    let rows = session.query(doing, CONFINED, &[&oids, &names]).await?;
    Ok(first(&rows, 0)? == Some(true))
}

/// The ids of the tables that the rows came from, of those that are here.
pub(super) async fn tables(
    session: &Session,
    manifests: &[Manifest],
) -> Result<Vec<u32>, EngineError> {
    let oids: Vec<u32> = manifests.iter().flat_map(|m| ids(session, m)).collect();
    let doing = "looking for the tables that the rows came from";
    let rows = session.query(doing, TABLES, &[&oids]).await?;
    each(&rows, |row| row.get(0))
}

/// The ids of the tables that rows came from, where that was this database: elsewhere they are others'.
fn ids(session: &Session, manifest: &Manifest) -> impl Iterator<Item = u32> {
    let here = &session.server.database;
    let same = manifest.database.as_ref().is_none_or(|of| of == here);
    let whole = manifest.whole.as_ref().map(|whole| whole.oid);
    [manifest.oid, whole]
        .into_iter()
        .flatten()
        .filter(move |_| same)
}

/// Whether rows of a manifest are back in this very table, whatever it was called then, or in a part
/// of it or one that it is a part of; or were put back where they came from. `wholes` are the
/// ids of partitions that were archived and dropped.
///
/// # Errors
/// When the server cannot be asked.
pub async fn is_back(
    session: &Session,
    manifest: &Manifest,
    into: &RelationName,
    wholes: &[u32],
) -> Result<Back<Restored>, EngineError> {
    let into = into.to_string();
    let mut perhaps = Back::No;
    for mark in &manifest.restored {
        let doing = "looking where an earlier restore went";
        let rows = session
            .query(doing, STANDS, &[&mark.into, &mark.oid])
            .await?;
        let Some(row) = rows.first() else {
            continue;
        };
        let (named_so, holds): (Option<u32>, Option<bool>) =
            (row.named("named_so")?, row.named("holds")?);
        // The same id may be another's in another database.
        let (name, id) = mark.database.rsplit_once(' ').unwrap_or_default();
        let named = name == session.server.database;
        let same = id == row.named::<String>("database")?;
        if !named && !same {
            continue;
        }
        let stands = named && same && row.named("there")?;
        let Some(oid) = (if stands { Some(mark.oid) } else { named_so }) else {
            // It left once more, as a whole, and is in the archive of that.
            if named && same && mark.home && wholes.contains(&mark.oid) {
                return Ok(Back::Yes(mark.clone()));
            }
            continue;
        };
        let here = mark.into == into || is_kin(session, oid, &[], &[&into]).await?;
        let home = mark.home || mark.into == manifest.source;
        if !here && !home && !is_home(session, oid, manifest).await? {
            continue;
        }
        if named && (same || oid == mark.oid) {
            let fate = super::known::fate(session, &mark.transaction, mark.server.as_deref()).await;
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
