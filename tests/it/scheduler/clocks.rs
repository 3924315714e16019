//! Clocks that were ahead: what they have left in the history holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use maint::execute::Stop;
use maint::history::{Claim, Ended, OccurrenceFilter, OccurrenceStatus, Pause, Store, open};
use maint::scheduler::{Job, LEASE, Options, Outcome, Scheduler, Silence, Worker, troubles};
use tempfile::TempDir;
use uuid::Uuid;

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
        self.with(Arc::new(self.tally.clone())).await
    }

    async fn with(&self, worker: Arc<dyn Worker>) -> Scheduler {
        Scheduler::new(
            Arc::new(config(self.folder.path(), HOURLY)),
            Arc::clone(&self.store),
            Arc::new(self.hands.clone()),
            worker,
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
    let told = troubles(world.store.as_ref(), hour).await.unwrap();
    assert!(
        told.len() == 1 && told[0].contains("is known since"),
        "{told:?}"
    );
    // Set right while it serves, or found so by the next one.
    assert_eq!(
        world.go(&mut scheduler, hour + TimeDelta::minutes(1)).await,
        0
    );
    let told = troubles(world.store.as_ref(), hour + TimeDelta::minutes(1))
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
        troubles(world.store.as_ref(), later).await.unwrap(),
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

/// Goes on with an occurrence although somebody else has it by now.
struct CutOff(Arc<dyn Store>, Vec<Uuid>);

impl Worker for CutOff {
    fn carry_out(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let (store, runs) = (Arc::clone(&self.0), self.1.clone());
        Box::pin(async move {
            let running = store
                .occurrences(&OccurrenceFilter::default())
                .await
                .unwrap();
            let claim = |owner: &str, lease| Claim {
                schedule: job.schedule.name.clone(),
                scheduled_for: job.at,
                catch_up: false,
                owner: owner.into(),
                lease,
                now: job.at,
            };
            let ours = running[0].claimed_by.clone().unwrap();
            assert!(
                store
                    .renew_occurrence(&claim(&ours, Duration::ZERO))
                    .await
                    .unwrap()
            );
            let other = store
                .claim_occurrence(&claim("other", LEASE))
                .await
                .unwrap();
            assert_eq!(other.unwrap().claims, 2);
            Outcome::Ended(Ended {
                status: OccurrenceStatus::Ran,
                succeeded: Some(true),
                reason: None,
                runs,
            })
        })
    }
}

/// What was done twice is told; where nothing was done there is nothing to tell.
#[tokio::test]
async fn what_was_done_although_it_was_taken_over_is_told() {
    for runs in [vec![], vec![Uuid::now_v7()]] {
        let (world, hour) = World::new().await;
        let twice = runs.len();
        let worker = CutOff(Arc::clone(&world.store), runs);
        let mut scheduler = world.with(Arc::new(worker)).await;
        let next = hour + TimeDelta::hours(1);
        assert_eq!(world.go(&mut scheduler, next).await, 1);
        let told = troubles(world.store.as_ref(), next).await.unwrap();
        assert_eq!(told.len(), twice, "{told:?}");
        assert!(
            told.iter()
                .all(|one| one.contains("may have been done twice")),
            "{told:?}"
        );
        let all = world
            .store
            .occurrences(&OccurrenceFilter::default())
            .await
            .unwrap();
        assert_eq!(
            all[0].status,
            OccurrenceStatus::Running,
            "the other will say how it ended"
        );
    }
}
