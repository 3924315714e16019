//! Shares of a whole, which cannot lie outside of it.

use std::fmt;
use std::str::FromStr;

use super::text::{Invalid, number_and_unit, written_as_text};

/// A share of a whole, from `0%` to `100%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(f64);

written_as_text!(
    Percent,
    ToString::to_string,
    "maint-percent",
    "A share from 0% to 100%; the percent sign is needed.",
    ["30%", "12.5%"]
);

impl Percent {
    /// So many percent, brought into 0 to 100 where it lies outside.
    pub const fn new(percent: f64) -> Self {
        // `clamp` keeps NaN, which would make every comparison false.
        Self(if percent.is_nan() {
            0.0
        } else {
            percent.clamp(0.0, 100.0)
        })
    }

    /// As a factor: 0.30 for `30%`.
    pub const fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "`{text}` is not a share; expected `0%` to `100%`, such as `30%`"
            ))
        };
        let (number, unit) = number_and_unit(text);
        match (number.parse::<f64>(), unit) {
            (Ok(value), "%") if value <= 100.0 => Ok(Self(value)),
            (Ok(value), "") if value > 0.0 && value < 1.0 => {
                Err(wrong().hint(format!("write `{}`", Self::new(value * 100.0))))
            }
            (Ok(_), "") => Err(wrong().hint(format!("add the sign: `{number}%`"))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, share) in [("30%", 0.30), ("12.5%", 0.125), ("0%", 0.0), ("100%", 1.0)] {
            let percent: Percent = text.parse().unwrap();
            assert!((percent.share() - share).abs() < 1e-12);
            assert_eq!(percent.to_string(), text);
        }
    }

    #[test]
    fn refuses_with_advice() {
        let of = |text: &str| text.parse::<Percent>().unwrap_err();
        assert_eq!(of("30").hint.as_deref(), Some("add the sign: `30%`"));
        assert_eq!(of("0.25").hint.as_deref(), Some("write `25%`"));
        for text in ["", "%", "101%", "-1%", "a%", "NaN%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
