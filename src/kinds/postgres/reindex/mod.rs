//! Rebuilds bloated indexes without blocking anyone.

mod rebuild;
mod told;
mod estimate;
mod exact;
mod facts;
mod leftovers;
mod verdict;

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::facts::IndexFacts;
use self::facts::{Leftover, Scope};
use self::rebuild::{Unanalyzed, corrupts, obstacle, rebuild};
pub(super) use self::rebuild::{rebuild_if_grown, twice};
use self::told::{corrupting_version, invalid_index};
use self::verdict::Verdict;
use super::common::{Selection, Unmeasured, estimated};
use super::rights::{Rights, Unseen, forbid};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::trust::Standing;
use crate::engines::postgres::{Session, first};
use crate::plan::{Finding, Kind, Moment, Observation, Plan, Severity, Site, Step, Unfit};
use crate::values::{Bytes, Engine, NamePattern, Percent, SchemaPattern};

/// How bloat is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// From the planner's statistics and from what earlier rebuilds showed.
    #[default]
    Estimate,
    /// By reading every page with pgstattuple, where it is installed.
    Exact,
}

/// Options of `kind: reindex`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reindex {
    /// Only indexes that match one of these patterns, by their own name or
    /// by their table's, such as `public.*`.
    include: Vec<NamePattern>,
    /// No indexes that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    schemas: Vec<SchemaPattern>,
    /// Smaller indexes are left alone: what could be won is not worth the work.
    min_size: Bytes,
    /// Share of an index that a rebuild would save, from which on it is rebuilt.
    /// `0%` rebuilds whatever the bloat, unless it has neither grown nor lost entries since its last rebuild.
    min_bloat: Percent,
    /// How bloat is found.
    method: Method,
    /// Only indexes of these access methods, such as `[gin]`; all where not given.
    access_methods: Vec<String>,
    /// Whether the indexes of TOAST tables are rebuilt too.
    toast: bool,
}

impl Default for Reindex {
    fn default() -> Self {
        Reindex {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            min_size: Bytes(10 * 1024 * 1024),
            min_bloat: Percent::new(30.0),
            method: Method::Estimate,
            access_methods: Vec::new(),
            toast: false,
        }
    }
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    version_num: i32,
    version: String,
    role: String,
    /// What may be advised where it may not.
    rights: Rights,
    freeze_max_age: i64,
    indexes: Vec<IndexFacts>,
    leftovers: Vec<Leftover>,
    /// Whose event triggers a rebuild would set off.
    standing: Standing,
    /// Why exact measuring was not possible.
    not_exact: Option<Unmeasured>,
    /// What methods of indexes the server has; none where the task names none.
    access_methods: Option<Vec<String>>,
}

const FREEZE_MAX_AGE: &str = "SELECT pg_catalog.current_setting('autovacuum_freeze_max_age')::int8";

impl Kind for Reindex {
    const NAME: &'static str = "reindex";
    const SUMMARY: &'static str = "rebuilds bloated indexes concurrently";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        const KNOWN: [&str; 6] = ["btree", "gin", "gist", "hash", "brin", "spgist"];
        for method in &self.access_methods {
            if method.is_empty() {
                return Err(Unfit::at(
                    "access_methods",
                    format!("access_methods names none; known: {}", KNOWN.join(", ")),
                ));
            }
            let small = method.to_lowercase();
            if small != *method && KNOWN.contains(&small.as_str()) {
                return Err(Unfit::at(
                    "access_methods",
                    format!("access_methods names {method}, which the server calls {small}"),
                ));
            }
        }
        Ok(())
    }

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    fn schemas(&self) -> &[SchemaPattern] {
        &self.schemas
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let scope = Scope {
            toast: self.toast,
            // Only for who asks for them by name: they are told why not.
            system: !self.include.is_empty(),
            largest: None,
        };
        let mut indexes = facts::indexes(db, &scope).await?;
        let access_methods = match self.access_methods.is_empty() {
            true => None,
            false => Some(facts::access_methods(db).await?),
        };
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        indexes.retain(|i| self.covers(&selection, i));
        let mut large: Vec<&mut IndexFacts> = indexes
            .iter_mut()
            .filter(|i| i.has_expressions || i.bytes >= self.min_size_bytes())
            .collect();
        facts::add_columns(db, &mut large).await?;
        large.retain(|i| i.bytes >= self.min_size_bytes() && i.valid);
        let not_exact = match self.method {
            Method::Estimate => None,
            Method::Exact => exact::measure(db, &mut large).await?,
        };
        let freeze = db
            .query("reading autovacuum's settings", FREEZE_MAX_AGE, &[])
            .await?;
        Ok(Facts {
            version_num: db.server.version_num,
            version: db.server.version.clone(),
            role: db.server.role.clone(),
            rights: Rights::read(db).await?,
            freeze_max_age: first(&freeze, 0)?.unwrap_or(200_000_000),
            leftovers: leftovers::find(db).await?,
            standing: trust::read(site, []).await?,
            indexes,
            not_exact,
            access_methods,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan {
            considered: facts.indexes.len(),
            ..Plan::default()
        };
        if corrupts(facts.version_num) {
            plan.findings.push(corrupting_version(&facts.version));
            return plan;
        }
        let estimated = facts.not_exact.map(|why| estimated(why, &facts.role));
        plan.findings.extend(estimated);
        let mut forbidden = Vec::new();
        let mut unseen = Unseen::default();
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        leftovers::plan(&facts.leftovers, &selection, &facts.role, &mut plan);
        if let Some(known) = &facts.access_methods {
            self.tell_unknown_methods(known, &mut plan);
        }
        let remains: HashSet<u32> = facts.leftovers.iter().map(|l| l.oid).collect();
        // Another rebuild would leave one more beside what nobody of us may remove, or can now.
        let mut stays: HashMap<String, &str> = HashMap::new();
        for (leftover, why) in facts.leftovers.iter().filter_map(|l| Some((l, l.stays()?))) {
            let known = stays.entry(leftover.base.to_string()).or_insert(why);
            if !leftover.may {
                *known = why;
            }
        }

        let mut candidates: Vec<(&IndexFacts, i64, String)> = Vec::new();
        let mut to_analyze: BTreeMap<u32, Unanalyzed<'_>> = BTreeMap::new();
        for index in facts.indexes.iter().filter(|i| !remains.contains(&i.oid)) {
            if !index.valid {
                plan.findings.push(invalid_index(index));
                continue;
            }
            if index.has_expressions
                && index.table_rows >= 1.0
                && index.may
                && !index.hides_statistics()
                && !index.system
                && index.lacks_statistics()
            {
                to_analyze
                    .entry(index.table_oid)
                    .or_default()
                    .expressions
                    .push(index);
            }
            if index.bytes < self.min_size_bytes() {
                continue;
            }
            if let Some(why) = stays.get(&index.name()) {
                plan.skip(index.name(), *why);
                continue;
            }
            let baseline = at.baseline(&index.name(), &index.made_as);
            // Of an index whose entries are only guessed nothing is learned.
            if index.tuples >= 0.0 && index.counted {
                plan.observations.push(Observation {
                    object: index.name(),
                    bytes: index.bytes,
                    tuples: index.tuples,
                    made_as: Some(index.made_as.clone()),
                });
            }
            let rebuilt = baseline.is_some_and(|b| b.rebuilt);
            if index.cannot_be_judged()
                && !rebuilt
                && !index.system
                && index.measured_ideal_bytes.is_none()
                && self.min_bloat.share() > 0.0
            {
                plan.skip(
                    index.name(),
                    "whether it is bloated is not known: the role sees no statistics of its table",
                );
                if let Some(table) = &index.table {
                    unseen.add(table, (index.unread, index.filtered));
                }
                continue;
            }
            // Nothing is analyzed for the sake of an index that is not rebuilt anyway.
            let round = if index.system { 2 } else { at.round };
            match verdict::judge(index, baseline, self.min_bloat.share(), round) {
                Verdict::Fine => {}
                Verdict::Unknown(reason) => plan.skip(index.name(), reason),
                Verdict::Undecided(reason) => {
                    if !index.may {
                        // Nobody of ours may gather them, nor rebuild it then.
                        plan.skip(index.name(), reason);
                        forbidden.extend(index.forbidden());
                        continue;
                    }
                    plan.pending.push(crate::plan::Skip {
                        object: index.name(),
                        reason,
                    });
                    to_analyze
                        .entry(index.table_oid)
                        .or_default()
                        .undecided
                        .push(index);
                }
                Verdict::Bloated {
                    ideal_bytes,
                    reason,
                } => {
                    if let Some(obstacle) = obstacle(index, &facts) {
                        plan.skip(index.name(), format!("{reason}, but {obstacle}"));
                    } else if !index.may {
                        forbidden.extend(index.forbidden());
                    } else {
                        candidates.push((index, ideal_bytes, reason));
                    }
                }
            }
        }
        plan.steps
            .extend(to_analyze.values().filter_map(Unanalyzed::step));
        // Worst first: when time runs out, the most has been won.
        candidates.sort_by(|a, b| {
            (b.0.bytes - b.1)
                .cmp(&(a.0.bytes - a.1))
                .then_with(|| a.0.index.cmp(&b.0.index))
        });
        let mut rebuilds: Vec<Step> = Vec::new();
        for (index, ideal, reason) in candidates {
            let step = rebuild(index, ideal).because(reason);
            rebuilds.push(leftovers::first(&facts.leftovers, index, &plan, step));
        }
        plan.steps.extend(rebuilds);
        for finding in unseen.findings(
            (
                "whether there is bloat in indexes of",
                "; `method: exact` needs no statistics",
            ),
            &facts.role,
            &facts.rights,
        ) {
            plan.undone(finding);
        }
        let major = facts.version_num / 10_000;
        forbid(
            &mut plan,
            "reindex",
            (&facts.role, major),
            &facts.rights,
            &forbidden,
        );
        trust::heed(&mut plan, &facts.standing);
        plan.numbered(1)
    }
}

impl Reindex {
    fn min_size_bytes(&self) -> i64 {
        i64::try_from(self.min_size.get()).unwrap_or(i64::MAX)
    }

    /// Tells which of the methods that the task names the server does not have. Where that is all of them, the task has
    /// not done its work, and never will.
    fn tell_unknown_methods(&self, known: &[String], plan: &mut Plan) {
        let named = self.access_methods.iter();
        let unknown: Vec<&String> = named.filter(|one| !known.contains(one)).collect();
        for method in &unknown {
            let finding = Finding {
                code: "include.nothing".to_owned(),
                severity: Severity::Warning,
                object: (*method).clone(),
                message: format!(
                    "`access_methods` names {method}, and the server has {}",
                    known.join(", ")
                ),
                suggestion: None,
            };
            match unknown.len() == self.access_methods.len() {
                true => plan.undone(finding),
                false => plan.findings.push(finding),
            }
        }
    }

    fn covers(&self, selection: &Selection<'_>, index: &IndexFacts) -> bool {
        let wanted_method =
            self.access_methods.is_empty() || self.access_methods.contains(&index.access_method);
        let names: Vec<_> = index.index.iter().chain(&index.table).collect();
        wanted_method && selection.covers_any(&names)
    }
}

/// The largest indexes of tables, with what is needed to estimate their bloat.
pub(super) async fn largest(db: &Session, most: u32) -> Result<Vec<IndexFacts>, EngineError> {
    let scope = Scope {
        toast: false,
        system: false,
        largest: Some(i64::from(most)),
    };
    let mut indexes = facts::indexes(db, &scope).await?;
    facts::add_columns(db, &mut indexes.iter_mut().collect::<Vec<_>>()).await?;
    Ok(indexes)
}

/// All indexes of tables, for who makes them grow.
pub(super) async fn of_tables(db: &Session) -> Result<Vec<IndexFacts>, EngineError> {
    let scope = Scope {
        toast: false,
        system: false,
        largest: None,
    };
    facts::indexes(db, &scope).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
