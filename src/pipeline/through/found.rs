//! What a run notes and tells by itself, besides what its plan has found.

use super::super::Surroundings;
use super::super::known::last_place;
use crate::engines::EngineError;
use crate::execute::{Door, LAST_PLACE, PLACES};
use crate::history::RunRecord;
use crate::plan::{Finding, Memory, Severity};
use crate::values::wall_clock;

/// Notes what a look has found. The second tells only what the first could not know.
pub(super) fn note_findings(
    around: &Surroundings,
    record: &mut RunRecord,
    round: u32,
    findings: &[Finding],
) {
    let told = |new: &&Finding| {
        let same = |old: &Finding| old.code == new.code && old.object == new.object;
        !record.findings.iter().any(same)
    };
    let news: Vec<Finding> = findings.iter().filter(told).cloned().collect();
    let known = record.findings.len();
    if round == 1 {
        record.findings.extend(findings.iter().cloned());
        around.history.add_findings(record.id, &record.findings);
    } else {
        record.findings.extend(news);
        let news = record.findings.get(known..).unwrap_or_default();
        around.history.add_findings(record.id, news);
    }
}

/// That a limit which ends runs was passed.
pub(super) fn aborted(why: &str) -> Finding {
    Finding {
        code: "throttle.aborted".to_owned(),
        severity: Severity::Warning,
        object: String::new(),
        message: format!("the run was ended, and what was at work was cancelled: {why}"),
        suggestion: None,
    }
}

/// What is said of a run that goes on although the history does not answer.
pub(super) fn without_history() -> Finding {
    Finding {
        code: "history.unreachable".to_owned(),
        severity: Severity::Warning,
        object: String::new(),
        message: "the history did not answer: this run decided without what earlier runs had learned, and its records wait in a file beside the history until it takes them".to_owned(),
        suggestion: None,
    }
}

/// Refuses a server that a failover has left behind, as far as earlier runs have told, and tells
/// later ones where the target is. While the history is away nobody knows of any.
pub(super) async fn remember_place<D: Door>(
    door: &D,
    session: &D::Session,
    around: &Surroundings,
    target: &str,
) -> Result<(), EngineError> {
    let history = &around.history;
    let last = history.ask(last_place(history.store().as_ref(), target));
    let last = last.await.flatten();
    let now = door.place(session, last.as_ref()).await?;
    if let Some(now) = now.filter(|now| last.as_ref() != Some(now)) {
        let memory = Memory {
            key: LAST_PLACE.to_owned(),
            value: now,
        };
        history.remember(target, PLACES, wall_clock(), &[memory]);
    }
    Ok(())
}
