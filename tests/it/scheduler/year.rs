//! A year of fifty schedules in five time zones, with and without down-time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use maint::execute::Stop;
use maint::history::{Occurrence, OccurrenceFilter, OccurrenceStatus, Store, open};
use maint::scheduler::{Options, Scheduler, Silence};

use super::calendar::Clocks;
use super::{Hands, Tally, config, utc};

/// Two that change their clocks by an hour, one by half an hour, one twice
/// around Ramadan, and one never.
const ZONES: [Tz; 5] = [
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
    Tz::Asia__Kolkata,
];

const CRONS: [&str; 10] = [
    "30 2 * * *",
    "0 2 * * SUN",
    "15,45 1-3 * * SAT,SUN",
    "*/20 2 * * *",
    "0 */6 * * *",
    "0 * * * SUN",
    "*/30 * 25 * *",
    "0 3 1,15 * MON-FRI",
    "59 23 L * *",
    "10 2 29 2-12 *",
];

const FROM: &str = "2026-01-01T00:00:00Z";
const TO: &str = "2027-01-01T00:00:00Z";

fn schedules() -> String {
    let mut text = String::new();
    for (z, zone) in ZONES.iter().enumerate() {
        for (c, cron) in CRONS.iter().enumerate() {
            writeln!(
                text,
                "  s{z}{c}: {{ cron: \"{cron}\", timezone: {zone}, tasks: [analyze] }}"
            )
            .unwrap();
        }
    }
    text
}

type Calendar = BTreeMap<String, BTreeSet<DateTime<Utc>>>;

/// Computed once for both tests.
fn independently() -> &'static Calendar {
    static CALENDAR: std::sync::OnceLock<Calendar> = std::sync::OnceLock::new();
    CALENDAR.get_or_init(computed)
}

fn computed() -> Calendar {
    let (from, to) = (utc(FROM), utc(TO));
    let mut calendar = Calendar::new();
    for (z, zone) in ZONES.iter().enumerate() {
        let clocks = Clocks::of(*zone, from, to);
        for (c, cron) in CRONS.iter().enumerate() {
            calendar.insert(format!("s{z}{c}"), clocks.occurrences(cron, from, to));
        }
    }
    calendar
}

/// Lives through the year, away during `down`; what became of every occurrence.
async fn live(down: &[(DateTime<Utc>, DateTime<Utc>)]) -> (Vec<Occurrence>, Tally) {
    let folder = tempfile::tempdir().unwrap();
    let config = Arc::new(config(folder.path(), &schedules()));
    let store: Arc<dyn Store> = open("sqlite::memory:").await.unwrap();
    let hands = Hands::at(utc(FROM));
    let tally = Tally::default();
    let start = async || {
        Scheduler::new(
            Arc::clone(&config),
            Arc::clone(&store),
            Arc::new(hands.clone()),
            Arc::new(tally.clone()),
            Arc::new(Silence),
            Options {
                owner: "simulation".into(),
                seed: "simulation".into(),
                // The history goes by the real clock: nothing runs out here.
                lease: std::time::Duration::from_secs(7 * 86_400),
                only: None,
            },
            Stop::default(),
        )
        .await
        .unwrap()
    };
    let mut scheduler = Some(start().await);
    let mut now = utc(FROM);
    while now < utc(TO) {
        now += TimeDelta::minutes(5);
        hands.set(now);
        if down.iter().any(|(from, to)| *from <= now && now < *to) {
            scheduler = None;
            continue;
        }
        if scheduler.is_none() {
            scheduler = Some(start().await);
        }
        let scheduler = scheduler.as_mut().unwrap();
        if scheduler.tick().await.unwrap().started > 0 {
            scheduler.idle().await;
        }
    }
    let known = store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap();
    (known, tally)
}

fn by_schedule(known: &[Occurrence]) -> Calendar {
    let mut calendar = Calendar::new();
    for one in known {
        let new = calendar
            .entry(one.schedule.clone())
            .or_default()
            .insert(one.scheduled_for);
        assert!(new, "{one:?} is there twice");
    }
    calendar
}

fn same(schedule: &str, found: &BTreeSet<DateTime<Utc>>, expected: &BTreeSet<DateTime<Utc>>) {
    let lost: Vec<_> = expected.difference(found).take(3).collect();
    let invented: Vec<_> = found.difference(expected).take(3).collect();
    assert!(
        lost.is_empty() && invented.is_empty(),
        "{schedule}: lost {lost:?}, invented {invented:?}"
    );
}

#[tokio::test]
async fn a_year_without_rest_equals_another_calculation() {
    let expected = independently();
    let (known, tally) = live(&[]).await;
    let total: usize = expected.values().map(BTreeSet::len).sum();
    assert!(total > 10_000, "{total} occurrences are no year");
    let found = by_schedule(&known);
    for (schedule, expected) in expected {
        same(schedule, &found[schedule], expected);
    }
    assert!(
        known.iter().all(|one| one.status == OccurrenceStatus::Ran),
        "all at their time"
    );
    let done = tally.0.lock().unwrap();
    assert_eq!(done.len(), total);
    assert!(done.values().all(|times| *times == 1));
}

#[tokio::test]
async fn ten_down_times_lose_and_double_nothing() {
    // Ten stretches of half an hour to five days, spread by a small generator;
    // the first two over a change of the clocks.
    let mut seed = 20_261_121_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut down = vec![
        (utc("2026-03-29T00:40:00Z"), utc("2026-03-29T01:20:00Z")),
        (utc("2026-10-25T00:10:00Z"), utc("2026-10-25T03:30:00Z")),
    ];
    while down.len() < 10 {
        let minutes = |minutes: u64| TimeDelta::minutes(i64::try_from(minutes).unwrap());
        let from = utc(FROM) + minutes(next(500_000));
        down.push((from, from + minutes(30 + next(7_000))));
    }
    let expected = independently();
    let (known, tally) = live(&down).await;
    let found = by_schedule(&known);
    for (schedule, expected) in expected {
        same(schedule, &found[schedule], expected);
    }
    let done = tally.0.lock().unwrap();
    let mut counts = BTreeMap::new();
    for one in &known {
        *counts.entry(one.status.as_str()).or_insert(0) += 1;
        let away = down
            .iter()
            .any(|(from, to)| *from <= one.scheduled_for && one.scheduled_for < *to);
        let times = done.get(&(one.schedule.clone(), one.scheduled_for));
        match one.status {
            OccurrenceStatus::Ran => assert_eq!(times, Some(&1), "{one:?}"),
            OccurrenceStatus::CaughtUp => {
                assert_eq!(times, Some(&1), "{one:?}");
                assert!(away, "{one:?}");
            }
            OccurrenceStatus::Missed => {
                assert_eq!(times, None, "{one:?}");
                assert!(away && one.reason.is_some(), "{one:?}");
            }
            other => panic!("{other}: {one:?}"),
        }
    }
    assert!(
        counts["caught_up"] > 10 && counts["missed"] > 10,
        "{counts:?}"
    );
}
