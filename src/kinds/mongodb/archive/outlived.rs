//! Documents that the server lets expire before it is their turn to be archived.

use chrono::{DateTime, TimeDelta, Utc};
use mongodb::bson::doc;

use super::super::cleanup;
use super::super::cleanup::rule::Rule;
use super::super::common::{Collection, Index};
use crate::engines::mongodb::namespace;
use crate::plan::mongodb::{shell_document, shell_text};
use crate::plan::{Finding, Gone, Severity};
use crate::values::{TimeSpan, several};

/// The longest time after which a server lets documents expire, in seconds: about 68 years.
const LONGEST: i64 = i32::MAX as i64;

/// What is said of rules whose documents expire first; `own` is the target's database.
pub(super) fn told(
    rules: &[Rule],
    facts: &cleanup::Facts,
    own: &str,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let one = |rule: &Rule| {
        let database = rule.database.as_deref().unwrap_or(own);
        let collection = facts.collection(database, &rule.collection)?;
        of_rule(rule, database, collection, now)
    };
    rules.iter().filter_map(one).collect()
}

fn of_rule(
    rule: &Rule,
    database: &str,
    collection: &Collection,
    now: DateTime<Utc>,
) -> Option<Finding> {
    // Numbers never expire.
    let field = rule.field.as_deref().filter(|_| rule.epoch.is_none())?;
    let after = rule.ages(Gone::Kept)?.after;
    let is_earlier = |index: &&Index| {
        let is_on = index.keys.len() == 1 && index.keys.first().is_some_and(|key| key.0 == field);
        let expires = index.expires.filter(|of| of.is_finite() && *of >= 0.0);
        let expires = expires.and_then(|of| TimeDelta::try_seconds((of as i64).min(LONGEST)));
        is_on && expires.is_some_and(|of| now - of >= after.before(now))
    };
    let index = collection.indexes.iter().find(is_earlier)?;
    let seconds = index.expires.unwrap_or_default() as u64;
    let expires = match (seconds, seconds % 86_400) {
        (0, _) => "as soon as that time has come".to_owned(),
        (_, 0) => format!("{} later", several((seconds / 86_400) as i64, "day")),
        _ => format!("{} later", TimeSpan::from_secs(seconds)),
    };
    let some = match index.partial {
        true => "some documents expire",
        false => "documents expire",
    };
    let whole = namespace(database, &rule.collection);
    let end = doc! {
        "collMod": &rule.collection,
        "index": { "name": &index.name, "expireAfterSeconds": LONGEST as i32 },
    };
    Some(Finding {
        code: "archive.expires".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "{some} by the TTL index `{}` on `{field}`, {expires}, and the archive takes only what is older than {after}: by then they are gone, and nothing of them was kept. Archive them earlier, or let them expire later",
            index.name
        ),
        object: whole,
        suggestion: Some(format!(
            "db.getSiblingDB({}).runCommand({})",
            shell_text(database),
            shell_document(&end)
        )),
    })
}
