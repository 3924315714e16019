//! What is seen of a database, and of the members of its set.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};

use super::super::common::{Collection, not_allowed, not_answered};
use super::slow;
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Members, Session, number};
use crate::plan::{Finding, Scope};
use crate::values::{TimeSpan, wall_clock};

/// How often an index was used on one member, and since when that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) times: i64,
    pub(super) since: i64,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(super) database: String,
    /// Whether there is no collection but maint's own.
    pub(super) empty: bool,
    pub(super) collections: BTreeMap<String, Collection>,
    /// By collection and index: what each member says.
    pub(super) uses: BTreeMap<(String, String), Vec<Use>>,
    /// Members whose counts could not be had.
    pub(super) unasked: usize,
    pub(super) members: Members,
    pub(super) status: Option<Document>,
    /// How far the oplog reaches back, in seconds.
    pub(super) oplog: Option<i64>,
    /// Operations that run for long: what, where, for how many seconds.
    pub(super) long: Vec<(String, String, i64)>,
    /// What the profilers of the members have recorded.
    pub(super) slow: slow::Shapes,
    /// TTL indexes, whoever made them.
    pub(super) expiries: Vec<Expiry>,
    /// Whether the server lets documents expire, where that was to be asked and may be.
    pub(super) ttl_monitor: Option<bool>,
    pub(super) scope: Scope,
    pub(super) findings: Vec<Finding>,
}

/// Connections, cache and load, and how far the oplog reaches back.
pub(super) async fn server(db: &Session, facts: &mut Facts) {
    let status = db
        .command(
            "looking at the server",
            "admin",
            doc! { "serverStatus": 1 },
            Limit::ASIDE,
        )
        .await;
    match status {
        Ok(status) => facts.status = Some(status),
        Err(error) => facts.findings.push(not_allowed(
            &error,
            "connections, cache and load",
            &facts.database,
        )),
    }
    if db.server.set.is_some() {
        match oplog(db).await {
            Ok(seconds) => facts.oplog = seconds,
            Err(error) => facts.findings.push(not_allowed(
                &error,
                "how far the oplog reaches back",
                "local.oplog.rs",
            )),
        }
    }
}

/// Sessions on all members that can be asked; of a server that stands alone, on it.
pub(super) async fn members(db: &Session, facts: &mut Facts) -> Vec<Session> {
    let mut sessions = Vec::new();
    for member in &facts.members.0 {
        if !member.healthy {
            facts.unasked += 1;
            continue;
        }
        if !member.reads() {
            continue;
        }
        match db.member(&member.name).await {
            Ok(session) => sessions.push(session),
            Err(error) => {
                facts.unasked += 1;
                facts.findings.push(not_answered(
                    &error,
                    "which indexes this member uses, and what was slow there,",
                    &member.name,
                ));
            }
        }
    }
    if sessions.is_empty() {
        sessions.push(db.clone());
    }
    sessions
}

/// `$indexStats` of every member that answers.
pub(super) async fn uses(members: &[Session], facts: &mut Facts) -> Result<(), EngineError> {
    for session in members {
        for name in facts.collections.keys() {
            let pipeline = vec![doc! { "$indexStats": {} }];
            let found = session
                .aggregate(
                    "looking at index use",
                    &facts.database,
                    name,
                    pipeline,
                    Limit::ASIDE,
                )
                .await;
            match found {
                Ok(found) => {
                    for index in &found {
                        let (Ok(index_name), Ok(accesses)) =
                            (index.get_str("name"), index.get_document("accesses"))
                        else {
                            continue;
                        };
                        // By our clock, with which it is compared.
                        let ahead = session.server.clock_ahead_ms;
                        let since = accesses
                            .get_datetime("since")
                            .map(|at| at.timestamp_millis().saturating_add(ahead) / 1000)
                            .unwrap_or(0);
                        let seen = Use {
                            times: number(accesses.get("ops")).unwrap_or(0),
                            since,
                        };
                        facts
                            .uses
                            .entry((name.clone(), index_name.to_owned()))
                            .or_default()
                            .push(seen);
                    }
                }
                Err(error) if error.is_vanished() => {}
                Err(error) if error.code() == Some(13) => {
                    facts.unasked += 1;
                    facts.findings.push(not_allowed(
                        &error,
                        "which indexes are used",
                        &facts.database,
                    ));
                    return Ok(());
                }
                // Time-series collections have none.
                Err(error) => tracing::debug!(%error, "index use is not known"),
            }
        }
    }
    Ok(())
}

/// What the profiler of each member has recorded; nothing where none has been on.
pub(super) async fn slow_ones(members: &[Session], facts: &mut Facts) {
    for member in members {
        let there = member.server.clock(wall_clock());
        let read = slow::read(member, &facts.database, there, &mut facts.slow).await;
        match read {
            Ok(()) => {}
            Err(error) if error.is_vanished() => {}
            Err(error) if error.is_silence() || error.is_passing() => {
                let address = member.address();
                let what = "which operations are slow";
                facts.findings.push(not_answered(&error, what, &address));
            }
            Err(error) => {
                facts.findings.push(not_allowed(
                    &error,
                    "which operations are slow",
                    &facts.database,
                ));
                return;
            }
        }
    }
}

/// How far the oplog reaches back, in seconds.
async fn oplog(db: &Session) -> Result<Option<i64>, crate::engines::mongodb::MongoError> {
    let mut ends = Vec::new();
    for way in [1, -1] {
        let find = doc! { "find": "oplog.rs", "sort": { "$natural": way }, "limit": 1, "singleBatch": true, "projection": { "ts": 1 } };
        let found = db
            .all("looking at the oplog", "local", find, Limit::ASIDE)
            .await?;
        ends.push(found.first().and_then(|d| match d.get("ts") {
            Some(Bson::Timestamp(at)) => Some(i64::from(at.time)),
            _ => None,
        }));
    }
    Ok(match ends.as_slice() {
        [Some(first), Some(last)] => Some(last - first),
        _ => None,
    })
}

/// What runs for long in this database.
pub(super) async fn long_ones(db: &Session, longer: TimeSpan, facts: &mut Facts) {
    let seconds = i64::try_from(longer.get().as_secs()).unwrap_or(i64::MAX);
    let pipeline = vec![
        doc! { "$currentOp": { "allUsers": true } },
        doc! { "$match": { "active": true, "secs_running": { "$gte": seconds }, "ns": { "$regex": format!("^{}\\.", super::escaped(&facts.database)) } } },
        doc! { "$project": { "op": 1, "ns": 1, "secs_running": 1 } },
        doc! { "$limit": 50 },
    ];
    let ask = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
    match db
        .all("looking at operations", "admin", ask, Limit::ASIDE)
        .await
    {
        Ok(found) => {
            facts.long = found
                .iter()
                .map(|d| {
                    let text = |key: &str| d.get_str(key).unwrap_or_default().to_owned();
                    (
                        text("op"),
                        text("ns"),
                        number(d.get("secs_running")).unwrap_or(0),
                    )
                })
                .collect();
        }
        Err(error) => facts.findings.push(not_allowed(
            &error,
            "which operations run for long",
            &facts.database,
        )),
    }
}

/// An index by which documents should expire.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expiry {
    pub(super) collection: String,
    pub(super) index: String,
    /// `expireAfterSeconds` is no number.
    pub(super) nan: bool,
    /// Documents that should have gone long ago.
    pub(super) overdue: i64,
}
