//! Checks of domains that values from before them are not held to.

use super::super::common::Selection;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::NOT_SYSTEM_SCHEMA;
use crate::engines::postgres::{Identifier, RelationName, Session, each};
use crate::plan::{Finding, Severity};

/// A constraint of a domain that was never validated.
#[derive(Clone, Debug)]
pub(super) struct DomainCheck {
    domain: RelationName,
    name: Identifier,
}

const CHECKS: &str = "SELECT n.nspname::text, t.typname::text, k.conname::text
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_type t ON t.oid = k.contypid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE NOT k.convalidated AND {not_system} ORDER BY 1, 2, 3";

pub(super) async fn read(db: &Session) -> Result<Vec<DomainCheck>, EngineError> {
    let sql = CHECKS.replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let rows = db.query("reading checks of domains", &sql, &[]).await?;
    each(&rows, |row| {
        Ok(DomainCheck {
            domain: RelationName::new(row.get::<String>(0)?, row.get::<String>(1)?),
            name: Identifier::new(row.get::<String>(2)?),
        })
    })
}

/// What is to be said of them.
pub(super) fn not_valid(checks: &[DomainCheck], selection: &Selection<'_>) -> Vec<Finding> {
    let ours = checks.iter().filter(|one| selection.covers(&one.domain));
    ours.map(|DomainCheck { domain, name }| Finding {
        code: "constraint.not_valid".to_owned(),
        severity: Severity::Warning,
        object: format!("{domain}.{name}"),
        message: format!(
            "{name} of the domain {domain} is NOT VALID: it holds for new values only, and those from before it are looked at by nobody"
        ),
        // It fails where a value violates it.
        suggestion: Some(format!(
            "when the tables that use the domain may be kept from being written to while they are read, by hand: ALTER DOMAIN {domain} VALIDATE CONSTRAINT {name}"
        )),
    })
    .collect()
}
