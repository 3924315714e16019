//! Tables that somebody has for themselves while they are looked at: they can wait, the others
//! need not.

use std::collections::HashMap;
use std::time::Duration;

use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session};
use crate::plan::{Finding, Severity};
use crate::values::unreadable;

/// So often it is looked again, because most such locks last an instant.
pub(super) const LOOKS: u32 = 6;
/// Between two looks.
pub(super) const AGAIN: Duration = Duration::from_millis(400);

/// Who holds each of these relations, or waits to.
const HOLDERS: &str = "SELECT DISTINCT ON (l.relation) l.relation, CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
            ELSE pg_catalog.concat_ws(', ', 'pid ' || l.pid::text, 'role ' || a.usename::text, nullif(a.application_name, ''), a.state) END
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ($1)
        AND l.database IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
    ORDER BY l.relation, l.granted DESC, l.pid";

/// Who holds these relations; of one that is free again by now that somebody did.
pub(super) async fn holders(
    db: &Session,
    relations: &[u32],
) -> Result<HashMap<u32, String>, EngineError> {
    let gone = "a session that has ended its transaction by now";
    let mut held: HashMap<u32, String> = relations
        .iter()
        .map(|oid| (*oid, gone.to_owned()))
        .collect();
    if held.is_empty() {
        return Ok(held);
    }
    let doing = "looking who holds tables";
    for row in db.query(doing, HOLDERS, &[&relations]).await? {
        let who: String = row.get(1)?;
        held.insert(row.get(0)?, unreadable::escaped(&who).into_owned());
    }
    Ok(held)
}

/// Tells what was left out because somebody holds a table.
pub(super) fn finding(name: &RelationName, who: &str, left_out: &str) -> Finding {
    Finding {
        code: "table.held".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "{name} is locked in ACCESS EXCLUSIVE mode by {who}: {left_out}. The next run looks again; where that happens every time, let one of the two run at another hour"
        ),
        suggestion: None,
    }
}
