//! What is said of fields that a rule names, by what documents have there.

use mongodb::bson::doc;

use super::super::common::Collection;
use super::super::fields::{self, Seen};
use super::look::{COUNTED, Look};
use super::rule::Rule;
use super::uses::hidden_told;
use crate::engines::mongodb::namespace;
use crate::plan::mongodb::{Body, shell_document, shell_key, shell_name};
use crate::plan::{Finding, Moment, Plan, Severity};
use crate::values::{several, several_do};

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
    at: &Moment,
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
    if let (true, Some(field), Ok(Some(age))) = (look.doubted, &rule.field, look.age(rule)) {
        let cutoff = rule.cutoff(at.now);
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Warning,
            object: namespace(database, name),
            message: age.doubted(field, cutoff),
            suggestion: Some(format!(
                "{}.find({})",
                shell_name(database, name),
                age.finds(field, cutoff)
            )),
        });
    }
    if let (Some(finer), Some(epoch), Some(field)) = (look.finer, rule.epoch, &rule.field) {
        let range = finer.of_our_days(at.now);
        let found = doc! { field: { "$gte": *range.start(), "$lte": *range.end() } };
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Warning,
            object: namespace(database, name),
            message: epoch.ahead(finer, field),
            suggestion: Some(format!(
                "{}.find({})",
                shell_name(database, name),
                shell_document(&found)
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
pub(super) fn arrays(field: &str) -> String {
    let ends = field.match_indices('.').map(|(at, _)| at);
    let paths = ends.chain([field.len()]).filter_map(|end| field.get(..end));
    let each = paths.map(|path| format!("{{{}: {{$type: \"array\"}}}}", shell_key(path)));
    format!("{{$or: [{}]}}", each.collect::<Vec<_>>().join(", "))
}
