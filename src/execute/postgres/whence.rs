//! The table that a batch of archived rows came from, as it is now.

use super::Job;
use crate::engines::EngineError;
use crate::engines::postgres::timeline::Standpoint;
use crate::plan::Manifest;

/// A table that is there.
pub(super) struct Source {
    pub(super) oid: u32,
    /// Quoted and qualified.
    pub(super) name: String,
    /// Its size, with that of its partitions.
    pub(super) bytes: i64,
    /// Whether the rows left another one, by its id.
    pub(super) is_another: bool,
}

/// The first of these that is a table: each by its id, or by its name.
const TABLE: &str = "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname),
        (SELECT pg_catalog.sum(pg_catalog.pg_table_size(t.oid)) FROM (SELECT c.oid
            UNION SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(c.oid::regclass) p) AS t (oid))::int8
    FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS k (id, name, place)
        JOIN pg_catalog.pg_class c ON c.oid = coalesce(k.id, pg_catalog.to_regclass(k.name)::oid)
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p')
    ORDER BY k.place LIMIT 1";

/// Finds it. Where `root` says which table is looked at, its partition of that name, or all of it:
/// the table that the rows left may stand beside one that was put in its place. Else the table that
/// they left, by its id, whatever it is called by now; in another database the id is another's.
pub(super) async fn table_of(
    manifest: &Manifest,
    root: Option<u32>,
    job: Job<'_>,
) -> Result<Option<Source>, EngineError> {
    let here = Standpoint::of(job.session).await?;
    let own = manifest.own().filter(|_| manifest.is_of(&here));
    let whole = manifest.oid.filter(|_| manifest.is_of(&here));
    let part = Some(&*manifest.table).filter(|_| manifest.table != manifest.source);
    let wanted: Vec<(Option<u32>, Option<&str>)> = match root {
        Some(root) => vec![
            (None, part),
            (own.filter(|_| part.is_some()), None),
            (Some(root), None),
        ],
        None => vec![
            (own, None),
            (None, Some(&*manifest.table)),
            (whole, None),
            (None, Some(&*manifest.source)),
        ],
    };
    let (ids, names): (Vec<Option<u32>>, Vec<Option<&str>>) = wanted.into_iter().unzip();
    let doing = "looking for the table of archived rows";
    let found = job.session.query(doing, TABLE, &[&ids, &names]).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let oid = row.get(0)?;
    Ok(Some(Source {
        oid,
        name: row.get(1)?,
        bytes: row.get(2)?,
        is_another: manifest.left_another(root, oid),
    }))
}
