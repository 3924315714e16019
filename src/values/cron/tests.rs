use super::*;
use chrono::TimeZone as _;
use proptest::prelude::*;

const BERLIN: Tz = Tz::Europe__Berlin;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The next occurrences as the clocks of Berlin show them.
fn berlin(cron: &str, from: &str, count: usize) -> Vec<String> {
    let cron: Cron = cron.parse().unwrap();
    let mut at = utc(from);
    (0..count)
        .map(|_| {
            at = cron.next_after(at, BERLIN).unwrap();
            at.with_timezone(&BERLIN).format("%d %H:%M %Z").to_string()
        })
        .collect()
}

#[test]
fn occurrences_are_whole_minutes_whatever_the_clock_says() {
    let cron: Cron = "*/5 * * * *".parse().unwrap();
    let now =
        Utc.with_ymd_and_hms(2026, 3, 1, 10, 4, 59).unwrap() + TimeDelta::nanoseconds(987_654_321);
    let at = |minute| Utc.with_ymd_and_hms(2026, 3, 1, 10, minute, 0).unwrap();
    assert_eq!(cron.next_after(now, Tz::UTC), Some(at(5)));
    assert_eq!(cron.latest_at_or_before(now, Tz::UTC), Some(at(0)));
    assert_eq!(
        cron.next_after(at(5) + TimeDelta::nanoseconds(1), Tz::UTC),
        Some(at(10))
    );
}

#[test]
fn a_skipped_time_fires_once_at_the_end_of_the_gap() {
    // The clocks go from 02:00 to 03:00 on 29 March 2026.
    assert_eq!(
        berlin("30 2 * * *", "2026-03-27T12:00:00Z", 3),
        ["28 02:30 CET", "29 03:00 CEST", "30 02:30 CEST"]
    );
    assert_eq!(
        berlin("*/30 2,3 * * *", "2026-03-28T12:00:00Z", 3),
        ["29 03:00 CEST", "29 03:30 CEST", "30 02:00 CEST"]
    );
    assert_eq!(
        berlin("30 * * * *", "2026-03-29T00:00:00Z", 3),
        ["29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"]
    );
}

#[test]
fn a_repeated_time_fires_once_whatever_the_expression() {
    // The clocks go from 03:00 back to 02:00 on 25 October 2026.
    assert_eq!(
        berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2),
        ["25 02:30 CEST", "26 02:30 CET"]
    );
    assert_eq!(
        berlin("*/30 * * * *", "2026-10-24T23:45:00Z", 4),
        [
            "25 02:00 CEST",
            "25 02:30 CEST",
            "25 03:00 CET",
            "25 03:30 CET"
        ]
    );
}

#[test]
fn finds_the_latest() {
    let latest = |cron: &str, now: &str| {
        let found = cron
            .parse::<Cron>()
            .unwrap()
            .latest_at_or_before(utc(now), BERLIN);
        found.map(|at| at.to_rfc3339())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        latest("30 2 * * *", "2026-03-29T00:59:59Z"),
        some("2026-03-28T01:30:00+00:00")
    );
    assert_eq!(
        latest("30 2 * * *", "2026-03-29T01:00:00Z"),
        some("2026-03-29T01:00:00+00:00")
    );
    assert_eq!(
        latest("0 0 29 2 *", "2026-03-29T01:00:00Z"),
        some("2024-02-28T23:00:00+00:00")
    );
    assert_eq!(
        latest("* * * * *", "2026-10-25T01:00:30Z"),
        some("2026-10-25T00:59:00+00:00")
    );
    assert_eq!(
        latest("0 3 L * *", "2026-03-01T12:00:00Z"),
        some("2026-02-28T02:00:00+00:00")
    );
}

#[test]
fn more_expressions_than_are_kept_ready_fire_all_the_same() {
    let crons: Vec<Cron> = (0..4 * READY_AT_MOST)
        .map(|n| format!("{} {} * * *", n % 60, n / 60).parse().unwrap())
        .collect();
    let midnight = utc("2026-03-01T00:00:00Z") - TimeDelta::minutes(1);
    for (n, cron) in crons.iter().enumerate() {
        let expected = midnight + TimeDelta::minutes(i64::try_from(n).unwrap() + 1);
        assert_eq!(cron.next_after(midnight, Tz::UTC), Some(expected), "{cron}");
    }
    assert!(READY.lock().unwrap().len() <= READY_AT_MOST);
}

#[test]
fn refuses_what_is_wrong_or_never_fires() {
    let of = |text: &str| text.parse::<Cron>().unwrap_err();
    assert!(of("0 0 30 2 *").message.contains("never fires"));
    assert_eq!(
        of("0 0 2 * * *").hint.as_deref(),
        Some("there is no field for seconds")
    );
    assert!(of("@reboot").hint.is_some());
    for text in [
        "",
        "* * *",
        "61 * * * *",
        "0 2 * * FUNDAY",
        "daily",
        "0 25 * * *",
    ] {
        assert!(text.parse::<Cron>().is_err(), "{text}");
    }
    for text in [
        "0 0 29 2 *",
        "0 2 * * MON-FRI",
        "0 2 * JAN,JUL SUN#2",
        "@WEEKLY",
        "0 0 * * 5L",
    ] {
        assert!(text.parse::<Cron>().is_ok(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn latest_and_next_agree(
        seconds in 1_700_000_000..1_900_000_000_i64,
        cron in prop::sample::select(vec![
            "*/15 * * * *", "30 2 * * *", "0 1 * * SUN", "0 1-3 25 * *", "0 */2 * * *",
        ]),
        zone in prop::sample::select(vec![BERLIN, Tz::America__New_York, Tz::Australia__Lord_Howe]),
    ) {
        let cron: Cron = cron.parse().unwrap();
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        let latest = cron.latest_at_or_before(now, zone).unwrap();
        let next = cron.next_after(now, zone).unwrap();
        prop_assert!(latest <= now && now < next);
        prop_assert_eq!(cron.next_after(latest, zone), Some(next));
        prop_assert_eq!(cron.latest_at_or_before(next, zone), Some(next));
    }
}
