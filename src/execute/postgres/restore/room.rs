//! Whether a partitioned table has partitions for what is to come back, and a partition takes it: by what
//! manifests say of their oldest and newest rows, and what the catalog says of the partitions. What these do not
//! tell is named, and seen by the restore itself.

use super::refused::{no_room, outside};
use super::site::{Site, knows_its_zone};
use crate::engines::EngineError;
use crate::engines::parquet::Column;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::plan::Manifest;

/// What is known before rows come back of whether each has a place in the table.
#[derive(Debug)]
pub enum Places {
    /// Nothing keeps them out that the catalog tells.
    Enough,
    /// Why some of them have none.
    Lacking(EngineError),
    /// What only the restore itself sees, as a sentence without its end.
    Unseen(String),
}

/// How tables above it are partitioned, where it is a partition.
const ABOVE: &str = "SELECT DISTINCT pg_catalog.pg_get_partkeydef(p.partrelid) FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid) a
    JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.relid WHERE a.relid <> $1::pg_catalog.oid";

/// The conditions on rows of its partitions, as the server writes them, as far down as all is partitioned by the key
/// `$2`; with the name and the key of what is partitioned by another. What has no partition to take a row is left out.
const TAKES: &str = "WITH RECURSIVE down AS (
        SELECT c.oid, c.relkind, CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END AS key
            FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid
        UNION ALL
        SELECT c.oid, c.relkind, CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END
            FROM down d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid AND NOT i.inhdetachpending
                JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
            WHERE d.key = $2::text)
    SELECT coalesce(pg_catalog.pg_get_partition_constraintdef(d.oid), 'true') AS takes, d.oid::pg_catalog.regclass::text AS name, d.key
    FROM down d WHERE d.key IS DISTINCT FROM $2::text
        AND EXISTS (SELECT FROM pg_catalog.pg_partition_tree(d.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid AND l.relkind <> 'p'
            UNION ALL SELECT WHERE d.key IS NULL)
    ORDER BY name";

/// Whether some of the rows have no place in the table, as far as that can be told.
///
/// # Errors
/// Where the server cannot be asked, or says that it cannot be told.
pub async fn room(
    session: &Session,
    into: &RelationName,
    site: &Site,
    manifests: &[Manifest],
) -> Result<Places, EngineError> {
    let Some(oid) = site
        .oid
        .filter(|_| site.key.is_some() || site.part_of.is_some())
    else {
        return Ok(Places::Enough);
    };
    let unseen = |by: &str| {
        let of = match (&site.part_of, &site.key) {
            (Some(part), None) => {
                format!("{into}, a partition of {}, takes all of them", part.table)
            }
            _ => format!("{into} has a partition for each of them"),
        };
        Ok(Places::Unseen(format!(
            "whether {of} is seen by the restore itself: {by}"
        )))
    };
    let doing = "looking for partitions";
    let mut keys: Vec<String> = site.key.iter().cloned().collect();
    for row in session.query(doing, ABOVE, &[&oid]).await? {
        let key: String = row.get(0)?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let [written] = keys.as_slice() else {
        return unseen(&format!("rows find it by {}", keys.join(" and ")));
    };
    let key = written
        .strip_prefix("RANGE (")
        .and_then(|key| key.strip_suffix(')'));
    let Some(key) = key else {
        return unseen(&format!("rows find it by {written}"));
    };
    let mut moments: Vec<String> = Vec::new();
    let mut of: Option<&Column> = None;
    let mut untold = false;
    for manifest in manifests.iter().filter(|manifest| manifest.rows > 0) {
        let Some(column) = told_by(manifest, key) else {
            untold = true;
            continue;
        };
        of = Some(column);
        for file in manifest.files.iter().filter(|file| file.rows > 0) {
            match &file.span {
                Some((oldest, newest)) => moments.extend([oldest.clone(), newest.clone()]),
                None => untold = true,
            }
        }
    }
    let by_key = format!("rows find it by {written}, of which the manifests say nothing");
    let Some((cast, zone)) = of.and_then(|column| cast_of(&column.pg_type)) else {
        return match untold || of.is_some() {
            true => unseen(&by_key),
            false => Ok(Places::Enough),
        };
    };
    let mut takes = vec!["false".to_owned()];
    let mut further: Vec<(String, String, String)> = Vec::new();
    for row in session.query(doing, TAKES, &[&oid, written]).await? {
        let condition = format!("({})", row.named::<String>("takes")?);
        if let Some(key) = row.named::<Option<String>>("key")? {
            further.push((row.named("name")?, key, condition.clone()));
        }
        takes.push(condition);
    }
    // A span tells whole seconds, in UTC: of each the first and the last moment.
    let exists = |which: &str| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.unnest($1::text[]) AS m (moment)
                WHERE {which} EXISTS (SELECT FROM (VALUES (m.moment || '{zone}'), (m.moment || '.999999{zone}')) AS e (moment)
                    CROSS JOIN LATERAL (SELECT e.moment::{cast} AS {key}) AS r WHERE "
        )
    };
    let sql = format!("SELECT {}{}))", exists("NOT"), takes.join(" OR "));
    let rows = session.query(doing, &sql, &[&moments]).await?;
    if matches!(rows.first().map(|row| row.get(0)), Some(Ok(true))) {
        return Ok(Places::Lacking(match &site.part_of {
            Some(part) if site.key.is_none() => outside(into, part),
            _ => no_room(into, site.key.as_deref(), manifests),
        }));
    }
    for (name, by, condition) in further {
        let sql = format!("SELECT {}{condition}))", exists(""));
        let rows = session.query(doing, &sql, &[&moments]).await?;
        if matches!(rows.first().map(|row| row.get(0)), Some(Ok(true))) {
            return unseen(&format!(
                "rows go into {name}, where they find their partition by {by}"
            ));
        }
    }
    match untold {
        true => unseen(&by_key),
        false => Ok(Places::Enough),
    }
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
