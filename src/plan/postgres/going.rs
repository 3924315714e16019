//! Which rows of a batch stay although they meet its condition: those that
//! rows which do not go point at, and those that refused to go one by one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A foreign key that keeps a row where somebody points at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reference {
    /// Its name.
    pub constraint: String,
    /// The table that points here, quoted and qualified.
    pub child: String,
    /// Whether deleting a row would delete or change those that point at it.
    pub takes: bool,
    /// Whether it would delete them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cascades: bool,
    /// Whether `child` is partitioned: then its partitions count, too.
    pub partitioned: bool,
    /// Whether `child` holds, or may hold, rows of the walk itself.
    pub own: bool,
    /// The columns that point, the operators `referenced = referencing`, and
    /// the columns pointed at; all as SQL, cast to what the operator takes where that is another type.
    pub columns: Vec<(String, String, String)>,
}

/// What of a batch is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Rows that others, which stay, point at.
    pub referenced: bool,
    /// Rows by their place, `(block,item)`.
    pub rows: Vec<String>,
}

impl Reference {
    fn from(&self) -> String {
        let only = if self.partitioned { "" } else { "ONLY " };
        format!("{only}{}", self.child)
    }

    /// Whether row `row`, a name of the table in the question, is pointed at.
    pub fn points_at(&self, row: &str) -> String {
        // The inner name would hide the outer one where they were the same.
        let child_row = if row == "child" { "pointing" } else { "child" };
        let same: Vec<String> = self
            .columns
            .iter()
            .map(|(child, operator, parent)| {
                format!("{row}.{parent} {operator} {child_row}.{child}")
            })
            .collect();
        format!(
            "EXISTS (SELECT FROM {} AS {child_row} WHERE {})",
            self.from(),
            same.join(" AND ")
        )
    }
}

/// The places, among the rows that `batch` selects from a table known there
/// as `alias`, of those that have to stay: somebody who stays points at them.
/// `oid` is the table's.
pub(super) fn staying(references: &[Reference], alias: &str, oid: u32, batch: &str) -> String {
    let mut selected = vec![format!("{alias}.ctid AS place")];
    let mut outside = Vec::new();
    let mut inside = Vec::new();
    for (n, reference) in references.iter().enumerate() {
        let (mut same, mut among) = (Vec::new(), Vec::new());
        for (m, (child, operator, parent)) in reference.columns.iter().enumerate() {
            selected.push(format!("{alias}.{parent} AS p{n}_{m}"));
            same.push(format!("b.p{n}_{m} {operator} c.{child}"));
            if reference.own {
                selected.push(format!("{alias}.{child} AS c{n}_{m}"));
                among.push(format!("b.p{n}_{m} {operator} c.c{n}_{m}"));
            }
        }
        let own = if reference.own {
            format!(" AND (c.tableoid <> {oid}::oid OR c.ctid NOT IN (SELECT place FROM batch))")
        } else {
            String::new()
        };
        outside.push(format!(
            "EXISTS (SELECT FROM {} AS c WHERE {}{own})",
            reference.from(),
            same.join(" AND ")
        ));
        if reference.own {
            inside.push(format!("({})", among.join(" AND ")));
        }
    }
    let first = format!(
        "SELECT b.place FROM batch AS b WHERE {}",
        outside.join(" OR ")
    );
    let then = if inside.is_empty() {
        String::new()
    } else {
        format!(
            " UNION SELECT b.place FROM stays AS s JOIN batch AS c ON c.place = s.place JOIN batch AS b ON {}",
            inside.join(" OR ")
        )
    };
    format!(
        "WITH RECURSIVE batch AS MATERIALIZED (SELECT {} FROM {batch}), stays (place) AS ({first}{then}) SELECT place FROM stays",
        selected.join(", ")
    )
}
