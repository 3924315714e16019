//! Values as the input functions of their types read them.

use std::fmt::Write;

use super::types::Form;

/// Days from 1 January of the year 1 to 1 January 2000.
const DAYS_TO_2000: i64 = 730_119;

/// Appends a value as the type's input function reads it.
pub(super) fn plain(form: Form, bytes: &[u8], out: &mut String) -> Option<()> {
    let written = match form {
        Form::Bool => write!(out, "{}", if bytes == [1] { 't' } else { 'f' }),
        Form::Int2 => write!(out, "{}", i16::from_be_bytes(bytes.try_into().ok()?)),
        Form::Int4 => write!(out, "{}", i32::from_be_bytes(bytes.try_into().ok()?)),
        Form::Int8 => write!(out, "{}", i64::from_be_bytes(bytes.try_into().ok()?)),
        Form::Float4 => {
            let number = f32::from_be_bytes(bytes.try_into().ok()?);
            float(f64::from(number), number.to_string(), out)
        }
        Form::Float8 => {
            let number = f64::from_be_bytes(bytes.try_into().ok()?);
            float(number, number.to_string(), out)
        }
        Form::Date => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            match days {
                i32::MAX => write!(out, "infinity"),
                i32::MIN => write!(out, "-infinity"),
                days => {
                    let common = date(i64::from(days), out);
                    era(common, out);
                    Ok(())
                }
            }
        }
        Form::Timestamp | Form::TimestampTz => match i64::from_be_bytes(bytes.try_into().ok()?) {
            i64::MAX => write!(out, "infinity"),
            i64::MIN => write!(out, "-infinity"),
            at => {
                let common = date(at.div_euclid(86_400_000_000), out);
                out.push(' ');
                time(at.rem_euclid(86_400_000_000), out);
                if form == Form::TimestampTz {
                    out.push_str("+00");
                }
                era(common, out);
                Ok(())
            }
        },
        Form::Time => {
            time(i64::from_be_bytes(bytes.try_into().ok()?), out);
            Ok(())
        }
        Form::Uuid => write!(out, "{}", uuid::Uuid::from_slice(bytes).ok()?),
        Form::Bytes => {
            out.push_str("\\x");
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
        }
        Form::Decimal128 { .. } | Form::Decimal256 { .. } | Form::Text => {
            out.push_str(std::str::from_utf8(bytes).ok()?);
            Ok(())
        }
    };
    written.ok()
}

fn float(number: f64, shortest: String, out: &mut String) -> std::fmt::Result {
    match number {
        n if n.is_nan() => out.write_str("NaN"),
        f64::INFINITY => out.write_str("Infinity"),
        f64::NEG_INFINITY => out.write_str("-Infinity"),
        _ => out.write_str(&shortest),
    }
}

/// Appends a day counted from 2000; tells whether it is of the common era, which [`era`] says behind
/// a possible time.
fn date(day: i64, out: &mut String) -> bool {
    // The calendar repeats every 400 years; counted from 1 March 0000.
    let z = day + DAYS_TO_2000 + 306;
    let era = z.div_euclid(146_097);
    let in_era = z.rem_euclid(146_097);
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let common = year > 0;
    padded(if common { year } else { 1 - year }, 4, out);
    for part in [month, day] {
        out.push('-');
        padded(part, 2, out);
    }
    common
}

/// Appends what is said of a day before the common era.
fn era(common: bool, out: &mut String) {
    if !common {
        out.push_str(" BC");
    }
}

fn time(micros: i64, out: &mut String) {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    padded(seconds / 3_600, 2, out);
    for part in [seconds / 60 % 60, seconds % 60] {
        out.push(':');
        padded(part, 2, out);
    }
    if rest != 0 {
        out.push('.');
        padded(rest, 6, out);
    }
}

/// Appends a number that is not negative, with so many digits at least: a row may hold many of them,
/// and `format!` takes several times as long.
fn padded(number: i64, width: u32, out: &mut String) {
    let mut place = 10_i64.pow(width - 1);
    while number / place >= 10 {
        place *= 10;
    }
    while place > 0 {
        let digit = u8::try_from(number / place % 10).unwrap_or_default();
        out.push(char::from(b'0' + digit));
        place /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        let shown = |day: i64| {
            let mut out = String::new();
            let common = date(day, &mut out);
            era(common, &mut out);
            out
        };
        for (day, text) in [
            (0, "2000-01-01"),
            (-10_957, "1970-01-01"),
            (59, "2000-02-29"),
            (60, "2000-03-01"),
            (-1, "1999-12-31"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_145_031_948, "5874897-12-31"),
        ] {
            assert_eq!(shown(day), text);
        }
    }

    #[test]
    fn times_of_a_day() {
        for (micros, text) in [
            (0, "00:00:00"),
            (1, "00:00:00.000001"),
            (45_296_120_000, "12:34:56.120000"),
            (86_400_000_000, "24:00:00"),
        ] {
            let mut out = String::new();
            time(micros, &mut out);
            assert_eq!(out, text);
        }
    }
}
