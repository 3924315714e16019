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
                    if days.len() == 7 {
                        Field::Any
                    } else {
                        Field::List(days)
                    }
                }
            },
            last_day,
        })
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

    #[test]
    fn fields_become_lists() {
        let f = Fields::of("*/20 1-3,22 L,15 jan-MAR fri-7").unwrap();
        assert_eq!(f.minutes.cron(), "0,20,40");
        assert_eq!(f.hours.cron(), "1,2,3,22");
        assert_eq!((f.days.cron().as_str(), f.last_day), ("15", true));
        assert_eq!(f.months.cron(), "1,2,3");
        assert_eq!(f.weekdays.cron(), "0,5,6");
        assert_eq!(Fields::of("@daily").unwrap().hours.cron(), "0");
        assert!(Fields::of("0 0 * * 0-6").unwrap().weekdays.is_any());
        assert_eq!(
            Fields::of("5/25 * * * *").unwrap().minutes.cron(),
            "5,30,55"
        );
    }

    #[test]
    fn what_is_no_list_is_named() {
        assert_eq!(Fields::of("0 0 * * 5#2"), Err("`5#2`".to_owned()));
        assert_eq!(Fields::of("0 0 15w * *"), Err("`15w`".to_owned()));
        assert_eq!(Fields::of("0 0 * * 5l"), Err("`5l`".to_owned()));
    }
}
