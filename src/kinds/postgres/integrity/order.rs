//! Which object's turn it is: what was not looked at for longest comes first.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::Level;
use super::identity::Identity;
use crate::plan::{Finding, Measurement, Memory, Moment, Plan, Severity, Step};
use crate::values::TimeSpan;

/// Under which key it is remembered what was planned and not found in order yet.
const WAITING: &str = "waiting";

/// Kinds of objects, for what is said about coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    ForeignKey,
    Constraints,
    Table,
    Index,
    Catalog,
    Query,
}

impl Class {
    fn plural(self) -> &'static str {
        match self {
            Class::ForeignKey => "foreign keys",
            Class::Constraints => "tables with check constraints",
            Class::Table => "tables",
            Class::Index => "indexes",
            Class::Catalog => "parts of the system catalogs",
            Class::Query => "queries",
        }
    }
}

/// Something that can be looked at.
pub(super) struct Candidate {
    class: Class,
    step: Step,
    bytes: i64,
    looking_for: String,
    level: Level,
    identity: Identity,
}

impl Candidate {
    pub(super) fn new(
        class: Class,
        step: Step,
        identity: Identity,
        bytes: i64,
        looking_for: String,
    ) -> Self {
        Candidate {
            class,
            step,
            identity,
            bytes,
            looking_for,
            level: Level::Off,
        }
    }

    /// How closely it is looked at.
    pub(super) fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    fn key(&self) -> String {
        format!("{} {}", self.step.action, self.step.object)
    }

    /// When it was last found in order, looked at as closely as now. What another
    /// object of its name was found to be says nothing.
    fn verified(&self, at: &Moment) -> Option<DateTime<Utc>> {
        let memory = at.memories.get(&self.key())?;
        if memory.get("made")?.as_str()? != self.identity.made {
            return None;
        }
        let level: Level = serde_json::from_value(memory.get("level")?.clone()).ok()?;
        let when = DateTime::parse_from_rfc3339(memory.get("at")?.as_str()?).ok()?;
        (level >= self.level).then(|| when.to_utc())
    }

    /// Whether its rows are in other files than when it was found in order: nobody has read those yet.
    fn rewritten(&self, at: &Moment) -> bool {
        let memory = at.memories.get(&self.key());
        let files = memory.and_then(|one| one.get("files")?.as_str());
        files.is_some_and(|files| files != self.identity.files)
    }
}

/// Turns candidates into steps: the one that was not looked at for longest
/// first. Among those never looked at the smallest comes first, so that a
/// short night covers many. What was planned twice and never got through
/// comes last: something that does not fit would otherwise keep everything
/// else from its turn for ever.
pub(super) fn arrange(
    candidates: Vec<Candidate>,
    recheck_after: TimeSpan,
    cover_within: TimeSpan,
    at: &Moment,
    plan: &mut Plan,
) {
    let ago = |span: TimeSpan| at.now - TimeDelta::from_std(span.get()).unwrap_or(TimeDelta::MAX);
    let (fresh, covered) = (ago(recheck_after), ago(cover_within));
    coverage(&candidates, covered, cover_within, at, plan);

    let all = candidates.len();
    let mut due: Vec<(u64, Option<DateTime<Utc>>, Candidate)> = candidates
        .into_iter()
        .map(|c| (in_vain(&c, at), c.verified(at), c))
        .filter(|(_, verified, c)| verified.is_none_or(|when| when <= fresh || c.rewritten(at)))
        .collect();
    let left = all - due.len();
    if left > 0 {
        let message = if due.is_empty() {
            format!(
                "nothing was looked at: {} in order less than {recheck_after} ago (`recheck_after`). `--set recheck_after=0s` looks again",
                match all {
                    1 => "the only object was found".to_owned(),
                    all => format!("all {all} objects were found"),
                }
            )
        } else {
            format!(
                "{left} of {all} objects {} in order less than {recheck_after} ago (`recheck_after`) and {} not looked at now. `--set recheck_after=0s` looks at all",
                if left == 1 { "was found" } else { "were found" },
                if left == 1 { "is" } else { "are" },
            )
        };
        plan.skip("integrity", &message);
        // A run tells no reasons against objects, and "nothing to do" would sound like "in order".
        plan.findings.push(Finding {
            code: "integrity.not_again".to_owned(),
            severity: Severity::Info,
            object: "integrity".to_owned(),
            message,
            suggestion: None,
        });
    }
    due.sort_by(|a, b| {
        (a.0 >= 2, a.1, a.2.class == Class::Query, a.2.bytes)
            .cmp(&(b.0 >= 2, b.1, b.2.class == Class::Query, b.2.bytes))
            .then_with(|| a.2.key().cmp(&b.2.key()))
    });
    let mut now_waiting = serde_json::Map::new();
    for (tries, verified, candidate) in due {
        let key = candidate.key();
        now_waiting.insert(key.clone(), json!(tries + 1));
        let last = match verified {
            Some(_) if candidate.rewritten(at) => {
                "rewritten since it was last found in order".to_owned()
            }
            Some(when) => format!("last in order {} days ago", (at.now - when).num_days()),
            None if tries >= 2 => format!("planned {tries} times before, and never found in order"),
            None => "never found in order before".to_owned(),
        };
        let value = json!({
            "at": at.now.to_rfc3339(),
            "level": candidate.level,
            "made": candidate.identity.made,
            "files": candidate.identity.files,
        });
        plan.steps.push(
            candidate
                .step
                .because(format!("{}; {last}", candidate.looking_for))
                .expecting(candidate.bytes, None)
                .remembering(key, value),
        );
    }
    plan.memories.push(Memory {
        key: WAITING.to_owned(),
        value: json!({ "at": at.now.to_rfc3339(), "tries": now_waiting }),
    });
}

/// How often in a row it was planned without being found in order.
fn in_vain(candidate: &Candidate, at: &Moment) -> u64 {
    let tries = || {
        let waiting = at.memories.get(WAITING)?;
        let planned = DateTime::parse_from_rfc3339(waiting.get("at")?.as_str()?).ok()?;
        let since = candidate.verified(at).is_some_and(|when| when >= planned);
        let tries = waiting.get("tries")?.get(candidate.key())?.as_u64()?;
        (!since).then_some(tries)
    };
    tries().unwrap_or(0)
}

/// How much was looked at lately: as numbers always, as a finding once
/// something has been left out for too long.
fn coverage(
    candidates: &[Candidate],
    covered: DateTime<Utc>,
    cover_within: TimeSpan,
    at: &Moment,
    plan: &mut Plan,
) {
    let mut counts: BTreeMap<Class, (usize, usize)> = BTreeMap::new();
    for candidate in candidates {
        let (all, verified) = counts.entry(candidate.class).or_default();
        *all += 1;
        *verified += usize::from(candidate.verified(at).is_some_and(|when| when > covered));
    }
    let mut behind = Vec::new();
    for (class, (all, verified)) in &counts {
        let plural = class.plural();
        for (metric, value) in [
            ("integrity.objects", *all),
            ("integrity.verified", *verified),
        ] {
            plan.measurements.push(Measurement {
                metric: metric.to_owned(),
                object: plural.to_owned(),
                value: value as f64,
            });
        }
        if verified < all {
            behind.push(format!("{verified} of {all} {plural}"));
        }
    }
    // Before the first run has been through, nothing can have been covered.
    if !behind.is_empty() && at.memories.contains_key(WAITING) {
        plan.findings.push(Finding {
            code: "integrity.coverage".to_owned(),
            severity: Severity::Info,
            object: "coverage".to_owned(),
            message: format!(
                "before this run, the last {cover_within} had found in order: {}. What is left out for longest comes first now; where a budget or a window ends the runs of this task, a larger one covers more",
                behind.join(", ")
            ),
            suggestion: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn moment(day: u32) -> Moment {
        let epoch = DateTime::UNIX_EPOCH;
        Moment {
            now: epoch + TimeDelta::days(i64::from(day)),
            round: 1,
            baselines: HashMap::new(),
            memories: HashMap::new(),
            former: Default::default(),
            zone: chrono_tz::UTC,
        }
    }

    fn candidates(names: &[(&str, i64)], level: Level) -> Vec<Candidate> {
        let table = |(name, bytes): &(&str, i64)| {
            let step = Step::new("check_table", *name, *name);
            let identity = Identity::default();
            Candidate::new(Class::Table, step, identity, *bytes, "damage".to_owned()).at(level)
        };
        names.iter().map(table).collect()
    }

    /// Plans, and then remembers what a run does that gets through to `done`.
    fn night(at: &mut Moment, level: Level, done: &[&str]) -> (Vec<String>, Plan) {
        let all = candidates(&[("large", 900), ("small", 1), ("middle", 50)], level);
        let mut plan = Plan::default();
        let day = TimeSpan::from_mins(24 * 60);
        arrange(all, day, TimeSpan::from_mins(30 * 24 * 60), at, &mut plan);
        for memory in &plan.memories {
            at.memories.insert(memory.key.clone(), memory.value.clone());
        }
        for step in plan
            .steps
            .iter()
            .filter(|s| done.contains(&s.object.as_str()))
        {
            if let Some(memory) = &step.remember {
                at.memories.insert(memory.key.clone(), memory.value.clone());
            }
        }
        let order = plan.steps.iter().map(|s| s.object.clone()).collect();
        at.now += TimeDelta::days(7);
        (order, plan)
    }

    #[test]
    fn what_was_not_looked_at_for_longest_comes_first() {
        let mut at = moment(1000);
        let (first, plan) = night(&mut at, Level::Light, &["small", "middle"]);
        assert_eq!(first, ["small", "middle", "large"]);
        assert!(plan.findings.is_empty());
        let (second, plan) = night(&mut at, Level::Light, &["large"]);
        assert_eq!(second, ["large", "small", "middle"]);
        assert!(
            plan.findings
                .iter()
                .any(|f| f.message.contains("2 of 3 tables"))
        );
        let (third, plan) = night(&mut at, Level::Light, &["small", "middle", "large"]);
        assert_eq!(third, ["small", "middle", "large"]);
        assert!(plan.findings.is_empty(), "all were seen within the month");
    }

    #[test]
    fn what_never_fits_does_not_keep_the_others_from_their_turn() {
        let mut at = moment(1000);
        night(&mut at, Level::Light, &["small", "middle"]);
        assert_eq!(
            night(&mut at, Level::Light, &[]).0,
            ["large", "small", "middle"]
        );
        let (third, plan) = night(&mut at, Level::Light, &["small", "middle"]);
        assert_eq!(third, ["small", "middle", "large"]);
        let large = plan.steps.iter().find(|s| s.object == "large");
        assert!(large.is_some_and(|s| s.reason.contains("planned 2 times before")));
    }

    #[test]
    fn a_light_look_does_not_count_as_a_full_one() {
        let mut at = moment(1000);
        night(&mut at, Level::Light, &["small", "middle", "large"]);
        at.now -= TimeDelta::days(7);
        assert!(night(&mut at, Level::Light, &[]).0.is_empty(), "just seen");
        at.now -= TimeDelta::days(7);
        assert_eq!(night(&mut at, Level::Full, &[]).0.len(), 3);
    }
}
