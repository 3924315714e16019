//! The door to an engine: all that a run asks of it.

use std::collections::BTreeMap;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Execution;
use crate::config::{Target, Throttle};
use crate::engines::EngineError;
use crate::history::StepRecord;
use crate::plan::{Finding, Place, Site, Speaks, Step};

/// What the history keeps of where a target was last is under this kind.
pub const PLACES: &str = "places";

/// And under this key.
pub const LAST_PLACE: &str = "last";

/// The steps of the engine behind a door.
pub type BodyOf<D> = <<D as Door>::Session as Speaks>::Body;

/// What the steps of a plan would change now, by their `seq`.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Exactly so many rows or documents.
    pub rows: BTreeMap<u32, i64>,
    /// Not known, and why.
    pub untold: BTreeMap<u32, String>,
}

/// What the role may not see of the server, of what every run reads.
#[derive(Debug, Default)]
pub struct Sight {
    /// What it is, and what lets it; `None` where it may see all of it.
    pub lacks: Option<Finding>,
    /// Whether nobody would see who waits for a step.
    pub blind: bool,
}

impl Sight {
    /// What is to be told whatever becomes of the run.
    pub fn told(&self) -> Option<Finding> {
        self.lacks.clone().filter(|_| self.blind)
    }

    /// An error of looking what there is to do; with what is told only of it, where what the role may
    /// not see is why.
    pub fn explain(&self, error: EngineError) -> (EngineError, Option<Finding>) {
        let Some(lacks) = self.lacks.as_ref().filter(|_| error.is_forbidden()) else {
            return (error, None);
        };
        let help = lacks.suggestion.as_deref().unwrap_or_default();
        let error = error.reworded(|message| format!("{message}; what would help: {help}"));
        (error, (!self.blind).then(|| lacks.clone()))
    }
}

/// How one target of an engine is worked on. There is one for each run, and
/// for each plan; it may keep what it has seen in between.
#[async_trait]
pub trait Door: Send + Sync + Sized + 'static {
    /// How the engine is talked to.
    type Session: Speaks;
    /// What looks on while steps are carried out.
    type Watch: Send + Sync;

    /// The door to a target that has a URL. `name` is what our sessions are
    /// called on the server: [`run_name`](super::run_name) for those of a run.
    ///
    /// # Errors
    /// When the URL makes no sense. Nothing is connected to yet.
    fn to(target: &Target, name: &str) -> Result<Self, EngineError>;

    /// A session on the target itself, where work may be done: a standby is
    /// refused, except to a kind that `only_reads`.
    ///
    /// # Errors
    /// When the server cannot be reached, or is not one to work on.
    async fn open(&self, only_reads: bool) -> Result<Self::Session, EngineError>;

    /// The sessions of a plan: `primary`, and what can be reached of the
    /// replicas if the kind reads them. One out of reach becomes a finding.
    async fn site(&self, primary: Self::Session, replicas: bool) -> Site<Self::Session>;

    /// Where the target is, to be remembered for later runs: a server that a failover has left
    /// behind is told by what earlier ones have remembered (`last`).
    ///
    /// # Errors
    /// When it is such a server, or cannot be asked.
    async fn place(
        &self,
        _session: &Self::Session,
        _last: Option<&Value>,
    ) -> Result<Option<Value>, EngineError> {
        Ok(None)
    }

    /// Every database of the server that work may be done in, by name.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn databases(&self, session: &Self::Session) -> Result<Vec<Database>, EngineError>;

    /// Which database this is, whatever address it was reached by.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn identity(&self, session: &Self::Session) -> Result<String, EngineError>;

    /// Exactly how many rows each step would change now, by its `seq`, all in
    /// one snapshot where the engine has such. Steps that nothing counts are left out.
    ///
    /// # Errors
    /// When the connection is gone, or the server reports an error that concerns all of them.
    async fn count(
        &self,
        session: &Self::Session,
        steps: &[Step<BodyOf<Self>>],
    ) -> Result<Counts, EngineError>;

    /// The same for a plan that is saved, or compared with a saved one: only what is counted soon
    /// enough to be asked for each time.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    async fn count_for_review(
        &self,
        _session: &Self::Session,
        _steps: &[Step<BodyOf<Self>>],
    ) -> Result<BTreeMap<u32, i64>, EngineError> {
        Ok(BTreeMap::new())
    }

    /// Whether what has failed since then, while nothing was at work, may be asked again in this
    /// session: a moment is waited where it passes by itself, as a failover does. Where a session ends
    /// with its connection, nothing does.
    async fn passes(&self, _error: &EngineError, _since: Instant) -> bool {
        false
    }

    /// What the role may not see of the server, of what every run reads. An engine that takes no such
    /// rights away has nothing to say.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn sight(&self, _session: &Self::Session) -> Result<Sight, EngineError> {
        Ok(Sight::default())
    }

    /// Refuses a session in which a claim would not hold, such as one that a
    /// pooler shares with others.
    ///
    /// # Errors
    /// Then, and when the server cannot be asked.
    async fn fit_for_claim(&self, session: &Self::Session) -> Result<(), EngineError>;

    /// Takes the task for this session, unless somebody has it: then tells who,
    /// since when. The claim ends with the session.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn claim(
        &self,
        session: &Self::Session,
        task: &str,
    ) -> Result<Option<Holder>, EngineError>;

    /// Cancelled when the claim of this session is lost.
    fn claim_lost(&self, session: &Self::Session) -> CancellationToken;

    /// Ends what a run whose process is dead left at work on the server; its
    /// sessions were called `name`. Returns how many there were.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn end_orphans(&self, session: &Self::Session, name: &str) -> Result<usize, EngineError>;

    /// A session for steps.
    ///
    /// # Errors
    /// When the server cannot be reached.
    async fn session(&self, place: Place) -> Result<Self::Session, EngineError>;

    /// Begins to look on: who is in the way, how far the steps are. Called
    /// before the first step of a plan.
    ///
    /// # Errors
    /// When the server cannot be reached.
    async fn watch(&self, execution: &Execution) -> Result<Self::Watch, EngineError>;

    /// Ends looking on. Called after the last step.
    async fn watched(&self, watch: Self::Watch);

    /// Tells of the steps of a plan before the first of them, for what can be asked for many at once.
    fn coming(&self, _steps: &[Step<BodyOf<Self>>]) {}

    /// Why the server is to be left to others just now, if it is. Asked before
    /// every step, and every second while there is a reason, if the task has
    /// limits that only the server can tell about.
    ///
    /// # Errors
    /// When one of the limits cannot be asked for.
    async fn busy(&self, limits: &Throttle) -> Result<Option<Busy>, EngineError>;

    /// Asked right before a step: `None` if it is still needed, and still
    /// possible; otherwise why not.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn unneeded(
        &self,
        session: &Self::Session,
        step: &Step<BodyOf<Self>>,
    ) -> Result<Option<String>, EngineError>;

    /// Asked where a step turns out to be unneeded, or impossible: whether what is told until it is done is so
    /// still.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn is_still_so(
        &self,
        _session: &Self::Session,
        _step: &Step<BodyOf<Self>>,
    ) -> Result<bool, EngineError> {
        Ok(true)
    }

    /// How large the step's object is, if that is measured. Asked before and
    /// after, the limits of the work lifted.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn measure(
        &self,
        session: &Self::Session,
        step: &Step<BodyOf<Self>>,
        execution: &Execution,
    ) -> Result<Option<Size>, EngineError>;

    /// Carries one step out, and clears away what an aborted attempt left. How
    /// it ended is noted in the record: its status has to be another than
    /// running afterwards.
    ///
    /// # Errors
    /// When the step has failed.
    async fn carry_out(
        &self,
        job: Job<'_, Self>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<(), EngineError>;

    /// How many more connections than there are this target may have; `None` where nobody says how
    /// many.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn spare(&self, _session: &Self::Session) -> Result<Option<u32>, EngineError> {
        Ok(None)
    }

    /// The last thing after steps were carried out: whatever has to pass before
    /// the next look, of this run or another, sees what they did.
    async fn end(&self, session: &Self::Session);
}

/// A database of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Whether it takes connections at all.
    pub open: bool,
}

/// Who has a task that was to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who, since when.
    pub who: String,
    /// The run that it is of, where that is known and its sessions can be ended
    /// ([`Door::end_orphans`]) should the run be over.
    pub run: Option<Uuid>,
    /// The statement that ends the session, and no other.
    pub end: Option<String>,
    /// What is to be told where that is no run of maint's: such a holder may
    /// stay for ever, and a run that was not started would be no news.
    pub finding: Option<Finding>,
}

impl Holder {
    /// A run of maint's, which will end.
    pub fn run(who: impl Into<String>) -> Self {
        Holder {
            who: who.into(),
            run: None,
            end: None,
            finding: None,
        }
    }
}

/// The size of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// In bytes.
    pub bytes: i64,
    /// The entries it holds, where they are counted.
    pub entries: Option<f64>,
}

/// Why the server is to be left to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The setting under `throttle:` that says so.
    pub setting: &'static str,
    /// What was seen, with its numbers.
    pub text: String,
    /// Whether the run is to end instead of waiting.
    pub abort: bool,
    /// Whether it is waited for though no limit is passed, so that it ends no run.
    pub passing: bool,
}

/// What carrying a step out needs besides its record.
pub struct Job<'a, D: Door> {
    /// The step.
    pub step: &'a Step<BodyOf<D>>,
    /// Where it is carried out.
    pub session: &'a D::Session,
    /// The target.
    pub door: &'a D,
    /// What looks on.
    pub watch: &'a D::Watch,
    /// The run.
    pub execution: &'a Execution,
}

impl<D: Door> Clone for Job<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Door> Copy for Job<'_, D> {}

impl<D: Door> Job<'_, D> {
    /// Waits between batches while the server is to be left to others.
    ///
    /// # Errors
    /// When that cannot be asked for.
    pub async fn hold(&self, record: &mut StepRecord) -> Result<(), EngineError> {
        self.execution
            .throttle
            .hold(self.door, self.execution, record)
            .await
    }
}
