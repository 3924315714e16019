//! What a PostgreSQL target lacks (versions, rights, extensions) and what that costs, and what was
//! left unfinished there.

mod database;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::timeout;

use self::database::examine_database;
use super::super::lanes;
use super::{dial, open};
use crate::config::{Target, Task};
use crate::engines::EngineError;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::seats::Seats;
use crate::engines::postgres::{Identifier, Session, claim, copies, disk, sight};
use crate::execute::postgres;
use crate::history::Store;
use crate::kinds::postgres::{self as kinds, KINDS};
use crate::pipeline::PipelineError;
use crate::pipeline::checkup::{Level, Line};
use crate::report::text::human_duration_ms;
use crate::values::with_causes;

/// Whether the role that logged in sees what others do.
const SEES_SESSIONS: &str =
    "SELECT pg_catalog.pg_has_role(session_user, 'pg_read_all_stats', 'USAGE')";

/// In so long all connections of a run have to come.
const COMES_WITHIN: Duration = Duration::from_secs(10);

/// Transactions that are older than five minutes.
const LONG: &str = "SELECT a.pid, coalesce(a.usename, '')::text AS role, coalesce(a.application_name, '') AS application,
        extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int8 AS age_s,
        coalesce(a.state, '') AS state
    FROM pg_catalog.pg_stat_activity a
    WHERE a.xact_start < pg_catalog.clock_timestamp() - interval '5 minutes'
        AND a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
    ORDER BY a.xact_start LIMIT 5";

/// Looks at the server, the role and the way there; what was found until something failed is in
/// `lines`.
pub(in crate::pipeline) async fn examine(
    target: &Target,
    tasks: &[&Task],
    last: Option<&Value>,
    history: Option<&dyn Store>,
    lines: &mut Vec<Line>,
) -> Result<(), PipelineError> {
    let dial = dial(target)?;
    let session = open(&dial, "maint doctor", last).await?;
    if target.scope.has_server() {
        examine_server(&session, lines);
    }
    let lacking = sight::lacking(&session).await?;
    let lacks = sight::told(&lacking);
    if let Some((names, grants)) = &lacks {
        lines.push((
            Level::Problem,
            format!(
                "of what every run reads of the server the role may not read {names}: what it is for is not looked at here either{}; {grants}",
                match lacking.iter().any(|one| one.watches) {
                    true => ", and no step is begun, since nobody would see who waits for it",
                    false => "",
                }
            ),
        ));
    }
    // What was refused for that has been told; the rest goes on.
    let told = |looked: Result<(), EngineError>| match looked {
        Err(error) if lacks.is_some() && error.is_forbidden() => Ok(()),
        looked => looked,
    };
    if target.scope.has_server() {
        told(sees_sessions(&session, lines).await)?;
        told(replicas(target, &session, lines).await)?;
        let asks = |task: &&Task| task.throttle.free_disk_query.is_some();
        if !tasks.iter().any(asks) {
            told(sees_disk(&session, lines).await)?;
        }
    }
    // Before there are others of ours, which the server still counts for a while after they have ended.
    let seats = Seats::of(&session).await?;
    if target.scope.has_database() {
        told(examine_database(&session, target, tasks, lines).await)?;
        if let Some(history) = history {
            forsaken(&session, target, tasks, history, lines).await?;
        }
        if let Some(few) = too_few(seats.as_ref(), &dial, tasks).await {
            lines.push((Level::Problem, few));
        }
    }
    told(examine_tasks(&session, seats.as_ref(), tasks, lines).await)?;
    told(old_transactions(&session, lines).await)?;
    Ok(())
}

/// What earlier runs have taken out of its table, and no task goes on with any more.
async fn forsaken(
    session: &Session,
    target: &Target,
    tasks: &[&Task],
    history: &dyn Store,
    lines: &mut Vec<Line>,
) -> Result<(), PipelineError> {
    let mut known = HashMap::new();
    for info in KINDS.iter().map(|entry| entry.info) {
        known.insert(info.name, history.memories(&target.name, info.name).await?);
    }
    let goes_on = |kind: &str, schema: &str, table: &str| {
        let info = KINDS.iter().find(|entry| entry.info.name == kind);
        let mut tasks = tasks.iter().filter(|task| task.kind == kind);
        info.is_some_and(|entry| {
            tasks.any(|task| (entry.info.goes_on_with)(&task.options, schema, table))
        })
    };
    for found in kinds::forsaken(session, known, goes_on).await? {
        let help = found.suggestion.map(|sql| format!("; to attach it: {sql}"));
        let text = format!("{}{}", found.message, help.unwrap_or_default());
        lines.push((Level::Problem, text));
    }
    Ok(())
}

/// Whether something on the way, such as a pooler, gives fewer connections at once than the smallest of runs needs:
/// they are opened, for a moment.
async fn too_few(seats: Option<&Seats>, dial: &Dial, tasks: &[&Task]) -> Option<String> {
    let needed = tasks.iter().map(|task| lanes::needed(1, &task.throttle));
    let needed = needed.max()?;
    // What the server itself would refuse is told task by task.
    if seats.is_some_and(|seats| seats.too_few(needed).is_some()) {
        return None;
    }
    let mut had = Vec::new();
    let began = Instant::now();
    for _ in 1..needed {
        let left = COMES_WITHIN.saturating_sub(began.elapsed());
        let why = match timeout(left, Session::open(dial, "maint doctor")).await {
            Ok(Ok(one)) => {
                had.push(one);
                continue;
            }
            Ok(Err(error)) => with_causes(&error),
            Err(_) => format!("no other came within {} s", COMES_WITHIN.as_secs()),
        };
        return Some(format!(
            "a run needs {needed} connections at once, and just now there were {}: {why}; a pooler on the way has to give so many (`pool_size`, `max_client_conn`), besides those of others",
            had.len() + 1
        ));
    }
    None
}

/// Whether there are connections for each task, and who has its lock.
async fn examine_tasks(
    session: &Session,
    seats: Option<&Seats>,
    tasks: &[&Task],
    lines: &mut Vec<Line>,
) -> Result<(), EngineError> {
    for task in tasks {
        // Fewer steps at once will do; without one there is nothing.
        let of = |jobs: u32| seats?.too_few(lanes::needed(jobs, &task.throttle));
        let few = match (of(1), of(task.limits.jobs)) {
            (Some(few), _) => Some((Level::Problem, few, "")),
            (None, Some(few)) => Some((
                Level::Note,
                few,
                "; until then it has fewer steps at work at once",
            )),
            (None, None) => None,
        };
        if let Some((level, few, then)) = few {
            lines.push((level, format!("{}: {few}{then}", task.name)));
        }
        let Some(holder) = claim::holder(session, &task.name).await? else {
            continue;
        };
        lines.push(match holder.stranger {
            None => (
                Level::Note,
                format!("{}: at work just now: {}", task.name, holder.who),
            ),
            Some(why) => (
                Level::Problem,
                format!(
                    "{}: its lock is held by {}, which is no run of maint's as far as can be told: {}; the task does not run until that ends; {}",
                    task.name,
                    holder.who,
                    why,
                    holder.end.unwrap_or_default()
                ),
            ),
        });
    }
    Ok(())
}

/// What holds back VACUUM and concurrent builds just now.
async fn old_transactions(session: &Session, lines: &mut Vec<Line>) -> Result<(), EngineError> {
    let doing = "looking for old transactions";
    for row in session.query(doing, LONG, &[]).await? {
        let text = |column: &str| row.named::<String>(column);
        let pid: i32 = row.named("pid")?;
        let age_s: i64 = row.named("age_s")?;
        let (who, application, state) = (text("role")?, text("application")?, text("state")?);
        lines.push((Level::Note, format!(
            "a transaction is open for {} (pid {pid}, role {who}, {}{state}): it holds back VACUUM and concurrent builds",
            human_duration_ms(age_s.saturating_mul(1000)),
            if application.is_empty() { String::new() } else { format!("{application}, ") },
        )));
    }
    Ok(())
}

/// What is the same in every database of the server.
fn examine_server(session: &Session, lines: &mut Vec<Line>) {
    let server = &session.server;
    let mut say = |level, text: String| lines.push((level, text));
    say(
        Level::Ok,
        format!(
            "PostgreSQL {}, database {}, role {}",
            server.version, server.database, server.role
        ),
    );
    if server.in_recovery {
        say(
            Level::Problem,
            "a standby: only tasks of the kinds integrity and snapshot can run here; for all others point the url at the primary".to_owned(),
        );
    }
    if (140_000..140_004).contains(&server.version_num) {
        say(Level::Problem, "concurrent index builds of 14.0 to 14.3 corrupt indexes: reindex refuses; upgrade to 14.4 or newer".to_owned());
    }
    match server.clock_differs() {
        Some(why) => say(Level::Problem, why),
        None => say(
            Level::Ok,
            "the clocks of this machine and the server agree".to_owned(),
        ),
    }
}

/// What the role cannot see of the sessions of others.
async fn sees_sessions(session: &Session, lines: &mut Vec<Line>) -> Result<(), EngineError> {
    let doing = "asking whose sessions may be seen";
    let seen = session.query(doing, SEES_SESSIONS, &[]).await?;
    let seen = seen.first().map_or(Ok(true), |row| row.get(0))?;
    if !seen {
        let role = Identifier::new(&*session.server.session_role);
        lines.push((
            Level::Note,
            format!(
                "the role does not see what sessions of other roles do: old transactions are not known (`limits.max_transaction_age`), nor how many are active (`throttle.max_active_sessions` fails the step); GRANT pg_read_all_stats TO {role}"
            ),
        ));
    }
    Ok(())
}

/// Whether what the configuration calls replicas are some: limits of their lag rest on that.
async fn replicas(
    target: &Target,
    primary: &Session,
    lines: &mut Vec<Line>,
) -> Result<(), EngineError> {
    for dial in postgres::replicas(target)? {
        let name = dial.describe();
        let replica = match Session::open(&dial, "maint doctor").await {
            Ok(replica) => replica,
            Err(error) => {
                let why = with_causes(&error);
                let text = format!("the replica {name} could not be looked at: {why}");
                lines.push((Level::Problem, text));
                continue;
            }
        };
        let is_one = copies::began_as_one(primary, &replica).await?;
        lines.push(match (is_one, replica.server.in_recovery) {
            (false, _) => (
                Level::Problem,
                format!(
                    "the replica {name} is a copy of another server: limits of its lag say nothing, and nothing is checked there; put `replicas` right"
                ),
            ),
            (true, false) => (
                Level::Problem,
                format!(
                    "the replica {name} is no standby, but takes writes: limits of its lag say nothing; after a failover put `url` and `replicas` right"
                ),
            ),
            (true, true) => (Level::Ok, format!("the replica {name} is a standby of it")),
        });
    }
    Ok(())
}

/// Whether it is known how much is free on the disk of the server.
async fn sees_disk(session: &Session, lines: &mut Vec<Line>) -> Result<(), EngineError> {
    if let Err(why) = disk::free(session).await? {
        lines.push((
            Level::Note,
            format!(
                "how much is free on the disk of the server is not known: {why}. Rebuilds begin without looking, and `throttle.min_free_disk` fails the step, unless `throttle.free_disk_query` answers it"
            ),
        ));
    }
    Ok(())
}
