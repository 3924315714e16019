//! What a MongoDB target lacks: members, features, and what its user may not.

use mongodb::bson::doc;

use super::missing::{lacking, told};
use super::{destinations, session};
use crate::config::{Target, Task};
use crate::engines::EngineError;
use crate::engines::mongodb::{
    CLAIMS, Limit, Members, MongoError, Rights, STEP_DOWN, Session, grant, namespace, number,
    role_for, unconfirmed,
};
use crate::execute::mongodb::is_strangers;
use crate::kinds::mongodb::KINDS;
use crate::pipeline::PipelineError;
use crate::pipeline::checkup::{Level, Line};

/// What every run does in the collection of claims.
const CLAIM: [&str; 4] = ["find", "insert", "update", "remove"];

/// What maint asks of a server for each kind, and the actions it takes.
const NEEDS: [(&str, &str, &[&str], bool); 7] = [
    (
        "cleanup and refresh",
        "delete",
        &["find", "insert", "update", "remove"],
        false,
    ),
    (
        "ttl of cleanup",
        "collMod",
        &["createIndex", "collMod"],
        false,
    ),
    ("compact", "compact", &["compact"], false),
    ("integrity", "validate", &["validate"], false),
    (
        "sizes in every kind",
        "collStats",
        &["collStats", "listIndexes"],
        false,
    ),
    (
        "index use in snapshot",
        "$indexStats",
        &["indexStats"],
        false,
    ),
    (
        "members, lag and load",
        "replSetGetStatus",
        &[
            "replSetGetStatus",
            "replSetGetConfig",
            "serverStatus",
            "inprog",
        ],
        true,
    ),
];

/// Looks at a target; what was found until something failed is in `lines`.
pub(in crate::pipeline) async fn examine(
    target: &Target,
    tasks: &[&Task],
    lines: &mut Vec<Line>,
) -> Result<(), PipelineError> {
    let session = session(target, "maint doctor").await?;
    let told = server(&session, tasks).await;
    let told = match told {
        Ok(mut told) => {
            told.extend(at_work(&session, tasks).await);
            for task in tasks {
                told.extend(destinations::tried(&session, task).await);
            }
            Ok(told)
        }
        Err(error) => Err(error),
    };
    session.close().await;
    lines.extend(told.map_err(EngineError::from)?);
    Ok(())
}

/// Who is at work just now, of these tasks.
async fn at_work(session: &Session, tasks: &[&Task]) -> Vec<Line> {
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    let holders = match session.holders(&names).await {
        Ok(holders) => holders,
        // That claims may not be read is told as what is missing.
        Err(MongoError::Unauthorized { .. }) => return Vec::new(),
        Err(error) => return vec![(Level::Note, told("who is at work is not known", &error))],
    };
    let of = |task: &&Task| {
        let held = holders.get(&task.name)?;
        let (name, who) = (&task.name, &held.who);
        Some(match is_strangers(held) {
            false => (Level::Note, format!("{name}: at work just now: {who}")),
            true => (
                Level::Problem,
                format!(
                    "{name}: its claim in `{CLAIMS}` is of {who}; it names no run, so it is none of maint's, and the task does not run as long as somebody renews it: find out who does, then remove it"
                ),
            ),
        })
    };
    tasks.iter().filter_map(of).collect()
}

/// Members, features, and what the role may not.
async fn server(session: &Session, tasks: &[&Task]) -> Result<Vec<Line>, MongoError> {
    let server = &session.server;
    let mut lines: Vec<Line> = Vec::new();
    let compatibility = match &server.compatibility {
        Some(version) => format!(", feature compatibility {version}"),
        None => String::new(),
    };
    let place = match &server.set {
        Some(set) => format!("replica set {set}"),
        None => "stands alone: nothing is replicated".to_owned(),
    };
    lines.push((
        Level::Ok,
        format!(
            "MongoDB {}{compatibility}, database {}, {place}",
            server.version,
            session.database()
        ),
    ));
    let warnings = session.dial().warnings();
    lines.extend(warnings.into_iter().map(|text| (Level::Note, text)));
    if let Some(version) = &server.compatibility
        && !server.version.starts_with(&format!("{version}."))
    {
        lines.push((Level::Note, format!("features newer than {version} are switched off: db.adminCommand({{setFeatureCompatibilityVersion: \"{}.{}\"}})", server.release.0, server.release.1)));
    }
    if let Some(why) = session.unnameable(session.database(), CLAIMS).await? {
        let text = format!("the database {} is not there: {why}", session.database());
        lines.push((Level::Blocked, text));
    }
    let own = |name: &String| name.starts_with("maint.");
    if let Some(names) = session.collection_names(session.database()).await?
        && names.iter().all(own)
    {
        // Where no task works others may keep what they archive, and nothing may be there yet.
        let level = match tasks.is_empty() {
            true => Level::Note,
            false => Level::Problem,
        };
        lines.push((
            level,
            format!(
                "the database {} has no collection: look at its spelling in the url",
                session.database()
            ),
        ));
    }
    if server.shard {
        lines.push((
            Level::Note,
            "a shard of a cluster: what is looked at here is a part of it. Sharded collections are left alone, and nothing is held to be orphaned".to_owned(),
        ));
    }
    if !server.writable {
        lines.push((
            Level::Problem,
            "not the primary: nothing can be maintained here; list all members in the url"
                .to_owned(),
        ));
    }
    lines.push(match server.clock_differs() {
        Some(why) => (Level::Problem, why),
        None => (
            Level::Ok,
            "the clocks of this machine and the server agree".to_owned(),
        ),
    });
    match Members::of(session).await {
        Ok(members) => {
            for member in &members.0 {
                let hidden = if member.hidden { ", hidden" } else { "" };
                let lag = match (member.lag, member.is_delayed()) {
                    (Some(lag), false) => format!(", {lag:.1} s behind"),
                    (Some(lag), true) => format!(
                        ", delayed by {} s, and {lag:.1} s behind that",
                        member.delay
                    ),
                    (None, true) => format!(", delayed by {} s", member.delay),
                    (None, false) => String::new(),
                };
                let follows = !members.gone().any(|gone| gone.name == member.name);
                let level = match follows {
                    true => Level::Ok,
                    false => Level::Problem,
                };
                lines.push((
                    level,
                    format!("member {}: {}{hidden}{lag}", member.name, member.state),
                ));
            }
        }
        Err(error) => lines.push((Level::Note, told("members and lag are not known", &error))),
    }
    lines.extend(locked(session).await);
    if let Some(why) = unconfirmed(session).await {
        let text = format!("{why}: every run waits for one, and fails");
        lines.push((Level::Problem, text));
    }
    let monitor = doc! { "getParameter": 1, "ttlMonitorEnabled": 1 };
    match session.command("asking for the TTL monitor", "admin", monitor, Limit::ASIDE).await {
        Ok(answer) if answer.get_bool("ttlMonitorEnabled").unwrap_or(true) => {
            lines.push((Level::Ok, "the TTL monitor is on".to_owned()));
        }
        Ok(_) => lines.push((Level::Problem, "the TTL monitor is off: nothing expires; db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})".to_owned())),
        Err(error) => lines.push((Level::Note, told("whether the TTL monitor is on is not known", &error))),
    }
    let profile = doc! { "profile": -1 };
    if let Ok(answer) = session
        .command(
            "asking for the profiler",
            session.database(),
            profile,
            Limit::ASIDE,
        )
        .await
    {
        let slow = number(answer.get("slowms")).unwrap_or(0);
        let text = match number(answer.get("was")) {
            Some(0) => format!(
                "the profiler is off; operations slower than {slow} ms are in the server's log only"
            ),
            Some(1) => format!("the profiler keeps operations slower than {slow} ms"),
            _ => "the profiler keeps every operation, which costs every one of them".to_owned(),
        };
        lines.push((Level::Ok, text));
    }
    lines.extend(roles(session, tasks).await?);
    Ok(lines)
}

/// What keeps every write out, where that may be asked.
async fn locked(session: &Session) -> Option<Line> {
    let ask = doc! { "currentOp": 1, "$ownOps": true };
    let doing = "asking whether the server is locked";
    let answer = session.command(doing, "admin", ask, Limit::ASIDE).await;
    if answer.is_ok_and(|answer| answer.get_bool("fsyncLock").unwrap_or(false)) {
        return Some((Level::Blocked, "the server is locked against writes (db.fsyncLock), as for a backup of its files: every run fails until db.fsyncUnlock()".to_owned()));
    }
    let ask = doc! { "serverStatus": 1, "repl": 1, "metrics": 0, "locks": 0, "wiredTiger": 0 };
    let answer = session
        .command(doing, "admin", ask, Limit::ASIDE)
        .await
        .ok()?;
    let mode = answer.get_document("repl").ok()?.get("userWriteBlockMode");
    // 1 is off, 2 is on.
    (number(mode) == Some(2)).then(|| (Level::Blocked, "the server takes no writes of users (setUserWriteBlockMode), as tools for migrations and backups leave it: every run fails until db.adminCommand({setUserWriteBlockMode: 1, global: false})".to_owned()))
}

/// What claiming a task takes, and the user does not have.
fn missing_for_claims(rights: &Rights, database: &str) -> Vec<&'static str> {
    let missing = CLAIM.into_iter();
    missing
        .filter(|action| !rights.has(action, database, CLAIMS))
        .collect()
}

/// What one of [`NEEDS`] takes, and the user does not have.
fn missing<'n>(
    rights: &Rights,
    database: &str,
    actions: &[&'n str],
    cluster: bool,
) -> Vec<&'n str> {
    let missing = actions.iter().copied();
    missing
        .filter(|action| match cluster {
            true => !rights.has_on_cluster(action),
            false => !rights.has(action, database, ""),
        })
        .collect()
}

/// Whether the user lacks a right that some kind needs.
///
/// # Errors
/// When not even a claim may be written, so that no task can run; or the server cannot be asked.
pub(super) async fn lacks_some(session: &Session) -> Result<bool, MongoError> {
    let Some(rights) = Rights::of(session).await? else {
        return Ok(false);
    };
    let database = session.database();
    if !missing_for_claims(&rights, database).is_empty() {
        return Err(MongoError::Unauthorized {
            doing: "claiming a task, without which none runs; `maint doctor` says what else the user lacks"
                .to_owned(),
            command: "findAndModify".to_owned(),
            namespace: namespace(database, CLAIMS),
            lives_in: session.lives_in().to_owned(),
        });
    }
    let mut needs = NEEDS.iter();
    Ok(needs
        .any(|(_, _, actions, cluster)| !missing(&rights, database, actions, *cluster).is_empty()))
}

/// What a task needs, in whatever database, and the user lacks: its runs fail.
fn of_task(task: &Task, rights: &Rights, session: &Session, alone: bool) -> Vec<Line> {
    let entry = KINDS.iter().find(|entry| entry.info.name == task.kind);
    // What is wrong with the options is said where the task is tried.
    let Some(Ok(kind)) = entry.map(|entry| (entry.build)(&task.options)) else {
        return Vec::new();
    };
    let mut needed = kind.rights(session.database());
    // Nobody steps down where nobody else could be primary.
    needed.retain(|right| !(alone && right.action == STEP_DOWN));
    lacking(rights, &needed, session)
        .into_iter()
        .map(|what| {
            (
                Level::Problem,
                format!("{}: the user lacks {what}", task.name),
            )
        })
        .collect()
}

async fn roles(session: &Session, tasks: &[&Task]) -> Result<Vec<Line>, MongoError> {
    let Some(rights) = Rights::of(session).await? else {
        return Ok(vec![(
            Level::Note,
            "nobody logs in: whoever reaches the server may do everything".to_owned(),
        )]);
    };
    let mut lines = Vec::new();
    let database = session.database();
    let lacking = missing_for_claims(&rights, database);
    if !lacking.is_empty() {
        let claims = namespace(database, CLAIMS);
        lines.push((
            Level::Blocked,
            format!(
                "no task can run: every run is claimed in {claims}, and the user lacks {} there; {}, or a role of your own with {} on that collection",
                lacking.join(", "),
                grant(session.lives_in(), "readWrite", database),
                CLAIM.join(", ")
            ),
        ));
    }
    for (what, command, actions, cluster) in NEEDS {
        let missing = missing(&rights, database, actions, cluster);
        if !missing.is_empty() {
            let (role, on) = role_for(command, database);
            lines.push((
                Level::Note,
                format!(
                    "{what}: the user lacks {}; role {role} on {on} has it",
                    missing.join(", ")
                ),
            ));
        }
    }
    let alone = match &session.server.set {
        None => true,
        Some(_) => Members::of(session).await.is_ok_and(|all| all.0.len() < 2),
    };
    for task in tasks {
        lines.extend(of_task(task, &rights, session, alone));
    }
    if lines.is_empty() {
        lines.push((
            Level::Ok,
            "the user may do what every kind needs".to_owned(),
        ));
    }
    Ok(lines)
}
