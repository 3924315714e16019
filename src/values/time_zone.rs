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
            if let Some(hint) = of_offset(text) {
                return wrong.hint(hint);
            }
            match closest_zone(text) {
                Some(zone) => wrong.hint(format!("did you mean `{zone}`?")),
                None => wrong,
            }
        })
    }
}

/// For who knows how far from UTC the clocks are: in the names of the tz database, the sign is turned
/// round.
fn of_offset(text: &str) -> Option<String> {
    let offset = ["UTC", "GMT"].iter().find_map(|name| {
        let start = text.get(..name.len())?;
        start
            .eq_ignore_ascii_case(name)
            .then(|| &text[name.len()..])
    });
    let offset = offset.unwrap_or(text).trim();
    let ahead = offset.starts_with('+');
    let number = offset.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match number.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if number.len() == 4 => number.split_at(2),
        None => (number, "00"),
    };
    let hours: u32 = hours.parse().ok()?;
    let minutes: u32 = minutes.parse().ok()?;
    if hours > 14 || minutes > 59 {
        return None;
    }
    let place = "a place, such as `Europe/Berlin`, also follows its summer time";
    let zone = format!("Etc/GMT{}{hours}", if ahead { '-' } else { '+' });
    if hours == 0 && minutes == 0 {
        return Some("write `UTC`".to_owned());
    }
    Some(match minutes == 0 && zone.parse::<Tz>().is_ok() {
        true => format!(
            "`{zone}` is {hours} h {} UTC (the sign in its name is turned round); {place}",
            if ahead { "ahead of" } else { "behind" }
        ),
        false => format!("name the place: {place}"),
    })
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
        for (offset, expected) in [
            ("GMT+2", "`Etc/GMT-2` is 2 h ahead of UTC"),
            ("utc-5", "`Etc/GMT+5` is 5 h behind UTC"),
            ("+02:00", "`Etc/GMT-2` is 2 h ahead of UTC"),
            ("+0200", "`Etc/GMT-2` is 2 h ahead of UTC"),
            ("UTC+5:30", "name the place: "),
            ("GMT+0:00", "write `UTC`"),
        ] {
            let hint = hint(offset).unwrap();
            assert!(hint.starts_with(expected), "{offset}: {hint}");
        }
    }
}
