//! From a Parquet file back to what the server sent.

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_buffer::NullBuffer;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::RowGroupMetaData;

use super::checksum::RowSum;
use super::types::{Column, Form};
use super::{Checksum, DAYS, MICROS, ParquetError, decimal};

/// Rows that are unpacked at once, and about how many bytes of them.
const AT_ONCE: usize = 1_024;
const AT_ONCE_BYTES: usize = 4 << 20;
/// What a value takes while it is unpacked, with its levels.
const ELEMENT_BYTES: i64 = 16;

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
    let mut whole = RowSum::default();
    for batch in batches(file, columns)? {
        let batch = batch?;
        let cells = Cells::all(&batch, columns);
        for n in 0..batch.num_rows() {
            for (column, cells) in columns.iter().zip(&cells) {
                if cells.is_null(n) {
                    whole.field(column, None);
                    continue;
                }
                match (&cells.values, cells.shapes) {
                    (_, Some(_)) => {
                        whole.field(column, Some(&cells.value(n)?));
                    }
                    (Values::Text(texts), _) => {
                        whole.field(column, Some(texts.value(n).as_bytes()));
                    }
                    (Values::Bytes(bytes), _) => whole.field(column, Some(bytes.value(n))),
                    (values, _) => whole.small(|out| values.append(n, out)),
                }
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
    // A group of few rows that are large says nothing of the others, nor they of it.
    let each = metadata.row_groups().iter().map(each_of).max().unwrap_or(0);
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

/// About how many bytes a row of this group is in memory. Elements that come again pack to
/// next to nothing, and are unpacked to all that they are.
fn each_of(group: &RowGroupMetaData) -> usize {
    let bytes: i64 = group
        .columns()
        .iter()
        .map(|column| {
            let values = column.num_values().max(0).saturating_mul(ELEMENT_BYTES);
            column.uncompressed_size().max(values)
        })
        .fold(0, i64::saturating_add);
    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
    usize::try_from(bytes).unwrap_or(usize::MAX) / rows.max(1)
}

fn row(batch: &RecordBatch, columns: &[Column], n: usize) -> Result<Row, ParquetError> {
    Cells::all(batch, columns)
        .iter()
        .map(|cells| match cells.is_null(n) {
            true => Ok(None),
            false => cells.value(n).map(Some),
        })
        .collect()
}

/// A column of some rows.
struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
    /// Of lists: their form, and what a list alone does not tell.
    shapes: Option<(Form, &'a StringArray)>,
}

impl<'a> Cells<'a> {
    /// The schema was compared: there are as many arrays as the columns need.
    fn all(batch: &'a RecordBatch, columns: &[Column]) -> Vec<Cells<'a>> {
        let mut arrays = batch.columns().iter();
        let mut all = Vec::with_capacity(columns.len());
        for column in columns {
            let Some(array) = arrays.next() else { break };
            let shapes = if column.list { arrays.next() } else { None };
            all.push(Cells {
                nulls: array.nulls(),
                values: match shapes {
                    Some(_) => Values::Lists(array.as_list()),
                    None => Values::of(column.form, array),
                },
                shapes: shapes.map(|shapes| (column.form, shapes.as_string())),
            });
        }
        all
    }

    fn is_null(&self, n: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(n))
    }

    /// A value that is not null, as the server sent it.
    fn value(&self, n: usize) -> Result<Vec<u8>, ParquetError> {
        match (&self.values, self.shapes) {
            (Values::Lists(lists), Some((form, shapes))) => list(form, lists, shapes, n),
            (values, _) => Ok(values.one(n)),
        }
    }
}

fn list(
    form: Form,
    lists: &ListArray,
    shapes: &StringArray,
    n: usize,
) -> Result<Vec<u8>, ParquetError> {
    let elements = lists.value(n);
    let values = Values::of(form, elements.as_ref());
    let bytes = elements.to_data().get_slice_memory_size().unwrap_or(0);
    let shape = (!shapes.is_null(n)).then(|| shapes.value(n));
    super::list::encode(shape, elements.len(), bytes, |n, out| {
        let there = !elements.is_null(n);
        if there {
            values.append(n, out);
        }
        there
    })
}

/// Values by their type, which is looked at once for all of them.
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int2(&'a Int16Array),
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    Float4(&'a Float32Array),
    Float8(&'a Float64Array),
    Date(&'a Date32Array),
    Moment(&'a TimestampMicrosecondArray),
    Time(&'a Time64MicrosecondArray),
    Uuid(&'a FixedSizeBinaryArray),
    Bytes(&'a BinaryArray),
    Decimal128(&'a Decimal128Array, i8),
    Decimal256(&'a Decimal256Array, i8),
    Text(&'a StringArray),
    Lists(&'a ListArray),
}

impl<'a> Values<'a> {
    fn of(form: Form, array: &'a dyn Array) -> Values<'a> {
        match form {
            Form::Bool => Values::Bool(array.as_boolean()),
            Form::Int2 => Values::Int2(array.as_primitive()),
            Form::Int4 => Values::Int4(array.as_primitive()),
            Form::Int8 => Values::Int8(array.as_primitive()),
            Form::Float4 => Values::Float4(array.as_primitive()),
            Form::Float8 => Values::Float8(array.as_primitive()),
            Form::Date => Values::Date(array.as_primitive()),
            Form::Timestamp | Form::TimestampTz => Values::Moment(array.as_primitive()),
            Form::Time => Values::Time(array.as_primitive()),
            Form::Uuid => Values::Uuid(array.as_fixed_size_binary()),
            Form::Bytes => Values::Bytes(array.as_binary()),
            Form::Decimal128 { scale, .. } => Values::Decimal128(array.as_primitive(), scale),
            Form::Decimal256 { scale, .. } => Values::Decimal256(array.as_primitive(), scale),
            Form::Text => Values::Text(array.as_string()),
        }
    }

    /// A value that is not null, as the server sent it.
    fn one(&self, n: usize) -> Vec<u8> {
        let mut value = Vec::new();
        self.append(n, &mut value);
        value
    }

    /// The same, appended. Lists are no single value.
    fn append(&self, n: usize, out: &mut Vec<u8>) {
        match self {
            Values::Bool(a) => out.push(u8::from(a.value(n))),
            Values::Int2(a) => out.extend_from_slice(&a.value(n).to_be_bytes()),
            Values::Int4(a) => out.extend_from_slice(&a.value(n).to_be_bytes()),
            Values::Int8(a) => out.extend_from_slice(&a.value(n).to_be_bytes()),
            Values::Float4(a) => out.extend_from_slice(&a.value(n).to_be_bytes()),
            Values::Float8(a) => out.extend_from_slice(&a.value(n).to_be_bytes()),
            Values::Date(a) => {
                let days = match a.value(n) {
                    days @ (i32::MAX | i32::MIN) => days,
                    days => days.wrapping_sub(DAYS),
                };
                out.extend_from_slice(&days.to_be_bytes());
            }
            Values::Moment(a) => {
                let at = match a.value(n) {
                    at @ (i64::MAX | i64::MIN) => at,
                    at => at.wrapping_sub(MICROS),
                };
                out.extend_from_slice(&at.to_be_bytes());
            }
            Values::Time(a) => out.extend_from_slice(&a.value(n).to_be_bytes()),
            Values::Uuid(a) => out.extend_from_slice(a.value(n)),
            Values::Bytes(a) => out.extend_from_slice(a.value(n)),
            Values::Decimal128(a, scale) => decimal::append(a.value(n), *scale, out),
            Values::Decimal256(a, scale) => {
                let number = a.value(n).to_string();
                out.extend_from_slice(decimal::from_digits(&number, *scale).as_bytes());
            }
            Values::Text(a) => out.extend_from_slice(a.value(n).as_bytes()),
            Values::Lists(_) => {}
        }
    }
}
