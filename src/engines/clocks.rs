//! Whether the clock of this machine and that of a server show the same time.

use crate::values::TimeSpan;

/// Two clocks may differ by this much, in milliseconds, before what is older
/// than some time is not the same for both.
const DIFFER_MS: i64 = 5_000;

/// By how many milliseconds this machine's clock is ahead of a server's, at least, where the server
/// said `there` to a question that was `asked` and `answered` at these times of ours.
pub(super) fn ahead(there: i64, asked: i64, answered: i64) -> i64 {
    if there < asked {
        asked - there
    } else if there > answered {
        answered - there
    } else {
        0
    }
}

/// What is wrong where this machine's clock is more than a few seconds `ahead` of a server's, or
/// behind: then nobody can tell how old `what` (rows, documents) are.
pub(super) fn differ(ahead: i64, what: &str) -> Option<String> {
    (ahead.abs() > DIFFER_MS).then(|| {
        format!(
            "the clock of this machine is about {} {} that of the server: nobody can tell which {what} are old, and nothing is deleted, archived or dropped by age; set the clocks (NTP)",
            TimeSpan::from_millis(ahead.unsigned_abs()).about(),
            if ahead > 0 { "ahead of" } else { "behind" }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{ahead, differ};

    #[test]
    fn a_slow_answer_is_no_difference_of_clocks() {
        for (there, asked, answered, by) in [
            (1_000, 1_000, 1_000, 0),
            (5_000, 1_000, 9_000, 0),
            (1_000, 7_000, 8_000, 6_000),
            (9_000, 1_000, 2_000, -7_000),
        ] {
            assert_eq!(ahead(there, asked, answered), by);
        }
    }

    #[test]
    fn a_few_seconds_are_none() {
        assert_eq!(differ(5_000, "rows"), None);
        assert_eq!(differ(-5_000, "rows"), None);
        let ahead = differ(6_000, "documents");
        assert!(ahead.is_some_and(|why| why.contains("ahead of") && why.contains("documents")));
        assert!(differ(-6_000, "rows").is_some_and(|why| why.contains("behind")));
    }
}
