//! What a name that is not known may mean.

use super::node::Node;
use crate::values::{Problem, closest};

/// Names among which the nearest is looked for.
const MOST_GUESSED: usize = 500;

/// How to show a name without giving a variable's content away.
pub(super) fn shown(node: &Node) -> &str {
    node.scalar()
        .map(|scalar| scalar.shown())
        .unwrap_or_default()
}

/// The same problem with the alternatives, and the nearest of them as a hint.
pub(super) fn guess(problem: Problem, node: &Node, mut known: Vec<&str>) -> Problem {
    // Of thousands nobody wants to be shown the nearest.
    if known.len() > MOST_GUESSED {
        return problem;
    }
    known.sort_unstable();
    // Two engines may have a kind of one name.
    known.dedup();
    let meant = node
        .scalar()
        .filter(|scalar| scalar.written.is_none())
        .and_then(|scalar| closest(&scalar.text, known.iter().copied()));
    let problem = problem.known(known.iter().copied());
    match meant {
        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
        None => problem,
    }
}
