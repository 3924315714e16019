//! The learning platform: its tables, its rows, and the months that wear it out.
//!
//! Everything is SQL, in the folder beside this file. A line `--> words`
//! begins a step: what follows runs as one batch, the words are its progress.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::DemoError;

/// The scale `maint demo` uses when not told otherwise: loads and ages in
/// well under 30 seconds on two cores, and still leaves indexes of 10 MB.
pub const DEFAULT_SCALE: f64 = 0.2;

const PRELUDE: &str = include_str!("platform/prelude.sql");
const TABLES: &str = include_str!("platform/tables.sql");
const ROWS: &str = include_str!("platform/rows.sql");
const INDEXES: &str = include_str!("platform/indexes.sql");
const AGEING: &str = include_str!("platform/ageing.sql");

/// What integrity looks at pages with, where the server has it.
const EXTENSIONS: &str = "DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck') THEN
        CREATE EXTENSION amcheck;
    END IF;
END $$";

/// The index whose concurrent rebuild was interrupted.
const INTERRUPTED_INDEX: &str = "learning_sessions_started_at_idx";

/// Settings for a cluster that holds the platform: nobody tidies up behind
/// our back, and loading does not wait for checkpoints.
pub fn settings() -> Vec<(String, String)> {
    [
        ("autovacuum", "off"),
        ("shared_buffers", "256MB"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
        // Rows loaded into a table of the same transaction then bypass the log.
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("wal_compression", "off"),
        ("jit", "off"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Creates and fills the platform in an empty database; scale 1 takes about
/// 2.3 GB once it has aged. `progress` is told each step as it begins.
pub async fn load(client: &Client, scale: f64, progress: &dyn Fn(&str)) -> Result<(), DemoError> {
    prepare(client, scale).await?;
    for script in [TABLES, ROWS, INDEXES] {
        run(client, script, progress).await?;
    }
    execute(client, "extensions", EXTENSIONS).await
}

/// Wears the loaded platform out: bloated indexes, dead rows, statistics that
/// are stale or missing, and what an interrupted concurrent rebuild leaves.
pub async fn age(client: &Client, scale: f64, progress: &dyn Fn(&str)) -> Result<(), DemoError> {
    prepare(client, scale).await?;
    run(client, AGEING, progress).await?;
    progress("ageing: a concurrent rebuild is interrupted");
    interrupt_rebuild(client).await?;
    report_activity(client).await
}

async fn prepare(client: &Client, scale: f64) -> Result<(), DemoError> {
    execute(client, "size", &format!("SET maint_demo.scale = '{scale}'")).await?;
    run(client, PRELUDE, &|_| ()).await
}

async fn run(client: &Client, script: &str, progress: &dyn Fn(&str)) -> Result<(), DemoError> {
    for (doing, sql) in steps(script) {
        progress(doing);
        execute(client, doing, sql).await?;
    }
    Ok(())
}

/// The steps of a script: what is being done, and the SQL that does it.
fn steps(script: &str) -> impl Iterator<Item = (&str, &str)> {
    script
        .split("--> ")
        .skip(1)
        .map(|step| step.split_once('\n').unwrap_or((step, "")))
}

async fn execute(client: &Client, doing: &str, sql: &str) -> Result<(), DemoError> {
    client.batch_execute(sql).await.map_err(failed(doing))
}

fn failed(doing: &str) -> impl FnOnce(tokio_postgres::Error) -> DemoError {
    let doing = doing.to_owned();
    move |source| DemoError::Sql { doing, source }
}

/// Leaves the invalid `…_ccnew` of a `REINDEX CONCURRENTLY` that a timeout
/// cut off, as on any system where somebody lost patience.
///
/// How long the interesting part takes depends on the machine, hence the
/// growing timeouts: too short and nothing is left, too long and it is done.
async fn interrupt_rebuild(client: &Client) -> Result<(), DemoError> {
    let doing = "ageing: a concurrent rebuild is interrupted";
    for milliseconds in [2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200] {
        execute(
            client,
            doing,
            &format!("SET statement_timeout = {milliseconds}"),
        )
        .await?;
        let outcome = client
            .batch_execute(&format!("REINDEX INDEX CONCURRENTLY {INTERRUPTED_INDEX}"))
            .await;
        execute(client, doing, "RESET statement_timeout").await?;
        match outcome {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {}
            other => other.map_err(failed(doing))?,
        }
        let left = client
            .query(
                "SELECT 1 FROM pg_class WHERE relname = $1",
                &[&format!("{INTERRUPTED_INDEX}_ccnew")],
            )
            .await
            .map_err(failed(doing))?;
        if !left.is_empty() {
            break;
        }
    }
    Ok(())
}

/// A session hands in its row counts once a second at most, when it becomes
/// idle. Whoever plans right after the ageing has to find all of them.
async fn report_activity(client: &Client) -> Result<(), DemoError> {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    execute(client, "ageing: the row counts are handed in", "SELECT 1").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_its_words_and_its_sql() {
        let script = "-- a comment before\n--> first\nSELECT 1;\n-- why\n--> second\nSELECT 2;\n";
        let found: Vec<_> = steps(script).collect();
        assert_eq!(
            found,
            [("first", "SELECT 1;\n-- why\n"), ("second", "SELECT 2;\n")]
        );
    }
}
