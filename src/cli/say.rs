//! Writing to the terminal, or to whatever is there in its place.
//!
//! `println!` panics where a pipe was closed; `maint history | head` is no
//! reason to, and a run must not stop half-way because nobody reads any more.
//! What cannot be written is dropped, and `ended` says whether that matters.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::values::shown;

/// The system's number of the first error on stdout that was no closed pipe.
static LOST: AtomicI32 = AtomicI32::new(0);

/// To stdout.
pub(super) fn out(text: Arguments<'_>) {
    let text = text.to_string();
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(harmless(&text).as_bytes());
    keep(written.and_then(|()| stdout.flush()));
}

/// To stderr; where that cannot be written either, nobody can be told.
pub(super) fn err(text: Arguments<'_>) {
    let text = text.to_string();
    let _ = io::stderr().lock().write_all(harmless(&text).as_bytes());
}

/// The text without what would steer a terminal, wherever it comes from: who prints a name says
/// `shown`, and who forgets it does no harm. Lines, tabs and our own colours stay. JSON, which
/// escapes all of these itself, is the same afterwards.
fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_ascii_control() && !matches!(c, '\n' | '\t' | '\x7f');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find(steers) {
        safe.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match colour(rest) {
            Some(colour) => {
                safe.push_str(colour);
                colour.len()
            }
            None => {
                safe.push_str(&shown(&rest[..1]));
                1
            }
        };
        rest = &rest[taken..];
    }
    safe.push_str(rest);
    Cow::Owned(safe)
}

/// The colour that the text begins with: `ESC [ 1 ; 31 m`.
fn colour(text: &str) -> Option<&str> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    numbers[end..]
        .starts_with('m')
        .then(|| &text[..2 + end + 1])
}

/// Remembers that a result was lost.
pub(super) fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // EIO where the system gave no number.
        let number = error.raw_os_error().unwrap_or(5);
        let _ = LOST.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// What became of stdout: an error where results were lost that somebody waits
/// for. A reader who has gone away has had enough.
pub(super) fn ended() -> io::Result<()> {
    keep(io::stdout().flush());
    match LOST.load(Ordering::Relaxed) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Text to stdout.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::say::out(format_args!($($text)*)) };
}

/// A line to stdout.
macro_rules! outln {
    () => { $crate::cli::say::out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::say::out(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line to stderr.
macro_rules! errln {
    ($($text:tt)*) => { $crate::cli::say::err(format_args!("{}\n", format_args!($($text)*))) };
}

/// Where log lines go: like every other line on stderr they are dropped where
/// nobody can read them.
pub(super) struct Logs;

impl Write for Logs {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let safe = String::from_utf8_lossy(text);
        let _ = io::stderr().lock().write_all(harmless(&safe).as_bytes());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn colours_stay_and_nothing_else_steers_the_terminal() {
        for (text, expected) in [
            ("a\tb\nc ✓", "a\tb\nc ✓"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\x1b[2Jgone\r\x1b[", "\\x1b[2Jgone\\r\\x1b["),
            ("\x1b", "\\x1b"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }
}
