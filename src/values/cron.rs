//! When a schedule fires, by the clocks of its zone: what happens when these are changed is decided
//! here, because the library goes wrong there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use super::local_time::first_instant;
use super::text::{Invalid, written_as_text};

/// How far back the latest occurrence is looked for: first near by, because a cron that fires
/// every minute has many occurrences in a month, then farther, because 29 February is rare. A
/// leap day on a given weekday comes every 28 years, and a century may leave one out.
const LOOK_BACK_DAYS: [i64; 6] = [0, 1, 8, 40, 400, 41 * 366];

/// When a schedule fires: five fields (minute, hour, day of month, month, weekday) with names,
/// lists, ranges, steps and `L`, or a word such as `@daily`.
///
/// When both days are restricted either is enough, as in every cron. When the clocks change,
/// a time of the day that is skipped fires once, at the end of the gap, and one that is repeated
/// fires once, the first time. This holds for every expression, intervals and lists as well:
/// `*/30 * * * *` rests while the clocks repeat an hour.
///
/// Occurrences are computed on the calendar without a zone and only then put on the time line:
/// `croner` itself loses its place where the clocks are set back, and its backward search
/// disagrees with its forward one.
#[derive(Clone)]
pub struct Cron {
    /// Shared: configurations are copied.
    text: Arc<str>,
}

/// Expressions ready for use. One takes 5 kB, most of it for years that we do
/// not have, so that ten thousand of them would be most of what `maint serve`
/// needs; and reading one takes microseconds, when its schedule fires.
static READY: Mutex<BTreeMap<Arc<str>, Arc<croner::Cron>>> = Mutex::new(BTreeMap::new());

/// How many are kept; when there are more, all are let go.
const READY_AT_MOST: usize = 128;

written_as_text!(
    Cron,
    ToString::to_string,
    "maint-cron",
    "When to fire: minute, hour, day of month, month, weekday.",
    [
        "0 2 * * *",
        "0 1 * * SUN",
        "*/15 * * * *",
        "0 3 L * *",
        "@daily"
    ]
);

impl Cron {
    /// The first occurrence after `now` by the clocks of `zone`.
    pub fn next_after(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        // `croner` hands a fraction of a second on to what it finds.
        let mut local = now.with_timezone(&zone).naive_local().with_nanosecond(0)?;
        let pattern = self.pattern()?;
        loop {
            let found = pattern.find_next_occurrence(&local.and_utc(), false).ok()?;
            local = found.naive_utc();
            // What lies ahead on a clock that repeats an hour may lie behind in time.
            if let Some(at) = first_instant(local, zone).filter(|at| *at > now) {
                return Some(at);
            }
        }
    }

    /// Never `None`: what cannot be read never became a value.
    fn pattern(&self) -> Option<Arc<croner::Cron>> {
        let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = ready.get(&self.text) {
            return Some(Arc::clone(pattern));
        }
        let pattern = Arc::new(parse(fields(&self.text))?);
        if ready.len() >= READY_AT_MOST {
            ready.clear();
        }
        ready.insert(Arc::clone(&self.text), Arc::clone(&pattern));
        Some(pattern)
    }

    /// The last occurrence that is not after `now` by the clocks of `zone`.
    pub fn latest_at_or_before(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        LOOK_BACK_DAYS.iter().find_map(|days| {
            let back = TimeDelta::days(*days) + TimeDelta::hours(1);
            let mut latest = None;
            let mut at = now.checked_sub_signed(back)?;
            while let Some(next) = self.next_after(at, zone).filter(|next| *next <= now) {
                latest = Some(next);
                at = next;
            }
            latest
        })
    }
}

impl FromStr for Cron {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = "expected five fields (minute, hour, day of month, month, weekday) \
                        such as `0 2 * * SUN`, or `@daily`";
        let trimmed = text.trim();
        let fields = fields(trimmed);
        let wrong = |why: &str| {
            Invalid::new(format!(
                "`{text}` is not a cron expression{why}; {expected}"
            ))
        };
        if fields.starts_with('@') {
            return Err(
                wrong("").hint("the words are @hourly, @daily, @weekly, @monthly and @yearly")
            );
        }
        let count = fields.split_whitespace().count();
        if count != 5 {
            let wrong = wrong(&format!(": it has {count} fields"));
            return Err(if count == 6 {
                wrong.hint("there is no field for seconds")
            } else {
                wrong
            });
        }
        let pattern = parse(fields).ok_or_else(|| match misfit(fields) {
            Some((field, name)) => {
                let wrong = wrong(&format!(": `{field}` does not fit the {name}"));
                match short_names(field) {
                    Some(short) => wrong.hint(format!("did you mean `{short}`?")),
                    None => wrong,
                }
            }
            None => wrong(""),
        })?;
        if !fires_ever(&pattern) {
            return Err(Invalid::new(format!(
                "`{text}` never fires; no month it names has such a day"
            )));
        }
        Ok(Self {
            text: trimmed.into(),
        })
    }
}

/// The five fields, also of a word.
fn fields(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => text,
    }
}

/// Whether any day matches. The calendar repeats after 28 years within a century.
fn fires_ever(pattern: &croner::Cron) -> bool {
    let first = NaiveDate::from_ymd_opt(2001, 1, 1).unwrap_or_default();
    (0..28 * 366).any(|days| {
        let date = first + Days::new(days);
        let fields = &pattern.pattern;
        fields.month_match(date.month()).unwrap_or(false)
            && fields
                .day_match(date.year(), date.month(), date.day())
                .unwrap_or(false)
    })
}

fn parse(fields: &str) -> Option<croner::Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed);
    parser.build().parse(fields).ok()
}

/// The first field that is wrong on its own, with its name; `croner` does not say which.
fn misfit(fields: &str) -> Option<(&str, &'static str)> {
    const NAMES: [&str; 5] = ["minute", "hour", "day of month", "month", "weekday"];
    fields
        .split_whitespace()
        .zip(NAMES)
        .enumerate()
        .find_map(|(place, (field, name))| {
            let mut alone = ["*"; 5];
            alone[place] = field;
            parse(&alone.join(" ")).is_none().then_some((field, name))
        })
}

/// The field with names of days and months in the three letters that a cron knows; `None` where
/// there is none that is longer.
fn short_names(field: &str) -> Option<String> {
    const LONG: [&str; 19] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let short = |word: &str| {
        let lower = word.to_ascii_lowercase();
        // `tues`, `thurs`, `sept`, too.
        let known = LONG
            .iter()
            .find(|long| lower.len() > 3 && long.starts_with(&lower))?;
        Some(known[..3].to_ascii_uppercase())
    };
    let letters = |c: char| c.is_ascii_alphabetic();
    let (mut out, mut rest, mut found) = (String::new(), field, false);
    while let Some(c) = rest.chars().next() {
        let end = match letters(c) {
            true => rest.find(|c| !letters(c)),
            false => rest.find(letters),
        };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        match short(word) {
            Some(short) => {
                found = true;
                out.push_str(&short);
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    (found
        && parse(&format!("0 0 * * {out}"))
            .or(parse(&format!("0 0 * {out} *")))
            .is_some())
    .then_some(out)
}

/// As it was written.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
