//! Labels that an enum has lost since rows with them were archived: looked for in the files, one after the other, so
//! that no more than one is in memory.

use std::collections::{BTreeSet, HashMap};

use super::super::returning::lost_labels;
use super::site::Site;
use crate::engines::EngineError;
use crate::engines::parquet::rows;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::engines::storage::Storage;
use crate::plan::Manifest;

/// What was found of labels.
#[derive(Debug, Default)]
pub struct Labels {
    /// Why some of the rows would be refused, for a label that their column does not have.
    pub lost: Option<EngineError>,
    /// What was not looked at, as sentences without their end.
    pub unseen: Vec<String>,
}

/// Enums, and what is made of enums: arrays of them, domains over them.
const LABELS: &str = "SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, t.typtype = 'e' AS itself,
        ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid) AS labels
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND (t.typtype = 'e' OR EXISTS (SELECT FROM pg_catalog.pg_type u
        WHERE u.oid IN (t.typelem, t.typbasetype) AND (u.typtype = 'e' OR EXISTS (SELECT FROM pg_catalog.pg_type v
            WHERE v.oid IN (u.typelem, u.typbasetype) AND v.typtype = 'e'))))";

/// Whether some of the rows would be refused for a label that their column does not have, as far as files say.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn lost(
    session: &Session,
    into: &RelationName,
    site: &Site,
    manifests: &[Manifest],
) -> Result<Labels, EngineError> {
    let mut looked = Labels::default();
    let Some(oid) = site.oid else {
        return Ok(looked);
    };
    let mut enums: HashMap<String, (String, Vec<String>)> = HashMap::new();
    let doing = "looking for enums";
    for row in session.query(doing, LABELS, &[&oid]).await? {
        let (name, pg_type): (String, String) = (row.named("name")?, row.named("type")?);
        let mut archived = manifests.iter().flat_map(|m| &m.columns);
        if site.computed.contains(&name) || !archived.any(|column| column.name == name) {
            continue;
        }
        if row.named("itself")? {
            enums.insert(name, (pg_type, row.named("labels")?));
            continue;
        }
        looked.unseen.push(format!(
            "whether column {} of {into} ({pg_type}) has all labels of the rows is seen by the restore itself",
            Identifier::new(&*name)
        ));
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
            looked.unseen.push(format!(
                "whether {into} has all labels of the rows of {} is seen by the restore itself: the files could not be read",
                manifest.id
            ));
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
                looked.lost = Some(lost_labels(into, &quoted, pg_type, &from, &gone));
                return Ok(looked);
            }
        }
    }
    Ok(looked)
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
