//! What keeps a result from being made, as it is told.

use std::collections::BTreeMap;

use super::pipeline::Lacking;
use super::{Aggregation, Facts};
use crate::engines::mongodb::namespace;
use crate::plan::mongodb::{Body, shell_key, shell_name};
use crate::plan::{Finding, Plan, Replaced, Severity};

/// What is known when it is asked whether a result may be made.
pub(super) struct Found<'a> {
    pub(super) facts: &'a Facts,
    /// Why several cannot go into one collection, by that.
    pub(super) clashing: &'a BTreeMap<(String, String), String>,
    /// Results that are made before, each with its name.
    pub(super) made: &'a [((String, String), String)],
}

impl Found<'_> {
    /// Whether anything keeps the result of an aggregation from being made; that is told then.
    pub(super) fn keeps(
        &self,
        aggregation: &Aggregation,
        sources: &[(String, String)],
        into: &(String, String),
        object: &str,
        plan: &mut Plan<Body>,
    ) -> bool {
        let facts = self.facts;
        if let Some(missing) = sources.iter().find(|source| {
            !facts.collections.contains_key(*source) && !self.made.iter().any(|(m, _)| m == *source)
        }) {
            let missing = namespace(&missing.0, &missing.1);
            plan.refuse(object, format!("its source {missing} does not exist"));
            plan.findings.push(Finding {
                code: "refresh.source".to_owned(),
                severity: Severity::Critical,
                object: object.to_owned(),
                message: format!("{object} cannot be made: its source {missing} does not exist"),
                suggestion: None,
            });
            return true;
        }
        let places = sources.iter().chain([into]);
        let spread = places.filter_map(|place| {
            let why = facts.collections.get(place)?.spread.why_not()?;
            Some(format!("{}: {why}", namespace(&place.0, &place.1)))
        });
        if let Some(why) = spread.into_iter().next() {
            plan.undone(Finding {
                code: "refresh.source".to_owned(),
                severity: Severity::Critical,
                message: format!(
                    "{object} was not made, since a part would be taken for the whole. Of {why}"
                ),
                object: object.to_owned(),
                suggestion: None,
            });
            return true;
        }
        let held = facts.collections.get(into);
        let unfit = held.and_then(|held| aggregation.unfit(held).map(str::to_owned));
        let unnameable = facts.unnameable.get(into).cloned();
        let from = sources
            .first()
            .and_then(|first| facts.collections.get(first));
        let lacking = aggregation.lacks_unique(held, from);
        if let (Some(lacking), None, None) = (&lacking, &unfit, &unnameable) {
            plan.undone(self.lacks(lacking, aggregation, into, object));
            return true;
        }
        let unfit = unfit.or(unnameable).or_else(|| self.of_all(aggregation));
        if let Some(why) = self.clashing.get(into).cloned().or(unfit) {
            plan.undone(Finding {
                code: "refresh.source".to_owned(),
                severity: Severity::Critical,
                message: format!("{object} was not made: {why}"),
                object: object.to_owned(),
                suggestion: None,
            });
            return true;
        }
        if let Some(why) = aggregation.overwrites(&facts.database, into, &facts.views) {
            plan.undone(Finding {
                code: "refresh.source".to_owned(),
                severity: Severity::Critical,
                message: format!(
                    "{object} was not made: the pipeline from `{}` {why}",
                    aggregation.collection
                ),
                object: object.to_owned(),
                suggestion: None,
            });
            return true;
        }
        false
    }

    /// That the server would not take a `$merge` for want of an index.
    fn lacks(
        &self,
        lacking: &Lacking,
        aggregation: &Aggregation,
        into: &(String, String),
        object: &str,
    ) -> Finding {
        let Lacking { on, collation } = lacking;
        let whole = namespace(&into.0, &into.1);
        let from = &aggregation.collection;
        let by_id = *on == ["_id"];
        let collation = collation.as_ref();
        let compares = collation.map(|collation| {
            format!(
                ", and compares as `{from}`, which the pipeline begins with, does by default: {collation}"
            )
        });
        let message = match by_id {
            true => format!(
                "{object} was not made: its `$merge` goes on `_id`, by which {whole} does not compare as `{from}`, which the pipeline begins with, does by default ({}): the server refuses that. Make the result anew with that collation, or go `on` fields with a unique index that has it",
                collation.map(String::as_str).unwrap_or_default()
            ),
            false => format!(
                "{object} was not made: its `$merge` goes `on` ({}), and no unique index of {whole} has exactly these fields, for all documents{}: the server takes no other. Make it, or leave `on` out, which goes on `_id`",
                on.join(", "),
                compares.unwrap_or_default()
            ),
        };
        let keys = on.iter().map(|field| format!("{}: 1", shell_key(field)));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let collation = collation.map(|collation| format!(", collation: {collation}"));
        let index = format!(
            "{}.createIndex({{{keys}}}, {{unique: true{}}})",
            shell_name(&into.0, &into.1),
            collation.unwrap_or_default()
        );
        Finding {
            code: "refresh.source".to_owned(),
            severity: Severity::Critical,
            message,
            object: object.to_owned(),
            suggestion: Some(index).filter(|_| !by_id),
        }
    }

    /// Why the result of one of many databases must not go where those of the others go, too.
    fn of_all(&self, aggregation: &Aggregation) -> Option<String> {
        let to = aggregation.replacing().filter(|_| self.facts.one_of_many)?;
        (!to.own && to.much == Replaced::All).then(|| {
            format!(
                "its `$out` goes to {} from every database of this target, and each would replace what the others have made there. Leave the database out, so that each keeps a result of its own, or `$merge` with an `_id` that tells them apart",
                to.object
            )
        })
    }
}
