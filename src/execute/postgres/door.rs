//! PostgreSQL behind the executor's door.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Job;
use super::ahead::Ahead;
use super::attempts::ends;
use super::bounds::{self, Bounds};
use super::load;
use super::monitor::Monitor;
use super::reach::{Door, Seen, dial, is_elsewhere, place, replicas};
use super::{
    ask_under, check, counting, damage, gate, outside, raised, room, settle, shrink, statements,
    vanished, walk, whole,
};
use crate::config::{Target, Throttle};
use crate::engines::EngineError;
use crate::engines::postgres::copies;
use crate::engines::postgres::seats::Seats;
use crate::engines::postgres::{Fault, Session, claim, each, pooler, sight};
use crate::execute::step::end;
use crate::execute::{self, Busy, Counts, Database, Execution, Holder, Sight, Size};
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, Place, Scope, Severity, Site, Step, Work};
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

fn out_of_reach(step: &Step, error: &EngineError) -> Finding {
    let away = step.body.away.join(", ");
    Finding {
        code: "foreign.unreachable".to_owned(),
        severity: Severity::Warning,
        object: step.object.clone(),
        message: format!(
            "{} of {} came to nothing, as it reads tables on other servers as well ({away}): {error}. What this server has of it is dealt with all the same",
            step.action.replace('_', " "),
            step.object
        ),
        suggestion: None,
    }
}

async fn work(
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let rows_go = matches!(
        job.step.body.work,
        Work::Walk(_) | Work::Retire(_) | Work::Settle(_)
    );
    job.session.take_any_bytes(!rows_go).await?;
    let done = within_bounds(job, record, findings).await;
    if let Some(query) = &job.step.body.outside
        && !done.as_ref().is_err_and(EngineError::is_unreachable)
        && (done.is_err() || record.status != StepStatus::Succeeded)
    {
        let all = done.is_err() || ends_short(job.step, record.status);
        // What cannot be asked is found by the next run.
        if let Err(error) = outside::tell(query, all, job, record, findings).await {
            tracing::warn!(error = %with_causes(&error), "what the step left outside of its table is not known");
        }
    }
    match done {
        Err(error) if !job.step.body.away.is_empty() && is_elsewhere(&error) => {
            findings.push(out_of_reach(job.step, &error));
            end(record, StepStatus::Skipped, with_causes(&error));
            Ok(())
        }
        Err(error) if vanished::explains(&error, job.session, job.step).await => {
            vanished::ends(job, record);
            Ok(())
        }
        Err(error) => {
            findings.extend(damage::met(&error, job.step));
            Err(raised::named(error, job.step, job.session).await)
        }
        done => done,
    }
}

/// Whether a step ended before its end, and does not go on by itself: the rows of a partition may
/// be stored over many nights.
fn ends_short(step: &Step, status: StepStatus) -> bool {
    match step.body.work {
        Work::Retire(_) => matches!(status, StepStatus::Failed | StepStatus::Skipped),
        _ => status != StepStatus::Succeeded,
    }
}

/// Carries it out unless it would take more rows than its rule may.
async fn within_bounds(
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let taken = match bounds::allow_whole(job, ends(job)).await? {
        Ok(taken) => taken,
        Err(finding) => {
            end(record, StepStatus::Failed, finding.message.clone());
            findings.push(finding);
            return Ok(());
        }
    };
    let done = carried_out(job, record, findings).await;
    if let (Some(most), Some(taken)) = (&job.step.body.most, taken) {
        // One that came to nothing leaves its rows to others.
        let went = match record.status {
            StepStatus::Succeeded => taken.max(record.rows.unwrap_or(0)),
            _ => 0,
        };
        job.door.gone.settle(most, taken, went);
    }
    done
}

async fn carried_out(
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    match &job.step.body.work {
        Work::Each(_) if !room::is_there(job, record).await? => Ok(()),
        Work::Each(statements) => {
            let done = statements::each_told(statements, job, record, findings)
                .await
                .map(drop);
            let done = match done {
                Err(error) => statements::unless_done(error, job, record, findings).await,
                done => done,
            };
            if let Some(leaves) = &job.step.body.leaves
                && !done.as_ref().is_err_and(EngineError::is_unreachable)
            {
                let looked = statements::left(leaves, job, record, findings).await;
                return done.and(looked);
            }
            done
        }
        Work::Together(statements) => statements::together(statements, job, record).await,
        Work::Check(check) => check::carry_out(check, job, record, findings).await,
        Work::Walk(way) => walk::carry_out(way, job, record, findings).await,
        Work::Shrink(way) => shrink::carry_out(way, job, record, findings).await,
        Work::Retire(retire) => whole::carry_out(retire, job, record, findings).await,
        Work::Settle(settle) => settle::carry_out(settle, job, record, findings).await,
    }
}
