//! Whose code a statement of ours would run. Triggers, expressions of indexes
//! and statistics, constraints, defaults, policies, rules and domains run with
//! the rights of whoever touches the table, even when that only asks for an
//! estimate. So the catalog is asked before.

mod guard;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RelationName, Row, Server, Session};
use crate::engines::EngineError;

pub use guard::{Guard, Locked, Named, admit};

/// Asks whether anything belongs to a role that is not trusted: where nothing does, no code can be found
/// whose owner is not, and the question for it, a hundred times as long, would find none.
pub(crate) const STRANGERS: &str =
    concat!(include_str!("whose.sql"), include_str!("strangers.sql"));

/// Asks for code and owners; see there what is asked.
pub(crate) const CODE: &str = concat!(include_str!("whose.sql"), include_str!("code.sql"));

/// The code of the finding for what is left alone because of such code.
pub const FINDING: &str = "role.untrusted_code";

/// The code of the finding for what has run before anything could be asked.
pub const AT_LOGIN: &str = "role.login_trigger";

/// As what an event trigger hangs that runs when a session begins.
const LOGIN: &str = "login_trigger";

/// How a relation is touched; decides which code could run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Its rows are read, or the planner is asked about that.
    Read,
    /// Rows are deleted, with all that foreign keys make of it.
    Delete,
    /// Rows are written.
    Insert,
    /// Rows are written again, and no key among them changes.
    Rewrite,
    /// Its definition changes, and rows may be read and moved on the way.
    Define,
    /// Objects are made, changed or dropped, and no row is touched.
    Command,
}

/// A relation and how it is touched.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Touch {
    /// Its id; 0 for no relation in particular.
    pub relation: u32,
    /// How.
    pub how: Use,
}

impl Touch {
    /// `relation` is touched in the way `how`.
    pub fn new(relation: u32, how: Use) -> Self {
        Touch { relation, how }
    }
}

/// Code that would run with our rights, and is not trusted with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// What was asked about; 0 for the whole database.
    pub root: u32,
    /// Where it hangs.
    pub table: RelationName,
    /// How one gets from `root` to `table`: `self`, `cascade`, `above`, `query`; `referencing` where a
    /// foreign key leads from it to `root`, `referenced` where one of `root` leads to it.
    pub via: String,
    /// As what it hangs there: `trigger`, `index`, …
    pub hook: String,
    /// Name of the trigger, index, column, …
    pub object: String,
    /// The function that is called; quoted and qualified.
    pub function: Option<String>,
    /// Whose code it is.
    pub owner: String,
}

/// A relation of an owner who is not trusted, whatever hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// What was asked about.
    pub root: u32,
    /// Its id.
    pub relation: u32,
    /// Its name.
    pub table: RelationName,
    /// As of [`Code::via`].
    pub via: String,
    /// `pg_class.relkind`.
    pub kind: String,
    /// Its owner.
    pub owner: String,
}

/// What the catalog says of code and owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    codes: Vec<Code>,
    strangers: Vec<Stranger>,
    trust_owners: Vec<String>,
    /// Whose rights are at stake.
    pub role: String,
    /// Whether those are a superuser's.
    pub superuser: bool,
}

/// Asks one question about all relations: whose they are, what inherits from
/// them and what foreign keys reach, and which code hangs there. Evaluates
/// nothing of it.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn read(
    db: &Session,
    relations: &[u32],
    trust_owners: &[String],
) -> Result<Standing, EngineError> {
    let doing = "reading whose code hangs on the tables";
    let asked = db.query(doing, STRANGERS, &[&trust_owners]).await?;
    let rows = match super::first(&asked, 0)? {
        Some(false) => Vec::new(),
        _ => db.query(doing, CODE, &[&trust_owners, &relations]).await?,
    };
    let mut standing = Standing {
        trust_owners: trust_owners.to_vec(),
        role: db.server.role.clone(),
        superuser: db.server.superuser,
        ..Standing::default()
    };
    for row in &rows {
        standing.add(row)?;
    }
    Ok(standing)
}

const ANY_AT_LOGIN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtevent = 'login' AND e.evtenabled <> 'D')";

/// Code that is not trusted and has run in this session before anything could be asked: that of
/// login triggers. Only a superuser can make one, and only a superuser can leave them out.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn at_login(db: &Session, trust_owners: &[String]) -> Result<Vec<Code>, EngineError> {
    let doing = "looking for login triggers";
    if db.server.major() < 17
        || super::first(&db.query(doing, ANY_AT_LOGIN, &[]).await?, 0)? != Some(true)
    {
        return Ok(Vec::new());
    }
    let mut standing = read(db, &[], trust_owners).await?;
    standing.codes.retain(|code| code.hook == LOGIN);
    Ok(standing.codes)
}

/// What is said of code that [`at_login`] found.
pub fn ran_at_login(code: &Code, server: &Server) -> String {
    format!(
        "{} has run with the rights of {}, before anything could be asked, and runs so in every session: {} can do whatever {} may. A superuser has to end that: give the function an owner who is trusted, or disable the trigger",
        code.text(),
        server.role,
        code.owner,
        server.role
    )
}

/// The statement that ends it.
pub fn without_at_login(code: &Code) -> String {
    let trigger = super::Identifier::new(&*code.object);
    format!("ALTER EVENT TRIGGER {trigger} DISABLE")
}

impl Standing {
    fn add(&mut self, row: &Row) -> Result<(), EngineError> {
        let table = row.relation("schema", "name")?;
        let hook: String = row.named("hook")?;
        if hook == "owner" {
            self.strangers.push(Stranger {
                root: row.named("root")?,
                relation: row.named("relid")?,
                table,
                via: row.named("via")?,
                kind: row.named("object")?,
                owner: row.named("owner")?,
            });
        } else {
            self.codes.push(Code {
                root: row.named("root")?,
                table,
                via: row.named("via")?,
                hook,
                object: row.named("object")?,
                function: row.named("function")?,
                owner: row.named("owner")?,
            });
        }
        Ok(())
    }

    /// What is known to hang somewhere, for tests of decisions.
    #[cfg(test)]
    pub(crate) fn with(codes: Vec<Code>) -> Standing {
        Standing {
            codes,
            role: "postgres".to_owned(),
            superuser: true,
            ..Standing::default()
        }
    }

    /// The code that would run; none where all of it is trusted.
    pub fn code(&self, touch: Touch) -> Vec<&Code> {
        self.codes(&[touch])
    }

    /// The same of all that a step touches: what hangs in the way of several is one.
    pub fn codes(&self, touches: &[Touch]) -> Vec<&Code> {
        let mut met: BTreeMap<(String, &str, &str), &Code> = BTreeMap::new();
        for code in &self.codes {
            if touches.iter().any(|touch| code.runs_for(*touch)) {
                let key = (code.table.to_string(), &*code.hook, &*code.object);
                // With its function it says more.
                let known = met.entry(key).or_insert(code);
                if known.function.is_none() {
                    *known = code;
                }
            }
        }
        met.into_values().collect()
    }

    /// All code that is not trusted, by table, whatever would run it, but what
    /// [has run](at_login) already.
    pub fn all_code(&self) -> Vec<&Code> {
        let mut codes: Vec<&Code> = self.codes.iter().filter(|c| c.hook != LOGIN).collect();
        codes.sort_by_key(|code| code.table.to_string());
        codes
    }

    /// The same, where tables are written to by their names besides: of these it is asked
    /// anew in each transaction what they are, since others may put something in their place.
    pub fn guard_with(&self, touches: &[Touch], named: &[Named]) -> Option<Guard> {
        let guard = self.guard(touches);
        if named.is_empty() {
            return guard;
        }
        let mut guard = guard.unwrap_or_else(|| Guard {
            touches: touches.to_vec(),
            locks: Vec::new(),
            named: Vec::new(),
            trust_owners: self.trust_owners.clone(),
        });
        guard.named = named.to_vec();
        Some(guard)
    }

    /// What has to be held so that no such code comes in between; `None` where
    /// nobody could put it there who is not trusted.
    pub fn guard(&self, touches: &[Touch]) -> Option<Guard> {
        let mut locks: BTreeMap<u32, String> = BTreeMap::new();
        for touch in touches.iter().filter(|t| t.how != Use::Command) {
            for stranger in self.strangers_of(*touch) {
                if matches!(stranger.kind.as_str(), "r" | "p") {
                    locks.insert(stranger.relation, stranger.table.to_string());
                }
            }
        }
        let locks = locks
            .into_iter()
            .map(|(relation, name)| Locked { relation, name });
        let locks: Vec<Locked> = locks.collect();
        (!locks.is_empty()).then(|| Guard {
            touches: touches.to_vec(),
            locks,
            named: Vec::new(),
            trust_owners: self.trust_owners.clone(),
        })
    }

    fn strangers_of(&self, touch: Touch) -> impl Iterator<Item = &Stranger> {
        self.strangers.iter().filter(move |s| {
            s.root == touch.relation
                && match s.via.as_str() {
                    "self" | "query" => true,
                    "cascade" => matches!(touch.how, Use::Delete | Use::Define),
                    "referencing" => touch.how == Use::Delete,
                    "referenced" => touch.how == Use::Insert,
                    _ => false,
                }
        })
    }
}

impl Code {
    /// Whether it runs where that is touched.
    fn runs_for(&self, touch: Touch) -> bool {
        (self.root == touch.relation || self.hook == "event_trigger") && self.runs(touch.how)
    }

    /// Whether it runs where its table is touched like that.
    fn runs(&self, how: Use) -> bool {
        let hook = self.hook.as_str();
        if hook == "event_trigger" {
            return matches!(how, Use::Define | Use::Command);
        }
        // It ran when the session began; see `at_login`.
        if hook == LOGIN {
            return false;
        }
        if self.via == "cascade" {
            return matches!(how, Use::Delete | Use::Define);
        }
        // The planner evaluates what it can of these beforehand, for whoever asks.
        let planned = matches!(
            hook,
            "index"
                | "statistics"
                | "check"
                | "partition_key"
                | "policy"
                | "operator_class"
                | "type"
                | "view"
                | "foreign"
        );
        // What a view reads is read, whatever happens to the view.
        match self.via.as_str() {
            "query" => return planned && how != Use::Command,
            "referencing" => return planned && how == Use::Delete,
            "referenced" => return planned && how == Use::Insert,
            _ => {}
        }
        let deleted = matches!(hook, "trigger" | "deferrable_trigger" | "rule");
        match how {
            Use::Read => planned,
            Use::Delete => planned || deleted,
            Use::Insert | Use::Rewrite | Use::Define => true,
            Use::Command => false,
        }
    }

    /// What it is, where it hangs, what it calls, and whose it is.
    pub fn text(&self) -> String {
        let (object, table) = (&self.object, &self.table);
        let what = match self.hook.as_str() {
            "trigger" => format!("trigger {object} of {table}"),
            "deferrable_trigger" => format!("deferrable trigger {object} of {table}"),
            "event_trigger" => format!("event trigger {object}"),
            LOGIN => format!("login trigger {object}"),
            "foreign" => format!("the foreign table {table}, on the server {object}"),
            "index" => format!("an expression of index {object} of {table}"),
            "statistics" => format!("an expression of statistics {object} of {table}"),
            "check" => format!("check constraint {object} of {table}"),
            "default" => format!("the default of column {object} of {table}"),
            "generated" => format!("generated column {object} of {table}"),
            "domain" => format!("the domain of column {object} of {table}"),
            "type" => format!("the type of column {object} of {table}"),
            "operator_class" => format!("operator class {object} of an index of {table}"),
            "partition_key" => format!("the partition key of {table}"),
            "policy" => format!("policy {object} of {table}"),
            "rule" => format!("rule {object} of {table}"),
            "view" => format!("the query of view {table}"),
            other => format!("{other} {object} of {table}"),
        };
        let what = match self.via.as_str() {
            "referencing" | "referenced" => format!("{what}, which is asked for a foreign key,"),
            _ => what,
        };
        match &self.function {
            Some(function) => format!("{what} calls {function} (code of {})", self.owner),
            None => format!("{what} (code of {})", self.owner),
        }
    }
}

#[cfg(test)]
mod tests;
