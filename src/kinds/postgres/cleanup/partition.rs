//! Whole partitions whose every row has expired: detached and dropped, which
//! costs nothing, instead of deleted.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::facts::{Member, Table};
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{RelationName, Session, literal};
use crate::kinds::postgres::common::{Leaving, detached, one_line, still_there};
use crate::plan::{
    Finding, Memory, Moment, Param, Plan, Query, Required, Severity, Statement, Step, Sweep,
};
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
        self.root == one_line(&table.name) && self.owner == table.owner
    }
}

const LEFTOVERS: &str = "SELECT c.oid, n.nspname::text, c.relname::text, d.description, c.relpages::int8 * 8192, c.relowner
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class r ON r.relowner = c.relowner AND r.relkind = 'p'
            AND pg_catalog.starts_with(d.description || E'\n', $1::text || CASE WHEN r.oid::pg_catalog.regclass::text ~ E'[\\n\\r]'
                THEN pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(r.oid::pg_catalog.regclass::text, E'\\\\', E'\\\\\\\\'), E'\\n', E'\\\\n'), E'\\r', E'\\\\r')
                ELSE r.oid::pg_catalog.regclass::text END || E'\n')
    WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND c.relkind = 'r'
        AND NOT c.relispartition AND pg_catalog.starts_with(d.description, $1::text)
        AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
        -- Rows that are hidden would not be judged.
        AND NOT pg_catalog.row_security_active(c.oid)";

const ATTACHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits
    WHERE inhrelid = $1::oid AND inhparent = $2::oid AND inhdetachpending = ($3::int8 = 1))";

/// Whether it is what was detached: a condition among others, whose values are numbered.
const WAS_DETACHED: &str =
    "EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $oid::oid AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
        AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), $mark::text))";

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
        if itself.is_none_or(|itself| itself == one_line(&name)) {
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
    let itself = one_line(&member.name);
    format!("{}\nas {itself}{end}{before}", begins(mark, table))
}

/// What the mark of a partition of this table begins with.
fn begins(mark: &str, table: &Table) -> String {
    format!("{mark}{}", one_line(&table.name))
}

fn leaving<'a>(mark: &str, member: &'a Member, table: &'a Table) -> Leaving<'a> {
    Leaving {
        oid: member.oid,
        name: &member.name,
        of: table.oid,
        root: &table.name,
        mark: begins(mark, table),
        kind: "TABLE",
        before: before(mark, member).map_or("NULL".to_owned(), literal),
    }
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
    let mut params: Vec<Param> = params;
    let was_detached = WAS_DETACHED
        .replace("$oid", &format!("${}", params.len() + 1))
        .replace("$mark", &format!("${}", params.len() + 2));
    params.push(Param::Oid(leftover.oid));
    params.push(Param::Text(begins(MARK, table)));
    let all = format!(
        "SELECT {was_detached} AND NOT EXISTS (SELECT FROM ONLY {} AS {} WHERE ({condition}) IS NOT TRUE)",
        leftover.name,
        rule.alias()
    );
    let all = Required {
        query: Query::new(all, params),
        otherwise: format!(
            "it has rows that today's rule keeps, or is not any more what an earlier run detached from {}; attach it again, or drop it by hand",
            leftover.root
        ),
        undo: None,
    };
    plan.steps.push(drop_leftover(leftover, all));
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

/// Tells of a partition, or other part of the table, on another server: its
/// rows stay. Nothing is told of one that holds only what is younger.
pub(in crate::kinds::postgres) fn foreign(
    member: &Member,
    table: &Table,
    rule: &Rule,
    age: Option<AgeType>,
    now: DateTime<Utc>,
    plan: &mut Plan,
) {
    let why = "it is a foreign table";
    let literal = member.bounds.as_deref().and_then(lower);
    let by_age = table.partitioned_by.is_some() && table.partitioned_by == rule.column;
    if let (Some(age), Some(lower), Some(cut), true) = (age, literal, rule.cut_off(now), by_age) {
        let (cut, _) = age.bound(cut, rule.epoch, rule.time_zone.as_ref());
        let younger = match (age, cut) {
            (AgeType::TimestampTz | AgeType::Timestamp, Param::Text(cut)) => {
                at_most(moment(&cut), moment(&lower))
            }
            (AgeType::Date, Param::Text(cut)) => {
                at_most(cut.parse::<NaiveDate>().ok(), lower.parse().ok())
            }
            (AgeType::Integer, Param::Int(cut)) => at_most(Some(cut), lower.parse().ok()),
            _ => false,
        };
        if younger {
            plan.skip(member.name.to_string(), why);
            return;
        }
    }
    plan.skip(member.name.to_string(), why);
    plan.undone(Finding {
        code: "rows.foreign".to_owned(),
        severity: Severity::Warning,
        object: member.name.to_string(),
        message: format!(
            "{} is a foreign table: rows of it that meet the rule for {} stay. Give the server that holds them a task of its own, or detach it",
            member.name, table.name
        ),
        suggestion: None,
    });
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

/// The literal of `FOR VALUES FROM ('…') TO (…)` with one column.
fn lower(bounds: &str) -> Option<String> {
    let from = bounds.strip_prefix("FOR VALUES FROM (")?;
    let literal = from.split_once(") TO (")?.0;
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
    let (part, whole) = (&member.name, &table.name);
    let leaving = leaving(MARK, member, table);
    let mut step = Step::new(
        "drop_partition",
        part.to_string(),
        format!("table {}", table.oid),
    )
    .locking(table.oid)
    .only_if(leaving.attached(), leaving.otherwise())
    .expecting(member.bytes, Some(0));
    let counting = counting(member.oid, part);
    if table.has_default {
        // What is detached beside a default partition takes any row. So both
        // are one transaction, which they are if sent as one.
        let sql = format!("ALTER TABLE {whole} DETACH PARTITION {part}; DROP TABLE {part}");
        return step
            .run(counting.requiring(leaving.still_attached()))
            .run(Statement::brief(sql).requiring(leaving.still_attached()));
    }
    for statement in detach(member, table, MARK) {
        step = step.run(statement);
    }
    step.body.on_abort = unmarking(member, table, MARK);
    let drop_table = Statement::brief(format!("DROP TABLE {part}"))
        .locking(format!("LOCK TABLE ONLY {part} IN ACCESS EXCLUSIVE MODE"))
        .requiring(leaving.still_detached());
    step.run(counting.only_if(detached(member.oid, &leaving.mark)))
        .run(drop_table)
}

/// Takes a partition out of its table, marked with a comment before, so that
/// it is found again wherever this ends. What is done already is left out.
/// Where somebody else has detached it meanwhile, the step ends.
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
    let leaving = leaving(mark, member, table);
    let mark = comment(part, Some(&marked(mark, member, table)));
    let finalize = format!("ALTER TABLE {whole} DETACH PARTITION {part} FINALIZE");
    let finalize = Statement::brief(finalize).only_if(attached(1));
    if table.has_default {
        // The server cannot do it concurrently beside a default partition.
        // Sent as one, the two are one transaction.
        let detach = format!("ALTER TABLE {whole} DETACH PARTITION {part}; {mark}");
        let detach = Statement::brief(detach).requiring(leaving.still_attached());
        return vec![detach.only_if(attached(0)), finalize];
    }
    let detach = Statement::patient(
        format!("ALTER TABLE {whole} DETACH PARTITION {part} CONCURRENTLY"),
        format!("LOCK TABLE ONLY {whole}, {part} IN SHARE UPDATE EXCLUSIVE MODE"),
    );
    let lock = format!("LOCK TABLE ONLY {part} IN SHARE UPDATE EXCLUSIVE MODE");
    let mark = Statement::brief(mark).locking(lock);
    vec![
        mark.requiring(leaving.still_attached()),
        detach
            .requiring(leaving.still_attached())
            .only_if(attached(0)),
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

/// Asked before a partition is archived: whether it is one still, or is what
/// was detached in order to be archived; and why not, otherwise.
pub(in crate::kinds::postgres) fn as_it_was(
    member: &Member,
    table: &Table,
    mark: &str,
) -> (Query, String) {
    let leaving = leaving(mark, member, table);
    if member.detached {
        let asked = leaving.still_detached();
        return (asked.query, asked.otherwise);
    }
    (leaving.attached(), leaving.otherwise())
}

/// Answers whether a table was detached, and is marked so.
pub(in crate::kinds::postgres) fn was_detached(oid: u32, table: &Table, mark: &str) -> Query {
    detached(oid, &begins(mark, table))
}

/// Drops what an earlier run detached, where all its rows meet the condition.
fn drop_leftover(leftover: &Leftover, all: Required) -> Step {
    let name = &leftover.name;
    // Rows that are hidden, or come while it waits, would not be judged.
    let lock =
        format!("SET LOCAL row_security = off; LOCK TABLE ONLY {name} IN SHARE ROW EXCLUSIVE MODE");
    let drop_table = Statement::brief(format!("DROP TABLE {name}"));
    Step::new(
        "drop_partition",
        name.to_string(),
        format!("table {}", leftover.oid),
    )
    .because("an earlier run detached it because all its rows had expired, and ended before it dropped it")
    .locking(leftover.oid)
    .touching(leftover.oid, Use::Define)
    .only_if(still_there(leftover.oid, name), "the table has vanished")
    .run(counting(leftover.oid, name))
    .run(drop_table.locking(lock).requiring(all))
    .expecting(leftover.bytes, Some(0))
}

/// How many rows go with a table.
fn counting(oid: u32, name: &RelationName) -> Statement {
    let sql = COUNTED
        .replace("{oid}", &oid.to_string())
        .replace("{name}", &name.to_string());
    let mut counting = Statement::brief(sql);
    counting.counts = true;
    counting
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
