//! Rows by the month they are of, each month on its way into a file of its own.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Utc};

use crate::engines::parquet::{Column, ParquetError, Writer};
use crate::plan::{Export, MonthOf};

/// Seconds from 1970 to 2000.
const TO_2000: i64 = 946_684_800;

/// Rows by month, on their way into files.
pub(super) struct Parts(pub(super) BTreeMap<Option<(i32, u32)>, Part>);

pub(super) struct Part {
    pub(super) writer: Writer,
    pub(super) span: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

pub(super) fn add(
    export: &Export,
    columns: &[Column],
    parts: &mut BTreeMap<Option<(i32, u32)>, Part>,
    fields: &[Option<&[u8]>],
) -> Result<(), ParquetError> {
    let at = export
        .month
        .and_then(|(column, how)| moment(how, fields.get(column).copied().flatten()?));
    let part = match parts.entry(at.map(|at| (at.year(), at.month()))) {
        std::collections::btree_map::Entry::Occupied(part) => part.into_mut(),
        std::collections::btree_map::Entry::Vacant(empty) => empty.insert(Part {
            writer: Writer::new(columns)?,
            span: None,
        }),
    };
    if let Some(at) = at {
        part.span = Some(part.span.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
    }
    part.writer.push(fields)
}

/// The time that a field tells; none for infinity, and for what no calendar has.
fn moment(how: MonthOf, field: &[u8]) -> Option<DateTime<Utc>> {
    let number = match *field {
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        [a, b, c, d, e, f, ..] => i64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        _ => return None,
    };
    match (how, field.len()) {
        (MonthOf::Calendar, 4) => {
            DateTime::from_timestamp(number.checked_mul(86_400)?.checked_add(TO_2000)?, 0)
        }
        (MonthOf::Calendar, _) => {
            DateTime::from_timestamp_micros(number.checked_add(TO_2000 * 1_000_000)?)
        }
        (MonthOf::Epoch(unit), _) => DateTime::from_timestamp(number.div_euclid(unit.max(1)), 0),
        (MonthOf::Uuid, _) => DateTime::from_timestamp_millis(number),
    }
}

pub(super) fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
