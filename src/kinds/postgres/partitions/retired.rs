//! What was detached in order to be dropped, and waits for that.

use chrono::{DateTime, TimeDelta, Utc};

use super::away::{elsewhere, none_below};
use super::calendar::{self, FIRST};
use super::comment::{before, begins, comment, kind};
use super::doubts::doubt;
use super::facts::{Facts, MARK, Retired};
use super::prune::under;
use super::unfinished::{outside, stays};
use super::{Partitions, Subject};
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::still_there;
use crate::kinds::postgres::leaving::one_line;
use crate::kinds::postgres::retention::leftover;
use crate::kinds::postgres::retention::mark::{self, Astray};
use crate::plan::{Moment, Param, Plan, Query, Required, Statement, Step};

/// Whether it is what was detached.
const WAS_DETACHED: &str = "EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
        AND c.relowner = (SELECT r.relowner FROM pg_catalog.pg_class r WHERE r.oid = $3::pg_catalog.oid)
        AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), $2::text))";

/// Drops what was detached long enough ago.
pub(super) fn plan(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    plan: &mut Plan,
) {
    let root = &subject.table.name;
    let grace = TimeDelta::from_std(task.grace.get()).unwrap_or(TimeDelta::MAX);
    for retired in &facts.retired {
        let of_this = |(of, _): &(&str, _)| retired.named && *of == one_line(root);
        let Some((_, since)) = since(retired).filter(of_this) else {
            continue;
        };
        if let Some(owner) = &retired.part_of {
            let ours = subject.partitions.iter().map(|(_, oid, _)| oid);
            let mut ours = ours.chain(subject.pending.iter().map(|(_, oid, _)| oid));
            if !ours.any(|oid| *oid == retired.oid) && is_known(retired, at) {
                let marked = format!("{MARK}{}", retired.mark);
                let restored = before(Some(&marked));
                let restored = comment(kind(retired.foreign), &retired.name, restored);
                let step = mark::disown(retired.oid, &retired.name, owner, restored);
                plan.steps.push(step);
            }
            continue;
        }
        plan.considered += 1;
        let root_name = root.to_string();
        if !is_known(retired, at) {
            mark::unknown(&retired.name, &root_name, plan);
            continue;
        }
        let former = former(retired);
        let bounds = mark::bounds_as(retired.oid, former, &retired.name, at);
        let to = bounds.as_deref().and_then(calendar::range);
        let to = to.and_then(|(_, to)| subject.key.point(to));
        let outside = outside(
            &retired.name,
            &root_name,
            bounds.as_deref(),
            (retired.foreign, subject.default.is_some()),
        );
        if let Some(former) = former {
            plan.undone(outside.kept(&mark::has_another_name(former)));
            continue;
        }
        if let Some(why) = stays(task, to, subject, at) {
            plan.undone(outside.kept(&why));
            continue;
        }
        let name = retired.name.to_string();
        let day = since.format("%Y-%m-%d");
        if at.now - since < grace {
            plan.skip(
                name,
                format!("detached on {day}, and kept for {}", task.grace),
            );
            continue;
        }
        let below = retired.foreign_below.as_deref();
        if let Some(which) = below.or(retired.foreign.then_some(name.as_str())) {
            let why = format!("it was detached on {day}");
            plan.undone(elsewhere(&retired.name, root, (which, &why), false));
            continue;
        }
        let Some(keep) = task.keep else {
            continue;
        };
        let cut = subject.key.instant(keep.before(at.now), subject.zone);
        if let Some(dependents) = facts.dependents.get(&retired.oid) {
            plan.undone(leftover::depended_on(&retired.name, &root_name, dependents));
            continue;
        }
        let params = [
            Param::Oid(retired.oid),
            Param::Text(begins(root)),
            Param::Oid(subject.table.oid),
        ];
        let all = format!(
            "SELECT {WAS_DETACHED} AND NOT EXISTS (SELECT FROM {} WHERE ({} >= {}) IS NOT FALSE)",
            retired.name,
            subject.column,
            subject.key.literal(cut)
        );
        // Rows that are hidden, or come while it waits, would not be judged.
        let lock = format!(
            "SET LOCAL row_security = off; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            retired.name
        );
        let mut required = Required::new(
            Query::new(all, params),
            format!(
                "it has rows that are younger than {keep}, which came once it was detached, or is not any more what was detached: move them into {root}, or drop it by hand"
            ),
        );
        // Detached, it may have been given any row.
        if let Some(doubt) = doubt(subject, FIRST, cut) {
            required = doubt.without(required, &retired.name, &subject.column.to_string());
        }
        required = none_below(required, (retired.oid, &retired.name), root, false);
        let drop = format!("DROP TABLE {}", retired.name);
        let mut step = Step::new("drop_partition", name, format!("table {}", retired.oid))
            .because(format!("detached on {day}, more than {} ago", task.grace))
            .locking(retired.oid)
            .touching(retired.oid, Use::Command)
            .touching(retired.oid, Use::Read)
            .only_if(
                still_there(retired.oid, &retired.name),
                "the table has vanished, or has another name by now",
            )
            .run(under(Statement::brief(drop), required, Some(lock)))
            .expecting(retired.bytes, Some(0));
        step.body.outside = Some(outside.left(retired.oid, &begins(root)));
        plan.steps.push(step);
    }
}

/// Follows tables that are called something else than when their partitions were detached.
pub(super) fn follow(facts: &Facts, at: &Moment, plan: &mut Plan) {
    for retired in facts.retired.iter().filter(|r| r.part_of.is_none()) {
        let Some((root, _)) = since(retired) else {
            continue;
        };
        let astray = Astray {
            oid: retired.oid,
            name: &retired.name,
            former: former(retired),
            comment: &format!("{MARK}{}", retired.mark),
            mark: MARK,
            root,
            named: retired.named,
            kind: kind(retired.foreign),
        };
        let tables = facts.tables.values();
        astray.follow(tables.map(|table| (table.oid, &table.name)), at, plan);
    }
}

/// Of which table it was a partition, and when it was detached.
fn since(retired: &Retired) -> Option<(&str, DateTime<Utc>)> {
    let (of, since) = retired.mark.split('\n').next()?.rsplit_once(" since ")?;
    Some((of, since.parse().ok()?))
}

/// What its mark calls it, where that is not its name any more: it was renamed, or moved, and
/// somebody has something else in mind with it.
fn former(retired: &Retired) -> Option<&str> {
    let itself = retired.mark.split('\n').nth(1)?.strip_prefix("as ")?;
    (itself != one_line(&retired.name)).then_some(itself)
}

/// Whether the history knows that maint was about to mark it.
fn is_known(retired: &Retired, at: &Moment) -> bool {
    mark::is_known_as(retired.oid, former(retired), &retired.name, at)
}
