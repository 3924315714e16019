//! How many there are of something, in words.

use std::fmt::Display;

/// `1 row`, `3 rows`.
pub fn several<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    several_do(count, noun, ("", ""))
}

/// The same with what one does, and what many do: `1 row stays`, `3 rows stay`.
pub fn several_do<N: Display + PartialEq + From<u8>>(
    count: N,
    noun: &str,
    (one, many): (&str, &str),
) -> String {
    let (end, verb) = match count == N::from(1) {
        true => ("", one),
        false => ("s", many),
    };
    let gap = if verb.is_empty() { "" } else { " " };
    format!("{count} {noun}{end}{gap}{verb}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(several(1_i64, "row"), "1 row");
        assert_eq!(several(0_usize, "row"), "0 rows");
        assert_eq!(several(2_u64, "document"), "2 documents");
        assert_eq!(several_do(1_i64, "row", ("stays", "stay")), "1 row stays");
        assert_eq!(several_do(12_i64, "row", ("stays", "stay")), "12 rows stay");
    }
}
