//! The steps of an archive: one for each table that holds rows.

use super::super::retention::effects::{self, ForeignKey};
use super::super::retention::facts::{Member, Table};
use super::super::retention::outside::Outside;
use super::super::retention::removal::{Removal, doubted, most, passes_by, too_many};
use super::super::retention::rule::{AgeType, Rule};
use super::super::retention::{invalid, partition, refused, rights};
use super::fate::{fate, proof, to};
use super::partition::{Candidate, retire, whole};
use super::{Archive, Facts};
use crate::engines::postgres::rights::same;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::postgres::only_for_its_owner;
use crate::plan::{Fate, Manifest, Moment, Plan, Query, Required, Statement, Step, Work};

/// A referencing table up to this size may be read for each row that goes.
const MOST_UNINDEXED_BYTES: i64 = 1 << 20;

/// The action that makes the destination.
pub(super) const CREATE: &str = "create_table";

const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM ONLY {})";

/// Plans the rows of all members; what stands in their way goes into the plan.
#[expect(
    clippy::too_many_arguments,
    reason = "all of it decides which steps there are"
)]
pub(super) fn of(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    facts: &Facts,
    begun: &[Manifest],
    at: &Moment,
    plan: &mut Plan,
) -> Vec<Step> {
    if let Some(why) = &facts.look.refused {
        refused(plan, rule, why, facts.look.remedy.as_deref());
        return Vec::new();
    }
    if let Some(why) = &facts.look.too_many {
        plan.skip(table.name.to_string(), why);
        plan.refuse(table.name.to_string(), why);
        plan.findings.push(too_many(&table.name.to_string(), why));
        return Vec::new();
    }
    plan.findings.extend(doubted(rule, table, &facts.look));
    let loses = facts
        .foreign_keys
        .iter()
        .find(|fk| matches!(fk.action.as_str(), "c" | "n" | "d"));
    if let (Some(fk), false) = (loses, facts.some_are_free) {
        invalid(
            plan,
            rule,
            &format!(
                "the foreign key {} would change or delete rows of {}, which nobody archives; archive those first, or make it NO ACTION",
                fk.name, fk.child
            ),
        );
        return Vec::new();
    }
    let mut steps = Vec::new();
    let of_table = match fate(options, rule, table, age, facts, &facts.columns, at) {
        Ok(fate) => fate,
        Err(why) => {
            invalid(plan, rule, &why);
            return Vec::new();
        }
    };
    let mut forbidden = Vec::new();
    let mut by_row = Vec::new();
    for member in &table.members {
        if member.kind != "r" {
            partition::foreign(member, table, rule, age, at.now, plan);
            continue;
        }
        let candidate = Candidate {
            options,
            rule,
            table,
            member,
            age,
            facts,
            at,
        };
        // What another target calls so may be this very table: it would be dropped once it is empty.
        let into = options.destination.table.as_ref();
        let by_name = into.is_some_and(|into| {
            into.schema == member.name.schema.raw() && into.table == member.name.relation.raw()
        });
        if by_name && member.oid != table.oid && options.destination.database.is_some() {
            let why = format!(
                "its partition {} is called what the destination is: if that target is this database, it is the destination itself; name another table",
                member.name
            );
            invalid(plan, rule, &why);
            return Vec::new();
        }
        if member.detached
            && let Some(why) = candidate.stays()
        {
            plan.undone(Outside::of(member, table, &table.name.to_string()).kept(&why));
            continue;
        }
        // Nobody reaches its rows through the table.
        if member.pending && !candidate.goes() {
            continue;
        }
        let fate = match facts.detached_columns.get(&member.oid) {
            None => of_table.clone(),
            Some(columns) => match fate(options, rule, table, age, facts, columns, at) {
                Ok(fate) => fate,
                Err(why) => {
                    invalid(plan, rule, &format!("{}: {why}", member.name));
                    continue;
                }
            },
        };
        if let Some(own) = facts
            .own_columns
            .get(&member.oid)
            .filter(|_| !member.detached)
        {
            let why = format!(
                "{} has columns that {} does not have, and they would be lost: {}; give it an archive task of its own",
                member.name,
                table.name,
                own.join(", ")
            );
            invalid(plan, rule, &why);
            continue;
        }
        if candidate.leaves_whole() {
            let goal_ms = u64::try_from(options.batch_goal.get().as_millis());
            let mut step = whole(
                &facts.ties,
                table,
                member,
                &fate,
                goal_ms.unwrap_or(u64::MAX),
                (begun, older(rule, age, table, member, at)),
                &rule.why(at.now),
            )
            .bound_by(most((rule, age), table, facts.look.most, at));
            step.details.extend(passes_by(&facts.ties, table, member));
            steps.push(step);
            continue;
        }
        let goes = candidate.goes();
        let some = facts.look.any.get(&member.oid) != Some(&false) && member.bytes > 0;
        if some && !member.may {
            forbidden.push(member);
            continue;
        }
        let moves = matches!(fate, Fate::Move { .. });
        if some && let Some((name, of)) = facts.ties.rule(table, member, moves) {
            let help = match moves {
                true => "archive into files or another database where it does nothing instead, ",
                false => "",
            };
            let why = format!(
                "the rule {} of {of} is for DELETE: what goes with it cannot be compared with what was stored; {help}make a trigger of it, or switch it off: ALTER TABLE {of} DISABLE RULE {0}",
                Identifier::new(name)
            );
            invalid(plan, rule, &why);
            continue;
        }
        if some {
            let removal = Removal {
                rule,
                table,
                ties: &facts.ties,
                age,
                member,
                victims: facts.look.rows.get(&member.oid).copied(),
                goal: options.batch_goal,
                under: facts.look.under.clone(),
                named: Some(&facts.look.named),
                hiding: &facts.look.hiding,
                most: facts.look.most,
                found: facts.look.itself.then(|| {
                    let found = facts.look.found.get(&member.oid);
                    found.cloned().unwrap_or_default()
                }),
                once: facts.look.itself,
            };
            if let Some(finding) = removal.hopeless(at) {
                plan.skip(finding.object.clone(), &finding.message);
                plan.undone(finding);
                continue;
            }
            let why =
                |expected: &str| format!("{expected} to {}: {}", to(options), rule.why(at.now));
            match removal.step("archive", fate.clone(), why, at) {
                Ok(mut step) => {
                    step.details.push(proof(&fate).to_owned());
                    let by_rows = candidate.by_rows();
                    step.details.extend(by_rows.filter(|_| candidate.expired()));
                    effects::announce(
                        &mut step,
                        (&facts.foreign_keys, &facts.triggers),
                        (table.oid, member.oid),
                        removal.victims.unwrap_or(0.0),
                    );
                    if let Some(into) = facts.into_oid {
                        step = step.touching(into, Use::Insert);
                    }
                    if let Fate::Move { into, .. } = &fate {
                        if let Some(oid) = facts.into_oid {
                            step = step.relying_on(oid, into);
                        }
                        step = step.naming(into.clone(), Use::Insert);
                    }
                    steps.push(step);
                    by_row.push(member.oid);
                }
                Err(why) => invalid(plan, rule, &format!("{} {why}", member.name)),
            }
        }
        if goes {
            let empty = EMPTY.replace("{}", &member.name.to_string());
            let step = retire(&facts.ties, table, member, None, None)
                .because("all its rows are archived, and it can get no others")
                .only_if_rows(Query::new(empty, []), "it still has rows")
                .after("archive", member.name.to_string());
            steps.push(step);
        }
    }
    if let Some(finding) = rights::forbidden(&facts.role, &forbidden) {
        plan.undone(finding);
    }
    if !steps.is_empty() {
        let concerns = |fk: &&ForeignKey| by_row.iter().any(|oid| fk.concerns(table.oid, *oid));
        let foreign_keys = facts.foreign_keys.iter().filter(concerns);
        let unindexed = foreign_keys.filter(|fk| !fk.indexed);
        plan.findings
            .extend(unindexed.clone().map(|fk| fk.finding()));
        let mut large = unindexed.filter(|fk| fk.child_bytes > MOST_UNINDEXED_BYTES);
        if let (Some(fk), false) = (large.next(), options.allow_unindexed_cascade) {
            let why = format!(
                "the foreign key {} of {} has no index: each row that goes would read all of it; create the index, or set `allow_unindexed_cascade: true`",
                fk.name, fk.child
            );
            invalid(plan, rule, &why);
            return Vec::new();
        }
    }
    if let (Some(into), None, false, true) = (
        &options.destination.table,
        &options.destination.database,
        steps.is_empty(),
        facts.into.is_empty(),
    ) {
        let into = RelationName::new(&*into.schema, &*into.table);
        let create = create_table(&into, table, facts);
        let steps = steps
            .into_iter()
            .map(|step| step.after(CREATE, into.to_string()));
        return std::iter::once(create).chain(steps).collect();
    }
    steps
}

/// Has the newest batch looked at once more before the first row goes: a server that was set back
/// to a snapshot tells it by nothing else, once it has gone on. What is in another database is read
/// there as a whole, so only after a start of the server, without which nobody sets it back.
pub(super) fn look_first(steps: &mut [Step], left: Vec<Manifest>, here: &Standpoint) {
    let walks = steps
        .iter_mut()
        .filter_map(|step| match &mut step.body.work {
            Work::Walk(walk) => Some(walk.as_mut()),
            Work::Retire(retire) => retire.walk.as_mut(),
            _ => None,
        });
    let mut elsewhere = walks.filter(|w| matches!(w.fate, Fate::Export(_) | Fate::Send(_)));
    if let Some(walk) = elsewhere.next() {
        let sent = matches!(walk.fate, Fate::Send(_));
        let newest = left.into_iter().rfind(|m| m.received.is_some() == sent);
        let known = |m: &Manifest| sent && here.has_run_since(m.since.as_deref());
        walk.newest = newest.filter(|m| !known(m)).map(Box::new);
    }
}

/// The same columns, without what belongs to a table in use: defaults,
/// generated values, constraints.
fn create_table(into: &RelationName, table: &Table, facts: &Facts) -> Step {
    let heirs = &facts.heirs;
    let mut step = Step::new(CREATE, into.to_string(), format!("table {into}"))
        .because("it does not exist yet")
        .touching(table.oid, Use::Command);
    if !facts.into_schema {
        let mut sql = format!("CREATE SCHEMA IF NOT EXISTS {}", into.schema);
        if let Some(owner) = &heirs.owner {
            sql += &format!(" AUTHORIZATION {owner}");
        }
        step = step.run(Statement::brief(sql));
    }
    // It fails where somebody has made it meanwhile: whose it is, and which columns it has, the
    // next plan looks at. Sent as one, the two are one transaction.
    let mut sql = format!("CREATE TABLE {into} (LIKE {})", table.name);
    for column in &facts.nulls_from_before {
        sql += &format!("; ALTER TABLE {into} ALTER COLUMN {column} DROP NOT NULL");
    }
    if table.confined {
        sql += &format!("; {}", only_for_its_owner(&into.to_string()));
        step.details.push(format!(
            "some may read only a part of {}, so nobody but its owner reads {into} until it has policies",
            table.name
        ));
    }
    for more in heirs.statements(&into.to_string()) {
        sql += &format!("; {more}");
    }
    step.run(Statement::brief(sql).requiring(same_rights(table, facts)))
}

/// Whether whoever may see and do what with the table is as the destination repeats it.
fn same_rights(table: &Table, facts: &Facts) -> Required {
    let known: Vec<(u32, i64)> = facts.rights.map(|r| (table.oid, r)).into_iter().collect();
    let sql = format!("SELECT {}", same(&known));
    let otherwise = format!(
        "who may see and do what with {}, or with what our role makes, has changed since the plan; the next run makes it with the rights that hold then",
        table.name
    );
    Required::new(Query::new(sql, []), otherwise).or_next_time()
}

/// What has to be so of a partition that leaves as a whole when it is dropped: once it was detached, anybody could give it
/// younger rows.
fn older(
    rule: &Rule,
    age: Option<AgeType>,
    table: &Table,
    member: &Member,
    at: &Moment,
) -> Option<Required> {
    let (condition, cut) = rule.older(age, at.now)?;
    let (part, root) = (&member.name, &table.name);
    Some(Required::new(
        Query::new(
            format!("SELECT NOT EXISTS (SELECT FROM ONLY {part} WHERE ({condition}) IS NOT TRUE)"),
            [cut],
        ),
        format!(
            "{part} has got rows since it was detached that are not older than the rule says: move them into {root}, and the next run goes on"
        ),
    ))
}
