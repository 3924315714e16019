//! What a step on PostgreSQL is made of besides what every engine's steps have.

use std::collections::BTreeMap;
use std::fmt::Display;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::saved::{ID_OF, NUMBER_OF_COLUMN};
use super::{Check, Condition, Fate, Query, Retire, Shrink, Statement, Sweep, There, Walk, Work};
use crate::engines::EngineError;
use crate::engines::postgres::trust::{self, Guard, Named, Touch, Use};
use crate::engines::postgres::{RelationName, Session, each};
use crate::plan::{Finding, Severity, Speaks, Step};
use crate::values::NamePattern;

/// What is done, and what is asked around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// The relation whose locks the step needs: where it cannot have them,
    /// this tells whom to name.
    pub relation: Option<u32>,
    /// What is done.
    pub work: Work,
    /// Asked right before the step starts.
    pub only_if: Option<Condition>,
    /// Answers with one row (bytes bigint, tuples double precision), asked
    /// before and after.
    pub measure: Option<Query>,
    /// How to clear away what an aborted attempt left.
    pub on_abort: Option<Sweep>,
    /// Answers with what the step must not leave, asked once it has ended,
    /// however it ended: rows of (object, what is wrong with it, what would
    /// help). The step has failed where there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Query>,
    /// Answers with what the step has taken out of its table and not brought
    /// to its end, asked where it did not succeed: rows of (object, what is so,
    /// what would take it back). Each is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Query>,
    /// Whether the step's own locks must yield to a vacuum that prevents
    /// transaction id wraparound on the same table.
    pub yields_to_wraparound_vacuum: bool,
    /// Answers with one row, one bigint: exactly how many rows the step would
    /// change now. Asked by a dry run only.
    pub count: Option<Query>,
    /// How the conditions of the step are to be read.
    #[serde(default)]
    pub under: Under,
    /// Which relations it touches, and how: what decides whose code could run.
    #[serde(skip)]
    pub touches: Vec<Touch>,
    /// Which tables it writes to by their names, whatever has these by then.
    #[serde(skip)]
    pub named: Vec<Named>,
    /// Taken first in each of its transactions, where tables belong to owners
    /// who are not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// What it changes besides its own rows: triggers that fire, rows of other tables that go or
    /// change with its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets_off: Vec<String>,
    /// Tables on other servers that it reads, quoted: where it comes to
    /// nothing because of them, that is told, and no failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<String>,
    /// When the step has to have ended, since it blocks others for as long as it is at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// What it relies on besides `relation`: the ids of objects and the numbers of columns, by what
    /// they are of. Only saved plans keep them.
    #[serde(skip)]
    pub rests_on: BTreeMap<String, i64>,
}

/// How conditions of the user's are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Under {
    /// Schemas whose operators mean what the types of columns mean, quoted;
    /// they follow the server's own.
    pub schemas: Vec<String>,
    /// Whether the server is to refuse rather than to hide rows: absence is
    /// never proved through a filter.
    pub all_rows: bool,
}

impl Under {
    /// Whether the settings of a session are right as they are.
    pub fn is_usual(&self) -> bool {
        *self == Under::default()
    }

    /// `SET`, or `SET LOCAL`, and what has to follow it.
    pub fn settings(&self, set: &str) -> String {
        let mut path = vec!["pg_catalog"];
        path.extend(self.schemas.iter().map(String::as_str));
        path.push("pg_temp");
        format!(
            "{set} search_path = {}; {set} row_security = {}",
            path.join(", "),
            if self.all_rows { "off" } else { "on" }
        )
    }
}

impl Default for Body {
    fn default() -> Self {
        Body {
            relation: None,
            work: Work::Each(Vec::new()),
            only_if: None,
            measure: None,
            on_abort: None,
            leaves: None,
            outside: None,
            yields_to_wraparound_vacuum: false,
            count: None,
            under: Under::default(),
            touches: Vec::new(),
            named: Vec::new(),
            guard: None,
            sets_off: Vec::new(),
            away: Vec::new(),
            until: None,
            rests_on: BTreeMap::new(),
        }
    }
}

impl crate::plan::Body for Body {
    fn text(&self) -> String {
        self.work.text()
    }

    fn at_any_time(&self) -> String {
        self.work.at_any_time()
    }

    fn sets_off(&self) -> Vec<String> {
        self.sets_off.clone()
    }

    fn identity(&self) -> serde_json::Value {
        if self.rests_on.is_empty() {
            return self.relation.into();
        }
        let table = self.relation.map(i64::from);
        let table = table.map(|oid| (format!("{ID_OF}its table"), oid));
        let rests_on = self.rests_on.clone().into_iter();
        rests_on
            .chain(table)
            .map(|(of, number)| (of, number.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn until(&self) -> Option<DateTime<Utc>> {
        self.until
    }

    fn elsewhere(&self) -> Option<String> {
        let beside = |fate: &Fate| match fate {
            Fate::Export(export) => Some(export.storage.clone()),
            Fate::Send(send) => Some(format!("{} of target {}", send.into, send.target)),
            Fate::Delete | Fate::Move { .. } => None,
        };
        match &self.work {
            Work::Walk(walk) => beside(&walk.fate),
            Work::Retire(retire) => retire.walk.as_ref().and_then(|walk| beside(&walk.fate)),
            Work::Settle(_) => Some("the place of the archives".to_owned()),
            Work::Each(_) | Work::Together(_) | Work::Check(_) | Work::Shrink(_) => None,
        }
    }

    fn keeps_what_it_did(&self) -> bool {
        // What is stored of a partition, and what has moved to the front of a table, stays so.
        matches!(self.work, Work::Walk(_) | Work::Retire(_) | Work::Shrink(_))
    }

    fn destroys(&self) -> bool {
        self.work.destroys()
    }
}

/// Patterns, as regular expressions, that no relation goes by.
const UNMET: &str = "SELECT p.place - 1 FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
        WITH ORDINALITY p (schema, name, place)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname::text ~ p.name AND (p.schema IS NULL OR n.nspname::text ~ p.schema))
    ORDER BY p.place";

#[async_trait]
impl Speaks for Session {
    type Body = Body;

    async fn meeting_nothing(&self, patterns: &[NamePattern]) -> Result<Vec<usize>, EngineError> {
        let (schemas, names): (Vec<_>, Vec<_>) = patterns.iter().map(NamePattern::regexes).unzip();
        let doing = "looking for what `include` and `exclude` name";
        let rows = self.query(doing, UNMET, &[&schemas, &names]).await?;
        each(&rows, |row| {
            Ok(usize::try_from(row.get::<i64>(0)?).unwrap_or(usize::MAX))
        })
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

impl Step {
    /// Says that the step touches a relation, and how.
    pub fn touching(mut self, relation: u32, how: Use) -> Self {
        self.body.touches.push(Touch::new(relation, how));
        self
    }

    /// Says that the step writes to what has this name, quoted and qualified, and how.
    pub fn naming(mut self, name: impl Into<String>, how: Use) -> Self {
        let name = name.into();
        self.body.named.push(Named { name, how });
        self
    }

    /// The relation whose locks the step needs.
    pub fn locking(mut self, relation: u32) -> Self {
        self.body.relation = Some(relation);
        self
    }

    /// Relies on an object besides its relation: a saved plan is refused where another object has
    /// this name, quoted and qualified.
    pub fn relying_on(mut self, oid: u32, name: impl Display) -> Self {
        let id = format!("{ID_OF}{name}");
        self.body.rests_on.insert(id, i64::from(oid));
        self
    }

    /// Relies on a column of a table: its number tells it from one that was given its name later.
    pub fn relying_on_column(mut self, number: i16, name: impl Display, of: impl Display) -> Self {
        let id = format!("{NUMBER_OF_COLUMN}{name} of {of}");
        self.body.rests_on.insert(id, i64::from(number));
        self
    }

    /// Adds a statement.
    pub fn run(mut self, statement: Statement) -> Self {
        match &mut self.body.work {
            Work::Each(statements) | Work::Together(statements) => statements.push(statement),
            Work::Check(check) => check.when_clean.push(statement),
            Work::Walk(_) | Work::Settle(_) | Work::Retire(_) | Work::Shrink(_) => {
                self.body.work = Work::Each(vec![statement])
            }
        }
        self
    }

    /// Carries these statements out in one transaction.
    pub fn together(mut self, statements: Vec<Statement>) -> Self {
        self.body.work = Work::Together(statements);
        self
    }

    /// Carries out a check.
    pub fn checking(mut self, check: Check) -> Self {
        self.body.work = Work::Check(check);
        self
    }

    /// Deletes rows batch by batch.
    pub fn walking(mut self, walk: Walk) -> Self {
        self.body.work = Work::Walk(Box::new(walk));
        self
    }

    /// Moves rows from the end of a table to its front.
    pub fn shrinking(mut self, shrink: Shrink) -> Self {
        self.body.work = Work::Shrink(Box::new(shrink));
        self
    }

    /// Exports a whole partition, and drops it.
    pub fn retiring(mut self, retire: Retire) -> Self {
        self.body.work = Work::Retire(Box::new(retire));
        self
    }

    /// Skips the step, recording `otherwise`, unless `query` answers `true`.
    pub fn only_if(mut self, query: Query, otherwise: impl Into<String>) -> Self {
        self.body.only_if = Some(Condition {
            query,
            otherwise: otherwise.into(),
            reads_rows: false,
            there: None,
        });
        self
    }

    /// Skips the step, recording `otherwise`, unless the relation still goes by its name. Only for
    /// what does no harm where it was renamed, or another has its name, a moment ago.
    pub fn while_there(self, oid: u32, name: &RelationName, otherwise: &str) -> Self {
        let there = There {
            oid,
            name: name.clone(),
        };
        let mut step = self.only_if(there.query(), otherwise);
        if let Some(condition) = &mut step.body.only_if {
            condition.there = Some(there);
        }
        step
    }

    /// The same, where `query` reads rows of the table.
    pub fn only_if_rows(self, query: Query, otherwise: impl Into<String>) -> Self {
        let mut step = self.only_if(query, otherwise);
        if let Some(condition) = &mut step.body.only_if {
            condition.reads_rows = true;
        }
        step
    }

    /// Counts the rows it would change, for a dry run.
    pub fn counted_by(mut self, query: Query) -> Self {
        self.body.count = Some(query);
        self
    }

    /// How its conditions are to be read.
    pub fn reading(mut self, under: Under) -> Self {
        self.body.under = under;
        self
    }

    /// Looks for what it must not leave once it has ended.
    pub fn leaving(mut self, query: Query) -> Self {
        self.body.leaves = Some(query);
        self
    }

    /// Measures the object before and after.
    pub fn measured_by(mut self, query: Query) -> Self {
        self.body.measure = Some(query);
        self
    }
}
