//! What becomes of a table that an earlier run detached.

use std::collections::HashMap;

use super::facts::Table;
use super::leftover::Leftover;
use super::mark::{self, MARK, WAS_DETACHED, begins, unknown};
use super::outside::Outside;
use super::partition::{counting, ends_before, not_meant};
use super::rule::Rule;
use super::ties::Ties;
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::still_there;
use crate::plan::{Moment, Param, Plan, Query, Required, Statement, Step};
use crate::values::TableName;

/// What decides today whether a partition goes.
pub(in crate::kinds::postgres) struct Today<'a> {
    pub(in crate::kinds::postgres) rules: &'a [&'a Rule],
    pub(in crate::kinds::postgres) tables: &'a HashMap<TableName, Table>,
    pub(in crate::kinds::postgres) ties: &'a Ties,
    pub(in crate::kinds::postgres) drop_partitions: Option<bool>,
}

/// Plans what becomes of a table that an earlier run detached: it is dropped
/// only if it would go today, too, were it a partition still. Otherwise it is
/// told, each time: its rows are missing from the table.
pub(in crate::kinds::postgres) fn decide(
    leftover: &Leftover,
    today: &Today<'_>,
    at: &Moment,
    plan: &mut Plan,
) {
    let mut tables = today.tables.iter();
    let Some((name, table)) = tables.find(|(_, table)| leftover.is_of(table)) else {
        return;
    };
    if !leftover.is_known(at) {
        return unknown(&leftover.name, &leftover.root, plan);
    }
    let root = table.name.to_string();
    let bounds = mark::bounds(leftover.oid, &leftover.name, at);
    let outside = Outside {
        name: &leftover.name,
        root: &root,
        bounds: bounds.as_deref(),
        kind: "TABLE",
        beside_default: table.has_default,
    };
    let rule = today
        .rules
        .iter()
        .filter(|rule| *rule.table == *name && rule.by_age_alone())
        .filter_map(|rule| Some((rule, rule.cut_off(at.now)?)))
        .max_by_key(|(_, cut)| *cut);
    let age = rule.and_then(|(rule, _)| super::age_of(rule, table).ok());
    let (Some((rule, _)), Some(age)) = (rule, age) else {
        return plan.undone(outside.kept(&not_meant(false)));
    };
    if let Some(bounds) = &bounds
        && !ends_before(bounds, rule, age, at.now)
    {
        return plan.undone(outside.kept(&not_meant(true)));
    }
    if rule.max_share.is_some() {
        let why = "the rule says `max_share`, and its rows are not among those that are counted";
        return plan.undone(outside.kept(why));
    }
    let detached = (leftover.oid, &leftover.name);
    let kept = today
        .ties
        .kept_from_dropping(table, detached, today.drop_partitions);
    if let Some(why) = kept {
        return plan.undone(outside.kept(&why));
    }
    let (condition, params) = rule.condition(age, at.now);
    let mut params: Vec<Param> = params;
    let was_detached = WAS_DETACHED
        .replace("$oid", &format!("${}", params.len() + 1))
        .replace("$mark", &format!("${}", params.len() + 2))
        .replace("$root", &format!("${}", params.len() + 3));
    params.push(Param::Oid(leftover.oid));
    params.push(Param::Text(begins(MARK, table)));
    params.push(Param::Oid(table.oid));
    let mut all = format!(
        "SELECT {was_detached} AND NOT EXISTS (SELECT FROM ONLY {} AS {} WHERE ({condition}) IS NOT TRUE)",
        leftover.name,
        rule.alias()
    );
    let mut more = "";
    if let Some(most) = rule.max_rows {
        params.push(Param::Int(i64::try_from(most).unwrap_or(i64::MAX)));
        all = format!(
            "{all} AND (SELECT pg_catalog.count(*) FROM ONLY {}) <= ${}::int8",
            leftover.name,
            params.len()
        );
        more = ", more rows than `max_rows` allows";
    }
    let all = Required::new(
        Query::new(all, params),
        format!(
            "it has rows that today's rule keeps{more}, or is not any more what an earlier run detached from {}; attach it again, once rows beyond its bounds are moved into the table, or drop it by hand",
            leftover.root
        ),
    );
    let mut step = drop_leftover(leftover, all);
    step.body.outside = Some(outside.left(leftover.oid, &begins(MARK, table)));
    plan.steps.push(step);
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
    .only_if(still_there(leftover.oid, name), "the table has vanished, or has another name by now")
    .run(counting(leftover.oid, name))
    .run(drop_table.locking(lock).requiring(all))
    .expecting(leftover.bytes, Some(0))
}
