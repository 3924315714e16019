//! The steps of an archive: one for each table that holds rows.

use super::super::cleanup::facts::{Member, Table};
use super::super::cleanup::rule::{AgeType, Epoch, Rule};
use super::super::cleanup::{invalid, partition, steps as cleanup_steps, way};
use super::super::common::{rows, still_there};
use super::columns::Found;
use super::{Archive, Facts};
use crate::engines::parquet::Column;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{
    Export, Fate, Finding, Moment, MonthOf, Param, Plan, Query, Send, Severity, Statement, Step,
    Walk,
};

const TABLE_IS_THERE: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname::text = $1::text AND c.relname::text = $2::text)";

const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM ONLY {})";

/// Plans the rows of all members; what stands in their way goes into the plan.
pub(super) fn of(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
    plan: &mut Plan,
) -> Vec<Step> {
    if let Some(refused) = &facts.look.refused {
        invalid(
            plan,
            rule,
            &format!("the server refuses its condition: {refused}"),
        );
        return Vec::new();
    }
    let loses = facts
        .foreign_keys
        .iter()
        .find(|fk| matches!(fk.action.as_str(), "c" | "n" | "d"));
    if let Some(fk) = loses {
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
    let fate = match fate(options, rule, table, age, facts) {
        Ok(fate) => fate,
        Err(why) => {
            invalid(plan, rule, &why);
            return Vec::new();
        }
    };
    let mut forbidden = Vec::new();
    for member in &table.members {
        if member.kind != "r" {
            plan.skip(member.name.to_string(), "it is a foreign table");
            continue;
        }
        let expired = partition::expired(member, table, rule, age, at.now)
            && table.owned
            && facts.foreign_keys.is_empty();
        let some = facts.look.any.get(&member.oid) != Some(&false) && member.bytes > 0;
        if some && !member.may {
            forbidden.push(member.name.to_string());
            continue;
        }
        if some {
            let victims = facts.look.rows.get(&member.oid).copied();
            match way::choose(member, rule, victims) {
                Ok((path, why)) => {
                    let (condition, params) = rule.condition(age, at.now);
                    let progress = cleanup_steps::progress(member, &condition, &path);
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "row counts are far below 2^63"
                    )]
                    let walk = Walk {
                        table: member.name.to_string(),
                        alias: rule.alias().to_string(),
                        condition,
                        params,
                        fate: fate.clone(),
                        path,
                        goal_ms: u64::try_from(options.batch_goal.get().as_millis())
                            .unwrap_or(u64::MAX),
                        rows: victims.map(|n| n as i64),
                        snapshot: rule.looks_elsewhere(),
                        start: at.memories.get(&progress).filter(|v| !v.is_null()).cloned(),
                        progress,
                    };
                    steps.push(step(options, rule, age, member, victims, walk, &why, at));
                }
                Err(why) => invalid(plan, rule, &format!("{} {why}", member.name)),
            }
        }
        if expired {
            let empty = EMPTY.replace("{}", &member.name.to_string());
            let step = partition::drop_whole(member, table)
                .because("all its rows are archived, and it can get no others")
                .only_if(Query::new(empty, []), "it still has rows")
                .after("archive", member.name.to_string());
            steps.push(step);
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
    if let (Some(into), None, false, true) = (
        &options.destination.table,
        &options.destination.database,
        steps.is_empty(),
        facts.into.is_empty(),
    ) {
        let into = RelationName::new(&*into.schema, &*into.table);
        let create = create_table(&into, table);
        let steps = steps
            .into_iter()
            .map(|step| step.after("create_table", into.to_string()));
        return std::iter::once(create).chain(steps).collect();
    }
    steps
}

#[expect(clippy::too_many_arguments, reason = "all of it is said in the step")]
fn step(
    options: &Archive,
    rule: &Rule,
    age: Option<AgeType>,
    member: &Member,
    victims: Option<f64>,
    walk: Walk,
    why: &str,
    at: &Moment,
) -> Step {
    let expected = victims.map_or("an unknown number of".to_owned(), |n| {
        format!("about {}", rows(n))
    });
    let (condition, params) = rule.condition(age, at.now);
    let count = Query::new(
        format!(
            "SELECT pg_catalog.count(*) FROM ONLY {} AS {} WHERE {condition}",
            member.name,
            rule.alias()
        ),
        params,
    );
    let to = match (&options.destination.table, &options.destination.files) {
        (Some(table), _) => match &options.destination.database {
            Some(target) => format!("{table} on {target}"),
            None => table.to_string(),
        },
        (None, files) => files.clone().unwrap_or_default(),
    };
    let mut step = Step::new(
        "archive",
        member.name.to_string(),
        format!("table {}", member.oid),
    )
    .because(format!("{expected} rows to {to}: {}", rule.why(at.now)))
    .locking(member.oid)
    .only_if(
        still_there(member.oid, &member.name),
        "the table has vanished",
    )
    .counted_by(count)
    .expecting(member.bytes, None)
    .walking(walk);
    step.details.push(format!("walks {why}"));
    step.details.push(match &options.destination.table {
        Some(_) if options.destination.database.is_none() => {
            "each batch moves in one transaction".to_owned()
        }
        _ => "each batch is written, read back and compared before its rows go, in one snapshot"
            .to_owned(),
    });
    step
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
) -> Result<Fate, String> {
    let destination = &options.destination;
    if destination.files.is_some() || destination.database.is_some() {
        let unkept: Vec<String> = facts
            .columns
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
        let columns: Vec<Column> = facts.columns.iter().filter_map(|c| c.kept()).collect();
        if let (Some(target), Some(into)) = (&destination.database, &destination.table) {
            // What the server computes there by itself is not sent.
            let given = facts.columns.iter().filter(|c| !c.generated);
            return Ok(Fate::Send(Send {
                target: target.clone(),
                into: RelationName::new(&*into.schema, &*into.table).to_string(),
                source: table.name.to_string(),
                columns: given.filter_map(Found::sent).collect(),
            }));
        }
        let files = destination.files.clone().unwrap_or_default();
        return Ok(Fate::Export(Export {
            storage: files,
            source: table.name.to_string(),
            month: month(rule, age, &columns),
            columns,
        }));
    }
    let into = options.destination.table.as_ref().ok_or("no destination")?;
    let name = RelationName::new(&*into.schema, &*into.table);
    if facts.into_obstructed {
        return Err(format!(
            "{name} has rules or triggers that may keep rows out of it"
        ));
    }
    for column in &facts.columns {
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
        columns: facts
            .columns
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
fn create_table(into: &RelationName, table: &Table) -> Step {
    let missing = Query::new(
        TABLE_IS_THERE,
        [
            Param::Text(into.schema.raw().to_owned()),
            Param::Text(into.relation.raw().to_owned()),
        ],
    );
    Step::new("create_table", into.to_string(), format!("table {into}"))
        .because("it does not exist yet")
        .run(
            Statement::brief(format!("CREATE TABLE {into} (LIKE {})", table.name)).only_if(missing),
        )
}
