//! MongoDB behind the executor's door.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::dial;
use super::gate::{Again, Ends, FAILOVER, pass};
use super::vanished::Begun;
use super::{aggregate, archive, compact, copies, look, settle, strangers, walk};
use crate::config::{ReplicaGone, Target, Throttle};
use crate::engines::EngineError;
use crate::engines::mongodb::{
    Dial, Limit, Members, MongoError, Refusal, Session, counted, counting, kill_operations, number,
};
use crate::execute::{self, Busy, Counts, Database, Execution, Holder, Size};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Body, Command, Walk, Work};
use crate::plan::{Finding, Place, Scope, Severity, Site, Step};
use crate::values::{Bytes, several_do, with_causes};

/// What a dry run may take to count the documents of one step.
const COUNTING: Limit = Limit(Duration::from_secs(600));
/// What it may take where a plan is saved, or compared with a saved one.
const REVIEWING: Limit = Limit(Duration::from_secs(60));

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
            match session.server.writable {
                true => Ok(session),
                false => Err(MongoError::Connect {
                    server: self.dial.describe().to_owned(),
                    refusal: match session.is_direct() {
                        true => Refusal::NotPrimary,
                        false => Refusal::NoPrimary,
                    },
                }),
            }
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
                refusal: Refusal::NoPrimary,
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
        Ok(session.claim(task).await?.map(Holder::run))
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
        let session = self.open(false).await?;
        if limits.max_wal_rate.is_some() {
            return Err(unknown("max_wal_rate"));
        }
        if limits.query.is_some() {
            return Err(unknown("query"));
        }
        if limits.free_disk_query.is_some() {
            return Err(unknown("free_disk_query"));
        }
        if let Some(least) = limits.min_free_disk {
            let doing = "asking how much is free on the disk";
            let stats = session
                .command(
                    doing,
                    session.database(),
                    doc! { "dbStats": 1 },
                    Limit::ASIDE,
                )
                .await;
            let stats = match stats {
                Ok(stats) => stats,
                Err(error) if error.is_passing() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let Some((free, place)) = free_disk(&stats, session.describe()) else {
                return Err(EngineError::NotVisible {
                    what: "`throttle.min_free_disk` cannot be heeded: the server does not say how much is free on its disk"
                        .to_owned(),
                });
            };
            if free < least.get() {
                return Ok(Some(Busy {
                    abort: false,
                    passing: false,
                    setting: "min_free_disk",
                    text: format!(
                        "{} are free on the disk of {place}, less than {least}",
                        Bytes(free)
                    ),
                }));
            }
        }
        if let Some(most) = limits.max_active_sessions {
            let doing = "counting busy connections";
            let status = session
                .command(doing, "admin", doc! { "serverStatus": 1 }, Limit::ASIDE)
                .await;
            let status = match status {
                Ok(status) => status,
                // It will be asked again in a second; meanwhile nobody is let down.
                Err(error) if error.is_passing() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let active = status
                .get_document("globalLock")
                .and_then(|lock| lock.get_document("activeClients"))
                .ok()
                .and_then(|clients| number(clients.get("total")))
                .unwrap_or(0);
            if active > i64::from(most) {
                return Ok(Some(Busy {
                    abort: false,
                    passing: false,
                    setting: "max_active_sessions",
                    text: format!(
                        "{} active, more than {most}",
                        several_do(active, "operation", ("is", "are"))
                    ),
                }));
            }
        }
        if limits
            .max_replica_lag_bytes
            .is_some_and(|most| most.get() < u64::MAX)
        {
            return Err(unknown("max_replica_lag_bytes"));
        }
        if limits.asks_replicas() {
            match Members::of(&session).await {
                Ok(members) => {
                    let gone = members.gone().next().map(|member| {
                        format!(
                            "{} does not say how far it is: it is {}",
                            member.name, member.state
                        )
                    });
                    let gone = gone.and_then(|text| match limits.replica_gone {
                        None => None,
                        Some(ReplicaGone::Ignore) => {
                            tracing::warn!("{text}; going on without it");
                            None
                        }
                        Some(policy) => Some(Busy {
                            abort: policy == ReplicaGone::Abort,
                            passing: false,
                            setting: "replica_gone",
                            text,
                        }),
                    });
                    if gone.as_ref().is_some_and(|gone| gone.abort) {
                        return Ok(gone);
                    }
                    if let (Some(most), Some((member, lag))) =
                        (limits.max_replica_lag, members.worst_lag())
                        && lag > most.get().as_secs_f64()
                    {
                        return Ok(Some(Busy {
                            abort: false,
                            passing: false,
                            setting: "max_replica_lag",
                            text: format!("{} is {lag:.1} s behind, more than {most}", member.name),
                        }));
                    }
                    if gone.is_some() {
                        return Ok(gone);
                    }
                    if limits.max_replica_lag.is_some() && is_held_back(&session).await {
                        return Ok(Some(Busy {
                            abort: false,
                            passing: true,
                            setting: "max_replica_lag",
                            text: "flow control slows writes down: a majority of the members is behind".to_owned(),
                        }));
                    }
                }
                Err(error) if error.is_passing() => {
                    return Ok(Some(Busy {
                        abort: false,
                        passing: false,
                        // Passes by itself, and is no lag: a limit that ends runs is not passed.
                        setting: "replica_gone",
                        text: "the set has no primary just now".to_owned(),
                    }));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
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
                let done = match (&way.into, &way.files) {
                    _ if begun.became(job).await.is_some() => Ok(()),
                    (Some(into), _) => archive::carry_out(way, into, job, record, findings).await,
                    (None, Some(files)) => {
                        archive::into_files(way, files, job, record, findings).await
                    }
                    (None, None) => walk::carry_out(way, &begun, job, record).await,
                };
                begun.told(done, job, record, findings).await
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
                begun.told(done, job, record, findings).await
            }
            Work::Look(question) => look::carry_out(question, job, record, findings).await,
            Work::Compact(of) => compact::carry_out(of, job, record).await,
        }
    }

    async fn end(&self, session: &Session) {
        session.release().await;
    }
}

/// Whether the primary itself slows writes down because a majority does not follow, as far as that
/// may be asked.
async fn is_held_back(session: &Session) -> bool {
    let ask = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0, "wiredTiger": 0 };
    let doing = "asking whether writes are slowed down";
    let status = session.command(doing, "admin", ask, Limit::ASIDE).await;
    status.is_ok_and(|status| slows_down(&status))
}

/// Whether a server says that it slows writes down.
fn slows_down(status: &Document) -> bool {
    let flow = status.get_document("flowControl");
    flow.is_ok_and(|flow| flow.get_bool("isLagged").unwrap_or(false))
}

/// A condition that there is no way of heeding.
/// What is free where the least is: of the server itself, or of the shards behind it.
fn free_disk(stats: &Document, server: &str) -> Option<(u64, String)> {
    let free = |stats: &Document| {
        let total = number(stats.get("fsTotalSize")).filter(|total| *total > 0)?;
        let used = number(stats.get("fsUsedSize"))?;
        u64::try_from(total.checked_sub(used)?).ok()
    };
    match stats.get_document("raw") {
        Ok(shards) => shards
            .iter()
            .map(|(shard, stats)| Some((free(stats.as_document()?)?, shard.clone())))
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .min(),
        Err(_) => Some((free(stats)?, server.to_owned())),
    }
}

fn unknown(setting: &str) -> EngineError {
    EngineError::NotVisible {
        what: format!(
            "`throttle.{setting}` cannot be heeded: MongoDB knows no such thing; use max_replica_lag, max_active_sessions, min_free_disk or pause_file"
        ),
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

async fn given(
    commands: &[Command],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    for command in commands {
        let document = command.command.document().map_err(bad)?;
        let at = ("running it", command.database.as_str());
        let mut lost = 0;
        if pass(job, job.session, ends, record, at, &document, &mut lost)
            .await?
            .is_none()
        {
            return Ok(());
        }
    }
    record.status = StepStatus::Succeeded;
    Ok(())
}

/// What was counted; none where that was not to be had in time, or not at all.
fn soon(counted: Result<i64, EngineError>) -> Result<Option<i64>, EngineError> {
    match counted {
        Ok(n) => Ok(Some(n)),
        Err(EngineError::NotVisible { .. }) => Ok(None),
        Err(EngineError::Mongo(error)) if error.is_out_of_time() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Exactly how many documents would go.
async fn count(session: &Session, walk: &Walk, most: Limit) -> Result<i64, EngineError> {
    if let Some(known) = walk.documents {
        return Ok(known);
    }
    let filter = walk.filter.document().map_err(bad)?;
    let Some(orphans) = &walk.orphans else {
        let command = counting(&walk.collection, filter, None, None);
        let answer = session
            .command("counting documents", &walk.database, command, most)
            .await?;
        return Ok(counted(&answer));
    };
    if orphans.parent_database != walk.database {
        return Err(EngineError::NotVisible {
            what: format!(
                "orphans of a parent in another database ({}) are not counted beforehand",
                orphans.parent_database
            ),
        });
    }
    let found = session
        .aggregate(
            "counting orphans",
            &walk.database,
            &walk.collection,
            orphans_pipeline(
                filter,
                &orphans.field,
                &orphans.parent,
                &orphans.parent_field,
                "count",
            ),
            most,
        )
        .await?;
    Ok(found.first().and_then(|d| number(d.get("n"))).unwrap_or(0))
}

/// Those whose parent is gone; with `last` as the stage that ends it.
fn orphans_pipeline(
    filter: Document,
    field: &str,
    parent: &str,
    parent_field: &str,
    last: &str,
) -> Vec<Document> {
    let present =
        doc! { field: { "$exists": true, "$ne": Bson::Null, "$not": { "$type": "array" } } };
    let mut stages = vec![
        doc! { "$match": { "$and": [filter, present] } },
        doc! { "$lookup": { "from": parent, "localField": field, "foreignField": parent_field, "as": "maint_parent" } },
        doc! { "$match": { "maint_parent": { "$size": 0 } } },
    ];
    if last == "count" {
        stages.push(doc! { "$count": "n" });
    }
    stages
}

fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the plan".to_owned(),
        message,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_slows_writes_down_holds_a_task_up() {
        let of = |lagged: bool| doc! { "flowControl": { "enabled": true, "isLagged": lagged } };
        assert!(slows_down(&of(true)));
        assert!(!slows_down(&of(false)));
        // Those that stand alone, and older ones, say nothing of it.
        assert!(!slows_down(&doc! { "ok": 1 }));
    }

    #[test]
    fn the_fullest_disk_is_the_one_that_counts() {
        let stats = |free: i64| doc! { "fsUsedSize": 1_000_i64, "fsTotalSize": 1_000 + free };
        let told = |stats: &Document| free_disk(stats, "a:1");
        assert_eq!(told(&stats(5)), Some((5, "a:1".to_owned())));
        let sharded = doc! { "raw": { "s0/a": stats(7), "s1/b": stats(3) }, "fsUsedSize": 2_000_i64, "fsTotalSize": 9_000_i64 };
        assert_eq!(told(&sharded), Some((3, "s1/b".to_owned())));
        // One that says nothing may be full.
        let silent = doc! { "raw": { "s0/a": stats(7), "s1/b": { "ok": 1 } } };
        assert_eq!(told(&silent), None);
        assert_eq!(told(&doc! { "fsUsedSize": 0, "fsTotalSize": 0 }), None);
    }
}
