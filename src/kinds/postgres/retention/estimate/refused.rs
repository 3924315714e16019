//! Why the server does not take a condition, and what helps.

use super::super::rule::Rule;
use super::Look;
use crate::engines::EngineError;
use crate::engines::postgres::{Fault, Identifier, Session, first, grants};
use crate::values::with_causes;

/// Whether no policy is in force for the role itself.
const SEES_ALL: &str =
    "SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

impl Look {
    /// The server does not take the condition.
    pub(super) async fn refuse(
        &mut self,
        db: &Session,
        rule: &Rule,
        error: &EngineError,
    ) -> Result<(), EngineError> {
        let said = with_causes(error);
        let hidden = Fault::is_hidden(error);
        let role = Identifier::new(&*db.server.role);
        let sees_all = match hidden {
            true => {
                let doing = "looking whether policies are for the role";
                first(&db.query(doing, SEES_ALL, &[]).await?, 0)?.unwrap_or(false)
            }
            false => false,
        };
        self.refused = Some(match (hidden, sees_all) {
            (false, _) => format!("the server refuses its condition: {said}"),
            (true, false) => format!(
                "row-level security hides rows that its condition reads through a view or a function, and what is only hidden must not count as gone ({said}): ALTER ROLE {role} BYPASSRLS, or the same for the owner of the view or function where it reads as its owner"
            ),
            (true, true) => format!(
                "row-level security hides rows that its condition reads through a view or a function which reads as its owner, and what is only hidden must not count as gone ({said}). {role} itself sees all rows: name the table in the condition, or give BYPASSRLS to that owner"
            ),
        });
        if Fault::of(error) == Fault::Forbidden {
            let parent = rule.orphaned.as_ref().map(|o| o.parent.to_string());
            let texts: Vec<&str> = rule.texts().chain(parent.as_deref()).collect();
            self.remedy = grants::missing(db, &texts).await?;
        }
        if hidden && !sees_all && self.remedy.is_none() {
            self.remedy = Some(format!("ALTER ROLE {role} BYPASSRLS"));
        }
        Ok(())
    }
}
