//! Tables on a terminal: aligned, no wider than it is, and cut only where a name can bear it.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Ink, Style, shown};

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What may be left out of a column where the terminal is too narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Never,
    /// The middle: names differ at both ends.
    Middle,
    /// The end.
    End,
}

/// Text in one place of a table, and its colour.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    ink: Ink,
}

impl Cell {
    /// A cell; the text is escaped.
    pub fn new(ink: Ink, text: impl AsRef<str>) -> Cell {
        Cell {
            text: shown(text.as_ref()).into_owned(),
            ink,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(Ink::Plain, text)
    }
}

struct Column {
    title: String,
    align: Align,
    cut: Cut,
}

/// Rows aligned in columns, as wide as their contents and no wider than the
/// terminal. A column without any content is left out.
pub struct Columns {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    narrowest: usize,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            columns: Vec::new(),
            rows: Vec::new(),
            narrowest: NARROWEST_CUT,
        }
    }
}

/// Spaces between columns.
const GAP: usize = 2;

/// A column is not cut below this: a shorter name says nothing, so on a narrower terminal a row takes
/// several lines.
const NARROWEST_CUT: usize = 14;

/// How much farther to the right the second line of a row begins.
const CONTINUED: usize = 4;

/// What is left of a column where the whole terminal has no room for more.
const MIN_CUT: usize = 4;

impl Columns {
    /// No columns yet.
    pub fn new() -> Columns {
        Columns::default()
    }

    /// No column is cut below this many characters, instead of 14.
    pub fn narrowest(mut self, narrowest: usize) -> Columns {
        self.narrowest = narrowest;
        self
    }

    /// Adds a column.
    pub fn column(mut self, title: impl Into<String>, align: Align, cut: Cut) -> Columns {
        self.columns.push(Column {
            title: title.into(),
            align,
            cut,
        });
        self
    }

    /// Adds a row, one cell per column; missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<Cell> = cells.into_iter().collect();
        cells.resize_with(self.columns.len(), Cell::default);
        self.rows.push(cells);
    }

    /// The table, each line indented by so many spaces and ended. Where a row does not fit into one
    /// line, what is left of it follows in the next, farther to the right.
    pub fn render(&self, indent: usize, style: &Style) -> String {
        let (widths, lines) = self.layout(indent, style);
        let titles: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::new(Ink::Faint, &column.title))
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            for (n, columns) in lines.iter().enumerate() {
                let is_empty = |n: &usize| row[*n].text.is_empty();
                if n > 0 && columns.iter().all(is_empty) {
                    continue;
                }
                let indent = indent + if n > 0 { CONTINUED } else { 0 };
                text.push_str(&self.line(row, &widths, columns, indent, style));
                text.push('\n');
            }
        }
        text
    }

    /// Width of every column, and which columns stand in which line of a row.
    fn layout(&self, indent: usize, style: &Style) -> (Vec<usize>, Vec<Vec<usize>>) {
        let mut widths = self.widths(indent, style);
        let there: Vec<usize> = (0..widths.len()).filter(|n| widths[*n] > 0).collect();
        let limit = style.width.unwrap_or(usize::MAX);
        let used = there.iter().map(|n| widths[*n] + GAP).sum::<usize>();
        if indent + used.saturating_sub(GAP) <= limit {
            return (widths, vec![there]);
        }
        let mut lines: Vec<Vec<usize>> = vec![Vec::new()];
        let mut at = indent;
        for n in there {
            let begun = lines.last().is_some_and(|line| !line.is_empty());
            if begun && at + widths[n] > limit {
                lines.push(Vec::new());
                at = indent + CONTINUED;
            }
            if self.columns[n].cut != Cut::Never {
                widths[n] = widths[n].min(limit.saturating_sub(at).max(MIN_CUT));
            }
            at += widths[n] + GAP;
            if let Some(line) = lines.last_mut() {
                line.push(n);
            }
        }
        (widths, lines)
    }

    /// Width of every column; 0 leaves it out.
    fn widths(&self, indent: usize, style: &Style) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(
                |(n, column)| match self.rows.iter().map(|row| row[n].text.width()).max() {
                    None | Some(0) => 0,
                    Some(widest) => widest.max(column.title.width()),
                },
            )
            .collect();
        let Some(limit) = style.width else {
            return widths;
        };
        loop {
            let used = widths
                .iter()
                .filter(|width| **width > 0)
                .map(|width| width + GAP)
                .sum::<usize>();
            if indent + used.saturating_sub(GAP) <= limit {
                return widths;
            }
            let widest = (0..widths.len())
                .filter(|n| self.columns[*n].cut != Cut::Never && widths[*n] > self.narrowest)
                .max_by_key(|n| widths[*n]);
            let Some(widest) = widest else { return widths };
            widths[widest] -= 1;
        }
    }

    fn line(
        &self,
        row: &[Cell],
        widths: &[usize],
        columns: &[usize],
        indent: usize,
        style: &Style,
    ) -> String {
        let mut line = " ".repeat(indent);
        // Spaces are written only before the next text, so no line ends in one.
        let mut owed = 0;
        for &n in columns {
            let (cell, column, width) = (&row[n], &self.columns[n], widths[n]);
            let text = cut(&cell.text, width, column.cut);
            let room = width.saturating_sub(text.width());
            if text.is_empty() {
                owed += width + GAP;
                continue;
            }
            if column.align == Align::Right {
                owed += room;
            }
            line.push_str(&" ".repeat(owed));
            line.push_str(&style.paint(cell.ink, &text));
            owed = GAP + if column.align == Align::Left { room } else { 0 };
        }
        line
    }
}

fn cut(text: &str, width: usize, cut: Cut) -> String {
    if cut == Cut::Never || text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let tail_room = if cut == Cut::Middle { room / 2 } else { 0 };
    let head: String = fitting(text.chars(), room - tail_room).collect();
    let tail: Vec<char> = fitting(text.chars().rev(), tail_room).collect();
    head + "…" + &tail.iter().rev().collect::<String>()
}

/// As many characters as fit into so many columns.
fn fitting(chars: impl Iterator<Item = char>, mut room: usize) -> impl Iterator<Item = char> {
    chars.map_while(move |c| {
        let width = c.width().unwrap_or(0);
        room = room.checked_sub(width)?;
        Some(c)
    })
}

/// Lines, each with its indent, none longer than the terminal: what is left of one follows in the next,
/// farther to the right. What is to be pasted is not given here.
pub fn within(text: &str, width: Option<usize>) -> String {
    let mut all = String::new();
    for line in text.lines() {
        let begin = line.len() - line.trim_start_matches(' ').len();
        let indent = " ".repeat(begin);
        let room = width.map(|width| width.saturating_sub(begin + GAP).max(NARROWEST_CUT));
        let fits = width.is_none_or(|width| line.width() <= width);
        let lines = match fits {
            true => vec![line.trim_start_matches(' ').to_owned()],
            false => wrapped(line.trim_start_matches(' '), room),
        };
        for (n, line) in lines.iter().enumerate() {
            let more = if n == 0 { 0 } else { GAP };
            all.push_str(format!("{indent}{:more$}{line}", "").trim_end());
            all.push('\n');
        }
    }
    all
}

/// The text in lines of at most so many columns, broken at spaces; a longer
/// word keeps a line of its own, so that names stay whole.
pub fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let limit = width.unwrap_or(usize::MAX);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let width = word.width();
        if used > 0 && used + 1 + width > limit {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
        }
        used += width;
    }
    lines
}
