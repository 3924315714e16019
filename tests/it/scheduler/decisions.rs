//! What is decided about one schedule, given what is known of it.

use chrono_tz::Tz;
use maint::config::{Schedule, TaskWindow};
use maint::history::Pause;
use maint::scheduler::{Before, Decision, Due, Known, Running, due, jitter};

use super::{config, utc};

fn schedule(yaml: &str) -> Schedule {
    let folder = tempfile::tempdir().unwrap();
    let config = config(
        folder.path(),
        &format!("  nightly: {{ tasks: [analyze], {yaml} }}\n"),
    );
    config.schedules["nightly"].clone()
}

fn known<'a>() -> Known<'a> {
    Known {
        since: utc("2026-06-01T00:00:00Z"),
        newest: Some(utc("2026-06-09T02:00:00Z")),
        running: None,
        pause: None,
        attended: None,
        before: Before::Done,
        windows: Vec::new(),
    }
}

fn ask(schedule: &Schedule, known: &Known<'_>, now: &str) -> Due {
    due(schedule, Tz::UTC, "host", known, utc(now))
}

/// `2026-06-10T02:00 start`, one for each decision.
fn words(due: &Due) -> Vec<String> {
    let at = |at: &chrono::DateTime<chrono::Utc>| at.format("%d %H:%M").to_string();
    due.decisions
        .iter()
        .map(|decision| match decision {
            Decision::Start {
                at: on,
                catch_up: true,
            } => format!("{} catch up", at(on)),
            Decision::Start { at: on, .. } => format!("{} start", at(on)),
            Decision::Skip { at: on, reason } => format!("{} skip: {reason}", at(on)),
            Decision::Miss {
                at: on,
                reason,
                covered,
                ..
            } => format!(
                "{} miss{}: {reason}",
                at(on),
                if *covered { " quietly" } else { "" }
            ),
        })
        .collect()
}

#[test]
fn an_occurrence_starts_at_its_time_and_not_before() {
    let daily = schedule("cron: \"0 2 * * *\"");
    let early = ask(&daily, &known(), "2026-06-10T01:59:59Z");
    assert_eq!(words(&early), [""; 0]);
    assert_eq!(early.wake, Some(utc("2026-06-10T02:00:00Z")));
    let there = ask(&daily, &known(), "2026-06-10T02:00:00Z");
    assert_eq!(words(&there), ["10 02:00 start"]);
    assert_eq!(there.wake, Some(utc("2026-06-11T02:00:00Z")));
    let recorded = Known {
        newest: Some(utc("2026-06-10T02:00:00Z")),
        ..known()
    };
    assert_eq!(
        words(&ask(&daily, &recorded, "2026-06-10T02:00:01Z")),
        [""; 0]
    );
}

#[test]
fn what_was_due_before_a_schedule_was_known_is_nobodys_concern() {
    let daily = schedule("cron: \"0 2 * * *\"");
    let new = Known {
        since: utc("2026-06-10T12:00:00Z"),
        newest: None,
        ..known()
    };
    assert_eq!(words(&ask(&daily, &new, "2026-06-10T13:00:00Z")), [""; 0]);
    // Its times have changed: the old occurrences say nothing of the new ones.
    let changed = Known {
        since: utc("2026-06-10T12:00:00Z"),
        ..known()
    };
    assert_eq!(
        words(&ask(&daily, &changed, "2026-06-10T13:00:00Z")),
        [""; 0]
    );
}

#[test]
fn after_down_time_the_newest_is_made_up_for_once() {
    let hourly = schedule("cron: \"0 * * * *\", catch_up: 12h");
    let down = Known {
        newest: Some(utc("2026-06-10T00:00:00Z")),
        ..known()
    };
    assert_eq!(
        words(&ask(&hourly, &down, "2026-06-10T03:30:00Z")),
        [
            "10 01:00 miss quietly: the one of 2026-06-10 03:00 does its work",
            "10 02:00 miss quietly: the one of 2026-06-10 03:00 does its work",
            "10 03:00 catch up",
        ]
    );
    assert_eq!(
        words(&ask(&hourly, &down, "2026-06-10T02:00:20Z")),
        [
            "10 01:00 miss quietly: the one of 2026-06-10 02:00 does its work",
            "10 02:00 start",
        ]
    );
}

#[test]
fn catch_up_is_the_period_unless_it_is_set() {
    let daily = schedule("cron: \"0 2 * * *\"");
    let weekly = schedule("cron: \"0 2 * * WED\"");
    let never = schedule("cron: \"0 2 * * *\", catch_up: 0s");
    let shortly = schedule("cron: \"0 2 * * *\", catch_up: 2h");
    for (schedule, now, expected) in [
        (&daily, "2026-06-11T01:59:00Z", "10 02:00 catch up"),
        (&weekly, "2026-06-11T01:59:00Z", "10 02:00 catch up"),
        (
            &weekly,
            "2026-06-11T02:01:00Z",
            "10 02:00 miss: nobody was there within 1d of its time",
        ),
        (&never, "2026-06-10T02:00:59Z", "10 02:00 start"),
        (
            &never,
            "2026-06-10T02:01:01Z",
            "10 02:00 miss: nobody was there at its time",
        ),
        (&shortly, "2026-06-10T04:00:00Z", "10 02:00 catch up"),
        (
            &shortly,
            "2026-06-10T04:00:01Z",
            "10 02:00 miss: nobody was there within 2h of its time",
        ),
    ] {
        assert_eq!(words(&ask(schedule, &known(), now)), [expected], "{now}");
    }
}

#[test]
fn what_overlaps_or_is_paused_is_skipped() {
    let daily = schedule("cron: \"0 2 * * *\"");
    let busy = Known {
        running: Some(Running::AtWork(utc("2026-06-09T02:00:00Z"))),
        ..known()
    };
    assert_eq!(
        words(&ask(&daily, &busy, "2026-06-10T02:00:00Z")),
        ["10 02:00 skip: the one of 2026-06-09 02:00 is still at work"]
    );
    // Its owner may be dead: then it is no overlap, and nothing is skipped.
    let perhaps = Known {
        running: Some(Running::Unproven(utc("2026-06-09T02:00:00Z"))),
        ..known()
    };
    let asked = ask(&daily, &perhaps, "2026-06-10T02:00:00Z");
    assert_eq!(words(&asked), [""; 0]);
    assert_eq!(asked.waiting, Some(utc("2026-06-10T02:00:00Z")));
    let now = utc("2026-06-10T02:00:00Z");
    assert!(
        asked
            .wake
            .is_some_and(|wake| wake > now && wake < now + chrono::TimeDelta::minutes(1))
    );
    let pause = Pause {
        schedule: "nightly".into(),
        since: utc("2026-06-10T12:00:00Z"),
        until: Some(utc("2026-06-13T00:00:00Z")),
        by: "dba@host".into(),
    };
    let paused = Known {
        pause: Some(&pause),
        ..known()
    };
    assert_eq!(
        words(&ask(&daily, &paused, "2026-06-13T02:00:00Z")),
        [
            "10 02:00 miss quietly: the one of 2026-06-13 02:00 does its work",
            "11 02:00 skip: paused by dba@host",
            "12 02:00 skip: paused by dba@host",
            "13 02:00 start",
        ]
    );
}

#[test]
fn a_window_is_waited_for() {
    let daily = schedule("cron: \"0 2 * * *\", window: \"03:00-05:00\"");
    let early = ask(&daily, &known(), "2026-06-10T02:00:00Z");
    assert_eq!(words(&early), [""; 0]);
    assert_eq!(early.waiting, Some(utc("2026-06-10T02:00:00Z")));
    assert_eq!(early.wake, Some(utc("2026-06-10T03:00:00Z")));
    let waited = Known {
        attended: early.waiting,
        ..known()
    };
    assert_eq!(
        words(&ask(&daily, &waited, "2026-06-10T03:00:00Z")),
        ["10 02:00 start"],
        "it was attended to all the time: nothing is made up for"
    );
    let strict = schedule("cron: \"0 2 * * *\", window: \"02:00-05:00\", catch_up: 6h");
    assert_eq!(
        words(&ask(&strict, &known(), "2026-06-10T06:00:00Z")),
        ["10 02:00 miss: its window `02:00-05:00` was closed"]
    );
}

fn own(task: &str, window: &str) -> TaskWindow {
    TaskWindow {
        task: task.to_owned(),
        window: (!window.is_empty()).then(|| window.parse().unwrap()),
    }
}

/// When the occurrence of the 10th begins by which windows of its tasks, asked at its time.
#[test]
fn the_windows_of_its_tasks_are_waited_for() {
    let daily = "cron: \"0 2 * * *\"";
    let bounded = "cron: \"0 2 * * *\", window: \"02:00-05:00\"";
    for (yaml, windows, begins) in [
        (daily, vec![""], "10 02:00"),
        (daily, vec!["01:00-03:00"], "10 02:00"),
        (daily, vec!["04:00-05:00"], "10 04:00"),
        // The others wait along, and where they are never open together, nobody waits.
        (daily, vec!["", "04:00-05:00"], "10 04:00"),
        (daily, vec!["03:00-05:00", "04:00-06:00"], "10 04:00"),
        (daily, vec!["03:00-04:00", "04:00-05:00"], "10 03:00"),
        // The 10th is a Wednesday: a later occurrence does the second.
        (daily, vec!["", "Sun 02:00-05:00"], "10 02:00"),
        (daily, vec!["Sun 02:00-05:00"], "14 02:00"),
        (bounded, vec!["04:00-09:00"], "10 04:00"),
        (bounded, vec!["", "04:30-09:00"], "10 04:30"),
        (
            "cron: \"*/15 2 * * *\"",
            vec!["", "02:20-03:00"],
            "10 02:00",
        ),
    ] {
        let windows: Vec<TaskWindow> = windows.into_iter().map(|w| own("a", w)).collect();
        let schedule = schedule(yaml);
        let mut known = Known { windows, ..known() };
        let asked = ask(&schedule, &known, "2026-06-10T02:00:00Z");
        let said = format!("{yaml} {:?}: {asked:?}", known.windows);
        if begins == "10 02:00" {
            assert_eq!(words(&asked).pop().unwrap(), "10 02:00 start", "{said}");
            continue;
        }
        assert_eq!(words(&asked), [""; 0], "{said}");
        let day: u32 = begins[..2].parse().unwrap();
        let opens = utc(&format!("2026-06-{day}T{}:00Z", &begins[3..]));
        let next = utc("2026-06-11T02:00:00Z");
        assert_eq!(asked.wake, Some(opens.min(next)), "{said}");
        if opens < next {
            known.attended = asked.waiting;
            let at_last = ask(&schedule, &known, &opens.to_rfc3339());
            assert_eq!(words(&at_last), ["10 02:00 start"], "{said}");
        }
    }
    // Who comes too late for it says so.
    let strict = schedule("cron: \"0 2 * * *\", catch_up: 6h");
    let late = Known {
        windows: vec![own("a", "02:00-05:00")],
        ..known()
    };
    assert_eq!(
        words(&ask(&strict, &late, "2026-06-10T06:00:00Z")),
        ["10 02:00 miss: the window `02:00-05:00` of `a` was closed"]
    );
}

#[test]
fn others_are_waited_for() {
    let daily = schedule("cron: \"0 2 * * *\"");
    let now = "2026-06-10T02:00:30Z";
    let waiting = Known {
        before: Before::Waiting("first".into()),
        ..known()
    };
    let asked = ask(&daily, &waiting, now);
    assert_eq!(words(&asked), [""; 0]);
    assert!(asked.waiting.is_some() && asked.wake.is_some_and(|wake| wake > utc(now)));
    let failed = Known {
        before: Before::Failed("`first` did not succeed".into()),
        ..known()
    };
    assert_eq!(
        words(&ask(&daily, &failed, now)),
        ["10 02:00 skip: `first` did not succeed"]
    );
    let waited = Known {
        attended: Some(utc("2026-06-10T02:00:00Z")),
        ..waiting
    };
    assert_eq!(
        words(&ask(&daily, &waited, "2026-06-11T02:00:00Z")),
        ["10 02:00 miss quietly: a later one, which waits, does its work"]
    );
}

#[test]
fn jitter_is_spread_and_stays() {
    let hosts: Vec<i64> = (0..500)
        .map(|n| {
            let schedule = schedule_with_jitter();
            let first = jitter(&schedule, &format!("host {n}"));
            assert_eq!(first, jitter(&schedule, &format!("host {n}")));
            first.num_milliseconds()
        })
        .collect();
    assert!(hosts.iter().all(|delay| (0..=600_000).contains(delay)));
    for tenth in 0..10 {
        let here = hosts
            .iter()
            .filter(|delay| **delay / 60_001 == tenth)
            .count();
        assert!((20..=90).contains(&here), "{here} of 500 in tenth {tenth}");
    }
    let schedule = schedule_with_jitter();
    let delay = jitter(&schedule, "host");
    let at = utc("2026-06-10T02:00:00Z");
    let due_now = due(&schedule, Tz::UTC, "host", &known(), at);
    assert_eq!(words(&due_now), [""; 0]);
    assert_eq!(due_now.wake, Some(at + delay));
    let due_then = due(&schedule, Tz::UTC, "host", &known(), at + delay);
    assert_eq!(words(&due_then), ["10 02:00 start"]);
}

fn schedule_with_jitter() -> Schedule {
    static ONCE: std::sync::OnceLock<Schedule> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| schedule("cron: \"0 2 * * *\", jitter: 10min"))
        .clone()
}

/// The last thousand have records of their own, and those before them one together, which says
/// how many they are.
#[test]
fn a_long_down_time_has_few_records() {
    let every_minute = schedule("cron: \"* * * * *\"");
    let known = known();
    let asked = ask(&every_minute, &known, "2026-06-12T02:00:00Z");
    assert_eq!(asked.decisions.len(), 1_001);
    assert_eq!(asked.wake, Some(utc("2026-06-12T02:01:00Z")));
    let untold = |decision: &Decision| {
        matches!(
            decision,
            Decision::Start { .. } | Decision::Miss { covered: true, .. }
        )
    };
    assert!(
        asked.decisions.iter().all(untold),
        "the newest does their work"
    );
    let all: usize = asked
        .decisions
        .iter()
        .map(|decision| match decision {
            Decision::Miss { with, .. } => with + 1,
            _ => 1,
        })
        .sum();
    assert_eq!(all, 3 * 24 * 60);
    let Some(Decision::Miss { reason, with, .. }) = asked.decisions.first() else {
        panic!("{:?}", asked.decisions.first());
    };
    assert_eq!(*with, 3 * 24 * 60 - 1_001);
    assert!(reason.contains("for the 3319 before it"), "{reason}");
    assert_eq!(words(&asked).last().unwrap(), "12 02:00 start");
}

/// A year is counted in parts, and each has one record more.
#[test]
fn a_year_of_down_time_is_worked_off_in_parts() {
    let every_minute = schedule("cron: \"* * * * *\"");
    let mut known = known();
    let now = "2027-06-09T02:00:00Z";
    let (mut asked_for, mut records) = (0, 0);
    loop {
        let asked = ask(&every_minute, &known, now);
        asked_for += 1;
        records += asked.decisions.len();
        known.newest = asked.decisions.last().map(|decision| match decision {
            Decision::Start { at, .. } | Decision::Skip { at, .. } | Decision::Miss { at, .. } => {
                *at
            }
        });
        if asked.wake != Some(utc(now)) {
            assert_eq!(words(&asked).last().unwrap(), "09 02:00 start");
            break;
        }
    }
    assert_eq!(asked_for, 6);
    assert!(records <= 6 * 1_001, "{records}");
}
