//! Lines and tables fit the terminal, and numbers read well.

use chrono::TimeDelta;

use super::tests::{NARROW, odd_names, partial, three_at_night};
use super::*;
use crate::values::Engine;

#[test]
fn tables_fit_the_terminal() {
    use unicode_width::UnicodeWidthStr;
    for width in [90, 100, 140] {
        let style = Style {
            width: Some(width),
            ..NARROW
        };
        let table = run_summary(&odd_names(), Engine::Postgres, &style);
        for line in table.lines().filter(|line| line.contains(" → ")) {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
    run_summary(
        &odd_names(),
        Engine::Postgres,
        &Style {
            width: Some(0),
            ..NARROW
        },
    );
    run_details(
        &odd_names(),
        Engine::Postgres,
        &Style {
            width: Some(1),
            ..NARROW
        },
    );
}

/// However narrow: no line is wider, no word is cut, and what goes on below is farther to the right.
#[test]
fn lines_fit_the_terminal_and_keep_their_words() {
    use unicode_width::UnicodeWidthStr;
    let text = "analyze  analyze on app: 12 steps on 3.5 GB, about 1 GB of it to win back (120 looked at)\n    public.orders: about 120000 of 900000 rows, spread over all of it (correlation 0.02)\n";
    for width in [40, 60, 80] {
        let told = within(text, Some(width));
        assert!(told.lines().all(|line| line.width() <= width), "{told}");
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        assert_eq!(words(&told), words(text));
        let below = told.lines().filter(|line| line.starts_with("      "));
        assert!(below.count() > 0, "{told}");
    }
    assert_eq!(within(text, None), text);
    // The verdict of a run, in colours and without.
    for width in [40, 60, 80] {
        for color in [false, true] {
            let style = Style {
                width: Some(width),
                color,
                ..NARROW
            };
            let told = run_details(&partial(), Engine::Postgres, &style);
            for line in told.lines().take(2) {
                let plain: Vec<&str> = line
                    .split('\u{1b}')
                    .enumerate()
                    .map(|(n, part)| match (n, part.split_once('m')) {
                        (1.., Some((_, text))) => text,
                        _ => part,
                    })
                    .collect();
                assert!(plain.concat().width() <= width, "{width}: {told}");
            }
        }
    }
}

#[test]
fn numbers_read_well() {
    for (bytes, text) in [
        (0, "0 bytes"),
        (1, "1 byte"),
        (90, "90 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 kB"),
        (10_188, "9.9 kB"),
        (10_200, "10 kB"),
        (512 << 10, "512 kB"),
        ((1 << 20) - 1, "1.0 MB"),
        (1_503_238_553, "1.4 GB"),
        (-(302 << 20), "-302 MB"),
        (i64::MAX, "8.0 EB"),
        (i64::MIN, "-8.0 EB"),
    ] {
        assert_eq!(human_bytes(bytes), text, "{bytes}");
    }
    for (ms, text) in [
        (-5, "0 ms"),
        (812, "812 ms"),
        (999, "999 ms"),
        (3_499, "3.4 s"),
        (59_999, "59.9 s"),
        (125_000, "2 min 05 s"),
        (3_600_000, "1 h 00 min"),
        (3_720_000, "1 h 02 min"),
        (86_400_000 * 3 + 3_600_000 * 4, "3 d 04 h"),
    ] {
        assert_eq!(human_duration_ms(ms), text, "{ms}");
    }
    for (count, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1 000"),
        (-1_234_567, "-1 234 567"),
    ] {
        assert_eq!(human_count(count), text);
    }
    let now = three_at_night();
    for (minutes, text) in [
        (0, "just now"),
        (5, "5 min ago"),
        (119, "1 h ago"),
        (47 * 60, "47 h ago"),
        (48 * 60, "2 d ago"),
        (-5, "in 5 min"),
    ] {
        assert_eq!(age(now - TimeDelta::minutes(minutes), now), text);
    }
}
