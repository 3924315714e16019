//! How large an index would be if it were built now. Pure arithmetic over
//! what ANALYZE knows, after the on-disk layout in PostgreSQL's
//! `nbtsort.c`, `nbtdedup.c`, `hashpage.c` and `itup.h`.

use super::super::layout::{LINE_POINTER, PAGE, Stored, align, stored};
use super::facts::{ColumnFacts, IndexFacts};

/// Header, and the special space at the end, of a B-tree page.
const PAGE_OVERHEAD: f64 = 24.0 + 16.0;
const TUPLE_HEADER: f64 = 8.0;
const TUPLE_HEADER_WITH_NULLS: f64 = 16.0;
/// A row's address in a posting list.
const TID: f64 = 6.0;
/// Largest posting list tuple that a build makes: a tenth of a page, aligned,
/// less a line pointer (`_bt_load`).
const MAX_POSTING: f64 = 816.0 - 4.0;
/// Non-leaf pages are filled to 70 % (`BTREE_NONLEAF_FILLFACTOR`).
const INNER_FILL: f64 = 0.70;

/// The size in bytes of a fresh build over `tuples` entries; `None` where the
/// access method's layout cannot be foreseen or statistics are missing.
pub(super) fn fresh_bytes(index: &IndexFacts, tuples: f64) -> Option<f64> {
    match index.access_method.as_str() {
        "btree" => btree(index, tuples),
        "hash" => Some(hash(index, tuples)),
        "gist" => gist(index, tuples),
        _ => None,
    }
}

/// Data of one key: its bytes where no column is null, and whether all keys
/// have the same length.
struct Key {
    bytes: f64,
    fixed: bool,
    /// Share of entries with at least one null.
    nulls: f64,
    null_bytes: f64,
}

fn key(columns: &[ColumnFacts]) -> Option<Key> {
    let mut key = Key {
        bytes: 0.0,
        fixed: true,
        nulls: 0.0,
        null_bytes: 0.0,
    };
    let mut without_nulls = 1.0;
    for column in columns {
        let statistics = column.statistics.as_ref();
        let Stored {
            width,
            alignment,
            fixed: same,
        } = stored(
            column.length,
            column.alignment,
            statistics.map(|s| s.average_width),
        )?;
        key.fixed &= same;
        let null_share = statistics.map_or(0.0, |s| s.null_share);
        without_nulls *= 1.0 - null_share;
        key.bytes = align(key.bytes, alignment) + width;
        key.null_bytes += width * (1.0 - null_share);
    }
    key.nulls = 1.0 - without_nulls;
    Some(key)
}

/// A tuple's length. Lengths are multiples of 8; values of varying length
/// lose half of that on average.
fn tuple_bytes(header: f64, data: f64, fixed: bool) -> f64 {
    if fixed {
        align(header + data, 8.0)
    } else {
        header + data + 3.5
    }
}

fn btree(index: &IndexFacts, tuples: f64) -> Option<f64> {
    if tuples < 1.0 {
        return Some(PAGE);
    }
    let key = key(&index.columns)?;
    let plain = tuple_bytes(TUPLE_HEADER, key.bytes, key.fixed);
    let with_nulls = tuple_bytes(TUPLE_HEADER_WITH_NULLS, key.null_bytes, key.fixed);
    let leaf = if index.deduplicates {
        deduplicated(index, tuples, plain, with_nulls)?
    } else {
        let average = (1.0 - key.nulls) * plain + key.nulls * with_nulls;
        Leaf {
            bytes: tuples * (average + LINE_POINTER),
            items: tuples,
            largest_share_bytes: average + LINE_POINTER,
        }
    };
    // A page is full when less than the fill factor's reserve is free. The
    // item that got it there moves to the next page, and half an item is lost.
    let reserve = PAGE * (1.0 - index.fillfactor / 100.0);
    let usable = PAGE - PAGE_OVERHEAD - reserve - leaf.largest_share_bytes / 2.0;
    let leaves = (leaf.bytes / usable.max(1.0)).ceil().max(1.0);
    let pivot = plain + LINE_POINTER + TUPLE_HEADER;
    let per_inner = ((PAGE - PAGE_OVERHEAD) * INNER_FILL / pivot).max(2.0);
    let mut pages = 1.0 + leaves;
    let mut level = leaves;
    while level > 1.0 {
        level = (level / per_inner).ceil();
        pages += level;
    }
    Some(pages * PAGE)
}

struct Leaf {
    bytes: f64,
    items: f64,
    /// Length of the item that a random byte is part of.
    largest_share_bytes: f64,
}

impl Leaf {
    fn add(&mut self, items: f64, item_bytes: f64) {
        self.bytes += items * item_bytes;
        self.items += items;
        self.largest_share_bytes += items * item_bytes * item_bytes;
    }

    /// `values` distinct keys, each in `rows` rows, as posting lists.
    fn add_values(&mut self, values: f64, rows: f64, tuple: f64) {
        if values <= 0.0 || rows <= 0.0 {
            return;
        }
        let tuple = align(tuple, 8.0);
        let longest = ((MAX_POSTING - tuple) / TID).floor();
        let posting = |n: f64| align(tuple + TID * n, 8.0) + LINE_POINTER;
        if rows < 2.0 || longest < 2.0 {
            // Some keys come once, some twice: as many posting lists of two
            // as rows exceed values.
            let twice = if longest < 2.0 {
                0.0
            } else {
                (rows - 1.0).max(0.0)
            };
            let once = if longest < 2.0 { rows } else { 1.0 - twice };
            self.add(values * once, tuple + LINE_POINTER);
            self.add(values * twice, posting(2.0));
            return;
        }
        let full = (rows / longest).floor();
        self.add(values * full, posting(longest));
        match rows - full * longest {
            rest if rest < 0.5 => {}
            rest if rest < 1.5 => self.add(values, tuple + LINE_POINTER),
            rest => self.add(values, posting(rest)),
        }
    }
}

/// Equal keys are stored once, with a list of row addresses. Where the
/// distribution is unknown the guess is on the side of more distinct keys,
/// that is of a larger index and less bloat.
fn deduplicated(index: &IndexFacts, tuples: f64, plain: f64, with_nulls: f64) -> Option<Leaf> {
    let rows = index.table_rows.max(tuples).max(1.0);
    let mut distinct = 1.0;
    for column in &index.columns {
        let statistics = column.statistics.as_ref()?;
        let of_column = if statistics.distinct < 0.0 {
            -statistics.distinct * rows
        } else {
            statistics.distinct
        };
        distinct *= of_column.max(1.0) + f64::from(u8::from(statistics.null_share > 0.0));
    }
    let mut leaf = Leaf {
        bytes: 0.0,
        items: 0.0,
        largest_share_bytes: 0.0,
    };
    if let ([column], false) = (index.columns.as_slice(), index.partial) {
        let statistics = column.statistics.as_ref()?;
        leaf.add_values(1.0, tuples * statistics.null_share, with_nulls);
        let mut rest_rows = tuples * (1.0 - statistics.null_share);
        let mut rest_values = distinct - f64::from(u8::from(statistics.null_share > 0.0));
        for share in &statistics.common {
            let rows = tuples * f64::from(*share);
            leaf.add_values(1.0, rows, plain);
            rest_rows -= rows;
            rest_values -= 1.0;
        }
        let rest_rows = rest_rows.max(0.0);
        let rest_values = rest_values.min(rest_rows).max(0.0);
        if rest_values >= 1.0 {
            leaf.add_values(rest_values, rest_rows / rest_values, plain);
        } else {
            leaf.add_values(rest_rows.min(1.0), rest_rows, plain);
        }
    } else {
        let values = distinct.min(tuples).max(1.0);
        leaf.add_values(
            values,
            tuples / values,
            plain.max(with_nulls.min(plain + 8.0)),
        );
    }
    leaf.largest_share_bytes /= leaf.bytes.max(1.0);
    Some(leaf)
}

/// Entries are hash codes of 4 bytes, whatever the key. Buckets come in
/// steps, up to a quarter more than needed from 512 on (`_hash_spareindex`);
/// below, they double.
fn hash(index: &IndexFacts, tuples: f64) -> f64 {
    const ENTRY: f64 = 16.0 + LINE_POINTER;
    let per_bucket = (PAGE * index.fillfactor / 100.0 / ENTRY).floor();
    let needed = (tuples / per_bucket).max(2.0);
    let doubled = 2_f64.powf(needed.log2().ceil());
    let buckets = if doubled <= 512.0 {
        doubled
    } else {
        let quarter = doubled / 8.0;
        (needed / quarter).ceil() * quarter
    };
    // Uneven buckets overflow into pages of their own; metapage and bitmaps.
    (buckets * 1.10 + 2.0) * PAGE
}

/// Only keys of fixed length (points, boxes): the length of the others is
/// the operator class's secret. Splits leave pages about half full at worst.
fn gist(index: &IndexFacts, tuples: f64) -> Option<f64> {
    const FILL: f64 = 0.5;
    if index.columns.is_empty() || index.columns.iter().any(|c| c.length <= 0) {
        return None;
    }
    let key = key(&index.columns)?;
    let entry = tuple_bytes(TUPLE_HEADER, key.bytes, true) + LINE_POINTER;
    Some((1.0 + (tuples * entry / ((PAGE - PAGE_OVERHEAD) * FILL)).ceil()) * PAGE)
}
