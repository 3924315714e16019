//! Writing to the terminal, or to whatever is there in its place.
//!
//! `println!` panics where a pipe was closed; `maint history | head` is no
//! reason to, and a run must not stop half-way because nobody reads any more.
//! What cannot be written is dropped, and `ended` says whether that matters.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicI32, Ordering};

/// The system's number of the first error on stdout that was no closed pipe.
static LOST: AtomicI32 = AtomicI32::new(0);

/// To stdout.
pub(super) fn out(text: Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    keep(stdout.write_fmt(text).and_then(|()| stdout.flush()));
}

/// To stderr; where that cannot be written either, nobody can be told.
pub(super) fn err(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
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
        let _ = io::stderr().lock().write_all(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
