//! A plan as a document of its own: reviewed by people, carried out later.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Body, Plan, Skip, Step};
use crate::values::Filled;

/// The code of the finding that says which document a run has carried out.
pub const APPLIED: &str = "plan.applied";

/// The version of the document that this program writes and reads.
pub const SAVED_VERSION: u32 = 1;

/// What `maint plan --save` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Version of this document.
    pub version: u32,
    /// Version of maint that wrote it.
    pub maint: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// `sha256:` and the digest of `plans`, so that an edited document is
    /// told from a reviewed one.
    pub hash: String,
    /// One for each task and target.
    pub plans: Vec<SavedPlan>,
}

/// What one task would do on one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The task.
    pub task: String,
    /// Its kind.
    pub kind: String,
    /// The target.
    pub target: String,
    /// Which database it was made for, whatever its address: for PostgreSQL
    /// the system identifier, the name of the database, and its id.
    pub system: String,
    /// The kind's options, as they are written.
    pub options: Value,
    /// What variables hold that stand in them: by how each is written, a short sum of it. Of a text with a secret that is
    /// written out, by where it stands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Whether it was made together with those for all other databases of its server that the
    /// task is for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_all: bool,
    /// The steps, in order.
    pub steps: Vec<SavedStep>,
    /// What is asked for and cannot be done, and why: no step of the plan does it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfollowed: Vec<Skip>,
    /// The hash of the document it was read from; not part of it.
    #[serde(skip)]
    pub document: String,
    /// What is left alone, and why; not part of the document.
    #[serde(skip)]
    pub left: Vec<Skip>,
    /// The objects of which something is asked for that cannot be done; not part of the document.
    #[serde(skip)]
    pub refused: Vec<String>,
    /// The steps themselves, where they were made just now; not part of the document.
    #[serde(skip)]
    pub made: Made,
}

/// Steps of some engine.
#[derive(Clone, Default)]
pub struct Made(Option<Arc<dyn Any + Send + Sync>>);

impl Made {
    /// These.
    pub fn of<B: Body>(steps: Vec<Step<B>>) -> Made {
        Made(Some(Arc::new(steps)))
    }

    /// Those of this engine.
    pub fn steps<B: Body>(&self) -> &[Step<B>] {
        let steps = self.0.as_ref();
        let steps = steps.and_then(|steps| steps.downcast_ref::<Vec<Step<B>>>());
        steps.map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Made" } else { "NotMade" })
    }
}

/// They say nothing that the plan does not say.
impl PartialEq for Made {
    fn eq(&self, _: &Made) -> bool {
        true
    }
}

/// One step, with the facts it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedStep {
    /// What is done.
    pub action: String,
    /// What is worked on.
    pub object: String,
    /// Why, with the numbers of that moment.
    pub reason: String,
    /// What runs. A limit that moves with the time is written as it is reckoned.
    pub statement: String,
    /// What else tells the object from another of its name, such as its id, or
    /// by name everything that the step relies on.
    pub identity: Value,
    /// How many rows it would change, where that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Size of the object then, in bytes.
    pub bytes: Option<i64>,
    /// Expected size afterwards, in bytes.
    pub bytes_after: Option<i64>,
    /// What it changes besides its own rows: triggers that fire, rows of other tables that go or
    /// change with its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets_off: Vec<String>,
    /// Further lines: how it walks, what it is expected to set off.
    pub details: Vec<String>,
}

impl SavedPlan {
    /// The plan of this task on this target, as it is now; with how many rows its steps would
    /// change, by their `seq`, where that is known.
    pub fn of<B: Body>(
        (task, kind, target): (&str, &str, &str),
        system: &str,
        (options, filled): (&Value, &Filled),
        plan: &Plan<B>,
        rows: &BTreeMap<u32, i64>,
    ) -> SavedPlan {
        let written = |mut value: Value| {
            filled.hide_in(&mut value);
            value
        };
        let steps = plan.steps.iter().map(|step| SavedStep {
            action: step.action.clone(),
            object: step.object.clone(),
            reason: step.reason.clone(),
            statement: filled.shown(&step.body.at_any_time()),
            identity: written(step.body.identity()),
            rows: rows.get(&step.seq).copied(),
            bytes: step.estimate.bytes,
            bytes_after: step.estimate.bytes_after,
            sets_off: step
                .body
                .sets_off()
                .iter()
                .map(|line| filled.shown(line))
                .collect(),
            details: step.details.clone(),
        });
        SavedPlan {
            task: task.to_owned(),
            kind: kind.to_owned(),
            target: target.to_owned(),
            system: system.to_owned(),
            options: written(options.clone()),
            variables: filled
                .sums()
                .into_iter()
                .chain(filled.sums_of_secrets(options))
                .collect(),
            with_all: false,
            steps: steps.collect(),
            document: String::new(),
            unfollowed: plan.refused.clone(),
            refused: plan.refused.iter().map(|one| one.object.clone()).collect(),
            made: Made::default(),
            left: plan
                .refused
                .iter()
                .chain(&plan.skipped)
                .cloned()
                .chain(plan.findings.iter().map(|one| Skip {
                    object: one.object.clone(),
                    reason: one.message.clone(),
                }))
                .collect(),
        }
    }

    /// The place of a step with this action and object in this plan.
    pub fn place(&self, action: &str, object: &str) -> Option<usize> {
        self.steps
            .iter()
            .position(|step| step.action == action && step.object == object)
    }
}

impl SavedStep {
    /// Whether it does this with that object.
    pub fn is(&self, action: &str, object: &str) -> bool {
        self.action == action && self.object == object
    }

    pub(super) fn is_same_work(&self, other: &SavedStep) -> bool {
        self.action == other.action && self.object == other.object
    }
}

impl Saved {
    /// The document of these plans.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn new(plans: Vec<SavedPlan>, at: DateTime<Utc>) -> Result<Saved, serde_json::Error> {
        Ok(Saved {
            version: SAVED_VERSION,
            maint: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: at,
            hash: hash(&plans)?,
            plans,
        })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is none, one of another version, or was changed after it was made.
    pub fn read(text: &str) -> Result<Saved, String> {
        let document: Value = serde_json::from_str(text).map_err(|_| {
            "is no saved plan: it is not JSON; `maint plan --save FILE` writes one".to_owned()
        })?;
        let version = document.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(SAVED_VERSION)) {
            return Err(format!(
                "is no saved plan of version {SAVED_VERSION}: write a new one with `maint plan --save`"
            ));
        }
        let mut saved: Saved = serde_json::from_value(document)
            .map_err(|error| format!("is no saved plan: {error}"))?;
        let found = hash(&saved.plans).map_err(|error| error.to_string())?;
        if found != saved.hash {
            return Err(format!(
                "was changed after it was made: its hash is {found}, it says {}",
                saved.hash
            ));
        }
        for plan in &mut saved.plans {
            plan.document.clone_from(&saved.hash);
        }
        Ok(saved)
    }
}

fn hash(plans: &[SavedPlan]) -> Result<String, serde_json::Error> {
    let digest = Sha256::digest(serde_json::to_vec(plans)?);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::plan::doing::Doing;
    use crate::values::wall_clock;

    #[test]
    fn an_edited_document_is_refused() {
        let mut step = Step::new("reindex", "a", "lane");
        step.body = Doing("REINDEX a".to_owned(), Value::Null);
        let plan = Plan {
            steps: vec![step],
            ..Plan::default()
        };
        let saved = SavedPlan::of(
            ("weekly", "reindex", "app"),
            "7/app",
            (&Value::Null, &Filled::default()),
            &plan.numbered(1),
            &BTreeMap::new(),
        );
        let saved = Saved::new(vec![saved], wall_clock()).unwrap();
        let text = serde_json::to_string_pretty(&saved).unwrap();
        let read = Saved::read(&text).unwrap();
        assert_eq!(
            (&read.hash, &read.plans[0].steps),
            (&saved.hash, &saved.plans[0].steps)
        );
        assert_eq!(read.plans[0].document, saved.hash);
        let edited = text.replace("REINDEX a", "DROP TABLE a");
        assert!(Saved::read(&edited).unwrap_err().contains("changed after"));
        assert!(Saved::read("{}").unwrap_err().contains("version 1"));
        assert!(
            Saved::read("nonsense")
                .unwrap_err()
                .contains("no saved plan")
        );
    }
}
