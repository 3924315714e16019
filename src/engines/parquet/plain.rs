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
                days => date(i64::from(days), "", out),
            }
        }
        Form::Timestamp | Form::TimestampTz => {
            let zone = if form == Form::TimestampTz { "+00" } else { "" };
            match i64::from_be_bytes(bytes.try_into().ok()?) {
                i64::MAX => write!(out, "infinity"),
                i64::MIN => write!(out, "-infinity"),
                at => {
                    let day = at.div_euclid(86_400_000_000);
                    let clock = time(at.rem_euclid(86_400_000_000));
                    date(day, &format!(" {clock}{zone}"), out)
                }
            }
        }
        Form::Time => write!(out, "{}", time(i64::from_be_bytes(bytes.try_into().ok()?))),
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

/// A day counted from 2000, with the time in front of a possible `BC`.
fn date(day: i64, time: &str, out: &mut String) -> std::fmt::Result {
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
    if year > 0 {
        write!(out, "{year:04}-{month:02}-{day:02}{time}")
    } else {
        write!(out, "{:04}-{month:02}-{day:02}{time} BC", 1 - year)
    }
}

fn time(micros: i64) -> String {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    let clock = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    if rest == 0 {
        clock
    } else {
        format!("{clock}.{rest:06}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        let shown = |day: i64| {
            let mut out = String::new();
            let _ = date(day, "", &mut out);
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
        assert_eq!(time(86_400_000_000), "24:00:00");
        assert_eq!(time(1), "00:00:00.000001");
    }
}
