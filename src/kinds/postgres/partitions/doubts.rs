//! Rows whose age nobody knows, in partitions that are over by their bounds: those stay.

use chrono::NaiveDate;
use chrono_tz::Tz;

use super::Subject;
use super::calendar::{self, Key, Point};
use crate::engines::postgres::RelationName;
use crate::plan::{Finding, Required, Severity};

/// What tells rows of unknown age in a partition.
pub(super) struct Doubt {
    /// SQL: true of such a row.
    condition: String,
    /// What they are, after "has rows whose column".
    what: String,
}

/// What tells them in a partition that begins here and is over by that cut; none where it can have none.
///
/// Of UUIDs only those of version 7 begin with their time, and others lie in some partition, too. Times before 1980
/// stand for never as often as not, as `-infinity`, 0001-01-01 and 1970-01-01 do, and as zero does in a column of
/// numbers; where the cut is itself before 1980, dates are meant that old.
pub(super) fn doubt(subject: &Subject<'_>, from: Point, cut: Point) -> Option<Doubt> {
    let (key, column) = (subject.key, subject.column);
    if key == Key::Uuid {
        return Some(Doubt {
            condition: format!("pg_catalog.substr({column}::text, 15, 1) <> '7'"),
            what: "is no UUID of version 7".to_owned(),
        });
    }
    let mut year = 1980;
    if !matches!(key, Key::Integer(_)) && cut <= new_year(key, year, subject.zone)? {
        year = 1900;
    }
    let before = new_year(key, year, subject.zone)?;
    (from < before).then(|| Doubt {
        condition: format!("{column} < {}", key.literal(before)),
        what: format!("is before {year}, as are -infinity, 0001-01-01 and 1970-01-01, which stand for no time as often as not"),
    })
}

/// Whether rows of a partition with these bounds may have to be looked at, whatever the zone and the cut.
pub(super) fn may_be_asked(key: Key, bounds: Option<&str>) -> bool {
    if key == Key::Uuid {
        return true;
    }
    let from = bounds.and_then(calendar::range);
    let from = from.and_then(|(from, _)| key.point(from));
    // A day more than the year needs, for time zones.
    let before = NaiveDate::from_ymd_opt(1980, 1, 3).map(|day| key.at(day, Tz::UTC));
    matches!((from, before), (Some(from), Some(before)) if from < before)
}

fn new_year(key: Key, year: i32, zone: Tz) -> Option<Point> {
    NaiveDate::from_ymd_opt(year, 1, 1).map(|day| key.at(day, zone))
}

impl Doubt {
    /// The same requirement, and that `name` has no such row.
    pub(super) fn without(
        &self,
        required: Required,
        name: &RelationName,
        column: &str,
    ) -> Required {
        let none = format!("NOT EXISTS (SELECT FROM {name} WHERE {})", self.condition);
        required.and(&none, self.finding(name, column))
    }

    /// What is told of a partition that has some.
    fn finding(&self, name: &RelationName, column: &str) -> Finding {
        Finding {
            code: "partitions.doubted".to_owned(),
            severity: Severity::Warning,
            object: name.to_string(),
            message: format!(
                "{name} is over by its bounds, and has rows whose {column} {}: nobody can tell how old they are, so it stays until they are moved elsewhere or deleted",
                self.what
            ),
            suggestion: Some(format!("SELECT * FROM {name} WHERE {}", self.condition)),
        }
    }
}
