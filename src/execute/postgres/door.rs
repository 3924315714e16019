//! PostgreSQL behind the executor's door.

mod work;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::work::work;
use super::Job;
use super::ahead::Ahead;
use super::bounds::Bounds;
use super::load;
use super::monitor::Monitor;
use super::reach::{Door, Seen, dial, place, replicas};
use super::{ask_under, counting, gate, outside, vanished};
use crate::config::{Target, Throttle};
use crate::engines::EngineError;
use crate::engines::postgres::copies;
use crate::engines::postgres::seats::Seats;
use crate::engines::postgres::{Fault, Session, claim, each, pooler, sight};
use crate::execute::{self, Busy, Counts, Database, Execution, Holder, Sight, Size};
use crate::history::StepRecord;
use crate::plan::{Finding, Place, Scope, Severity, Site, Step};
use crate::values::with_causes;

/// Before 15 statistics travel through a collector that writes those of a
/// database when somebody asks and what it has written is half a second old.
/// Whoever asks later than that after the work sees it, however far behind the
/// collector is: it answers in the order in which it was told.
const STATISTICS_ARRIVE: Duration = Duration::from_millis(700);

/// Databases, and whether they may be connected to. Templates are none that anybody works in.
const DATABASES: &str = "SELECT d.datname::text, d.datallowconn FROM pg_catalog.pg_database d
    WHERE NOT d.datistemplate ORDER BY 1";

#[async_trait]
impl execute::Door for Door {
    type Session = Session;
    type Watch = Monitor;

    fn to(target: &Target, name: &str) -> Result<Self, EngineError> {
        Ok(Door {
            dial: dial(target)?,
            replicas: replicas(target)?,
            name: name.to_owned(),
            begun_on: OnceLock::new(),
            seen: Mutex::default(),
            ahead: Ahead::default(),
            gone: Bounds::default(),
            room_unknown: AtomicBool::new(false),
        })
    }

    async fn open(&self, only_reads: bool) -> Result<Session, EngineError> {
        let session = self.another().await?;
        if session.server.in_recovery && !only_reads {
            return Err(EngineError::InRecovery {
                server: self.dial.describe(),
            });
        }
        if self.begun_on.get().is_none()
            && let Some(copy) = copies::only_one(&self.dial, &self.name, &session).await?
        {
            self.begun_on.get_or_init(|| copy);
        }
        Ok(session)
    }

    async fn site(&self, primary: Session, replicas: bool) -> Site<Session> {
        let mut site = Site {
            primary,
            replicas: Vec::new(),
            findings: Vec::new(),
            trust_owners: Vec::new(),
            scope: Scope::Whole,
        };
        if !replicas {
            return site;
        }
        for (n, dial) in self.replicas.iter().enumerate() {
            match Session::open(dial, &self.name).await {
                Ok(session) => site.replicas.push((n, session)),
                Err(error) => site.findings.push(Finding {
                    code: "replica.unreachable".to_owned(),
                    severity: Severity::Warning,
                    object: dial.describe(),
                    message: format!(
                        "the replica could not be looked at: {}",
                        with_causes(&error)
                    ),
                    suggestion: None,
                }),
            }
        }
        site
    }

    async fn place(
        &self,
        session: &Session,
        last: Option<&Value>,
    ) -> Result<Option<Value>, EngineError> {
        place(&self.dial, session, self.begun_on.get(), last).await
    }

    async fn databases(&self, session: &Session) -> Result<Vec<Database>, EngineError> {
        let rows = session.query("listing databases", DATABASES, &[]).await?;
        each(&rows, |row| {
            let (name, open) = (row.get(0)?, row.get(1)?);
            Ok(Database { name, open })
        })
    }

    async fn identity(&self, session: &Session) -> Result<String, EngineError> {
        // Where it is not told, the name has to do.
        let system = session.system_identifier().await?;
        let system = system.unwrap_or_else(|| self.dial.place());
        let server = &session.server;
        // Databases made from one template have tables of the same ids, and names can be exchanged.
        Ok(format!(
            "{system}/{} (id {})",
            server.database, server.database_oid
        ))
    }

    async fn count(&self, session: &Session, steps: &[Step]) -> Result<Counts, EngineError> {
        Ok(Counts {
            rows: counting::all(session, steps).await?,
            ..Counts::default()
        })
    }

    async fn count_for_review(
        &self,
        session: &Session,
        steps: &[Step],
    ) -> Result<BTreeMap<u32, i64>, EngineError> {
        counting::for_review(session, steps).await
    }

    async fn sight(&self, session: &Session) -> Result<Sight, EngineError> {
        let lacking = sight::lacking(session).await?;
        let blind = lacking.iter().any(|one| one.watches);
        let lacks = sight::told(&lacking).map(|(names, grants)| Finding {
            code: "privilege.missing".to_owned(),
            severity: Severity::Warning,
            object: session.server.session_role.clone(),
            message: format!(
                "of what every run reads of the server the role may not read {names}{}",
                match blind {
                    true => ": nobody would see who waits for a step, so none is begun",
                    false => "",
                }
            ),
            suggestion: Some(grants),
        });
        Ok(Sight { lacks, blind })
    }

    async fn fit_for_claim(&self, session: &Session) -> Result<(), EngineError> {
        pooler::refuse(session, &self.dial).await
    }

    async fn claim(&self, session: &Session, task: &str) -> Result<Option<Holder>, EngineError> {
        let held = claim::claim(session, task).await?;
        Ok(held.map(|held| Holder {
            finding: held.stranger.map(|why| Finding {
                code: "claim.stranger".to_owned(),
                severity: Severity::Critical,
                object: String::new(),
                message: format!(
                    "the lock by which runs of `{task}` exclude each other is held by {}, which is no run of maint's as far as can be told: {}; the task does not run until that ends. Anybody in the database may take such a lock: find out who it is, then end it",
                    held.who, why
                ),
                suggestion: held.end.clone(),
            }),
            who: held.who,
            run: held.run,
            end: held.end,
        }))
    }

    fn claim_lost(&self, session: &Session) -> CancellationToken {
        session.closed()
    }

    async fn end_orphans(&self, session: &Session, name: &str) -> Result<usize, EngineError> {
        claim::end_orphans(session, name).await
    }

    async fn session(&self, place: Place) -> Result<Session, EngineError> {
        // A plan names only replicas that were reached while it was made.
        let replica = match place {
            Place::Primary => None,
            Place::Replica(n) => self.replicas.get(n),
        };
        match replica {
            Some(replica) => Session::open(replica, &self.name).await,
            None => self.another().await,
        }
    }

    async fn watch(&self, execution: &Execution) -> Result<Monitor, EngineError> {
        Monitor::start(self.way(), execution).await
    }

    async fn watched(&self, watch: Monitor) {
        watch.end().await;
    }

    async fn busy(&self, limits: &Throttle) -> Result<Option<Busy>, EngineError> {
        let mut seen = self.seen.lock().await;
        let busy = load::busy(&mut seen, limits, self).await;
        if let Err(error) = &busy
            && error.is_unreachable()
        {
            *seen = Seen::default();
        }
        busy
    }

    async fn spare(&self, session: &Session) -> Result<Option<u32>, EngineError> {
        let seats = Seats::of(session).await?;
        Ok(seats.map(|seats| seats.spare()))
    }

    fn coming(&self, steps: &[Step]) {
        self.ahead.coming(steps);
    }

    async fn unneeded(
        &self,
        session: &Session,
        step: &Step,
    ) -> Result<Option<String>, EngineError> {
        let Some(condition) = &step.body.only_if else {
            return Ok(None);
        };
        if let Some(there) = &condition.there {
            let still = self.ahead.is_there(session, step, there).await?;
            return Ok((!still).then(|| condition.otherwise.clone()));
        }
        let doing = "looking whether it is still needed";
        let guard = step.body.guard.as_ref().filter(|_| condition.reads_rows);
        let answer = match ask_under(session, guard, doing, &condition.query).await {
            Err(error) if vanished::explains(&error, session, step).await => {
                return Ok(Some(vanished::said(step)));
            }
            answer => answer?,
        };
        let still: Option<bool> = match answer.first() {
            Some(row) => row.get(0)?,
            None => None,
        };
        Ok((still != Some(true)).then(|| condition.otherwise.clone()))
    }

    async fn is_still_so(&self, session: &Session, step: &Step) -> Result<bool, EngineError> {
        match &step.body.outside {
            Some(query) => outside::is_half_out(session, query).await,
            None => Ok(false),
        }
    }

    async fn measure(
        &self,
        session: &Session,
        step: &Step,
        execution: &Execution,
    ) -> Result<Option<Size>, EngineError> {
        let Some(query) = &step.body.measure else {
            return Ok(None);
        };
        let doing = "measuring it";
        let rows = match gate::ask_aside(session, execution, doing, query).await {
            // Its size stays unknown; whether it is the statement that waits, and for whom, the tries say.
            Err(error) if Fault::of(&error) == Fault::Locked => return Ok(None),
            rows => rows?,
        };
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let bytes: Option<i64> = row.get(0)?;
        let entries = row.get(1)?;
        Ok(bytes.map(|bytes| Size { bytes, entries }))
    }

    async fn carry_out(
        &self,
        job: Job<'_>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<(), EngineError> {
        let under = &job.step.body.under;
        if under.is_usual() {
            return work(job, record, findings).await;
        }
        let doing = "saying how conditions are read";
        job.session.execute(doing, &under.settings("SET")).await?;
        let done = work(job, record, findings).await;
        if done.as_ref().is_err_and(EngineError::is_unreachable) {
            return done;
        }
        let pinned = job.session.pin().await;
        done?;
        pinned
    }

    async fn end(&self, session: &Session) {
        if session.server.major() < 15 {
            tokio::time::sleep(STATISTICS_ARRIVE).await;
        }
    }
}
