//! Compaction, on one member at a time.

use std::time::{Duration, Instant};

use mongodb::bson::doc;

use super::gate::{Ends, may_go_on, over, pass};
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Members, Session, is_compacting, number};
use crate::history::{StepRecord, StepStatus};
use crate::plan::KeptBy;
use crate::plan::mongodb::Compact;
use crate::values::with_causes;

/// How often it is looked whether a member has caught up.
const LOOK: Duration = Duration::from_millis(500);
/// How long a member that is down, or recovers, is waited for: by itself that passes where it was only
/// restarted.
const GONE: Duration = Duration::from_secs(20);
/// How long a primary that stepped down stays out of the next election, in seconds.
const STAYS_DOWN: i32 = 60;
/// How long it may take until a member that compacts by itself has begun.
const BEGINS: Duration = Duration::from_secs(5);

pub(super) async fn carry_out(
    of: &Compact,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    // The set has to be whole before one of its members is kept busy, and again
    // before the next one is.
    if !caught_up(of, job, ends, record).await? {
        return Ok(());
    }
    let Some(address) = &of.member else {
        return compact(of, job, job.session, ends, record).await;
    };
    let session = job.session.member(address).await?;
    if of.step_down {
        let command = doc! { "replSetStepDown": STAYS_DOWN, "secondaryCatchUpPeriodSecs": 10 };
        let limit = Limit(Duration::from_secs(30));
        match session
            .command("letting the primary step down", "admin", command, limit)
            .await
        {
            Ok(_) => {}
            // Older servers close the connection instead of answering.
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error.into()),
        }
        if !caught_up(of, job, ends, record).await? {
            return Ok(());
        }
    }
    compact(of, job, &session, ends, record).await
}

async fn compact(
    of: &Compact,
    job: Job<'_>,
    session: &Session,
    ends: Ends,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    if of.by_itself {
        return by_itself(of, job, session, ends, record).await;
    }
    record.bytes_before = size(session, of).await;
    let mut command = doc! { "compact": &of.collection };
    if let Some(target) = of.target_mb {
        command.insert("freeSpaceTargetMB", target);
    }
    if of.in_place {
        command.insert("force", true);
    }
    let at = ("compacting it", of.database.as_str());
    if pass(job, session, ends, record, at, &command, &mut 0)
        .await?
        .is_some()
    {
        record.status = StepStatus::Succeeded;
        record.bytes_after = size(session, of).await;
    }
    Ok(())
}

/// Lets a member compact all that it has, once, and waits until it has done so.
async fn by_itself(
    of: &Compact,
    job: Job<'_>,
    session: &Session,
    ends: Ends,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    record.attempts = 1;
    record.bytes_before = files(session, of).await;
    let mut command = doc! { "autoCompact": true, "runOnce": true };
    if let Some(target) = of.target_mb {
        command.insert("freeSpaceTargetMB", target);
    }
    let doing = "letting the member compact by itself";
    if let Err(error) = session.command(doing, "admin", command, Limit::ASIDE).await {
        return over(error, job.execution, ends, record);
    }
    let began = Instant::now();
    let mut seen = false;
    loop {
        let ask = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0 };
        let status = session
            .command("looking how far it is", "admin", ask, Limit::ASIDE)
            .await;
        match status {
            Ok(status) => {
                let at_it = is_compacting(&status);
                seen |= at_it;
                if !at_it && (seen || began.elapsed() > BEGINS) {
                    break;
                }
            }
            // It goes on by itself; whether it does is asked again.
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error.into()),
        }
        if !may_go_on(job, ends, record, "what was compacted so far stays so") {
            let end = doc! { "autoCompact": false };
            let doing = "ending the compaction";
            if let Err(error) = session.command(doing, "admin", end, Limit::ASIDE).await {
                tracing::warn!(%error, "the member goes on to compact by itself");
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    record.status = StepStatus::Succeeded;
    record.bytes_after = files(session, of).await;
    Ok(())
}

/// What the files of the database take.
async fn files(session: &Session, of: &Compact) -> Option<i64> {
    let ask = doc! { "dbStats": 1 };
    let stats = session.command("measuring it", &of.database, ask, Limit::ASIDE);
    let stats = stats.await.ok()?;
    Some(number(stats.get("storageSize"))? + number(stats.get("indexSize"))?)
}

/// Waits until every member answers and none is further behind than allowed.
async fn caught_up(
    of: &Compact,
    job: Job<'_>,
    ends: Ends,
    record: &mut StepRecord,
) -> Result<bool, EngineError> {
    if of.member.is_none() {
        return Ok(true);
    }
    let mut told = false;
    let mut gone_since = None;
    loop {
        let (why, gone) = match Members::of(job.session).await {
            Ok(members) => match not_ready(&members, of.caught_up_seconds) {
                None => return Ok(true),
                Some(why) => (why, members.gone().next().is_some()),
            },
            Err(error) if error.is_passing() => (with_causes(&error), false),
            Err(error) => return Err(error.into()),
        };
        let since = *gone_since.get_or_insert_with(Instant::now);
        if !gone {
            gone_since = None;
        }
        // Each step would wait for the same, one after the other, and hold the claim.
        let in_vain = job.door.has_waited() || (gone && since.elapsed() >= GONE);
        if in_vain || ends.left().is_none() {
            job.door.waited_in_vain();
            record.kept_by = Some(KeptBy::Server);
            end(
                record,
                StepStatus::Deferred,
                format!("the set was not ready: {why}"),
            );
            return Ok(false);
        }
        if !may_go_on(job, ends, record, "nothing was compacted") {
            return Ok(false);
        }
        if !told {
            told = true;
            job.execution.observer.on(Event::Waiting(record, &why));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn not_ready(members: &Members, most: f64) -> Option<String> {
    if members.primary().is_none() {
        return Some("there is no primary".to_owned());
    }
    for member in &members.0 {
        if !member.healthy || !matches!(member.state.as_str(), "PRIMARY" | "SECONDARY" | "ARBITER")
        {
            return Some(format!("{} is {}", member.name, member.state));
        }
        if let Some(lag) = member.lag.filter(|lag| *lag > most) {
            return Some(format!("{} is {lag:.1} s behind", member.name));
        }
    }
    None
}

async fn size(session: &Session, of: &Compact) -> Option<i64> {
    let pipeline = vec![doc! { "$collStats": { "storageStats": {} } }];
    let found = session
        .aggregate(
            "measuring it",
            &of.database,
            &of.collection,
            pipeline,
            Limit::ASIDE,
        )
        .await
        .ok()?;
    let stats = found.first()?.get_document("storageStats").ok()?;
    Some(number(stats.get("storageSize"))? + number(stats.get("totalIndexSize"))?)
}
