//! Who has a task, and whether that is a run of maint's.

use uuid::Uuid;

use crate::engines::mongodb::{CLAIMS, HeldBy};
use crate::execute::{Holder, run_name};
use crate::plan::{Finding, Severity};

/// What is known of who has a task. Runs call themselves by their ids: whoever does not is none of maint's, and may
/// renew its claim for ever.
pub(super) fn holder(task: &str, held: HeldBy) -> Holder {
    let run = held.owner.as_deref().and_then(run_of);
    let stranger = is_strangers(&held);
    let HeldBy { who, owner: _, end } = held;
    Holder {
        finding: stranger.then(|| Finding {
            code: "claim.stranger".to_owned(),
            severity: Severity::Critical,
            object: String::new(),
            message: format!(
                "the claim in `{CLAIMS}` by which runs of `{task}` exclude each other is of {who}; it does not name a run, so it is none of maint's. The task does not run as long as somebody renews it: whoever may write to the database can. Find out who does, then remove it"
            ),
            suggestion: end.clone(),
        }),
        who,
        run,
        end,
    }
}

/// Whether somebody has a task who is no run of maint's.
pub(crate) fn is_strangers(held: &HeldBy) -> bool {
    let owner = held.owner.as_deref();
    owner.is_some_and(|owner| run_of(owner).is_none())
}

/// The run that calls itself so.
fn run_of(owner: &str) -> Option<Uuid> {
    let run = owner.rsplit(' ').next()?;
    let run = Uuid::parse_str(run).ok()?;
    (run_name(run) == owner).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_calls_itself_by_its_id() {
        let run = Uuid::now_v7();
        assert_eq!(run_of(&run_name(run)), Some(run));
        for other in [
            "",
            "maint",
            "maint 1",
            &run.to_string(),
            &format!("x {run}"),
        ] {
            assert_eq!(run_of(other), None, "{other}");
        }
        let free = holder("t", HeldBy::default());
        assert!(free.finding.is_none() && free.run.is_none());
    }
}
