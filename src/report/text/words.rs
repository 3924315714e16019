//! Sizes, spans, counts and names as people read them, the same in every report; whatever a table
//! may be called, printing it does no harm.

use chrono::{DateTime, Utc};

pub use crate::values::shown;

/// One line for the databases of a server of which there is nothing else to tell.
pub fn folded(task: &str, server: &str, of: usize, all: usize, what: &str) -> String {
    match of == all {
        true => format!("{task} on {server}: {what} in {}", counted(all, "database")),
        false => format!(
            "{task} on {server}: {what} in {of} of {}",
            counted(all, "database")
        ),
    }
}

/// A size as PostgreSQL writes it, 1024 based: `90 bytes`, `512 kB`,
/// `1.4 GB`. One decimal below ten, none from there on. A negative size
/// keeps its sign.
pub fn human_bytes(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let sign = if bytes < 0 { "-" } else { "" };
    let size = bytes.unsigned_abs();
    if size < 1024 {
        return format!("{sign}{size} {}", if size == 1 { "byte" } else { "bytes" });
    }
    let mut value = size as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would be rounded to the 1024 that the next unit is for.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.95 { 1 } else { 0 };
    format!("{sign}{value:.decimals$} {}", UNITS[unit])
}

/// A duration with the precision that matters at its size: `812 ms`,
/// `3.4 s`, `2 min 05 s`, `1 h 02 min`, `3 d 04 h`. Rounded down; negative
/// ones are zero.
pub fn human_duration_ms(duration_ms: i64) -> String {
    let ms = duration_ms.max(0);
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match () {
        () if ms < 1000 => format!("{ms} ms"),
        () if s < 60 => format!("{s}.{} s", ms % 1000 / 100),
        () if min < 60 => format!("{min} min {:02} s", s % 60),
        () if h < 24 => format!("{h} h {:02} min", min % 60),
        () => format!("{} d {:02} h", h / 24, h % 24),
    }
}

/// A count in full, in groups of three: `1 234 567`. Reports prove what was
/// changed, so counts are not rounded.
pub fn human_count(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::from(if count < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// How long ago: `just now`, `5 min ago`, `3 h ago`, `2 d ago`; `in 5 min`
/// where clocks disagree or it is yet to come.
pub fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let minutes = (now - then).num_minutes();
    let amount = match minutes.unsigned_abs() {
        0 => return "just now".to_owned(),
        m if m < 60 => format!("{m} min"),
        m if m < 48 * 60 => format!("{} h", m / 60),
        m => format!("{} d", m / (24 * 60)),
    };
    if minutes > 0 {
        format!("{amount} ago")
    } else {
        format!("in {amount}")
    }
}

/// `1 step`, `3 steps`.
pub fn counted(count: usize, noun: &str) -> String {
    let count_text = human_count(i64::try_from(count).unwrap_or(i64::MAX));
    if count == 1 {
        format!("{count_text} {noun}")
    } else {
        format!("{count_text} {noun}s")
    }
}

/// The same of rows, or whatever stands in files: `1 row is`, `3 rows are`.
pub fn counted_do(count: i64, noun: &str, (one, many): (&str, &str)) -> String {
    let verb = if count == 1 { one } else { many };
    format!("{} {verb}", counted_rows(count, noun))
}

/// `1 row`, `3 rows`: [`counted`] of what databases count.
pub fn counted_rows(count: i64, noun: &str) -> String {
    counted(usize::try_from(count).unwrap_or(0), noun)
}

/// A word of a shell command, quoted where a shell needs it.
pub(in crate::report) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", shown(word).replace('\'', r"'\''"))
    }
}
