//! An engine is a room: one that does not exist is planned, carried out,
//! throttled, stopped and recorded like those that do.

mod shelf;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use maint::config::Config;
use maint::execute::{Event, Observer, Silent, Stop, StopReason};
use maint::history::{Recorder, RunRecord, RunStatus, StepStatus, Store, Trigger, open};
use maint::pipeline::{Known, Request, Surroundings, Through, Way, run_by};

use shelf::{KINDS, Shelf, ShelfDoor, shelf};

/// A shelf with these boxes, and a task that tidies it.
struct World {
    config: Config,
    shelf: Arc<Shelf>,
    store: Arc<dyn Store>,
    stop: Stop,
}

impl World {
    async fn new(name: &str, boxes: &[(&str, i64)], more: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("schedules.yaml");
        std::fs::create_dir_all(folder.path().join("tasks")).unwrap();
        let url = format!("mongodb://{name}/boxes");
        let targets = format!("targets:\n  shelf: {{ engine: mongodb, url: \"{url}\" }}\n");
        std::fs::write(&file, targets).unwrap();
        let task = format!("kind: tidy\ntarget: shelf\noptions: {{ at_least: 2 }}\n{more}");
        std::fs::write(folder.path().join("tasks/tidy.yaml"), task).unwrap();
        let catalog: Vec<_> = KINDS.iter().map(|entry| entry.info).collect();
        let config = maint::config::load(&file, &catalog, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let shelf = shelf(&url);
        for (which, things) in boxes {
            shelf
                .boxes
                .lock()
                .unwrap()
                .insert((*which).to_owned(), *things);
        }
        World {
            config,
            shelf,
            store: open("sqlite::memory:").await.unwrap(),
            stop: Stop::default(),
        }
    }

    fn way(&self) -> Through<ShelfDoor> {
        Through::of(&self.config.tasks["tidy"], KINDS).unwrap()
    }

    async fn run(&self, observer: Arc<dyn Observer>) -> RunRecord {
        let request = Request {
            task: &self.config.tasks["tidy"],
            target: &self.config.targets["shelf"],
            trigger: Trigger::Manual,
            scheduled_for: None,
            schedule: None,
            again: false,
            closes_at: None,
            zone: self.config.timezone,
            approved: None,
            patience: Duration::ZERO,
            news: &[],
            shared: None,
        };
        let around = Surroundings {
            history: Arc::new(Recorder::start(
                Arc::clone(&self.store),
                std::env::temp_dir().join("maint-no-spool"),
            )),
            stop: self.stop.clone(),
            observer,
            host: "here".to_owned(),
            teller: None,
        };
        let (record, unreachable) = run_by(Box::new(self.way()), &request, &around)
            .await
            .unwrap();
        let is_away = record
            .error
            .as_deref()
            .is_some_and(|why| why.contains("network"));
        assert_eq!(unreachable.is_some(), is_away, "{record:#?}");
        // What is kept is what was told.
        let kept = self.store.run(&record.id.to_string()).await.unwrap();
        assert_eq!((kept.status, &kept.error), (record.status, &record.error));
        assert_eq!(kept.steps.len(), record.steps.len());
        assert_eq!(self.shelf.open.load(SeqCst), 0, "a session was left open");
        record
    }
}

fn ends(record: &RunRecord) -> Vec<(&str, StepStatus)> {
    let steps = record.steps.iter();
    steps
        .map(|step| (step.object.as_str(), step.status))
        .collect()
}

#[tokio::test]
async fn it_is_planned_carried_out_and_recorded() {
    use StepStatus::{Failed, Succeeded};
    let boxes = [("a", 3), ("empty", 0), ("glued", 7), ("z", 5)];
    let world = World::new("recorded", &boxes, "").await;

    let (task, target) = (&world.config.tasks["tidy"], &world.config.targets["shelf"]);
    let (plan, counts) = world
        .way()
        .dry_run(task, target, Known::default())
        .await
        .unwrap();
    let shown = serde_json::to_value(&plan).unwrap();
    assert_eq!(shown["steps"][0]["which"], "a", "{shown:#}");
    assert_eq!(shown["skipped"][0]["object"], "empty");
    assert_eq!(counts.rows, BTreeMap::from([(1, 3), (2, 7), (3, 5)]));
    assert_eq!(
        world.shelf.boxes.lock().unwrap()["a"],
        3,
        "a plan changes nothing"
    );

    let record = world.run(Arc::new(Silent)).await;
    assert_eq!(record.status, RunStatus::Partial);
    assert_eq!(
        ends(&record),
        [("a", Succeeded), ("glued", Failed), ("z", Succeeded)]
    );
    assert_eq!(record.steps[0].statement, "empty a");
    assert_eq!(
        (record.steps[0].bytes_before, record.steps[0].bytes_after),
        (Some(30), Some(0))
    );
    assert_eq!(record.steps[1].error.as_deref(), Some("it does not open"));
    assert_eq!(record.rows, 8);
    assert_eq!(record.findings.len(), 2, "{:#?}", record.findings);
    let left: Vec<_> = world
        .shelf
        .boxes
        .lock()
        .unwrap()
        .values()
        .copied()
        .collect();
    assert_eq!(left, [0, 0, 7, 0]);

    let again = world.run(Arc::new(Silent)).await;
    assert_eq!(ends(&again), [("glued", Failed)]);
}

/// Whoever finds a box empty, and the process dead, finds in the history who emptied it.
#[tokio::test]
async fn what_destroys_is_on_record_before_it_begins() {
    let world = World::new("on-record", &[("a", 3), ("b", 4)], "").await;
    *world.shelf.history.lock().unwrap() = Some(Arc::clone(&world.store));
    let record = world.run(Arc::new(Silent)).await;
    assert_eq!(record.status, RunStatus::Succeeded);
    let stood = world.shelf.stood.lock().unwrap().clone();
    assert_eq!(stood, [StepStatus::Running, StepStatus::Running]);
}

#[tokio::test]
async fn it_is_out_of_reach_for_a_reason_that_is_told_to_its_root() {
    let world = World::new("walled", &[("behind the wall", 3)], "").await;
    let record = world.run(Arc::new(Silent)).await;
    assert_eq!(record.status, RunStatus::Failed);
    assert_eq!(
        record.error.as_deref(),
        Some(
            "cannot connect to the shelf: the network connection failed: a wall is before it: the wall has no door"
        )
    );
    assert!(record.steps.is_empty(), "{record:#?}");
}

#[tokio::test]
async fn it_is_one_at_a_time() {
    let world = World::new("claimed", &[("a", 3)], "").await;
    let other = ("tidy".to_owned(), "somebody else".to_owned());
    world.shelf.claims.lock().unwrap().extend([other]);
    let record = {
        let request = world.run(Arc::new(Silent));
        request.await
    };
    assert_eq!(record.status, RunStatus::Skipped);
    assert!(record.error.unwrap().contains("somebody else"));
    assert_eq!(world.shelf.boxes.lock().unwrap()["a"], 3);
}

#[tokio::test]
async fn it_is_throttled() {
    let limit = "throttle: { max_active_sessions: 1 }\n";
    let world = World::new("throttled", &[("a", 3)], limit).await;
    world.shelf.busy.store(1, SeqCst);
    let record = world.run(Arc::new(Silent)).await;
    assert_eq!(record.status, RunStatus::Succeeded);
    let pause = &record.steps[0].throttled[0];
    assert_eq!(pause.setting, "max_active_sessions");
    assert_eq!(pause.reason, "somebody is at the shelf");
    assert!(pause.waited_ms > 0);
}

/// Stops the run when its first step begins.
struct AtFirst(Stop);

impl Observer for AtFirst {
    fn on(&self, event: Event<'_>) {
        if let Event::Started(..) = event {
            self.0.at_once(StopReason::Asked);
        }
    }
}

#[tokio::test]
async fn it_is_stopped() {
    use StepStatus::{Cancelled, Deferred};
    let world = World::new("stopped", &[("deep", 3), ("later", 4)], "").await;
    let record = world.run(Arc::new(AtFirst(world.stop.clone()))).await;
    assert_eq!(record.status, RunStatus::Cancelled);
    assert_eq!(ends(&record), [("deep", Cancelled), ("later", Deferred)]);
    assert_eq!(world.shelf.boxes.lock().unwrap()["later"], 4);
}
