//! What PostgreSQL keeps differently from SQLite.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo};
use sqlx::{Encode, Error, Postgres, Row, Type};

/// `json`, the same in every server.
const JSON: Oid = Oid(114);

/// A value of type `json`, which travels as it is written.
pub(super) struct Json<'a>(pub(super) &'a str);

impl Type<Postgres> for Json<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(JSON)
    }
}

impl Encode<'_, Postgres> for Json<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

/// JSON as it was written. Unchecked, because the driver knows `json` as
/// something else than a text.
pub(in crate::history) fn document(row: &PgRow, column: &str) -> Result<String, Error> {
    row.try_get_unchecked(column)
}
