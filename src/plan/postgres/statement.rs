//! Statements and questions: SQL text with bound values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engines::postgres::RelationName;
use crate::engines::postgres::catalog::STILL_THERE;
use crate::plan::Finding;

/// A value bound to a [`Query`]; never pasted into its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Param {
    /// Object id of a relation. Ids outlive renames, so a plan stays true.
    Oid(u32),
    /// Any text; SQL casts it to what it means: `$1::text::timestamptz`.
    Text(String),
    /// A whole number.
    Int(i64),
}

/// A question put to the target. It reads and changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    /// SQL with `$1`, `$2`, …
    pub sql: String,
    /// Values for the placeholders, in order.
    pub params: Vec<Param>,
}

impl Query {
    /// A question with its values.
    pub fn new(sql: impl Into<String>, params: impl Into<Vec<Param>>) -> Self {
        Query {
            sql: sql.into(),
            params: params.into(),
        }
    }
}

/// How a statement waits for locks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockWaiting {
    /// Gives up after `lock_timeout`, to be tried again later: while it
    /// queues, others queue behind it.
    Brief,
    /// Waits up to `transaction_wait` for older transactions to end. Only
    /// for concurrent builds, which block nobody meanwhile and would leave a
    /// half-built index behind if they gave up early. `probe` is tried first,
    /// briefly, in a transaction that is rolled back, so that a table which
    /// cannot be had costs nothing.
    Patient {
        /// Takes, and at once gives back, the lock that the statement starts with.
        probe: String,
        /// Whether it waits for whoever writes in any database, as REPACK
        /// (CONCURRENTLY) does.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        everywhere: bool,
    },
    /// Waits as long, and nothing is tried before: for concurrent changes that
    /// users wrote themselves.
    Untried,
}

/// One statement that changes the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// The SQL, one statement, names quoted.
    pub sql: String,
    /// Values for `$1`, `$2`, …, if it has any. Utility statements take none.
    pub params: Vec<Param>,
    /// How it waits for locks.
    pub waiting: LockWaiting,
    /// Asked right before; answers `false` where the statement is not needed.
    pub only_if: Option<Query>,
    /// Whether it is one of the user's own, which runs under the settings of
    /// their role and database instead of the pinned ones.
    #[serde(default)]
    pub own_settings: bool,
    /// Whether it stores what expressions of the user's make of rows: it runs under the settings
    /// of role and database, as whoever else runs it there does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stores_what_users_say: bool,
    /// Whether it changes nothing, and answers with how many rows the next
    /// one takes with it.
    #[serde(default)]
    pub counts: bool,
    /// Whether the server may do a part of it and then fail, so that it must
    /// not be begun a second time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What has to be so where it runs; where it is not, the step ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Required>,
    /// Run first, in one transaction with it: a lock under which `required`
    /// is asked, so that the answer holds until the statement has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// Asked where the server says that it has left something out: answers `true` where that is
    /// not the relation itself, but a part of it that belongs to others, or has vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Query>,
    /// The same without the moment that it names, where it names one.
    #[serde(skip)]
    pub any_time: Option<String>,
}

impl Statement {
    fn new(sql: impl Into<String>, waiting: LockWaiting) -> Self {
        Statement {
            sql: sql.into(),
            params: Vec::new(),
            waiting,
            only_if: None,
            own_settings: false,
            stores_what_users_say: false,
            counts: false,
            once: false,
            required: None,
            lock: None,
            whole: None,
            any_time: None,
        }
    }

    /// A statement that gives up early when somebody holds its locks.
    pub fn brief(sql: impl Into<String>) -> Self {
        Statement::new(sql, LockWaiting::Brief)
    }

    /// A concurrent change of the user's own; see [`LockWaiting::Untried`].
    pub fn untried(sql: impl Into<String>) -> Self {
        Statement::new(sql, LockWaiting::Untried)
    }

    /// A concurrent build; see [`LockWaiting::Patient`].
    pub fn patient(sql: impl Into<String>, probe: impl Into<String>) -> Self {
        let probe = probe.into();
        let everywhere = false;
        Statement::new(sql, LockWaiting::Patient { probe, everywhere })
    }

    /// The same statement, which waits for whoever writes in any database.
    pub fn waiting_everywhere(mut self) -> Self {
        if let LockWaiting::Patient { everywhere, .. } = &mut self.waiting {
            *everywhere = true;
        }
        self
    }

    /// The same statement with values bound to its placeholders.
    pub fn with(mut self, params: impl Into<Vec<Param>>) -> Self {
        self.params = params.into();
        self
    }

    /// The same statement, never begun a second time.
    pub fn begun_once(mut self) -> Self {
        self.once = true;
        self
    }

    /// The same statement, of whose relation parts may be left out.
    pub fn but_for_parts(mut self, whole: Query) -> Self {
        self.whole = Some(whole);
        self
    }

    /// The same statement, under the settings of role and database.
    pub fn under_own_settings(mut self) -> Self {
        self.own_settings = true;
        self
    }

    /// The same statement, which stores what expressions of the user's make of rows.
    pub fn storing_what_users_say(mut self) -> Self {
        self.stores_what_users_say = true;
        self
    }

    /// The same statement, left out unless `query` answers `true`.
    pub fn only_if(mut self, query: Query) -> Self {
        self.only_if = Some(query);
        self
    }

    /// The same statement, with which the step ends where something is not so.
    pub fn requiring(mut self, required: Required) -> Self {
        self.required = Some(required);
        self
    }

    /// The same statement, which names the moment of the plan; `text` is what it says at any other.
    pub fn at_any_time_as(mut self, text: String) -> Self {
        self.any_time = Some(text);
        self
    }

    /// What it says whenever the plan is made.
    pub fn at_any_time(&self) -> &str {
        self.any_time.as_deref().unwrap_or(&self.sql)
    }

    /// The same statement, in one transaction with a lock that comes first.
    pub fn locking(mut self, lock: impl Into<String>) -> Self {
        self.lock = Some(lock.into());
        self
    }
}

/// What has to be so where a statement runs: what the plan saw may have been
/// changed by somebody since, who has something else in mind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Required {
    /// Answers with one row: `true`, or anything else where it is not so.
    pub query: Query,
    /// What to record as the reason why the step ends.
    pub otherwise: String,
    /// What has to be taken back then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Sweep>,
    /// Whether the work is as needed as before, so that the next run decides about it anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub still_needed: bool,
    /// What of it is told by itself where it is that which is not so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<RequiredPart>,
}

/// One of several things that have to be so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequiredPart {
    /// Answers with one row: `true`, or anything else where it is not so.
    pub query: Query,
    /// What is found then, whose message is the reason why the step ends.
    pub finding: Finding,
}

impl Required {
    /// Without which the step is not needed any more, or not allowed.
    pub fn new(query: Query, otherwise: impl Into<String>) -> Self {
        Required {
            query,
            otherwise: otherwise.into(),
            undo: None,
            still_needed: false,
            parts: Vec::new(),
        }
    }

    /// The same, and this as well, a condition without values: where it is not so, that is found.
    pub fn and(mut self, condition: &str, finding: Finding) -> Self {
        self.query.sql = format!("SELECT ({}) AND {condition}", self.query.sql);
        self.parts.push(RequiredPart {
            query: Query::new(format!("SELECT {condition}"), []),
            finding,
        });
        self
    }

    /// The same, without which the work is as needed as before: the next run decides about it anew.
    pub fn or_next_time(mut self) -> Self {
        self.still_needed = true;
        self
    }

    /// The same, with what has to be taken back where it is not so.
    pub fn undone_by(mut self, undo: Sweep) -> Self {
        self.undo = Some(undo);
        self
    }
}

/// Asked right before a step starts: is it still needed, still possible?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// Answers with one row: `true`, or `false`, or no row at all for "gone".
    pub query: Query,
    /// What to record as the reason of the skip where it is `false`.
    pub otherwise: String,
    /// Whether it reads the table, and so may run what hangs on it.
    #[serde(default)]
    pub reads_rows: bool,
    /// The relation, where it asks for nothing but its name, and may as well have been asked a
    /// moment before, for many steps at once.
    #[serde(skip)]
    pub there: Option<There>,
}

/// A relation by the name that the statements use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// Its id.
    pub oid: u32,
    /// How its schema and itself are called, as they are.
    pub name: RelationName,
}

impl There {
    /// Whether it still goes by that name.
    pub fn query(&self) -> Query {
        let (schema, relation) = (self.name.schema.raw(), self.name.relation.raw());
        let params = [
            Param::Oid(self.oid),
            Param::Text(schema.to_owned()),
            Param::Text(relation.to_owned()),
        ];
        Query::new(STILL_THERE, params)
    }
}

/// How to clear away what an aborted step left behind. The names of
/// leftovers are the server's choice, so they are asked for, not planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// Answers with rows of (object text, statement text); no statement where somebody works there
    /// just now.
    pub query: Query,
    /// Whether each further attempt would leave one more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub piles_up: bool,
}
