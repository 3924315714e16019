//! Names in `include`, `exclude` and `schemas` that nothing goes by.

use super::{Finding, Plan, Severity};
use crate::values::{NamePattern, SchemaPattern};

/// Tells which patterns meet no object: `misses` are their places, from 0, in what is included
/// and then excluded. Where that is all that is included, the task has not done its work, and
/// never will.
pub(super) fn tell<B>(
    includes: &[NamePattern],
    excludes: &[NamePattern],
    misses: &[usize],
    plan: &mut Plan<B>,
) {
    let unmet: Vec<&NamePattern> = misses.iter().filter_map(|n| includes.get(*n)).collect();
    for pattern in &unmet {
        let finding = Finding {
            code: "include.nothing".to_owned(),
            severity: Severity::Warning,
            object: pattern.to_string(),
            message: format!("`include` names {pattern}, and nothing goes by that name"),
            suggestion: None,
        };
        match unmet.len() == includes.len() {
            true => plan.undone(finding),
            false => plan.findings.push(finding),
        }
    }
    let beyond = |n: &usize| n.checked_sub(includes.len());
    for pattern in misses
        .iter()
        .filter_map(beyond)
        .filter_map(|n| excludes.get(n))
    {
        // A pattern for some names of a schema may be for what is there now and then.
        let (severity, all_the_same) = match pattern.names_one_thing() {
            true => (
                Severity::Warning,
                "correct the spelling (upper and lower case count), or take it out",
            ),
            false => (
                Severity::Info,
                "nothing is wrong if what it is for is there only now and then",
            ),
        };
        plan.findings.push(Finding {
            code: "exclude.nothing".to_owned(),
            severity,
            object: pattern.to_string(),
            message: format!(
                "`exclude` names {pattern}, and nothing goes by that name: what it is to spare is worked on if it is called otherwise; {all_the_same}"
            ),
            suggestion: None,
        });
    }
}

/// The same of schemas. Where none is meant at all, the task has not done its work.
pub(crate) fn tell_schemas<B>(patterns: &[SchemaPattern], there: &[String], plan: &mut Plan<B>) {
    let any = there
        .iter()
        .any(|name| SchemaPattern::choose(patterns, name));
    let unmet = |pattern: &&SchemaPattern| !there.iter().any(|name| pattern.meets(name));
    let mut told = false;
    for pattern in patterns.iter().filter(unmet) {
        let (code, severity, matters) = match pattern.excludes() {
            true => (
                "exclude.nothing",
                Severity::Info,
                ": what it is to spare is worked on if it is called otherwise",
            ),
            false => ("include.nothing", Severity::Warning, ""),
        };
        let finding = Finding {
            code: code.to_owned(),
            severity,
            object: pattern.to_string(),
            message: format!(
                "`schemas` has {pattern}, and no schema goes by that name{matters}; correct the spelling (upper and lower case count), or take it out"
            ),
            suggestion: None,
        };
        match any || pattern.excludes() {
            true => plan.findings.push(finding),
            false => {
                plan.undone(finding);
                told = true;
            }
        }
    }
    if !any && !told {
        let all: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        plan.undone(Finding {
            code: "include.nothing".to_owned(),
            severity: Severity::Warning,
            object: all.join(", "),
            message: "every schema that `schemas` names is left out again by a pattern with a `!`: nothing is looked after".to_owned(),
            suggestion: None,
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<NamePattern> {
        texts.iter().map(|p| p.parse().unwrap()).collect()
    }

    #[test]
    fn only_a_task_without_any_object_has_not_done_its_work() {
        let (includes, excludes) = (patterns(&["a.*", "b"]), patterns(&["c"]));
        let told = |misses: &[usize]| {
            let mut plan: Plan = Plan::default();
            tell(&includes, &excludes, misses, &mut plan);
            (plan.findings.len(), plan.refused.len())
        };
        assert_eq!(told(&[]), (0, 0));
        assert_eq!(told(&[1]), (1, 0));
        assert_eq!(told(&[0, 1]), (2, 2));
        assert_eq!(told(&[1, 2]), (2, 0));
        assert_eq!(told(&[2]), (1, 0));
    }

    #[test]
    fn what_names_one_thing_is_misspelt_and_what_names_some_may_come() {
        let excludes = patterns(&["a.b", "audti.*", "a.tmp_*", "tmp?", "b", "*.log"]);
        let mut plan: Plan = Plan::default();
        tell(&[], &excludes, &[0, 1, 2, 3, 4, 5], &mut plan);
        let told: Vec<(&str, Severity)> = plan
            .findings
            .iter()
            .map(|f| (&*f.object, f.severity))
            .collect();
        let (warning, info) = (Severity::Warning, Severity::Info);
        assert_eq!(
            told,
            [
                ("a.b", warning),
                ("audti.*", warning),
                ("a.tmp_*", info),
                ("tmp?", info),
                ("b", warning),
                ("*.log", warning)
            ]
        );
    }
}
