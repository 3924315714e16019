//! Documents as files, and back.

use std::io::{BufRead, BufReader, Cursor, Read, Write};

use bytes::Bytes;
use mongodb::bson::RawDocumentBuf;
use sha2::{Digest, Sha256};

use crate::engines::mongodb::{
    Field, MOST_DOCUMENT, MOST_LINE, columns, read_line, row, write_line,
};
use crate::engines::parquet::{self, Checksum, Column, Form, Writer};
use crate::plan::ArchivedFile;
use crate::plan::mongodb::Format;
use crate::values::{several, with_causes};

/// How much a reader may have to look back, as a power of two: what the usual
/// levels need, and no more than a file could make us hold.
const WINDOW: u32 = 23;
const LEVEL: i32 = 3;

/// The documents of a file, one at a time.
pub(super) type Documents = Box<dyn Iterator<Item = Result<RawDocumentBuf, String>>>;

/// The content of a file with these documents.
pub(super) fn pack(
    format: Format,
    fields: &[Field],
    documents: &[RawDocumentBuf],
) -> Result<Bytes, String> {
    match format {
        Format::Jsonl => lines(documents).map_err(|error| with_causes(&error)),
        Format::Parquet => {
            let mut writer = Writer::new(&columns(fields)).map_err(|e| with_causes(&e))?;
            for document in documents {
                let row = row(fields, document);
                let mut row: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
                row.push(Some(document.as_bytes()));
                writer.push(&row).map_err(|error| with_causes(&error))?;
            }
            let (content, ..) = writer.finish().map_err(|error| with_causes(&error))?;
            Ok(content.into())
        }
    }
}

fn lines(documents: &[RawDocumentBuf]) -> std::io::Result<Bytes> {
    let mut packed = zstd::stream::Encoder::new(Vec::new(), LEVEL)?;
    packed.include_checksum(true)?;
    let mut line = Vec::new();
    for document in documents {
        write_line(document, &mut line);
        line.push(b'\n');
        packed.write_all(&line)?;
    }
    Ok(packed.finish()?.into())
}

/// The documents of a file. What it says is not believed: nothing is held that
/// is larger than a document.
///
/// # Errors
/// What is wrong with it.
pub(super) fn unpack(
    content: Bytes,
    format: Format,
    fields: &[Field],
) -> Result<Documents, String> {
    match format {
        Format::Jsonl => {
            let mut packed =
                zstd::stream::Decoder::new(Cursor::new(content)).map_err(|e| with_causes(&e))?;
            packed.window_log_max(WINDOW).map_err(|e| with_causes(&e))?;
            let mut lines = BufReader::new(packed);
            let mut number = 0_u64;
            let mut over = false;
            Ok(Box::new(std::iter::from_fn(move || {
                if over {
                    return None;
                }
                number += 1;
                let next = next_line(&mut lines).and_then(|line| match line {
                    None => Ok(None),
                    Some(line) => {
                        let read = read_line(&line)?;
                        drop(line);
                        whole(read).map(Some)
                    }
                });
                over = !matches!(next, Ok(Some(_)));
                next.map_err(|why| format!("line {number}: {why}"))
                    .transpose()
            })))
        }
        Format::Parquet => {
            let rows = parquet::rows(content, &columns(fields)).map_err(|e| with_causes(&e))?;
            let fields = fields.to_vec();
            let mut number = 0_u64;
            Ok(Box::new(rows.map(move |read| {
                number += 1;
                let bad = |why: &str| format!("row {number}: {why}");
                let mut read = read.map_err(|error| with_causes(&error))?;
                let bytes = read.pop().flatten();
                let document = whole(bytes.ok_or_else(|| bad("it has no document"))?)
                    .map_err(|why| bad(&why))?;
                if read != row(&fields, &document) {
                    return Err(bad("its columns do not say what its document says"));
                }
                Ok(document)
            })))
        }
    }
}

/// The next line without its end; none behind the last.
fn next_line(lines: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let most = u64::try_from(MOST_LINE).unwrap_or(u64::MAX) + 1;
    let read = lines.take(most).read_until(b'\n', &mut line);
    match read {
        Err(error) => Err(format!("it cannot be unpacked: {error}")),
        Ok(0) => Ok(None),
        Ok(_) if line.last() == Some(&b'\n') => {
            line.pop();
            Ok(Some(line))
        }
        Ok(_) if line.len() > MOST_LINE => Err("it is longer than any document".to_owned()),
        Ok(_) => Err("it has no end".to_owned()),
    }
}

fn whole(bytes: Vec<u8>) -> Result<RawDocumentBuf, String> {
    if bytes.len() > MOST_DOCUMENT {
        return Err("it is larger than any document".to_owned());
    }
    RawDocumentBuf::from_bytes(bytes).map_err(|_| "it is no document".to_owned())
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sum of documents, in whatever order.
#[derive(Default)]
pub(super) struct Sum {
    sum: Checksum,
    pub(super) documents: i64,
}

impl Sum {
    pub(super) fn add(&mut self, document: &RawDocumentBuf) {
        let column = Column {
            name: String::new(),
            pg_type: String::new(),
            form: Form::Bytes,
            list: false,
        };
        let bytes = std::iter::once(Some(document.as_bytes()));
        self.sum.add(std::slice::from_ref(&column), bytes);
        self.documents += 1;
    }

    pub(super) fn checksum(&self) -> String {
        self.sum.to_string()
    }
}

/// Compares a file with what its manifest says of it, and where the documents
/// are known, each of them.
///
/// # Errors
/// What differs.
pub(super) fn compare(
    content: Bytes,
    file: &ArchivedFile,
    format: Format,
    fields: &[Field],
    known: Option<&[RawDocumentBuf]>,
) -> Result<(), String> {
    let found = sha256(&content);
    if found != file.sha256 {
        return Err(format!(
            "its SHA-256 is {found}, not {} as written",
            file.sha256
        ));
    }
    let mut sum = Sum::default();
    let mut known = known.map(|documents| documents.iter());
    for document in unpack(content, format, fields)? {
        let document = document?;
        sum.add(&document);
        if sum.documents > file.rows {
            return Err(format!(
                "it has more than {}",
                several(file.rows, "document")
            ));
        }
        if let Some(known) = &mut known
            && known.next().map(|k| k.as_bytes()) != Some(document.as_bytes())
        {
            return Err(format!(
                "document {} is not the one that was written",
                sum.documents
            ));
        }
    }
    if sum.documents != file.rows || sum.checksum() != file.checksum {
        return Err(format!(
            "it has {} with checksum {}, not {} with {}",
            several(sum.documents, "document"),
            sum.checksum(),
            file.rows,
            file.checksum
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::engines::mongodb::FieldType;
    use mongodb::bson::{Bson, DateTime, doc};

    fn documents() -> Vec<RawDocumentBuf> {
        (0..500_i64)
            .map(|n| {
                let v = if n % 3 == 0 {
                    Bson::Int64(n)
                } else {
                    Bson::String(format!("v{n}"))
                };
                let at = DateTime::from_millis(n * 1000 - 250_000);
                RawDocumentBuf::try_from(&doc! { "_id": n, "v": v, "at": at, "document": true })
                    .unwrap()
            })
            .collect()
    }

    fn fields() -> Vec<Field> {
        [
            ("v", FieldType::Long),
            ("at", FieldType::Date),
            ("document", FieldType::Bool),
        ]
        .map(|(name, kind)| Field {
            name: name.to_owned(),
            kind,
        })
        .to_vec()
    }

    fn entry(content: &[u8], documents: &[RawDocumentBuf]) -> ArchivedFile {
        let mut sum = Sum::default();
        documents.iter().for_each(|d| sum.add(d));
        ArchivedFile {
            path: "x".to_owned(),
            rows: sum.documents,
            bytes: i64::try_from(content.len()).unwrap(),
            sha256: sha256(content),
            checksum: sum.checksum(),
            span: None,
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_and_what_is_damaged_is_told() {
        let (all, fields) = (documents(), fields());
        for format in [Format::Jsonl, Format::Parquet] {
            let content = pack(format, &fields, &all).unwrap();
            let file = entry(&content, &all);
            compare(content.clone(), &file, format, &fields, Some(&all)).unwrap();
            let shorter = compare(content.clone(), &file, format, &fields, Some(&all[..499]));
            assert!(shorter.is_err());
            for at in (0..content.len()).step_by(content.len() / 40) {
                let mut broken = content.to_vec();
                broken[at] ^= 0x41;
                let sums = ArchivedFile {
                    sha256: sha256(&broken),
                    ..file.clone()
                };
                let told = compare(broken.clone().into(), &file, format, &fields, None);
                assert!(told.unwrap_err().contains("SHA-256"));
                // Whoever can write beside the files can make the sum fit.
                if let Err(why) = compare(broken.into(), &sums, format, &fields, Some(&all)) {
                    assert!(!why.is_empty());
                }
            }
            let fewer = ArchivedFile {
                rows: 499,
                ..file.clone()
            };
            let told = compare(content.clone(), &fewer, format, &fields, None).unwrap_err();
            assert!(told.contains("more than 499"), "{told}");
            let cut = content.slice(..content.len() / 2);
            let sums = ArchivedFile {
                sha256: sha256(&cut),
                ..file.clone()
            };
            assert!(compare(cut, &sums, format, &fields, None).is_err());
        }
    }

    /// A few bytes that unpack to many, and a line that never ends.
    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![b'a'; 64 << 20];
        let packed = zstd::stream::encode_all(&zeros[..], 3).unwrap();
        let file = ArchivedFile {
            rows: 1,
            ..entry(&packed, &[])
        };
        let told = compare(packed.into(), &file, Format::Jsonl, &[], None).unwrap_err();
        assert!(told.contains("longer than any document"), "{told}");
        let mut wide = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        wide.window_log(27).unwrap();
        wide.write_all(&zeros).unwrap();
        let packed = wide.finish().unwrap();
        let file = ArchivedFile {
            rows: 1,
            ..entry(&packed, &[])
        };
        let told = compare(packed.into(), &file, Format::Jsonl, &[], None).unwrap_err();
        assert!(told.contains("cannot be unpacked"), "{told}");
    }
}
