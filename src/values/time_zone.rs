//! Time zones by their names, with a guess for who knows only the city.

use std::fmt;
use std::str::FromStr;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::closest;
use super::text::{Invalid, written_as_text};

/// A time zone by its name in the tz database: `Europe/Berlin`, `UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeZone(Tz);

written_as_text!(
    TimeZone,
    ToString::to_string,
    "maint-timezone",
    "A time zone by its name in the tz database.",
    ["Europe/Berlin", "America/New_York", "UTC"]
);

impl TimeZone {
    /// Where nothing else is said.
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone as `chrono_tz` has it.
    pub const fn get(self) -> Tz {
        self.0
    }
}

impl FromStr for TimeZone {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self).map_err(|_| {
            let wrong = Invalid::new(format!(
                "`{text}` is not a time zone; expected a name of the tz database, \
                 such as `Europe/Berlin`"
            ));
            match closest_zone(text) {
                Some(zone) => wrong.hint(format!("did you mean `{zone}`?")),
                None => wrong,
            }
        })
    }
}

/// Most people know the city, not the continent: `Berlin` should find `Europe/Berlin`.
fn closest_zone(text: &str) -> Option<&'static str> {
    let city = |name: &'static str| name.rsplit('/').next().unwrap_or(name);
    let names = TZ_VARIANTS.iter().map(|zone| zone.name());
    names
        .clone()
        .find(|name| city(name).eq_ignore_ascii_case(text))
        .or_else(|| closest(text, names))
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn knows_zones_and_guesses_the_rest() {
        assert_eq!("Europe/Berlin".parse(), Ok(TimeZone(Tz::Europe__Berlin)));
        let hint = |text: &str| text.parse::<TimeZone>().unwrap_err().hint;
        assert_eq!(
            hint("Europe/Berln").as_deref(),
            Some("did you mean `Europe/Berlin`?")
        );
        assert_eq!(
            hint("berlin").as_deref(),
            Some("did you mean `Europe/Berlin`?")
        );
        assert_eq!(hint("Mars/Olympus_Mons_Base"), None);
    }
}
