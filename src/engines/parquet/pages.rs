//! What a file claims about sizes inside of it, looked at before anything of
//! that size is allocated.

use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::ParquetError;

/// No value of PostgreSQL is larger, and so no page of ours: bytes.
const MOST_PAGE_BYTES: i64 = (1 << 30) + (16 << 20);
/// Values of one column in one file: no batch comes near.
const MOST_VALUES: i64 = 1 << 28;

/// Reads where the parts of a file are, and refuses what cannot be.
pub(super) fn sound(file: &Bytes) -> Result<ParquetMetaData, ParquetError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let mut rows = 0_i64;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            return Err(damaged("a part has a negative number of rows"));
        }
        rows = rows.saturating_add(group.num_rows());
        for chunk in group.columns() {
            if !(0..=MOST_VALUES).contains(&chunk.num_values()) {
                return Err(damaged("a column has more values than any table"));
            }
            let starts = chunk
                .dictionary_page_offset()
                .unwrap_or(chunk.data_page_offset())
                .min(chunk.data_page_offset());
            let inside = usize::try_from(starts)
                .ok()
                .zip(usize::try_from(chunk.compressed_size()).ok())
                .and_then(|(from, length)| file.get(from..from.checked_add(length)?));
            let Some(pages) = inside else {
                return Err(damaged("a column lies outside of the file"));
            };
            each_page(pages)?;
        }
    }
    if rows != metadata.file_metadata().num_rows() {
        return Err(damaged("its parts have other numbers of rows than it says"));
    }
    Ok(metadata)
}

fn damaged(why: &str) -> ParquetError {
    ParquetError::Value {
        column: "all".to_owned(),
        message: format!("the file is damaged: {why}"),
    }
}

/// Goes from page to page.
fn each_page(mut pages: &[u8]) -> Result<(), ParquetError> {
    while !pages.is_empty() {
        let mut rest = pages;
        let (unpacked, packed) =
            header(&mut rest).ok_or_else(|| damaged("a page does not say how large it is"))?;
        if !(0..=MOST_PAGE_BYTES).contains(&unpacked) {
            return Err(damaged("a page says that it is larger than any value"));
        }
        let packed = usize::try_from(packed).ok();
        pages = packed
            .and_then(|length| rest.get(length..))
            .ok_or_else(|| damaged("a page lies outside of the file"))?;
    }
    Ok(())
}

/// The sizes that a page header says, unpacked and packed: fields 2 and 3 of
/// a structure in the compact form of Thrift. What follows is skipped.
fn header(rest: &mut &[u8]) -> Option<(i64, i64)> {
    let (mut unpacked, mut packed) = (None, None);
    let mut field = 0_i64;
    loop {
        let (delta, kind) = field_header(rest)?;
        if kind == 0 {
            return unpacked.zip(packed);
        }
        field = match delta {
            0 => zigzag(rest)?,
            delta => field.checked_add(i64::from(delta))?,
        };
        match (field, kind) {
            (2, 5) => unpacked = Some(zigzag(rest)?),
            (3, 5) => packed = Some(zigzag(rest)?),
            _ => skip(rest, kind, 0)?,
        }
    }
}

/// How far the number of the field is from the last one's, and its kind.
fn field_header(rest: &mut &[u8]) -> Option<(u8, u8)> {
    let byte = next(rest)?;
    Some((byte >> 4, byte & 15))
}

fn skip(rest: &mut &[u8], kind: u8, depth: u8) -> Option<()> {
    if depth > 16 {
        return None;
    }
    match kind {
        // The value is the kind.
        1 | 2 => Some(()),
        3 => next(rest).map(drop),
        4..=6 => varint(rest).map(drop),
        7 => take(rest, 8),
        8 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            take(rest, length)
        }
        9 | 10 => {
            let byte = next(rest)?;
            let count = match byte >> 4 {
                15 => varint(rest)?,
                count => u64::from(count),
            };
            for _ in 0..count {
                // Truth values take a byte here.
                let kind = match byte & 15 {
                    1 | 2 => 3,
                    kind => kind,
                };
                skip(rest, kind, depth + 1)?;
            }
            Some(())
        }
        12 => loop {
            let (delta, kind) = field_header(rest)?;
            if kind == 0 {
                return Some(());
            }
            if delta == 0 {
                zigzag(rest)?;
            }
            skip(rest, kind, depth + 1)?;
        },
        _ => None,
    }
}

fn next(rest: &mut &[u8]) -> Option<u8> {
    let (first, left) = rest.split_first()?;
    *rest = left;
    Some(*first)
}

fn take(rest: &mut &[u8], count: usize) -> Option<()> {
    *rest = rest.get(count..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = next(rest)?;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

fn zigzag(rest: &mut &[u8]) -> Option<i64> {
    let number = varint(rest)?;
    let magnitude = i64::try_from(number >> 1).ok()?;
    Some(if number & 1 == 1 {
        !magnitude
    } else {
        magnitude
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::super::{Column, Form, Writer, rows};
    use super::*;
    use proptest::prelude::*;

    fn columns() -> Vec<Column> {
        let column = |name: &str, pg_type: &str, form, list| Column {
            name: name.to_owned(),
            pg_type: pg_type.to_owned(),
            form,
            list,
        };
        vec![
            column("id", "integer", Form::Int4, false),
            column("v", "text", Form::Text, false),
            column("b", "bytea", Form::Bytes, false),
        ]
    }

    fn file() -> Vec<u8> {
        let mut writer = Writer::new(&columns()).unwrap();
        for n in 0..5_000_i32 {
            let (id, text) = (n.to_be_bytes(), format!("row {n}"));
            writer
                .push(&[
                    Some(&id),
                    Some(text.as_bytes()),
                    (n % 3 > 0).then_some(&[1, 2, 3]),
                ])
                .unwrap();
        }
        writer.finish().unwrap().0
    }

    #[test]
    fn own_files_are_sound_and_huge_pages_are_not() {
        let file = file();
        assert!(sound(&Bytes::from(file.clone())).is_ok());
        // The first page begins behind the four bytes of the name: kind,
        // then the size that it unpacks to.
        assert_eq!(file[4] >> 4, 1);
        let mut rest = &file[4..];
        let (unpacked, _) = header(&mut rest).unwrap();
        assert!(unpacked > 0);
        let huge = [
            0x15, 0x00, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x02, 0x00,
        ];
        assert_eq!(header(&mut &huge[..]), Some((2_147_483_647, 1)));
        assert!(each_page(&huge).is_err());
        assert_eq!(header(&mut &huge[..4]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        /// However a file is damaged, reading it ends with rows or an error.
        #[test]
        fn damaged_files_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<Option<prop::sample::Index>>()) {
            let mut content = file();
            for (at, byte) in changes {
                let at = at.index(content.len());
                content[at] = byte;
            }
            if let Some(cut) = cut {
                content.truncate(cut.index(content.len()));
            }
            if let Ok(rows) = rows(Bytes::from(content), &columns()) {
                for row in rows {
                    if row.is_err() {
                        break;
                    }
                }
            }
        }
    }
}
