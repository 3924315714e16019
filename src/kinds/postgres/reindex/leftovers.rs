//! What failed concurrent rebuilds leave behind: found by name, proved by
//! definition, removed only when nobody is at work on it.

use super::facts::{self, IndexFacts, Leftover};
use crate::engines::EngineError;
use crate::engines::postgres::Identifier;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::Selection;
use crate::kinds::postgres::half_built;
use crate::plan::{Finding, Param, Plan, Query, Severity, Statement, Step};

/// What the step is called that removes one.
const DROP: &str = "drop_leftover";

/// Whether it is still invalid, and nobody holds a lock under which it could
/// become valid. A build holds such a lock from its first moment to its last,
/// so between this answer and the DROP nobody can complete one.
fn still_abandoned(oid: u32) -> Query {
    let sql = format!(
        "SELECT count(*) > 0 FROM ({}) AS l WHERE l.oid = $1::oid AND l.busy IS NULL",
        half_built::sql("true")
    );
    Query::new(sql, [Param::Oid(oid)])
}

/// What an aborted rebuild of this index left, with the statement that removes it.
pub(super) fn of_rebuild(index: &IndexFacts) -> Query {
    let sql = format!(
        "SELECT DISTINCT pg_catalog.format('%I.%I', l.leftover_schema, l.leftover_name),
            CASE WHEN l.busy IS NULL THEN
            pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I', l.leftover_schema, l.leftover_name) END
        FROM ({}) AS l WHERE l.indrelid = $1::oid AND l.base_name = $2::text",
        half_built::sql("true")
    );
    let base = index.index.as_ref().map(|n| n.relation.raw().to_owned());
    Query::new(
        sql,
        [
            Param::Oid(index.table_oid),
            Param::Text(base.unwrap_or_default()),
        ],
    )
}

/// All leftovers in the database.
pub(super) async fn find(db: &Session) -> Result<Vec<Leftover>, EngineError> {
    let mut found = facts::leftovers(db).await?;
    // One with several possible bases is still one index.
    found.sort_by_key(|l| l.oid);
    found.dedup_by_key(|l| l.oid);
    Ok(found)
}

/// What the role may not drop, although it may rebuild the index that it was to replace.
fn not_ours(leftover: &Leftover, role: &str) -> Finding {
    let (role, owner) = (Identifier::new(role), Identifier::new(&*leftover.owner));
    Finding {
        code: "index.invalid".to_owned(),
        severity: Severity::Warning,
        object: leftover.index.to_string(),
        message: format!(
            "{} on {} is invalid: a concurrent rebuild of {} that failed left it. It costs every write and helps no query. Only its owner may drop it: {role} is no member of {owner}, and MAINTAIN does not suffice",
            leftover.index, leftover.table, leftover.base
        ),
        suggestion: Some(format!("DROP INDEX CONCURRENTLY {}", leftover.index)),
    }
}

/// Steps that remove what is abandoned.
pub(super) fn plan(leftovers: &[Leftover], selection: &Selection<'_>, role: &str, plan: &mut Plan) {
    for leftover in leftovers {
        // Who leaves a table or an index to others leaves them its remains, too.
        if !selection.covers_any(&[&leftover.base, &leftover.table])
            || selection.excludes(&leftover.index)
        {
            continue;
        }
        let name = leftover.index.to_string();
        if let Some(busy) = &leftover.busy {
            plan.skip(
                name,
                format!(
                    "looks like the leftover of a failed rebuild of {}, but somebody works on {} ({busy})",
                    leftover.base, leftover.table
                ),
            );
        } else if !leftover.may {
            plan.findings.push(not_ours(leftover, role));
        } else {
            plan.steps.push(
                Step::new(DROP, name.clone(), format!("table {}", leftover.table_oid))
                    .because(format!(
                        "left by a failed concurrent rebuild of {}: invalid, the same definition, and nobody works on its table",
                        leftover.base
                    ))
                    .locking(leftover.table_oid)
                    .relying_on(leftover.oid, &name)
                    .touching(leftover.table_oid, Use::Command)
                    .run(Statement::brief(format!("DROP INDEX CONCURRENTLY {name}")))
                    .only_if(
                        still_abandoned(leftover.oid),
                        "it is gone, has become valid, or somebody works on its table",
                    )
                    .measured_by(Query::new(
                        "SELECT coalesce(pg_catalog.pg_relation_size($1::oid), 0), NULL::float8",
                        [Param::Oid(leftover.oid)],
                    ))
                    .expecting(leftover.bytes, Some(0)),
            );
        }
    }
}

/// The rebuild of an index, once what earlier ones have left on its table is gone: who keeps that from
/// being dropped would keep the next one, too, and each is a copy that every write goes into.
pub(super) fn first(leftovers: &[Leftover], index: &IndexFacts, plan: &Plan, step: Step) -> Step {
    let left = leftovers.iter().filter(|l| l.table_oid == index.table_oid);
    left.fold(step, |step, leftover| {
        let dropped = leftover.index.to_string();
        let planned = |s: &Step| s.action == DROP && s.object == dropped;
        match plan.steps.iter().any(planned) {
            true => step.after(DROP, dropped),
            false => step,
        }
    })
}
