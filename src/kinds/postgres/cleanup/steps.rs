//! The steps of one rule: one for each table that holds rows.

use sha2::{Digest, Sha256};

use super::effects::ForeignKey;
use super::estimate::Look;
use super::facts::{Member, Table};
use super::rule::{AgeType, Rule, Way as Walking};
use super::ties::Ties;
use super::{Cleanup, Facts, effects, partition, size, way};
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::{rows, rows_finding, still_below, still_there};
use crate::plan::postgres::Under;
use crate::plan::{
    Fate, Finding, Found, Moment, Most, Path, Plan, Query, Severity, Step, Walk, Work,
};
use crate::values::TimeSpan;

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
    if let Some((look, why)) = look.and_then(|look| Some((look, look.refused.as_ref()?))) {
        super::refused(plan, rule, why, look.remedy.as_deref());
        return Vec::new();
    }
    if let Some(why) = look.and_then(|look| look.too_many.as_ref()) {
        plan.skip(table.name.to_string(), why);
        plan.refuse(table.name.to_string(), why);
        plan.findings.push(too_many(&table.name.to_string(), why));
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
            partition::foreign(member, table, rule, subject.age, at.now, plan);
            continue;
        }
        let victims = look.and_then(|look| look.rows.get(&member.oid)).copied();
        let any = look.and_then(|look| look.any.get(&member.oid)).copied();
        let whole = partition::expired(member, table, rule, subject.age, at.now)
            && table.owned
            && foreign_keys.is_empty();
        let by_rows = facts.ties.by_rows(table, member, options.drop_partitions);
        if whole && by_rows.is_none() {
            let count = count(rule, subject.age, member, None, at);
            let mut step = partition::drop_whole(member, table)
                .because(format!(
                    "every row has expired: {}, and the partition ends before that",
                    rule.why(at.now)
                ))
                .counted_by(count)
                .reading(look.map(|look| look.under.clone()).unwrap_or_default())
                .touching(member.oid, Use::Define)
                .touching(table.oid, Use::Command);
            step.details.extend(passes_by(&facts.ties, table, member));
            steps.push(step);
            continue;
        }
        if any == Some(false) || member.bytes == 0 {
            continue;
        }
        if !member.may {
            forbidden.push(member.name.to_string());
            continue;
        }
        match step(options, subject, member, victims, facts, at) {
            Ok(mut step) => {
                step.details.extend(by_rows.filter(|_| whole));
                steps.push(step);
            }
            Err(why) => super::invalid(plan, rule, &format!("{} {why}", member.name)),
        }
    }
    plan.findings.extend(rows_finding(&facts.role, &forbidden));
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

/// Nothing went, because too much would have gone.
pub(in crate::kinds::postgres) fn too_many(object: &str, why: &str) -> Finding {
    Finding {
        code: "rows.too_many".to_owned(),
        severity: Severity::Critical,
        object: object.to_owned(),
        message: format!("nothing of {object} was touched: {why}"),
        suggestion: None,
    }
}

/// What dropping a partition passes by, for the plan.
pub(in crate::kinds::postgres) fn passes_by(
    ties: &Ties,
    table: &Table,
    member: &Member,
) -> Option<String> {
    let bypassed = ties.bypassed(table, member);
    (!bypassed.is_empty()).then(|| {
        format!(
            "dropped because of `drop_partitions: true`: that passes by {}",
            bypassed.join(", ")
        )
    })
}

/// How the rows of one member are gone through, whatever becomes of them.
pub(in crate::kinds::postgres) struct Way<'a> {
    pub(in crate::kinds::postgres) rule: &'a Rule,
    pub(in crate::kinds::postgres) table: &'a Table,
    pub(in crate::kinds::postgres) ties: &'a Ties,
    pub(in crate::kinds::postgres) age: Option<AgeType>,
    pub(in crate::kinds::postgres) member: &'a Member,
    /// How many rows are expected to go, if anything tells.
    pub(in crate::kinds::postgres) victims: Option<f64>,
    pub(in crate::kinds::postgres) goal: TimeSpan,
    /// How the condition is read.
    pub(in crate::kinds::postgres) under: Under,
    /// How many rows of the table the rule may take.
    pub(in crate::kinds::postgres) most: Option<i64>,
    /// Rows that were found while they were counted; none where they are not
    /// to be found first.
    pub(in crate::kinds::postgres) found: Option<Found>,
}

impl Way<'_> {
    /// The step that goes through the rows; `why` is told of the number expected.
    ///
    /// # Errors
    /// A text where the table cannot be gone through.
    pub(in crate::kinds::postgres) fn step(
        &self,
        action: &str,
        fate: Fate,
        why: impl FnOnce(&str) -> String,
        at: &Moment,
    ) -> Result<Step, String> {
        let (rule, member) = (self.rule, self.member);
        let (path, mut chosen) = way::choose(member, rule, self.victims)?;
        let (condition, params) = rule.condition(self.age, at.now);
        let progress = progress(member, &condition, &path);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "row counts are far below 2^63"
        )]
        let victims = self.victims.map(|n| n as i64);
        // What is archived takes nothing along that nobody archives.
        let references = self.ties.references(member.oid, fate != Fate::Delete);
        let through = self.ties.through(self.table, member);
        let through = through.then(|| self.table.name.to_string());
        // Rows of a table that is its own parent are told anew in each batch:
        // what goes makes orphans of others.
        let sought = self.found.is_some() && !references.iter().any(|r| r.own);
        if sought {
            chosen = "by places: what goes is found by one question, and judged again as it goes"
                .to_owned();
        }
        let walk = Walk {
            table: member.name.to_string(),
            oid: member.oid,
            through: through.clone(),
            alias: rule.alias().to_string(),
            condition,
            params,
            fate,
            path,
            goal_ms: u64::try_from(self.goal.get().as_millis()).unwrap_or(u64::MAX),
            rows: victims,
            snapshot: rule.looks_elsewhere() || references.iter().any(|r| r.takes),
            start: at
                .memories
                .get(&progress)
                .filter(|v| !v.is_null() && !sought)
                .cloned(),
            progress,
            guarded: references.iter().any(|r| r.takes),
            references,
            obstructed: self.ties.obstructed(self.table, member),
            most: self.most.map(|rows| Most {
                rule: short(&format!(
                    "{}\n{}",
                    self.table.oid,
                    rule.condition(self.age, at.now).0
                )),
                rows,
            }),
            sought,
            found: self.found.clone().unwrap_or_default(),
        };
        let expected = self
            .victims
            .map_or("an unknown number of rows".to_owned(), |n| {
                format!("about {} rows", rows(n))
            });
        let (still, otherwise) = match member.oid == self.table.oid || member.detached {
            true => (
                still_there(member.oid, &member.name),
                "the table has vanished".to_owned(),
            ),
            // What somebody has detached is not meant by a rule for the table.
            false => (
                still_below(member.oid, &member.name, self.table.oid),
                format!(
                    "it is no part of {} any more: somebody dropped, renamed or detached it",
                    self.table.name
                ),
            ),
        };
        let mut step = Step::new(
            action,
            member.name.to_string(),
            format!("table {}", member.oid),
        )
        .because(why(&expected))
        .locking(member.oid)
        .only_if(still, otherwise)
        .counted_by(count(rule, self.age, member, through.as_deref(), at))
        .reading(self.under.clone())
        .expecting(member.bytes, None)
        .expecting_rows(self.victims.map(|n| n as i64))
        .touching(member.oid, Use::Delete)
        .walking(walk);
        step.details.push(format!("walks {chosen}"));
        Ok(step)
    }
}

fn step(
    options: &Cleanup,
    subject: &Subject<'_>,
    member: &Member,
    victims: Option<f64>,
    facts: &Facts,
    at: &Moment,
) -> Result<Step, String> {
    let of = if member.rows >= 0.0 {
        format!(" of {}", rows(member.rows))
    } else {
        String::new()
    };
    let way = Way {
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
        most: subject.look.and_then(|look| look.most),
        found: sought(subject.rule, member).then(|| {
            let found = subject.look.and_then(|look| look.found.get(&member.oid));
            found.cloned().unwrap_or_default()
        }),
    };
    let why = |expected: &str| format!("{expected}{of}: {}", subject.rule.why(at.now));
    let mut step = way.step(subject.action, Fate::Delete, why, at)?;
    let parent = subject.rule.orphaned.as_ref().map(|o| &o.parent);
    if let Some(parent) = parent.and_then(|name| facts.parents.get(name)) {
        step = step.touching(*parent, Use::Read);
    }
    let goal = options.batch_goal.get().as_millis();
    step.details.push(format!("commits about every {goal} ms"));
    if matches!(&step.body.work, Work::Walk(walk) if walk.start.is_some()) {
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
    Ok(step)
}

/// Whether rows are better found first: telling orphans means reading all
/// parents, however few children are looked at.
fn sought(rule: &Rule, member: &Member) -> bool {
    let orphaned = rule.orphaned.as_ref();
    let others = orphaned.is_some_and(|orphaned| orphaned.parent != rule.table);
    others && member.heap && rule.walk == Walking::Auto
}

fn count(
    rule: &Rule,
    age: Option<AgeType>,
    member: &Member,
    through: Option<&str>,
    at: &Moment,
) -> Query {
    let (condition, params) = rule.condition(age, at.now);
    let alias = rule.alias();
    let from = match through {
        None => format!("ONLY {} AS {alias} WHERE", member.name),
        Some(root) => format!(
            "{root} AS {alias} WHERE {alias}.tableoid = {}::oid AND",
            member.oid
        ),
    };
    Query::new(
        format!("SELECT pg_catalog.count(*) FROM {from} ({condition})"),
        params,
    )
}

/// Under which key the place is remembered: another condition or another path
/// is another walk.
fn progress(member: &Member, condition: &str, path: &Path) -> String {
    let path = match path {
        Path::Blocks { .. } => "blocks".to_owned(),
        Path::Key(columns) => columns.iter().map(|c| format!("{} ", c.name)).collect(),
    };
    let short = short(&format!("{condition}\n{path}"));
    format!("walk {} {short}", member.oid)
}

fn short(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}
