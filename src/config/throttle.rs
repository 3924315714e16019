//! Words of `throttle` that no run could heed.

use super::limits::Throttle;

/// The keys that cannot work, and why, as the end of a sentence. Found out only by a run, they
/// would be no protection at all, or let it fail.
pub(super) fn unusable(throttle: &Throttle) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let queries = [
        ("query", &throttle.query),
        ("abort_query", &throttle.abort_query),
        ("free_disk_query", &throttle.free_disk_query),
    ];
    for (key, query) in queries {
        if query.as_deref().is_some_and(says_nothing) {
            let what = match key {
                "free_disk_query" => "the free bytes",
                _ => "`true`",
            };
            let why = format!("has no query: write one that returns {what}, or leave it out");
            wrong.push((key, why));
        }
    }
    if let Some(file) = &throttle.pause_file
        && file.to_str().is_some_and(|file| file.trim().is_empty())
    {
        let why = "names no file: write a path, or leave it out";
        wrong.push(("pause_file", why.to_owned()));
    }
    if let Some(address) = &throttle.http {
        let known = url::Url::parse(address).ok();
        let fits = known.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host_str().is_some_and(|h| !h.is_empty())
        });
        if !fits {
            let why = "is not a URL that fits; expected `https://…` or `http://…`";
            wrong.push(("http", why.to_owned()));
        }
    }
    if throttle.replica_gone.is_some() && !throttle.asks_replicas() {
        let why = "says nothing alone: replicas are asked only for a limit of lag; set `max_replica_lag`, `max_replica_lag_bytes`, or the `abort_…` of one of them beside it (with --set: before it)";
        wrong.push(("replica_gone", why.to_owned()));
    }
    wrong
}

/// Whether a text has nothing but blanks, semicolons and comments.
fn says_nothing(query: &str) -> bool {
    let mut rest = query.trim_start();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n').map_or("", |(_, rest)| rest),
            (_, Some(comment)) => comment.split_once("*/").map_or("", |(_, rest)| rest),
            _ => return rest.is_empty(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::says_nothing;

    #[test]
    fn blanks_and_comments_are_no_query() {
        for nothing in [
            "",
            " ",
            ";",
            " ;\n; ",
            "-- SELECT true",
            "/* a */ ;",
            "/* a",
            "--a\n--b",
        ] {
            assert!(says_nothing(nothing), "{nothing:?}");
        }
        for query in [
            "SELECT true",
            "-- a\nSELECT true",
            "/* a */ SELECT true;",
            "-1",
        ] {
            assert!(!says_nothing(query), "{query:?}");
        }
    }
}
