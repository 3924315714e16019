//! What heap and indexes share of their layout on disk, after `htup_details.h`
//! and `itup.h`.

/// Bytes of a page.
pub(super) const PAGE: f64 = 8192.0;
/// What points from the head of a page to an entry of it.
pub(super) const LINE_POINTER: f64 = 4.0;

/// The next multiple.
pub(super) fn align(bytes: f64, to: f64) -> f64 {
    (bytes / to).ceil() * to
}

/// How a value of a column lies in a row or a key.
pub(super) struct Stored {
    /// Its bytes, on average.
    pub(super) width: f64,
    /// What its place is a multiple of.
    pub(super) alignment: f64,
    /// Whether all values are of one width.
    pub(super) fixed: bool,
}

/// From `attlen`, `attalign`, and the average width where the length is not
/// fixed; `None` where that is needed and not known.
pub(super) fn stored(length: i16, alignment: char, average_width: Option<f64>) -> Option<Stored> {
    if length > 0 {
        let alignment = match alignment {
            'c' => 1.0,
            's' => 2.0,
            'i' => 4.0,
            _ => 8.0,
        };
        return Some(Stored {
            width: f64::from(length),
            alignment,
            fixed: true,
        });
    }
    let width = average_width?;
    Some(Stored {
        width,
        // Up to 126 bytes a value carries a one-byte header and is not aligned.
        alignment: if width <= 126.0 { 1.0 } else { 4.0 },
        fixed: false,
    })
}
