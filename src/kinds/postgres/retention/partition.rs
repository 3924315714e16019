//! Whole partitions whose every row has expired: detached and dropped, which
//! costs nothing, instead of deleted.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::facts::{Member, Table};
use super::mark::{MARK, comment, leaving, marked, unmarking};
use super::never::{Never, lower, may_hold};
use super::outside::Outside;
use super::rule::{AgeType, Rule};
use super::ties::Ties;
use crate::engines::postgres::RelationName;
use crate::kinds::postgres::leaving::{detached, try_to_drop};
use crate::plan::{Finding, Param, Plan, Query, Severity, Statement, Step};
use crate::values::Epoch;

const ATTACHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits
    WHERE inhrelid = $1::oid AND inhparent = $2::oid AND inhdetachpending = ($3::int8 = 1))";

/// So many bytes are counted row by row before they are dropped.
const COUNTED: &str = "SELECT CASE WHEN pg_catalog.pg_relation_size({oid}::oid) <= 1073741824
    THEN (SELECT pg_catalog.count(*) FROM ONLY {name})
    ELSE (SELECT greatest(reltuples, 0)::int8 FROM pg_catalog.pg_class WHERE oid = {oid}::oid) END";

/// Whether every row that the partition can hold is older than the cut-off.
pub(in crate::kinds::postgres) fn expired(
    member: &Member,
    table: &Table,
    rule: &Rule,
    age: Option<AgeType>,
    never: &Never,
    now: DateTime<Utc>,
) -> bool {
    let Some(bounds) = &member.bounds else {
        return false;
    };
    // What an earlier run detached was judged then.
    let all_known = || match never.before {
        Some(before) if !member.detached => {
            never.any.get(&member.oid) == Some(&false) || !may_hold(member, table, rule, before)
        }
        _ => true,
    };
    rule.by_age_alone()
        && table.partitioned_by == rule.column
        && member.kind == "r"
        && ends_before(bounds, rule, age, now)
        && all_known()
}

/// Whether these bounds end before the cut-off.
pub(super) fn ends_before(
    bounds: &str,
    rule: &Rule,
    age: Option<AgeType>,
    now: DateTime<Utc>,
) -> bool {
    let (Some(age), Some(cut)) = (age, rule.cut_off(now)) else {
        return false;
    };
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
        (AgeType::Integer, Param::Int(cut)) => {
            at_most(upper.parse().ok(), Some(cut)) && !may_be_doubted(bounds, rule)
        }
        // Other versions of UUID could be in it, too.
        _ => false,
    }
}

/// Whether a partition with these bounds can hold numbers whose age nobody knows.
fn may_be_doubted(bounds: &str, rule: &Rule) -> bool {
    let Some(earliest) = rule.epoch.map(Epoch::earliest) else {
        return false;
    };
    let lower = lower(bounds).and_then(|lower| lower.parse::<i64>().ok());
    lower.is_none_or(|lower| lower < earliest)
}

/// Why what was detached does not go: `by_age` where the rule still goes by age alone.
pub(in crate::kinds::postgres) fn not_meant(by_age: bool) -> String {
    match by_age {
        true => "today's rule keeps rows that it can hold",
        false => "no rule goes by age alone any more, and today's may keep some of its rows",
    }
    .to_owned()
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

/// A timestamp as the server writes it in UTC.
fn moment(text: &str) -> Option<NaiveDateTime> {
    let text = text.strip_suffix("+00").unwrap_or(text);
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()
}

/// Detaches and drops.
pub(in crate::kinds::postgres) fn drop_whole(member: &Member, table: &Table, ties: &Ties) -> Step {
    let (part, whole) = (&member.name, &table.name);
    let leaving = leaving(MARK, member, table);
    let (still, otherwise) = ties.unchanged(member, (leaving.attached(), leaving.otherwise()));
    let mut step = Step::new(
        "drop_partition",
        part.to_string(),
        format!("table {}", table.oid),
    )
    .locking(table.oid)
    .relying_on(member.oid, part)
    .only_if(still, otherwise)
    .expecting(member.bytes, Some(0));
    let counting = counting(member.oid, part);
    // What is half out already can only be finished, whatever has come beside it since.
    if table.has_default && !member.pending {
        // What is detached beside a default partition takes any row. So both
        // are one transaction, which they are if sent as one.
        let sql = format!("ALTER TABLE {whole} DETACH PARTITION {part}; DROP TABLE {part}");
        return step
            .run(counting.requiring(leaving.still_attached()))
            .run(Statement::brief(sql).requiring(leaving.droppable(leaving.still_attached())));
    }
    for statement in detach(member, table, MARK) {
        step = step.run(statement);
    }
    step.body.on_abort = unmarking(member, table, MARK);
    let root = whole.to_string();
    step.body.outside = Some(Outside::of(member, table, &root).left(member.oid, &leaving.mark));
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
        let lock = format!("LOCK TABLE ONLY {whole}, ONLY {part} IN ACCESS EXCLUSIVE MODE");
        let detach = Statement::brief(detach)
            .locking(lock)
            .requiring(leaving.droppable(leaving.still_attached()));
        return vec![detach.only_if(attached(0)), finalize];
    }
    let lock = format!("LOCK TABLE ONLY {whole}, {part} IN SHARE UPDATE EXCLUSIVE MODE");
    let detach = Statement::patient(
        format!("ALTER TABLE {whole} DETACH PARTITION {part} CONCURRENTLY"),
        try_to_drop(lock, part, "TABLE", table.watched),
    );
    let lock = format!("LOCK TABLE ONLY {part} IN SHARE UPDATE EXCLUSIVE MODE");
    let mark = Statement::brief(mark).locking(lock);
    vec![
        mark.requiring(leaving.droppable(leaving.free_to_leave())),
        detach
            .requiring(leaving.droppable(leaving.free_to_leave()))
            .only_if(attached(0)),
        finalize,
    ]
}

/// How many rows go with a table.
pub(super) fn counting(oid: u32, name: &RelationName) -> Statement {
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
