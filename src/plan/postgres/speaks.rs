//! What a session of PostgreSQL is asked whatever the kind.

use async_trait::async_trait;

use super::Body;
use crate::engines::EngineError;
use crate::engines::postgres::{Session, each, trust};
use crate::plan::{Finding, Severity, Speaks};
use crate::values::NamePattern;

/// Patterns, as regular expressions, that no relation goes by.
const UNMET: &str = "SELECT p.place - 1 FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
        WITH ORDINALITY p (schema, name, place)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname::text ~ p.name AND (p.schema IS NULL OR n.nspname::text ~ p.schema))
    ORDER BY p.place";

/// All schemas but those of other sessions' temporary tables.
const SCHEMAS: &str = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n
    WHERE NOT pg_catalog.pg_is_other_temp_schema(n.oid) ORDER BY 1";

/// Whether there is any relation of users: of extensions, of the server, and of other sessions do not count.
const FILLED: &str = "SELECT pg_catalog.current_database()::text, EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'))";

#[async_trait]
impl Speaks for Session {
    type Body = Body;
    type Right = ();

    async fn meeting_nothing(&self, patterns: &[NamePattern]) -> Result<Vec<usize>, EngineError> {
        let (schemas, names): (Vec<_>, Vec<_>) = patterns.iter().map(NamePattern::regexes).unzip();
        let doing = "looking for what `include` and `exclude` name";
        let rows = self.query(doing, UNMET, &[&schemas, &names]).await?;
        each(&rows, |row| {
            Ok(usize::try_from(row.get::<i64>(0)?).unwrap_or(usize::MAX))
        })
    }

    async fn schemas(&self) -> Result<Vec<String>, EngineError> {
        let doing = "looking for what `schemas` names";
        let rows = self.query(doing, SCHEMAS, &[]).await?;
        each(&rows, |row| row.get(0))
    }

    async fn emptiness(&self) -> Result<Option<Finding>, EngineError> {
        let rows = self.query("looking for any table", FILLED, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let (database, filled): (String, bool) = (row.get(0)?, row.get(1)?);
        Ok((!filled).then(|| Finding {
            code: "database.empty".to_owned(),
            severity: Severity::Warning,
            message: format!(
                "the database {database} has no table: there is nothing to look after. Look at the name of the database in the `url` of the target"
            ),
            object: database,
            suggestion: Some("SELECT datname FROM pg_database".to_owned()),
        }))
    }

    async fn of_itself(&self, trust_owners: &[String]) -> Result<Vec<Finding>, EngineError> {
        let codes = trust::at_login(self, trust_owners).await?;
        let told = codes.iter().map(|code| Finding {
            code: trust::AT_LOGIN.to_owned(),
            severity: Severity::Critical,
            object: code.object.clone(),
            message: trust::ran_at_login(code, &self.server),
            suggestion: Some(trust::without_at_login(code)),
        });
        Ok(told.collect())
    }
}
