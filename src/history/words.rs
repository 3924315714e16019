//! What every history spells the same way.

use uuid::Uuid;

use super::{Candidate, RunRecord};
use crate::plan::Severity;

pub(super) fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

pub(super) fn severity_from_word(word: &str) -> Option<Severity> {
    [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|one| severity_word(*one) == word)
}

/// Both halves of the time in a version 7 id, which tells apart all runs
/// but those that began in the same millisecond.
const SHORT_ID_CHARS: usize = 13;

/// The beginning of the id that tells it from both neighbours in the order
/// of ids, and so from every other run.
pub(super) fn short_id(id: Uuid, neighbours: impl Iterator<Item = Uuid>) -> String {
    let id = id.to_string();
    let shared = neighbours
        .map(|other| {
            id.bytes()
                .zip(other.to_string().bytes())
                .take_while(|(ours, theirs)| ours == theirs)
                .count()
        })
        .max()
        .unwrap_or(0);
    id.chars().take(SHORT_ID_CHARS.max(shared + 1)).collect()
}

/// The beginning of an id spelled as everywhere: lower case, with dashes.
/// `None` where no id can begin like that.
fn as_spelled(given: &str) -> Option<String> {
    let mut spelled = String::with_capacity(36);
    for digit in given.trim().chars().filter(|c| *c != '-') {
        if !digit.is_ascii_hexdigit() || spelled.len() == 36 {
            return None;
        }
        if matches!(spelled.len(), 8 | 13 | 18 | 23) {
            spelled.push('-');
        }
        spelled.push(digit.to_ascii_lowercase());
    }
    (!spelled.is_empty()).then_some(spelled)
}

/// The lowest and the highest id that begin like that.
pub(super) fn id_range(given: &str) -> Option<(Uuid, Uuid)> {
    let digits = as_spelled(given)?.replace('-', "");
    let end = |fill: &str| Uuid::try_parse(&format!("{digits}{}", fill.repeat(32 - digits.len())));
    Some((end("0").ok()?, end("f").ok()?))
}

pub(super) fn candidate(run: RunRecord) -> Candidate {
    Candidate {
        id: run.id,
        task: run.task,
        target: run.target,
        started_at: run.started_at,
        status: run.status,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_may_have_dashes_or_not() {
        for (given, expected) in [
            ("0190A1B2", Some("0190a1b2")),
            ("0190a1b2c", Some("0190a1b2-c")),
            ("0190a1b2-c", Some("0190a1b2-c")),
            ("0190a1b2-", Some("0190a1b2")),
            ("0190a1b2c3d47", Some("0190a1b2-c3d4-7")),
            (
                "0190a1b2c3d4789aaabbccddeeff0011",
                Some("0190a1b2-c3d4-789a-aabb-ccddeeff0011"),
            ),
            ("0190a1b2c3d4789aaabbccddeeff00112", None),
            ("latest", None),
            ("", None),
            ("%", None),
        ] {
            assert_eq!(as_spelled(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let (low, high) = id_range("0190A1B2-c").unwrap();
        assert_eq!(low.to_string(), "0190a1b2-c000-0000-0000-000000000000");
        assert_eq!(high.to_string(), "0190a1b2-cfff-ffff-ffff-ffffffffffff");
        assert_eq!(id_range("last"), None);
    }
}
