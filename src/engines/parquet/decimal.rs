//! Numbers with a point as integers, and back.

use arrow_buffer::i256;

/// Digits that a number of 64 bits holds, whatever they are.
const SHORT: usize = 18;

/// `-12.50` with scale 2 as -1250; `None` for `NaN` and what has another scale.
pub(super) fn to_i128(text: &str, scale: i8) -> Option<i128> {
    // Most numbers are short, and there is one in every row.
    if text.len() > SHORT {
        return digits(text, scale)?.parse().ok();
    }
    let (negative, written) = match text.strip_prefix('-') {
        Some(written) => (true, written),
        None => (false, text),
    };
    let (mut number, mut count, mut behind) = (0_i64, 0, None);
    for byte in written.bytes() {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + i64::from(byte - b'0');
                count += 1;
                behind = behind.map(|behind: u8| behind + 1);
            }
            b'.' if behind.is_none() => behind = Some(0),
            _ => return None,
        }
    }
    let number = i128::from(if negative { -number } else { number });
    (count > 0 && behind.unwrap_or(0) == scale.unsigned_abs()).then_some(number)
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

/// The same of a number that is no text yet, appended.
pub(super) fn append(number: i128, scale: i8, out: &mut Vec<u8>) {
    let Ok(short) = i64::try_from(number) else {
        return out.extend(from_digits(&number.to_string(), scale).into_bytes());
    };
    let scale = usize::from(scale.unsigned_abs());
    let begins = out.len();
    let (mut rest, mut count) = (short.unsigned_abs(), 0);
    // The last digit first, and one in front of the point.
    while rest > 0 || count <= scale {
        if count == scale && scale > 0 {
            out.push(b'.');
        }
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        count += 1;
    }
    if short < 0 {
        out.push(b'-');
    }
    if let Some(written) = out.get_mut(begins..) {
        written.reverse();
    }
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
            ("0", 0),
            ("0.000000000000000000000000000001", 30),
            ("9223372036854775807", 0),
            ("-9223372036854775808", 0),
            ("-92233720368547758.09", 2),
            ("1234567890123456.7", 1),
            ("-99999999999999999", 0),
        ] {
            let number = to_i128(text, scale).unwrap();
            assert_eq!(from_digits(&number.to_string(), scale), text);
            let mut appended = b"x".to_vec();
            append(number, scale, &mut appended);
            assert_eq!(appended, format!("x{text}").into_bytes());
            let wide = to_i256(text, scale).unwrap();
            assert_eq!(from_digits(&wide.to_string(), scale), text);
        }
        for text in [
            "NaN",
            "1.5",
            "",
            "-",
            "1e5",
            ".",
            "1.2.3",
            "1.2345678901234567890123",
            "+1.00",
            "--1.00",
        ] {
            assert_eq!(to_i128(text, 2), None, "{text}");
        }
    }
}
