//! Rows as `COPY … FROM STDIN` reads them.

use super::ParquetError;
use super::list::Array;
use super::plain::plain;
use super::types::{Column, Form};

/// Appends a row in the text format of COPY.
///
/// # Errors
/// When a field does not have the form of its column.
pub fn copy_line<B: AsRef<[u8]>>(
    columns: &[Column],
    row: &[Option<B>],
    out: &mut String,
) -> Result<(), ParquetError> {
    for (n, (column, field)) in columns.iter().zip(row).enumerate() {
        if n > 0 {
            out.push('\t');
        }
        let Some(bytes) = field else {
            out.push_str("\\N");
            continue;
        };
        let bytes = bytes.as_ref();
        let written = if column.list {
            Array::parse(bytes)
                .and_then(|array| array.literal(column.form))
                .map(|literal| escape(&literal, out))
        } else {
            value(column.form, bytes, out)
        };
        written.ok_or_else(|| ParquetError::value(column, "a value has another form"))?;
    }
    out.push('\n');
    Ok(())
}

/// Of the plain texts, only these can hold what COPY would misunderstand.
fn value(form: Form, bytes: &[u8], out: &mut String) -> Option<()> {
    match form {
        Form::Bytes => {
            out.push('\\');
            plain(form, bytes, out)
        }
        Form::Text => std::str::from_utf8(bytes)
            .ok()
            .map(|text| escape(text, out)),
        _ => plain(form, bytes, out),
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
}
