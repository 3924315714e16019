//! Guesses which known word was meant by an unknown one.

use strsim::{damerau_levenshtein, jaro_winkler};

/// Nobody misspells a longer word, in bytes; and to compare it would take its time.
const LONGEST: usize = 200;

/// The known word that `word` was probably meant to be, for "did you mean".
///
/// `None` where nothing is near enough: a wrong guess costs more time than none.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = damerau_levenshtein(&word, &lower);
            let longer = word.chars().count().max(lower.chars().count());
            let near = distance <= (longer / 3).max(1) && longer > 1;
            let alike = jaro_winkler(&word, &lower) >= 0.92;
            (near || alike).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_only_near_words() {
        let known = ["exclude", "include", "min_bloat", "min_size"];
        assert_eq!(closest("min_bloat_pct", known), Some("min_bloat"));
        assert_eq!(closest("min-size", known), Some("min_size"));
        assert_eq!(closest("exlcude", known), Some("exclude"));
        assert_eq!(closest("jobs", known), None);
        assert_eq!(closest("", known), None);
        let long = "min_bloat".repeat(100_000);
        assert_eq!(closest(&long, [&*long, "min_bloat"]), None);
        assert_eq!(
            closest("min-bloat", [&*long, "min_bloat"]),
            Some("min_bloat")
        );
    }
}
