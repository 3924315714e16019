//! What only PostgreSQL's targets are asked for, outside of runs.

mod checkup;

use std::time::Duration;

use serde_json::Value;

use super::PipelineError;
use super::error::configured;
use super::lanes;
use crate::config::{Target, Throttle};
use crate::engines::EngineError;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::seats::Seats;
use crate::engines::postgres::{Session, copies, meaning, pooler};
use crate::execute::postgres;
use crate::plan::postgres::Under;

/// Resolves how to reach a target.
///
/// # Errors
/// When it has no URL, or one that makes no sense.
pub fn dial(target: &Target) -> Result<Dial, PipelineError> {
    configured(target)?;
    Ok(postgres::dial(target)?)
}

pub(super) use checkup::examine;

/// A session with the primary, for who looks at a target outside of runs; `last` is where runs have
/// worked last.
async fn open(dial: &Dial, name: &str, last: Option<&Value>) -> Result<Session, EngineError> {
    let session = Session::open(dial, name).await?;
    pooler::refuse(&session, dial).await?;
    copies::none_left_behind(dial, name, &session, last).await?;
    Ok(session)
}

/// Who and what is there.
pub(super) async fn introduce(
    target: &Target,
    last: Option<&Value>,
) -> Result<String, PipelineError> {
    let dial = dial(target)?;
    let session = open(&dial, "maint check", last).await?;
    let server = &session.server;
    let mut text = format!(
        "PostgreSQL {} at {}, role {}",
        server.version,
        dial.describe(),
        server.role
    );
    if server.superuser {
        text.push_str(" (a superuser, which is more than maint needs: see `maint doctor`)");
    }
    if server.in_recovery {
        text.push_str(", a standby: only what reads can run here");
    }
    let seats = Seats::of(&session).await?;
    if let Some(few) = seats.and_then(|seats| seats.too_few(lanes::needed(1, &Throttle::default())))
    {
        text.push_str(&format!("; {few}"));
    }
    Ok(text)
}

/// So many targets are taken from one query: hundreds of times what its answer may be long.
const MOST_ROWS: usize = 100_000;

/// What a query for targets answers: a row as a JSON object each. It is asked in a read-only
/// transaction that is rolled back.
pub(super) async fn targets(
    target: &Target,
    query: &str,
    limit: Duration,
) -> Result<Vec<String>, PipelineError> {
    let session = Session::open(&dial(target)?, "maint asks for targets").await?;
    let meaning = meaning::of(&session, &[query], &[]).await?;
    if let Some(why) = meaning.refused {
        return Err(EngineError::NotVisible {
            what: format!("the query cannot be asked: {why}"),
        }
        .into());
    }
    let under = Under {
        schemas: meaning.schemas,
        all_rows: true,
        their_time: true,
    };
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = '1s'; {}",
        limit.as_millis().clamp(1, i32::MAX as u128),
        under.settings("SET LOCAL")
    );
    // It may end in a comment, or as a statement does.
    let query = query.trim_end().trim_end_matches(';');
    let sql = format!(
        "SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.to_jsonb(q))::text FROM (\n{query}\n) q LIMIT {MOST_ROWS}"
    );
    let doing = "asking for targets";
    session.execute(doing, &begin).await?;
    let rows = session.query(doing, &sql, &[]).await?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}
