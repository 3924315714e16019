//! Whole partitions whose every row has expired: detached and dropped, which
//! costs nothing, instead of deleted.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::facts::{Member, Table};
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session};
use crate::plan::{Param, Query, Statement, Step};

/// A comment marks what was detached in order to be dropped, so that a run
/// that dies in between leaves nothing that nobody knows of.
pub(in crate::kinds::postgres) const MARK: &str = "maint: expired partition of ";

/// A table that was detached in order to be dropped, and is still there.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct Leftover {
    pub(in crate::kinds::postgres) oid: u32,
    pub(in crate::kinds::postgres) name: RelationName,
    /// The table it was a partition of.
    pub(in crate::kinds::postgres) root: String,
    pub(in crate::kinds::postgres) bytes: i64,
}

const LEFTOVERS: &str = "SELECT c.oid, n.nspname::text, c.relname::text,
        pg_catalog.substr(d.description, pg_catalog.length($1::text) + 1), c.relpages::int8 * 8192
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND c.relkind = 'r'
        AND NOT c.relispartition AND pg_catalog.starts_with(d.description, $1::text)
        AND pg_catalog.pg_has_role(c.relowner, 'USAGE')";

const ATTACHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits
    WHERE inhrelid = $1::oid AND inhparent = $2::oid AND inhdetachpending = ($3::int8 = 1))";

const DETACHED: &str =
    "SELECT NOT c.relispartition FROM pg_catalog.pg_class c WHERE c.oid = $1::oid";

/// Tables with this mark.
pub(in crate::kinds::postgres) async fn leftovers(
    db: &Session,
    mark: &str,
) -> Result<Vec<Leftover>, EngineError> {
    let doing = "reading which partitions wait to be dropped";
    let rows = db.query(doing, LEFTOVERS, &[&mark]).await?;
    Ok(rows
        .iter()
        .map(|row| Leftover {
            oid: row.get(0),
            name: RelationName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            root: row.get(3),
            bytes: row.get(4),
        })
        .collect())
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
    .only_if(
        super::super::common::still_there(member.oid, part),
        "the partition has vanished",
    );
    for statement in detach(member, table, MARK) {
        step = step.run(statement);
    }
    step.run(drop_table(member.oid, part))
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
    let detach = if table.has_default {
        // The server cannot do it concurrently beside a default partition.
        Statement::brief(format!("ALTER TABLE {whole} DETACH PARTITION {part}"))
    } else {
        Statement::patient(
            format!("ALTER TABLE {whole} DETACH PARTITION {part} CONCURRENTLY"),
            format!("LOCK TABLE ONLY {whole}, {part} IN SHARE UPDATE EXCLUSIVE MODE"),
        )
    };
    let finalize = format!("ALTER TABLE {whole} DETACH PARTITION {part} FINALIZE");
    let mark = format!(
        "COMMENT ON TABLE {part} IS '{mark}{}'",
        whole.to_string().replace('\'', "''")
    );
    vec![
        Statement::brief(mark),
        detach.only_if(attached(0)),
        Statement::brief(finalize).only_if(attached(1)),
    ]
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
    .only_if(
        super::super::common::still_there(leftover.oid, &leftover.name),
        "the table has vanished",
    )
    .run(drop_table(leftover.oid, &leftover.name))
    .expecting(leftover.bytes, Some(0))
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
