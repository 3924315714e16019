use std::collections::BTreeSet;

use super::Failure;
use super::context::Context;
use crate::engines::EngineError;
use crate::engines::postgres::{Session, pooler, trust};
use crate::pipeline;
use crate::values::Engine;

/// Versions, privileges, extensions; and what each missing thing costs.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {}

const EXTENSIONS: &str = "SELECT x.name, e.extversion IS NOT NULL, a.name IS NOT NULL
    FROM (VALUES ('pgstattuple'), ('amcheck'), ('pg_stat_statements')) AS x(name)
        LEFT JOIN pg_catalog.pg_extension e ON e.extname = x.name
        LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = x.name";

const TABLES: &str = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

const OWNERSHIP: &str =
    "SELECT count(*) FILTER (WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')), count(*)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

/// Tables whose statistics the role may not see.
const BLIND: &str = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        AND (NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.row_security_active(c.oid))";

impl Doctor {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let mut lines: Vec<(String, &str, String)> = Vec::new();
        let mut code = 0;
        for target in config.targets.values() {
            let name = target.name.clone();
            if !target.configured {
                lines.push((name, "note", "not configured: its url is empty".to_owned()));
                continue;
            }
            if target.engine != Engine::Postgres {
                lines.push((
                    name,
                    "note",
                    "this version of maint cannot look at MongoDB yet".to_owned(),
                ));
                continue;
            }
            let dial = pipeline::dial(target)?;
            match Session::open(&dial, "maint doctor").await {
                Ok(session) => match pooler::refuse(&session, &dial).await {
                    Ok(()) => examine(&name, &session, &target.trust_owners, &mut lines)
                        .await
                        .map_err(pipeline::PipelineError::from)?,
                    Err(error) => {
                        code = 3;
                        lines.push((name, "problem", with_hint(&error)));
                    }
                },
                Err(error) => {
                    code = 3;
                    lines.push((name, "problem", with_hint(&error)));
                }
            }
        }
        if context.json() {
            let list: Vec<_> = lines
                .iter()
                .map(|(target, level, text)| serde_json::json!({"target": target, "level": level, "text": text}))
                .collect();
            outln!("{}", serde_json::json!({ "checks": list }));
        } else {
            for (target, level, text) in &lines {
                outln!("{level:>8}  {target}: {}", crate::report::text::shown(text));
            }
        }
        Ok(code)
    }
}

fn with_hint(error: &EngineError) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// Whose rights are lent to whose code.
async fn trust(
    session: &Session,
    trust_owners: &[String],
    say: &mut impl FnMut(&'static str, String),
) -> Result<(), EngineError> {
    if session.server.superuser {
        say(
            "problem",
            format!(
                "{} is a superuser: whatever hangs on a table would run as one, so that tables of others with code are left alone; docs/security.md says what to grant instead",
                session.server.role
            ),
        );
    }
    let rows = session.query("listing tables", TABLES, &[]).await?;
    let tables: Vec<u32> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    let standing = trust::read(session, &tables, trust_owners).await?;
    let codes = standing.all_code();
    if let Some(first) = codes.first() {
        let mut tables: Vec<String> = codes.iter().map(|c| c.table.to_string()).collect();
        tables.dedup();
        let owners: BTreeSet<&str> = codes.iter().map(|c| c.owner.as_str()).collect();
        let owners: Vec<&str> = owners.into_iter().collect();
        say(
            "note",
            format!(
                "{} tables have code that would run with our rights and is not trusted, of {}; first: {}; they are left alone by what would run it, unless `trust_owners` names its owners",
                tables.len(),
                owners.join(", "),
                first.text()
            ),
        );
    }
    Ok(())
}

async fn examine(
    target: &str,
    session: &Session,
    trust_owners: &[String],
    lines: &mut Vec<(String, &'static str, String)>,
) -> Result<(), EngineError> {
    let server = &session.server;
    let mut say = |level, text: String| lines.push((target.to_owned(), level, text));
    say(
        "ok",
        format!(
            "PostgreSQL {}, database {}, role {}",
            server.version, server.database, server.role
        ),
    );
    if server.in_recovery {
        say(
            "problem",
            "a standby: nothing can be maintained here; point the url at the primary".to_owned(),
        );
    }
    if (140_000..140_004).contains(&server.version_num) {
        say("problem", "concurrent index builds of 14.0 to 14.3 corrupt indexes: reindex refuses; upgrade to 14.4 or newer".to_owned());
    }
    match server.clock_differs() {
        Some(why) => say("problem", why),
        None => say(
            "ok",
            "the clocks of this machine and the server agree".to_owned(),
        ),
    }
    trust(session, trust_owners, &mut say).await?;
    let owned = session.query("counting tables", OWNERSHIP, &[]).await?;
    if let Some(row) = owned.first() {
        let (mine, all): (i64, i64) = (row.get(0), row.get(1));
        let level = if mine < all { "note" } else { "ok" };
        say(
            level,
            format!(
                "the role owns {mine} of {all} tables; the others need a grant (17 and newer: pg_maintain)"
            ),
        );
    }
    let blind = session.query("counting tables", BLIND, &[]).await?;
    if let Some(row) = blind.first() {
        let unseen: i64 = session.column("counting tables", row, 0)?;
        if unseen > 0 {
            say(
                "problem",
                format!(
                    "the role sees no statistics of {unseen} tables: bloat of their indexes is not known; GRANT SELECT on them, or GRANT pg_read_all_data TO {} (pg_maintain does not include that)",
                    crate::engines::postgres::Identifier::new(&*server.role)
                ),
            );
        }
    }
    for row in session
        .query("looking for extensions", EXTENSIONS, &[])
        .await?
    {
        let (name, installed, available): (String, bool, bool) =
            (row.get(0), row.get(1), row.get(2));
        let costs = match name.as_str() {
            "pgstattuple" => "`method: exact` of reindex falls back to estimates",
            "amcheck" => "corruption of tables and indexes cannot be looked for",
            _ => "slow statements cannot be told",
        };
        match (installed, available) {
            (true, _) => say("ok", format!("{name} is installed")),
            (false, true) => say(
                "note",
                format!("{name} is not installed: {costs}; CREATE EXTENSION {name}"),
            ),
            (false, false) => say(
                "note",
                format!("{name} is not available on this server: {costs}"),
            ),
        }
    }
    Ok(())
}
