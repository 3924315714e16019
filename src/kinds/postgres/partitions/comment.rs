//! The comments that tell partitions on their way out: how one is written, and taken back.

use super::facts::{MARK, Node};
use crate::engines::postgres::{RelationName, literal};
use crate::kinds::postgres::leaving::one_line;
use crate::values::unreadable;

/// What the mark of a partition of this table begins with.
pub(super) fn begins(root: &RelationName) -> String {
    format!("{MARK}{}", one_line(root))
}

/// What it is called in SQL.
pub(super) fn kind(foreign: bool) -> &'static str {
    if foreign { "FOREIGN TABLE" } else { "TABLE" }
}

/// The mark of a partition on its way out. Its second line names the
/// partition itself; what follows is the comment that was there before.
pub(super) fn marked(root: &RelationName, node: &Node, since: &str) -> String {
    let mark = format!(
        "{} since {since}\nas {}",
        begins(root),
        one_line(&node.name)
    );
    match before(node.comment.as_deref()) {
        Some(before) => format!("{mark}\n{before}"),
        None => mark,
    }
}

/// The comment of a partition without the mark. One that cannot be written is
/// no reason to keep the partition.
pub(super) fn before(comment: Option<&str>) -> Option<&str> {
    let comment = comment.filter(|c| !unreadable::is_in(c))?;
    if !comment.starts_with(MARK) {
        return Some(comment);
    }
    let rest = comment.split_once('\n')?.1;
    match rest.split_once('\n') {
        _ if !rest.starts_with("as ") => Some(rest),
        Some((_, before)) => Some(before),
        None => None,
    }
}

pub(super) fn comment(kind: &str, name: &RelationName, text: Option<&str>) -> String {
    let text = text.map_or("NULL".to_owned(), literal);
    format!("COMMENT ON {kind} {name} IS {text}")
}
