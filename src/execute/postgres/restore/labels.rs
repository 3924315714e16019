//! Labels that an enum has lost since rows with them were archived: looked for in the files, where these are few
//! enough to be read before anybody asks for the rows.

use std::collections::{BTreeSet, HashMap};

use super::super::returning::lost_labels;
use super::site::Site;
use crate::engines::EngineError;
use crate::engines::parquet::rows;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::engines::storage::Storage;
use crate::plan::Manifest;

/// More bytes of files are read by the restore only.
const MOST_BYTES: i64 = 64 << 20;

const LABELS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
        ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.typtype = 'e'
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";

/// Why some of the rows would be refused for a label that their column does not have, if files say so.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn lost(
    session: &Session,
    into: &RelationName,
    site: &Site,
    manifests: &[Manifest],
) -> Result<Option<EngineError>, EngineError> {
    let Some(oid) = site.oid else {
        return Ok(None);
    };
    let mut enums: HashMap<String, (String, Vec<String>)> = HashMap::new();
    let doing = "looking for enums";
    for row in session.query(doing, LABELS, &[&oid]).await? {
        enums.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
    }
    enums.retain(|name, _| !site.computed.contains(name));
    let bytes: i64 = manifests
        .iter()
        .flat_map(|m| &m.files)
        .map(|f| f.bytes)
        .sum();
    if enums.is_empty() || bytes > MOST_BYTES {
        return Ok(None);
    }
    for manifest in manifests {
        let asked: Vec<usize> = (0..manifest.columns.len())
            .filter(|n| {
                let column = &manifest.columns[*n];
                let there = enums.get(&column.name);
                there.is_some_and(|(pg_type, _)| *pg_type == column.pg_type)
            })
            .collect();
        if asked.is_empty() {
            continue;
        }
        let mut found: Vec<BTreeSet<String>> = vec![BTreeSet::new(); asked.len()];
        let Some(from) = read(manifest, &asked, &mut found).await else {
            continue;
        };
        for (n, values) in asked.iter().zip(&found) {
            let column = &manifest.columns[*n];
            let Some((pg_type, labels)) = enums.get(&column.name) else {
                continue;
            };
            let gone: Vec<&String> = values.iter().filter(|v| !labels.contains(v)).collect();
            if !gone.is_empty() {
                let quoted = Identifier::new(&*column.name).to_string();
                return Ok(Some(lost_labels(into, &quoted, pg_type, &from, &gone)));
            }
        }
    }
    Ok(None)
}

/// Which values the files have in these columns, and where they are; nothing where they cannot be read, which is
/// told by others.
async fn read(
    manifest: &Manifest,
    asked: &[usize],
    found: &mut [BTreeSet<String>],
) -> Option<String> {
    let storage = Storage::open(&manifest.storage).ok()?;
    for file in &manifest.files {
        let content = storage.get(&file.path, file.size()).await.ok()?;
        for row in rows(content, &manifest.columns).ok()? {
            let row = row.ok()?;
            for (n, values) in asked.iter().zip(&mut *found) {
                let value = row.get(*n).and_then(Option::as_deref);
                if let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok())
                    && !values.contains(value)
                {
                    values.insert(value.to_owned());
                }
            }
        }
    }
    Some(storage.full(&manifest.path()))
}
