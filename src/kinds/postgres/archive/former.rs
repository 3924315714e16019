//! Other names that a target had: what was archived under them is of the database still.
//!
//! A copy of a database has its system identifier, its ids and its archives' rows, and what it says
//! of them must never become of the archive. Only a server that has run without a break since the
//! last batch is the one that the batch left, whatever it is called; else a person says it.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::super::retention::facts::Table;
use super::Facts;
use crate::plan::{Finding, Manifest, Moment, Severity, archived};
use crate::values::several;

/// Names under which this very database was archived from before, and the moment with what is
/// remembered under them.
pub(super) fn known<'a>(at: &'a Moment, facts: &Facts) -> (Cow<'a, Moment>, Vec<String>) {
    let mut all = Cow::Borrowed(at);
    let mut names = Vec::new();
    for (name, memories) in &at.former {
        if !is_here(memories, facts) {
            continue;
        }
        names.push(name.clone());
        let known = &mut all.to_mut().memories;
        for (key, value) in memories {
            let own = known.entry(key.clone()).or_default();
            if own.is_null() {
                own.clone_from(value);
            }
        }
    }
    (all, names)
}

/// Whether the newest batch left this database on this server, which has not stopped since.
fn is_here(memories: &HashMap<String, Value>, facts: &Facts) -> bool {
    let here = &facts.standpoint;
    let all = archived::among::<Manifest>(memories.iter());
    let newest = all.iter().rfind(|m| m.server.is_some());
    newest.is_some_and(|m| {
        m.server.as_deref() == Some(&*here.server)
            && here.has_run_since(m.since.as_deref())
            && m.database.as_deref() == Some(&*facts.database)
            && m.database_oid.is_none_or(|own| own == here.database)
    })
}

/// Tells of names under which this database, or another with the same system identifier, was
/// archived from, until something was archived under the name that it has now.
pub(super) fn perhaps(
    at: &Moment,
    known: &[String],
    target_has_batches: bool,
    table: &Table,
    facts: &Facts,
) -> Vec<Finding> {
    if target_has_batches {
        return Vec::new();
    }
    let system = |server: &str| server.split('/').next().map(str::to_owned);
    let here = system(&facts.standpoint.server);
    let source = table.name.to_string();
    let others = at.former.iter().filter(|(name, _)| !known.contains(name));
    let told = others.filter_map(|(name, memories)| {
        let mut all = archived::among::<Manifest>(memories.iter());
        all.retain(|m| {
            (m.source == source || m.oid == Some(table.oid))
                && m.database.as_ref().is_none_or(|of| *of == facts.database)
                && m.server.as_deref().and_then(system) == here
        });
        (!all.is_empty()).then(|| finding(name, &all, &source))
    });
    told.collect()
}

fn finding(name: &str, all: &[Manifest], source: &str) -> Finding {
    let rows: i64 = all.iter().map(|m| m.rows).sum();
    let pending = match all.iter().filter(|m| !m.settled).count() {
        0 => String::new(),
        some => format!("; of {some} batches it is not known whether their rows have left"),
    };
    Finding {
        code: "archive.other_name".to_owned(),
        severity: Severity::Warning,
        object: source.to_owned(),
        message: format!(
            "{} of {source} {} archived under the target name {name}, which is not configured any more, from this database or one that it was copied from{pending}. The server was started anew since, or is another one, so that nobody can tell which: those archives were left alone, and rows of theirs that are in the table again are archived again. If it is the same database by another name, say so before that: `maint archive adopt {name} --target NAME`. If it is a copy, nothing is to be done",
            several(rows, "row"),
            if rows == 1 { "was" } else { "were" }
        ),
        suggestion: None,
    }
}
