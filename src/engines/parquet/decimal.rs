//! Numbers with a point as integers, and back.

use arrow_buffer::i256;

/// `-12.50` with scale 2 as -1250; `None` for `NaN` and what has another scale.
pub(super) fn to_i128(text: &str, scale: i8) -> Option<i128> {
    digits(text, scale)?.parse().ok()
}

/// The same for wider numbers.
pub(super) fn to_i256(text: &str, scale: i8) -> Option<i256> {
    i256::from_string(&digits(text, scale)?)
}

/// -1250 with scale 2 as `-12.50`, as the server writes it.
pub(super) fn from_digits(number: &str, scale: i8) -> String {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", number),
    };
    let scale = usize::from(scale.unsigned_abs());
    if scale == 0 {
        return number.to_owned();
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{part}")
}

fn digits(text: &str, scale: i8) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() != usize::from(scale.unsigned_abs()) {
        return None;
    }
    let digits = format!("{whole}{part}");
    let plain = digits.strip_prefix('-').unwrap_or(&digits);
    (!plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, scale) in [
            ("0.00", 2),
            ("-0.05", 2),
            ("12345678901234567890.123456789012345678", 18),
            ("-7", 0),
            ("99.9", 1),
        ] {
            let number = to_i128(text, scale).unwrap();
            assert_eq!(from_digits(&number.to_string(), scale), text);
            let wide = to_i256(text, scale).unwrap();
            assert_eq!(from_digits(&wide.to_string(), scale), text);
        }
        for text in ["NaN", "1.5", "", "-", "1e5"] {
            assert_eq!(to_i128(text, 2), None, "{text}");
        }
    }
}
