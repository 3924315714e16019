//! What belongs to the whole server, where it has many databases that are looked after: the age
//! of the oldest rows in each of them, and settings by which all of them may lose data.

use super::tables::AGE_CRITICAL;
use super::{Snapshot, count};
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Session, each};
use crate::plan::{Finding, Measurement, Plan, Severity};

/// So many databases are named with their age.
const MOST: usize = 20;

/// The server as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    ages: Vec<Age>,
    /// Settings that are switched off, and what that may cost.
    off: Vec<(String, String)>,
}

/// How old the oldest rows of a database are, in transactions.
#[derive(Clone, Debug)]
struct Age {
    database: String,
    age: i64,
    multixact_age: i64,
    /// Whether anybody can connect to it and do something about that.
    open: bool,
}

// Every database counts: the oldest of them, whoever looks after it, is what stops all.
const AGES: &str = "SELECT d.datname::text AS database, pg_catalog.age(d.datfrozenxid)::int8 AS age,
        pg_catalog.mxid_age(d.datminmxid)::int8 AS multixact_age, d.datallowconn AS open
    FROM pg_catalog.pg_database d
    ORDER BY greatest(pg_catalog.age(d.datfrozenxid), pg_catalog.mxid_age(d.datminmxid)) DESC, database";

const OFF: &str = "SELECT s.name, w.costs
    FROM pg_catalog.pg_settings s JOIN (VALUES
        ('fsync', 'a crash of the machine may damage every database'),
        ('full_page_writes', 'a crash in the middle of writing a page may damage it'),
        ('autovacuum', 'nothing removes dead rows and freezes old ones between the runs of maint'),
        ('track_counts', 'nobody knows which tables have changed: neither autovacuum nor maint')) AS w(name, costs)
        ON w.name = s.name
    WHERE s.setting = 'off' ORDER BY 1";

pub(super) async fn read(db: &Session) -> Result<Server, EngineError> {
    let ages = db.query("reading the age of databases", AGES, &[]).await?;
    let off = db.query("reading settings", OFF, &[]).await?;
    Ok(Server {
        ages: each(&ages, |row| {
            Ok(Age {
                database: row.named("database")?,
                age: row.named("age")?,
                multixact_age: row.named("multixact_age")?,
                open: row.named("open")?,
            })
        })?,
        off: each(&off, |row| Ok((row.get(0)?, row.get(1)?)))?,
    })
}

impl Server {
    pub(super) fn databases(&self) -> usize {
        self.ages.len()
    }

    pub(super) fn judge(&self, options: &Snapshot, plan: &mut Plan) {
        let limit = i64::try_from(options.max_freeze_age).unwrap_or(i64::MAX);
        let worst = |one: &Age| one.age.max(one.multixact_age);
        if let Some(oldest) = self.ages.iter().map(worst).max() {
            plan.measurements.push(Measurement {
                metric: "freeze.age".to_owned(),
                object: String::new(),
                value: oldest as f64,
            });
        }
        let old = self.ages.iter().filter(|one| worst(one) > limit);
        for one in old.take(MOST) {
            let age = worst(one);
            let what = match one.age >= one.multixact_age {
                true => "transaction",
                false => "multixact",
            };
            let name = Identifier::new(&*one.database);
            let closed = match one.open {
                true => "",
                false => "; it accepts no connections, so that only autovacuum can freeze it",
            };
            plan.findings.push(Finding {
                code: "freeze.age".to_owned(),
                severity: match age >= AGE_CRITICAL {
                    true => Severity::Critical,
                    false => Severity::Warning,
                },
                object: one.database.clone(),
                message: format!(
                    "the oldest {what} id of the database {name} is {} old; at about 2.1 G the server stops accepting writes, in all of its databases{closed}",
                    count(age)
                ),
                suggestion: None,
            });
        }
        for (setting, costs) in &self.off {
            plan.findings.push(Finding {
                code: "setting.unsafe".to_owned(),
                severity: Severity::Warning,
                object: setting.clone(),
                message: format!("`{setting}` is off: {costs}"),
                suggestion: Some(format!("ALTER SYSTEM SET {setting} = on")),
            });
        }
    }
}
