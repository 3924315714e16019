//! Archives of a database that was there under the same name before the one that is there now: dropped and made anew,
//! as tenants are. Its rows are another's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::archived::{Archived, Known};
use super::manifests::KIND;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::engines::postgres::timeline::Standpoint;
use crate::plan::{Looked, Manifest};
use crate::report::text::{counted, counted_rows, shown};

/// The server and the database that rows came from, where the manifest says both: another server may have the
/// same database, under another id.
fn origin(manifest: &Manifest) -> Option<(&str, u32)> {
    let system = manifest.server.as_deref()?.split('/').next()?;
    let database = manifest.database_oid?;
    (!system.is_empty()).then_some((system, database))
}

/// Whether rows came from another database of this very server.
fn is_former(manifest: &Manifest, here: &Standpoint) -> bool {
    here.is_of(manifest.server.as_deref())
        && origin(manifest).is_some_and(|(_, database)| database != here.database)
}

/// Those of the database that is there now, and those of one that had its name before.
pub(super) fn apart(found: Vec<Manifest>, here: &Standpoint) -> (Vec<Manifest>, Vec<Manifest>) {
    found.into_iter().partition(|m| !is_former(m, here))
}

/// Refuses what came from several databases of one server, one after the other, where nobody says which is meant.
pub(super) fn of_one_database(found: &[Manifest]) -> Result<(), Failure> {
    let mut all: BTreeMap<(&str, u32), (usize, i64)> = BTreeMap::new();
    for manifest in found {
        if let Some(origin) = origin(manifest) {
            let of = all.entry(origin).or_default();
            *of = (of.0 + 1, of.1 + manifest.rows);
        }
    }
    let systems: BTreeSet<&str> = all.keys().map(|(system, _)| *system).collect();
    let each = |of: &str| -> Vec<String> {
        let of = all.iter().filter(|((system, _), _)| *system == of);
        of.map(|((_, database), (archives, rows))| {
            format!(
                "{} with {} of the database with the id {database}",
                counted(*archives, "archive"),
                counted_rows(*rows, "row")
            )
        })
        .collect()
    };
    match systems.into_iter().map(each).find(|one| one.len() > 1) {
        None => Ok(()),
        Some(several) => Err(Failure::Usage(format!(
            "these archives came from databases that had the same name one after the other: {}\n  hint: choose ids, `maint archive list --output json` shows each one's `database_oid`; if they are one and the same database, put back from a dump, `--former` brings them all",
            several.join(", ")
        ))),
    }
}

/// What is told of those that are left out.
pub(super) fn left_out(former: &[Manifest], how: &str) -> Option<String> {
    let first = former.first()?;
    let rows = former.iter().map(|m| m.rows).sum();
    Some(format!(
        "{} with {} {how}: what {} was before is another database, and this one was made anew since; if it is the same, put back from a dump, `--former` brings them",
        counted(former.len(), "archive"),
        counted_rows(rows, "row"),
        first
            .target
            .as_deref()
            .map_or("the target".into(), |name| shown(name).into_owned()),
    ))
}

/// Of which database each target is now, as far as the history knows without asking anybody.
#[derive(Default)]
pub(super) struct Now(HashMap<String, (String, u32)>);

impl Now {
    /// From the newest archive of each target, and from where its runs have looked since.
    pub(super) async fn read(context: &Context<'_>, found: &[Known]) -> Result<Now, Failure> {
        let config = context.config().await?;
        let store = crate::history::open_existing(config.history.expose()).await?;
        let mut now = Now::default();
        let names: BTreeSet<&String> = found.iter().filter_map(|(name, _)| name.as_ref()).collect();
        for name in names {
            let memories = store.memories(name, KIND).await?;
            if let Some(origin) = newest(name, found, &memories) {
                now.0.insert(name.clone(), origin);
            }
        }
        store.close().await;
        Ok(now)
    }

    /// Whether an archive is of a database that its target was before.
    pub(super) fn is_former(&self, (target, archived): &Known) -> bool {
        let now = target.as_ref().and_then(|name| self.0.get(name));
        let Archived::Rows(manifest) = archived else {
            return false;
        };
        match (now, origin(manifest)) {
            (Some((system, now)), Some((of, then))) => system == of && *now != then,
            _ => false,
        }
    }

    /// Tells of those that are.
    pub(super) fn tell(&self, found: &[Known]) {
        let mut all: BTreeMap<&String, (usize, i64)> = BTreeMap::new();
        for known in found.iter().filter(|known| self.is_former(known)) {
            if let (Some(name), archived) = known {
                let of = all.entry(name).or_default();
                *of = (of.0 + 1, of.1 + archived.rows());
            }
        }
        for (name, (archives, rows)) in all {
            outln!(
                "{archives} of them, {}, of a database that {} was before, and was made anew since: `maint archive restore` leaves them out; `--former` brings them",
                counted_rows(rows, "row"),
                shown(name)
            );
        }
    }
}

fn newest(
    target: &String,
    found: &[Known],
    memories: &HashMap<String, Value>,
) -> Option<(String, u32)> {
    let of = found.iter().filter_map(|(name, archived)| match archived {
        Archived::Rows(manifest) if name.as_ref() == Some(target) => Some(manifest.as_ref()),
        _ => None,
    });
    let mut of: Vec<&Manifest> = of.collect();
    of.sort_by_key(|manifest| manifest.id);
    let (system, database) = of.iter().rev().find_map(|manifest| origin(manifest))?;
    // One that nothing was archived from yet.
    let seen = of.iter().filter_map(|manifest| {
        let looked = Looked::among(&manifest.source, memories)?;
        let here = looked.server.split('/').next() == Some(system) && looked.database != 0;
        here.then_some(looked.database)
    });
    let archived = |database: u32| {
        let mut all = of.iter().filter_map(|manifest| origin(manifest));
        all.any(|origin| origin == (system, database))
    };
    let new = seen.into_iter().find(|database| !archived(*database));
    Some((system.to_owned(), new.unwrap_or(database)))
}
