//! Whose the history is. Whoever owns its schema or its tables, or hangs code
//! on them, would have that code run with our rights, and could tell us that
//! things ran which never did. So the catalog is asked before anything is read
//! or written there.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::types::Oid;
use sqlx::{PgConnection, Row};

use super::scalar;
use crate::engines::postgres::Identifier;
use crate::engines::postgres::trust::{CODE, STRANGERS};
use crate::history::HistoryError;

/// With `$1` only those that we could write to.
const RELATIONS: &str = "SELECT c.oid FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'maint' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND (NOT $1::bool OR pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE'))";

/// The owner of the schema, unless that is somebody who has our rights anyway,
/// or who owns the first of our tables, which is judged with the others.
const SCHEMA: &str = "SELECT r.rolname::text FROM pg_catalog.pg_namespace n
        JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
    WHERE n.nspname = 'maint' AND NOT r.rolsuper
        AND NOT pg_catalog.pg_has_role(r.oid, current_user, 'USAGE')
        AND (pg_catalog.has_schema_privilege(n.oid, 'CREATE') OR EXISTS (SELECT FROM pg_catalog.pg_class c
            WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v')
                AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
            WHERE c.relnamespace = n.oid AND c.relname = 'migrations' AND c.relowner = n.nspowner)";

const ROLE: &str = "SELECT current_user::text";

/// What is going to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Rows are read: by who may not write, too, in tables that are not theirs.
    Reading,
    /// Rows are written.
    Writing,
    /// Tables are made or changed.
    Migrating,
}

/// For what the history was found to be ours since it was opened.
#[derive(Debug, Default)]
pub(super) struct Known {
    read: AtomicBool,
    written: AtomicBool,
}

impl Known {
    /// Refuses a history that belongs to others, once for each store.
    pub(super) async fn refuse_strangers(
        &self,
        connection: &mut PgConnection,
        place: &str,
        operation: &'static str,
        what_for: For,
    ) -> Result<(), HistoryError> {
        let known = match what_for {
            For::Reading => &self.read,
            For::Writing | For::Migrating => &self.written,
        };
        if !known.load(Ordering::Relaxed) {
            refuse_strangers(connection, place, operation, what_for).await?;
            known.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Hooks that run where rows are only read.
const PLANNED: [&str; 9] = [
    "index",
    "statistics",
    "check",
    "partition_key",
    "policy",
    "operator_class",
    "type",
    "view",
    "foreign",
];

/// The same, always.
pub(super) async fn refuse_strangers(
    connection: &mut PgConnection,
    place: &str,
    operation: &'static str,
    what_for: For,
) -> Result<(), HistoryError> {
    let failed = |error| HistoryError::from_postgres(place, operation, error);
    let reads = what_for == For::Reading;
    let schema: Option<String> = match reads {
        true => None,
        false => scalar(SCHEMA)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?,
    };
    let mut found = schema.map(|owner| ("the schema maint".to_owned(), owner));
    let any: Option<bool> = scalar(STRANGERS)
        .bind(Vec::<String>::new())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    if found.is_none() && any != Some(false) {
        let relations: Vec<Oid> = scalar(RELATIONS)
            .bind(!reads)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let rows = sqlx::query(CODE)
            .persistent(false)
            .bind(Vec::<String>::new())
            .bind(relations)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        // Who owns the table comes before what hangs on it.
        let mut worst = None;
        for row in &rows {
            let text = |column| row.try_get::<String, &str>(column).map_err(failed);
            let hook = text("hook")?;
            let counts = match (hook.as_str(), what_for) {
                ("event_trigger", _) => what_for == For::Migrating,
                // It runs whenever one of us connects.
                ("login_trigger", _) => true,
                // A view calls what its owner says with the rights of who reads it.
                ("owner", For::Reading) => !matches!(text("object")?.as_str(), "r" | "p"),
                // No foreign key asks another table for who only reads.
                (hook, For::Reading) => {
                    PLANNED.contains(&hook)
                        && !matches!(text("via")?.as_str(), "referencing" | "referenced")
                }
                _ => true,
            };
            if !counts {
                continue;
            }
            let table = format!(
                "{}.{}",
                Identifier::new(text("schema")?),
                Identifier::new(text("name")?)
            );
            let what = match hook.as_str() {
                "owner" => format!("the table {table}"),
                "event_trigger" => {
                    format!("the event trigger {}", Identifier::new(text("object")?))
                }
                "login_trigger" => {
                    format!("the login trigger {}", Identifier::new(text("object")?))
                }
                hook => format!(
                    "code in the {hook} {} of {table}",
                    Identifier::new(text("object")?)
                ),
            };
            let place = u8::from(hook != "owner");
            let one = (place, what, text("owner")?);
            worst = Some(worst.map_or(one.clone(), |known| one.min(known)));
        }
        found = worst.map(|(_, what, owner)| (what, owner));
    }
    let Some((what, owner)) = found else {
        return Ok(());
    };
    let role: String = scalar(ROLE)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    Err(HistoryError::NotOurs {
        place: place.to_owned(),
        what,
        owner,
        role,
    })
}
