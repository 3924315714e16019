//! Whole partitions whose every row has expired: detached and dropped, which
//! costs nothing, instead of deleted.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::facts::{Member, Table};
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{RelationName, Session, literal};
use crate::kinds::postgres::common::still_there;
use crate::plan::{Finding, Memory, Moment, Param, Plan, Query, Severity, Statement, Step, Sweep};
use crate::values::{TableName, unreadable};

/// A comment marks what was detached in order to be dropped, so that a run
/// that dies in between leaves nothing that nobody knows of. Its second line
/// names the table itself; what follows is the comment that was there before.
pub(in crate::kinds::postgres) const MARK: &str = "maint: expired partition of ";

/// A table that was detached in order to be dropped, and is still there.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct Leftover {
    pub(in crate::kinds::postgres) oid: u32,
    pub(in crate::kinds::postgres) name: RelationName,
    /// The table it was a partition of.
    pub(in crate::kinds::postgres) root: String,
    pub(in crate::kinds::postgres) bytes: i64,
    owner: u32,
}

impl Leftover {
    /// Whether it can have been a partition of this table. Anybody can write
    /// a comment: who does not belong to the owner of the table was none.
    pub(in crate::kinds::postgres) fn is_of(&self, table: &Table) -> bool {
        self.root == table.name.to_string() && self.owner == table.owner
    }
}

const LEFTOVERS: &str = "SELECT c.oid, n.nspname::text, c.relname::text, d.description, c.relpages::int8 * 8192, c.relowner
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class r ON r.relowner = c.relowner AND r.relkind = 'p'
            AND pg_catalog.starts_with(d.description || E'\n', $1::text || r.oid::pg_catalog.regclass::text || E'\n')
    WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND c.relkind = 'r'
        AND NOT c.relispartition AND pg_catalog.starts_with(d.description, $1::text)
        AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
        -- Rows that are hidden would not be judged.
        AND NOT pg_catalog.row_security_active(c.oid)";

const ATTACHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits
    WHERE inhrelid = $1::oid AND inhparent = $2::oid AND inhdetachpending = ($3::int8 = 1))";

const DETACHED: &str =
    "SELECT NOT c.relispartition FROM pg_catalog.pg_class c WHERE c.oid = $1::oid";

/// What an aborted detachment left: a mark on what is a partition still.
const MARKED: &str = "SELECT $2::text, $3::text FROM pg_catalog.pg_class c
    WHERE c.oid = $1::oid AND c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)
        AND pg_catalog.obj_description(c.oid, 'pg_class') = $4::text";

/// So many bytes are counted row by row before they are dropped.
const COUNTED: &str = "SELECT CASE WHEN pg_catalog.pg_relation_size({oid}::oid) <= 1073741824
    THEN (SELECT pg_catalog.count(*) FROM ONLY {name})
    ELSE (SELECT greatest(reltuples, 0)::int8 FROM pg_catalog.pg_class WHERE oid = {oid}::oid) END";

/// Tables with this mark.
pub(in crate::kinds::postgres) async fn leftovers(
    db: &Session,
    mark: &str,
) -> Result<Vec<Leftover>, EngineError> {
    let doing = "reading which partitions wait to be dropped";
    let rows = db.query(doing, LEFTOVERS, &[&mark]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let name = RelationName::new(row.get::<String>(1)?, row.get::<String>(2)?);
        let comment: String = row.get(3)?;
        let Some((root, itself, _)) = read_mark(mark, &comment) else {
            continue;
        };
        // Renamed, or moved: somebody has something else in mind with it.
        if itself.is_none_or(|itself| itself == name.to_string()) {
            found.push(Leftover {
                oid: row.get(0)?,
                root: root.to_owned(),
                name,
                bytes: row.get(4)?,
                owner: row.get(5)?,
            });
        }
    }
    Ok(found)
}

/// The mark of a member on its way out.
fn marked(mark: &str, member: &Member, table: &Table) -> String {
    let before = before(mark, member).unwrap_or_default();
    let end = if before.is_empty() { "" } else { "\n" };
    format!("{mark}{}\nas {}{end}{before}", table.name, member.name)
}

/// The comment of a member without the mark. One that cannot be written is no
/// reason to keep the partition.
fn before<'a>(mark: &str, member: &'a Member) -> Option<&'a str> {
    let comment = member
        .comment
        .as_deref()
        .filter(|c| !unreadable::is_in(c))?;
    match read_mark(mark, comment) {
        Some((_, _, before)) => before,
        None => Some(comment),
    }
}

/// Of a mark: the table, the partition where it says so, and the comment
/// that was there before.
fn read_mark<'a>(
    mark: &str,
    comment: &'a str,
) -> Option<(&'a str, Option<&'a str>, Option<&'a str>)> {
    let mut lines = comment.strip_prefix(mark)?.splitn(2, '\n');
    let root = lines.next()?;
    let Some(rest) = lines.next() else {
        return Some((root, None, None));
    };
    let mut lines = rest.splitn(2, '\n');
    match lines.next().and_then(|line| line.strip_prefix("as ")) {
        Some(itself) => Some((root, Some(itself), lines.next())),
        None => Some((root, None, Some(rest))),
    }
}

fn comment(name: &RelationName, text: Option<&str>) -> String {
    let text = text.map_or("NULL".to_owned(), literal);
    format!("COMMENT ON TABLE {name} IS {text}")
}

/// Takes the mark from members that are partitions again, or still: what
/// somebody detaches later is theirs.
pub(in crate::kinds::postgres) fn unmark<'a>(
    mark: &str,
    tables: impl Iterator<Item = &'a Table>,
    plan: &mut Plan,
) {
    for table in tables {
        for member in table.members.iter().filter(|m| !m.detached) {
            let is_marked = member
                .comment
                .as_deref()
                .is_some_and(|c| c.starts_with(mark));
            let leaves = plan
                .steps
                .iter()
                .any(|s| s.object == member.name.to_string() && leaves(&s.action));
            if !is_marked || leaves || !table.owned || member.bounds.is_none() {
                continue;
            }
            let restored = comment(&member.name, before(mark, member));
            plan.steps.push(
                Step::new(
                    "unmark_partition",
                    member.name.to_string(),
                    format!("table {}", table.oid),
                )
                .because("it was marked as on its way out, and is a partition")
                .locking(member.oid)
                .only_if(
                    still_there(member.oid, &member.name),
                    "the partition has vanished",
                )
                .touching(member.oid, Use::Command)
                .run(Statement::brief(restored)),
            );
        }
    }
}

/// Has the history know which tables are going to be marked, before they are:
/// a comment alone proves nothing, as whoever owns a table can write one.
pub(in crate::kinds::postgres) fn remember<'a>(
    tables: impl Iterator<Item = &'a Table>,
    plan: &mut Plan,
) {
    for member in tables.flat_map(|table| &table.members) {
        let name = member.name.to_string();
        let mut steps = plan.steps.iter();
        if !member.detached && steps.any(|s| s.object == name && leaves(&s.action)) {
            plan.memories.push(memory(member.oid, &member.name));
        }
    }
}

/// What is remembered of a table that is going to be marked.
pub(in crate::kinds::postgres) fn memory(oid: u32, name: &RelationName) -> Memory {
    Memory {
        key: key(oid),
        value: name.to_string().into(),
    }
}

/// Whether the history knows that maint was about to mark this table. One that
/// a dump has brought back is another.
pub(in crate::kinds::postgres) fn is_known(oid: u32, name: &RelationName, at: &Moment) -> bool {
    let known = at.memories.get(&key(oid)).and_then(|name| name.as_str());
    known == Some(name.to_string().as_str())
}

/// Leaves alone what only says of itself that maint detached it.
pub(in crate::kinds::postgres) fn unknown(name: &RelationName, root: &str, plan: &mut Plan) {
    plan.skip(
        name.to_string(),
        "by its comment maint detached it, and the history does not know of that",
    );
    plan.findings.push(Finding {
        code: "partitions.unknown_mark".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "the comment of {name} says that maint detached it from {root} to have it leave, and the history knows nothing of that: somebody wrote the comment, an older version did, or the history is another one. Nothing is done with it: attach it again, drop it by hand if its rows are not wanted, or take the comment away"
        ),
        suggestion: None,
    });
}

fn key(oid: u32) -> String {
    format!("marked {oid}")
}

fn leaves(action: &str) -> bool {
    matches!(
        action,
        "drop_partition" | "archive_partition" | "retire_partition"
    )
}

/// Whether a table that an earlier run detached can be dropped; otherwise it
/// is told what is in the way.
pub(in crate::kinds::postgres) fn is_free(
    leftover: &Leftover,
    tables: &HashMap<TableName, Table>,
    dependents: &[String],
    at: &Moment,
    plan: &mut Plan,
) -> bool {
    let ours = tables.values().any(|table| leftover.is_of(table));
    if dependents.is_empty() || !ours || !is_known(leftover.oid, &leftover.name, at) {
        return true;
    }
    plan.undone(depended_on(&leftover.name, &leftover.root, dependents));
    false
}

/// Tells what keeps from being dropped what was detached already.
pub(in crate::kinds::postgres) fn depended_on(
    name: &RelationName,
    root: &str,
    dependents: &[String],
) -> Finding {
    Finding {
        code: "partitions.depended_on".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "{name} was detached from {root} and is to be dropped, and cannot be: {} depends on it; drop that, or attach it again",
            dependents.join(", ")
        ),
        suggestion: None,
    }
}

/// Plans what becomes of a table that an earlier run detached: it is dropped
/// only if today's rules mean all its rows.
pub(in crate::kinds::postgres) fn leftover(
    leftover: &Leftover,
    rules: &[Rule],
    tables: &HashMap<TableName, Table>,
    at: &Moment,
    plan: &mut Plan,
) {
    let Some((name, table)) = tables.iter().find(|(_, table)| leftover.is_of(table)) else {
        return;
    };
    if !is_known(leftover.oid, &leftover.name, at) {
        return unknown(&leftover.name, &leftover.root, plan);
    }
    let rule = rules
        .iter()
        .filter(|rule| rule.table == *name && rule.by_age_alone())
        .filter_map(|rule| Some((rule, rule.cut_off(at.now)?)))
        .max_by_key(|(_, cut)| *cut);
    let age = rule.and_then(|(rule, _)| super::age_of(rule, table).ok());
    let (Some((rule, _)), Some(age)) = (rule, age) else {
        plan.skip(
            leftover.name.to_string(),
            "an earlier run detached it, and no rule goes by age alone any more",
        );
        return;
    };
    let (condition, params) = rule.condition(age, at.now);
    let all = format!(
        "SELECT NOT EXISTS (SELECT FROM ONLY {} AS {} WHERE ({condition}) IS NOT TRUE)",
        leftover.name,
        rule.alias()
    );
    plan.steps.push(
        drop_leftover(leftover)
            .only_if(
                Query::new(all, params),
                format!(
                    "it has rows that today's rule keeps: an earlier run detached it from {}; attach it again, or drop it by hand",
                    leftover.root
                ),
            ),
    );
}

/// Whether every row that the partition can hold is older than the cut-off.
pub(in crate::kinds::postgres) fn expired(
    member: &Member,
    table: &Table,
    rule: &Rule,
    age: Option<AgeType>,
    now: DateTime<Utc>,
) -> bool {
    let (Some(age), Some(bounds), Some(cut)) = (age, &member.bounds, rule.cut_off(now)) else {
        return false;
    };
    if !rule.by_age_alone() || table.partitioned_by != rule.column || member.kind != "r" {
        return false;
    }
    let (Some(upper), (cut, _)) = (
        upper(bounds),
        age.bound(cut, rule.epoch, rule.time_zone.as_ref()),
    ) else {
        return false;
    };
    match (age, cut) {
        (AgeType::TimestampTz | AgeType::Timestamp, Param::Text(cut)) => {
            at_most(moment(&upper), moment(&cut))
        }
        (AgeType::Date, Param::Text(cut)) => {
            at_most(upper.parse::<NaiveDate>().ok(), cut.parse().ok())
        }
        (AgeType::Integer, Param::Int(cut)) => at_most(upper.parse().ok(), Some(cut)),
        // Other versions of UUID could be in it, too.
        _ => false,
    }
}

fn at_most<T: PartialOrd>(upper: Option<T>, cut: Option<T>) -> bool {
    matches!((upper, cut), (Some(upper), Some(cut)) if upper <= cut)
}

/// The literal of `FOR VALUES FROM (…) TO ('…')` with one column.
fn upper(bounds: &str) -> Option<String> {
    let literal = bounds.rsplit_once(" TO (")?.1.strip_suffix(')')?;
    let literal = literal
        .strip_prefix('\'')
        .and_then(|l| l.strip_suffix('\''))
        .unwrap_or(literal);
    (!literal.contains(['\'', '(', ','])).then(|| literal.to_owned())
}

/// A timestamp as the server writes it in UTC.
fn moment(text: &str) -> Option<NaiveDateTime> {
    let text = text.strip_suffix("+00").unwrap_or(text);
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()
}

/// Detaches and drops.
pub(in crate::kinds::postgres) fn drop_whole(member: &Member, table: &Table) -> Step {
    let part = &member.name;
    let mut step = Step::new(
        "drop_partition",
        part.to_string(),
        format!("table {}", table.oid),
    )
    .locking(table.oid)
    .only_if(still_there(member.oid, part), "the partition has vanished");
    for statement in detach(member, table, MARK) {
        step = step.run(statement);
    }
    step.body.on_abort = unmarking(member, table, MARK);
    step.run(counting(member.oid, part))
        .run(drop_table(member.oid, part))
        .expecting(member.bytes, Some(0))
}

/// Takes a partition out of its table, marked with a comment before, so that
/// it is found again wherever this ends. What is done already is left out.
pub(in crate::kinds::postgres) fn detach(
    member: &Member,
    table: &Table,
    mark: &str,
) -> Vec<Statement> {
    let (part, whole) = (&member.name, &table.name);
    let attached = |pending: i64| {
        Query::new(
            ATTACHED,
            [
                Param::Oid(member.oid),
                Param::Oid(table.oid),
                Param::Int(pending),
            ],
        )
    };
    let mark = comment(part, Some(&marked(mark, member, table)));
    let finalize = format!("ALTER TABLE {whole} DETACH PARTITION {part} FINALIZE");
    let finalize = Statement::brief(finalize).only_if(attached(1));
    if table.has_default {
        // The server cannot do it concurrently beside a default partition.
        // Sent as one, the two are one transaction.
        let detach = format!("ALTER TABLE {whole} DETACH PARTITION {part}; {mark}");
        return vec![Statement::brief(detach).only_if(attached(0)), finalize];
    }
    let detach = Statement::patient(
        format!("ALTER TABLE {whole} DETACH PARTITION {part} CONCURRENTLY"),
        format!("LOCK TABLE ONLY {whole}, {part} IN SHARE UPDATE EXCLUSIVE MODE"),
    );
    vec![
        Statement::brief(mark),
        detach.only_if(attached(0)),
        finalize,
    ]
}

/// Puts the comment back where a detachment came to nothing.
pub(in crate::kinds::postgres) fn unmarking(
    member: &Member,
    table: &Table,
    mark: &str,
) -> Option<Sweep> {
    Some(Sweep {
        query: Query::new(
            MARKED,
            [
                Param::Oid(member.oid),
                Param::Text(member.name.to_string()),
                Param::Text(comment(&member.name, before(mark, member))),
                Param::Text(marked(mark, member, table)),
            ],
        ),
    })
}

/// Answers whether a table is no partition, or not any more.
pub(in crate::kinds::postgres) fn detached(oid: u32) -> Query {
    Query::new(DETACHED, [Param::Oid(oid)])
}

/// Drops what an earlier run detached.
pub(in crate::kinds::postgres) fn drop_leftover(leftover: &Leftover) -> Step {
    Step::new(
        "drop_partition",
        leftover.name.to_string(),
        format!("table {}", leftover.oid),
    )
    .because("an earlier run detached it because all its rows had expired, and ended before it dropped it")
    .locking(leftover.oid)
    .touching(leftover.oid, Use::Define)
    .run(counting(leftover.oid, &leftover.name))
    .run(drop_table(leftover.oid, &leftover.name))
    .expecting(leftover.bytes, Some(0))
}

/// How many rows go with a table.
fn counting(oid: u32, name: &RelationName) -> Statement {
    let sql = COUNTED
        .replace("{oid}", &oid.to_string())
        .replace("{name}", &name.to_string());
    let mut counting = Statement::brief(sql).only_if(detached(oid));
    counting.counts = true;
    counting
}

fn drop_table(oid: u32, name: &RelationName) -> Statement {
    Statement::brief(format!("DROP TABLE {name}")).only_if(detached(oid))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn reads_the_upper_bound() {
        for (bounds, literal) in [
            (
                "FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2026-02-01 00:00:00+00')",
                Some("2026-02-01 00:00:00+00"),
            ),
            (
                "FOR VALUES FROM (MINVALUE) TO ('2026-02-01')",
                Some("2026-02-01"),
            ),
            (
                "FOR VALUES FROM ('1') TO ('1774996200')",
                Some("1774996200"),
            ),
            ("FOR VALUES FROM ('1', 'a') TO ('2', 'b')", None),
            ("DEFAULT", None),
        ] {
            assert_eq!(upper(bounds).as_deref(), literal, "{bounds}");
        }
        assert_eq!(
            upper("FOR VALUES FROM ('1') TO (MAXVALUE)").unwrap(),
            "MAXVALUE"
        );
        assert!(moment("MAXVALUE").is_none());
        assert!(moment("infinity").is_none());
        assert!(moment("2026-02-01 00:00:00+00") > moment("2026-01-31 23:59:59.5"));
        assert!(!at_most::<i64>(None, Some(1)));
    }
}
