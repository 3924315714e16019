//! How heavy rows are, before any of them is fetched: memory is bounded by
//! bytes, and a row that does not fit is told, not fetched.

use super::{Job, ask};
use crate::engines::EngineError;
use crate::engines::parquet::{Column, Form};
use crate::engines::postgres::Identifier;
use crate::plan::{Param, Query, Range, Walk, Without};

/// A row of more bytes is not kept in memory: on its way it is there several
/// times, as it came, as it is written and as it is read back.
pub(super) const MOST_ROW_BYTES: i64 = 16 << 20;
/// So many bytes of values make a batch, whatever they pack to.
pub(super) const BATCH_BYTES: i64 = 16 << 20;

/// What a range weighs.
#[derive(Debug)]
pub(super) struct Weight {
    /// Bytes of all rows that fit.
    pub(super) bytes: i64,
    /// Rows that do not fit, with their bytes.
    pub(super) heavy: Vec<(String, i64)>,
}

/// Whether rows of a table can be heavy: those that are live outside of it.
pub(super) async fn can_be_heavy(walk: &Walk, job: Job<'_>) -> Result<bool, EngineError> {
    let sql = "SELECT coalesce(pg_catalog.pg_relation_size(nullif(reltoastrelid, 0)), 0) > 0 FROM pg_catalog.pg_class WHERE oid = $1::oid";
    let query = Query::new(sql, [Param::Oid(walk.oid)]);
    let answer = ask(job.session, "looking for large values", &query).await?;
    Ok(matches!(
        answer.first().map(|row| row.get(0)),
        Some(Ok(true))
    ))
}

/// A value that the server keeps in so few bytes, and has not packed, is no larger than four times
/// that, or so little that some of them do no harm: a number of ten bytes may have 131,072 digits,
/// and this holds less than a hundred of those.
const FEW: i64 = 1024;

/// The bytes of a row, as SQL. Of texts and bytes the server knows it without
/// unpacking them, of arrays of one width how many elements they have; other values that are
/// packed, or not small, are written as they would come.
fn of_row(columns: &[Column]) -> String {
    let each: Vec<String> = columns
        .iter()
        .map(|column| {
            let name = Identifier::new(&*column.name);
            let known = matches!(column.pg_type.as_str(), "text" | "bytea")
                || column.pg_type.starts_with("character varying");
            match column.form {
                form if column.list => list(column, &name, form),
                _ if known => format!("coalesce(octet_length({name}), 0)::int8"),
                Form::Text | Form::Bytes | Form::Decimal256 { .. } => {
                    let sent = column.selected(&name.to_string());
                    large(&name, &format!("pg_catalog.octet_length({sent})"))
                }
                _ => "16::int8".to_owned(),
            }
        })
        .collect();
    format!("{} AS bytes", each.join(" + "))
}

/// An array comes with four bytes before each element. Where elements have one width, their
/// number says all; what the server keeps may be much less than what comes.
fn list(column: &Column, name: &Identifier, form: Form) -> String {
    let count = format!("coalesce(pg_catalog.cardinality({name}), 0)::int8");
    let width = match form {
        Form::Bool => 1,
        Form::Int2 => 2,
        Form::Int4 | Form::Float4 | Form::Date => 4,
        Form::Int8 | Form::Float8 | Form::Timestamp | Form::TimestampTz | Form::Time => 8,
        Form::Uuid => 16,
        Form::Bytes | Form::Text | Form::Decimal128 { .. } | Form::Decimal256 { .. } => {
            let sent = column.selected(&name.to_string());
            let sum = format!(
                "(SELECT coalesce(sum(pg_catalog.octet_length(e.v)), 0) FROM pg_catalog.unnest({sent}) AS e(v))"
            );
            return format!("({} + 4 * {count})", large(name, &sum));
        }
    };
    format!("({} * {count})", 4 + width)
}

fn large(name: &Identifier, sent: &str) -> String {
    format!(
        "CASE WHEN pg_catalog.pg_column_size({name}) > {FEW} OR pg_catalog.pg_column_compression({name}) IS NOT NULL THEN {sent} ELSE 4 * coalesce(pg_catalog.pg_column_size({name}), 0) END::int8"
    )
}

/// Weighs a range.
pub(super) async fn of(
    walk: &Walk,
    columns: &[Column],
    range: &Range,
    job: Job<'_>,
) -> Result<Weight, EngineError> {
    let rows = walk.select(
        &format!("ctid::text AS place, {}", of_row(columns)),
        range,
        &Without::default(),
    );
    let all = Query::new(
        format!(
            "SELECT coalesce(sum(bytes) FILTER (WHERE bytes <= {MOST_ROW_BYTES}), 0)::int8,
                coalesce(array_agg(place) FILTER (WHERE bytes > {MOST_ROW_BYTES}), '{{}}'),
                coalesce(array_agg(bytes) FILTER (WHERE bytes > {MOST_ROW_BYTES}), '{{}}') FROM ({}) AS r",
            rows.sql
        ),
        rows.params,
    );
    let doing = "weighing rows";
    let answer = ask(job.session, doing, &all).await?;
    let Some(row) = answer.first() else {
        return Ok(Weight {
            bytes: 0,
            heavy: Vec::new(),
        });
    };
    let places: Vec<String> = row.get(1)?;
    let bytes: Vec<i64> = row.get(2)?;
    Ok(Weight {
        bytes: row.get(0)?,
        heavy: places.into_iter().zip(bytes).collect(),
    })
}

/// Cuts a range into pieces that fit, row by row; what does not fit is left out.
pub(super) async fn pieces(
    walk: &Walk,
    columns: &[Column],
    range: &Range,
    job: Job<'_>,
) -> Result<Vec<Range>, EngineError> {
    let what = format!("ctid::text, {}", of_row(columns));
    let rows = walk.select(&what, range, &Without::default());
    let doing = "weighing rows one by one";
    let (mut pieces, mut piece, mut held) = (Vec::new(), Vec::new(), 0);
    for row in ask(job.session, doing, &rows).await? {
        let (place, bytes): (String, i64) = (row.get(0)?, row.get(1)?);
        if bytes > MOST_ROW_BYTES {
            continue;
        }
        if held + bytes > BATCH_BYTES && !piece.is_empty() {
            pieces.push(Range::Rows(std::mem::take(&mut piece)));
            held = 0;
        }
        held += bytes;
        piece.push(place);
    }
    if !piece.is_empty() {
        pieces.push(Range::Rows(piece));
    }
    Ok(pieces)
}
