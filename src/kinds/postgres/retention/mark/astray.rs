//! What was detached from a table that has another name, or another owner, by now.

use super::{is_known_as, was_part_of};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{RelationName, literal};
use crate::kinds::postgres::common::still_there;
use crate::kinds::postgres::leaving::one_line;
use crate::plan::postgres::out_of_its_table;
use crate::plan::{Finding, Moment, Plan, Severity, Statement, Step};
use crate::values::unreadable;

/// What was detached from a table that is not called any more what the mark says.
pub(in crate::kinds::postgres) struct Astray<'a> {
    pub(in crate::kinds::postgres) oid: u32,
    pub(in crate::kinds::postgres) name: &'a RelationName,
    /// What its mark calls it, where that is not its name any more.
    pub(in crate::kinds::postgres) former: Option<&'a str>,
    /// The whole comment.
    pub(in crate::kinds::postgres) comment: &'a str,
    /// What the mark begins with, and the name of the table that follows.
    pub(in crate::kinds::postgres) mark: &'a str,
    pub(in crate::kinds::postgres) root: &'a str,
    /// Whether a table of its owner is called so.
    pub(in crate::kinds::postgres) named: bool,
    /// `TABLE`, or `FOREIGN TABLE`.
    pub(in crate::kinds::postgres) kind: &'a str,
}

impl Astray<'_> {
    /// Has the mark name the table of the task that it was a part of, so that the next run finds
    /// it; where that is none of them, and none is called so, tells of it. Whether that was so.
    pub(in crate::kinds::postgres) fn follow<'b>(
        &self,
        tables: impl IntoIterator<Item = (u32, &'b RelationName)>,
        at: &Moment,
        plan: &mut Plan,
    ) -> bool {
        if !is_known_as(self.oid, self.former, self.name, at) {
            return false;
        }
        let of = was_part_of(self.oid, at);
        let mut tables = tables.into_iter();
        let root = tables.find(|(oid, _)| of == Some(*oid));
        let rest = self.comment.strip_prefix(self.mark);
        let rest = rest.and_then(|rest| rest.strip_prefix(self.root));
        match (root, rest) {
            (Some((_, root)), _) if one_line(root) == self.root => {
                if !self.named {
                    plan.undone(self.of_another_owner());
                }
                !self.named
            }
            (Some((_, root)), Some(rest)) if !unreadable::is_in(rest) => {
                let text = format!("{}{}{rest}", self.mark, one_line(root));
                let sql = format!(
                    "COMMENT ON {} {} IS {}",
                    self.kind,
                    self.name,
                    literal(&text)
                );
                plan.steps.push(
                    Step::new(
                        "mark_partition",
                        self.name.to_string(),
                        format!("table {}", self.oid),
                    )
                    .because(format!(
                        "it was detached from {}, which is called {root} now; the next run goes on with it",
                        self.root
                    ))
                    .locking(self.oid)
                    .touching(self.oid, Use::Command)
                    .only_if(still_there(self.oid, self.name), "the table has vanished, or has another name by now")
                    .run(Statement::brief(sql)),
                );
                true
            }
            _ if !self.named => {
                let why = "its table is called something else by now, and nobody knows what";
                plan.skip(self.name.to_string(), why);
                plan.findings.push(self.forgotten());
                true
            }
            _ => false,
        }
    }

    fn of_another_owner(&self) -> Finding {
        let (name, root) = (self.name, self.root);
        let message = format!(
            "an earlier run detached {name} from {root} to have it leave, and since then one of the two has got another owner: nothing is done with what belongs to somebody else. Its rows are not in {root}. Give both to one role (ALTER TABLE … OWNER TO …), and the next run goes on; or attach it again, or drop it by hand where its rows are not wanted"
        );
        out_of_its_table(name.to_string(), message, None)
    }

    fn forgotten(&self) -> Finding {
        let (name, root) = (self.name, self.root);
        Finding {
            code: "partitions.forgotten".to_owned(),
            severity: Severity::Warning,
            object: name.to_string(),
            message: format!(
                "{name} was detached from {root} to have it leave, and no table of its owner is called {root} any more, nor is it known what that is called now: nothing is done with it. List the table under its new name in a task of this kind, drop {name} by hand if its rows are not wanted, or take its comment away"
            ),
            suggestion: None,
        }
    }
}
