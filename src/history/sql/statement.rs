//! Statements with their values, before a database is known.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use uuid::Uuid;

use super::text::{Dialect, Sql, spell};

/// A value, kept by each database in its own way.
#[derive(Clone, Debug)]
pub(in crate::history) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Real(f64),
    Flag(Option<bool>),
    Id(Option<Uuid>),
    /// Kept to the millisecond, never rounded up.
    Time(Option<DateTime<Utc>>),
    /// JSON as it is written.
    Json(String),
}

/// A time as a text: always 24 characters, so that comparing the texts
/// compares the times.
pub(in crate::history) fn time_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

macro_rules! values {
    ($($type:ty => $value:ident => $as:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Value {
                $as
            }
        })+
    };
}

values! {
    &str => it => Value::Text(Some(it.to_owned()));
    &String => it => Value::Text(Some(it.clone()));
    String => it => Value::Text(Some(it));
    &Option<String> => it => Value::Text(it.clone());
    Option<String> => it => Value::Text(it);
    i64 => it => Value::Integer(Some(it));
    u32 => it => Value::Integer(Some(i64::from(it)));
    Option<i64> => it => Value::Integer(it);
    f64 => it => Value::Real(it);
    bool => it => Value::Flag(Some(it));
    Option<bool> => it => Value::Flag(it);
    Uuid => it => Value::Id(Some(it));
    Option<Uuid> => it => Value::Id(it);
    DateTime<Utc> => it => Value::Time(Some(it));
    Option<DateTime<Utc>> => it => Value::Time(it);
}

/// A text with the values of its `$1`, `$2`, ….
pub(in crate::history) struct Statement {
    text: Text,
    values: Vec<Value>,
}

enum Text {
    Fixed(&'static Sql),
    Built(String),
    /// So many rows of so many values, in place of `{rows}`.
    Rows(&'static str, usize, usize),
}

impl Statement {
    pub(in crate::history) fn values(&self) -> &[Value] {
        &self.values
    }

    pub(in crate::history) fn text(&self, dialect: Dialect) -> SqlStr {
        match &self.text {
            Text::Fixed(sql) => sql.spelled(dialect).into_sql_str(),
            // Built from words of ours; all else is bound.
            Text::Built(built) => AssertSqlSafe(spell(built, dialect)).into_sql_str(),
            Text::Rows(text, rows, values) => {
                let text = text.replace("{rows}", &places(*rows, *values, dialect));
                AssertSqlSafe(spell(&text, dialect)).into_sql_str()
            }
        }
    }
}

impl Sql {
    pub(super) fn with<const N: usize>(&'static self, values: [Value; N]) -> Statement {
        Statement {
            text: Text::Fixed(self),
            values: values.into(),
        }
    }
}

/// A text that writes several rows at once: `{rows}` stands for their values.
pub(super) struct Rows(&'static str);

impl Rows {
    pub(super) const fn new(text: &'static str) -> Rows {
        Rows(text)
    }

    fn with<const N: usize>(&self, rows: impl ExactSizeIterator<Item = [Value; N]>) -> Statement {
        Statement {
            text: Text::Rows(self.0, rows.len(), N),
            values: rows.flatten().collect(),
        }
    }

    /// As many statements as it takes, of few sizes: a database prepares each
    /// text once.
    pub(super) fn all<const N: usize>(&self, mut rows: Vec<[Value; N]>) -> Vec<Statement> {
        let mut statements = Vec::new();
        for size in [32, 8, 1] {
            while rows.len() >= size {
                statements.push(self.with(rows.drain(..size)));
            }
        }
        statements
    }
}

/// The places of the values of so many rows, in their order. SQLite looks through all names before
/// each value that has one.
fn places(rows: usize, values: usize, dialect: Dialect) -> String {
    let mut places = String::with_capacity(rows * values * 6);
    for row in 0..rows {
        places.push_str(if row == 0 { "(" } else { ", (" });
        for value in 1..=values {
            places.push_str(if value == 1 { "" } else { ", " });
            match dialect {
                Dialect::Sqlite => places.push('?'),
                Dialect::Postgres => {
                    places.push('$');
                    places.push_str(&(row * values + value).to_string());
                }
            }
        }
        places.push(')');
    }
    places
}

/// A statement whose text depends on what is asked for.
pub(super) struct Builder {
    text: String,
    values: Vec<Value>,
}

impl Builder {
    pub(super) fn new(text: &'static str) -> Builder {
        Builder {
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    /// Goes on with words of ours.
    pub(super) fn push(&mut self, text: &'static str) -> &mut Builder {
        self.text.push_str(text);
        self
    }

    /// Goes on with a value.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Builder {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    /// Goes on with a list of values.
    pub(super) fn bind_all<V: Into<Value>>(&mut self, values: impl Iterator<Item = V>) {
        for (n, value) in values.enumerate() {
            self.push(if n == 0 { "(" } else { ", " }).bind(value);
        }
        self.push(")");
    }

    pub(super) fn end(self) -> Statement {
        Statement {
            text: Text::Built(self.text),
            values: self.values,
        }
    }
}

/// What a call is going to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::history) enum Access {
    Read,
    Write,
}
