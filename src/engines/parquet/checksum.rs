//! A checksum over rows that does not depend on their order.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::list;
use super::types::Column;

/// Bytes of a row that are gathered at most.
const GATHERED: usize = 16 << 10;
/// Bytes in front of each field, that say how long it is.
const LENGTH: usize = size_of::<u64>();

/// The sum, over all rows, of the first half of each row's SHA-256. Equal for
/// equal sets of rows, duplicates counted, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksum(u128);

impl Checksum {
    /// Adds a row: its fields as the server sends them.
    pub fn add<'a>(&mut self, columns: &[Column], fields: impl Iterator<Item = Option<&'a [u8]>>) {
        let mut row = RowSum::default();
        for (column, field) in columns.iter().zip(fields) {
            row.field(column, field);
        }
        self.add_row(&mut row);
    }

    /// Adds a row, and makes room for the next.
    pub(super) fn add_row(&mut self, row: &mut RowSum) {
        self.0 = self.0.wrapping_add(row.finish());
    }

    /// Adds all rows of another part.
    pub fn merge(&mut self, other: Checksum) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

/// The fields of a row on their way to its digest. Small ones are gathered,
/// because a digest takes one piece much faster than ten.
#[derive(Default)]
pub(super) struct RowSum {
    gathered: Vec<u8>,
    begun: Option<Sha256>,
}

impl RowSum {
    /// The next field, as the server sends it.
    pub(super) fn field(&mut self, column: &Column, field: Option<&[u8]>) {
        let Some(bytes) = field else {
            return self.put(&u64::MAX.to_be_bytes());
        };
        self.put(&(bytes.len() as u64).to_be_bytes());
        if column.list {
            let (dimensions, elements) = list::parts(bytes);
            self.put(dimensions);
            self.put(elements);
        } else {
            self.put(bytes);
        }
    }

    /// The next field, which is neither null nor a list, nor large: `write` appends it.
    pub(super) fn small(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let length_at = self.gathered.len();
        self.gathered.extend_from_slice(&[0; LENGTH]);
        let begins = self.gathered.len();
        write(&mut self.gathered);
        let length = (self.gathered.len() - begins) as u64;
        if let Some(place) = self.gathered.get_mut(length_at..begins) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        if self.gathered.len() > GATHERED {
            let digest = self.begun.get_or_insert_with(Sha256::new);
            digest.update(&self.gathered);
            self.gathered.clear();
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() <= GATHERED {
            self.gathered.extend_from_slice(bytes);
            return;
        }
        let digest = self.begun.get_or_insert_with(Sha256::new);
        digest.update(&self.gathered);
        digest.update(bytes);
        self.gathered.clear();
    }

    fn finish(&mut self) -> u128 {
        let digest = match self.begun.take() {
            Some(digest) => digest.chain_update(&self.gathered).finalize(),
            None => Sha256::digest(&self.gathered),
        };
        self.gathered.clear();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        u128::from_be_bytes(half)
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Checksum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u128::from_str_radix(text, 16)
            .map(Checksum)
            .map_err(|_| format!("`{text}` is no checksum"))
    }
}

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(list: bool) -> Column {
        Column {
            name: "c".to_owned(),
            pg_type: "text".to_owned(),
            form: super::super::Form::Text,
            list,
        }
    }

    #[test]
    fn what_an_array_is_sent_with_is_no_part_of_it() {
        let sum = |list: bool, bytes: &[u8]| {
            let mut sum = Checksum::default();
            sum.add(&[column(list)], std::iter::once(Some(bytes)));
            sum
        };
        let (one, other) = ([0; 12], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 25]);
        assert_eq!(sum(true, &one), sum(true, &other));
        assert_ne!(sum(false, &one), sum(false, &other));
        assert_ne!(sum(true, &one), sum(true, &[0; 13]));
    }

    #[test]
    fn a_large_row_is_the_same_in_one_piece_and_in_many() {
        let large = vec![7; GATHERED + 5];
        for bytes in [&large[..], &large[..GATHERED - 8], &large[..9]] {
            let mut all = Sha256::new();
            for _ in 0..3 {
                all.update((bytes.len() as u64).to_be_bytes());
                all.update(bytes);
            }
            let mut half = [0; 16];
            half.copy_from_slice(&all.finalize()[..16]);
            let mut sum = Checksum::default();
            let columns = [column(false), column(false), column(false)];
            sum.add(&columns, [Some(bytes); 3].into_iter());
            assert_eq!(sum.0, u128::from_be_bytes(half), "{}", bytes.len());
        }
    }

    #[test]
    fn what_is_appended_is_the_same_as_what_is_given() {
        let columns = [column(false), column(false)];
        for (one, other) in [
            (&b"ab"[..], &b""[..]),
            (&[1; GATHERED - 20], &[2; 30]),
            (&[1; GATHERED + 1], &[2; 1]),
        ] {
            let mut given = Checksum::default();
            given.add(&columns, [Some(one), Some(other)].into_iter());
            let (mut row, mut appended) = (RowSum::default(), Checksum::default());
            for field in [one, other] {
                row.small(|out| out.extend_from_slice(field));
            }
            appended.add_row(&mut row);
            assert_eq!(given, appended, "{} and {} bytes", one.len(), other.len());
        }
    }

    #[test]
    fn rows_count_and_their_order_does_not() {
        let sum = |rows: &[&[Option<&[u8]>]]| {
            let mut sum = Checksum::default();
            for row in rows {
                sum.add(&[column(false), column(false)], row.iter().copied());
            }
            sum
        };
        let a: &[Option<&[u8]>] = &[Some(b"ab"), None];
        let b: &[Option<&[u8]>] = &[Some(b"a"), Some(b"b")];
        assert_eq!(sum(&[a, b]), sum(&[b, a]));
        assert_ne!(sum(&[a, b]), sum(&[a, b, b]));
        assert_ne!(sum(&[a]), sum(&[&[None, Some(b"ab")]]));
        assert_ne!(sum(&[&[Some(b"")]]), sum(&[&[None]]));
    }
}
