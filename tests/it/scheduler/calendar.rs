//! When crons fire, computed another way: every minute of every zone is
//! looked at, and every day of the year. Nothing of `maint` is used.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// The minutes of a zone: when its clocks first show each, in order.
pub(super) struct Clocks {
    shown: BTreeMap<NaiveDateTime, DateTime<Utc>>,
}

impl Clocks {
    pub(super) fn of(zone: Tz, since: DateTime<Utc>, until: DateTime<Utc>) -> Clocks {
        let mut shown = BTreeMap::new();
        // Two days around: what a gap leaves out may be due at its end.
        let mut at = since - TimeDelta::days(2);
        while at < until + TimeDelta::days(2) {
            let wall = at.with_timezone(&zone).naive_local();
            shown.entry(wall).or_insert(at);
            at += TimeDelta::minutes(1);
        }
        Clocks { shown }
    }

    /// All occurrences of a cron after `since`, until `until` at the latest.
    pub(super) fn occurrences(
        &self,
        cron: &str,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> BTreeSet<DateTime<Utc>> {
        let fields = Fields::parse(cron);
        let first = self.shown.first_key_value().unwrap().0.date();
        let last = *self.shown.last_key_value().unwrap().0;
        let days = first.iter_days().take_while(|day| *day <= last.date());
        let mut found = BTreeSet::new();
        for day in days.filter(|day| fields.has_day(*day)) {
            let minutes = (0..24 * 60).map(|n| (n / 60, n % 60));
            for (hour, minute) in minutes.filter(|(hour, minute)| fields.has_time(*hour, *minute)) {
                // A minute that is never shown falls due with the next that is.
                let wall = day.and_hms_opt(hour, minute, 0).unwrap();
                let at = self.shown.range(wall..).next().map(|(_, at)| *at);
                found.extend(at.filter(|at| *at > since && *at <= until));
            }
        }
        found
    }
}

/// Whether a number is in a field.
type Set = [bool; 60];

struct Fields {
    minute: Set,
    hour: Set,
    day: Set,
    month: Set,
    weekday: Set,
    last_day: bool,
    either_day: bool,
}

impl Fields {
    fn parse(cron: &str) -> Fields {
        let words: Vec<&str> = cron.split(' ').collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            panic!("{cron}");
        };
        Fields {
            minute: set(minute, 0, 59),
            hour: set(hour, 0, 23),
            last_day: day == "L",
            day: if day == "L" {
                [false; 60]
            } else {
                set(day, 1, 31)
            },
            month: set(month, 1, 12),
            weekday: set(weekday, 0, 6),
            either_day: day != "*" && weekday != "*",
        }
    }

    fn has_time(&self, hour: u32, minute: u32) -> bool {
        self.minute[minute as usize] && self.hour[hour as usize]
    }

    fn has_day(&self, date: NaiveDate) -> bool {
        let has = |set: &Set, number: u32| set[number as usize];
        let day = match self.last_day {
            true => date.succ_opt().unwrap().month() != date.month(),
            false => has(&self.day, date.day()),
        };
        let weekday = has(&self.weekday, date.weekday().num_days_from_sunday());
        has(&self.month, date.month())
            && match self.either_day {
                true => day || weekday,
                false => day && weekday,
            }
    }
}

/// Lists of numbers, names, ranges and steps.
fn set(field: &str, low: u32, high: u32) -> Set {
    const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let number = |word: &str| {
        let day = DAYS.iter().position(|day| *day == word);
        day.map_or_else(|| word.parse().unwrap(), |day| u32::try_from(day).unwrap())
    };
    let mut set = [false; 60];
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from), number(to)),
            None => (number(range), number(range)),
        };
        for number in (from..=to).step_by(step.parse().unwrap()) {
            set[number as usize] = true;
        }
    }
    set
}
