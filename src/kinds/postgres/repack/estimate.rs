//! How large a table would be if its rows stood side by side. Pure arithmetic
//! over what ANALYZE knows, after `htup_details.h` and `bufpage.h`.

use super::super::layout::{LINE_POINTER, PAGE, Stored, align, stored};
use super::facts::{ColumnFacts, TableFacts};

const PAGE_HEADER: f64 = 24.0;
const ROW_HEADER: f64 = 23.0;
/// Chunks of TOAST are cut so that four fill a page.
const CHUNKS_PER_PAGE: f64 = 4.0;

/// The size in bytes of `rows` rows without gaps, the fill factor's reserve
/// left free; `None` where statistics are missing.
pub(super) fn heap_bytes(table: &TableFacts, rows: f64) -> Option<f64> {
    if rows < 1.0 {
        return Some(0.0);
    }
    let row = row(&table.columns)?;
    let reserve = PAGE * (1.0 - table.fillfactor / 100.0);
    let usable = PAGE - PAGE_HEADER - reserve;
    // The row that does not fit moves on; on average half of one is lost.
    let per_page = if row.fixed {
        (usable / row.bytes).floor().max(1.0)
    } else {
        ((usable - row.bytes / 2.0) / row.bytes).max(1.0)
    };
    Some((rows / per_page).ceil() * PAGE)
}

/// The most that the chunks of a TOAST table need: all of full length.
pub(super) fn toast_bytes(chunks: f64) -> f64 {
    (chunks / CHUNKS_PER_PAGE).ceil() * PAGE
}

struct Row {
    bytes: f64,
    fixed: bool,
}

/// A row on average, its line pointer included.
fn row(columns: &[ColumnFacts]) -> Option<Row> {
    let (mut full, mut with_nulls, mut fixed) = (0.0, 0.0, true);
    let mut without_nulls = 1.0;
    for column in columns {
        // A row that is written now has a null there.
        if column.dropped {
            without_nulls = 0.0;
            continue;
        }
        let Stored {
            width,
            alignment,
            fixed: same,
        } = stored(
            column.length,
            column.alignment,
            column.statistics.map(|(_, width)| width),
        )?;
        fixed &= same;
        let nulls = column.statistics.map_or(0.0, |(nulls, _)| nulls);
        without_nulls *= 1.0 - nulls;
        full = align(full, alignment) + width;
        with_nulls += (1.0 - nulls) * (width + (alignment - 1.0) / 2.0);
    }
    let bitmap = (columns.len() as f64 / 8.0).ceil();
    let plain = align(ROW_HEADER, 8.0) + full;
    // What has no nulls is as long as can be, and the rest as much shorter as
    // nulls make it.
    let with_nulls = align(ROW_HEADER + bitmap, 8.0) + with_nulls.min(full);
    let data = without_nulls * plain + (1.0 - without_nulls) * with_nulls;
    fixed &= without_nulls > 0.999 || without_nulls == 0.0;
    let bytes = if fixed { align(data, 8.0) } else { data + 3.5 };
    Some(Row {
        bytes: bytes + LINE_POINTER,
        fixed,
    })
}
