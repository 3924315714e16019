//! How many rows a rule means, by the planner's estimate, and whether there
//! are any at all, where that can be told cheaply.

use std::collections::HashMap;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::ToSql;

use super::facts::{Member, Table};
use super::glance::begin;
use super::proof::{self, Reading};
use super::rule::{AgeType, Rule};
use super::ties::Ties;
use super::unit;
use crate::engines::EngineError;
use crate::engines::postgres::trust::{Guard, Standing, Touch, Use};
use crate::engines::postgres::{Fault, Session, first, grants};
use crate::plan::postgres::Under;
use crate::plan::{Found, MOST_FOUND, Param, Spot};
use crate::values::with_causes;

/// Reading a table of this size to its end, in vain, takes well under a second.
const SMALL: i64 = 64 << 20;

/// Seconds that counting for a bound may take; the walk itself reads as much.
const COUNTING_S: u32 = 900;

/// What a look at the rows of one rule told.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds::postgres) struct Look {
    /// Estimated rows that would go, by table.
    pub(in crate::kinds::postgres) rows: HashMap<u32, f64>,
    /// Whether there is such a row, by table; missing where nobody looked.
    pub(in crate::kinds::postgres) any: HashMap<u32, bool>,
    /// Why the rule is not followed.
    pub(in crate::kinds::postgres) refused: Option<String>,
    /// The statements that would help against that.
    pub(in crate::kinds::postgres) remedy: Option<String>,
    /// How the condition is read.
    pub(in crate::kinds::postgres) under: Under,
    /// Why more rows would go than the rule may take.
    pub(in crate::kinds::postgres) too_many: Option<String>,
    /// How many the rule may take, all tables below it together.
    pub(in crate::kinds::postgres) most: Option<i64>,
    /// Which rows would go, by table, where counting them found them.
    pub(in crate::kinds::postgres) found: HashMap<u32, Found>,
}

/// What may be asked: not what makes the planner run code that is not trusted.
#[derive(Clone, Copy)]
pub(in crate::kinds::postgres) struct Allowed<'a> {
    pub(in crate::kinds::postgres) standing: &'a Standing,
    /// What the condition reads besides the table itself.
    pub(in crate::kinds::postgres) also: &'a [Touch],
}

impl Allowed<'_> {
    fn touches(&self, members: &[&Member]) -> Vec<Touch> {
        let members = members.iter().map(|m| Touch::new(m.oid, Use::Read));
        members.chain(self.also.iter().copied()).collect()
    }

    fn may(&self, touch: Touch) -> bool {
        self.standing.code(touch).is_empty()
    }
}

/// Looks with the rule's condition as it would be now. The plan's own moment
/// is a little earlier, so that it never means more rows than were looked for.
pub(in crate::kinds::postgres) async fn look(
    db: &Session,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    reading: Reading,
    now: DateTime<Utc>,
    allowed: Allowed<'_>,
) -> Result<Look, EngineError> {
    let members: Vec<&Member> = table
        .members
        .iter()
        // What the role may not touch is told of by itself, with what it lacks; so is what no statement can name.
        .filter(|m| {
            m.kind == "r" && m.may && !m.is_unnamed() && allowed.may(Touch::new(m.oid, Use::Delete))
        })
        .collect();
    let parent_is_empty = reading.parent_is_empty;
    let mut look = Look {
        refused: reading.refused,
        under: reading.under,
        ..Look::default()
    };
    let may = allowed.also.iter().all(|touch| allowed.may(*touch));
    if members.is_empty() || look.refused.is_some() || !may {
        return Ok(look);
    }
    let guard = allowed.standing.guard(&allowed.touches(&members));
    let (condition, params) = rule.condition(age, now);
    let from = |m: &Member| format!("ONLY {} AS {} WHERE {condition}", m.name, rule.alias());
    let params = bound(&params);
    let settings = look.under.settings("SET LOCAL");
    let arms: Vec<String> = members
        .iter()
        .map(|m| format!("SELECT 1 FROM {}", from(m)))
        .collect();
    let explain = format!(
        "EXPLAIN (VERBOSE, FORMAT JSON) {}",
        arms.join(" UNION ALL ")
    );
    if !begin(db, guard.as_ref(), &settings).await? {
        return Ok(look);
    }
    let answer = db.query("estimating rows", &explain, &params).await;
    db.execute("ending the look", "ROLLBACK").await?;
    match answer {
        Ok(rows) => {
            if let Some(row) = rows.first() {
                let plan: Value = row.get(0)?;
                for member in &members {
                    let rows = rows_of(&plan[0]["Plan"], member, rule);
                    look.rows.insert(member.oid, rows.unwrap_or(0.0));
                }
            }
        }
        Err(error) => {
            if !too_late(&error) {
                look.refuse(db, rule, &error).await?;
            }
            return Ok(look);
        }
    }

    let held = (guard.as_ref(), &*settings);
    if let Some(why) = unit::mistaken(db, rule, age, &members, held, now).await? {
        look.refused = Some(why);
        return Ok(look);
    }
    if rule.is_bounded() {
        let held = (guard.as_ref(), &*settings);
        let counted = bounded(db, rule, &members, from, held, &params).await?;
        let counted = match counted {
            Ok(counted) => counted,
            Err(why) => {
                look.too_many = Some(why);
                return Ok(look);
            }
        };
        let going = counted.going.values().sum();
        look.most = proof::most(rule, counted.all);
        look.too_many = proof::too_many(rule, parent_is_empty, going, counted.all);
        // Counted is better than estimated, and there is nothing left to look for.
        for (member, rows) in counted.going {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            look.rows.insert(member, rows as f64);
            look.any.insert(member, rows > 0);
        }
        look.found = counted.found;
        return Ok(look);
    }
    let cheap: Vec<&Member> = members
        .into_iter()
        .filter(|m| m.bytes <= SMALL || (rule.by_age_alone() && led_by(m, rule)))
        .collect();
    if cheap.is_empty() {
        return Ok(look);
    }
    let arms: Vec<String> = cheap
        .iter()
        .map(|m| {
            format!(
                "SELECT {}::oid WHERE EXISTS (SELECT FROM {})",
                m.oid,
                from(m)
            )
        })
        .collect();
    if !begin(db, guard.as_ref(), &settings).await? {
        return Ok(look);
    }
    let answer = db
        .query("looking for rows", &arms.join(" UNION ALL "), &params)
        .await;
    db.execute("ending the look", "ROLLBACK").await?;
    match answer {
        Ok(rows) => {
            look.any = cheap.iter().map(|m| (m.oid, false)).collect();
            for row in &rows {
                look.any.insert(row.get(0)?, true);
            }
        }
        Err(error) => {
            if !too_late(&error) {
                look.refuse(db, rule, &error).await?;
            }
        }
    }
    Ok(look)
}

impl Look {
    /// The server does not take the condition.
    async fn refuse(
        &mut self,
        db: &Session,
        rule: &Rule,
        error: &EngineError,
    ) -> Result<(), EngineError> {
        self.refused = Some(format!(
            "the server refuses its condition: {}",
            with_causes(error)
        ));
        if Fault::of(error) == Fault::Forbidden {
            let parent = rule.orphaned.as_ref().map(|o| o.parent.to_string());
            let texts: Vec<&str> = rule.texts().chain(parent.as_deref()).collect();
            self.remedy = grants::missing(db, &texts).await?;
        }
        Ok(())
    }
}

/// What was counted for a bound.
struct Counted {
    /// Rows that would go, by table.
    going: HashMap<u32, i64>,
    /// All there are.
    all: i64,
    /// Which would go, where they were found.
    found: HashMap<u32, Found>,
}

/// Counts the rows that would go, and all there are: none may go that a bound
/// of the rule would have kept, so an estimate will not do.
///
/// # Errors
/// The inner one is why they could not be counted.
async fn bounded(
    db: &Session,
    rule: &Rule,
    members: &[&Member],
    from: impl Fn(&Member) -> String,
    (guard, settings): (Option<&Guard>, &str),
    params: &[&(dyn ToSql + Sync)],
) -> Result<Result<Counted, String>, EngineError> {
    let doing = "counting the rows that would go";
    if !begin(db, guard, settings).await? {
        let why = "how many rows would go could not be counted: the table could not be locked";
        return Ok(Err(why.to_owned()));
    }
    let patient = format!("SET LOCAL statement_timeout = '{COUNTING_S}s'");
    db.execute(doing, &patient).await?;
    let counted = async {
        let mut counted = Counted {
            going: members.iter().map(|m| (m.oid, 0)).collect(),
            all: 0,
            found: HashMap::new(),
        };
        let found = match rule.orphaned.is_some() && members.iter().all(|m| m.heap) {
            true => find(db, rule, members, &from, params).await?,
            false => None,
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
            .map(|m| format!("SELECT pg_catalog.count(*) FROM ONLY {}", m.name))
            .collect();
        for row in db.query(doing, &arms.join(" UNION ALL "), &[]).await? {
            counted.all += row.get::<i64>(0)?;
        }
        Ok::<_, EngineError>(counted)
    };
    let counted = counted.await;
    db.execute(doing, "ROLLBACK").await?;
    match counted {
        Ok(counted) => Ok(Ok(counted)),
        Err(error) if error.sqlstate().is_some() => Ok(Err(format!(
            "how many rows would go could not be counted, so nobody can say that they are not too many: {}",
            with_causes(&error)
        ))),
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
    let sql = format!("{} LIMIT {}", arms.join(" UNION ALL "), MOST_FOUND + 1);
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
    Ok((all <= MOST_FOUND).then_some(found))
}

/// Whether a row meets the rule that no other points at with a foreign key
/// which would take the other along, or change it. What cannot be told in
/// time may be so.
pub(in crate::kinds::postgres) async fn any_free(
    db: &Session,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    ties: &Ties,
    under: &Under,
) -> Result<bool, EngineError> {
    let (condition, params) = rule.condition(age, Utc::now());
    let params = bound(&params);
    let alias = rule.alias();
    let members = table.members.iter();
    for member in members.filter(|m| m.kind == "r" && !m.is_unnamed()) {
        let references = ties.references(member.oid, true);
        let points: Vec<String> = references
            .iter()
            .filter(|r| r.takes)
            .map(|r| format!(" AND NOT {}", r.points_at(&alias.to_string())))
            .collect();
        if points.is_empty() {
            continue;
        }
        let sql = format!(
            "SELECT EXISTS (SELECT FROM ONLY {} AS {alias} WHERE ({condition}){})",
            member.name,
            points.concat()
        );
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '20s'; {}",
            under.settings("SET LOCAL")
        );
        db.execute("beginning to look", &begin).await?;
        let answer = db
            .query("looking for rows that may go", &sql, &params)
            .await;
        db.execute("ending the look", "ROLLBACK").await?;
        match answer {
            Ok(rows) if first(&rows, 0)? == Some(true) => return Ok(true),
            Err(error) if too_late(&error) => return Ok(true),
            // What is wrong with the condition is told elsewhere.
            _ => {}
        }
    }
    Ok(false)
}

/// Whether an index begins with the column that tells the age.
fn led_by(member: &Member, rule: &Rule) -> bool {
    member
        .indexes
        .iter()
        .any(|i| i.columns.first().map(|c| &c.name) == rule.column.as_ref())
}

fn bound(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

/// Whether the answer only came too late: a lock, or a long search.
fn too_late(error: &EngineError) -> bool {
    matches!(error.sqlstate(), Some("55P03" | "57014" | "40P01"))
}

/// The rows that the planner expects of this member: of the arm that reads it.
fn rows_of(plan: &Value, member: &Member, rule: &Rule) -> Option<f64> {
    let arms = match (plan["Node Type"].as_str(), plan["Plans"].as_array()) {
        (Some("Append"), Some(arms)) => arms.as_slice(),
        _ => std::slice::from_ref(plan),
    };
    arms.iter()
        .find(|arm| reads(arm, member, rule))
        .and_then(|arm| arm["Plan Rows"].as_f64())
}

fn reads(node: &Value, member: &Member, rule: &Rule) -> bool {
    let alias = node["Alias"].as_str().unwrap_or_default();
    let here = node["Schema"].as_str() == Some(member.name.schema.raw())
        && node["Relation Name"].as_str() == Some(member.name.relation.raw())
        && alias.starts_with(rule.alias().raw());
    let below = node["Plans"].as_array();
    here || below.is_some_and(|below| below.iter().any(|node| reads(node, member, rule)))
}
