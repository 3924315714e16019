//! Refreshes materialized views whose sources changed, in dependency order.

mod calls;
mod facts;
mod graph;

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::facts::{Facts, View};
use self::graph::Sources;
use super::common::{Selection, still_there};
use super::rights::{Forbidden, forbid};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::plan::{Finding, Kind, Moment, Plan, Severity, Site, Statement, Step};
use crate::values::{Engine, NamePattern, SchemaPattern, TimeSpan};

/// Options of `kind: refresh`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Refresh {
    /// Only views that match one of these patterns.
    include: Vec<NamePattern>,
    /// No views that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    schemas: Vec<SchemaPattern>,
    /// Refresh views that lack the index for `CONCURRENTLY` all the same.
    /// Nobody can read a view while it is refreshed that way.
    allow_blocking: bool,
    /// A view whose last refresh is older, while its sources changed, is reported.
    fresh_within: Option<TimeSpan>,
    /// Views whose sources nobody counts (`now()`, foreign tables, sequences,
    /// functions of one's own, samples, system catalogs) are refreshed when their last refresh is
    /// older than this.
    uncounted_max_age: TimeSpan,
    /// Refresh all views, changed sources or not.
    always: bool,
}

impl Default for Refresh {
    fn default() -> Self {
        Refresh {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            allow_blocking: false,
            fresh_within: None,
            // Short enough for an hourly schedule; long enough that a second run does nothing.
            uncounted_max_age: TimeSpan::from_mins(30),
            always: false,
        }
    }
}

/// What is remembered of a view's last refresh.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    evidence: String,
    /// Since when changes were counted then; evidence of another time tells nothing.
    #[serde(default)]
    epoch: Option<String>,
    /// The settings that decided what was stored; none where they were ours.
    #[serde(default)]
    settings: Option<String>,
    refreshed_at: DateTime<Utc>,
}

const ACTION: &str = "refresh";

impl Kind for Refresh {
    const NAME: &'static str = "refresh";
    const SUMMARY: &'static str = "refreshes materialized views whose sources changed";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

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
        let mut facts = facts::read(&site.primary).await?;
        facts.standing = trust::read(site, []).await?;
        Ok(facts)
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        let ours = |view: &View| {
            view.materialized && selection.covers(&view.name) && view.may && self.can(view)
        };
        let mut plan = Plan::default();
        let mut forbidden = Vec::new();
        let mut planned: HashSet<u32> = HashSet::new();
        // What is due, and cannot be refreshed by anybody: what is made of it would be as old.
        let mut left: HashSet<u32> = HashSet::new();
        for (oid, sources) in graph::in_order(&facts, ours) {
            let Some(view) = facts.views.get(&oid).filter(|v| selection.covers(&v.name)) else {
                continue;
            };
            plan.considered += 1;
            let name = view.name.to_string();
            let last: Option<Remembered> = at
                .memories
                .get(&name)
                .and_then(|value| serde_json::from_value(value.clone()).ok());
            let evidence = sources.evidence(oid, &facts);
            let now = (evidence.as_str(), &facts);
            let reason = match self.why(view, &sources, now, last.as_ref(), &planned, at.now) {
                Ok(reason) => reason,
                Err(unchanged) => {
                    plan.skip(name, unchanged);
                    continue;
                }
            };
            let above = sources.views.iter().find(|above| left.contains(above));
            if let Some(above) = above.and_then(|above| facts.views.get(above)) {
                plan.skip(
                    name,
                    format!(
                        "it reads {}, which is to be refreshed first and cannot be",
                        above.name
                    ),
                );
                left.insert(oid);
                continue;
            }
            let refreshing = view.may && self.can(view);
            plan.findings
                .extend(self.stale(view, last.as_ref(), refreshing, at.now));
            if !view.may {
                forbidden.push(Forbidden::table(&view.name, &view.owner));
                continue;
            }
            if let Some(source) = &view.unreadable {
                plan.undone(unreadable(view, source));
                left.insert(oid);
                continue;
            }
            if !refreshing {
                plan.findings.push(blocking(view));
                plan.skip(
                    name,
                    "a refresh would block its readers, and `allow_blocking` is off",
                );
                continue;
            }
            planned.insert(oid);
            plan.steps
                .push(step(oid, view, &sources, &facts, reason, evidence, at.now));
        }
        forbid(
            &mut plan,
            ACTION,
            (&facts.role, facts.major),
            &facts.rights,
            &forbidden,
        );
        // The server itself refreshes as the owner; event triggers run as we are.
        trust::heed(&mut plan, &facts.standing);
        plan.numbered(1)
    }
}

impl Refresh {
    /// Whether it can be refreshed without blocking anybody who does not want it.
    fn can(&self, view: &View) -> bool {
        // A view that was never populated cannot be read, so nobody is blocked.
        view.unique_index || !view.populated || self.allow_blocking
    }

    /// Why it is refreshed; an error says why not.
    fn why(
        &self,
        view: &View,
        sources: &Sources,
        (evidence, facts): (&str, &Facts),
        last: Option<&Remembered>,
        planned: &HashSet<u32>,
        now: DateTime<Utc>,
    ) -> Result<String, String> {
        if !view.populated {
            return Ok("never populated: it cannot be read before".to_owned());
        }
        if self.always {
            return Ok("the task says `always`".to_owned());
        }
        let Some(last) = last else {
            return Ok("not refreshed by maint before, so nobody knows how old it is".to_owned());
        };
        let age = now - last.refreshed_at;
        let ago = format!("its last refresh {} ago", human(age));
        if sources.views.iter().any(|view| planned.contains(view)) {
            return Ok("it reads a view that is refreshed now".to_owned());
        }
        if last.epoch.as_deref() != Some(&*facts.epoch) {
            return Ok(format!(
                "the server counts changes anew since {ago} (a crash, another server, or a reset of statistics), so nobody knows what changed"
            ));
        }
        if last.evidence != evidence {
            return Ok(format!("its sources changed since {ago}"));
        }
        if last.settings.as_deref() != Some(&*facts.settings) {
            return Ok(format!(
                "the settings of role and database that decide what it stores (TimeZone, DateStyle and the like) are not those of {ago}"
            ));
        }
        if sources.moods.is_empty() {
            return Err(format!("nothing changed in its sources since {ago}"));
        }
        let moods: Vec<&str> = sources.moods.iter().map(String::as_str).collect();
        let moods = moods.join(", ");
        let limit = self.uncounted_max_age;
        if age > TimeDelta::from_std(limit.get()).unwrap_or(TimeDelta::MAX) {
            Ok(format!(
                "it depends on {moods}, so it may be out of date since {ago}"
            ))
        } else {
            Err(format!(
                "it depends on {moods}, but {ago} is within uncounted_max_age ({limit})"
            ))
        }
    }

    fn stale(
        &self,
        view: &View,
        last: Option<&Remembered>,
        refreshing: bool,
        now: DateTime<Utc>,
    ) -> Option<Finding> {
        let limit = self.fresh_within?;
        let age = now - last?.refreshed_at;
        if age <= TimeDelta::from_std(limit.get()).unwrap_or(TimeDelta::MAX) {
            return None;
        }
        let meanwhile = if refreshing {
            "; this run refreshes it"
        } else {
            ""
        };
        Some(Finding {
            code: "view.stale".to_owned(),
            severity: if refreshing {
                Severity::Info
            } else {
                Severity::Warning
            },
            object: view.name.to_string(),
            message: format!(
                "its sources changed, and its last refresh was {} ago: fresh_within is {limit}{meanwhile}",
                human(age)
            ),
            suggestion: Some(format!("REFRESH MATERIALIZED VIEW {}", view.name)),
        })
    }
}

fn step(
    oid: u32,
    view: &View,
    sources: &Sources,
    facts: &Facts,
    reason: String,
    evidence: String,
    now: DateTime<Utc>,
) -> Step {
    let name = view.name.to_string();
    let remembered = Remembered {
        evidence,
        epoch: Some(facts.epoch.clone()),
        settings: Some(facts.settings.clone()),
        refreshed_at: now,
    };
    let mut step = Step::new(ACTION, &name, format!("view {oid}"))
        .because(reason)
        .locking(oid)
        .touching(oid, Use::Command)
        .only_if(
            still_there(oid, &view.name),
            "the view has vanished, or has another name by now",
        )
        .expecting(view.bytes, None)
        // Evidence read before the refresh: what changes meanwhile is seen next time.
        .remembering(&name, serde_json::json!(remembered));
    for above in sources.views.iter().filter_map(|oid| facts.views.get(oid)) {
        step = step.after(ACTION, above.name.to_string());
    }
    if !view.populated {
        step.details
            .push("filled for the first time, then analyzed".to_owned());
        return step
            .run(refresh(format!("REFRESH MATERIALIZED VIEW {name}")))
            .run(Statement::brief(format!("ANALYZE {name}")));
    }
    if view.unique_index {
        return step.run(refresh(format!(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY {name}"
        )));
    }
    step.details
        .push("blocks its readers until it is done (`allow_blocking`)".to_owned());
    step.run(refresh(format!("REFRESH MATERIALIZED VIEW {name}")))
}

/// What days and texts the view makes of its rows depends on settings such as `TimeZone`: it gets
/// those that whoever else refreshes it as this role would have, not ours.
fn refresh(sql: String) -> Statement {
    Statement::brief(sql).storing_what_users_say()
}

/// The server reads the sources as the owner of the view, whoever asks for the refresh.
fn unreadable(view: &View, source: &RelationName) -> Finding {
    let owner = Identifier::new(&*view.owner);
    Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: view.name.to_string(),
        message: format!(
            "{} should be refreshed, and cannot be by anybody: it is refreshed as its owner {owner}, who may not read {source}",
            view.name
        ),
        suggestion: Some(format!("GRANT SELECT ON {source} TO {owner}")),
    }
}

fn blocking(view: &View) -> Finding {
    // That no two rows have the same today, such as a sum, says nothing of tomorrow: then every
    // refresh would fail. So it is told in words, and run by nobody who has not read them.
    let (when, column) = match &view.unique_column {
        Some(column) => {
            let column = Identifier::new(column).to_string();
            (
                format!("if no two rows can ever have the same {column}, as they have not today"),
                column,
            )
        }
        None => (
            "over columns that together can never be there twice, such as those of its GROUP BY"
                .to_owned(),
            "…".to_owned(),
        ),
    };
    Finding {
        code: "view.no_unique_index".to_owned(),
        severity: Severity::Warning,
        object: view.name.to_string(),
        message: "it cannot be refreshed without blocking its readers: CONCURRENTLY needs a unique index over columns and all rows".to_owned(),
        suggestion: Some(format!("{when}: CREATE UNIQUE INDEX ON {} ({column})", view.name)),
    }
}

/// A time span in its largest unit.
fn human(span: TimeDelta) -> String {
    match span.num_minutes() {
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes if minutes < 48 * 60 => format!("{} h", minutes / 60),
        minutes => format!("{} days", minutes / (24 * 60)),
    }
}
