//! How many rows a rule means, by the planner's estimate, and whether there
//! are any at all, where that can be told cheaply.

mod free;
mod refused;
mod told;

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::ToSql;

pub(in crate::kinds::postgres) use self::free::any_free;
use self::told::{count_in, estimated};
use super::counting;
use super::facts::{Member, Table};
use super::glance::{begin, which};
use super::itself::Unseen;
use super::never::{self, Never};
use super::proof::Reading;
use super::rule::{AgeType, Rule};
use super::unit::{self, Unit};
use super::{computed, whole_row};
use crate::engines::EngineError;
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::engines::postgres::{Session, definitions};
use crate::plan::postgres::Under;
use crate::plan::{Found, MOST_AT_ONCE, MOST_FOUND, Param};

/// Reading a table of this size to its end, in vain, takes well under a second.
const SMALL: i64 = 64 << 20;

/// Nothing goes that has not been counted.
const UNCOUNTED: &str = "how many rows would go could not be counted in time, or because somebody holds the table, so nobody can say that they are not too many";

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
    /// Whether its condition reads the table that the rows go from.
    pub(in crate::kinds::postgres) itself: bool,
    /// Whether there are rows whose age nobody knows: they stay.
    pub(in crate::kinds::postgres) doubted: bool,
    /// Whether there are rows with a time that stands for never: they stay.
    pub(in crate::kinds::postgres) never: Never,
    /// Why more rows would go than the rule may take.
    pub(in crate::kinds::postgres) too_many: Option<String>,
    /// How many the rule may take, all tables below it together.
    pub(in crate::kinds::postgres) most: Option<i64>,
    /// What the condition reads and calls, by name, with a number for the definition of each.
    pub(in crate::kinds::postgres) named: BTreeMap<String, i64>,
    /// Functions that it calls, of which nobody can tell what they call in turn.
    pub(in crate::kinds::postgres) hiding: Vec<String>,
    /// Which rows would go, by table, where counting them found them.
    pub(in crate::kinds::postgres) found: HashMap<u32, Found>,
}

/// What may be asked: not what makes the planner run code that is not trusted.
#[derive(Clone, Copy)]
struct Allowed<'a> {
    standing: &'a Standing,
    /// What the condition reads besides the table itself.
    also: &'a [Touch],
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

/// A rule that is looked at.
pub(in crate::kinds::postgres) struct Asked<'a> {
    pub(in crate::kinds::postgres) rule: &'a Rule,
    pub(in crate::kinds::postgres) table: &'a Table,
    pub(in crate::kinds::postgres) age: Option<AgeType>,
    pub(in crate::kinds::postgres) reading: Reading,
    /// What the condition reads besides the table itself.
    pub(in crate::kinds::postgres) also: Vec<Touch>,
    /// The tables, `schema.table`, whose rows go or change along.
    pub(in crate::kinds::postgres) along: HashSet<String>,
}

/// Looks with the conditions of rules that differ in nothing but schemas, as they would be now: with
/// as many questions as for one, unless they are not all answered alike. The answers are in the order
/// of the rules. The plan's own moment is a little earlier, so that it never means more rows than
/// were looked for.
pub(in crate::kinds::postgres) async fn look(
    db: &Session,
    asked: &[Asked<'_>],
    now: DateTime<Utc>,
    standing: &Standing,
) -> Result<Vec<Look>, EngineError> {
    let mut looks: Vec<Look> = Vec::with_capacity(asked.len());
    // They say the same, but for the schema of their table, and of a parent beside it.
    let named = match asked {
        [one, others @ ..] => {
            let parent = one.rule.orphaned.as_ref().map(|o| o.parent.to_string());
            let parent = parent
                .as_deref()
                .filter(|_| others.is_empty() && one.rule.schemas.is_empty());
            let texts: Vec<&str> = one.rule.texts().chain(parent).collect();
            let columns: Vec<&str> = one.rule.named_columns().collect();
            let tables: Vec<u32> = asked.iter().map(|one| one.table.oid).collect();
            definitions::named(db, &texts, &columns, &tables).await?
        }
        [] => definitions::Named::default(),
    };
    let unseen = told::unseen(db, asked).await?;
    let mut waiting = vec![asked];
    while let Some(some) = waiting.pop() {
        if some.is_empty() {
            continue;
        }
        let alike = some.windows(2).all(|two| match two {
            [one, other] => {
                one.age == other.age
                    && one.reading.under.settings("SET LOCAL")
                        == other.reading.under.settings("SET LOCAL")
            }
            _ => true,
        });
        let answer = match alike {
            true => together(db, some, &unseen, now, standing).await?,
            false => None,
        };
        match answer {
            Some(answer) => looks.extend(answer),
            None => {
                let (one, others) = some.split_at(some.len() / 2);
                waiting.extend([others, one]);
            }
        }
    }
    for (one, look) in asked.iter().zip(&mut looks) {
        look.named = named.of(one.table.oid);
        look.hiding = named.hiding();
        if look.refused.is_none() {
            look.refused = whole_row::is_another(db, one.rule, one.table).await?;
        }
        if look.refused.is_none() {
            look.refused = computed::otherwise(db, one.rule, one.table).await?;
        }
    }
    Ok(looks)
}

/// One rule and the tables of it that may be asked.
struct Subject<'a> {
    asked: &'a Asked<'a>,
    members: Vec<&'a Member>,
    condition: String,
}

impl Subject<'_> {
    fn from(&self, member: &Member) -> String {
        let (condition, alias) = (&self.condition, self.asked.rule.alias());
        format!("ONLY {} AS {alias} WHERE {condition}", member.name)
    }
}

/// The same by one question each; none where one of several is in the way of the others.
async fn together(
    db: &Session,
    asked: &[Asked<'_>],
    unseen: &Unseen,
    now: DateTime<Utc>,
    standing: &Standing,
) -> Result<Option<Vec<Look>>, EngineError> {
    let alone = asked.len() == 1;
    let mut looks = Vec::with_capacity(asked.len());
    let mut subjects = Vec::new();
    let mut bound_values = Vec::new();
    for (n, one) in asked.iter().enumerate() {
        looks.push(Look {
            refused: one.reading.refused.clone(),
            under: one.reading.under.clone(),
            ..Look::default()
        });
        let allowed = Allowed {
            standing,
            also: &one.also,
        };
        let members = one.table.members.iter();
        let members: Vec<&Member> = members
            // What the role may not touch is told of by itself, with what it lacks; so is what no statement can name.
            .filter(|m| {
                m.kind == "r"
                    && m.may
                    && !m.is_unnamed()
                    && allowed.may(Touch::new(m.oid, Use::Delete))
            })
            .collect();
        let may = one.also.iter().all(|touch| allowed.may(*touch));
        if members.is_empty() || one.reading.refused.is_some() || !may {
            continue;
        }
        let (condition, params) = one.rule.condition(one.age, now);
        bound_values = params;
        subjects.push((
            n,
            Subject {
                asked: one,
                members,
                condition,
            },
        ));
    }
    let Some((_, first)) = subjects.first() else {
        return Ok(Some(looks));
    };
    let (rule, age) = (first.asked.rule, first.asked.age);
    let settings = first.asked.reading.under.settings("SET LOCAL");
    let touches: Vec<Touch> = subjects
        .iter()
        .flat_map(|(_, s)| {
            let allowed = Allowed {
                standing,
                also: &s.asked.also,
            };
            allowed.touches(&s.members)
        })
        .collect();
    let guard = standing.guard(&touches);
    let params = bound(&bound_values);
    let everyone = || {
        let each = subjects.iter();
        each.flat_map(|(_, s)| s.members.iter().map(move |m| (s, *m)))
    };
    let from: HashMap<u32, String> = everyone().map(|(s, m)| (m.oid, s.from(m))).collect();
    let from = |m: &Member| from.get(&m.oid).cloned().unwrap_or_default();
    let arms: Vec<String> = everyone()
        .map(|(_, m)| format!("SELECT 1 FROM {}", from(m)))
        .collect();
    let explain = format!(
        "EXPLAIN (VERBOSE, FORMAT JSON) {}",
        arms.join(" UNION ALL ")
    );
    if !begin(db, guard.as_ref(), &settings).await? {
        return Ok(alone.then_some(looks));
    }
    let answer = db.query("estimating rows", &explain, &params).await;
    db.execute("ending the look", "ROLLBACK").await?;
    match answer {
        Ok(rows) => {
            if let Some(row) = rows.first() {
                let plan: Value = row.get(0)?;
                estimated(&mut looks, &subjects, rule, &plan[0]["Plan"], unseen);
            }
        }
        Err(error) if error.is_unreachable() || alone => {
            if let (false, Some(look)) = (too_late(&error), looks.first_mut()) {
                look.refuse(db, rule, &error).await?;
            }
            return Ok(Some(looks));
        }
        Err(_) => return Ok(None),
    }

    let held = (guard.as_ref(), &*settings);
    let tables: Vec<&[&Member]> = subjects.iter().map(|(_, s)| &*s.members).collect();
    let Some(units) = unit::look(db, rule, age, &tables, held, now).await? else {
        return Ok(None);
    };
    let mut units = units.into_iter();
    subjects.retain(|(n, _)| match (units.next(), looks.get_mut(*n)) {
        (Some(Unit::Wrong(why)), Some(look)) => {
            look.refused = Some(why);
            false
        }
        (Some(Unit::Mixed), Some(look)) => {
            look.doubted = true;
            true
        }
        _ => true,
    });
    if subjects.is_empty() {
        return Ok(Some(looks));
    }
    let mut parts = Vec::new();
    for (_, subject) in &subjects {
        for member in &subject.members {
            let soon = member.bytes <= SMALL || led_by(member, rule);
            parts.push((subject.asked.table, *member, soon));
        }
    }
    let never = never::look(db, (rule, age), parts, held, now).await?;
    for (n, subject) in &subjects {
        if let Some(look) = looks.get_mut(*n) {
            look.never.before = never.before;
            let known = subject.members.iter().map(|m| m.oid);
            let known = known.filter_map(|oid| Some((oid, *never.any.get(&oid)?)));
            look.never.any.extend(known);
            look.doubted |= look.never.any.values().any(|any| *any);
        }
    }
    let everyone: Vec<&Member> = subjects
        .iter()
        .flat_map(|(_, s)| s.members.iter().copied())
        .collect();
    let itself = subjects
        .iter()
        .any(|(n, _)| looks.get(*n).is_some_and(|look| look.itself));
    if rule.is_bounded() || itself {
        let most = match (itself, rule.orphaned.is_some()) {
            (true, _) => Some(MOST_AT_ONCE),
            (false, true) => Some(MOST_FOUND),
            (false, false) => None,
        };
        let counted = counting::bounded(db, rule, &everyone, from, held, (&params, most)).await?;
        let counted = match counted {
            Ok(counted) => counted,
            Err(why) if alone => {
                if let Some(look) = looks.first_mut() {
                    match why.filter(|error| !too_late(error)) {
                        Some(error) => look.refuse(db, rule, &error).await?,
                        None => look.too_many = Some(UNCOUNTED.to_owned()),
                    }
                }
                return Ok(Some(looks));
            }
            Err(_) => return Ok(None),
        };
        count_in(&mut looks, &subjects, counted);
        return Ok(Some(looks));
    }
    let cheap: Vec<&Member> = everyone
        .into_iter()
        .filter(|m| m.bytes <= SMALL || (rule.by_age_alone() && led_by(m, rule)))
        .collect();
    if cheap.is_empty() {
        return Ok(Some(looks));
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
        return Ok(alone.then_some(looks));
    }
    match which(db, "looking for rows", &arms, &params).await {
        Ok(found) => {
            let cheap: HashSet<u32> = cheap.iter().map(|m| m.oid).collect();
            for (n, subject) in &subjects {
                let Some(look) = looks.get_mut(*n) else {
                    continue;
                };
                let asked = subject.members.iter().filter(|m| cheap.contains(&m.oid));
                look.any
                    .extend(asked.map(|m| (m.oid, found.contains(&m.oid))));
            }
        }
        Err(error) if error.is_unreachable() || alone => {
            if let (false, Some(look)) = (too_late(&error), looks.first_mut()) {
                look.refuse(db, rule, &error).await?;
            }
        }
        Err(_) => return Ok(None),
    }
    Ok(Some(looks))
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
