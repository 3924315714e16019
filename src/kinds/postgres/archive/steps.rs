//! The steps of an archive: one for each table that holds rows.

use super::super::common::rows;
use super::super::retention::effects::{self, ForeignKey};
use super::super::retention::facts::{Member, Table};
use super::super::retention::outside::{self, Outside};
use super::super::retention::removal::{Removal, passes_by, too_many};
use super::super::retention::rule::{AgeType, Rule};
use super::super::retention::{invalid, mark, partition, refused, rights, way};
use super::columns::Found;
use super::{Archive, Facts};
use crate::engines::parquet::Column;
use crate::engines::postgres::heirs::Heirs;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::postgres::only_for_its_owner;
use crate::plan::{
    Export, Fate, Manifest, Moment, MonthOf, Plan, Query, Retire, Send, Statement, Step, Walk, Work,
};
use crate::values::Epoch;

/// A referencing table up to this size may be read for each row that goes.
const MOST_UNINDEXED_BYTES: i64 = 1 << 20;

/// The action that makes the destination.
pub(super) const CREATE: &str = "create_table";

const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM ONLY {})";

/// Marks what was detached in order to be archived, so that a run that dies in
/// between leaves nothing that nobody knows of.
pub(in crate::kinds::postgres) const MARK: &str = "maint: to be archived, once a partition of ";

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
            && let Some(why) = stays(options, rule, table, member, age, facts, at)
        {
            plan.undone(Outside::of(member, &table.name.to_string()).kept(&why));
            continue;
        }
        // Nobody reaches its rows through the table.
        if member.pending && !goes(options, rule, table, member, age, facts, at) {
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
        if leaves_whole(options, rule, table, member, age, facts, at) {
            let goal_ms = u64::try_from(options.batch_goal.get().as_millis());
            let mut step = whole(
                table,
                member,
                &fate,
                goal_ms.unwrap_or(u64::MAX),
                begun,
                &rule.why(at.now),
            );
            step.details.extend(passes_by(&facts.ties, table, member));
            steps.push(step);
            continue;
        }
        let goes = goes(options, rule, table, member, age, facts, at);
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
                most: facts.look.most,
                found: None,
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
                    let by_rows = by_rows(options, table, member, facts);
                    let whole = expired(rule, table, member, age, at);
                    step.details.extend(by_rows.filter(|_| whole));
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
            let step = retire(table, member, None, None)
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
        let create = create_table(&into, table, facts.into_schema, &facts.heirs);
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

fn expired(rule: &Rule, table: &Table, member: &Member, age: Option<AgeType>, at: &Moment) -> bool {
    partition::expired(member, table, rule, age, at.now) && table.owned
}

/// Why an expired partition goes row by row.
fn by_rows(options: &Archive, table: &Table, member: &Member, facts: &Facts) -> Option<String> {
    let pointed_at = facts.ties.pointed_at(member.oid);
    let ties = &facts.ties;
    pointed_at.or_else(|| ties.by_rows(table, member, options.drop_partitions))
}

/// Whether a member goes with its rows.
fn goes(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
) -> bool {
    // What was detached, and cannot be dropped, gives up its rows and stays.
    if member.detached {
        return facts.ties.dependents(member.oid).is_empty()
            && stays(options, rule, table, member, age, facts, at).is_none();
    }
    expired(rule, table, member, age, at)
        && by_rows(options, table, member, facts).is_none()
        && outside::can_leave(member, table, MARK, at)
}

/// Why what an earlier run detached does not go on its way: today's options would not have it
/// leave as a whole either, if it were a partition.
fn stays(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
) -> Option<String> {
    let by_age = rule.by_age_alone();
    if !by_age || (member.bounds.is_some() && !partition::expired(member, table, rule, age, at.now))
    {
        return Some(partition::not_meant(by_age));
    }
    // What depends on it is told beside the rows that go one by one.
    if !facts.ties.dependents(member.oid).is_empty() {
        return None;
    }
    let detached = (member.oid, &member.name);
    facts
        .ties
        .kept_from_dropping(table, detached, options.drop_partitions)
}

/// Whether a member is exported as it is and dropped, instead of row by row.
pub(super) fn leaves_whole(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
) -> bool {
    let goes = goes(options, rule, table, member, age, facts, at);
    goes && options.destination.files.is_some() && member.heap && member.may
}

/// Exports a partition and drops it.
fn whole(
    table: &Table,
    member: &Member,
    fate: &Fate,
    goal_ms: u64,
    begun: &[Manifest],
    why: &str,
) -> Step {
    let begun = begun
        .iter()
        .find(|m| m.whole.as_ref().is_some_and(|w| w.oid == member.oid));
    let walk = Walk {
        table: member.name.to_string(),
        oid: member.oid,
        through: None,
        references: Vec::new(),
        guarded: false,
        obstructed: Vec::new(),
        vain: None,
        fires: false,
        spares: false,
        most: None,
        sought: false,
        found: crate::plan::Found::default(),
        alias: table.name.relation.to_string(),
        condition: "true".to_owned(),
        params: Vec::new(),
        fate: fate.clone(),
        newest: None,
        path: way::blocks(member),
        goal_ms,
        rows: None,
        snapshot: false,
        start: None,
        progress: String::new(),
    };
    let to = match fate {
        Fate::Export(export) => export.storage.as_str(),
        _ => "",
    };
    let mut step = retire(table, member, Some(walk), begun.cloned())
        .because(match (begun, member.detached) {
            (None, false) => {
                format!("all its rows to {to}: {why}, and the partition ends before that")
            }
            (Some(begun), _) => format!(
                "an earlier run detached it and stored {} of its rows in {to}",
                rows(begun.rows as f64)
            ),
            (None, true) => format!("an earlier run detached it to be stored in {to}"),
        })
        .counted_by(Query::new(
            format!("SELECT pg_catalog.count(*) FROM ONLY {}", member.name),
            [],
        ));
    step.details.push(
        "its rows are written, read back and compared; then it is locked, compared with what was written, and dropped, in one transaction".to_owned(),
    );
    step
}

fn retire(table: &Table, member: &Member, walk: Option<Walk>, begun: Option<Manifest>) -> Step {
    let detach = if member.detached {
        Vec::new()
    } else {
        partition::detach(member, table, MARK)
    };
    let (query, otherwise) = mark::as_it_was(member, table, MARK);
    let mut step = Step::new(
        "archive_partition",
        member.name.to_string(),
        format!("table {}", table.oid),
    )
    .locking(table.oid)
    .relying_on(member.oid, &member.name)
    .only_if(query, otherwise)
    .expecting(member.bytes, Some(0))
    .touching(member.oid, Use::Define)
    .touching(table.oid, Use::Command)
    .retiring(Retire {
        table: member.name.to_string(),
        oid: member.oid,
        source: table.name.to_string(),
        bounds: member.bounds.clone(),
        detach,
        walk,
        detached: mark::was_detached(member.oid, table, MARK),
        begun,
    });
    if !member.detached {
        step.body.on_abort = mark::unmarking(member, table, MARK);
    }
    let (root, begins) = (table.name.to_string(), mark::begins(MARK, table));
    step.body.outside = Some(Outside::of(member, &root).left(member.oid, &begins));
    step
}

fn to(options: &Archive) -> String {
    match (&options.destination.table, &options.destination.files) {
        (Some(table), _) => match &options.destination.database {
            Some(target) => format!("{table} on {target}"),
            None => table.to_string(),
        },
        (None, files) => files.clone().unwrap_or_default(),
    }
}

fn proof(fate: &Fate) -> &'static str {
    match fate {
        Fate::Export(_) | Fate::Send(_) => {
            "each batch is written, read back and compared before its rows go, in one snapshot"
        }
        Fate::Move { .. } | Fate::Delete => "each batch moves in one transaction",
    }
}

/// What becomes of the rows.
///
/// # Errors
/// Why they cannot be kept exactly.
fn fate(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    facts: &Facts,
    columns: &[Found],
    at: &Moment,
) -> Result<Fate, String> {
    let destination = &options.destination;
    if destination.files.is_some() || destination.database.is_some() {
        let unkept: Vec<String> = columns
            .iter()
            .filter(|c| c.kept.is_none())
            .map(|c| format!("{} ({})", c.name, c.pg_type))
            .collect();
        if !unkept.is_empty() {
            return Err(format!(
                "columns of types that cannot be kept exactly: {}",
                unkept.join(", ")
            ));
        }
        let kept: Vec<Column> = columns.iter().filter_map(|c| c.kept()).collect();
        if let (Some(target), Some(into)) = (&destination.database, &destination.table) {
            // What the server computes there by itself is not sent.
            let given = columns.iter().filter(|c| !c.generated);
            let mut send = Send {
                target: target.clone(),
                into: RelationName::new(&*into.schema, &*into.table).to_string(),
                schema: into.schema.clone(),
                source: table.name.to_string(),
                oid: table.oid,
                columns: given.filter_map(Found::sent).collect(),
                confined: table.confined,
                newest: None,
            };
            let mut received = Manifest::received_by(&send, &at.memories);
            send.newest = received.pop().map(|(_, received)| received);
            return Ok(Fate::Send(send));
        }
        let files = destination.files.clone().unwrap_or_default();
        return Ok(Fate::Export(Export {
            storage: files,
            source: table.name.to_string(),
            oid: table.oid,
            month: month(rule, age, &kept),
            columns: kept,
        }));
    }
    let into = options.destination.table.as_ref().ok_or("no destination")?;
    let name = RelationName::new(&*into.schema, &*into.table);
    if facts.into_itself {
        return Err(format!(
            "{name} and {} inherit from each other: what is moved there would be there still",
            table.name
        ));
    }
    if let Some(why) = &facts.into_obstructed {
        return Err(format!("{name} {why}"));
    }
    if facts.into_unlogged {
        return Err(format!(
            "{name}, or a partition of it, is UNLOGGED: a crash of the server would empty it; ALTER TABLE … SET LOGGED"
        ));
    }
    for column in columns {
        let there = facts.into.iter().find(|c| c.name == column.name);
        match there {
            _ if facts.into.is_empty() => {}
            Some(there) if there.generated => {
                return Err(format!("{name} computes its column {} itself", column.name));
            }
            Some(there) if there.pg_type != column.pg_type => {
                return Err(format!(
                    "column {} is of type {} here and {} in {name}",
                    column.name, column.pg_type, there.pg_type
                ));
            }
            Some(_) => {}
            None => return Err(format!("{name} has no column {}", column.name)),
        }
    }
    Ok(Fate::Move {
        into: name.to_string(),
        columns: columns
            .iter()
            .map(|c| Identifier::new(&*c.name).to_string())
            .collect(),
    })
}

fn month(rule: &Rule, age: Option<AgeType>, columns: &[Column]) -> Option<(usize, MonthOf)> {
    let name = rule.column.as_ref()?;
    let place = columns.iter().position(|c| c.name == *name)?;
    let how = match age? {
        AgeType::TimestampTz | AgeType::Timestamp | AgeType::Date => MonthOf::Calendar,
        AgeType::Integer => MonthOf::Epoch(match rule.epoch {
            Some(Epoch::Millis) => 1_000,
            Some(Epoch::Micros) => 1_000_000,
            Some(Epoch::Seconds) | None => 1,
        }),
        AgeType::Uuid => MonthOf::Uuid,
    };
    Some((place, how))
}

/// The same columns, without what belongs to a table in use: defaults,
/// generated values, constraints.
fn create_table(into: &RelationName, table: &Table, has_schema: bool, heirs: &Heirs) -> Step {
    let mut step = Step::new(CREATE, into.to_string(), format!("table {into}"))
        .because("it does not exist yet")
        .touching(table.oid, Use::Command);
    if !has_schema {
        let mut sql = format!("CREATE SCHEMA IF NOT EXISTS {}", into.schema);
        if let Some(owner) = &heirs.owner {
            sql += &format!(" AUTHORIZATION {owner}");
        }
        step = step.run(Statement::brief(sql));
    }
    // It fails where somebody has made it meanwhile: whose it is, and which columns it has, the
    // next plan looks at. Sent as one, the two are one transaction.
    let mut sql = format!("CREATE TABLE {into} (LIKE {})", table.name);
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
    step.run(Statement::brief(sql))
}
