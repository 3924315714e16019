//! What holds operations back: tickets, flow control; and whether a backup was at work.

use mongodb::bson::Document;
use serde_json::json;

use super::facts::Facts;
use super::{note, say};
use crate::engines::mongodb::number;
use crate::plan::mongodb::Body;
use crate::plan::{Memory, Moment, Plan, Severity};
use crate::values::TimeSpan;

/// Under which key is remembered when a backup cursor was seen.
const BACKUP: &str = "backup cursor seen";

/// How many operations may still begin to read and to write: without a ticket they wait.
pub(super) fn tickets(status: &Document, database: &str, plan: &mut Plan<Body>) {
    for way in ["read", "write"] {
        let Some((free, all)) = of_way(status, way) else {
            continue;
        };
        note(plan, "tickets.available", way, free);
        if free == 0 && all > 0 {
            say(
                plan,
                ("tickets.exhausted", Severity::Warning),
                database,
                format!(
                    "all {all} tickets to {way} were taken: every further operation that {way}s waits until one of them has ended"
                ),
                Some("db.serverStatus().wiredTiger.concurrentTransactions".to_owned()),
            );
        }
    }
}

/// Free tickets, and all; from 8.0 on they have another place.
fn of_way(status: &Document, way: &str) -> Option<(i64, i64)> {
    let of = |part: &str, under: &str| {
        let all = status.get_document(part).ok()?.get_document(under).ok()?;
        all.get_document(way).ok()
    };
    let place = of("queues", "execution").or_else(|| of("wiredTiger", "concurrentTransactions"))?;
    let free = number(place.get("available"))?;
    let all = number(place.get("totalTickets"))
        .unwrap_or_else(|| free + number(place.get("out")).unwrap_or(0));
    Some((free, all))
}

/// Whether the primary slows writes down, because a majority does not follow.
pub(super) fn flow(status: &Document, database: &str, plan: &mut Plan<Body>) {
    let Ok(flow) = status.get_document("flowControl") else {
        return;
    };
    if flow.get_bool("isLagged").unwrap_or(false) {
        say(
            plan,
            ("flow.lagged", Severity::Warning),
            database,
            "flow control slows writes down: a majority of the members is behind the primary"
                .to_owned(),
            Some("db.serverStatus().flowControl".to_owned()),
        );
    }
}

/// When a backup cursor was last seen open; whether that is too long ago.
pub(super) fn backup(most: Option<TimeSpan>, facts: &Facts, at: &Moment, plan: &mut Plan<Body>) {
    let now = at.now.timestamp();
    let engine = facts.status.as_ref();
    let engine = engine.and_then(|status| status.get_document("storageEngine").ok());
    let open = engine.and_then(|engine| engine.get_bool("backupCursorOpen").ok());
    let Some(open) = open else {
        return;
    };
    let before = at.memories.get(BACKUP).and_then(|seen| seen["at"].as_i64());
    let seen = if open { Some(now) } else { before };
    if open {
        plan.memories.push(Memory {
            key: BACKUP.to_owned(),
            value: json!({ "at": now }),
        });
    }
    if let Some(seen) = seen {
        note(plan, "backup.age_ms", "", (now - seen).saturating_mul(1000));
    }
    let Some(most) = most else {
        return;
    };
    let limit = i64::try_from(most.get().as_secs()).unwrap_or(i64::MAX);
    let why = match seen {
        Some(seen) if now - seen <= limit => return,
        Some(seen) => format!(
            "a backup cursor was last seen {} h ago, longer than {most}",
            (now - seen) / 3600
        ),
        None => "no snapshot has seen a backup cursor".to_owned(),
    };
    say(
        plan,
        ("backup.old", Severity::Warning),
        &facts.database,
        format!(
            "{why}: look whether backups are made. Only one that was open while a snapshot was taken is seen"
        ),
        Some("db.serverStatus().storageEngine.backupCursorOpen".to_owned()),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::collections::HashMap;

    use mongodb::bson::doc;

    use super::*;

    fn codes(plan: &Plan<Body>) -> Vec<&str> {
        plan.findings.iter().map(|one| one.code.as_str()).collect()
    }

    #[test]
    fn tickets_are_read_from_where_each_version_has_them() {
        let old = doc! { "wiredTiger": { "concurrentTransactions": {
            "write": { "out": 128, "available": 0, "totalTickets": 128 },
            "read": { "out": 1, "available": 127, "totalTickets": 128 },
        } } };
        let new = doc! { "queues": { "execution": {
            "write": { "out": 9, "available": 0 }, "read": { "out": 1, "available": 8 },
        } } };
        for status in [old, new] {
            let mut plan = Plan::default();
            tickets(&status, "app", &mut plan);
            let free: Vec<f64> = plan.measurements.iter().map(|one| one.value).collect();
            assert!(free[0] > 0.0 && free[1] == 0.0, "{free:?}");
            assert_eq!(codes(&plan), ["tickets.exhausted"]);
            assert!(plan.findings[0].message.contains("to write"));
        }
    }

    #[test]
    fn a_majority_that_does_not_follow_is_told() {
        for (lagged, told) in [(true, 1), (false, 0)] {
            let mut plan = Plan::default();
            flow(
                &doc! { "flowControl": { "isLagged": lagged } },
                "app",
                &mut plan,
            );
            assert_eq!(plan.findings.len(), told);
        }
    }

    #[test]
    fn a_backup_is_remembered_and_missed() {
        let now = 1_800_000_000;
        let facts = |open: bool| Facts {
            status: Some(doc! { "storageEngine": { "backupCursorOpen": open } }),
            ..Facts::default()
        };
        let moment = |seen: Option<i64>| Moment {
            now: chrono::DateTime::from_timestamp(now, 0).unwrap(),
            round: 1,
            baselines: HashMap::new(),
            memories: seen
                .map(|at| (BACKUP.to_owned(), json!({ "at": at })))
                .into_iter()
                .collect(),
            former: Default::default(),
            zone: chrono_tz::UTC,
        };
        let day = Some(TimeSpan::from_mins(24 * 60));
        for (open, seen, most, found) in [
            (true, None, day, &[][..]),
            (false, Some(now - 3600), day, &[][..]),
            (false, Some(now - 90_000), day, &["backup.old"][..]),
            (false, None, day, &["backup.old"][..]),
            (false, None, None, &[][..]),
        ] {
            let mut plan = Plan::default();
            backup(most, &facts(open), &moment(seen), &mut plan);
            assert_eq!(codes(&plan), found, "{open} {seen:?}");
            assert_eq!(plan.memories.len(), usize::from(open));
            let age = plan.measurements.first().map(|one| one.value);
            let known = if open { Some(now) } else { seen };
            assert_eq!(age, known.map(|at| ((now - at) * 1000) as f64));
        }
    }
}
