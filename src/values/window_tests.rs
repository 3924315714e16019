//! Windows as they are read and written, and when they open and close where clocks are changed.

use super::*;
use chrono::{NaiveDateTime, TimeZone as _};
use proptest::prelude::*;

const BERLIN: Tz = Tz::Europe__Berlin;
const NEW_YORK: Tz = Tz::America__New_York;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn closes(text: &str, now: &str, zone: Tz) -> Option<String> {
    let close = window(text).closes_at(utc(now), zone)?;
    Some(close.to_rfc3339())
}

#[test]
fn reads_and_writes() {
    for (text, written) in [
        ("02:00-05:00", "02:00-05:00"),
        (
            "Sun 1:00-05:00 Europe/Berlin",
            "Sun 01:00-05:00 Europe/Berlin",
        ),
        ("Mon-Fri 22:00-04:00", "Mon-Fri 22:00-04:00"),
        ("Sat, Sun 00:00 - 24:00", "Sat,Sun 00:00-24:00"),
        ("monday,WED,Fri 18:30-00:00", "Mon,Wed,Fri 18:30-24:00"),
        ("Fri-Mon 10:00-11:00", "Mon,Fri-Sun 10:00-11:00"),
    ] {
        assert_eq!(window(text).to_string(), written);
        assert_eq!(window(written), window(text));
    }
}

#[test]
fn refuses_with_advice() {
    let of = |text: &str| text.parse::<Window>().unwrap_err();
    assert_eq!(
        of("Snu 01:00-05:00").hint.as_deref(),
        Some("did you mean `Sun`?")
    );
    assert!(
        of("Sun 01:00-05:00 Europe/Berln")
            .hint
            .unwrap()
            .contains("Europe/Berlin")
    );
    assert!(of("05:00-05:00").hint.unwrap().contains("00:00-24:00"));
    for text in [
        "",
        "Sun",
        "1-5",
        "01:00",
        "25:00-26:00",
        "01:60-02:00",
        "24:00-01:00",
        "01:00-05:00 a b",
    ] {
        assert!(text.parse::<Window>().is_err(), "{text}");
    }
}

#[test]
fn is_open_from_begin_up_to_its_end() {
    let nights = window("Mon-Fri 22:00-04:00");
    // Friday's window lasts into Saturday, and nobody opens one on Sunday morning.
    assert!(nights.contains(utc("2026-11-21T02:59:59Z"), BERLIN));
    assert!(!nights.contains(utc("2026-11-21T03:00:00Z"), BERLIN));
    assert!(!nights.contains(utc("2026-11-22T02:00:00Z"), BERLIN));
    assert_eq!(
        nights.next_opening(utc("2026-11-21T03:00:00Z"), BERLIN),
        Some(utc("2026-11-23T21:00:00Z"))
    );
    // Its own zone wins over the default.
    let own = window("Sun 01:00-05:00 America/New_York");
    assert!(own.contains(utc("2026-11-22T06:00:00Z"), BERLIN));
}

#[test]
fn touching_windows_are_one() {
    assert_eq!(
        closes("Sat,Sun 00:00-24:00", "2026-11-21T12:00:00Z", Tz::UTC).as_deref(),
        Some("2026-11-23T00:00:00+00:00")
    );
    let always = window("00:00-24:00");
    assert!(always.contains(utc("2026-11-21T12:00:00Z"), BERLIN));
    assert_eq!(always.closes_at(utc("2026-11-21T12:00:00Z"), BERLIN), None);
    assert_eq!(
        always.next_opening(utc("2026-11-21T12:00:00Z"), BERLIN),
        None
    );
}

#[test]
fn follows_the_clocks_when_they_change() {
    let at = |text: &str, now: &str, zone| closes(text, now, zone).unwrap_or_default();
    // Berlin skips 02:00-03:00 on 29 March and repeats it on 25 October 2026.
    assert_eq!(
        at("01:00-05:00", "2026-03-29T00:30:00Z", BERLIN),
        "2026-03-29T03:00:00+00:00"
    );
    assert_eq!(
        at("01:00-02:30", "2026-03-29T00:30:00Z", BERLIN),
        "2026-03-29T01:30:00+00:00"
    );
    // What was to happen in the gap happens at its end, and finds the window open.
    for text in ["02:00-03:00", "02:15-02:45", "01:00-03:00", "00:00-02:30"] {
        let moved: crate::values::Cron = "20 2 * * *".parse().unwrap();
        let moved = moved.next_after(utc("2026-03-29T00:00:00Z"), BERLIN);
        assert_eq!(moved, Some(utc("2026-03-29T01:00:00Z")));
        assert!(window(text).contains(moved.unwrap(), BERLIN), "{text}");
    }
    assert_eq!(
        at("02:00-03:00", "2026-03-29T01:00:00Z", BERLIN),
        "2026-03-29T02:00:00+00:00"
    );
    // One that ends before the gap, or when it begins, is as ever.
    assert!(!window("01:00-02:00").contains(utc("2026-03-29T01:00:00Z"), BERLIN));
    assert_eq!(
        at("01:00-05:00", "2026-10-25T00:30:00Z", BERLIN),
        "2026-10-25T04:00:00+00:00"
    );
    assert_eq!(
        at("01:00-02:30", "2026-10-25T00:15:00Z", BERLIN),
        "2026-10-25T00:30:00+00:00"
    );
    // New York skips 02:00-03:00 on 8 March and repeats 01:00-02:00 on 1 November 2026.
    assert_eq!(
        at("02:30-05:00", "2026-03-08T07:00:00Z", NEW_YORK),
        "2026-03-08T09:00:00+00:00"
    );
    assert_eq!(
        at("01:30-05:00", "2026-11-01T05:30:00Z", NEW_YORK),
        "2026-11-01T10:00:00+00:00"
    );
    assert!(!window("01:30-05:00").contains(utc("2026-11-01T05:29:00Z"), NEW_YORK));
}

/// What the clocks show, for the days on which they do not change.
fn shown(window: &Window, local: NaiveDateTime) -> bool {
    use chrono::Timelike;
    let minute = (local.hour() * 60 + local.minute()) as u16;
    let today = local.weekday().num_days_from_monday() as usize;
    let started = window.days[today] && window.start <= minute && minute < window.end;
    let carried = window.days[(today + 6) % 7] && minute + DAY < window.end;
    started || carried
}

proptest! {
    #[test]
    fn agrees_with_the_clocks(
        seconds in 1_700_000_000..1_900_000_000_i64,
        (start, end) in (0..DAY, 0..DAY).prop_filter("not empty", |(a, b)| a != b),
        days in prop::array::uniform7(any::<bool>()),
        zone in prop::sample::select(vec![BERLIN, NEW_YORK, Tz::Asia__Kolkata]),
    ) {
        prop_assume!(days.contains(&true));
        let end = if end < start { end + DAY } else { end };
        let window = Window { days, start, end, zone: None };
        prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window.clone());

        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        let open = window.contains(now, zone);
        let local = now.with_timezone(&zone).naive_local();
        let offset = |days: i64| zone.offset_from_utc_datetime(&(now + TimeDelta::days(days)).naive_utc());
        if offset(-2).to_string() == offset(2).to_string() {
            prop_assert_eq!(open, shown(&window, local));
        }
        match window.closes_at(now, zone) {
            Some(close) => {
                prop_assert!(open && close > now);
                prop_assert!(window.contains(close - TimeDelta::seconds(1), zone));
                prop_assert!(!window.contains(close, zone));
            }
            None => prop_assert!(!open),
        }
        let next = window.next_opening(now, zone).unwrap();
        prop_assert!(next > now && window.contains(next, zone));
        prop_assert!(!window.contains(next - TimeDelta::seconds(1), zone));
    }
}

#[test]
fn times_as_people_say_them_get_the_window_that_is_meant() {
    let hint = |text: &str| {
        let problem = text.parse::<Window>().unwrap_err();
        problem.hint.unwrap_or_default()
    };
    for (text, meant) in [
        ("Sunday 1am-5am", "Sun 01:00-05:00"),
        ("1am-5am", "01:00-05:00"),
        ("Sun 01:00 to 05:00", "Sun 01:00-05:00"),
        (
            "Mon-Fri 10pm - 4am Europe/Berlin",
            "Mon-Fri 22:00-04:00 Europe/Berlin",
        ),
        ("9:30 PM to 12 AM", "21:30-24:00"),
        ("12pm-1pm", "12:00-13:00"),
        ("1-5am", "01:00-05:00"),
        ("22-4", "22:00-04:00"),
        ("0100-0530", "01:00-05:30"),
        ("01:00–05:00", "01:00-05:00"),
    ] {
        assert_eq!(hint(text), format!("did you mean `{meant}`?"), "{text}");
    }
    for text in [
        "10-2pm",
        "13am-2pm",
        "1am",
        "tonight",
        "1am-5am every day",
        "-",
        "1am-1am",
        "25-26",
    ] {
        assert!(!hint(text).contains("01:00-"), "{text}: {}", hint(text));
        assert!(
            !hint(text).starts_with("did you mean `2"),
            "{text}: {}",
            hint(text)
        );
    }
}
