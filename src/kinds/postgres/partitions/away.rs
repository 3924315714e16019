//! Rows of other servers: a partition that is a foreign table, or has one below it, is not dropped.

use std::collections::HashMap;

use super::facts::Node;
use crate::engines::postgres::RelationName;
use crate::engines::postgres::catalog::tree;
use crate::plan::{Finding, Required, Severity};

/// The first foreign table that a partition is, or has below it.
pub(super) fn foreign(oid: u32, nodes: &HashMap<u32, Node>) -> Option<&RelationName> {
    let node = nodes.get(&oid)?;
    if node.kind == "f" {
        return Some(&node.name);
    }
    let mut below = node.children.iter();
    below.find_map(|child| foreign(*child, nodes))
}

/// The same requirement, and that no foreign table has come below the partition since.
pub(super) fn none_below(
    required: Required,
    (oid, name): (u32, &RelationName),
    root: &RelationName,
    attached: bool,
) -> Required {
    let none = format!(
        "NOT EXISTS (SELECT FROM {} AS below JOIN pg_catalog.pg_class f ON f.oid = below.relid AND f.relkind = 'f')",
        tree(&oid.to_string())
    );
    let which = "a table below it, attached since the plan was made,";
    required.and(
        &none,
        elsewhere(name, root, (which, "its bounds are over"), attached),
    )
}

/// What is told of it: its rows are another server's, and nothing here says how old they are. Dropped, only what leads
/// to them would be gone. `which` is the foreign table, and `why` the partition would go.
pub(super) fn elsewhere(
    name: &RelationName,
    root: &RelationName,
    (which, why): (&str, &str),
    attached: bool,
) -> Finding {
    let itself = which == name.to_string();
    let (rest, help) = match attached {
        true => (
            "is not detached",
            format!("ALTER TABLE {root} DETACH PARTITION {name}"),
        ),
        false if itself => ("is not dropped", format!("DROP FOREIGN TABLE {name}")),
        false => ("is not dropped", format!("DROP TABLE {name}")),
    };
    let which = match itself {
        true => "it",
        false => which,
    };
    Finding {
        code: "rows.foreign".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "{why}, and it {rest}: {which} is a foreign table, whose rows are on another server and would stay there without anything that leads to them. Give that server a task of its own, then let it go by hand"
        ),
        suggestion: Some(help),
    }
}
