//! What becomes of the rows, and why they cannot be kept where they are to go.

use super::super::retention::facts::Table;
use super::super::retention::rule::{AgeType, Rule};
use super::columns::Found;
use super::{Archive, Facts};
use crate::engines::parquet::Column;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Export, Fate, Manifest, Moment, MonthOf, Send};
use crate::values::Epoch;

/// Where the rows go, in words.
pub(super) fn to(options: &Archive) -> String {
    match (&options.destination.table, &options.destination.files) {
        (Some(table), _) => match &options.destination.database {
            Some(target) => format!("{table} on {target}"),
            None => table.to_string(),
        },
        (None, files) => files.clone().unwrap_or_default(),
    }
}

/// What is done before rows go.
pub(super) fn proof(fate: &Fate) -> &'static str {
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
pub(super) fn fate(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    facts: &Facts,
    columns: &[Found],
    at: &Moment,
) -> Result<Fate, String> {
    let destination = &options.destination;
    let elsewhere = destination.database.is_some();
    if !columns
        .iter()
        .any(|column| !(elsewhere && column.generated))
    {
        return Err(match columns.is_empty() {
            true => "it has no columns: nothing of its rows could be kept".to_owned(),
            false => "the server computes each of its columns, and what is computed is not sent into another database: nothing of its rows would be kept; archive it into files".to_owned(),
        });
    }
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

/// Which column tells the month of a row, and how.
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
