use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value bound to a [`Query`]; never pasted into its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Param {
    /// Object id of a relation. Ids outlive renames, so a plan stays true.
    Oid(u32),
    /// Any text.
    Text(String),
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
    },
}

/// One statement that changes the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// The SQL, one statement, names quoted.
    pub sql: String,
    /// How it waits for locks.
    pub waiting: LockWaiting,
    /// Asked right before; answers `false` where the statement is not needed.
    pub only_if: Option<Query>,
}

impl Statement {
    /// A statement that gives up early when somebody holds its locks.
    pub fn brief(sql: impl Into<String>) -> Self {
        Statement {
            sql: sql.into(),
            waiting: LockWaiting::Brief,
            only_if: None,
        }
    }

    /// A concurrent build; see [`LockWaiting::Patient`].
    pub fn patient(sql: impl Into<String>, probe: impl Into<String>) -> Self {
        Statement {
            sql: sql.into(),
            waiting: LockWaiting::Patient {
                probe: probe.into(),
            },
            only_if: None,
        }
    }

    /// The same statement, left out unless `query` answers `true`.
    pub fn only_if(mut self, query: Query) -> Self {
        self.only_if = Some(query);
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
}

/// How to clear away what an aborted step left behind. The names of
/// leftovers are the server's choice, so they are asked for, not planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// Answers with rows of (object text, statement text).
    pub query: Query,
}

/// What a step is expected to cost and win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Size of the object now, in bytes.
    pub bytes: Option<i64>,
    /// Expected size afterwards, in bytes.
    pub bytes_after: Option<i64>,
}

/// One unit of work on one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Place in the plan, from 1.
    pub seq: u32,
    /// What is worked on, quoted where SQL would need it.
    pub object: String,
    /// What is done: `reindex`, `vacuum`, `analyze`, `drop_leftover`.
    pub action: String,
    /// Why, with the numbers that decided it.
    pub reason: String,
    /// Two steps in one lane never run at once; the table's id for most kinds.
    pub lane: String,
    /// The relation whose locks the step needs: where it cannot have them,
    /// this tells whom to name.
    pub relation: Option<u32>,
    /// Carried out in order; the first failure ends the step.
    pub statements: Vec<Statement>,
    /// Asked right before the step starts.
    pub only_if: Option<Condition>,
    /// Answers with one row (bytes bigint, tuples double precision), asked
    /// before and after.
    pub measure: Option<Query>,
    /// Whether the size afterwards is the smallest this object can have, and
    /// so becomes its baseline.
    pub learn: bool,
    /// How to clear away what an aborted attempt left.
    pub on_abort: Option<Sweep>,
    /// Whether the step's own locks must yield to a vacuum that prevents
    /// transaction id wraparound on the same table.
    pub yields_to_wraparound_vacuum: bool,
    /// What it is expected to cost and win.
    pub estimate: Estimate,
}

impl Step {
    /// A step without statements yet.
    pub fn new(
        action: impl Into<String>,
        object: impl Into<String>,
        lane: impl Into<String>,
    ) -> Self {
        Step {
            seq: 0,
            object: object.into(),
            action: action.into(),
            reason: String::new(),
            lane: lane.into(),
            relation: None,
            statements: Vec::new(),
            only_if: None,
            measure: None,
            learn: false,
            on_abort: None,
            yields_to_wraparound_vacuum: false,
            estimate: Estimate::default(),
        }
    }

    /// Why the step is in the plan.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The relation whose locks the step needs.
    pub fn locking(mut self, relation: u32) -> Self {
        self.relation = Some(relation);
        self
    }

    /// Adds a statement.
    pub fn run(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// Skips the step, recording `otherwise`, unless `query` answers `true`.
    pub fn only_if(mut self, query: Query, otherwise: impl Into<String>) -> Self {
        self.only_if = Some(Condition {
            query,
            otherwise: otherwise.into(),
        });
        self
    }

    /// Measures the object before and after.
    pub fn measured_by(mut self, query: Query) -> Self {
        self.measure = Some(query);
        self
    }

    /// What the step is expected to cost and win, in bytes.
    pub fn expecting(mut self, bytes: i64, bytes_after: Option<i64>) -> Self {
        self.estimate = Estimate {
            bytes: Some(bytes),
            bytes_after,
        };
        self
    }

    /// All statements as one text, as shown and recorded.
    pub fn statement_text(&self) -> String {
        let texts: Vec<&str> = self.statements.iter().map(|s| s.sql.as_str()).collect();
        texts.join("; ")
    }
}
