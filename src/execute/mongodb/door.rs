//! MongoDB behind the executor's door.

mod busy;
mod claimed;
mod count;
mod given;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::bson::doc;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use self::claimed::holder;
pub(crate) use self::claimed::is_strangers;
use self::count::{COUNTING, REVIEWING, count, soon};
use self::given::given;
use super::along::Along;
use super::dial;
use super::gate::{Again, FAILOVER};
use super::vanished::Begun;
use super::{aggregate, archive, compact, copies, look, settle, strangers, walk};
use crate::config::{Target, Throttle};
use crate::engines::EngineError;
use crate::engines::mongodb::{
    Dial, Limit, Members, MongoError, Refusal, Session, kill_operations, number,
};
use crate::execute::{self, Busy, Counts, Database, Execution, Holder, Size};
use crate::history::StepRecord;
use crate::plan::mongodb::{Body, Work};
use crate::plan::{Finding, Place, Scope, Severity, Site, Step};
use crate::values::with_causes;

/// How long until what passes by itself is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// What carrying out a step on MongoDB needs besides its record.
pub(super) type Job<'a> = execute::Job<'a, Door>;

/// One MongoDB database.
pub(crate) struct Door {
    dial: Dial,
    /// What our clients are called on the server.
    name: String,
    /// A client is a pool: one is enough.
    session: OnceCell<Session>,
    /// Whether a step of this run has waited in vain for the members of the set.
    waited: AtomicBool,
    /// What is asked again before the work begins.
    again: Mutex<Again>,
}

impl Door {
    /// Notes that a step has waited in vain for the members: nothing is gained if each does.
    pub(super) fn waited_in_vain(&self) {
        self.waited.store(true, Ordering::Relaxed);
    }

    /// Whether one has.
    pub(super) fn has_waited(&self) -> bool {
        self.waited.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl execute::Door for Door {
    type Session = Session;
    type Watch = ();

    fn to(target: &Target, name: &str) -> Result<Self, EngineError> {
        Ok(Door {
            dial: dial(target)?,
            name: name.to_owned(),
            session: OnceCell::new(),
            waited: AtomicBool::new(false),
            again: Mutex::default(),
        })
    }

    async fn open(&self, _only_reads: bool) -> Result<Session, EngineError> {
        let session = self.session.get_or_try_init(async || {
            let session = Session::open(&self.dial, &self.name).await?;
            session.can_be_worked_on().await.map(|()| session)
        });
        Ok(session.await?.clone())
    }

    async fn site(&self, primary: Session, _replicas: bool) -> Site<Session> {
        let began = Instant::now();
        let members = loop {
            match Members::of(&primary).await.map_err(EngineError::from) {
                Err(error) if self.passes(&error, began).await => {}
                members => break members,
            }
        };
        let findings = match members {
            Ok(members) => away(&members),
            Err(error) => vec![Finding {
                code: "privilege.missing".to_owned(),
                severity: Severity::Info,
                object: primary.database().to_owned(),
                message: format!(
                    "whether all members are up, and how far they are behind, is not known: {error}"
                ),
                suggestion: error.hint(),
            }],
        };
        Site {
            primary,
            replicas: Vec::new(),
            findings,
            trust_owners: Vec::new(),
            scope: Scope::Whole,
        }
    }

    async fn count(&self, session: &Session, steps: &[Step<Body>]) -> Result<Counts, EngineError> {
        let mut counts = Counts::default();
        for step in steps {
            let Work::Walk(walk) = &step.body.work else {
                continue;
            };
            match count(session, walk, COUNTING).await {
                Ok(n) => {
                    counts.rows.insert(step.seq, n);
                }
                // Whoever is not there, or not the primary, answers of no other step either.
                Err(EngineError::Mongo(error)) if error.is_unreachable() || error.is_passing() => {
                    return Err(error.into());
                }
                Err(error) => {
                    counts.untold.insert(step.seq, with_causes(&error));
                }
            }
        }
        Ok(counts)
    }

    async fn count_for_review(
        &self,
        session: &Session,
        steps: &[Step<Body>],
    ) -> Result<BTreeMap<u32, i64>, EngineError> {
        let mut counts = BTreeMap::new();
        for step in steps {
            if let Work::Walk(walk) = &step.body.work
                && let Some(n) = soon(count(session, walk, REVIEWING).await)?
            {
                counts.insert(step.seq, n);
            }
        }
        Ok(counts)
    }

    async fn databases(&self, session: &Session) -> Result<Vec<Database>, EngineError> {
        let open = |name| Database { name, open: true };
        Ok(session.databases().await?.into_iter().map(open).collect())
    }

    async fn identity(&self, session: &Session) -> Result<String, EngineError> {
        let doing = "asking which replica set this is";
        let ask = doc! { "replSetGetConfig": 1 };
        let known = match &session.server.set {
            None => None,
            Some(_) => session
                .command(doing, "admin", ask, Limit::ASIDE)
                .await
                .ok(),
        };
        let id = known.as_ref().and_then(|answer| {
            let config = answer.get_document("config").ok()?;
            let id = config.get_document("settings").ok()?.get("replicaSetId")?;
            Some(id.to_string())
        });
        let server = id
            .or_else(|| session.server.set.clone())
            .unwrap_or_else(|| session.describe().to_owned());
        Ok(format!("{server} {}", session.database()))
    }

    async fn passes(&self, error: &EngineError, since: Instant) -> bool {
        let EngineError::Mongo(error) = error else {
            return false;
        };
        let passes = match error {
            MongoError::Connect {
                // A primary that was just lost is called one for some seconds.
                refusal:
                    Refusal::NoPrimary
                    | Refusal::Astray {
                        writable: false, ..
                    },
                ..
            } => true,
            error => error.is_passing(),
        };
        if !passes || since.elapsed() >= FAILOVER {
            return false;
        }
        let again = self.again.lock();
        again.unwrap_or_else(PoisonError::into_inner).tell(error);
        tokio::time::sleep(PAUSE).await;
        true
    }

    async fn fit_for_claim(&self, _session: &Session) -> Result<(), EngineError> {
        // The claim is a document, not a session.
        Ok(())
    }

    async fn claim(&self, session: &Session, task: &str) -> Result<Option<Holder>, EngineError> {
        let held = session.claim(task).await?;
        Ok(held.map(|held| holder(task, held)))
    }

    fn claim_lost(&self, session: &Session) -> CancellationToken {
        session.claim_lost()
    }

    async fn end_orphans(&self, session: &Session, name: &str) -> Result<usize, EngineError> {
        let ours = doc! { "appName": name };
        let began = Instant::now();
        let mut ended = loop {
            let ended = kill_operations(session, ours.clone()).await;
            match ended.map_err(EngineError::from) {
                Err(error) if self.passes(&error, began).await => {}
                ended => break ended?,
            }
        };
        // Secondaries read for a refresh.
        for member in Members::of(session).await.unwrap_or_default().readers() {
            let Ok(member) = session.member(&member.name).await else {
                continue;
            };
            ended += kill_operations(&member, ours.clone()).await.unwrap_or(0);
        }
        // Whoever may write there can write one in the name of a run that is over.
        ended += session.end_claims(name).await?;
        Ok(ended)
    }

    async fn session(&self, _place: Place) -> Result<Session, EngineError> {
        self.open(false).await
    }

    async fn watch(&self, _execution: &Execution) -> Result<(), EngineError> {
        Ok(())
    }

    async fn watched(&self, (): ()) {}

    async fn busy(&self, limits: &Throttle) -> Result<Option<Busy>, EngineError> {
        busy::busy(&self.open(false).await?, limits).await
    }

    async fn unneeded(
        &self,
        _session: &Session,
        _step: &Step<Body>,
    ) -> Result<Option<String>, EngineError> {
        Ok(None)
    }

    async fn measure(
        &self,
        session: &Session,
        step: &Step<Body>,
        _execution: &Execution,
    ) -> Result<Option<Size>, EngineError> {
        let Some(of) = &step.body.measure else {
            return Ok(None);
        };
        let pipeline = vec![doc! { "$collStats": { "storageStats": {} } }];
        let found = session
            .aggregate(
                "measuring it",
                &of.database,
                &of.collection,
                pipeline,
                Limit::ASIDE,
            )
            .await;
        // What is gone, or may not be measured, can still be worked on.
        let Ok(found) = found else {
            return Ok(None);
        };
        let stats = found
            .first()
            .and_then(|d| d.get_document("storageStats").ok());
        Ok(stats.and_then(|stats| {
            Some(Size {
                bytes: number(stats.get("storageSize"))? + number(stats.get("totalIndexSize"))?,
                entries: number(stats.get("count")).map(|n| n as f64),
            })
        }))
    }

    async fn carry_out(
        &self,
        job: Job<'_>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<(), EngineError> {
        match &job.step.body.work {
            Work::Commands(commands) => given(commands, job, record).await,
            Work::Walk(way) => {
                let begun = Begun::on(&way.database, &way.collection, job);
                let along = Along::of(way, job);
                let otherwise = match &along {
                    Some(along) => along.became(job).await.is_some(),
                    None => false,
                };
                let done = match (&way.into, &way.files) {
                    _ if otherwise || begun.became(job).await.is_some() => Ok(()),
                    (Some(into), _) => archive::carry_out(way, into, job, record, findings).await,
                    (None, Some(files)) => {
                        archive::into_files(way, files, job, record, findings).await
                    }
                    (None, None) => walk::carry_out(way, &begun, job, record, findings).await,
                };
                let done = match begun.told(done, job, record, findings).await {
                    // With the collection its index has gone.
                    Ok(true) => return Ok(()),
                    told => told.map(drop),
                };
                match &along {
                    Some(along) => along.told(done, job, record, findings).await,
                    None => done,
                }
            }
            Work::Settle(pending) => settle::carry_out(pending, job, record, findings).await,
            Work::Clear(left) => settle::clear(left, job, record, findings).await,
            Work::Strays(strays) => strangers::carry_out(strays, job, record, findings).await,
            Work::TakeBack(work) => copies::carry_out(work, job, record, findings).await,
            Work::Aggregate(work) => {
                let begun = Begun::on(&work.database, &work.collection, job);
                let done = match begun.became(job).await {
                    // Of what is not there nothing would be made, in place of what is.
                    Some(_) => Ok(()),
                    None => aggregate::carry_out(work, job, record, findings).await,
                };
                begun.told(done, job, record, findings).await.map(drop)
            }
            Work::Look(question) => look::carry_out(question, job, record, findings).await,
            Work::Compact(of) => compact::carry_out(of, job, record).await,
        }
    }

    async fn end(&self, session: &Session) {
        session.release().await;
    }
}

fn away(members: &Members) -> Vec<Finding> {
    members
        .0
        .iter()
        .filter(|member| !member.healthy || matches!(member.state.as_str(), "DOWN" | "UNKNOWN" | "ROLLBACK" | "REMOVED" | "RECOVERING"))
        .map(|member| Finding {
            code: "member.down".to_owned(),
            severity: Severity::Critical,
            object: member.name.clone(),
            message: format!(
                "the member is {}: what it does not hold, only the others do, and one more of them may be too many",
                member.state
            ),
            suggestion: Some("rs.status()".to_owned()),
        })
        .collect()
}
