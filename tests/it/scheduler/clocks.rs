//! Clocks that were ahead: what they have left in the history holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use maint::execute::Stop;
use maint::history::{Claim, OccurrenceFilter, OccurrenceStatus, Pause, Store, open};
use maint::scheduler::{LEASE, Options, Scheduler, Silence, clock_troubles};
use tempfile::TempDir;

use super::{Hands, Tally, config};

const HOURLY: &str = "  hourly: { cron: \"0 * * * *\", tasks: [analyze] }\n";

struct World {
    folder: TempDir,
    store: Arc<dyn Store>,
    hands: Hands,
    tally: Tally,
}

impl World {
    /// Leases go by the clock of the machine: the hands begin at the full hour before it.
    async fn new() -> (World, DateTime<Utc>) {
        let hour = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap();
        let world = World {
            folder: tempfile::tempdir().unwrap(),
            store: open("sqlite::memory:").await.unwrap(),
            hands: Hands::at(hour),
            tally: Tally::default(),
        };
        (world, hour)
    }

    async fn scheduler(&self) -> Scheduler {
        Scheduler::new(
            Arc::new(config(self.folder.path(), HOURLY)),
            Arc::clone(&self.store),
            Arc::new(self.hands.clone()),
            Arc::new(self.tally.clone()),
            Arc::new(Silence),
            Options {
                lease: LEASE,
                ..Options::for_host("host")
            },
            Stop::default(),
        )
        .await
        .unwrap()
    }

    async fn go(&self, scheduler: &mut Scheduler, now: DateTime<Utc>) -> usize {
        self.hands.set(now);
        let started = scheduler.tick().await.unwrap().started;
        scheduler.idle().await;
        started
    }

    async fn ran(&self) -> Vec<DateTime<Utc>> {
        let filter = OccurrenceFilter {
            statuses: vec![OccurrenceStatus::Ran],
            ..OccurrenceFilter::default()
        };
        let ran = self.store.occurrences(&filter).await.unwrap();
        ran.iter().map(|one| one.scheduled_for).collect()
    }
}

#[tokio::test]
async fn what_was_first_seen_then_runs_once_the_clock_is_right() {
    let (world, hour) = World::new().await;
    world.hands.set(hour + TimeDelta::days(400));
    let mut scheduler = world.scheduler().await;
    world.go(&mut scheduler, hour + TimeDelta::days(400)).await;
    let told = clock_troubles(world.store.as_ref(), hour).await.unwrap();
    assert!(
        told.len() == 1 && told[0].contains("is known since"),
        "{told:?}"
    );
    // Set right while it serves, or found so by the next one.
    assert_eq!(
        world.go(&mut scheduler, hour + TimeDelta::minutes(1)).await,
        0
    );
    let told = clock_troubles(world.store.as_ref(), hour + TimeDelta::minutes(1))
        .await
        .unwrap();
    assert!(
        told.len() == 1 && told[0].contains("a clock that was ahead; it is known since now"),
        "{told:?}"
    );
    assert_eq!(
        world.go(&mut scheduler, hour + TimeDelta::hours(1)).await,
        1
    );
    let mut next = world.scheduler().await;
    assert_eq!(world.go(&mut next, hour + TimeDelta::hours(2)).await, 1);
    let hours = |n| hour + TimeDelta::hours(n);
    assert_eq!(world.ran().await, [hours(2), hours(1)]);
    // A day later nobody needs to know any more.
    let later = hour + TimeDelta::hours(30);
    assert_eq!(
        clock_troubles(world.store.as_ref(), later).await.unwrap(),
        [""; 0]
    );
}

/// One that shows a time before this was written is the one that is wrong.
#[tokio::test]
async fn a_clock_without_a_battery_disbelieves_nothing() {
    let (world, hour) = World::new().await;
    let mut scheduler = world.scheduler().await;
    world.go(&mut scheduler, hour + TimeDelta::hours(1)).await;
    world.hands.set(DateTime::UNIX_EPOCH);
    let mut other = world.scheduler().await;
    world
        .go(&mut other, DateTime::UNIX_EPOCH + TimeDelta::hours(1))
        .await;
    world.go(&mut other, hour + TimeDelta::hours(2)).await;
    let all = world
        .store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap();
    let ran: Vec<_> = all
        .iter()
        .map(|one| (one.scheduled_for, one.status))
        .collect();
    let hours = |n| (hour + TimeDelta::hours(n), OccurrenceStatus::Ran);
    assert_eq!(ran, [hours(2), hours(1)]);
}

#[tokio::test]
async fn a_claim_of_a_dead_owner_holds_nobody_up_for_a_year() {
    let (world, hour) = World::new().await;
    let dead = |at: DateTime<Utc>, lease| Claim {
        schedule: "hourly".into(),
        scheduled_for: at,
        catch_up: false,
        owner: "dead".into(),
        lease,
        now: at,
    };
    let year = Duration::from_secs(400 * 86_400);
    let ahead = dead(hour + TimeDelta::days(400), year);
    world.store.claim_occurrence(&ahead).await.unwrap().unwrap();
    let mut scheduler = world.scheduler().await;
    // It is waited for as long as any owner is.
    assert_eq!(
        world.go(&mut scheduler, hour + TimeDelta::hours(1)).await,
        0
    );
    let held = world
        .store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap();
    let left = held[0].lease_until.unwrap() - Utc::now();
    assert!(left <= TimeDelta::seconds(60), "{left}");
    // As if that time had passed.
    let over = Claim {
        lease: Duration::ZERO,
        ..ahead
    };
    assert!(world.store.renew_occurrence(&over).await.unwrap());
    world
        .go(
            &mut scheduler,
            hour + TimeDelta::hours(1) + TimeDelta::minutes(1),
        )
        .await;
    let hours = |n| hour + TimeDelta::hours(n);
    world
        .go(&mut scheduler, hours(1) + TimeDelta::minutes(2))
        .await;
    assert_eq!(
        world.ran().await,
        [hours(1)],
        "and the one to come is nobody's"
    );
    let all = world
        .store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
}

#[tokio::test]
async fn a_pause_of_a_clock_ahead_holds_now_and_for_as_long() {
    let (world, hour) = World::new().await;
    let since = hour + TimeDelta::days(400);
    let pause = Pause {
        schedule: "hourly".into(),
        since,
        until: Some(since + TimeDelta::minutes(90)),
        by: "dba".into(),
    };
    world.store.pause_schedule(&pause).await.unwrap();
    let mut scheduler = world.scheduler().await;
    assert_eq!(
        world.go(&mut scheduler, hour + TimeDelta::hours(1)).await,
        0
    );
    assert_eq!(
        world.go(&mut scheduler, hour + TimeDelta::hours(2)).await,
        1
    );
    assert_eq!(world.ran().await, [hour + TimeDelta::hours(2)]);
}
