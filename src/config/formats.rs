//! Which parser reads the text at a place: the `format` of its schema says so.

use crate::values::{
    Bytes, CalendarSpan, Cron, DatabasePattern, Invalid, MailAddress, NamePattern, Percent,
    SchemaPattern, TableName, TimeSpan, TimeZone, Window,
};

/// Marks the places whose values must not be shown.
pub(super) const SECRET: &str = "maint-secret";

/// Marks the places that name another target of the same engine.
pub(super) const TARGET: &str = "maint-target";

/// A text format of ours.
pub(super) struct Format {
    /// As in the schemas.
    name: &'static str,
    /// For a sentence.
    pub noun: &'static str,
    /// Tries to read a text.
    pub check: fn(&str) -> Result<(), Invalid>,
}

const fn of(
    name: &'static str,
    noun: &'static str,
    check: fn(&str) -> Result<(), Invalid>,
) -> Format {
    Format { name, noun, check }
}

/// One line per format; a value without a line here is still read by serde, but its problems
/// have a poorer place.
const FORMATS: &[Format] = &[
    of("maint-bytes", "a size", |t| t.parse::<Bytes>().map(drop)),
    of("maint-calendar-span", "a calendar span", |t| {
        t.parse::<CalendarSpan>().map(drop)
    }),
    of("maint-cron", "a cron expression", |t| {
        t.parse::<Cron>().map(drop)
    }),
    of("maint-database-pattern", "a pattern of databases", |t| {
        t.parse::<DatabasePattern>().map(drop)
    }),
    of("maint-duration", "a duration", |t| {
        t.parse::<TimeSpan>().map(drop)
    }),
    of("maint-mail-address", "a mail address", |t| {
        t.parse::<MailAddress>().map(drop)
    }),
    of("maint-name-pattern", "a name pattern", |t| {
        t.parse::<NamePattern>().map(drop)
    }),
    of("maint-percent", "a share", |t| {
        t.parse::<Percent>().map(drop)
    }),
    of("maint-schema-pattern", "a pattern of schemas", |t| {
        t.parse::<SchemaPattern>().map(drop)
    }),
    of(SECRET, "a secret", |_| Ok(())),
    of("maint-table-name", "a table", |t| {
        t.parse::<TableName>().map(drop)
    }),
    of(TARGET, "a target", |_| Ok(())),
    of("maint-timezone", "a time zone", |t| {
        t.parse::<TimeZone>().map(drop)
    }),
    of("maint-window", "a window", |t| {
        t.parse::<Window>().map(drop)
    }),
];

/// The format of this name.
pub(super) fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
