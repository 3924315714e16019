//! What is told where the clocks differ.

use crate::plan::mongodb::Body;
use crate::plan::{Finding, Plan, Severity};

/// With two clocks that disagree nobody can tell what is old.
pub(super) fn clock_differs(plan: &mut Plan<Body>, object: &str, why: &str) {
    plan.skip(object, why);
    plan.refuse(object, why);
    if plan.findings.iter().all(|f| f.code != "clock.differs") {
        plan.findings.push(Finding {
            code: "clock.differs".to_owned(),
            severity: Severity::Critical,
            object: object.to_owned(),
            message: why.to_owned(),
            suggestion: None,
        });
    }
}
