//! What is seen goes into the plan: numbers for the time series, and findings.

use crate::plan::mongodb::Body;
use crate::plan::{Finding, Measurement, Plan, Severity};

pub(super) fn note(plan: &mut Plan<Body>, metric: &str, object: &str, value: i64) {
    plan.measurements.push(Measurement {
        metric: metric.to_owned(),
        object: object.to_owned(),
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        value: value as f64,
    });
}

pub(super) fn measure(plan: &mut Plan<Body>, metric: &str, object: &str, value: f64) {
    plan.measurements.push(Measurement {
        metric: metric.to_owned(),
        object: object.to_owned(),
        value,
    });
}

pub(super) fn say(
    plan: &mut Plan<Body>,
    (code, severity): (&str, Severity),
    object: &str,
    message: String,
    suggestion: Option<String>,
) {
    plan.findings.push(Finding {
        code: code.to_owned(),
        severity,
        object: object.to_owned(),
        message,
        suggestion,
    });
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
pub(super) fn share(part: i64, of: i64) -> f64 {
    part as f64 / of.max(1) as f64
}
