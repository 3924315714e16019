//! Counting what a rule means, where it is bounded: none may go that a bound would have kept.

use std::collections::HashMap;
use std::time::Instant;

use tokio_postgres::types::ToSql;

use super::facts::Member;
use super::glance::begin;
use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::Guard;
use crate::plan::{Found, Spot};

/// Seconds that counting for a bound may take; the walk itself reads as much.
const COUNTING_S: u32 = 900;

/// What was counted for a bound.
pub(super) struct Counted {
    /// Rows that would go, by table.
    pub(super) going: HashMap<u32, i64>,
    /// All there are, by table.
    pub(super) all: HashMap<u32, i64>,
    /// Which would go, where they were found.
    pub(super) found: HashMap<u32, Found>,
}

/// Counts the rows that would go, and all there are: none may go that a bound
/// of the rule would have kept, so an estimate will not do. Where so many may be found, it is noted which
/// would go.
///
/// # Errors
/// The inner one is why they could not be counted; none where the tables could not be locked.
pub(super) async fn bounded(
    db: &Session,
    rule: &Rule,
    members: &[&Member],
    from: impl Fn(&Member) -> String,
    (guard, settings): (Option<&Guard>, &str),
    (params, find_most): (&[&(dyn ToSql + Sync)], Option<usize>),
) -> Result<Result<Counted, Option<EngineError>>, EngineError> {
    let doing = "counting the rows that would go";
    if !begin(db, guard, settings).await? {
        return Ok(Err(None));
    }
    let patient = format!("SET LOCAL statement_timeout = '{COUNTING_S}s'");
    db.execute(doing, &patient).await?;
    let counted = async {
        let mut counted = Counted {
            going: members.iter().map(|m| (m.oid, 0)).collect(),
            all: HashMap::new(),
            found: HashMap::new(),
        };
        let found = match find_most.filter(|_| members.iter().all(|m| m.heap)) {
            Some(most) => find(db, rule, members, &from, params, most).await?,
            None => None,
        };
        if let Some(found) = found {
            for (member, spots) in found {
                let rows = i64::try_from(spots.1.len()).unwrap_or(i64::MAX);
                counted.going.insert(member, rows);
                counted.found.insert(member, Found::at(spots.0, spots.1));
            }
        } else {
            let arms: Vec<String> = members
                .iter()
                .map(|m| {
                    let (oid, from) = (m.oid, from(m));
                    format!("SELECT {oid}::oid, pg_catalog.count(*) FROM {from}")
                })
                .collect();
            for row in db.query(doing, &arms.join(" UNION ALL "), params).await? {
                counted.going.insert(row.get(0)?, row.get(1)?);
            }
        }
        let arms: Vec<String> = members
            .iter()
            .map(|m| {
                format!(
                    "SELECT {}::oid, pg_catalog.count(*) FROM ONLY {}",
                    m.oid, m.name
                )
            })
            .collect();
        for row in db.query(doing, &arms.join(" UNION ALL "), &[]).await? {
            counted.all.insert(row.get(0)?, row.get(1)?);
        }
        Ok::<_, EngineError>(counted)
    };
    let counted = counted.await;
    db.execute(doing, "ROLLBACK").await?;
    match counted {
        Ok(counted) => Ok(Ok(counted)),
        Err(error) if error.sqlstate().is_some() => Ok(Err(Some(error))),
        Err(error) => Err(error),
    }
}

/// When rows were looked for, and which were found.
type Spots = (Instant, Vec<Spot>);

/// The places of all rows that would go, by table; none where they are too
/// many to be kept. It costs what counting them costs.
async fn find(
    db: &Session,
    rule: &Rule,
    members: &[&Member],
    from: impl Fn(&Member) -> String,
    params: &[&(dyn ToSql + Sync)],
    most: usize,
) -> Result<Option<HashMap<u32, Spots>>, EngineError> {
    let when = Instant::now();
    let mut found: HashMap<u32, Spots> = members
        .iter()
        .map(|m| (m.oid, (when, Vec::new())))
        .collect();
    let alias = rule.alias();
    let arms: Vec<String> = members
        .iter()
        .map(|m| format!("SELECT {}::oid, {alias}.ctid FROM {}", m.oid, from(m)))
        .collect();
    let sql = format!("{} LIMIT {}", arms.join(" UNION ALL "), most + 1);
    let mut all = 0;
    db.stream("counting the rows that would go", &sql, params, |fields| {
        let field = |n: usize| fields.get(n).copied().flatten();
        let member = field(0).and_then(|oid| Some(u32::from_be_bytes(oid.try_into().ok()?)));
        let spots = member.and_then(|member| found.get_mut(&member));
        if let (Some((_, spots)), Some(spot)) = (spots, field(1).and_then(Spot::of)) {
            spots.push(spot);
        }
        all += 1;
        true
    })
    .await?;
    Ok((all <= most).then_some(found))
}
