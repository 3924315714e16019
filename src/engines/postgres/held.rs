//! Settings that code of a table's owner may leave in a session of ours: a trigger that says
//! `SET`, and not `SET LOCAL`, changes them for all that follows.

use super::{Session, settings};
use crate::engines::EngineError;

/// What the settings that matter were, in the order of `settings::held`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held(Vec<Option<String>>);

/// Everything is qualified: `search_path` may be what was changed.
const NOW: &str = "SELECT ARRAY(SELECT pg_catalog.current_setting(n.name, true)
    FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS n (name, nth) ORDER BY n.nth)";

const SET: &str = "SELECT pg_catalog.set_config($1::pg_catalog.text, $2::pg_catalog.text, false)";

impl Session {
    /// What the settings that matter are now.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub async fn hold(&self) -> Result<Held, EngineError> {
        let doing = "reading the settings of the session";
        let rows = self.query(doing, NOW, &[&settings::held()]).await?;
        let now = rows.first().map(|row| row.get(0)).transpose()?;
        Ok(Held(now.unwrap_or_default()))
    }

    /// Sets back what differs from `held`, and names it.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub async fn put_back(&self, held: &Held) -> Result<Vec<&'static str>, EngineError> {
        let now = self.hold().await?;
        let mut changed = Vec::new();
        for ((name, was), is) in settings::held().into_iter().zip(&held.0).zip(&now.0) {
            // Who is put back as the one he was has no role any more.
            let again = name == "role" && changed.contains(&"session_authorization");
            let Some(was) = was
                .as_ref()
                .filter(|was| again || Some(*was) != is.as_ref())
            else {
                continue;
            };
            let doing = "setting back what code of a table has set";
            self.query(doing, SET, &[&name, was]).await?;
            changed.push(name);
        }
        if !changed.is_empty() {
            tracing::warn!(
                settings = changed.join(", "),
                "code that hangs on a table sets them for the session; set back"
            );
        }
        Ok(changed)
    }
}
