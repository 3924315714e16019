//! What shrank most, as bars: the size afterwards drawn over the one before.

use super::Chart;
use super::svg::{Anchor, Drawing, FAINT, MAIN, WIDTH, fitted};
use crate::history::Gain;
use crate::report::text::human_bytes;

const ROW: f64 = 46.0;
const LEGEND: f64 = 22.0;
const MOST: usize = 6;
/// Room for the name of an object beside its sizes.
const NAME_CHARS: usize = 30;

pub(super) fn chart(gains: &[Gain]) -> Option<Chart> {
    let most = gains.iter().map(|gain| gain.bytes_before).max()?.max(1);
    let shown = &gains[..gains.len().min(MOST)];
    let rows = ROW * shown.len() as f64;
    let mut drawing = Drawing::new(rows + LEGEND);
    for (n, gain) in shown.iter().enumerate() {
        let top = ROW * n as f64;
        drawing.text(
            0.0,
            top + 15.0,
            Anchor::Start,
            &fitted(&gain.object, NAME_CHARS),
        );
        let sizes = format!(
            "{} → {}",
            human_bytes(gain.bytes_before),
            human_bytes(gain.bytes_after)
        );
        drawing.text(WIDTH, top + 15.0, Anchor::End, &sizes);
        let scaled = |bytes: i64| (bytes as f64 / most as f64 * WIDTH).max(2.0);
        drawing.bar(0.0, top + 22.0, scaled(gain.bytes_before), 12.0, FAINT);
        drawing.bar(0.0, top + 22.0, scaled(gain.bytes_after), 12.0, MAIN);
    }
    drawing.legend(rows + 15.0, &[(FAINT, "before"), (MAIN, "after")]);
    let saved: i64 = shown
        .iter()
        .map(|gain| gain.bytes_before - gain.bytes_after)
        .sum();
    let alt = format!(
        "Sizes before and after of the {} largest gains, {} together",
        shown.len(),
        human_bytes(saved)
    );
    Some(Chart {
        id: "gains".to_owned(),
        svg: drawing.finish(&alt),
        alt,
    })
}
