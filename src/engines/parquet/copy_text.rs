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
    let mut rest = text;
    // One byte each, none of which is a part of another character.
    let special = |byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t');
    while let Some(at) = rest.bytes().position(special) {
        let (plain, from) = rest.split_at(at);
        let (one, behind) = from.split_at(1);
        out.push_str(plain);
        out.push_str(match one {
            "\n" => "\\n",
            "\r" => "\\r",
            "\t" => "\\t",
            _ => "\\\\",
        });
        rest = behind;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copy_would_misunderstand_is_escaped() {
        for (text, written) in [
            ("", ""),
            ("plain é €", "plain é €"),
            ("\t", "\\t"),
            ("a\\b\nc\rd\te", "a\\\\b\\nc\\rd\\te"),
            ("€\\\\€\n", "€\\\\\\\\€\\n"),
        ] {
            let mut out = String::new();
            escape(text, &mut out);
            assert_eq!(out, written);
        }
    }
}
