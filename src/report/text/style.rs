//! How text is to look: colours, width and time zone, as data, so that reports do not ask the
//! terminal.

use chrono_tz::Tz;
use owo_colors::OwoColorize;

/// How text is to look: everything about the terminal that a report needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether to use ANSI colours.
    pub color: bool,
    /// Columns of the terminal; names and notes are cut to fit. `None` cuts
    /// nothing, for pipes and files.
    pub width: Option<usize>,
    /// The time zone that times are told in.
    pub zone: Tz,
}

impl Style {
    /// No colours, nothing cut, UTC.
    #[cfg(test)]
    pub const PLAIN: Style = Style {
        color: false,
        width: None,
        zone: Tz::UTC,
    };

    /// The text in that colour, or as it is.
    pub fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        match ink {
            Ink::Plain => text.to_owned(),
            Ink::Good => text.green().to_string(),
            Ink::Warning => text.yellow().to_string(),
            Ink::Bad => text.red().to_string(),
            Ink::Strong => text.bold().to_string(),
            Ink::Faint => text.dimmed().to_string(),
        }
    }
}

/// What a colour means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ink {
    /// As it is.
    #[default]
    Plain,
    /// Went well.
    Good,
    /// Wants attention.
    Warning,
    /// Went wrong.
    Bad,
    /// What the eye should find first.
    Strong,
    /// What it may skip.
    Faint,
}
