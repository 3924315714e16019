//! A drawing as text: bars, lines and words in the colours that all charts share, readable on a
//! telephone.

use std::fmt::Write as _;

use crate::values::shown;

/// Width of every chart, in its own units: on a telephone 360 pixels wide, of which about 324 are
/// left to it, its text has 11 pixels.
pub(super) const WIDTH: f64 = 440.0;

/// The height of its text.
const FONT_SIZE: f64 = 15.0;

pub(super) const GOOD: &str = "#2f9e6e";
pub(super) const PARTLY: &str = "#d9921a";
/// Ended before its end, with nothing failed.
pub(super) const EARLY: &str = "#7fa3d6";
pub(super) const BAD: &str = "#d64545";
pub(super) const MAIN: &str = "#4c7fd6";
pub(super) const FAINT: &str = "#9fb4d8";
/// Grey that can be read on white, which pictures in mails have as their ground; a page gives the
/// class `chart-text` its own colour where it is dark.
pub(super) const TEXT: &str = "#5c6875";

/// A drawing that grows by elements.
pub(super) struct Drawing {
    elements: String,
    height: f64,
}

#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    pub(super) fn new(height: f64) -> Drawing {
        Drawing {
            elements: String::new(),
            height,
        }
    }

    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        if width > 0.0 && height > 0.0 {
            let _ = write!(
                self.elements,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{color}"/>"#
            );
        }
    }

    pub(super) fn rule(&mut self, y: f64) {
        let _ = write!(
            self.elements,
            r#"<line x1="0" y1="{y:.1}" x2="{WIDTH}" y2="{y:.1}" stroke="{TEXT}" stroke-opacity="0.35"/>"#
        );
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], color: &str) {
        let text: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = write!(
            self.elements,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round"/>"#,
            text.join(" ")
        );
    }

    pub(super) fn area(&mut self, points: &[(f64, f64)], floor: f64, color: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let mut text = format!("M{:.1},{floor:.1}", first.0);
        for (x, y) in points {
            let _ = write!(text, " L{x:.1},{y:.1}");
        }
        let _ = write!(text, " L{:.1},{floor:.1} Z", last.0);
        let _ = write!(
            self.elements,
            r#"<path d="{text}" fill="{color}" fill-opacity="0.18"/>"#
        );
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, color: &str) {
        let _ = write!(
            self.elements,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{color}"/>"#
        );
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.elements,
            r#"<text class="chart-text" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{TEXT}">{}</text>"#,
            escaped(text)
        );
    }

    /// What the colours mean, in one line at `y`: a square of each, and its word.
    pub(super) fn legend(&mut self, y: f64, entries: &[(&str, &str)]) {
        let mut x = 0.0;
        for (color, word) in entries {
            self.bar(x, y - 11.0, 11.0, 11.0, color);
            self.text(x + 16.0, y, Anchor::Start, word);
            let narrow = |c: char| matches!(c, 'f' | 'i' | 'l' | 'r' | 't' | ' ');
            let em: f64 = word
                .chars()
                .map(|c| if narrow(c) { 0.36 } else { 0.63 })
                .sum();
            x += 16.0 + em * FONT_SIZE + 14.0;
        }
    }

    pub(super) fn finish(self, title: &str) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="DejaVu Sans, system-ui, sans-serif" font-size="{FONT_SIZE}"><title>{title}</title>{elements}</svg>"#,
            height = self.height,
            title = escaped(title),
            elements = self.elements
        )
    }
}

/// Text within XML, read as it is written. What XML cannot hold at all is left out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in shown(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => safe.push(c),
        }
    }
    safe
}

/// Names are cut in the middle: they differ at both ends.
pub(super) fn fitted(name: &str, most: usize) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= most {
        return name.to_owned();
    }
    let half = most.saturating_sub(1) / 2;
    let head: String = chars[..half].iter().collect();
    let tail: String = chars[chars.len() - half..].iter().collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_turns_a_title_around() {
        let safe = escaped("a\u{202e}b<\u{7}\u{2066}\nc\u{ffff}");
        assert_eq!(safe, "a\\u{202e}b&lt;\\x07\\u{2066}\\nc");
    }
}
