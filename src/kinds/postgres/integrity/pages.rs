//! What pages say: tables and indexes as amcheck reads them, and indexes that are invalid.

use super::options::{Integrity, Level};
use super::order::{Candidate, Class};
use super::{Facts, located};
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::Selection;
use crate::kinds::postgres::half_built;
use crate::plan::{Finding, Place, Plan, Severity, Step};

impl Integrity {
    /// What pages say: amcheck.
    pub(super) fn pages(&self, facts: &Facts, candidates: &mut Vec<Candidate>, plan: &mut Plan) {
        plan.findings.extend(facts.amcheck.missing(&facts.role));
        if !facts.amcheck.usable() {
            return;
        }
        let mut level = self.amcheck;
        if level == Level::Full && facts.replica_missing {
            level = Level::Light;
            plan.findings.push(Finding {
                code: "integrity.no_replica".to_owned(),
                severity: Severity::Info,
                object: "amcheck".to_owned(),
                message: "no replica could be used: `amcheck: full` would burden the primary, so it looks only as closely as `light`".to_owned(),
                suggestion: None,
            });
        }
        for finding in facts.amcheck.in_the_way(level, self.parent_check) {
            plan.undone(finding);
        }
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        // On the primary alone where a replica would do, heavy work is left out.
        let level_at = |place: Place| match place {
            Place::Primary if facts.replica.is_some() => level.min(Level::Light),
            _ => level,
        };
        let tables = facts.tables.iter().filter(|t| {
            selection.covers(&t.name)
                && t.filled
                && !(t.unlogged && facts.in_recovery)
                && facts.amcheck.reads_tables()
        });
        for table in tables {
            let place = self.place(facts, table.unlogged);
            let step = Step::new(
                "check_table",
                table.name.to_string(),
                format!("pages {}", table.oid),
            )
            .while_there(
                table.oid,
                &table.name,
                "the table has vanished, or has another name by now",
            );
            let at_level = level_at(place);
            let check = facts.amcheck.table(table, at_level);
            candidates.push(
                Candidate::new(
                    Class::Table,
                    located(step, check, place),
                    facts.identities.of(&[table.oid], &[]),
                    table.bytes,
                    "damaged pages".to_owned(),
                )
                .at(at_level),
            );
        }
        for index in &facts.indexes {
            // A view that was never filled has nothing to look at.
            if !index.filled
                || (index.unlogged && facts.in_recovery)
                || !selection.covers_any(&[&index.name, &index.table])
            {
                continue;
            }
            let mut parts = vec![(false, self.place(facts, index.unlogged))];
            // That takes a lock that only a primary can give.
            if self.parent_check && !facts.in_recovery && index.method == "btree" {
                parts.push((true, Place::Primary));
            }
            for (parent, place) in parts {
                let at_level = level_at(place);
                let Some(check) = facts.amcheck.index(index, at_level, parent) else {
                    continue;
                };
                let action = if parent {
                    "check_index_levels"
                } else {
                    "check_index"
                };
                let step = Step::new(
                    action,
                    index.name.to_string(),
                    format!("pages {}", index.oid),
                )
                .locking(index.table_oid)
                .while_there(
                    index.oid,
                    &index.name,
                    "the index has vanished, or has another name by now",
                );
                // amcheck itself works as the owner; the keys are counted as we are.
                let step = match index.unique_keys {
                    Some(_) => step.touching(index.table_oid, Use::Read),
                    None => step,
                };
                candidates.push(
                    Candidate::new(
                        Class::Index,
                        located(step, check, place),
                        facts.identities.of(&[index.oid], &[index.table_oid]),
                        index.bytes,
                        "damaged pages".to_owned(),
                    )
                    .at(at_level),
                );
            }
        }
        if self.catalogs {
            for (object, check) in facts.amcheck.catalogs() {
                let step = Step::new("check_catalogs", object, object);
                let place = self.place(facts, false);
                candidates.push(Candidate::new(
                    Class::Catalog,
                    located(step, check, place),
                    facts.identities.of_text(object),
                    0,
                    "damaged pages".to_owned(),
                ));
            }
        }
    }

    /// Indexes that help no query, and what helps.
    pub(super) fn invalid(&self, facts: &Facts, plan: &mut Plan) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        for index in &facts.indexes {
            if index.valid
                || index.in_progress
                || !selection.covers_any(&[&index.name, &index.table])
            {
                continue;
            }
            let (message, suggestion) = match &index.parts {
                // Rebuilt, it would be a second index like the one it was to replace.
                None if index.half_built => (
                    "is invalid: a concurrent rebuild that failed left it. It costs every write and helps no query; `maint run reindex` removes it, too"
                        .to_owned(),
                    Some(format!("DROP INDEX CONCURRENTLY {}", index.name)),
                ),
                None if index.twin.is_some() => (
                    format!(
                        "is invalid: it costs every write and helps no query. {}",
                        half_built::redundant(index.twin.as_deref().unwrap_or_default())
                    ),
                    Some(format!("DROP INDEX CONCURRENTLY {}", index.name)),
                ),
                None if index.unique => (
                    format!(
                        "is invalid: a build of it failed. It costs every write, keeps no keys apart and helps no query. {}",
                        half_built::TWICE
                    ),
                    None,
                ),
                None => (
                    "is invalid: a build of it failed. It costs every write and helps no query"
                        .to_owned(),
                    Some(format!("REINDEX INDEX CONCURRENTLY {}", index.name)),
                ),
                Some(parts) => parts.mended(&index.name),
            };
            plan.findings.push(Finding {
                code: "index.invalid".to_owned(),
                severity: Severity::Warning,
                object: index.name.to_string(),
                message: format!("{} on {} {message}", index.name, index.table),
                suggestion,
            });
        }
    }
}
