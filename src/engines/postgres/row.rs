//! What a server answers, read with care: whatever it is, nothing panics.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{FromSql, Type};

use super::RelationName;
use crate::engines::EngineError;
use crate::values::unreadable;

/// A row of an answer, and what was asked.
#[derive(Debug)]
pub struct Row {
    raw: tokio_postgres::Row,
    doing: Arc<str>,
}

impl Row {
    pub(super) fn all(doing: &str, rows: Vec<tokio_postgres::Row>) -> Vec<Row> {
        let doing: Arc<str> = doing.into();
        let of = |raw| Row {
            raw,
            doing: Arc::clone(&doing),
        };
        rows.into_iter().map(of).collect()
    }

    /// The value of a column, counted from 0: for answers of up to three columns.
    ///
    /// # Errors
    /// When there is no such column, it is of another type, or is NULL where
    /// `T` is no `Option`.
    pub fn get<T: Answer>(&self, n: usize) -> Result<T, EngineError> {
        self.column(n, || {
            let column = self.raw.columns().get(n);
            format!("{n} ({})", column.map_or("?", |column| column.name()))
        })
    }

    /// The value of the column of this name: for all other answers, where a column more would move
    /// those behind it.
    ///
    /// # Errors
    /// As of [`Row::get`].
    pub fn named<T: Answer>(&self, name: &str) -> Result<T, EngineError> {
        self.column(name, || name.to_owned())
    }

    /// The name of a relation, from the columns that have its schema and its own name.
    ///
    /// # Errors
    /// As of [`Row::get`].
    pub fn relation(&self, schema: &str, name: &str) -> Result<RelationName, EngineError> {
        let schema: String = self.named(schema)?;
        Ok(RelationName::new(schema, self.named::<String>(name)?))
    }

    fn column<T: Answer>(
        &self,
        at: impl RowIndex + Display,
        what: impl FnOnce() -> String,
    ) -> Result<T, EngineError> {
        match self.raw.try_get::<_, T::Wire>(at) {
            Ok(wire) => Ok(T::of(wire)),
            Err(cause) => {
                let doing = format!("{}, column {}", self.doing, what());
                Err(EngineError::statement(&doing, "", cause))
            }
        }
    }
}

/// A column of the first row, where there is one.
///
/// # Errors
/// As of [`Row::get`].
pub fn first<T: Answer>(rows: &[Row], n: usize) -> Result<Option<T>, EngineError> {
    rows.first().map(|row| row.get(n)).transpose()
}

/// Makes something of each row.
///
/// # Errors
/// The first that `of` gives.
pub fn each<T>(
    rows: &[Row],
    of: impl FnMut(&Row) -> Result<T, EngineError>,
) -> Result<Vec<T>, EngineError> {
    rows.iter().map(of).collect()
}

/// A value that can be read from an answer.
pub trait Answer: Sized {
    /// As it comes.
    type Wire: for<'a> FromSql<'a>;

    /// What it is here.
    fn of(wire: Self::Wire) -> Self;
}

macro_rules! as_it_comes {
    ($($one:ty),*) => {
        $(impl Answer for $one {
            type Wire = $one;

            fn of(wire: $one) -> $one {
                wire
            }
        })*
    };
}

as_it_comes!(bool, i8, i16, i32, i64, u32, f32, f64, DateTime<Utc>);

impl Answer for String {
    type Wire = Text;

    fn of(wire: Text) -> String {
        wire.0
    }
}

impl Answer for Value {
    type Wire = Json;

    fn of(wire: Json) -> Value {
        wire.0
    }
}

impl<T: Answer> Answer for Option<T> {
    type Wire = Option<T::Wire>;

    fn of(wire: Self::Wire) -> Self {
        wire.map(T::of)
    }
}

impl<T: Answer> Answer for Vec<T>
where
    Vec<T::Wire>: for<'a> FromSql<'a>,
{
    type Wire = Vec<T::Wire>;

    fn of(wire: Self::Wire) -> Self {
        wire.into_iter().map(T::of).collect()
    }
}

type Fault = Box<dyn Error + Sync + Send>;

/// Text that may hold bytes which are no UTF-8: names in a database with the
/// encoding SQL_ASCII, and everywhere names that databases share.
#[derive(Debug)]
pub struct Text(String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Fault> {
        Ok(Text(unreadable::read(raw).into_owned()))
    }

    fn accepts(of: &Type) -> bool {
        <String as FromSql>::accepts(of)
    }
}

/// JSON, with text as of [`Text`].
#[derive(Debug)]
pub struct Json(Value);

impl<'a> FromSql<'a> for Json {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Fault> {
        // Before the binary form of jsonb stands its version.
        let raw = match (*of == Type::JSONB, raw.split_first()) {
            (true, Some((1, text))) => text,
            _ => raw,
        };
        let text: Cow<'_, str> = unreadable::read(raw);
        Ok(Json(serde_json::from_str(&text)?))
    }

    fn accepts(of: &Type) -> bool {
        <Value as FromSql>::accepts(of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever bytes come: they are read, or refused.
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            for of in [Type::TEXT, Type::NAME, Type::JSON, Type::JSONB, Type::BYTEA, Type::INT4] {
                let _ = Text::from_sql(&of, &bytes);
                let _ = Json::from_sql(&of, &bytes);
                let _ = <Option<Vec<Text>> as FromSql>::from_sql(&Type::TEXT_ARRAY, &bytes);
                let _ = <Vec<Option<Json>> as FromSql>::from_sql(&Type::JSONB_ARRAY, &bytes);
            }
        }
    }
}
