//! What has to be true before rows go: conditions mean what they say, absence
//! is not the work of a filter, and no more rows go than the rule may take.

use std::collections::BTreeMap;

use super::apart::Apart;
use super::facts::Table;
use super::keys;
use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Identifier, RelationName, Session, meaning, unhidden};
use crate::plan::postgres::Under;
use crate::values::{Percent, several};

/// A share of all rows that orphans seldom are, and that they are at once where
/// somebody emptied the parent.
pub(super) const ORPHANS: Percent = Percent::new(50.0);

/// How a rule is read.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds::postgres) struct Reading {
    pub(super) under: Under,
    /// Why it is not followed.
    pub(super) refused: Option<String>,
    /// Whether the parent of orphans has no row.
    pub(super) parent_is_empty: bool,
}

impl Reading {
    /// The same, by the days of role and database.
    pub(in crate::kinds::postgres) fn in_their_time(mut self) -> Reading {
        self.under.their_time = true;
        self
    }

    /// The same, not to be followed; a reason that is there already stays.
    pub(in crate::kinds::postgres) fn refused(mut self, why: String) -> Reading {
        self.refused.get_or_insert(why);
        self
    }
}

/// Tables whose rows row-level security hides from the role: those asked for by
/// id or by name, with their policies.
const FILTERED: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name,
        ARRAY(SELECT p.polname::text FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid ORDER BY 1) AS policies,
        pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY ($1::oid[]) AND pg_catalog.row_security_active(c.oid)
    ORDER BY schema, name";

/// Finds out how rules are read that differ in nothing but schemas, and fills in how their orphans
/// are told; in their order.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(in crate::kinds::postgres) async fn read(
    db: &Session,
    asked: &mut [(&mut Rule, &Table)],
    guard: Option<&Guard>,
) -> Result<Vec<Reading>, EngineError> {
    let mut readings = vec![Reading::default(); asked.len()];
    let parents = keys::read(db, asked, guard).await?;
    let there = asked
        .iter()
        .zip(&parents)
        .filter_map(|((rule, _), parent)| {
            let name = &rule.orphaned.as_ref()?.parent;
            Some((parent.oid?, RelationName::new(&*name.schema, &*name.table)))
        });
    let there: BTreeMap<u32, RelationName> = there.collect();
    let apart = match asked.first() {
        Some((rule, _)) => Apart::read(db, rule, &there).await?,
        None => return Ok(readings),
    };
    for ((reading, parent), (rule, _)) in readings.iter_mut().zip(&parents).zip(asked.iter_mut()) {
        let Some(orphaned) = &mut rule.orphaned else {
            continue;
        };
        reading.parent_is_empty = parent.any == Some(false);
        let equal: Result<Vec<String>, String> = parent.equal.iter().cloned().collect();
        reading.refused = match (parent.oid, equal) {
            (None, _) => Some(format!("there is no table {}", orphaned.parent)),
            (Some(oid), _) if apart.by_parent.contains_key(&oid) => {
                apart.by_parent.get(&oid).cloned()
            }
            (Some(_), Err(why)) => Some(why),
            (Some(_), Ok(equal)) => {
                orphaned.equal = equal;
                orphaned.numbers.clone_from(&parent.numbers);
                None
            }
        };
    }
    for reading in &mut readings {
        if let Some(why) = &apart.by_texts {
            reading.refused.get_or_insert_with(|| why.clone());
        }
    }
    let Some((first, _)) = asked.first() else {
        return Ok(readings);
    };
    let texts: Vec<&str> = first.texts().collect();
    let mut open: Vec<Open<'_>> = readings
        .iter_mut()
        .zip(asked.iter())
        .zip(&parents)
        .filter(|((reading, _), _)| reading.refused.is_none())
        .map(|((reading, (rule, table)), parent)| {
            let mut oids = vec![table.oid];
            oids.extend(table.members.iter().map(|member| member.oid));
            // A policy that only leaves rows out of an ordinary table leaves them in peace. Everything
            // else is judged by what is not there, or goes to tables under a table whose policies count.
            let alone = table.members.iter().all(|member| member.oid == table.oid);
            reading.under.all_rows = !(table.filtered && alone && rule.looks_at_its_rows_only());
            Open {
                reading,
                oids,
                parent: parent.oid,
            }
        })
        .collect();
    let mut waiting: Vec<&mut [Open<'_>]> = vec![&mut open];
    while let Some(some) = waiting.pop() {
        if some.is_empty() {
            continue;
        }
        let oids: Vec<u32> = some.iter().flat_map(|one| &one.oids).copied().collect();
        let meaning = meaning::of(db, &texts, &oids).await?;
        // What only one of them meets is not what the others mean.
        let alike = meaning.refused.is_none() && meaning.schemas.len() <= 1;
        if some.len() > 1 && !alike {
            let (one, others) = some.split_at_mut(some.len() / 2);
            waiting.extend([one, others]);
            continue;
        }
        for one in some {
            one.reading.under.schemas.clone_from(&meaning.schemas);
            one.reading.refused.clone_from(&meaning.refused);
        }
    }
    open.retain(|one| one.reading.under.all_rows);
    if open.is_empty() {
        return Ok(readings);
    }
    let parent = first.orphaned.as_ref().map(|o| &o.parent);
    let parent = parent.map(|p| RelationName::new(&*p.schema, &*p.table).to_string());
    let asked_of = texts.iter().copied().chain(parent.as_deref());
    if let Some(why) = unhidden::hides(db, &asked_of.collect::<Vec<_>>()).await? {
        for one in &mut open {
            one.reading.refused = Some(why.clone());
        }
    }
    let mut waiting: Vec<&mut [Open<'_>]> = vec![&mut open];
    while let Some(some) = waiting.pop() {
        let named = some.iter();
        let named: Vec<u32> = named
            .flat_map(|one| one.oids.iter().copied().chain(one.parent))
            .collect();
        let Some(why) = filtered(db, &named).await? else {
            continue;
        };
        match some {
            [] => {}
            [one] => one.reading.refused = Some(why),
            _ => {
                let (one, others) = some.split_at_mut(some.len() / 2);
                waiting.extend([one, others]);
            }
        }
    }
    Ok(readings)
}

/// A rule that nothing speaks against so far.
struct Open<'a> {
    reading: &'a mut Reading,
    /// Its table, and what holds rows of that.
    oids: Vec<u32>,
    parent: Option<u32>,
}

/// Which of these tables hide rows from the role, and what helps; none where none does.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn filtered(db: &Session, tables: &[u32]) -> Result<Option<String>, EngineError> {
    let doing = "looking for row-level security";
    let mut hidden = Vec::new();
    let mut own = false;
    for row in db.query(doing, FILTERED, &[&tables]).await? {
        let schema: String = row.named("schema")?;
        let name: String = row.named("name")?;
        let policies: Vec<String> = row.named("policies")?;
        own |= row.named::<bool>("owned")?;
        let policies = match policies.len() {
            0 => "no policy lets it see any".to_owned(),
            1 => format!("policy {}", Identifier::new(&*policies[0])),
            _ => {
                let all: Vec<String> = policies
                    .iter()
                    .map(|policy| Identifier::new(&**policy).to_string())
                    .collect();
                format!("policies {}", all.join(", "))
            }
        };
        hidden.push(format!("{} ({policies})", RelationName::new(schema, name)));
    }
    if hidden.is_empty() {
        return Ok(None);
    }
    let role = Identifier::new(&*db.server.role);
    let owner = if own {
        "; it owns the table, so ALTER TABLE … NO FORCE ROW LEVEL SECURITY helps, too"
    } else {
        ", or work as the owner of the table"
    };
    Ok(Some(format!(
        "row-level security hides rows of {} from role {role}, and what is only hidden must not count as gone: ALTER ROLE {role} BYPASSRLS{owner}",
        hidden.join(", ")
    )))
}

/// Why so many rows are more than the rule may take; none where they are not.
/// `going` of `all` rows would go.
pub(super) fn too_many(rule: &Rule, parent_is_empty: bool, going: i64, all: i64) -> Option<String> {
    if going == 0 {
        return None;
    }
    if let Some(most) = rule.max_rows
        && u64::try_from(going).unwrap_or(0) > most
    {
        return Some(format!(
            "{going} of {} would go, and `max_rows` allows {most}",
            several(all, "row")
        ));
    }
    let (share, word) = match (rule.max_share, &rule.orphaned) {
        (Some(share), _) => (share, format!("`max_share` allows {share}")),
        (None, Some(orphaned)) if parent_is_empty => {
            return Some(format!(
                "{going} of {} would go because {} is empty; if that is right, say `max_share: 100%`",
                several(all, "row"),
                orphaned.parent
            ));
        }
        (None, Some(_)) => (
            ORPHANS,
            format!("orphans may be {ORPHANS} unless the rule says `max_share`"),
        ),
        (None, None) => return None,
    };
    #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
    let taken = going as f64 / all.max(1) as f64;
    (taken > share.share()).then(|| {
        format!(
            "{going} of {} would go ({:.0} %), and {word}",
            several(all, "row"),
            taken * 100.0
        )
    })
}

/// How many of `all` rows the rule may take at most; none where it says nothing.
pub(super) fn most(rule: &Rule, all: i64) -> Option<i64> {
    let share = rule.max_share.or(rule.orphaned.as_ref().map(|_| ORPHANS));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a share, not a count; row counts are far below 2^53"
    )]
    let of_all = share.map(|share| (share.share() * all as f64).floor() as i64);
    let rows = rule
        .max_rows
        .map(|most| i64::try_from(most).unwrap_or(i64::MAX));
    of_all.into_iter().chain(rows).min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn rule(more: serde_json::Value) -> Rule {
        let mut yaml = serde_json::json!({ "table": "t", "where": "true" });
        let both = yaml.as_object_mut().unwrap();
        both.extend(more.as_object().unwrap().clone());
        serde_json::from_value(yaml).unwrap()
    }

    #[test]
    fn a_rule_takes_no_more_than_it_may() {
        let orphaned = serde_json::json!({ "columns": ["a"], "parent": "p" });
        for (more, empty, going, all, refused) in [
            (serde_json::json!({}), false, 100, 100, false),
            (
                serde_json::json!({ "max_rows": 99 }),
                false,
                100,
                1000,
                true,
            ),
            (
                serde_json::json!({ "max_rows": 100 }),
                false,
                100,
                1000,
                false,
            ),
            (
                serde_json::json!({ "max_share": "5%" }),
                false,
                51,
                1000,
                true,
            ),
            (
                serde_json::json!({ "max_share": "5%" }),
                false,
                50,
                1000,
                false,
            ),
            (
                serde_json::json!({ "orphaned": orphaned }),
                true,
                1,
                1000,
                true,
            ),
            (
                serde_json::json!({ "orphaned": orphaned }),
                true,
                0,
                1000,
                false,
            ),
            (
                serde_json::json!({ "orphaned": orphaned }),
                false,
                501,
                1000,
                true,
            ),
            (
                serde_json::json!({ "orphaned": orphaned }),
                false,
                500,
                1000,
                false,
            ),
            (
                serde_json::json!({ "orphaned": orphaned, "max_share": "100%" }),
                true,
                9,
                9,
                false,
            ),
        ] {
            let why = too_many(&rule(more.clone()), empty, going, all);
            assert_eq!(why.is_some(), refused, "{more} {going} of {all}: {why:?}");
        }
    }
}
