//! An engine that does not exist: a shelf of boxes, in memory. One kind, one
//! door; nothing outside of this folder knows of it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use maint::config::{Target, Throttle};
use maint::engines::EngineError;
use maint::engines::postgres::connect::ConnectError;
use maint::execute::{Busy, Counts, Database, Door, Execution, Holder, Job, Size};
use maint::history::{StepRecord, StepStatus, Store};
use maint::plan::{
    self, Entry, Finding, Kind, Moment, Place, Plan, Scope, Severity, Site, Speaks, Step,
};
use maint::values::Engine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// A server.
#[derive(Default)]
pub(super) struct Shelf {
    /// How many things are in each box.
    pub(super) boxes: Mutex<BTreeMap<String, i64>>,
    /// Who has which task.
    pub(super) claims: Mutex<HashMap<String, String>>,
    /// So many times it says that it is busy.
    pub(super) busy: AtomicU32,
    /// How many sessions were opened, and are open.
    pub(super) opened: AtomicU32,
    pub(super) open: AtomicU32,
    /// Where it is looked up, when a box is emptied, how its step stands.
    pub(super) history: Mutex<Option<Arc<dyn Store>>>,
    pub(super) stood: Mutex<Vec<StepStatus>>,
}

static SHELVES: LazyLock<Mutex<HashMap<String, Arc<Shelf>>>> = LazyLock::new(Mutex::default);

/// The shelf at this address.
pub(super) fn shelf(url: &str) -> Arc<Shelf> {
    Arc::clone(SHELVES.lock().unwrap().entry(url.to_owned()).or_default())
}

/// A hand on the shelf.
pub(super) struct Hand {
    shelf: Arc<Shelf>,
    has: Mutex<Option<String>>,
    lost: CancellationToken,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.shelf.open.fetch_sub(1, Ordering::SeqCst);
        if let Some(task) = self.has.lock().unwrap().take() {
            self.shelf.claims.lock().unwrap().remove(&task);
        }
    }
}

/// What is in the way, and what is behind that.
#[derive(Debug, thiserror::Error)]
#[error("{}", if .0.is_some() { "a wall is before it" } else { "the wall has no door" })]
struct Wall(#[source] Option<Box<Wall>>);

/// What is done to a box.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Emptying {
    which: String,
}

impl plan::Body for Emptying {
    fn text(&self) -> String {
        format!("empty {}", self.which)
    }

    fn until(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        None
    }

    fn elsewhere(&self) -> Option<String> {
        None
    }

    fn keeps_what_it_did(&self) -> bool {
        false
    }

    fn destroys(&self) -> bool {
        true
    }
}

impl Speaks for Hand {
    type Body = Emptying;
    type Right = ();
}

/// Empties boxes that are full enough.
#[derive(Deserialize, JsonSchema)]
struct Tidy {
    at_least: i64,
}

impl Kind for Tidy {
    const NAME: &'static str = "tidy";
    const SUMMARY: &'static str = "Empties boxes";
    const ENGINE: Engine = Engine::Mongodb;
    type Session = Hand;
    type Facts = BTreeMap<String, i64>;

    async fn inspect(&self, site: &Site<Hand>) -> Result<Self::Facts, EngineError> {
        let boxes = site.primary.shelf.boxes.lock().unwrap().clone();
        match boxes.contains_key("behind the wall") {
            true => Err(EngineError::Connect(ConnectError::Network {
                server: "the shelf".to_owned(),
                source: io::Error::other(Wall(Some(Box::new(Wall(None))))),
            })),
            false => Ok(boxes),
        }
    }

    fn plan(&self, boxes: Self::Facts, _at: &Moment) -> Plan<Emptying> {
        let mut plan = Plan {
            considered: boxes.len(),
            ..Plan::default()
        };
        for (which, things) in boxes {
            if things < self.at_least {
                plan.skip(which, "nearly empty");
                continue;
            }
            let mut step: Step<Emptying> =
                Step::new("empty", &which, &which).because(format!("{things} things"));
            step.body.which = which;
            plan.steps.push(step);
        }
        plan
    }
}

pub(super) const KINDS: &[Entry<Hand>] = &[Entry::of::<Tidy>()];

pub(super) struct ShelfDoor(Arc<Shelf>);

#[async_trait]
impl Door for ShelfDoor {
    type Session = Hand;
    type Watch = ();

    fn to(target: &Target, _name: &str) -> Result<Self, EngineError> {
        let url = target.url.as_ref().map_or("", |url| url.expose());
        Ok(ShelfDoor(shelf(url)))
    }

    async fn open(&self, _only_reads: bool) -> Result<Hand, EngineError> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Ok(Hand {
            shelf: Arc::clone(&self.0),
            has: Mutex::default(),
            lost: CancellationToken::new(),
        })
    }

    async fn site(&self, primary: Hand, _replicas: bool) -> Site<Hand> {
        Site {
            primary,
            replicas: Vec::new(),
            findings: Vec::new(),
            trust_owners: Vec::new(),
            scope: Scope::Whole,
        }
    }

    async fn databases(&self, _: &Hand) -> Result<Vec<Database>, EngineError> {
        let (name, open) = ("shelf".to_owned(), true);
        Ok(vec![Database { name, open }])
    }

    async fn identity(&self, _: &Self::Session) -> Result<String, EngineError> {
        Ok("shelf".to_owned())
    }

    async fn count(&self, hand: &Hand, steps: &[Step<Emptying>]) -> Result<Counts, EngineError> {
        let boxes = hand.shelf.boxes.lock().unwrap();
        let rows = steps.iter().map(|s| (s.seq, boxes[&s.body.which]));
        Ok(Counts {
            rows: rows.collect(),
            ..Counts::default()
        })
    }

    async fn fit_for_claim(&self, _hand: &Hand) -> Result<(), EngineError> {
        Ok(())
    }

    async fn claim(&self, hand: &Hand, task: &str) -> Result<Option<Holder>, EngineError> {
        let mut claims = hand.shelf.claims.lock().unwrap();
        if let Some(other) = claims.get(task) {
            return Ok(Some(Holder::run(other.clone())));
        }
        claims.insert(task.to_owned(), "maint".to_owned());
        *hand.has.lock().unwrap() = Some(task.to_owned());
        Ok(None)
    }

    fn claim_lost(&self, hand: &Hand) -> CancellationToken {
        hand.lost.clone()
    }

    async fn end_orphans(&self, _hand: &Hand, _name: &str) -> Result<usize, EngineError> {
        Ok(0)
    }

    async fn session(&self, _place: Place) -> Result<Hand, EngineError> {
        self.open(false).await
    }

    async fn watch(&self, _execution: &Execution) -> Result<(), EngineError> {
        Ok(())
    }

    async fn watched(&self, (): ()) {}

    async fn busy(&self, _limits: &Throttle) -> Result<Option<Busy>, EngineError> {
        let fewer = |n: u32| n.checked_sub(1);
        let busy = self
            .0
            .busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer);
        Ok(busy.ok().map(|_| Busy {
            abort: false,
            passing: false,
            setting: "max_active_sessions",
            text: "somebody is at the shelf".to_owned(),
        }))
    }

    async fn unneeded(
        &self,
        hand: &Hand,
        step: &Step<Emptying>,
    ) -> Result<Option<String>, EngineError> {
        let there = hand
            .shelf
            .boxes
            .lock()
            .unwrap()
            .contains_key(&step.body.which);
        Ok((!there).then(|| "the box has vanished".to_owned()))
    }

    async fn measure(
        &self,
        hand: &Hand,
        step: &Step<Emptying>,
        _execution: &Execution,
    ) -> Result<Option<Size>, EngineError> {
        let boxes = hand.shelf.boxes.lock().unwrap();
        Ok(boxes.get(&step.body.which).map(|things| Size {
            bytes: things * 10,
            entries: None,
        }))
    }

    async fn carry_out(
        &self,
        job: Job<'_, Self>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<(), EngineError> {
        record.attempts = 1;
        let history = self.0.history.lock().unwrap().clone();
        if let Some(history) = history {
            let run = history.run(&job.execution.run.to_string()).await.unwrap();
            let steps = run.steps.iter().filter(|step| step.seq == record.seq);
            let mut stood = self.0.stood.lock().unwrap();
            stood.extend(steps.map(|step| step.status));
        }
        match job.step.body.which.as_str() {
            "glued" => {
                return Err(EngineError::Files {
                    message: "it does not open".to_owned(),
                });
            }
            "deep" => {
                job.execution.stop.now().await;
                record.status = StepStatus::Cancelled;
                return Ok(());
            }
            _ => {}
        }
        let which = job.step.body.which.clone();
        let things = job.session.shelf.boxes.lock().unwrap().insert(which, 0);
        record.rows = things;
        record.status = StepStatus::Succeeded;
        findings.push(Finding {
            code: "box.dusty".to_owned(),
            severity: Severity::Info,
            object: job.step.object.clone(),
            message: "there was dust in it".to_owned(),
            suggestion: None,
        });
        Ok(())
    }

    async fn end(&self, _hand: &Hand) {}
}
