//! Names in `include` that nothing goes by.

use super::{Finding, Plan, Severity};
use crate::values::NamePattern;

/// Tells which patterns meet no object, from 0. Where that is all of them, the task has not
/// done its work, and never will.
pub(super) fn tell<B>(patterns: &[NamePattern], misses: &[usize], plan: &mut Plan<B>) {
    for pattern in misses.iter().filter_map(|n| patterns.get(*n)) {
        let finding = Finding {
            code: "include.nothing".to_owned(),
            severity: Severity::Warning,
            object: pattern.to_string(),
            message: format!("`include` names {pattern}, and nothing goes by that name"),
            suggestion: None,
        };
        match misses.len() == patterns.len() {
            true => plan.undone(finding),
            false => plan.findings.push(finding),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_a_task_without_any_object_has_not_done_its_work() {
        let patterns: Vec<NamePattern> = ["a.*", "b"].iter().map(|p| p.parse().unwrap()).collect();
        let told = |misses: &[usize]| {
            let mut plan: Plan = Plan::default();
            tell(&patterns, misses, &mut plan);
            (plan.findings.len(), plan.refused.len())
        };
        assert_eq!(told(&[]), (0, 0));
        assert_eq!(told(&[1]), (1, 0));
        assert_eq!(told(&[0, 1]), (2, 2));
    }
}
