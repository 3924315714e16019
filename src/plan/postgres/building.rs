//! How a kind says what a step of PostgreSQL does.

use std::fmt::Display;

use super::{Check, Condition, Most, Query, Retire, Shrink, Statement, There, Under, Walk, Work};
use crate::engines::postgres::RelationName;
use crate::engines::postgres::trust::{Named, Touch, Use};
use crate::plan::Step;
use crate::plan::body::{DEFINITION_OF, ID_OF, NUMBER_OF_COLUMN};

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

    /// Relies on what an object is defined as: a saved plan is refused where it was replaced.
    pub fn relying_on_definition(mut self, definition: i64, of: impl Display) -> Self {
        let id = format!("{DEFINITION_OF}{of}");
        self.body.rests_on.insert(id, definition);
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

    /// Takes no more rows as a whole than the rule may.
    pub fn bound_by(mut self, most: Option<Most>) -> Self {
        self.body.most = most;
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
