//! Rebuilds bloated indexes without blocking anyone.

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
use self::verdict::Verdict;
use super::common::{Rights, Selection, Unmeasured, Unseen, estimated, forbid, still_there};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::trust::{Standing, Use};
use crate::engines::postgres::{Session, first};
use crate::kinds::postgres::half_built;
use crate::plan::{
    Finding, Kind, Moment, Observation, Param, Plan, Query, Severity, Site, Statement, Step, Sweep,
    Unfit,
};
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
    /// `0%` rebuilds whatever the bloat, unless it has not grown since its last rebuild.
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
}

/// Size and entries of the index that bears the name now: a rebuilt one has
/// a new id.
const MEASURE: &str = "SELECT pg_catalog.pg_relation_size(x.oid), {entries}
    FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_am am ON am.oid = x.relam
    WHERE n.nspname = $1::text AND x.relname = $2::text";

/// The same, where the server counts entries by itself: it is asked twice for each index, and the
/// shorter question is planned in a third of the time.
const MEASURE_COUNTED: &str = "SELECT pg_catalog.pg_relation_size(x.oid), x.reltuples::float8
    FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
    WHERE n.nspname = $1::text AND x.relname = $2::text";

/// Whether an expression index has lost its statistics, or never had any.
const LACKS_STATISTICS: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_stats s
    WHERE s.schemaname = $1::text AND s.tablename = $2::text)";

const FREEZE_MAX_AGE: &str = "SELECT pg_catalog.current_setting('autovacuum_freeze_max_age')::int8";

impl Kind for Reindex {
    const NAME: &'static str = "reindex";
    const SUMMARY: &'static str = "rebuilds bloated indexes concurrently";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        const KNOWN: [&str; 6] = ["btree", "gin", "gist", "hash", "brin", "spgist"];
        match self.access_methods.iter().find(|m| m.is_empty()) {
            Some(_) => Err(Unfit::at(
                "access_methods",
                format!("access_methods names none; known: {}", KNOWN.join(", ")),
            )),
            None => Ok(()),
        }
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
        for finding in unseen.findings("indexes of ", &facts.role, &facts.rights) {
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

/// Asked right before the rebuild of an index that something else may have made grow.
const HAS_GROWN: &str = "SELECT pg_catalog.pg_relation_size(c.oid) > $4::int8
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $1::oid AND n.nspname = $2::text AND c.relname = $3::text";

/// The rebuild of an index after a step of another kind, if that has made it grow by more than a
/// tenth; none where it cannot be rebuilt, or where the server could lose rows of it.
pub(super) fn rebuild_if_grown(index: &IndexFacts, version_num: i32) -> Option<Step> {
    let name = index.index.as_ref()?;
    let can = index.valid && index.may && !index.exclusion && !index.system && !index.toast;
    if !can || corrupts(version_num) {
        return None;
    }
    let grown = Query::new(
        HAS_GROWN,
        [
            Param::Oid(index.oid),
            Param::Text(name.schema.raw().to_owned()),
            Param::Text(name.relation.raw().to_owned()),
            Param::Int(index.bytes.saturating_add(index.bytes / 10)),
        ],
    );
    let mut step = rebuild(index, index.bytes).only_if(grown, "it has not grown by a tenth");
    // By how much it will have grown nobody knows yet.
    step.estimate.bytes_after = None;
    Some(step)
}

/// Whether concurrent builds of this version can leave rows out.
fn corrupts(version_num: i32) -> bool {
    (140_000..140_004).contains(&version_num)
}

/// Why an index that should be rebuilt cannot be, now or ever.
fn obstacle(index: &IndexFacts, facts: &Facts) -> Option<String> {
    if index.exclusion {
        return Some(
            "an index behind an exclusion constraint cannot be rebuilt concurrently; \
             REINDEX INDEX would block all writes to its table"
                .to_owned(),
        );
    }
    if index.system {
        return Some("indexes of system catalogs cannot be rebuilt concurrently".to_owned());
    }
    // A rebuild would hold off the very vacuum that the table waits for.
    (index.table_age >= facts.freeze_max_age).then(|| {
        format!(
            "its table first needs the vacuum that prevents transaction id wraparound \
             (age {}, limit {})",
            index.table_age, facts.freeze_max_age
        )
    })
}

fn rebuild(index: &IndexFacts, ideal_bytes: i64) -> Step {
    let (name, table) = (index.name(), index.table_name());
    let named: Vec<Param> = index
        .index
        .iter()
        .flat_map(|n| [n.schema.raw(), n.relation.raw()])
        .map(|part| Param::Text(part.to_owned()))
        .collect();
    // A TOAST table cannot be locked by name; its rebuild has no probe of its own.
    let rebuild = format!("REINDEX INDEX CONCURRENTLY {name}");
    let statement = if index.toast {
        Statement::brief(rebuild)
    } else if index.materialized {
        // It cannot be locked by name either; who waits for the lock of a rebuild there
        // holds up other maintenance at most, never a reader.
        Statement::patient(rebuild, "SELECT 1")
    } else {
        let probe = format!("LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE");
        Statement::patient(rebuild, probe)
    };
    let measure = match facts::counts_entries(&index.access_method) {
        true => MEASURE_COUNTED.to_owned(),
        false => MEASURE.replace("{entries}", facts::ENTRIES),
    };
    let mut step = Step::new("reindex", &name, format!("table {}", index.table_oid))
        .locking(index.table_oid)
        .relying_on(index.oid, &name)
        .touching(index.table_oid, Use::Command)
        .run(statement)
        .measured_by(Query::new(measure, named.clone()))
        .expecting(index.bytes, Some(ideal_bytes));
    if let Some(name) = &index.index {
        step = step.while_there(index.oid, name, "the index has vanished");
    }
    if index.has_expressions && !index.toast {
        // Without statistics on its expressions the planner guesses, and a
        // guess can turn every query on the table into a sequential scan.
        step = step.run(
            Statement::brief(format!("ANALYZE {table}"))
                .only_if(Query::new(LACKS_STATISTICS, named)),
        );
    }
    step = step.learning(&index.made_as);
    step.body.yields_to_wraparound_vacuum = true;
    step.body.on_abort = Some(Sweep {
        piles_up: true,
        query: leftovers::of_rebuild(index),
    });
    step
}

/// The indexes of one table that cannot be judged, or used well, before an ANALYZE.
#[derive(Default)]
struct Unanalyzed<'a> {
    undecided: Vec<&'a IndexFacts>,
    expressions: Vec<&'a IndexFacts>,
}

impl Unanalyzed<'_> {
    fn step(&self) -> Option<Step> {
        let index = self.undecided.iter().chain(&self.expressions).next()?;
        let table = index.table_oid;
        let mut reasons = Vec::new();
        if !self.undecided.is_empty() {
            reasons.push(format!(
                "statistics are out of date, so it cannot be told whether {} is bloated",
                and_more(&self.undecided)
            ));
        }
        if !self.expressions.is_empty() {
            reasons.push(format!(
                "the planner has no statistics for the expressions of {}",
                and_more(&self.expressions)
            ));
        }
        let mut step = Step::new("analyze", index.table_name(), format!("table {table}"))
            .because(reasons.join("; "))
            .locking(table)
            .run(Statement::brief(format!("ANALYZE {}", index.table_name())));
        if let Some(name) = &index.table {
            step = step.only_if(still_there(table, name), "the table has vanished");
        }
        Some(step)
    }
}

fn and_more(indexes: &[&IndexFacts]) -> String {
    let first = indexes.first().map(|i| i.name()).unwrap_or_default();
    match indexes.len() {
        1 => first,
        n => format!("{first} (and {} more)", n - 1),
    }
}

fn invalid_index(index: &IndexFacts) -> Finding {
    let name = index.name();
    let (helps, suggestion) = match &index.twin {
        Some(twin) => (
            half_built::redundant(twin),
            Some(format!("DROP INDEX CONCURRENTLY {name}")),
        ),
        None if index.unique => (half_built::TWICE.to_owned(), None),
        None => (
            "Rebuild it, or drop it".to_owned(),
            Some(format!("REINDEX INDEX CONCURRENTLY {name}")),
        ),
    };
    Finding {
        code: "index.invalid".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "{name} on {} is invalid: a build of it failed or is under way. It costs every write and helps no query. {helps}",
            index.table_name()
        ),
        suggestion,
        object: name,
    }
}

fn corrupting_version(version: &str) -> Finding {
    Finding {
        code: "server.reindex_corrupts".to_owned(),
        severity: Severity::Critical,
        object: format!("PostgreSQL {version}"),
        message: "concurrent index builds of 14.0 to 14.3 can leave rows out of the index \
                  (fixed in 14.4); nothing is rebuilt here"
            .to_owned(),
        suggestion: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
