//! The five fields of a cron expression as plain lists of numbers.

/// The days on which it fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minutes: Field,
    pub(super) hours: Field,
    pub(super) days: Field,
    pub(super) months: Field,
    /// 0 is Sunday.
    pub(super) weekdays: Field,
    /// `L` in the field of days: also on the last day of the month.
    pub(super) last_day: bool,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `*`: all of them.
    Any,
    /// These, in order.
    List(Vec<u32>),
}

impl Field {
    /// As cron writes it.
    pub(super) fn cron(&self) -> String {
        self.written(|n| n.to_string())
    }

    /// With each number written by `word`, separated by commas; `*` for all.
    pub(super) fn written(&self, word: impl Fn(u32) -> String) -> String {
        match self {
            Field::Any => "*".to_owned(),
            Field::List(numbers) => {
                let words: Vec<String> = numbers.iter().map(|n| word(*n)).collect();
                words.join(",")
            }
        }
    }

    pub(super) fn is_any(&self) -> bool {
        *self == Field::Any
    }
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Fields {
    /// Takes apart an expression that is known to be good. The error is the
    /// part for which there is no list of numbers.
    pub(super) fn of(cron: &str) -> Result<Fields, String> {
        let lower = cron.trim().to_lowercase();
        let text = match lower.as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let mut parts = text.split_whitespace();
        let mut next = || parts.next().unwrap_or("*");
        let (minutes, hours, days, months, weekdays) = (next(), next(), next(), next(), next());
        let (days, last_day) = without_last(days);
        Ok(Fields {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: if days.is_empty() {
                Field::List(Vec::new())
            } else {
                field(&days, 1, 31, &[], 0)?
            },
            months: field(months, 1, 12, &MONTHS, 1)?,
            weekdays: match field(weekdays, 0, 7, &WEEKDAYS, 0)? {
                Field::Any => Field::Any,
                Field::List(numbers) => {
                    let mut days: Vec<u32> = numbers.into_iter().map(|n| n % 7).collect();
                    days.sort_unstable();
                    days.dedup();
                    // All seven are not `*`: beside a restricted day of the month they are
                    // a restriction that every day meets.
                    Field::List(days)
                }
            },
            last_day,
        })
    }
}

impl Fields {
    /// The five fields with nothing but numbers in them, and `*`.
    pub(super) fn five(&self) -> String {
        [
            &self.minutes,
            &self.hours,
            &self.days,
            &self.months,
            &self.weekdays,
        ]
        .map(Field::cron)
        .join(" ")
    }
}

fn without_last(days: &str) -> (String, bool) {
    let rest: Vec<&str> = days.split(',').filter(|part| *part != "l").collect();
    (rest.join(","), days.split(',').any(|part| part == "l"))
}

fn field(text: &str, least: u32, most: u32, names: &[&str], first: u32) -> Result<Field, String> {
    if matches!(text, "*" | "?") {
        return Ok(Field::Any);
    }
    let number = |word: &str| -> Result<u32, String> {
        let named = (first..).zip(names).find(|(_, name)| **name == word);
        match named {
            Some((n, _)) => Ok(n),
            None => word.parse().map_err(|_| format!("`{text}`")),
        }
    };
    let mut numbers = Vec::new();
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, step.parse().map_err(|_| format!("`{text}`"))?),
            None => (item, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            // Only at the end of a range is Sunday the seventh day.
            Some((from, "sun")) if names == WEEKDAYS => (number(from)?, 7),
            Some((from, to)) => (number(from)?, number(to)?),
            // `5/15` goes on to the end; `5` alone does not.
            None if item.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to || step == 0 {
            return Err(format!("`{text}`"));
        }
        numbers.extend((from..=to).step_by(usize::try_from(step).unwrap_or(1)));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Field::List(numbers))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::values::Cron;
    use chrono::{Datelike as _, Days, NaiveDate};

    #[test]
    fn fields_become_lists() {
        let f = Fields::of("*/20 1-3,22 L,15 jan-MAR fri-7").unwrap();
        assert_eq!(f.minutes.cron(), "0,20,40");
        assert_eq!(f.hours.cron(), "1,2,3,22");
        assert_eq!((f.days.cron().as_str(), f.last_day), ("15", true));
        assert_eq!(f.months.cron(), "1,2,3");
        assert_eq!(f.weekdays.cron(), "0,5,6");
        assert_eq!(Fields::of("@daily").unwrap().hours.cron(), "0");
        for all in ["0-6", "0-7", "1-7", "mon-7", "MON-sun"] {
            let f = Fields::of(&format!("0 0 * * {all}")).unwrap();
            assert_eq!(f.weekdays.cron(), "0,1,2,3,4,5,6", "{all}");
        }
        assert_eq!(
            Fields::of("5/25 * * * *").unwrap().minutes.cron(),
            "5,30,55"
        );
    }

    /// Five fields as every cron with the rules of Vixie's reads them: an independent reading of
    /// plain lists, day by day.
    fn by_the_rules_of_vixie(text: &str, from: NaiveDate, days: u64) -> Vec<String> {
        let parts: Vec<&str> = text.split(' ').collect();
        let has = |part: &str, n: u32| {
            part == "*"
                || part.split(',').any(|item| {
                    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
                    let step: u32 = step.parse().unwrap();
                    let (a, b) = match range.split_once('-') {
                        _ if range == "*" => (0, 59),
                        Some((a, b)) => (a.parse().unwrap(), b.parse().unwrap()),
                        None if item.contains('/') => (range.parse().unwrap(), 59),
                        None => (range.parse().unwrap(), range.parse().unwrap()),
                    };
                    (a..=b).step_by(step as usize).any(|m| m == n)
                })
        };
        let mut found = Vec::new();
        for date in (0..days).map(|n| from + Days::new(n)) {
            let day = has(parts[2], date.day());
            let weekday = has(parts[4], date.weekday().num_days_from_sunday());
            let either = parts[2] != "*" && parts[4] != "*";
            let fits = if either {
                day || weekday
            } else {
                day && weekday
            };
            if !fits || !has(parts[3], date.month()) {
                continue;
            }
            for hour in (0..24).filter(|h| has(parts[1], *h)) {
                for minute in (0..60).filter(|m| has(parts[0], *m)) {
                    found.push(format!("{date} {hour:02}:{minute:02}"));
                }
            }
        }
        found
    }

    /// What is exported fires exactly when `maint next` says, for a year.
    #[test]
    fn what_is_exported_fires_when_maint_would() {
        let year = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap();
        for text in [
            "0 0 * * 1-7",
            "0 0 * * 0-7",
            "0 0 * * MON-7",
            "0 1 1 * 0-7",
            "0 1 1 * *",
            "0 1 1 * ?",
            "0 1 ? * 5",
            "0 1 1-31 * 1",
            "0 1 */1 * 1",
            "0 1 */2 * 1",
            "0 1 */2 * *",
            "0 1 5/7 * *",
            "30 1 * * */2",
            "30 1 3 * */2",
            "0 0 * * 7",
            "0 0 * * 5-7",
            "0 0 * * SAT,SUN",
            "0 0 * * sun-tue",
            "*/20 1-3,22 15 jan-MAR fri-7",
            "5/25 4 * * *",
            "0 2 * JAN,JUL mon",
            "@weekly",
            "@monthly",
            "@yearly",
            "@daily",
            "0 12 31 * *",
            "0 0 29 2 *",
            "0 0 13 * 5",
            "0 0 1,15 */3 *",
            "0 0 * 2-12/5 *",
            "0 0 * * 1/2",
            "0 0 * * 0/3",
            "15 3 L * *",
            "0 0 * * 5#2",
            "0 0 15W * *",
            "0 0 * * 5L",
        ] {
            let Ok(cron) = text.parse::<Cron>() else {
                continue;
            };
            let mut ours = Vec::new();
            let midnight = year.and_hms_opt(0, 0, 0).unwrap().and_utc();
            let mut at = midnight - chrono::TimeDelta::minutes(1);
            while let Some(next) = cron.next_after(at, chrono_tz::Tz::UTC) {
                if next >= midnight + chrono::TimeDelta::days(365) {
                    break;
                }
                ours.push(next.format("%Y-%m-%d %H:%M").to_string());
                at = next;
            }
            match Fields::of(text) {
                Ok(fields) if !fields.last_day => {
                    let five = fields.five();
                    assert_eq!(
                        by_the_rules_of_vixie(&five, year, 365),
                        ours,
                        "{text}: {five}"
                    );
                }
                // `L`, `#` and `W` have no list: they are refused, or said with more words.
                _ => assert!(text.to_lowercase().contains(['l', '#', 'w']), "{text}"),
            }
        }
    }

    #[test]
    fn what_is_no_list_is_named() {
        assert_eq!(Fields::of("0 0 * * 5#2"), Err("`5#2`".to_owned()));
        assert_eq!(Fields::of("0 0 15w * *"), Err("`15w`".to_owned()));
        assert_eq!(Fields::of("0 0 * * 5l"), Err("`5l`".to_owned()));
    }
}
