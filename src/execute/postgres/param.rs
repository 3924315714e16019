//! How the values of a plan travel.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use crate::plan::Param;

/// Values travel as text, which the server reads as whatever type the
/// statement wants there: `$1` may be an integer, a date or an enum without a
/// cast.
impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Param::Oid(oid) => out.extend_from_slice(oid.to_string().as_bytes()),
            Param::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Param::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
