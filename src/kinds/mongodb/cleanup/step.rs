//! The step of one rule, or what stands in its way.

use super::super::common::{Index, Shape};
use super::age::older;
use super::look::Look;
use super::rule::Rule;
use super::told::arrays;
use super::{Cleanup, Facts, limits};
use crate::engines::mongodb::{Json, namespace};
use crate::plan::mongodb::{ALONG, AgeLimit, Body, Path, Walk, Work, shell_document, shell_name};
use crate::plan::{Finding, Moment, Severity, Step};
use crate::values::several;

impl Cleanup {
    pub(super) fn step(
        &self,
        rule: &Rule,
        (database, name): &(String, String),
        action: &str,
        look: Option<&Look>,
        facts: &Facts,
        at: &Moment,
    ) -> Result<Option<Step<Body>>, Finding> {
        let object = namespace(database, name);
        let refuse = |code: &str, message: String, suggestion: Option<String>| Finding {
            code: code.to_owned(),
            severity: Severity::Critical,
            object: object.clone(),
            message: format!("the rule for {object} cannot be followed: {message}"),
            suggestion,
        };
        let invalid = |why: String| refuse("cleanup.rule", why, None);
        let Some(collection) = facts.collections.get(&(database.clone(), name.clone())) else {
            return Err(invalid("there is no such collection".to_owned()));
        };
        if let Some(why) = collection.undeletable() {
            return Err(invalid(why.to_owned()));
        }
        let look = look.cloned().unwrap_or_default();
        let age = look.age(rule).map_err(&invalid)?;
        let orphans = rule.orphans(database);
        if let Some(orphans) = &orphans {
            if facts.shard {
                // Whoever is not here may be on another shard.
                return Err(invalid(format!(
                    "this server is a shard of a cluster, and documents of {} may be on its other shards: a child whose parent lives there would be deleted. Look for orphans through a mongos, and leave the rule out here",
                    namespace(&orphans.parent_database, &orphans.parent)
                )));
            }
            let parent = facts
                .collections
                .get(&(orphans.parent_database.clone(), orphans.parent.clone()));
            let whole = namespace(&orphans.parent_database, &orphans.parent);
            match parent {
                // Without it, every child would be an orphan.
                None => return Err(invalid(format!("its parent {whole} does not exist"))),
                Some(parent) if parent.options.contains_key("collation") => {
                    return Err(invalid(format!(
                        "its parent {whole} compares texts by a collation, and equal is then not the same for both sides"
                    )));
                }
                Some(parent) if parent.shape == Shape::View => {
                    return Err(invalid(format!("its parent {whole} is a view")));
                }
                Some(parent)
                    if parent.documents > 10_000
                        && parent.ordering(&orphans.parent_field).next().is_none() =>
                {
                    return Err(refuse(
                        "cleanup.index",
                        format!(
                            "every parent would be read for every child in {whole}: {}",
                            parent.lacks_order(&orphans.parent_field)
                        ),
                        Some(format!(
                            "{}.createIndex({})",
                            shell_name(&orphans.parent_database, &orphans.parent),
                            shell_document(&parent.new_keys(&orphans.parent_field))
                        )),
                    ));
                }
                Some(_) => {}
            }
        }
        let path = rule.path(collection, self.max_scan).map_err(|why| {
            let field = rule.field.as_ref().filter(|_| orphans.is_none());
            refuse(
                "cleanup.index",
                why,
                field.map(|field| {
                    format!(
                        "{}.createIndex({})",
                        shell_name(database, name),
                        shell_document(&collection.new_keys(field))
                    )
                }),
            )
        })?;
        if look.multikey {
            let field = rule.field.as_deref().unwrap_or_default();
            return Err(refuse(
                "cleanup.rule",
                format!(
                    "its index has seen a document in which `{field}`, or what is around it, is an array, and such a document has no single age. Where there is none any more, the index still remembers it: drop it, and make it anew"
                ),
                Some(format!(
                    "{}.find({}, {{_id: 1}}).limit(10)",
                    shell_name(database, name),
                    arrays(field)
                )),
            ));
        }
        if let Some(orphans) = &orphans {
            let Some(pointing) = &look.pointing else {
                return Err(invalid(
                    "what its documents point at could not be looked at within ten minutes"
                        .to_owned(),
                ));
            };
            if let Some(why) = pointing.refused(rule, orphans, super::is_collated(collection)) {
                return Err(invalid(why));
            }
        }
        if let Some(why) = &look.mistaken {
            return Err(invalid(why.clone()));
        }
        if look.any == Some(false) {
            return Ok(None);
        }
        let all = look.all.unwrap_or(collection.documents);
        if limits::is_limited(rule) && look.count.is_none() {
            let why = match &orphans {
                None => {
                    "how many documents would go could not be counted within a minute, and `max_rows` or `max_share` limits that"
                }
                Some(_) => {
                    "how many orphans there are could not be counted within ten minutes, or they point at more than a million different values in another database; half of the documents may go unless the rule says `max_share`, and with `max_share: 100%` and without `max_rows` nothing is counted"
                }
            };
            return Err(refuse("cleanup.too_many", why.to_owned(), None));
        }
        if let Some(count) = look.count
            && let Some(why) = limits::too_many(rule, count, all)
        {
            return Err(refuse("cleanup.too_many", why, None));
        }
        let mut filter = rule.filter(age, at.now, &path).map_err(&invalid)?;
        if let (Some(orphans), Some(pointing)) = (&orphans, &look.pointing) {
            filter = pointing.within(filter, &orphans.field);
        }
        let along = match &path {
            Path::Range { field, index } => format!("goes along `{index}`, by `{field}`"),
            Path::Ids => "reads every document, in the order of `_id`".to_owned(),
        };
        let progress = format!("{action} {object} {along}");
        let start = at
            .memories
            .get(&progress)
            .filter(|place| !place.is_null())
            .cloned();
        let mut reason = Vec::new();
        if let (Some(field), Some(span)) = (&rule.field, rule.older_than) {
            reason.push(format!("`{field}` is older than {span}"));
        }
        if rule.only.is_some() {
            reason.push("matches `where`".to_owned());
        }
        if let Some(orphans) = &orphans {
            reason.push(format!(
                "`{}` points at no document of {}",
                orphans.field,
                namespace(&orphans.parent_database, &orphans.parent)
            ));
        }
        let mut because = reason.join(", ");
        if let Some(count) = look.count {
            because = format!("{}: {because}", several(count, "document"));
        }
        let age = match (&rule.field, rule.older_than, age) {
            (Some(field), Some(span), Some(age)) => Some(AgeLimit {
                field: field.clone(),
                limit: Json::of(&older(age, span.before(at.now))).part("$lt"),
                words: format!("{span} before the run"),
            }),
            _ => None,
        };
        let mut relies_on = Vec::new();
        relies_on.push((database.as_str(), name.as_str(), &collection.uuid));
        let parent = orphans.as_ref().map(|of| (&of.parent_database, &of.parent));
        if let Some((database, name)) = parent
            && let Some(parent) = facts.collections.get(&(database.clone(), name.clone()))
        {
            relies_on.push((database, name, &parent.uuid));
        }
        let index = match &path {
            Path::Range { index, .. } => collection.indexes.iter().find(|i| i.name == *index),
            Path::Ids => None,
        };
        let index = index.map(Index::described);
        let walk = Walk {
            database: database.clone(),
            collection: name.clone(),
            filter: Json::of(&filter),
            age,
            path,
            orphans: orphans.clone(),
            goal_ms: u64::try_from(self.batch_goal.get().as_millis()).unwrap_or(250),
            documents: look.count,
            most: limits::most(rule, all.max(look.count.unwrap_or(0)), look.count),
            progress,
            start: start.map(Json),
            into: None,
            files: None,
        };
        let mut step = Step::new(action, &object, &object)
            .because(because)
            .doing(Work::Walk(Box::new(walk)))
            .measuring(database, name);
        for (database, name, uuid) in relies_on {
            step = step.relying_on(database, name, uuid);
        }
        if let Some(index) = index {
            let relies_on = &mut step.body.relies_on;
            relies_on.insert(ALONG.to_owned(), index);
        }
        step.details.push(along);
        Ok(Some(step))
    }
}
