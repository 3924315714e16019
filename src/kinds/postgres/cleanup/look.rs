//! Looks at the rows of many tables, some tables at a time.

use std::collections::HashMap;

use super::super::retention::age_of;
use super::super::retention::effects::ForeignKey;
use super::super::retention::estimate::{self, Look};
use super::super::retention::facts::Table;
use super::super::retention::proof;
use super::super::retention::rule::{AgeType, Rule};
use super::tenants::Followed;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::values::{TableName, wall_clock};

/// So many tables are asked about at once: each takes a lock, as do its indexes, for a moment.
const AT_ONCE: usize = 200;

/// What is asked about together: tables of one rule, as many as may be asked about at once. With
/// each lot, the rule's place in the task.
pub(super) fn lots<'a>(
    rules: Vec<(usize, &'a mut Followed)>,
    tables: &HashMap<TableName, Table>,
) -> Vec<(usize, Vec<(usize, &'a mut Followed)>)> {
    let mut lots: Vec<(usize, Vec<(usize, &mut Followed)>)> = Vec::new();
    let mut held = 0;
    for (n, followed) in rules {
        let table = tables.get(&*followed.rule.table);
        let members = table.map_or(0, |table| table.members.len());
        held += members;
        match lots.last_mut() {
            Some((of, lot)) if *of == followed.of && held <= AT_ONCE => lot.push((n, followed)),
            _ => {
                held = members;
                lots.push((followed.of, vec![(n, followed)]));
            }
        }
    }
    lots
}

/// Looks at the rows that some tables of one rule would lose, by the place of each.
pub(super) async fn look(
    db: &Session,
    lot: Vec<(usize, &mut Followed)>,
    (tables, parents, keys): (
        &HashMap<TableName, Table>,
        &HashMap<TableName, u32>,
        &[ForeignKey],
    ),
    standing: &Standing,
) -> Result<Vec<(usize, Look)>, EngineError> {
    let mut looks = Vec::new();
    let mut places = Vec::new();
    let mut asked: Vec<(&mut Rule, &Table)> = Vec::new();
    let mut known: Vec<(Option<AgeType>, Vec<Touch>)> = Vec::new();
    for (n, followed) in lot {
        let rule = &mut followed.rule;
        let Some(table) = tables.get(&*rule.table) else {
            continue;
        };
        let Ok(age) = age_of(rule, table) else {
            continue;
        };
        let parent = rule.orphaned.as_ref();
        let parent = parent.and_then(|orphaned| parents.get(&*orphaned.parent));
        let also: Vec<Touch> = parent
            .map(|p| Touch::new(*p, Use::Read))
            .into_iter()
            .collect();
        if !also.iter().all(|touch| standing.code(*touch).is_empty()) {
            looks.push((n, Look::default()));
            continue;
        }
        places.push(n);
        asked.push((rule, table));
        known.push((age, also));
    }
    let also: Vec<Touch> = known.iter().flat_map(|(_, also)| also).copied().collect();
    let guard = standing.guard(&also);
    let readings = proof::read(db, &mut asked, guard.as_ref()).await?;
    // What is kept, and whom a key points at, may go by days: those of whoever wrote the rows.
    let readings = readings.into_iter().map(proof::Reading::in_their_time);
    let asked: Vec<estimate::Asked<'_>> = asked
        .iter()
        .zip(readings)
        .zip(known)
        .map(|(((rule, table), reading), (age, also))| estimate::Asked {
            rule,
            table,
            age,
            reading,
            also,
            along: ForeignKey::along(keys, table.oid),
        })
        .collect();
    let told = estimate::look(db, &asked, wall_clock(), standing).await?;
    looks.extend(places.into_iter().zip(told));
    Ok(looks)
}
