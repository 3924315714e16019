//! Who was in the way of a step, and who waited for it.

use super::{human_duration_ms, shown};
use crate::history::{LockWait, StepRecord};

/// Who was in the way: what a person needs to find that session.
pub(super) fn blocker(wait: &LockWait) -> String {
    if wait.blocker_pid == 0 {
        return format!(
            "{}, role {}, open for {}; waited {}",
            wait.blocker_application,
            wait.blocker_user,
            human_duration_ms(wait.blocker_transaction_age_ms),
            human_duration_ms(wait.waited_ms)
        );
    }
    let application = match wait.blocker_application.as_str() {
        "" => "no application name".to_owned(),
        name => format!("application {name}"),
    };
    let state = if wait.blocker_state.is_empty() {
        "state unknown"
    } else {
        &wait.blocker_state
    };
    let since = match (wait.blocker_query_age_ms, wait.blocker_transaction_age_ms) {
        // The server shows the session, and not since when.
        (0, 0) => "since when is not known".to_owned(),
        (query, transaction) => format!(
            "its query began {} before, its transaction {}",
            human_duration_ms(query),
            human_duration_ms(transaction)
        ),
    };
    format!(
        "pid {}, role {}, {application}, {state}; {since}; waited {}",
        wait.blocker_pid,
        wait.blocker_user,
        human_duration_ms(wait.waited_ms)
    )
}

/// Who was in the way last.
pub(super) fn in_the_way(step: &StepRecord) -> Option<&LockWait> {
    step.lock_waits.iter().rev().find(|wait| !wait.stepped_back)
}

/// For whom a step was given up for a while.
pub(super) fn waiter(wait: &LockWait) -> String {
    let on = wait.relation.as_deref().map(shown);
    format!(
        "for pid {}, role {}, {}, which waited {}{}",
        wait.blocker_pid,
        shown(&wait.blocker_user),
        shown(&wait.blocker_application),
        human_duration_ms(wait.waited_ms),
        on.map(|on| format!(" for {on}")).unwrap_or_default(),
    )
}
