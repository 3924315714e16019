//! Open advice as one file of SQL for a person to read: what destroys, keeps everybody waiting, or
//! is no SQL at all stands in it as a comment only.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;

use super::context::Context;
use super::{Failure, documents};
use crate::config::Config;
use crate::history::{FindingState, HistoryError, Period, TrackedFinding};
use crate::plan::Severity;
use crate::report::text::shown;
use crate::values::{Engine, wall_clock};

/// All open advice as one SQL file, to be read before it is run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint advise > advice.sql\n  maint advise --target app | less\n  maint plan --from-advice"
)]
pub(super) struct Advise {
    /// Only of this target
    #[arg(long)]
    target: Option<String>,
}

/// More than anybody reads.
const MOST: u32 = 5_000;

impl Advise {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        if let Some(target) = &self.target {
            super::context::known_target(&config, target)?;
        }
        let of_targets = open(&config, self.target.as_deref()).await?;
        if context.json() {
            documents::print(&documents::Advice {
                advice: of_targets.values().flatten().collect(),
            });
            return Ok(0);
        }
        let count: usize = of_targets.values().map(Vec::len).sum();
        outln!(
            "-- Advice of maint, as of {}: {count} in all.\n\
             -- Read each before it runs: what drops or ends something, or blocks everybody, is commented out.",
            wall_clock()
                .with_timezone(&config.timezone)
                .format("%Y-%m-%d %H:%M %Z")
        );
        let mut asked = config.targets.values().filter(|one| {
            self.target
                .as_ref()
                .is_none_or(|target| one.name == *target || one.server() == target)
        });
        let only_mongodb = asked.all(|one| one.engine == Engine::Mongodb);
        outln!(
            "{}",
            match only_mongodb {
                true =>
                    "-- None of it is SQL: it is for mongosh, connected to the database of the target.",
                false => "-- Run with psql, without --single-transaction: CONCURRENTLY needs none.",
            }
        );
        for (target, list) in &of_targets {
            outln!("\n-- ===== target {} =====", shown(target));
            let mut given: BTreeSet<&str> = BTreeSet::new();
            for one in list {
                let suggestion = one.suggestion.as_deref().unwrap_or_default().trim();
                out!("{}", entry(one, !given.insert(suggestion)));
            }
        }
        Ok(0)
    }
}

/// The findings with advice that are still so, by target.
pub(super) async fn open(
    config: &Config,
    target: Option<&str>,
) -> Result<BTreeMap<String, Vec<TrackedFinding>>, Failure> {
    let store = match crate::history::open_existing(config.history.expose()).await {
        Err(HistoryError::Missing { .. }) => return Err(HistoryError::NoRuns.into()),
        opened => opened?,
    };
    let period = Period {
        since: DateTime::UNIX_EPOCH,
        until: wall_clock() + chrono::TimeDelta::seconds(1),
    };
    let tasks: Vec<String> = config.tasks.keys().cloned().collect();
    let tracked = store
        .summaries()
        .tracked_findings(&period, &tasks, MOST)
        .await?;
    let known = crate::history::with_known_databases(config, store.as_ref()).await?;
    store.close().await;
    let open = tracked.listed.into_iter().filter(|one| {
        one.state != FindingState::Gone
            && !known.is_gone(&one.target)
            && one.suggestion.is_some()
            && target.is_none_or(|target| target == one.target)
    });
    let mut of_targets: BTreeMap<String, Vec<TrackedFinding>> = BTreeMap::new();
    for one in open {
        of_targets.entry(one.target.clone()).or_default().push(one);
    }
    Ok(of_targets)
}

/// Whether it is SQL that takes nothing away and keeps nobody waiting.
pub(super) fn may_run(suggestion: &str) -> bool {
    is_sql(suggestion) && !destroys(suggestion) && !blocks(suggestion)
}

/// The evidence as a comment, then the statement, unless it is `above` already.
fn entry(one: &TrackedFinding, above: bool) -> String {
    let severity = match one.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let mut text = format!(
        "\n-- {severity} {} {}\n--   {}\n--   seen by run {}\n",
        one.code,
        shown(&one.object),
        shown(&one.message),
        one.run
    );
    let suggestion = one.suggestion.as_deref().unwrap_or_default().trim();
    if above {
        text.push_str("-- What helps is above.\n");
        return text;
    }
    let safe = may_run(suggestion);
    if is_sql(suggestion) && blocks(suggestion) {
        text.push_str("-- It blocks everybody who reads or writes the table while it runs:\n");
    }
    for line in suggestion.lines() {
        // A control character within a name cannot be shown as it is: then it is not SQL any more.
        let line = shown(line);
        match safe {
            true => text.push_str(&line),
            false => text.push_str(&format!("-- {line}")),
        }
        text.push('\n');
    }
    // Whoever takes the dashes away has a statement.
    if (safe || is_sql(suggestion)) && !suggestion.ends_with(';') {
        text.pop();
        text.push_str(";\n");
    }
    text
}

fn first_word(text: &str) -> String {
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn is_sql(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "ALTER", "ANALYZE", "CLUSTER", "COMMENT", "CREATE", "DROP", "GRANT", "REFRESH", "REINDEX",
        "REPACK", "REVOKE", "SELECT", "SET", "VACUUM",
    ];
    // Advice in words may begin like a statement, though not in capitals.
    WORDS.contains(&first_word(text).as_str())
        && !text.contains('`')
        && !text.contains(|c: char| c.is_control() && c != '\n')
}

/// The text without what stands in double quotes: names, whatever is in them.
fn unnamed(text: &str) -> String {
    text.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// Whether others have to wait for as long as it takes to write a table anew, or to read it.
fn blocks(text: &str) -> bool {
    let upper = unnamed(text).to_ascii_uppercase();
    upper.split(';').map(str::trim).any(|one| {
        let within = |words: &[&str]| words.iter().any(|word| one.contains(word));
        let begins = |word: &str| one.starts_with(word);
        let concurrently = within(&["CONCURRENTLY"]);
        let adds = within(&[
            " ADD CONSTRAINT ",
            " ADD PRIMARY KEY",
            " ADD UNIQUE",
            " ADD FOREIGN KEY",
            " ADD CHECK",
            " ADD EXCLUDE",
        ]) && !within(&["NOT VALID", " USING INDEX "]);
        let anew = within(&[" TYPE ", " SET TABLESPACE ", " SET LOGGED", " SET UNLOGGED"]);
        within(&["VACUUM FULL", "VACUUM (FULL"])
            || begins("CLUSTER")
            || (begins("CREATE INDEX") || begins("CREATE UNIQUE INDEX")) && !concurrently
            || (begins("REINDEX") || begins("REPACK")) && !concurrently
            || begins("ALTER ") && !begins("ALTER SEQUENCE") && (anew || adds)
    })
}

/// Whether somebody would miss what it takes away, or a role becomes mighty by it.
fn destroys(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    [
        "DROP ",
        "DETACH PARTITION",
        "DELETE ",
        "TRUNCATE ",
        "PG_TERMINATE_BACKEND",
        "PG_CANCEL_BACKEND",
        "PG_DROP_REPLICATION_SLOT",
        "ROLLBACK PREPARED",
        "REVOKE ",
        "BYPASSRLS",
        "SUPERUSER",
    ]
    .iter()
    .any(|word| upper.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_destroys_or_is_no_sql_is_a_comment() {
        let told = |suggestion: &str| {
            let text = entry(
                &TrackedFinding {
                    state: FindingState::Open,
                    code: "index.unused".to_owned(),
                    severity: Severity::Info,
                    target: "app".to_owned(),
                    object: "public.a\n; DROP TABLE x".to_owned(),
                    message: "never used".to_owned(),
                    suggestion: Some(suggestion.to_owned()),
                    run: uuid::Uuid::nil(),
                },
                false,
            );
            text.lines()
                .filter(|line| !line.is_empty() && !line.starts_with("--"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            told("CREATE INDEX CONCURRENTLY ON a (b)"),
            ["CREATE INDEX CONCURRENTLY ON a (b);"]
        );
        assert_eq!(told("DROP INDEX CONCURRENTLY a"), [""; 0]);
        assert_eq!(told("ALTER ROLE a BYPASSRLS"), [""; 0]);
        assert_eq!(told("VACUUM (FULL, ANALYZE) a"), [""; 0]);
        for blocking in [
            "CLUSTER a USING b",
            "REINDEX INDEX a",
            "REINDEX (VERBOSE) TABLE a",
            "REPACK a",
            "ALTER TABLE a ADD CONSTRAINT b CHECK (c > 0)",
            "ALTER TABLE a ADD PRIMARY KEY (b)",
            "ALTER TABLE a SET TABLESPACE b",
            "ALTER MATERIALIZED VIEW a SET TABLESPACE b",
            "CREATE INDEX CONCURRENTLY ON a (b); REINDEX INDEX c",
            "CREATE INDEX ON a (b)",
            "CREATE UNIQUE INDEX ON \"concurrently\" (b)",
            "REINDEX INDEX \"concurrently\"",
            "ALTER TABLE \"a;b\" ALTER COLUMN c TYPE bigint",
        ] {
            assert_eq!(told(blocking), [""; 0], "{blocking}");
        }
        for free in [
            "REINDEX INDEX CONCURRENTLY a",
            "REINDEX (CONCURRENTLY) INDEX a",
            "REPACK (CONCURRENTLY) a",
            "ALTER TABLE a ADD CONSTRAINT b CHECK (c > 0) NOT VALID",
            "ALTER TABLE a ADD CONSTRAINT b PRIMARY KEY USING INDEX c",
            "ALTER TABLE a VALIDATE CONSTRAINT b",
        ] {
            assert_eq!(told(free), [format!("{free};")]);
        }
        assert_eq!(
            told("ALTER TABLE a ALTER COLUMN b TYPE bigint; ALTER SEQUENCE c AS bigint"),
            [""; 0]
        );
        assert_eq!(
            told("ALTER SEQUENCE c AS bigint"),
            ["ALTER SEQUENCE c AS bigint;"]
        );
        assert_eq!(told("SELECT pg_terminate_backend(1)"), [""; 0]);
        assert_eq!(told("ALTER TABLE a DETACH PARTITION b"), [""; 0]);
        let slot = "SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s";
        assert_eq!(told(slot), [""; 0]);
        assert_eq!(told("set `replicas`"), [""; 0]);
        assert_eq!(told("SET `replicas`"), [""; 0]);
        assert_eq!(told("look at the disk"), [""; 0]);
    }
}
