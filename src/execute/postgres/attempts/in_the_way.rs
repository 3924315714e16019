//! Who was in the way of a step, or waited for it, as the record and people are told.

use std::time::Duration;

use crate::engines::postgres::watch::{Blocker, Waiter, prepared};
use crate::history::LockWait;
use crate::values::wall_clock;

/// Who was last seen in the way, in an earlier attempt.
pub(super) fn before(waits: &[LockWait]) -> Option<String> {
    let last = waits.iter().rev().find(|wait| !wait.stepped_back)?;
    if let Some(name) = prepared(&last.blocker_application) {
        return Some(format!(
            "the prepared transaction {name} of {}, in attempt {}",
            last.blocker_user, last.attempt
        ));
    }
    Some(format!(
        "pid {} ({}, {}, {}), in attempt {}",
        last.blocker_pid,
        last.blocker_user,
        last.blocker_application,
        last.blocker_state,
        last.attempt
    ))
}

/// For whom a step has waited in vain, and what ends that: who was in the way in its last attempt.
pub(in crate::execute::postgres) fn held_up(waits: &[LockWait]) -> Option<String> {
    let waits = || waits.iter().filter(|wait| !wait.stepped_back);
    let last = waits().map(|wait| wait.attempt).max()?;
    let longest = waits().filter(|wait| wait.attempt == last);
    let longest = longest.max_by_key(|wait| (wait.waited_ms, wait.blocker_transaction_age_ms))?;
    let age = longest.blocker_transaction_age_ms / 1000;
    if let Some(name) = prepared(&longest.blocker_application) {
        return Some(format!(
            "the prepared transaction {name} of {}, {age} s old: it keeps its locks until somebody ends it, in its database, with ROLLBACK PREPARED {name} or COMMIT PREPARED {name}",
            longest.blocker_user
        ));
    }
    // This is read days later, too, when others may have its pid: they began after this moment.
    let seen = wall_clock().format("%Y-%m-%d %H:%M:%S+00");
    Some(format!(
        "pid {0} ({1}, {2}), whose transaction was {age} s old: have it end, or end it with SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.pid = {0} AND a.backend_start < '{seen}' AND a.xact_start < '{seen}'",
        longest.blocker_pid, longest.blocker_user, longest.blocker_application
    ))
}

pub(super) fn lock_wait(attempt: u32, (blocker, waited): &(Blocker, Duration)) -> LockWait {
    LockWait {
        attempt,
        blocker_pid: blocker.pid,
        blocker_user: blocker.user.clone(),
        blocker_application: blocker.application.clone(),
        blocker_state: blocker.state.clone(),
        blocker_query_age_ms: blocker.query_age_ms,
        blocker_transaction_age_ms: blocker.transaction_age_ms,
        waited_ms: i64::try_from(waited.as_millis()).unwrap_or(i64::MAX),
        stepped_back: false,
        relation: None,
    }
}

pub(super) fn stepped_back(attempt: u32, waiter: &Waiter) -> LockWait {
    LockWait {
        attempt,
        blocker_pid: waiter.pid,
        blocker_user: waiter.user.clone(),
        blocker_application: waiter.application.clone(),
        blocker_state: waiter.state.clone(),
        blocker_query_age_ms: waiter.query_age_ms,
        blocker_transaction_age_ms: waiter.transaction_age_ms,
        waited_ms: waiter.waited_ms,
        stepped_back: true,
        relation: waiter.relation.clone(),
    }
}

pub(super) fn waiting(waiter: &Waiter) -> String {
    let on = waiter.relation.as_deref();
    format!(
        "pid {} ({}, {}), which had waited {:.1} s{}",
        waiter.pid,
        waiter.user,
        waiter.application,
        f64::from(i32::try_from(waiter.waited_ms).unwrap_or(i32::MAX)) / 1000.0,
        on.map(|on| format!(" for {on}")).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_seen_last_is_named() {
        let wait = |attempt: u32, pid: i32, stepped_back: bool| LockWait {
            attempt,
            blocker_pid: pid,
            blocker_user: "ann".to_owned(),
            blocker_application: "psql".to_owned(),
            blocker_state: "idle in transaction".to_owned(),
            blocker_query_age_ms: 0,
            blocker_transaction_age_ms: 0,
            waited_ms: 0,
            stepped_back,
            relation: None,
        };
        assert_eq!(before(&[]), None);
        assert_eq!(before(&[wait(1, 7, true)]), None);
        let waits = [wait(1, 7, false), wait(2, 8, false), wait(3, 9, true)];
        assert_eq!(
            before(&waits).as_deref(),
            Some("pid 8 (ann, psql, idle in transaction), in attempt 2")
        );
    }
}
