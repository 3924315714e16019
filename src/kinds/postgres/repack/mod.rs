//! Gives the space that tables lost to dead rows back, without blocking anyone.

mod estimate;
mod column;
mod facts;
mod fires;
mod verdict;
mod way;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::facts::{ServerFacts, TableFacts};
use self::verdict::{Verdict, Waste};
use self::way::Road;
use super::common::{Selection, Unmeasured, estimated, still_there};
use super::horizon::{self, Holder};
use super::reindex::{self, IndexFacts};
use super::rights::{Rights, Unseen, forbid};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::Standing;
use crate::plan::{
    Baseline, Finding, Kind, Moment, Observation, Plan, Severity, Site, Skip, Statement, Step,
    Unfit,
};
use crate::values::{Bytes, Engine, NamePattern, Percent, SchemaPattern, TimeSpan, Window};

/// How bloat is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// From the planner's statistics and from what earlier repacks showed.
    #[default]
    Auto,
    /// By reading pages with pgstattuple, where it is installed.
    Exact,
}

/// How space is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// The best that the server and the table allow.
    #[default]
    Auto,
    /// `REPACK (CONCURRENTLY)` of PostgreSQL 19.
    Repack,
    /// Rows of the last blocks move to the front, in small transactions; a vacuum gives the
    /// empty end back.
    Move,
}

/// Options of `kind: repack`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Repack {
    /// Only tables that match one of these patterns, such as `public.*`.
    include: Vec<NamePattern>,
    /// No tables that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    schemas: Vec<SchemaPattern>,
    /// Smaller tables are left alone, their TOAST tables included.
    min_size: Bytes,
    /// Share of a table that could be given back, from which on it is.
    /// `0%` whatever the bloat, unless it has neither grown nor lost rows since its last repack.
    min_bloat: Percent,
    /// How bloat is found.
    method: Method,
    /// How space is given back.
    way: Way,
    /// Whether rows of tables may move that logical replication follows: every
    /// moved row is sent to every subscriber.
    allow_replicated: bool,
    /// Whether `VACUUM (FULL)` may be used where nothing else can: nobody reads or writes the
    /// table meanwhile. Only within `blocking_window`.
    allow_blocking: bool,
    /// When tables may be blocked, such as `Sun 03:00-04:00`.
    blocking_window: Option<Window>,
    /// A table that has lost as much space again so soon after its last repack is left alone:
    /// it needs that space to work.
    refills_within: TimeSpan,
    /// How much log the slot of `REPACK (CONCURRENTLY)` may hold back while it is at work: with more it is
    /// cancelled, before the disk of the server is full.
    max_slot_retention: Bytes,
    /// How long one transaction that moves rows should take; the number of rows in it follows.
    batch_goal: TimeSpan,
}

impl Default for Repack {
    fn default() -> Self {
        Repack {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            min_size: Bytes(10 * 1024 * 1024),
            min_bloat: Percent::new(30.0),
            method: Method::Auto,
            way: Way::Auto,
            allow_replicated: false,
            allow_blocking: false,
            blocking_window: None,
            refills_within: TimeSpan::from_mins(7 * 24 * 60),
            max_slot_retention: Bytes(10 << 30),
            // These rows are not going away: others want to write them, and wait so long.
            batch_goal: TimeSpan::from_millis(50),
        }
    }
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    major: i32,
    role: String,
    /// What may be advised where it may not.
    rights: Rights,
    server: ServerFacts,
    tables: Vec<TableFacts>,
    /// What grows where rows are moved, and the version that would rebuild it.
    indexes: Vec<IndexFacts>,
    version_num: i32,
    holders: Vec<Holder>,
    /// Whose code rewriting rows would run.
    standing: Standing,
    /// Why exact measuring was not possible.
    not_exact: Option<Unmeasured>,
}

/// Who has seen the world since before this many minutes is not waited for.
const PATIENCE_MINUTES: i64 = 60;

impl Kind for Repack {
    const NAME: &'static str = "repack";
    const SUMMARY: &'static str = "gives space of bloated tables back, without blocking anyone";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        if self.allow_blocking && self.blocking_window.is_none() {
            let why = "`allow_blocking` needs a `blocking_window`, such as `Sun 03:00-04:00`: when may tables be blocked?";
            return Err(Unfit::at("allow_blocking", why));
        }
        if self.batch_goal.get() < Duration::from_millis(10) {
            let why = format!("batch_goal is {}; expected at least 10ms", self.batch_goal);
            return Err(Unfit::at("batch_goal", why));
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
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        let min_bytes = i64::try_from(self.min_size.get()).unwrap_or(i64::MAX);
        let mut tables = facts::tables(db, min_bytes).await?;
        tables.retain(|t| selection.covers(&t.name));
        facts::add_columns(db, &mut tables).await?;
        let not_exact = match self.method {
            Method::Auto => None,
            Method::Exact => facts::measure(db, &mut tables).await?,
        };
        let standing = trust::read(site, tables.iter().map(|t| t.oid)).await?;
        Ok(Facts {
            major: db.server.major(),
            role: db.server.role.clone(),
            rights: Rights::read(db).await?,
            server: facts::server(db).await?,
            indexes: reindex::of_tables(db).await?,
            version_num: db.server.version_num,
            holders: horizon::holders(db).await?,
            standing,
            tables,
            not_exact,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan {
            considered: facts.tables.len(),
            ..Plan::default()
        };
        let estimated = facts.not_exact.map(|why| estimated(why, &facts.role));
        plan.findings.extend(estimated);
        let mut forbidden = Vec::new();
        let mut unseen = Unseen::default();
        let mut candidates: Vec<(&TableFacts, Waste)> = Vec::new();
        for table in &facts.tables {
            let name = table.name.to_string();
            let baseline = at.baseline(&name, &table.made_as);
            if table.is_counted() {
                plan.observations.push(Observation {
                    object: name.clone(),
                    bytes: table.bytes(),
                    tuples: table.rows,
                    made_as: Some(table.made_as.clone()),
                });
            }
            match verdict::judge(table, baseline, self.min_bloat.share(), at.round) {
                Verdict::Fine => {}
                Verdict::Unknown(reason) => plan.skip(name, reason),
                Verdict::Unseen => {
                    plan.skip(
                        name,
                        "whether it is bloated is not known: the role sees no statistics of its columns",
                    );
                    unseen.add(&table.name, (table.unread, table.filtered));
                }
                Verdict::Undecided(_) | Verdict::Bloated(_) if !table.may => {
                    forbidden.push(table.forbidden());
                }
                Verdict::Undecided(reason) => {
                    plan.steps.push(analyze(table, &reason));
                    plan.pending.push(Skip {
                        object: name,
                        reason,
                    });
                }
                Verdict::Bloated(waste) => match self.refills(table, baseline, at) {
                    Some(why) => plan.skip(name, format!("{}, but {why}", waste.reason)),
                    None => candidates.push((table, waste)),
                },
            }
        }
        // Worst first: when time runs out, the most has been won.
        candidates.sort_by(|a, b| {
            let won = |(table, waste): &(&TableFacts, Waste)| table.bytes() - waste.after();
            won(b).cmp(&won(a)).then_with(|| a.0.name.cmp(&b.0.name))
        });
        let (mut held_back, mut unwritable) = (Vec::new(), Vec::new());
        for (table, waste) in candidates {
            let name = table.name.to_string();
            if table.age >= facts.server.freeze_max_age {
                plan.skip(
                    name,
                    format!(
                        "{}, but it first needs the vacuum that prevents transaction id wraparound (age {}, limit {})",
                        waste.reason, table.age, facts.server.freeze_max_age
                    ),
                );
                continue;
            }
            let road = self.road(table, &waste, &facts, at);
            let in_toast = self.only_in_toast(table, &waste, &road, &facts.server);
            let told = in_toast.is_some();
            plan.findings.extend(in_toast);
            match road {
                Road::None(why) => {
                    let why = format!("{}, but {why}", waste.reason);
                    plan.refuse(&name, &why);
                    if !table.may_write && self.way != Way::Repack {
                        unwritable.push((table, why));
                    } else if !told {
                        plan.findings.push(left(name, &why));
                    }
                }
                Road::Not(why) | Road::Never(why) => {
                    plan.skip(name, format!("{}, but {why}", waste.reason))
                }
                road => match oldest(&facts.holders, at) {
                    Some(holder) => {
                        plan.skip(
                            name,
                            format!(
                                "{}, but {holder} may still read its dead rows",
                                waste.reason
                            ),
                        );
                        held_back.push((&table.name, holder));
                    }
                    None => {
                        let moves = matches!(road, Road::Move(..));
                        let goal = self.batch_goal;
                        let window = self.blocking_window.as_ref();
                        let until = window.and_then(|w| w.closes_at(at.now, at.zone));
                        let most_log = self.max_slot_retention;
                        let step = way::step(table, &waste, road, &facts, goal, most_log, until);
                        plan.steps.push(step);
                        if moves {
                            plan.steps.extend(way::rebuilds(table, &facts));
                        }
                    }
                },
            }
        }
        plan.findings.extend(horizon::finding(&held_back));
        plan.findings.extend(way::lacking(&unwritable, &facts));
        for finding in unseen.findings(
            (
                "whether there is bloat in",
                "; `method: exact` needs no statistics",
            ),
            &facts.role,
            &facts.rights,
        ) {
            plan.undone(finding);
        }
        forbid(
            &mut plan,
            "repack",
            (&facts.role, facts.major),
            &facts.rights,
            &forbidden,
        );
        trust::heed(&mut plan, &facts.standing);
        plan.numbered(1)
    }
}

impl Repack {
    /// Why a table is left its free space: it fills it again.
    fn refills(
        &self,
        table: &TableFacts,
        baseline: Option<&Baseline>,
        at: &Moment,
    ) -> Option<String> {
        let last = baseline.filter(|b| b.rebuilt && self.min_bloat.share() > 0.0)?;
        let since = (at.now - last.learned_at).to_std().unwrap_or_default();
        // What got empty since is another matter than what is written over and over.
        let grew = table.bytes() as f64 > last.bytes as f64 * 1.1;
        let as_many = table.rows <= last.tuples * 1.1;
        (since < self.refills_within.get() && grew && as_many).then(|| {
            format!(
                "it was {} after its last repack on {} and holds no more rows: it needs the space to work (refills_within)",
                verdict::bytes(last.bytes),
                last.learned_at.format("%Y-%m-%d")
            )
        })
    }
}

/// That space is lost in a table, and stays so as the task is written.
fn left(object: String, why: &str) -> Finding {
    Finding {
        code: "table.bloat".to_owned(),
        severity: Severity::Warning,
        message: format!("{object}: {why}"),
        object,
        suggestion: None,
    }
}

/// Who will not go in time: here, and for long already.
fn oldest<'a>(holders: &'a [Holder], at: &Moment) -> Option<&'a Holder> {
    let long = chrono::TimeDelta::minutes(PATIENCE_MINUTES);
    holders
        .iter()
        .find(|h| !h.elsewhere && h.since.is_some_and(|since| at.now - since > long))
}

fn analyze(table: &TableFacts, reason: &str) -> Step {
    Step::new(
        "analyze",
        table.name.to_string(),
        format!("table {}", table.oid),
    )
    .because(format!(
        "{reason}, so it cannot be told whether it is bloated"
    ))
    .locking(table.oid)
    .run(Statement::brief(format!("ANALYZE {}", table.name)))
    .only_if(
        still_there(table.oid, &table.name),
        "the table has vanished, or has another name by now",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod worth_tests;
