//! What the server's words do not say of a step that has failed: whose they are, where an event
//! trigger speaks of a command, which nobody sees who looks at the table; and what rows that move have
//! to do with a constraint.

use crate::engines::EngineError;
use crate::engines::postgres::{Session, first};
use crate::plan::Step;

/// Enabled event triggers, as contexts of errors call their functions, and whose they are.
const EVENT_TRIGGERS: &str = "SELECT pg_catalog.quote_ident(e.evtname), e.evtfoid::pg_catalog.regprocedure::text, e.evtevent::text,
        pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.evtowner))
    FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D' ORDER BY 1";

/// Whether the table that the step is about has a rule itself that rows do not meet: where that was
/// added NOT VALID, rows that were there need not meet it.
const ITS_OWN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = $1::oid AND a.attnotnull AND 'NOT NULL of ' || a.attname = $2::text)
        OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1::oid AND k.conname = $2::text)";

/// The error, with what the server's words do not say of it.
pub(super) async fn named(error: EngineError, step: &Step, session: &Session) -> EngineError {
    named_by(of_moved_rows(error, step, session).await, session).await
}

/// A new partition has what its siblings have, and what its table has. Rows of the default partition,
/// where nobody has asked it of them, need not be so.
async fn of_moved_rows(error: EngineError, step: &Step, session: &Session) -> EngineError {
    let EngineError::Statement {
        sqlstate, origin, ..
    } = &error
    else {
        return error;
    };
    let help = match sqlstate.as_str() {
        _ if step.action != "create_partition" || origin.is_raised() => return error,
        "23505" => {
            "find those that are there twice (SELECT its columns, count(*) … GROUP BY … HAVING count(*) > 1)"
        }
        "23P01" => "find those that exclude each other",
        "23502" | "23514" => "find those that do not meet it",
        _ => return error,
    };
    let rule = origin.rule.clone();
    let rule = rule.unwrap_or_else(|| "a constraint".to_owned());
    let doing = "looking whose the constraint is";
    let asked = session
        .query(doing, ITS_OWN, &[&step.body.relation, &rule])
        .await;
    // Where it cannot be asked, the words stay those of what is likeliest.
    let its_own =
        asked.is_ok_and(|rows| first::<bool>(&rows, 0).is_ok_and(|own| own == Some(true)));
    let (whose, or) = match its_own {
        true => (
            "which the table itself has, NOT VALID for rows that were there before",
            "",
        ),
        false => (
            "which the new partition is given because its newest sibling has it",
            ", or take it from the sibling",
        ),
    };
    error.reworded(|message| {
        format!(
            "rows that are to move out of the default partition do not meet {rule}, {whose} ({message}): nothing was made or moved; {help} in the default partition and mend them{or}"
        )
    })
}

/// With the event trigger in it that it comes from, where it comes from one.
async fn named_by(error: EngineError, session: &Session) -> EngineError {
    let EngineError::Statement { origin, .. } = &error else {
        return error;
    };
    let Some(context) = origin.context.clone() else {
        return error;
    };
    let doing = "looking for the event trigger";
    let Ok(rows) = session.query(doing, EVENT_TRIGGERS, &[]).await else {
        return error;
    };
    let mut found = None;
    for row in &rows {
        let text = |n: usize| row.get::<String>(n);
        if let (Ok(name), Ok(function), Ok(event), Ok(owner)) = (text(0), text(1), text(2), text(3))
            && context.contains(&function)
        {
            found = Some(format!(
                "the event trigger {name} ({event}, function {function}, of {owner}) refuses this: {owner} or a superuser can let it pass, or ALTER EVENT TRIGGER {name} DISABLE while maint works"
            ));
            break;
        }
    }
    match found {
        Some(found) => error.reworded(|message| format!("{message}: {found}")),
        None => error,
    }
}
