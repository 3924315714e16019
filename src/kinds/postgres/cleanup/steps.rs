//! The steps of one rule: one for each table that holds rows.

use super::super::retention::effects::{self, ForeignKey};
use super::super::retention::estimate::Look;
use super::super::retention::facts::{Member, Table};
use super::super::retention::mark::MARK;
use super::super::retention::never::Never;
use super::super::retention::outside;
use super::super::retention::removal::{Removal, count, doubted, most, passes_by, too_many};
use super::super::retention::rule::{AgeType, Rule, Way};
use super::super::retention::{invalid, partition, refused, rights, size};
use super::{Cleanup, Facts};
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::rows;
use crate::plan::{Fate, Finding, Moment, Plan, Severity, Step, Work};

/// A rule and what is known of its table.
pub(super) struct Subject<'a> {
    pub(super) rule: &'a Rule,
    pub(super) table: &'a Table,
    pub(super) age: Option<AgeType>,
    pub(super) look: Option<&'a Look>,
    pub(super) action: &'a str,
}

/// That the role sees a part of the table only, and what goes of the rest all the same: no policy
/// holds for what a foreign key does.
fn hidden(table: &Table, facts: &Facts) -> Finding {
    let own = |oid: u32| oid == table.oid || table.members.iter().any(|m| m.oid == oid);
    let foreign_keys = facts.of_root(table.oid).iter();
    let mut back = foreign_keys.filter(|fk| own(fk.child_oid));
    let all_the_same = back.find_map(ForeignKey::sets_off).map(|what| {
        format!(
            "; no policy holds for what a foreign key does, which {what}, hidden ones as well, and they are not counted"
        )
    });
    let all_the_same = all_the_same.unwrap_or_default();
    Finding {
        code: "cleanup.row_security".to_owned(),
        severity: Severity::Warning,
        object: table.name.to_string(),
        message: format!(
            "row-level security hides rows of {} from role {}: only those it may see are deleted{all_the_same}",
            table.name, facts.role
        ),
        suggestion: None,
    }
}

/// The steps of a rule; what stands in their way goes into the plan.
pub(super) fn of_rule(
    options: &Cleanup,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    plan: &mut Plan,
) -> Vec<Step> {
    let Subject {
        rule, table, look, ..
    } = *subject;
    if let Some((look, why)) = look.and_then(|look| Some((look, look.refused.as_ref()?))) {
        refused(plan, rule, why, look.remedy.as_deref());
        return Vec::new();
    }
    if let Some(why) = look.and_then(|look| look.too_many.as_ref()) {
        plan.skip(table.name.to_string(), why);
        plan.refuse(table.name.to_string(), why);
        plan.findings.push(too_many(&table.name.to_string(), why));
        return Vec::new();
    }
    plan.findings
        .extend(look.and_then(|look| doubted(rule, table, look)));
    if table.filtered {
        plan.findings.push(hidden(table, facts));
    }
    let mut steps = Vec::new();
    let mut forbidden = Vec::new();
    let mut by_row = Vec::new();
    let nobody_looked = Never::default();
    for member in &table.members {
        if !matches!(member.kind.as_str(), "r") {
            partition::foreign(member, table, rule, subject.age, at.now, plan);
            continue;
        }
        let victims = look.and_then(|look| look.rows.get(&member.oid)).copied();
        let any = look.and_then(|look| look.any.get(&member.oid)).copied();
        let never = look.map(|look| &look.never);
        let never = never.unwrap_or(&nobody_looked);
        let whole = partition::expired(member, table, rule, subject.age, never, at.now)
            && table.owned
            && outside::can_leave(member, table, MARK, at);
        let by_rows = facts.ties.pointed_at(member.oid);
        let by_rows = by_rows.or_else(|| {
            let ties = &facts.ties;
            ties.by_rows(table, member, options.drop_partitions)
        });
        if whole && by_rows.is_none() {
            let count = count(rule, subject.age, member, None, at);
            let mut step = partition::drop_whole(member, table, &facts.ties)
                .because(format!(
                    "every row has expired: {}, and the partition ends before that",
                    rule.why(at.now)
                ))
                .counted_by(count)
                .bound_by(most(
                    (rule, subject.age),
                    table,
                    look.and_then(|look| look.most),
                    at,
                ))
                .reading(look.map(|look| look.under.clone()).unwrap_or_default())
                .touching(member.oid, Use::Define)
                .touching(table.oid, Use::Command);
            step.details.extend(passes_by(&facts.ties, table, member));
            steps.push(step);
            continue;
        }
        // Nobody reaches the rows of what is half out through the table.
        if any == Some(false) || member.bytes == 0 || member.pending {
            continue;
        }
        if !member.may {
            forbidden.push(member);
            continue;
        }
        let removal = removal(options, subject, member, victims, facts);
        if let Some(finding) = removal.hopeless(at) {
            plan.skip(finding.object.clone(), &finding.message);
            plan.undone(finding);
            continue;
        }
        match step(options, subject, removal, facts, at) {
            Ok(mut step) => {
                step.details.extend(by_rows.filter(|_| whole));
                steps.push(step);
                by_row.push(member.oid);
            }
            Err(why) => invalid(plan, rule, &format!("{} {why}", member.name)),
        }
    }
    if let Some(finding) = rights::forbidden(&facts.role, &forbidden) {
        plan.undone(finding);
    }
    if steps.is_empty() || steps.iter().all(|s| s.action == "drop_partition") {
        return steps;
    }
    let concerns = |fk: &&ForeignKey| by_row.iter().any(|oid| fk.concerns(table.oid, *oid));
    let foreign_keys = facts.of_root(table.oid);
    let foreign_keys: Vec<&ForeignKey> = foreign_keys.iter().filter(concerns).collect();
    for fk in foreign_keys.iter().filter(|fk| !fk.indexed) {
        plan.findings.push(fk.finding());
    }
    let too_large = foreign_keys.iter().find(|fk| {
        !fk.indexed && u64::try_from(fk.child_bytes).unwrap_or(0) > options.max_unindexed.get()
    });
    if let Some(fk) = too_large
        && !options.allow_unindexed_cascade
    {
        plan.refuse(
            table.name.to_string(),
            format!(
                "its rows were left: the foreign key {} of {} ({}) has no index: each deleted row would read all of it; create the index, or set `allow_unindexed_cascade: true`",
                fk.name,
                fk.child,
                size(fk.child_bytes)
            ),
        );
        steps.retain(|s| s.action == "drop_partition");
    }
    steps
}

fn removal<'a>(
    options: &Cleanup,
    subject: &Subject<'a>,
    member: &'a Member,
    victims: Option<f64>,
    facts: &'a Facts,
) -> Removal<'a> {
    let once = subject.look.is_some_and(|look| look.itself);
    Removal {
        rule: subject.rule,
        table: subject.table,
        ties: &facts.ties,
        age: subject.age,
        member,
        victims,
        goal: options.batch_goal,
        under: subject
            .look
            .map(|look| look.under.clone())
            .unwrap_or_default(),
        named: subject.look.map(|look| &look.named),
        hiding: subject.look.map_or(&[], |look| &look.hiding),
        most: subject.look.and_then(|look| look.most),
        once,
        found: (once || sought(subject.rule, member)).then(|| {
            let found = subject.look.and_then(|look| look.found.get(&member.oid));
            found.cloned().unwrap_or_default()
        }),
    }
}

fn step(
    options: &Cleanup,
    subject: &Subject<'_>,
    removal: Removal<'_>,
    facts: &Facts,
    at: &Moment,
) -> Result<Step, String> {
    let (member, victims) = (removal.member, removal.victims);
    let of = if member.rows >= 0.0 {
        format!(" of {}", rows(member.rows))
    } else {
        String::new()
    };
    let why = |expected: &str| format!("{expected}{of}: {}", subject.rule.why(at.now));
    let mut step = removal.step(subject.action, Fate::Delete, why, at)?;
    let parent = subject.rule.orphaned.as_ref().map(|o| &o.parent);
    if let Some((name, oid)) = parent.and_then(|name| facts.parents.get_key_value(&**name)) {
        step = step.touching(*oid, Use::Read).relying_on(*oid, name);
    }
    let goal = options.batch_goal.get().as_millis();
    step.details.push(format!("commits about every {goal} ms"));
    if matches!(&step.body.work, Work::Walk(walk) if walk.start.is_some()) {
        step.details
            .push("goes on where an earlier run stopped".to_owned());
    }
    effects::announce(
        &mut step,
        (facts.of_root(subject.table.oid), &facts.triggers),
        (subject.table.oid, member.oid),
        victims.unwrap_or(0.0),
    );
    Ok(step)
}

/// Whether rows are better found first: telling orphans means reading all
/// parents, however few children are looked at.
fn sought(rule: &Rule, member: &Member) -> bool {
    let orphaned = rule.orphaned.as_ref();
    let others = orphaned.is_some_and(|orphaned| orphaned.parent != rule.table);
    others && member.heap && rule.walk == Way::Auto
}
