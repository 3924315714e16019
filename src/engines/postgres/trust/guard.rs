use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::first;
use super::{Code, Standing, Touch, Use, read};
use crate::engines::EngineError;
use crate::engines::postgres::Session;

/// Keeps an owner who is not trusted from adding code between the look and the
/// statement: taken first in each transaction that touches the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guard {
    /// What the transaction touches.
    pub touches: Vec<Touch>,
    /// The tables whose definition must not change meanwhile.
    pub locks: Vec<Locked>,
    /// Roles whose code may run.
    pub trust_owners: Vec<String>,
}

/// A table that is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Locked {
    /// Its id.
    pub relation: u32,
    /// Its name, quoted and qualified.
    pub name: String,
}

impl Guard {
    /// One guard for what all of these are for; `None` where there are none.
    pub fn of_all(guards: &[&Guard]) -> Option<Guard> {
        let (first, others) = guards.split_first()?;
        let mut all = Guard::clone(first);
        for guard in others {
            all.touches.extend(&guard.touches);
            let new = guard.locks.iter().filter(|lock| !all.locks.contains(lock));
            let new: Vec<Locked> = new.cloned().collect();
            all.locks.extend(new);
        }
        all.locks.sort_by_key(|lock| lock.relation);
        Some(all)
    }

    /// Takes the locks in the transaction that is open, and looks again. What
    /// came in since the plan was made, such as the partition that the step
    /// before this one made, is locked and looked at like the others.
    ///
    /// # Errors
    /// When the locks cannot be had, or code is there that is not trusted.
    pub async fn take(&self, session: &Session) -> Result<(), EngineError> {
        let mut relations: Vec<u32> = self.touches.iter().map(|t| t.relation).collect();
        relations.sort_unstable();
        relations.dedup();
        let mut held = self.locks.clone();
        lock(session, &held).await?;
        for round in 0..MOST_ROUNDS {
            let standing = read(session, &relations, &self.trust_owners).await?;
            objections(&standing, &self.touches)?;
            let now = standing.guard(&self.touches);
            let mut new = now.map(|guard| guard.locks).unwrap_or_default();
            new.retain(|lock| !held.contains(lock));
            let Some(first) = new.first() else {
                return Ok(());
            };
            if round + 1 == MOST_ROUNDS || !sees_what_is_new(session).await? {
                return Err(EngineError::UntrustedCode {
                    what: format!(
                        "{} came in, or was renamed, after the plan was made",
                        first.name
                    ),
                });
            }
            lock(session, &new).await?;
            held.extend(new);
        }
        Ok(())
    }
}

/// So often what came in is locked and looked at. The locks of the first round
/// keep more from coming.
const MOST_ROUNDS: usize = 3;

/// Whether a second look in the transaction that is open sees what was
/// committed after the first: a snapshot that is kept would show the tables as
/// they were before they were locked.
async fn sees_what_is_new(session: &Session) -> Result<bool, EngineError> {
    let doing = "asking for the isolation level";
    let sql = "SELECT pg_catalog.current_setting('transaction_isolation') LIKE 'read %'";
    let rows = session.query(doing, sql, &[]).await?;
    Ok(first(&rows, 0)?.unwrap_or(false))
}

/// Takes the locks: such that nobody adds an index, statistics, a trigger,
/// a constraint or a partition, while rows are read and written as ever.
async fn lock(session: &Session, locks: &[Locked]) -> Result<(), EngineError> {
    let names: Vec<String> = locks.iter().map(|l| format!("ONLY {}", l.name)).collect();
    let sql = format!(
        "LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE",
        names.join(", ")
    );
    let doing = "keeping the tables' definitions as they are";
    match session.execute(doing, &sql).await {
        Ok(_) => Ok(()),
        Err(error) if error.sqlstate() == Some("42501") => Err(not_ours_to_lock(session, locks)),
        Err(error) => Err(error),
    }
}

fn not_ours_to_lock(session: &Session, locks: &[Locked]) -> EngineError {
    let names: Vec<&str> = locks.iter().map(|l| l.name.as_str()).collect();
    let names = names.join(", ");
    let server = &session.server;
    let privilege = if server.major() >= 17 {
        "MAINTAIN"
    } else {
        "UPDATE"
    };
    EngineError::NotVisible {
        what: format!(
            "{names} may get code of an owner who is not trusted at any moment, and {role} may not lock it to keep that from happening; GRANT {privilege} ON {names} TO {role}, or name the owner under `trust_owners`",
            role = crate::engines::postgres::Identifier::new(&server.role)
        ),
    }
}

/// Looks at one table, in the transaction that is open and is going to touch
/// it: whose code would run, and keeps it so to the end of the transaction.
/// `name` is quoted and qualified; a table that does not exist is no objection.
///
/// # Errors
/// When the locks cannot be had, or code is there that is not trusted.
pub async fn admit(
    session: &Session,
    name: &str,
    uses: &[Use],
    trust_owners: &[String],
) -> Result<(), EngineError> {
    let sql =
        "SELECT coalesce(pg_catalog.to_regclass($1::text)::pg_catalog.oid, 0::pg_catalog.oid)";
    let doing = "looking for the table";
    let rows = session.query(doing, sql, &[&name]).await?;
    let relation = first(&rows, 0)?.unwrap_or(0);
    let touches: Vec<Touch> = uses.iter().map(|how| Touch::new(relation, *how)).collect();
    let standing = read(session, &[relation], trust_owners).await?;
    objections(&standing, &touches)?;
    match standing.guard(&touches) {
        Some(guard) => guard.take(session).await,
        None => Ok(()),
    }
}

fn objections(standing: &Standing, touches: &[Touch]) -> Result<(), EngineError> {
    let codes = touches.iter().flat_map(|touch| standing.code(*touch));
    let mut found: Vec<String> = codes.map(Code::text).collect();
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Ok(());
    }
    Err(EngineError::UntrustedCode {
        what: found.join("; "),
    })
}
