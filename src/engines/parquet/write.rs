//! From what the server sends to a Parquet file.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Decimal256Builder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder,
    Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, RecordBatch};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::checksum::RowSum;
use super::list::Array;
use super::types::{Column, Form};
use super::{Checksum, DAYS, MICROS, ParquetError, decimal};

/// Rows that are turned into a batch at once.
const BATCH: usize = 4_096;
/// Bytes of values that are turned into a batch, however few rows that is.
const BATCH_BYTES: usize = 4 << 20;
/// Level 3 takes a tenth more time of the processor, for files of the same size.
const LEVEL: i32 = 1;
/// A column whose values are more than this is written as it is: numbering values that hardly
/// ever come again takes longer, and makes files larger by a quarter.
const DICTIONARY_BYTES: usize = 64 << 10;
/// Encoded bytes after which a row group is closed.
const GROUP_BYTES: usize = 16 << 20;

/// The schema of files with these columns.
pub fn schema_of(columns: &[Column]) -> SchemaRef {
    let mut names: HashSet<String> = columns.iter().map(|c| c.name.clone()).collect();
    let mut fields = Vec::new();
    for column in columns {
        fields.push(column.field());
        if column.list {
            let mut name = format!("{}_dimensions", column.name);
            while !names.insert(name.clone()) {
                name.push('_');
            }
            fields.push(Field::new(name, DataType::Utf8, true));
        }
    }
    Arc::new(Schema::new(fields))
}

/// Writes one file into memory.
pub struct Writer {
    columns: Vec<Column>,
    builders: Vec<Builder>,
    waiting: (usize, usize),
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    rows: i64,
    checksum: Checksum,
    sum: RowSum,
}

enum Builder {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Date(Date32Builder),
    Moment(TimestampMicrosecondBuilder),
    Time(Time64MicrosecondBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Bytes(BinaryBuilder),
    Decimal128(Decimal128Builder, i8),
    Decimal256(Decimal256Builder, i8),
    Text(StringBuilder),
    List(Box<List>),
}

/// Elements one after another, and where each list ends.
struct List {
    elements: Builder,
    element: FieldRef,
    ends: Vec<i32>,
    there: Vec<bool>,
    shapes: StringBuilder,
}

impl Writer {
    /// An empty file.
    ///
    /// # Errors
    /// When the schema cannot be written.
    pub fn new(columns: &[Column]) -> Result<Writer, ParquetError> {
        let schema = schema_of(columns);
        let level = ZstdLevel::try_new(LEVEL)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_created_by(format!("maint {}", env!("CARGO_PKG_VERSION")));
        // Each would keep large values in memory once or twice more.
        for column in columns.iter().filter(|c| c.large()) {
            let path = ColumnPath::from(column.name.as_str());
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        }
        let properties = properties.build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
        let builders = columns.iter().map(Builder::of_column).collect();
        Ok(Writer {
            columns: columns.to_vec(),
            builders,
            waiting: (0, 0),
            writer,
            schema,
            rows: 0,
            checksum: Checksum::default(),
            sum: RowSum::default(),
        })
    }

    /// Adds a row: its fields as the server sends them, see [`Column::selected`].
    ///
    /// # Errors
    /// When a value cannot be kept exactly.
    pub fn push(&mut self, fields: &[Option<&[u8]>]) -> Result<(), ParquetError> {
        for ((builder, column), field) in self.builders.iter_mut().zip(&self.columns).zip(fields) {
            self.sum.field(column, *field);
            builder
                .push(*field)
                .map_err(|message| ParquetError::value(column, message))?;
        }
        self.checksum.add_row(&mut self.sum);
        self.rows += 1;
        let bytes: usize = fields.iter().flatten().map(|f| f.len()).sum();
        self.waiting = (self.waiting.0 + 1, self.waiting.1 + bytes);
        if self.waiting.0 >= BATCH || self.waiting.1 >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// How many rows it has.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Bytes in memory, roughly.
    pub fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size() + self.waiting.1
    }

    /// The file, its number of rows and their checksum.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(Vec<u8>, i64, Checksum), ParquetError> {
        self.flush()?;
        Ok((self.writer.into_inner()?, self.rows, self.checksum))
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        if self.waiting.0 == 0 {
            return Ok(());
        }
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for builder in &mut self.builders {
            match builder {
                Builder::List(list) => arrays.extend(list.finish()?),
                other => arrays.push(other.finish()),
            }
        }
        let arrays = arrays
            .into_iter()
            .zip(self.schema.fields())
            .map(|(array, field)| fitted(array, field.data_type()))
            .collect::<Result<Vec<_>, ParquetError>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        self.writer.write(&batch)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush()?;
        }
        self.waiting = (0, 0);
        Ok(())
    }
}

/// The same values under the exact type of the field: a builder knows neither
/// zone nor precision.
fn fitted(array: ArrayRef, to: &DataType) -> Result<ArrayRef, ParquetError> {
    if array.data_type() == to {
        return Ok(array);
    }
    let data = array
        .to_data()
        .into_builder()
        .data_type(to.clone())
        .build()?;
    Ok(arrow_array::make_array(data))
}

impl Builder {
    fn of_column(column: &Column) -> Builder {
        let plain = Builder::of(column.form);
        if !column.list {
            return plain;
        }
        Builder::List(Box::new(List {
            elements: plain,
            element: column.element(),
            ends: Vec::new(),
            there: Vec::new(),
            shapes: StringBuilder::new(),
        }))
    }

    fn of(form: Form) -> Builder {
        match form {
            Form::Bool => Builder::Bool(BooleanBuilder::new()),
            Form::Int2 => Builder::Int2(Int16Builder::new()),
            Form::Int4 => Builder::Int4(Int32Builder::new()),
            Form::Int8 => Builder::Int8(Int64Builder::new()),
            Form::Float4 => Builder::Float4(Float32Builder::new()),
            Form::Float8 => Builder::Float8(Float64Builder::new()),
            Form::Date => Builder::Date(Date32Builder::new()),
            Form::Timestamp | Form::TimestampTz => {
                Builder::Moment(TimestampMicrosecondBuilder::new())
            }
            Form::Time => Builder::Time(Time64MicrosecondBuilder::new()),
            Form::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::new(16)),
            Form::Bytes => Builder::Bytes(BinaryBuilder::new()),
            Form::Decimal128 { scale, .. } => Builder::Decimal128(Decimal128Builder::new(), scale),
            Form::Decimal256 { scale, .. } => Builder::Decimal256(Decimal256Builder::new(), scale),
            Form::Text => Builder::Text(StringBuilder::new()),
        }
    }

    fn push(&mut self, field: Option<&[u8]>) -> Result<(), String> {
        match self {
            Builder::Bool(b) => b.append_option(field.map(|f| f == [1])),
            Builder::Int2(b) => b.append_option(fixed(field)?.map(i16::from_be_bytes)),
            Builder::Int4(b) => b.append_option(fixed(field)?.map(i32::from_be_bytes)),
            Builder::Int8(b) => b.append_option(fixed(field)?.map(i64::from_be_bytes)),
            Builder::Float4(b) => b.append_option(fixed(field)?.map(f32::from_be_bytes)),
            Builder::Float8(b) => b.append_option(fixed(field)?.map(f64::from_be_bytes)),
            Builder::Date(b) => {
                let days = fixed(field)?
                    .map(i32::from_be_bytes)
                    .map(|days| match days {
                        // Infinity stays the end of the range, as the server has it.
                        i32::MAX | i32::MIN => Some(days),
                        days => days.checked_add(DAYS),
                    });
                b.append_option(
                    days.map(|d| d.ok_or("the date is too late to be kept"))
                        .transpose()?,
                );
            }
            Builder::Moment(b) => {
                let at = fixed(field)?.map(i64::from_be_bytes).map(|at| match at {
                    i64::MAX | i64::MIN => Some(at),
                    at => at.checked_add(MICROS),
                });
                b.append_option(
                    at.map(|d| d.ok_or("the time is too late to be kept"))
                        .transpose()?,
                );
            }
            Builder::Time(b) => b.append_option(fixed(field)?.map(i64::from_be_bytes)),
            Builder::Uuid(b) => match field {
                Some(bytes) => b.append_value(bytes).map_err(|e| e.to_string())?,
                None => b.append_null(),
            },
            Builder::Bytes(b) => b.append_option(field),
            Builder::Decimal128(b, scale) => {
                let number = text(field)?.map(|t| {
                    decimal::to_i128(t, *scale)
                        .ok_or_else(|| format!("{t} has no exact counterpart"))
                });
                b.append_option(number.transpose()?);
            }
            Builder::Decimal256(b, scale) => {
                let number = text(field)?.map(|t| {
                    decimal::to_i256(t, *scale)
                        .ok_or_else(|| format!("{t} has no exact counterpart"))
                });
                b.append_option(number.transpose()?);
            }
            Builder::Text(b) => b.append_option(text(field)?),
            Builder::List(list) => list.push(field)?,
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Bool(b) => ArrayBuilder::finish(b),
            Builder::Int2(b) => ArrayBuilder::finish(b),
            Builder::Int4(b) => ArrayBuilder::finish(b),
            Builder::Int8(b) => ArrayBuilder::finish(b),
            Builder::Float4(b) => ArrayBuilder::finish(b),
            Builder::Float8(b) => ArrayBuilder::finish(b),
            Builder::Date(b) => ArrayBuilder::finish(b),
            Builder::Moment(b) => ArrayBuilder::finish(b),
            Builder::Time(b) => ArrayBuilder::finish(b),
            Builder::Uuid(b) => ArrayBuilder::finish(b),
            Builder::Bytes(b) => ArrayBuilder::finish(b),
            Builder::Decimal128(b, _) => ArrayBuilder::finish(b),
            Builder::Decimal256(b, _) => ArrayBuilder::finish(b),
            Builder::Text(b) => ArrayBuilder::finish(b),
            Builder::List(list) => list.elements.finish(),
        }
    }
}

impl List {
    fn push(&mut self, field: Option<&[u8]>) -> Result<(), String> {
        let mut shape = None;
        if let Some(bytes) = field {
            let array = Array::parse(bytes).ok_or("an array has another form")?;
            shape = array.shape();
            for element in array.elements() {
                self.elements.push(element)?;
            }
            let so_far = usize::try_from(self.ends.last().copied().unwrap_or(0));
            let end = so_far.unwrap_or(usize::MAX).saturating_add(array.count);
            self.ends
                .push(i32::try_from(end).map_err(|e| e.to_string())?);
        } else {
            self.ends.push(self.ends.last().copied().unwrap_or(0));
        }
        self.there.push(field.is_some());
        self.shapes.append_option(shape);
        Ok(())
    }

    /// The lists, and their dimensions.
    fn finish(&mut self) -> Result<[ArrayRef; 2], ParquetError> {
        let elements = fitted(self.elements.finish(), self.element.data_type())?;
        let mut offsets = vec![0];
        offsets.append(&mut self.ends);
        let there = NullBuffer::from(std::mem::take(&mut self.there));
        let lists = ListArray::try_new(
            Arc::clone(&self.element),
            OffsetBuffer::new(offsets.into()),
            elements,
            Some(there),
        )?;
        Ok([Arc::new(lists), ArrayBuilder::finish(&mut self.shapes)])
    }
}

fn fixed<const N: usize>(field: Option<&[u8]>) -> Result<Option<[u8; N]>, String> {
    field
        .map(|bytes| {
            bytes
                .try_into()
                .map_err(|_| format!("{} bytes came where {N} were expected", bytes.len()))
        })
        .transpose()
}

fn text(field: Option<&[u8]>) -> Result<Option<&str>, String> {
    field
        .map(|bytes| std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned()))
        .transpose()
}
