//! The steps of one rule: one for each table that holds rows.

use sha2::{Digest, Sha256};

use super::effects::ForeignKey;
use super::estimate::Look;
use super::facts::{Member, Table};
use super::rule::{AgeType, Rule};
use super::{Cleanup, Facts, effects, partition, size, way};
use crate::engines::postgres::Identifier;
use crate::kinds::postgres::common::{rows, still_there};
use crate::plan::{Fate, Finding, Moment, Path, Plan, Query, Severity, Step, Walk};

/// A rule and what is known of its table.
pub(super) struct Subject<'a> {
    pub(super) rule: &'a Rule,
    pub(super) table: &'a Table,
    pub(super) age: Option<AgeType>,
    pub(super) look: Option<&'a Look>,
    pub(super) action: &'a str,
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
    if let Some(refused) = look.and_then(|look| look.refused.as_ref()) {
        super::invalid(
            plan,
            rule,
            &format!("the server refuses its condition: {refused}"),
        );
        return Vec::new();
    }
    if table.filtered {
        plan.findings.push(Finding {
            code: "cleanup.row_security".to_owned(),
            severity: Severity::Warning,
            object: table.name.to_string(),
            message: format!(
                "row-level security hides rows of {} from role {}: only those it may see are deleted",
                table.name, facts.role
            ),
            suggestion: None,
        });
    }
    let foreign_keys: Vec<&ForeignKey> = facts
        .foreign_keys
        .iter()
        .filter(|fk| fk.root == table.oid)
        .collect();
    let mut steps = Vec::new();
    let mut forbidden = Vec::new();
    for member in &table.members {
        if !matches!(member.kind.as_str(), "r") {
            plan.skip(member.name.to_string(), "it is a foreign table");
            continue;
        }
        let victims = look.and_then(|look| look.rows.get(&member.oid)).copied();
        let any = look.and_then(|look| look.any.get(&member.oid)).copied();
        let whole = partition::expired(member, table, rule, subject.age, at.now)
            && table.owned
            && foreign_keys.is_empty();
        if whole {
            let count = count(subject, member, at);
            steps.push(
                partition::drop_whole(member, table)
                    .because(format!(
                        "every row has expired: {}, and the partition ends before that",
                        rule.why(at.now)
                    ))
                    .counted_by(count),
            );
            continue;
        }
        if any == Some(false) || member.bytes == 0 {
            continue;
        }
        if !member.may {
            forbidden.push(member.name.to_string());
            continue;
        }
        match walk(options, subject, member, victims, at) {
            Ok((walk, why)) => {
                steps.push(step(subject, member, victims, walk, why, facts, at));
            }
            Err(why) => super::invalid(plan, rule, &format!("{} {why}", member.name)),
        }
    }
    if let Some(first) = forbidden.first() {
        plan.findings.push(Finding {
            code: "privilege.missing".to_owned(),
            severity: Severity::Warning,
            object: first.clone(),
            message: format!(
                "role {} may not read and delete rows of {}",
                facts.role,
                forbidden.join(", ")
            ),
            suggestion: Some(format!(
                "GRANT SELECT, DELETE ON {} TO {}",
                forbidden.join(", "),
                Identifier::new(facts.role.as_str())
            )),
        });
    }
    if steps.is_empty() || steps.iter().all(|s| s.action == "drop_partition") {
        return steps;
    }
    for fk in foreign_keys.iter().filter(|fk| !fk.indexed) {
        plan.findings.push(fk.finding());
    }
    let too_large = foreign_keys.iter().find(|fk| {
        !fk.indexed && u64::try_from(fk.child_bytes).unwrap_or(0) > options.max_unindexed.get()
    });
    if let Some(fk) = too_large
        && !options.allow_unindexed_cascade
    {
        plan.skip(
            table.name.to_string(),
            format!(
                "the foreign key {} of {} ({}) has no index: each deleted row would read all of it; create the index, or set `allow_unindexed_cascade: true`",
                fk.name,
                fk.child,
                size(fk.child_bytes)
            ),
        );
        steps.retain(|s| s.action == "drop_partition");
    }
    steps
}

fn walk(
    options: &Cleanup,
    subject: &Subject<'_>,
    member: &Member,
    victims: Option<f64>,
    at: &Moment,
) -> Result<(Walk, String), String> {
    let rule = subject.rule;
    let (path, why) = way::choose(member, rule, victims)?;
    let (condition, params) = rule.condition(subject.age, at.now);
    let progress = progress(member, &condition, &path);
    let start = at.memories.get(&progress).filter(|place| !place.is_null());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "row counts are far below 2^63"
    )]
    let rows = victims.map(|n| n as i64);
    let walk = Walk {
        table: member.name.to_string(),
        alias: rule.alias().to_string(),
        condition,
        params,
        fate: Fate::Delete,
        path,
        goal_ms: u64::try_from(options.batch_goal.get().as_millis()).unwrap_or(u64::MAX),
        rows,
        snapshot: rule.looks_elsewhere(),
        start: start.cloned(),
        progress,
    };
    Ok((walk, why))
}

fn step(
    subject: &Subject<'_>,
    member: &Member,
    victims: Option<f64>,
    walk: Walk,
    why: String,
    facts: &Facts,
    at: &Moment,
) -> Step {
    let expected = match victims {
        Some(n) => format!("about {} rows", rows(n)),
        None => "an unknown number of rows".to_owned(),
    };
    let of = if member.rows >= 0.0 {
        format!(" of {}", rows(member.rows))
    } else {
        String::new()
    };
    let goal = walk.goal_ms;
    let resumed = walk.start.is_some();
    let mut step = Step::new(
        subject.action,
        member.name.to_string(),
        format!("table {}", member.oid),
    )
    .because(format!("{expected}{of}: {}", subject.rule.why(at.now)))
    .locking(member.oid)
    .only_if(
        still_there(member.oid, &member.name),
        "the table has vanished",
    )
    .counted_by(count(subject, member, at))
    .expecting(member.bytes, None)
    .walking(walk);
    step.details.push(format!("walks {why}"));
    step.details.push(format!("commits about every {goal} ms"));
    if resumed {
        step.details
            .push("goes on where an earlier run stopped".to_owned());
    }
    step.details.extend(effects::texts(
        &facts.foreign_keys,
        subject.table.oid,
        victims.unwrap_or(0.0),
    ));
    for trigger in facts.triggers.iter().filter(|t| t.table == member.oid) {
        step.details.push(format!(
            "fires the trigger {} ({})",
            trigger.name, trigger.function
        ));
    }
    step
}

fn count(subject: &Subject<'_>, member: &Member, at: &Moment) -> Query {
    let (condition, params) = subject.rule.condition(subject.age, at.now);
    Query::new(
        format!(
            "SELECT pg_catalog.count(*) FROM ONLY {} AS {} WHERE {condition}",
            member.name,
            subject.rule.alias()
        ),
        params,
    )
}

/// Under which key the place is remembered: another condition or another path
/// is another walk.
pub(in crate::kinds::postgres) fn progress(
    member: &Member,
    condition: &str,
    path: &Path,
) -> String {
    let path = match path {
        Path::Blocks { .. } => "blocks".to_owned(),
        Path::Key(columns) => columns.iter().map(|c| format!("{} ", c.name)).collect(),
    };
    let digest = Sha256::digest(format!("{condition}\n{path}"));
    let short: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("walk {} {short}", member.oid)
}
