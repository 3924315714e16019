//! Sizes as people write them in files and as reports show them, in PostgreSQL's units.

use std::fmt;
use std::str::FromStr;

use super::text::{Invalid, number_and_unit, written_as_text};

/// Units by power of 1024, as PostgreSQL names them.
const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// A size in bytes.
///
/// Units are powers of 1024, as in PostgreSQL's own settings and in `pg_size_pretty`: `10MB` is
/// 10 × 1024² bytes. `KiB`, `MiB` and so on are accepted and mean the same.
///
/// `Display` rounds for people (`1.4 GB`); serde writes the exact size (`1468006kB`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

written_as_text!(
    Bytes,
    Bytes::exact,
    "maint-bytes",
    "A size: a number with B, kB, MB, GB or TB, in powers of 1024 as in PostgreSQL's own settings.",
    ["512kB", "10MB", "1.5GB"]
);

impl Bytes {
    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The exact size in the largest unit that divides it: `10MB`, `1536kB`, `90B`.
    pub fn exact(&self) -> String {
        let mut size = self.0;
        let mut unit = 0;
        while size > 0 && size.is_multiple_of(1024) && unit + 1 < UNITS.len() {
            size /= 1024;
            unit += 1;
        }
        format!("{size}{}", UNITS[unit])
    }
}

impl FromStr for Bytes {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "`{text}` is not a size; expected a number and a unit, such as `10MB`"
            ))
        };
        let (number, unit) = number_and_unit(text);
        if number.is_empty() {
            return Err(wrong());
        }
        if unit.is_empty() {
            return Err(wrong().hint(format!("add the unit, as in `{number}MB` or `{number}kB`")));
        }
        let Some(power) = power_of(unit) else {
            return Err(match unit.to_ascii_uppercase().as_str() {
                // As `ls -h` and many programs write it.
                letter @ ("K" | "M" | "G" | "T") => {
                    let unit = if letter == "K" { "k" } else { letter };
                    wrong().hint(format!("did you mean `{number}{unit}B`?"))
                }
                _ => wrong().hint("the units are B, kB, MB, GB and TB"),
            });
        };
        let scale = 1024_u64.pow(power);
        let size = if let Ok(whole) = number.parse::<u64>() {
            whole.checked_mul(scale)
        } else {
            let size = number.parse::<f64>().map_err(|_| wrong())? * scale as f64;
            // Exact below 2^53, and nobody writes a fraction above eight petabytes.
            (size < 9e15).then_some(size.round() as u64)
        };
        // PostgreSQL counts sizes in signed 64-bit integers.
        size.filter(|size| i64::try_from(*size).is_ok())
            .map(Self)
            .ok_or_else(|| Invalid::new(format!("`{text}` is larger than any database")))
    }
}

fn power_of(unit: &str) -> Option<u32> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => 0,
        "kb" | "kib" => 1,
        "mb" | "mib" => 2,
        "gb" | "gib" => 3,
        "tb" | "tib" => 4,
        "pb" | "pib" => 5,
        _ => return None,
    })
}

/// Rounded for people: `90 bytes`, `512 kB`, `1.4 GB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut size = self.0 as f64;
        let mut unit = 0;
        // What would be rounded to 1024 belongs to the next unit.
        while size >= 1023.5 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        let tenths = (size * 10.0).round() / 10.0;
        if tenths < 10.0 && tenths.fract() != 0.0 {
            write!(f, "{tenths:.1} {}", UNITS[unit])
        } else {
            write!(f, "{size:.0} {}", UNITS[unit])
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_as_postgres_does() {
        for (text, bytes) in [
            ("10MB", 10 * 1024 * 1024),
            ("512 kB", 512 * 1024),
            ("1.5GB", 1536 * 1024 * 1024),
            ("1GiB", 1 << 30),
            ("0MB", 0),
            ("90 bytes", 90),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn is_rounded_for_people() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (90, "90 bytes"),
            (512 * 1024, "512 kB"),
            (10 << 20, "10 MB"),
            (1_503_238_553, "1.4 GB"),
            (1024 * 1024 - 1, "1 MB"),
            (u64::MAX, "16384 PB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn refuses_bare_numbers_and_nonsense() {
        assert_eq!(
            "10".parse::<Bytes>().unwrap_err().to_string(),
            "`10` is not a size; expected a number and a unit, such as `10MB` \
             (hint: add the unit, as in `10MB` or `10kB`)"
        );
        for (text, meant) in [("10M", "10MB"), ("1.5g", "1.5GB"), ("512K", "512kB")] {
            let hint = text.parse::<Bytes>().unwrap_err().hint.unwrap();
            assert_eq!(hint, format!("did you mean `{meant}`?"));
        }
        for text in [
            "",
            "MB",
            "10 apples",
            "-1MB",
            "1.2.3MB",
            "99999999TB",
            "20000000PB",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_exact_form_reads_back(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(Bytes(bytes).exact().parse(), Ok(Bytes(bytes)));
        }
    }
}
