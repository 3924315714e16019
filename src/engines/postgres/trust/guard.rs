//! What holds between the look at whose code would run and the statement that would run it: locks,
//! and one more look under them.

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
    /// Tables that are written to by their names, whatever has these by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<Named>,
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

/// A table that goes by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Its name, quoted and qualified.
    pub name: String,
    /// How it is touched.
    pub how: Use,
}

impl Guard {
    /// One guard for what all of these are for; `None` where there are none. It is for
    /// who only counts rows: what would be written to may not be there yet.
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
        all.named.clear();
        Some(all)
    }

    /// Takes the locks in the transaction that is open, and looks again. What
    /// came in since the plan was made, such as the partition that the step
    /// before this one made, is locked and looked at like the others.
    ///
    /// # Errors
    /// When the locks cannot be had, or code is there that is not trusted.
    pub async fn take(&self, session: &Session) -> Result<(), EngineError> {
        // All locks come before any question: in a snapshot that is kept, the answers are
        // as old as the first of them.
        hold(session, &self.named).await?;
        if !self.locks.is_empty() {
            lock(session, &self.locks).await?;
            still_those(session, &self.locks).await?;
        }
        let mut touches = self.touches.clone();
        for named in &self.named {
            let rows = session.query(MEANT, NAMED, &[&named.name]).await?;
            touches.push(Touch::new(first(&rows, 0)?.unwrap_or(0), named.how));
        }
        let mut relations: Vec<u32> = touches.iter().map(|t| t.relation).collect();
        relations.sort_unstable();
        relations.dedup();
        let mut held = self.locks.clone();
        for round in 0..MOST_ROUNDS {
            let standing = read(session, &relations, &self.trust_owners).await?;
            objections(&standing, &touches)?;
            let now = standing.guard(&touches);
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
            still_those(session, &new).await?;
            held.extend(new);
        }
        Ok(())
    }
}

/// Keeps what goes by a name from being dropped, renamed or replaced.
async fn hold(session: &Session, named: &[Named]) -> Result<(), EngineError> {
    if named.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = named.iter().map(|n| format!("ONLY {}", n.name)).collect();
    // Enough for that, and whoever reads back what was stored may have it.
    let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
    session.execute(MEANT, &sql).await.map(drop)
}

const MEANT: &str = "keeping the table that its name means";

/// The relation that a name means, and whether it can be locked; 0 where there is none.
const NAMED: &str = "SELECT n.oid, EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = n.oid AND c.relkind IN ('r', 'p', 'v'))
    FROM (SELECT coalesce(pg_catalog.to_regclass($1::text)::pg_catalog.oid, 0::pg_catalog.oid)) AS n (oid)";

/// Names that mean another relation than the one that was looked at.
const OTHERS: &str = "SELECT l.name FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::text[])) AS l (relation, name)
    WHERE pg_catalog.to_regclass(l.name)::pg_catalog.oid IS DISTINCT FROM l.relation ORDER BY 1 LIMIT 1";

/// Whether the tables that are locked are those that were looked at: by its
/// name a lock takes whatever has the name.
async fn still_those(session: &Session, locks: &[Locked]) -> Result<(), EngineError> {
    let relations: Vec<u32> = locks.iter().map(|l| l.relation).collect();
    let names: Vec<&str> = locks.iter().map(|l| l.name.as_str()).collect();
    let doing = "looking whether the tables are the same";
    let rows = session.query(doing, OTHERS, &[&relations, &names]).await?;
    match first::<String>(&rows, 0)? {
        None => Ok(()),
        Some(name) => Err(EngineError::UntrustedCode {
            what: format!("{name} is another table than when the plan was made"),
        }),
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
    let rows = session.query(MEANT, NAMED, &[&name]).await?;
    let relation = first(&rows, 0)?.unwrap_or(0);
    let touches = |relation| uses.iter().map(move |how| Touch::new(relation, *how));
    if first(&rows, 1)?.unwrap_or(false) {
        let named = uses.iter().map(|how| Named {
            name: name.to_owned(),
            how: *how,
        });
        let guard = Guard {
            touches: Vec::new(),
            locks: Vec::new(),
            named: named.collect(),
            trust_owners: trust_owners.to_vec(),
        };
        return guard.take(session).await;
    }
    let standing = read(session, &[relation], trust_owners).await?;
    objections(&standing, &touches(relation).collect::<Vec<_>>())
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
