//! When work may run, by the clocks on the wall, also in the weeks in which these are changed.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDateTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;

use super::local_time::first_instant;
use super::text::{Invalid, written_as_text};
use super::{TimeZone, closest};

const DAY_NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// How many days around an instant are looked at. A window repeats every week; the second week
/// is for one that a change of the clocks swallowed whole.
const DAYS_BACK: u64 = 9;
const DAYS_AHEAD: u64 = 16;

/// Minutes in a day.
const DAY: u16 = 24 * 60;

/// When work may run: `02:00-05:00`, `Sun 01:00-05:00 Europe/Berlin`, `Mon-Fri 22:00-04:00`.
///
/// A window that ends before it begins crosses midnight and belongs to the day it starts on.
/// Where it names no time zone it is meant in that of `schedules.yaml`, which every method is
/// given. When the clocks change, it opens and closes the first time they show its begin and
/// its end. Where they skip its begin, it opens at the end of the gap, which is also when what was
/// to happen in the gap happens; where they skip its end, it closes as much later as they jump, so
/// that it is open then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// By days from Monday.
    days: [bool; 7],
    /// Minutes from midnight.
    start: u16,
    /// Minutes from midnight of the starting day; above `DAY` it is on the next one.
    end: u16,
    zone: Option<TimeZone>,
}

written_as_text!(
    Window,
    ToString::to_string,
    "maint-window",
    "When work may run: days (optional), from-to, time zone (optional).",
    [
        "02:00-05:00",
        "Sun 01:00-05:00 Europe/Berlin",
        "Mon-Fri 22:00-04:00",
        "Sat,Sun 00:00-24:00"
    ]
);

impl Window {
    /// Whether work may run now.
    pub fn contains(&self, now: DateTime<Utc>, default_zone: Tz) -> bool {
        self.openings(now, default_zone)
            .iter()
            .any(|(open, close)| *open <= now && now < *close)
    }

    /// How long it is open each time, by the clocks on the wall.
    pub fn length(&self) -> std::time::Duration {
        std::time::Duration::from_secs(60 * u64::from(self.end.saturating_sub(self.start)))
    }

    /// When the window that is open now closes.
    ///
    /// `None` where it is closed now, and where it never closes (`00:00-24:00`): ask
    /// [`contains`](Self::contains) first.
    pub fn closes_at(&self, now: DateTime<Utc>, default_zone: Tz) -> Option<DateTime<Utc>> {
        let far = now.checked_add_days(Days::new(DAYS_AHEAD - 2))?;
        self.openings(now, default_zone)
            .into_iter()
            .find(|(open, close)| *open <= now && now < *close)
            .map(|(_, close)| close)
            .filter(|close| *close < far)
    }

    /// When it opens next, after `now`; `None` where it is always open.
    pub fn next_opening(&self, now: DateTime<Utc>, default_zone: Tz) -> Option<DateTime<Utc>> {
        self.openings(now, default_zone)
            .into_iter()
            .map(|(open, _)| open)
            .find(|open| *open > now)
    }

    /// From when to when it is open around an instant, in order: some days back, two weeks ahead.
    /// What touches is one.
    pub fn openings(
        &self,
        now: DateTime<Utc>,
        default_zone: Tz,
    ) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
        let zone = self.zone.map_or(default_zone, TimeZone::get);
        let today = now.with_timezone(&zone).date_naive();
        let mut openings: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
        for offset in 0..=DAYS_BACK + DAYS_AHEAD {
            let Some(date) = today
                .checked_sub_days(Days::new(DAYS_BACK))
                .and_then(|first| first.checked_add_days(Days::new(offset)))
            else {
                continue;
            };
            if !self.days[date.weekday().num_days_from_monday() as usize] {
                continue;
            }
            let local = |minutes: u16| {
                date.and_time(chrono::NaiveTime::MIN) + TimeDelta::minutes(minutes.into())
            };
            let (open, close) = (local(self.start), local(self.end));
            let (Some(open), Some(close)) = (first_instant(open, zone), closing(close, zone))
            else {
                continue;
            };
            match openings.last_mut() {
                Some((_, last)) if open <= *last => *last = close.max(*last),
                _ if open < close => openings.push((open, close)),
                _ => {}
            }
        }
        openings
    }
}

/// When a window closes that ends when the clocks show `local`. An end that they skip, and the end
/// of the gap itself, are read on the clocks as they were before: what was moved to the end of the
/// gap finds the window open.
fn closing(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let at = first_instant(local, zone)?;
    let minute = TimeDelta::minutes(1);
    let unchanged = (at - minute).with_timezone(&zone).naive_local() + minute;
    at.checked_add_signed((local - unchanged).max(TimeDelta::zero()))
}

impl FromStr for Window {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        read(text).map_err(|problem| match meant(text) {
            Some(window) => problem.hint(format!("did you mean `{window}`?")),
            None => problem,
        })
    }
}

/// What a text stands for that has times as people say them, or an hour without minutes: `1am-5am`,
/// `22-4`, `9:00 am to 5:30 pm`.
fn meant(text: &str) -> Option<Window> {
    let mut dense = text.replace(['–', '—'], "-");
    for (said, written) in [
        (" to ", "-"),
        (" am", "am"),
        (" pm", "pm"),
        (" AM", "am"),
        (" PM", "pm"),
        (" -", "-"),
        ("- ", "-"),
    ] {
        dense = dense.replace(said, written);
    }
    let time = |text: &str, half: Option<&str>| {
        let hours = half.map_or(text, |half| text.strip_suffix(half).unwrap_or(text));
        let (hours, minutes) = match hours.split_once([':', '.', 'h']) {
            Some((hours, "")) => (hours, "00"),
            Some(both) => both,
            None if hours.len() == 4 => hours.split_at_checked(2)?,
            None => (hours, "00"),
        };
        let hours: u16 = hours.parse().ok()?;
        let hours = match half {
            None => hours,
            Some(half) if (1..=12).contains(&hours) => {
                hours % 12 + if half == "pm" { 12 } else { 0 }
            }
            Some(_) => return None,
        };
        Some(format!("{hours:02}:{minutes}"))
    };
    let half = |text: &str| ["am", "pm"].into_iter().find(|half| text.ends_with(half));
    let words = dense.split_whitespace().map(|word| {
        let small = word.to_ascii_lowercase();
        let times = small.starts_with(|c: char| c.is_ascii_digit());
        let (from, to) = small.split_once('-').filter(|_| times)?;
        let (first, last) = (half(from), half(to));
        // `1-5am` is in the morning; `10-2pm` may be in the evening, too.
        let (from, to) = (time(from, first.or(last))?, time(to, last)?);
        let clear = first == last || first.is_some() || from < to;
        clear.then(|| format!("{from}-{to}"))
    });
    let words: Vec<String> = words
        .zip(dense.split_whitespace())
        .map(|(times, word)| times.unwrap_or_else(|| word.to_owned()))
        .collect();
    read(&words.join(" ")).ok()
}

fn read(text: &str) -> Result<Window, Invalid> {
    let wrong = |why: &str| {
        Invalid::new(format!(
            "`{text}` is not a window{why}; expected days, from-to and a time zone, \
                 such as `Sun 01:00-05:00 Europe/Berlin`"
        ))
    };
    // `01:00 - 05:00` and `Sat, Sun` with blanks are what people write, too.
    let dense = text.replace(" -", "-").replace("- ", "-");
    let mut words: Vec<&str> = dense.split_whitespace().collect();
    let times = words
        .iter()
        .position(|word| word.contains(':'))
        .ok_or_else(|| wrong(""))?;
    let zone = match &words[times + 1..] {
        [] => None,
        [zone] => Some(zone.parse::<TimeZone>()?),
        _ => return Err(wrong("")),
    };
    let (from, to) = words[times].split_once('-').ok_or_else(|| wrong(""))?;
    words.truncate(times);
    let days = days(&words.concat()).map_err(|day| {
        let problem = wrong(&format!(": `{day}` is not a day"));
        match closest(&day, DAY_NAMES) {
            Some(name) => problem.hint(format!("did you mean `{name}`?")),
            None => problem.hint("the days are Mon, Tue, Wed, Thu, Fri, Sat and Sun"),
        }
    })?;
    let minutes = |time: &str| {
        minutes(time).ok_or_else(|| wrong(&format!(": `{time}` is not a time of the day")))
    };
    let (start, mut end) = (minutes(from)?, minutes(to)?);
    if start == DAY {
        return Err(wrong(": it cannot begin at 24:00").hint("write `00:00`"));
    }
    if start == end {
        return Err(wrong(": it ends when it begins").hint("the whole day is `00:00-24:00`"));
    }
    if end < start {
        end += DAY;
    }
    Ok(Window {
        days,
        start,
        end,
        zone,
    })
}

/// `Sat,Sun`, `Mon-Fri`, `Fri-Mon`; every day where nothing is said. The error is the word that
/// is not a day.
fn days(text: &str) -> Result<[bool; 7], String> {
    if text.is_empty() {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    let day = |word: &str| {
        word.parse::<Weekday>()
            .map(|day| day.num_days_from_monday() as usize)
            .map_err(|_| word.to_owned())
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Ok(days)
}

/// Minutes from midnight; `24:00` is the end of the day.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit()) && part.len() <= 2;
    if !digits(hours) || !digits(minutes) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY).then_some(total)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            write!(f, "{} ", self.day_list())?;
        }
        // 24:00 stays 24:00; what lies beyond is a time of the next day.
        let end = if self.end > DAY {
            self.end - DAY
        } else {
            self.end
        };
        let (start, end) = (clock(self.start), clock(end));
        write!(f, "{start}-{end}")?;
        match self.zone {
            Some(zone) => write!(f, " {zone}"),
            None => Ok(()),
        }
    }
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

impl Window {
    /// `Mon-Fri`, `Sat,Sun`: three days or more in a row are a range.
    fn day_list(&self) -> String {
        let mut parts = Vec::new();
        let mut day = 0;
        while day < 7 {
            let length = self.days[day..]
                .iter()
                .take_while(|chosen| **chosen)
                .count();
            match length {
                0 => {}
                1 | 2 => parts.extend(DAY_NAMES[day..day + length].iter().map(ToString::to_string)),
                _ => parts.push(format!(
                    "{}-{}",
                    DAY_NAMES[day],
                    DAY_NAMES[day + length - 1]
                )),
            }
            day += length.max(1);
        }
        parts.join(",")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#[path = "window_tests.rs"]
mod tests;
