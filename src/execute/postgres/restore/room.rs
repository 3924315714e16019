//! Whether a partitioned table has partitions for what is to come back, and a partition takes it: by what
//! manifests say of their oldest and newest rows, and what the catalog says of the partitions. What these do not
//! tell is seen by the restore itself.

use super::refused::{no_room, outside};
use super::site::{Site, knows_its_zone};
use crate::engines::EngineError;
use crate::engines::parquet::Column;
use crate::engines::postgres::{Identifier, RelationName, Session, each};
use crate::plan::Manifest;

/// The keys of a table, of what is below it, and of what is above it, as they are written, and the conditions on
/// rows of its leaves, as the server writes them.
const KEYS: &str = "SELECT DISTINCT pg_catalog.pg_get_partkeydef(p.partrelid) FROM pg_catalog.pg_partitioned_table p
    WHERE p.partrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid)
        UNION SELECT relid FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid))";

const LEAVES: &str = "SELECT coalesce(pg_catalog.pg_get_partition_constraintdef(t.relid), 'true')
    FROM (SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid) WHERE isleaf
        UNION SELECT $1::pg_catalog.oid) AS t JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind <> 'p'";

/// Why some of the rows have no place in the table, if that can be told.
///
/// # Errors
/// Where the server cannot be asked, or says that it cannot be told.
pub async fn lacking(
    session: &Session,
    into: &RelationName,
    site: &Site,
    manifests: &[Manifest],
) -> Result<Option<EngineError>, EngineError> {
    let Some(oid) = site
        .oid
        .filter(|_| site.key.is_some() || site.part_of.is_some())
    else {
        return Ok(None);
    };
    let doing = "looking for partitions";
    let keys = session.query(doing, KEYS, &[&oid]).await?;
    let keys: Vec<String> = each(&keys, |row| row.get(0))?;
    let [key] = keys.as_slice() else {
        return Ok(None);
    };
    let Some(key) = key
        .strip_prefix("RANGE (")
        .and_then(|k| k.strip_suffix(')'))
    else {
        return Ok(None);
    };
    let mut moments: Vec<String> = Vec::new();
    let mut of: Option<&Column> = None;
    for manifest in manifests {
        let Some(column) = told_by(manifest, key) else {
            continue;
        };
        of = Some(column);
        let spans = manifest.files.iter().filter(|file| file.rows > 0);
        let spans = spans.filter_map(|file| file.span.as_ref());
        moments.extend(spans.flat_map(|(oldest, newest)| [oldest.clone(), newest.clone()]));
    }
    let Some(column) = of else {
        return Ok(None);
    };
    let leaves = session.query(doing, LEAVES, &[&oid]).await?;
    let mut leaves: Vec<String> = each(&leaves, |row| {
        row.get::<String>(0).map(|c| format!("({c})"))
    })?;
    leaves.push("false".to_owned());
    let Some((cast, zone)) = cast_of(&column.pg_type) else {
        return Ok(None);
    };
    // A span tells whole seconds, in UTC: of each the first and the last moment.
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.unnest($1::text[]) AS m (moment)
            WHERE NOT EXISTS (SELECT FROM (VALUES (m.moment || '{zone}'), (m.moment || '.999999{zone}')) AS e (moment)
                CROSS JOIN LATERAL (SELECT e.moment::{cast} AS {key}) AS r WHERE {}))",
        leaves.join(" OR ")
    );
    let rows = session.query(doing, &sql, &[&moments]).await?;
    if !matches!(rows.first().map(|row| row.get(0)), Some(Ok(true))) {
        return Ok(None);
    }
    Ok(Some(match &site.part_of {
        Some(part) if site.key.is_none() => outside(into, part),
        _ => no_room(into, site.key.as_deref(), manifests),
    }))
}

/// The type to read a moment as, and the zone to write behind it. A manifest may say anything: nothing of it goes into
/// a statement as it is.
fn cast_of(pg_type: &str) -> Option<(&'static str, &'static str)> {
    let of_moments = pg_type.starts_with("timestamp");
    match pg_type {
        "date" => Some(("date", "")),
        _ if of_moments && pg_type.ends_with(" with time zone") => Some(("timestamptz", "+00")),
        _ if of_moments && pg_type.ends_with(" without time zone") => Some(("timestamp", "")),
        _ => None,
    }
}

/// The column of a manifest that its spans are of, where that is the key.
fn told_by<'a>(manifest: &'a Manifest, key: &str) -> Option<&'a Column> {
    let quoted = |column: &Column| Identifier::new(&*column.name).to_string();
    let times = || {
        manifest
            .columns
            .iter()
            .filter(|c| knows_its_zone(&c.pg_type).is_some() && !c.list)
    };
    let column = times().find(|column| quoted(column) == key)?;
    let by_rule = manifest
        .condition
        .starts_with(&format!("{} before ", column.name));
    (by_rule || times().count() == 1).then_some(column)
}
