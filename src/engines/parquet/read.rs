//! From a Parquet file back to what the server sent.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::checksum::RowSum;
use super::types::{Column, Form};
use super::{Checksum, DAYS, MICROS, ParquetError, decimal};

/// Rows that are unpacked at once, and about how many bytes of them.
const AT_ONCE: usize = 1_024;
const AT_ONCE_BYTES: usize = 4 << 20;

/// The fields of a row, as the server sent them.
pub type Row = Vec<Option<Vec<u8>>>;

/// The rows of a file, a few at a time.
///
/// # Errors
/// When the file is damaged, or has other columns.
pub fn rows(
    file: Bytes,
    columns: &[Column],
) -> Result<impl Iterator<Item = Result<Row, ParquetError>> + use<>, ParquetError> {
    let batches = batches(file, columns)?;
    let columns = columns.to_vec();
    Ok(batches.flat_map(move |batch| {
        let columns = columns.clone();
        let (batch, error) = match batch {
            Ok(batch) => (Some(batch), None),
            Err(error) => (None, Some(Err(error))),
        };
        let rows = batch.into_iter().flat_map(move |batch| {
            let columns = columns.clone();
            (0..batch.num_rows()).map(move |n| row(&batch, &columns, n))
        });
        rows.chain(error)
    }))
}

/// How many rows a file has, and their checksum.
///
/// # Errors
/// When the file is damaged, or has other columns.
pub fn sum(file: Bytes, columns: &[Column]) -> Result<(i64, Checksum), ParquetError> {
    let (mut count, mut sum) = (0, Checksum::default());
    let (mut whole, mut value) = (RowSum::default(), Vec::new());
    for batch in batches(file, columns)? {
        let batch = batch?;
        for n in 0..batch.num_rows() {
            let mut arrays = batch.columns().iter();
            for column in columns {
                let Some(array) = arrays.next() else { break };
                let shapes = if column.list { arrays.next() } else { None };
                if array.is_null(n) {
                    whole.field(column, None);
                    continue;
                }
                value.clear();
                match shapes {
                    Some(shapes) => value = list(column.form, array, shapes, n)?,
                    None => field(column.form, array, n, &mut value),
                }
                whole.field(column, Some(&value));
            }
            sum.add_row(&mut whole);
            count += 1;
        }
    }
    Ok((count, sum))
}

/// What is in a file, unpacked a few rows at a time.
fn batches(
    file: Bytes,
    columns: &[Column],
) -> Result<impl Iterator<Item = Result<RecordBatch, ParquetError>> + use<>, ParquetError> {
    let metadata = super::pages::sound(&file)?;
    let rows = usize::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let bytes: i64 = metadata
        .row_groups()
        .iter()
        .map(|group| group.total_byte_size().max(0))
        .sum();
    let each = usize::try_from(bytes).unwrap_or(usize::MAX) / rows.max(1);
    let at_once = (AT_ONCE_BYTES / each.max(1)).clamp(1, AT_ONCE);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(at_once);
    let expected = super::schema_of(columns);
    if builder.schema().fields() != expected.fields() {
        return Err(ParquetError::Value {
            column: "all".to_owned(),
            message: "the file has other columns than its manifest says".to_owned(),
        });
    }
    let mut batches = builder.build()?;
    let mut broken = false;
    Ok(std::iter::from_fn(move || {
        if broken {
            return None;
        }
        // The library is not proof against every file that somebody may make.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| batches.next()));
        let read = read.unwrap_or_else(|_| {
            broken = true;
            Some(Err(arrow_schema::ArrowError::ParquetError(
                "the file is damaged".to_owned(),
            )))
        });
        read.map(|batch| batch.map_err(ParquetError::from))
    }))
}

fn row(batch: &RecordBatch, columns: &[Column], n: usize) -> Result<Row, ParquetError> {
    let mut arrays = batch.columns().iter();
    let mut fields = Row::with_capacity(columns.len());
    for column in columns {
        // The schema was compared: there are as many as the columns need.
        let Some(array) = arrays.next() else { break };
        let shapes = if column.list { arrays.next() } else { None };
        fields.push(match shapes {
            _ if array.is_null(n) => None,
            Some(shapes) => Some(list(column.form, array, shapes, n)?),
            None => Some(plain(column.form, array, n)),
        });
    }
    Ok(fields)
}

fn list(
    form: Form,
    lists: &dyn Array,
    shapes: &dyn Array,
    n: usize,
) -> Result<Vec<u8>, ParquetError> {
    let elements = lists.as_list::<i32>().value(n);
    let elements: Vec<Option<Vec<u8>>> = (0..elements.len())
        .map(|n| (!elements.is_null(n)).then(|| plain(form, elements.as_ref(), n)))
        .collect();
    let shape = (!shapes.is_null(n)).then(|| shapes.as_string::<i32>().value(n));
    super::list::encode(shape, &elements)
}

/// A value that is not null, as the server sent it.
fn plain(form: Form, array: &dyn Array, n: usize) -> Vec<u8> {
    let mut value = Vec::new();
    field(form, array, n, &mut value);
    value
}

/// The same, appended.
fn field(form: Form, array: &dyn Array, n: usize, out: &mut Vec<u8>) {
    match form {
        Form::Bool => out.push(u8::from(array.as_boolean().value(n))),
        Form::Int2 => out.extend(array.as_primitive::<Int16Type>().value(n).to_be_bytes()),
        Form::Int4 => out.extend(array.as_primitive::<Int32Type>().value(n).to_be_bytes()),
        Form::Int8 => out.extend(array.as_primitive::<Int64Type>().value(n).to_be_bytes()),
        Form::Float4 => out.extend(array.as_primitive::<Float32Type>().value(n).to_be_bytes()),
        Form::Float8 => out.extend(array.as_primitive::<Float64Type>().value(n).to_be_bytes()),
        Form::Date => {
            let days = match array.as_primitive::<Date32Type>().value(n) {
                days @ (i32::MAX | i32::MIN) => days,
                days => days.wrapping_sub(DAYS),
            };
            out.extend(days.to_be_bytes());
        }
        Form::Timestamp | Form::TimestampTz => {
            let at = match array.as_primitive::<TimestampMicrosecondType>().value(n) {
                at @ (i64::MAX | i64::MIN) => at,
                at => at.wrapping_sub(MICROS),
            };
            out.extend(at.to_be_bytes());
        }
        Form::Time => {
            let at = array.as_primitive::<Time64MicrosecondType>().value(n);
            out.extend(at.to_be_bytes());
        }
        Form::Uuid => out.extend(array.as_fixed_size_binary().value(n)),
        Form::Bytes => out.extend(array.as_binary::<i32>().value(n)),
        Form::Decimal128 { scale, .. } => {
            let number = array.as_primitive::<Decimal128Type>().value(n);
            out.extend(decimal::from_digits(&number.to_string(), scale).into_bytes());
        }
        Form::Decimal256 { scale, .. } => {
            let number = array.as_primitive::<Decimal256Type>().value(n);
            out.extend(decimal::from_digits(&number.to_string(), scale).into_bytes());
        }
        Form::Text => out.extend(array.as_string::<i32>().value(n).as_bytes()),
    }
}
