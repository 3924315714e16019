//! Rows in the default partition: counted, told, and what keeps them from being moved.

use std::collections::HashMap;

use super::calendar::{Key, KeyEpoch};
use super::coverage::Stretch;
use super::facts::{Facts, Node, Strays, Table, Unread, bytes};
use super::{Partitions, Subject};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{by_people, tree};
use crate::engines::postgres::publications::{published, takes_in};
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::engines::postgres::{Identifier, Server, Session};
use crate::plan::{Finding, Param, Plan, Query, Required, Severity};
use crate::values::{several, unreadable};

/// More quarters of an hour than this are not told apart; it is ten years of them.
const MOST_STRAYS: i64 = 350_000;

/// What keeps rows in the default partition `$1` from leaving it, and what would be misled: one
/// row of four lists.
const KEEPING: &str = concat!(
    "SELECT ARRAY(SELECT 'rule ' || pg_catalog.quote_ident(r.rulename) || ' of ' || r.ev_class::pg_catalog.regclass::text
            FROM pg_catalog.pg_rewrite r WHERE r.ev_class = $1::pg_catalog.oid AND r.ev_type = '4' AND r.ev_enabled IN ('O', 'A')
        UNION ALL SELECT 'row-level security of ' || $1::pg_catalog.oid::pg_catalog.regclass::text
            WHERE pg_catalog.row_security_active($1::pg_catalog.oid)),
        ARRAY(SELECT 'trigger ' || pg_catalog.quote_ident(t.tgname) || ' of ' || t.tgrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN {tree} AND ",
    by_people!("t"),
    " AND t.tgenabled IN ('O', 'A') AND t.tgtype & 8 <> 0 ORDER BY 1),
        ARRAY(SELECT 'publication ' || pg_catalog.quote_ident(p.pubname)
            FROM pg_catalog.pg_publication p WHERE (p.pubdelete OR p.pubinsert) AND EXISTS (SELECT FROM {tree} l WHERE {published})
                -- Rows come into the new table before it is a partition: while it is a table by itself.
                OR p.pubinsert AND {takes_in} AND EXISTS (SELECT FROM pg_catalog.pg_class d WHERE d.oid = $1::pg_catalog.oid AND d.relpersistence = 'p')
            ORDER BY 1),
        ARRAY(SELECT DISTINCT f.conrelid::pg_catalog.regclass::text FROM pg_catalog.pg_constraint f
            WHERE f.confrelid IN {tree} AND f.contype = 'f' AND f.conparentid = 0 ORDER BY 1)"
);

/// The schema that new partitions are made in: that of the table whose default partition is `$1`.
const SCHEMA: &str = "(SELECT t.relnamespace FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class t ON t.oid = i.inhparent
    WHERE i.inhrelid = $1::pg_catalog.oid)";

/// SQL for [`KEEPING`].
pub(super) fn keeping_sql(server: &Server) -> String {
    KEEPING
        .replace("{tree}", &tree("$1"))
        .replace("{published}", &published(server, "p", "l.relid"))
        .replace("{takes_in}", &takes_in(server, "p", SCHEMA))
}

/// Looks what may keep rows from leaving the default partition, and whom it would mislead.
pub(super) async fn keeping(db: &Session, table: &mut Table) -> Result<(), EngineError> {
    let Some(default) = table.default.filter(|_| !table.strays.is_empty()) else {
        return Ok(());
    };
    let doing = "reading what keeps rows in the default partition";
    for row in db.query(doing, &table.keeps, &[&default]).await? {
        let names = |n| {
            let names: Vec<String> = row.get(n)?;
            let shown = names
                .iter()
                .map(|name| unreadable::escaped(name).into_owned());
            Ok::<_, EngineError>(shown.collect())
        };
        (table.keeping, table.fired) = (names(0)?, names(1)?);
        (table.published, table.referring) = (names(2)?, names(3)?);
    }
    Ok(())
}

/// Counts the rows of the default partition; `false` where somebody holds it.
pub(super) async fn count(
    db: &Session,
    table: &mut Table,
    nodes: &HashMap<u32, Node>,
    epoch: Option<KeyEpoch>,
    standing: &Standing,
) -> Result<bool, EngineError> {
    let (Some(default), Some(column)) = (table.default.and_then(|d| nodes.get(&d)), &table.column)
    else {
        return Ok(true);
    };
    let Ok(key) = Key::of(&table.key_type, epoch) else {
        return Ok(true);
    };
    if default.kind == "f" {
        // Its rows are somewhere else, and nobody moves them from here.
        return Ok(true);
    }
    let column = column.to_string();
    let sql = format!(
        "SELECT {}, {}, s.rows FROM (SELECT min({ordered}) AS first, max({ordered}) AS last, count(*) AS rows
            FROM {} WHERE {} GROUP BY {} ORDER BY 1 LIMIT {MOST_STRAYS}) s",
        key.place("s.first"),
        key.place("s.last"),
        default.name,
        key.finite(&column),
        key.bucket(&column),
        ordered = key.ordered(&column),
    );
    let doing = format!("counting the rows of {}", default.name);
    let guard = standing.guard(&[Touch::new(table.oid, Use::Read)]);
    // Rows that a policy hides are in the way, too.
    let begin = "BEGIN READ ONLY; SET LOCAL row_security = off";
    db.execute("beginning to count", begin).await?;
    let counted = async {
        if let Some(guard) = &guard {
            guard.take(db).await?;
        }
        db.query(&doing, &sql, &[]).await
    };
    let counted = counted.await;
    db.execute("ending the count", "ROLLBACK").await?;
    table.strays = match counted {
        Ok(rows) => {
            let mut strays = Vec::new();
            for row in &rows {
                let place = |n| {
                    let text: Option<String> = row.get(n)?;
                    Ok::<_, EngineError>(text.and_then(|text| key.read_place(&text)))
                };
                if let (Some(first), Some(last)) = (place(0)?, place(1)?) {
                    let rows = row.get(2)?;
                    strays.push(Strays { first, last, rows });
                }
            }
            strays
        }
        // It vanished: then its rows did, too.
        Err(error) if error.sqlstate() == Some("42P01") => Vec::new(),
        // insufficient_privilege is also what row-level security that is not to filter raises.
        Err(error) if error.sqlstate() == Some("42501") => {
            let sql = "SELECT pg_catalog.has_table_privilege($1::pg_catalog.oid, 'SELECT')";
            let doing = "reading what may be read of the default partition";
            let rows = db.query(doing, sql, &[&table.default]).await?;
            let may = rows.first().map(|row| row.get::<Option<bool>>(0));
            table.unread = Some(match may.transpose()?.flatten() {
                Some(true) => Unread::Filtered,
                Some(false) | None => Unread::Refused,
            });
            Vec::new()
        }
        Err(error) if error.sqlstate() == Some("55P03") => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(true)
}

/// Rows of the default partition in this stretch. Where an edge of it runs
/// through rows that are counted together, all of them.
pub(super) fn rows_in(subject: &Subject<'_>, (from, to): Stretch) -> i64 {
    let touches = |s: &&Strays| s.first < to && s.last >= from;
    let strays = subject.table.strays.iter().filter(touches);
    strays.map(|s| s.rows).sum()
}

/// Rows of the default partition that no new partition is for.
pub(super) fn rows_elsewhere(subject: &Subject<'_>, wanted: &[Stretch], plan: &mut Plan) {
    let Some(default) = subject.default else {
        return;
    };
    let elsewhere = |s: &&Strays| {
        !wanted
            .iter()
            .any(|(from, to)| s.first < *to && s.last >= *from)
    };
    let (mut rows, mut ends) = (0, None);
    for strays in subject.table.strays.iter().filter(elsewhere) {
        rows += strays.rows;
        let (first, last) = ends.unwrap_or((strays.first, strays.last));
        ends = Some((first.min(strays.first), last.max(strays.last)));
    }
    if let Some((first, last)) = ends {
        let about = match first == last {
            true => subject.key.literal(first),
            false => subject.shown((first, last)),
        };
        plan.findings.push(Finding {
            code: "partitions.default_rows".to_owned(),
            severity: Severity::Warning,
            object: default.name.to_string(),
            message: format!(
                "{} of {} {} in its default partition, about {about}: no partition covers them, so none is ever retired",
                several(rows, "row"),
                subject.table.name,
                if rows == 1 { "sits" } else { "sit" }
            ),
            suggestion: None,
        });
    }
}

/// Tells what nobody has looked at: absence is not proved by not looking.
pub(super) fn unread(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    wanted: &[Stretch],
    plan: &mut Plan,
) {
    let (Some(default), Some(oid)) = (subject.default, subject.table.default) else {
        return;
    };
    let table = &subject.table.name;
    let role = Identifier::new(&*facts.role);
    if let Some(unread) = subject.table.unread {
        let (why, help) = match unread {
            Unread::Refused => (
                "may not read it",
                format!("GRANT SELECT ON {} TO {role}", default.name),
            ),
            Unread::Filtered => (
                "is subject to row-level security there",
                format!("ALTER ROLE {role} BYPASSRLS"),
            ),
        };
        plan.findings.push(Finding {
            code: "privilege.missing".to_owned(),
            severity: Severity::Warning,
            object: default.name.to_string(),
            message: format!(
                "whether {}, the default partition of {table}, has rows is not known: {role} {why}. Rows there are in no period and never retired, and keep the partition that is meant for them from being made",
                default.name
            ),
            suggestion: Some(help),
        });
        return;
    }
    let size = u64::try_from(bytes(oid, &facts.nodes)).unwrap_or(0);
    if wanted.is_empty() && size > task.max_default_size.get() {
        plan.findings.push(Finding {
            code: "partitions.default_rows".to_owned(),
            severity: Severity::Warning,
            object: default.name.to_string(),
            message: format!(
                "{}, the default partition of {table}, is larger than max_default_size ({}), and so is not read: rows there are in no period and never retired, and the next partition that is needed cannot be made beside so many",
                default.name,
                task.max_default_size
            ),
            suggestion: None,
        });
    }
}

/// A table whose foreign key the moving would set off.
fn referring(table: &Table) -> Option<&String> {
    table.referenced_by.iter().chain(&table.referring).next()
}

/// Whether the rows in the way may be moved; otherwise it is told.
pub(super) fn may_move(
    task: &Partitions,
    subject: &Subject<'_>,
    stretch: Stretch,
    rows: i64,
    plan: &mut Plan,
) -> bool {
    let default = subject
        .default
        .map_or_else(String::new, |d| d.name.to_string());
    let why = if !task.move_default_rows {
        "`move_default_rows: true` moves them".to_owned()
    } else if rows > i64::from(task.max_moved_rows) {
        format!("that is more than max_moved_rows ({})", task.max_moved_rows)
    } else if let Some(from) = referring(subject.table) {
        format!("moving them would set off the foreign key of {from}")
    } else if !subject.table.keeping.is_empty() {
        format!("{} keeps them there", subject.table.keeping.join(", "))
    } else if !subject.table.fired.is_empty() {
        format!(
            "moving them would fire {}, as if they were deleted",
            subject.table.fired.join(", ")
        )
    } else if !subject.table.published.is_empty() {
        format!(
            "the subscribers of {} would lose them, have them twice, or stop at a table that they do not have",
            subject.table.published.join(", ")
        )
    } else {
        return true;
    };
    plan.undone(Finding {
        code: "partitions.default_in_the_way".to_owned(),
        severity: Severity::Critical,
        object: default,
        message: format!(
            "{} {} {} the partition of {} for them from being created; {why}",
            several(rows, "row"),
            subject.shown(stretch),
            if rows == 1 { "keeps" } else { "keep" },
            subject.table.name
        ),
        suggestion: Some(format!(
            "SELECT count(*) FROM {} WHERE {}",
            subject.default.map_or(&subject.table.name, |d| &d.name),
            condition(subject, stretch)
        )),
    });
    false
}

/// The condition that rows of a stretch meet.
pub(super) fn condition(subject: &Subject<'_>, (from, to): Stretch) -> String {
    let (column, key) = (subject.column, subject.key);
    format!(
        "{column} >= {} AND {column} < {}",
        key.literal(from),
        key.literal(to)
    )
}

/// What has to be so, under the lock, for rows to be moved out of the default partition: what
/// the plan found to be absent still is.
pub(super) fn unhindered(subject: &Subject<'_>) -> Required {
    let query = Query::new(
        format!(
            "SELECT pg_catalog.cardinality(k.keeping) + pg_catalog.cardinality(k.fired)
                + pg_catalog.cardinality(k.published) + pg_catalog.cardinality(k.referring) = 0
            FROM ({}) AS k (keeping, fired, published, referring)",
            subject.table.keeps
        ),
        [Param::Oid(subject.table.default.unwrap_or_default())],
    );
    let otherwise = "since the plan was made somebody gave the default partition a trigger, a rule, a policy, a publication or a foreign key that moving rows would set off; the next run says which";
    Required::new(query, otherwise).or_next_time()
}
