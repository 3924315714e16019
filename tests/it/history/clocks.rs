//! What every history promises about times that a clock which was ahead has written.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use maint::history::{Ahead, Alert, Claim, Letter, Notice, Pause, Store};

use super::{at, id};

const LEASE: Duration = Duration::from_secs(60);

pub(super) async fn times_ahead_are_set_back(store: &dyn Store) {
    // Leases are compared with the history's own clock.
    let now = Utc::now();
    let year = TimeDelta::days(400);
    let near = now + TimeDelta::seconds(2);
    let known = [("late".to_owned(), "x".to_owned())];
    store.know_schedules(&known, now + year).await.unwrap();
    let known = [("right".to_owned(), "x".to_owned())];
    store.know_schedules(&known, near).await.unwrap();
    for (schedule, since) in [("late", now + year), ("right", near)] {
        let pause = Pause {
            schedule: schedule.into(),
            since,
            until: Some(since + TimeDelta::days(2)),
            by: "dba".into(),
        };
        store.pause_schedule(&pause).await.unwrap();
    }
    let claim = |schedule: &str, lease| Claim {
        schedule: schedule.into(),
        scheduled_for: at(0),
        catch_up: false,
        owner: "dead".into(),
        lease,
        now,
    };
    let held = claim("late", Duration::from_secs(400 * 86_400));
    store.claim_occurrence(&held).await.unwrap().unwrap();
    let fresh = claim("right", LEASE);
    store.claim_occurrence(&fresh).await.unwrap().unwrap();

    let ahead = store.times_ahead(now, LEASE).await.unwrap();
    let found: Vec<_> = ahead
        .iter()
        .map(|one| (one.schedule.as_str(), one.what))
        .collect();
    let expected = [Ahead::Known, Ahead::Paused, Ahead::Claimed];
    assert_eq!(found, expected.map(|what| ("late", what)));
    store.set_back(&ahead, now, LEASE).await.unwrap();
    assert_eq!(store.times_ahead(now, LEASE).await.unwrap(), []);

    let known = [
        ("late".to_owned(), "x".to_owned()),
        ("right".to_owned(), "x".to_owned()),
    ];
    let since = store.know_schedules(&known, now + year).await.unwrap();
    let milliseconds = |at: chrono::DateTime<Utc>| at.timestamp_millis();
    assert_eq!(milliseconds(since["late"]), milliseconds(now));
    assert_eq!(milliseconds(since["right"]), milliseconds(near));
    let pauses = store.pauses().await.unwrap();
    let lengths: Vec<_> = pauses
        .iter()
        .map(|one| one.until.map(|at| at - one.since))
        .collect();
    assert_eq!(lengths, [Some(TimeDelta::days(2)); 2]);
    assert_eq!(milliseconds(pauses[0].since), milliseconds(now));
    // The claim is still its owner's, for one more lease.
    assert_eq!(store.orphaned_occurrences().await.unwrap(), []);
    assert!(store.renew_occurrence(&held).await.unwrap());
    assert!(
        store
            .clock()
            .await
            .unwrap()
            .is_none_or(|there| (there - now).abs() < TimeDelta::minutes(5))
    );

    messages(store).await;
}

async fn messages(store: &dyn Store) {
    let notice = |n: u64, ms| Notice {
        id: id(ms, n),
        at: at(ms),
        event: "failed".into(),
        task: "reindex".into(),
        target: "app".into(),
        schedule: None,
        run: None,
        text: "it failed".into(),
    };
    let letter = |n: u64, created, next| Letter {
        id: id(created, n),
        created_at: at(created),
        channel: "webhook".into(),
        body: serde_json::json!({}),
        attempts: 0,
        next_attempt_at: at(next),
        last_error: None,
    };
    const DAY: i64 = 86_400_000;
    store
        .add_notices(&[notice(1, 0), notice(2, DAY)])
        .await
        .unwrap();
    let letters = [letter(3, 0, 7_200_000), letter(4, DAY, DAY)];
    assert!(store.post(&[], &letters).await.unwrap());
    let alert = Alert {
        task: "reindex".into(),
        target: "app".into(),
        since: at(DAY),
        escalated_at: Some(at(2 * DAY)),
    };
    store.put_alert(&alert).await.unwrap();

    let hours = TimeDelta::hours(4);
    assert_eq!(store.set_outbox_back(at(1_000), hours).await.unwrap(), 5);
    assert_eq!(store.set_outbox_back(at(1_000), hours).await.unwrap(), 0);
    let pending: Vec<_> = store
        .pending_notices()
        .await
        .unwrap()
        .iter()
        .map(|one| one.at)
        .collect();
    assert_eq!(pending, [at(0), at(1_000)]);
    let alerts = store.alerts().await.unwrap();
    assert_eq!(
        (alerts[0].since, alerts[0].escalated_at),
        (at(1_000), Some(at(1_000)))
    );
    let due = store
        .claim_letter(at(1_000), at(2_000))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((due.id, due.created_at), (letters[1].id, at(1_000)));
    assert_eq!(
        store.claim_letter(at(1_000), at(2_000)).await.unwrap(),
        None,
        "in its time"
    );
    assert_eq!(store.letters_since("webhook", at(2_000)).await.unwrap(), 0);
}
