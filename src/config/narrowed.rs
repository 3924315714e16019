//! Whether an option that `--set` changes for once makes a run look at less than its task does.

use serde_json::Value;

use crate::values::{Bytes, Percent, TimeSpan};

/// What chooses the objects, or what is asked of them.
const CHOOSE: [&str; 17] = [
    "include",
    "exclude",
    "schemas",
    "access_methods",
    "rules",
    "ttl",
    "table",
    "tables",
    "where",
    "keep",
    "older_than",
    "queries",
    "references",
    "unique",
    "aggregations",
    "statements",
    "parameters",
];

/// Whether a run with the new value may be silent about what one with the old one tells. Who
/// lowers a limit, or turns a check on, sees more.
pub(super) fn is_narrower(option: &str, before: Option<&Value>, after: Option<&Value>) -> bool {
    if before == after {
        return false;
    }
    let limit = ["min_", "max_"].iter().any(|one| option.starts_with(one))
        || ["_after", "_within"]
            .iter()
            .any(|one| option.ends_with(one))
        || matches!(option, "near_end" | "almost_at_end" | "slower_by");
    match (before, after) {
        _ if CHOOSE.contains(&option) => true,
        (_, Some(Value::Bool(on))) => !on,
        (_, Some(Value::String(word))) if word == "off" => true,
        (before, after) if limit => {
            let after = after.and_then(size);
            before
                .and_then(size)
                .is_none_or(|before| after.is_none_or(|after| after > before))
                && after != Some(0.0)
        }
        _ => false,
    }
}

/// A number, a share, a size or a time, to be compared with another of its sort.
fn size(value: &Value) -> Option<f64> {
    let Some(text) = value.as_str() else {
        return value.as_f64();
    };
    let percent = || Some(text.parse::<Percent>().ok()?.share());
    let bytes = || Some(text.parse::<Bytes>().ok()?.0 as f64);
    let span = || Some(text.parse::<TimeSpan>().ok()?.get().as_secs_f64());
    percent().or_else(bytes).or_else(span)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_looks_closer_does_not_look_at_less() {
        let narrower =
            |option, before: Value, after: Value| is_narrower(option, Some(&before), Some(&after));
        assert!(narrower("include", json!([]), json!(["a.*"])));
        assert!(narrower("catalogs", json!(true), json!(false)));
        assert!(narrower("amcheck", json!("light"), json!("off")));
        assert!(narrower("min_size", json!("10MB"), json!("1GB")));
        assert!(narrower("min_bloat", json!("30%"), json!("40%")));
        assert!(narrower("unused_after", json!("90d"), json!("200d")));
        assert!(!narrower("include", json!(["a.*"]), json!(["a.*"])));
        assert!(!narrower("catalogs", json!(false), json!(true)));
        assert!(!narrower("min_size", json!("10MB"), json!("9000kB")));
        assert!(!narrower("min_bloat", json!("30%"), json!("0%")));
        assert!(!narrower("recheck_after", json!("20h"), json!("0s")));
        assert!(!narrower("top", json!(50), json!(60)));
        assert!(is_narrower("min_size", None, Some(&json!("1GB"))));
    }
}
