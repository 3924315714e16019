//! The step of one rule, or what stands in its way.

use super::super::common::{Collection, Index, Shape};
use super::super::fields::{self, Seen};
use super::look::{COUNTED, Look};
use super::rule::{Rule, hidden_told, older};
use super::{Cleanup, Facts, limits};
use crate::engines::mongodb::{Json, namespace};
use crate::plan::mongodb::{AgeLimit, Body, Path, Walk, Work, shell_key, shell_name};
use crate::plan::{Finding, Moment, Plan, Severity, Step};
use crate::values::{several, several_do};

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
                        && !parent
                            .indexes
                            .iter()
                            .any(|i| i.orders(&orphans.parent_field)) =>
                {
                    return Err(refuse(
                        "cleanup.index",
                        format!(
                            "every parent would be read for every child: {whole} has no index that begins with `{}`",
                            orphans.parent_field
                        ),
                        Some(format!(
                            "{}.createIndex({{{}: 1}})",
                            shell_name(&orphans.parent_database, &orphans.parent),
                            shell_key(&orphans.parent_field)
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
                        "{}.createIndex({{{}: 1}})",
                        shell_name(database, name),
                        shell_key(field)
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
            most: limits::most(rule, all.max(look.count.unwrap_or(0))),
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
            relies_on.insert("the index that it goes along".to_owned(), index);
        }
        step.details.push(along);
        Ok(Some(step))
    }
}

/// What is odd of the fields that the filters of a rule name.
///
/// # Errors
/// Where the rule is not followed, since a name that is misspelt would take what is to stay.
pub(super) fn fields_told(
    rule: &Rule,
    object: &str,
    look: &Look,
    at: &Moment,
    plan: &mut Plan<Body>,
) -> Result<(), Finding> {
    let finding = |severity, message| Finding {
        code: "cleanup.rule".to_owned(),
        severity,
        object: object.to_owned(),
        message,
        suggestion: None,
    };
    let names = rule.names().unwrap_or_default();
    for (field, seen) in &look.fields {
        let Some((mut uses, kinds)) = names.get(field).cloned() else {
            continue;
        };
        uses.sort_unstable();
        let absent = rule.may_be_absent.contains(field) && *seen != Seen::Otherwise;
        let known = absent || fields::was_seen(at, object, field, &kinds);
        let Some(used) = uses.first().filter(|_| !known) else {
            continue;
        };
        let types = kinds.as_ref().map(fields::listed);
        let types = types.filter(|_| *seen == Seen::Otherwise);
        let (refused, why) = used.told(field, object, types.as_deref());
        match seen {
            Seen::Somewhere => plan.memories.push(fields::memory(object, field, &kinds)),
            Seen::Nowhere | Seen::Otherwise if refused => {
                let message = format!("the rule for {object} cannot be followed: {why}");
                return Err(finding(Severity::Critical, message));
            }
            Seen::Nowhere | Seen::Otherwise => plan.findings.push(finding(Severity::Warning, why)),
            Seen::Unknown if refused => plan.findings.push(finding(
                Severity::Info,
                format!("none of the documents of {object} that could be looked at within ten seconds has `{field}`, which the rule names, as it is compared there: look at its spelling and at the types of its values"),
            )),
            Seen::Unknown => {}
        }
    }
    for tried in &look.hidden {
        let (operator, filter) = (&tried.operator, &tried.filter);
        if fields::was_seen(at, object, filter, &None) {
            continue;
        }
        let told = hidden_told(tried.used, operator, object);
        match tried.seen {
            Seen::Somewhere => plan.memories.push(fields::memory(object, filter, &None)),
            Seen::Nowhere | Seen::Otherwise => {
                let message = format!("the rule for {object} cannot be followed: {told}");
                return Err(finding(Severity::Critical, message));
            }
            Seen::Unknown => plan.findings.push(finding(
                Severity::Info,
                format!("whether a filter with `{operator}` works as it should could not be seen within ten seconds on {object}"),
            )),
        }
    }
    Ok(())
}

/// Documents whose age cannot be told never go: that should be known.
pub(super) fn types_told(
    rule: &Rule,
    (database, name): &(String, String),
    look: &Look,
    collection: Option<&Collection>,
    plan: &mut Plan<Body>,
) {
    if let (Some(pointing), Some(of)) = (&look.pointing, &rule.orphaned)
        && !pointing.parent_is_empty
        && !pointing.met.is_empty()
    {
        for (kind, n) in &pointing.strays {
            plan.findings.push(Finding {
                code: "cleanup.types".to_owned(),
                severity: Severity::Warning,
                object: namespace(database, name),
                message: format!(
                    "{} {} {kind} in `{}`, and no document of {} has one in `{}`: whether what it points at is gone cannot be told, and nothing of that type goes",
                    several_do(*n, "document", ("has", "have")),
                    article(kind), of.field, of.parent, of.parent_field
                ),
                suggestion: None,
            });
        }
    }
    if let (Some(pointing), Some(of)) = (&look.pointing, &rule.orphaned)
        && pointing.arrays > 0
    {
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Warning,
            object: namespace(database, name),
            message: format!(
                "{} an array in `{}`, or around it, and may point at several parents: what has one stays",
                several_do(pointing.arrays, "document", ("has", "have")),
                of.field
            ),
            suggestion: Some(format!(
                "{}.find({})",
                shell_name(database, name),
                arrays(&of.field)
            )),
        });
    }
    if let (true, Some(field)) = (look.timeless > 0, &rule.field) {
        let many = match look.timeless {
            n if n >= COUNTED => format!("at least {n} documents have"),
            n => several_do(n, "document", ("has", "have")),
        };
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Info,
            object: namespace(database, name),
            message: format!(
                "{many} a number in `{field}` that is no time (NaN, infinite, or beyond every count): those stay for ever"
            ),
            suggestion: Some(format!(
                "{0}.find({{$or: [{{{1}: NaN}}, {{{1}: {{$lt: -9e18}}}}, {{{1}: {{$gt: 9e18}}}}]}})",
                shell_name(database, name),
                shell_key(field)
            )),
        });
    }
    if let (true, Some(field), Some(epoch)) = (look.doubted, &rule.field, rule.epoch) {
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Warning,
            object: namespace(database, name),
            message: epoch.doubted(field),
            suggestion: Some(format!(
                "{}.find({{{}: {{$lt: {}}}}})",
                shell_name(database, name),
                shell_key(field),
                epoch.earliest()
            )),
        });
    }
    let Ok(Some(age)) = look.age(rule) else {
        return;
    };
    let fits = |kind: &str| age.fits(kind);
    let all: i64 = look.types.iter().map(|(_, n)| n).sum();
    let seen = look.types.iter().filter(|(kind, _)| !fits(kind));
    let wrong: Vec<(String, i64)> = match &look.ageless {
        Some(counted) => counted.clone(),
        None => seen.cloned().collect(),
    };
    let told: i64 = wrong.iter().map(|(_, n)| n).sum();
    let least = match wrong.iter().any(|(_, n)| *n >= COUNTED) {
        true => "at least ",
        false => "",
    };
    let wrong: Vec<String> = wrong
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    if !wrong.is_empty() {
        let field = rule.field.as_deref().unwrap_or_default();
        // An index says that somebody knows the field, which may be in no document today.
        let known = collection.is_some_and(|collection| {
            let mut keys = collection.indexes.iter().flat_map(|index| &index.keys);
            keys.any(|(name, _)| name == field)
        });
        let absent = |kind: &str| matches!(kind, "missing" | "null" | "undefined");
        let other = look.types.iter().any(|(kind, _)| !absent(kind));
        if look.told == Some(false) && (other || !known) {
            let object = namespace(database, name);
            plan.undone(Finding {
                code: "cleanup.types".to_owned(),
                severity: Severity::Critical,
                message: format!(
                    "nothing can become old enough: no document of {object} tells an age in `{field}` ({}). Look at the spelling of the field, and at `epoch`",
                    wrong.join(", ")
                ),
                object,
                suggestion: None,
            });
            return;
        }
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Info,
            object: namespace(database, name),
            message: match look.ageless {
                Some(_) => format!(
                    "{least}{} no age in `{field}` ({}): what tells none stays for ever",
                    several_do(told, "document", ("tells", "tell")),
                    wrong.join(", ")
                ),
                None => format!(
                    "of {} looked at, chosen by chance, some tell no age in `{field}` ({}): what tells none stays for ever, and others may be among those not looked at",
                    several(all, "document"),
                    wrong.join(", ")
                ),
            },
            suggestion: None,
        });
    }
}

/// The article of a type.
fn article(kind: &str) -> &'static str {
    match kind.starts_with(['a', 'e', 'i', 'o', 'u']) && kind != "uuid" {
        true => "an",
        false => "a",
    }
}

/// What finds the documents in which a field, or what is around it, is an array.
fn arrays(field: &str) -> String {
    let ends = field.match_indices('.').map(|(at, _)| at);
    let paths = ends.chain([field.len()]).filter_map(|end| field.get(..end));
    let each = paths.map(|path| format!("{{{}: {{$type: \"array\"}}}}", shell_key(path)));
    format!("{{$or: [{}]}}", each.collect::<Vec<_>>().join(", "))
}
