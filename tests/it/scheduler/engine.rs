//! The scheduler with a history, a clock that is set by hand, and no work.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Timelike};
use futures_util::future::BoxFuture;
use maint::execute::Stop;
use maint::history::{Claim, OccurrenceFilter, OccurrenceStatus, Pause, Store, open};
use maint::scheduler::{Job, Options, Outcome, Scheduler, Silence, Worker};
use tempfile::TempDir;

use super::{Hands, Tally, config, utc};

struct World {
    folder: TempDir,
    store: Arc<dyn Store>,
    hands: Hands,
    stop: Stop,
}

impl World {
    async fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            store: open("sqlite::memory:").await.unwrap(),
            hands: Hands::at(utc("2026-06-10T00:00:00Z")),
            stop: Stop::default(),
        }
    }

    async fn scheduler(&self, schedules: &str, worker: Arc<dyn Worker>) -> Scheduler {
        Scheduler::new(
            Arc::new(config(self.folder.path(), schedules)),
            Arc::clone(&self.store),
            Arc::new(self.hands.clone()),
            worker,
            Arc::new(Silence),
            Options {
                owner: uuid::Uuid::now_v7().to_string(),
                seed: "host".into(),
                lease: Duration::from_secs(3600),
                only: None,
            },
            self.stop.clone(),
        )
        .await
        .unwrap()
    }

    /// `name 02:00 ran`, oldest first.
    async fn known(&self) -> Vec<String> {
        let mut known: Vec<String> = self
            .store
            .occurrences(&OccurrenceFilter::default())
            .await
            .unwrap()
            .iter()
            .map(|one| {
                format!(
                    "{} {} {}",
                    one.scheduled_for.format("%d %H:%M"),
                    one.schedule,
                    one.status
                )
            })
            .collect();
        known.sort();
        known
    }

    async fn go(&self, scheduler: &mut Scheduler, now: &str) -> usize {
        self.hands.set(utc(now));
        let started = scheduler.tick().await.unwrap().started;
        scheduler.idle().await;
        started
    }
}

const DAILY: &str = "  nightly: { cron: \"0 2 * * *\", tasks: [analyze] }\n";

#[tokio::test]
async fn a_clock_that_is_set_loses_and_doubles_nothing() {
    let world = World::new().await;
    let tally = Tally::default();
    let hourly = "  hourly: { cron: \"0 * * * *\", tasks: [analyze], catch_up: 0s }\n";
    let mut scheduler = world.scheduler(hourly, Arc::new(tally.clone())).await;
    world.go(&mut scheduler, "2026-06-10T01:00:00Z").await;
    world.go(&mut scheduler, "2026-06-10T02:00:00Z").await;
    // Back by an hour and a half: what ran does not run again.
    world.go(&mut scheduler, "2026-06-10T00:30:00Z").await;
    world.go(&mut scheduler, "2026-06-10T01:00:00Z").await;
    world.go(&mut scheduler, "2026-06-10T02:00:00Z").await;
    world.go(&mut scheduler, "2026-06-10T03:00:00Z").await;
    // Asleep for three hours.
    world.go(&mut scheduler, "2026-06-10T06:00:10Z").await;
    // A year ahead by mistake, and back again.
    world.go(&mut scheduler, "2027-06-10T06:30:00Z").await;
    world.go(&mut scheduler, "2026-06-10T06:30:00Z").await;
    world.go(&mut scheduler, "2026-06-10T07:00:00Z").await;
    let known = world
        .store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap();
    let mut day: Vec<(u32, OccurrenceStatus)> = known
        .iter()
        .filter(|one| one.scheduled_for < utc("2026-06-10T07:30:00Z"))
        .map(|one| (one.scheduled_for.hour(), one.status))
        .collect();
    day.sort_by_key(|(hour, _)| *hour);
    use OccurrenceStatus::{Missed, Ran};
    assert_eq!(
        day,
        [
            (1, Ran),
            (2, Ran),
            (3, Ran),
            (4, Missed),
            (5, Missed),
            (6, Ran),
            (7, Ran)
        ]
    );
    assert!(tally.0.lock().unwrap().values().all(|times| *times == 1));
}

/// Who is called once does not get the chance to look again.
#[tokio::test]
async fn after_a_long_down_time_one_look_gets_to_the_newest() {
    let world = World::new().await;
    let tally = Tally::default();
    let every_minute = "  often: { cron: \"* * * * *\", tasks: [analyze] }\n";
    let mut scheduler = world.scheduler(every_minute, Arc::new(tally.clone())).await;
    assert_eq!(world.go(&mut scheduler, "2026-06-12T00:00:30Z").await, 1);
    let newest = ("often".to_owned(), utc("2026-06-12T00:00:00Z"));
    assert_eq!(*tally.0.lock().unwrap(), [(newest, 1)].into());
    let known = world.known().await;
    assert_eq!(
        known.len(),
        1_001,
        "the newest one by one, the others as one"
    );
    let missed = known.iter().filter(|one| one.ends_with("missed"));
    assert_eq!(missed.count(), known.len() - 1);
    assert_eq!(world.go(&mut scheduler, "2026-06-12T00:00:40Z").await, 0);
}

#[tokio::test]
async fn a_pause_holds_until_it_is_lifted() {
    let world = World::new().await;
    let mut scheduler = world.scheduler(DAILY, Arc::new(Tally::default())).await;
    let pause = Pause {
        schedule: "nightly".into(),
        since: utc("2026-06-10T01:00:00Z"),
        until: None,
        by: "dba".into(),
    };
    world.store.pause_schedule(&pause).await.unwrap();
    world.go(&mut scheduler, "2026-06-10T02:00:00Z").await;
    world.store.resume_schedule("nightly").await.unwrap();
    world.go(&mut scheduler, "2026-06-11T02:00:00Z").await;
    assert_eq!(
        world.known().await,
        ["10 02:00 nightly skipped", "11 02:00 nightly ran"]
    );
}

/// Ends when it is told to, as badly as it is told.
struct Slow(Stop, bool);

impl Worker for Slow {
    fn carry_out(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let (done, well) = (self.0.clone(), self.1);
        let ended = Tally::default().carry_out(job);
        Box::pin(async move {
            done.stopping().await;
            match ended.await {
                Outcome::Ended(mut ended) => {
                    ended.succeeded = Some(well);
                    Outcome::Ended(ended)
                }
                other => other,
            }
        })
    }
}

const CHAIN: &str = "  first: { cron: \"0 2 * * *\", tasks: [analyze] }\n  \
                     then: { cron: \"0 2 * * *\", tasks: [analyze], after: [first] }\n";

#[tokio::test]
async fn a_schedule_follows_another_only_when_that_ended_well() {
    for (well, expected) in [
        (true, "10 02:00 then ran"),
        (false, "10 02:00 then skipped"),
    ] {
        let world = World::new().await;
        let done = Stop::default();
        let mut scheduler = world
            .scheduler(CHAIN, Arc::new(Slow(done.clone(), well)))
            .await;
        world.hands.set(utc("2026-06-10T02:00:00Z"));
        assert_eq!(scheduler.tick().await.unwrap().started, 1);
        world.hands.set(utc("2026-06-10T02:30:00Z"));
        let ticked = scheduler.tick().await.unwrap();
        assert_eq!((ticked.started, ticked.waiting), (0, 1));
        assert_eq!(world.known().await, ["10 02:00 first running"]);
        done.gently(maint::execute::StopReason::Asked);
        scheduler.idle().await;
        world.go(&mut scheduler, "2026-06-10T02:31:00Z").await;
        assert_eq!(world.known().await, ["10 02:00 first ran", expected]);
    }
}

#[tokio::test]
async fn an_overlap_is_skipped_and_recorded() {
    let world = World::new().await;
    let done = Stop::default();
    let mut scheduler = world
        .scheduler(DAILY, Arc::new(Slow(done.clone(), true)))
        .await;
    world.hands.set(utc("2026-06-10T02:00:00Z"));
    scheduler.tick().await.unwrap();
    world.hands.set(utc("2026-06-11T02:00:00Z"));
    assert_eq!(scheduler.tick().await.unwrap().started, 0);
    done.gently(maint::execute::StopReason::Asked);
    scheduler.idle().await;
    assert_eq!(
        world.known().await,
        ["10 02:00 nightly ran", "11 02:00 nightly skipped"]
    );
}

#[tokio::test]
async fn a_dead_owners_occurrence_is_taken_over() {
    let world = World::new().await;
    let tally = Tally::default();
    let mut scheduler = world.scheduler(DAILY, Arc::new(tally.clone())).await;
    let dead = |schedule: &str| Claim {
        schedule: schedule.into(),
        scheduled_for: utc("2026-06-09T02:00:00Z"),
        catch_up: true,
        owner: "dead".into(),
        lease: Duration::ZERO,
        now: utc("2026-06-10T00:00:00Z"),
    };
    for schedule in ["nightly", "gone"] {
        world
            .store
            .claim_occurrence(&dead(schedule))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(world.go(&mut scheduler, "2026-06-10T00:00:01Z").await, 1);
    assert_eq!(
        world.known().await,
        ["09 02:00 gone ran", "09 02:00 nightly caught_up"]
    );
    let done = tally.0.lock().unwrap();
    assert_eq!(done.len(), 1, "what nobody knows any more is only closed");
}

/// The occurrence of the ninth as somebody else has it.
fn held(lease: Duration) -> Claim {
    Claim {
        schedule: "nightly".into(),
        scheduled_for: utc("2026-06-09T02:00:00Z"),
        catch_up: false,
        owner: "somebody else".into(),
        lease,
        now: utc("2026-06-09T02:00:00Z"),
    }
}

#[tokio::test]
async fn who_follows_a_dead_owner_waits_for_its_lease_and_then_for_the_heir() {
    let world = World::new().await;
    let done = Stop::default();
    let mut scheduler = world
        .scheduler(DAILY, Arc::new(Slow(done.clone(), true)))
        .await;
    let lease = held(Duration::from_secs(3600));
    world.store.claim_occurrence(&lease).await.unwrap().unwrap();
    // The owner is dead, and its lease still runs: nobody can know yet.
    for now in ["2026-06-10T02:00:00Z", "2026-06-10T02:00:30Z"] {
        world.hands.set(utc(now));
        let ticked = scheduler.tick().await.unwrap();
        assert_eq!((ticked.started, ticked.waiting), (0, 1), "{now}");
    }
    // It has run out.
    let over = held(Duration::ZERO);
    assert!(world.store.renew_occurrence(&over).await.unwrap());
    world.hands.set(utc("2026-06-10T02:20:00Z"));
    let ticked = scheduler.tick().await.unwrap();
    assert_eq!((ticked.started, ticked.waiting), (1, 1), "taken over");
    world.hands.set(utc("2026-06-10T02:20:30Z"));
    let ticked = scheduler.tick().await.unwrap();
    assert_eq!(
        (ticked.started, ticked.waiting),
        (0, 1),
        "the heir is at it"
    );
    assert_eq!(world.known().await, ["09 02:00 nightly running"]);
    done.gently(maint::execute::StopReason::Asked);
    scheduler.idle().await;
    assert_eq!(world.go(&mut scheduler, "2026-06-10T02:21:00Z").await, 1);
    assert_eq!(
        world.known().await,
        ["09 02:00 nightly ran", "10 02:00 nightly ran"]
    );
}

#[tokio::test]
async fn who_follows_a_living_owner_is_skipped_as_soon_as_it_gives_a_sign() {
    let world = World::new().await;
    let mut scheduler = world.scheduler(DAILY, Arc::new(Tally::default())).await;
    let lease = held(Duration::from_secs(600));
    world.store.claim_occurrence(&lease).await.unwrap().unwrap();
    world.hands.set(utc("2026-06-10T02:00:00Z"));
    assert_eq!(scheduler.tick().await.unwrap().waiting, 1);
    let renewed = held(Duration::from_secs(3600));
    assert!(world.store.renew_occurrence(&renewed).await.unwrap());
    world.hands.set(utc("2026-06-10T02:00:20Z"));
    let ticked = scheduler.tick().await.unwrap();
    assert_eq!((ticked.started, ticked.waiting), (0, 0));
    assert_eq!(
        world.known().await,
        ["09 02:00 nightly running", "10 02:00 nightly skipped"]
    );
}

#[tokio::test]
async fn who_is_stopped_begins_nothing() {
    let world = World::new().await;
    let mut scheduler = world.scheduler(DAILY, Arc::new(Tally::default())).await;
    world.stop.gently(maint::execute::StopReason::Signal(15));
    world.go(&mut scheduler, "2026-06-10T02:00:00Z").await;
    assert_eq!(world.known().await, [""; 0]);
}

#[tokio::test]
async fn what_was_missed_is_told_once_by_whoever_records_it() {
    let world = World::new().await;
    let schedules = "  nightly: { cron: \"0 2 * * *\", tasks: [analyze], catch_up: 1h }\n\
                     notify: { on: [missed], file: letters }\n";
    let mut first = world.scheduler(schedules, Arc::new(Tally::default())).await;
    let mut second = world.scheduler(schedules, Arc::new(Tally::default())).await;
    world.go(&mut first, "2026-06-13T12:00:00Z").await;
    world.go(&mut second, "2026-06-13T12:00:00Z").await;
    assert_eq!(
        world.known().await,
        [
            "10 02:00 nightly missed",
            "11 02:00 nightly missed",
            "12 02:00 nightly missed",
            "13 02:00 nightly missed",
        ]
    );
    let told = world.store.pending_notices().await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].text.starts_with(
            "`nightly` did not run 4 times, from 2026-06-10 02:00 UTC to 2026-06-13 02:00 UTC"
        ),
        "{}",
        told[0].text
    );
}

#[tokio::test]
async fn two_instances_share_the_work() {
    let world = World::new().await;
    let schedules: String = (0..20)
        .map(|n| format!("  s{n}: {{ cron: \"*/5 * * * *\", tasks: [analyze] }}\n"))
        .collect();
    let tallies = [Tally::default(), Tally::default()];
    let mut instances = Vec::new();
    for tally in &tallies {
        instances.push(world.scheduler(&schedules, Arc::new(tally.clone())).await);
    }
    let mut now = utc("2026-06-10T00:00:00Z");
    for n in 0..12 {
        now += TimeDelta::minutes(5);
        world.hands.set(now);
        let (a, b) = instances.split_at_mut(1);
        let (first, second) = if n % 2 == 0 { (a, b) } else { (b, a) };
        let (one, two) = tokio::join!(first[0].tick(), second[0].tick());
        assert_eq!(one.unwrap().started + two.unwrap().started, 20);
        first[0].idle().await;
        second[0].idle().await;
    }
    let mut all = std::collections::BTreeMap::new();
    for tally in &tallies {
        for (key, times) in tally.0.lock().unwrap().iter() {
            *all.entry(key.clone()).or_insert(0) += times;
        }
    }
    assert_eq!(all.len(), 240);
    assert!(all.values().all(|times| *times == 1));
    let known = world
        .store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap();
    assert!(known.iter().all(|one| one.status == OccurrenceStatus::Ran));
}
