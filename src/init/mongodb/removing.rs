//! What goes by itself or could go, as tasks.

use super::collections::{Collection, Index};
use crate::init::yaml::{comment, quoted, scalar};
use crate::init::{Draft, DraftTask, Left};
use crate::report::text::{human_bytes, human_count, shown};

/// More documents than this, or bytes, are a reason to ask what may go.
const MANY: i64 = 10_000;

const LARGE: i64 = 64 << 20;

/// Names that say when a document came to be, the surest first.
const BEGINS: [&str; 14] = [
    "created_at",
    "createdat",
    "created",
    "inserted_at",
    "timestamp",
    "ts",
    "at",
    "occurred_at",
    "recorded_at",
    "logged_at",
    "time",
    "event_time",
    "date",
    "sent_at",
];

/// Whether there are TTL indexes to look after.
pub(super) fn ttl(draft: &mut Draft, collections: &[Collection]) -> bool {
    let mut task = DraftTask::new(
        "ttl",
        "cleanup",
        "The server removes these by itself, by TTL indexes; this sees to it that they are there, as they are today, and at work.",
    );
    task.options.push("ttl:".to_owned());
    for collection in collections {
        for (field, seconds) in collection.indexes.iter().filter_map(|i| i.expires.as_ref()) {
            // An index that expires never is no rule.
            if *seconds >= i64::from(i32::MAX) {
                continue;
            }
            task.options.push(format!(
                "  - {{ collection: {}, field: {}, expire_after: {seconds}s }}",
                scalar(&collection.name),
                scalar(field)
            ));
        }
    }
    if task.options.len() == 1 {
        return false;
    }
    draft.tasks.push(task);
    true
}

/// Documents that could go. Never enabled: whether they may is for people to say.
pub(super) fn cleanup(draft: &mut Draft, collections: &[Collection]) -> bool {
    let mut task = DraftTask::new(
        "cleanup",
        "cleanup",
        "Documents that nobody needs any more. Not enabled: whether they may go, and when, is yours to say. Take out what has to stay, set `older_than`, look at `maint run cleanup --dry-run`, then remove `enabled: false`.",
    )
    .within("budget: 1h");
    task.enabled = false;
    task.options.push("rules:".to_owned());
    for collection in collections {
        let grows = collection.documents >= MANY || collection.bytes >= LARGE;
        let expires = collection
            .indexes
            .iter()
            .any(|index| index.expires.is_some());
        if !grows || expires || collection.special {
            continue;
        }
        let named = BEGINS.iter().find_map(|name| {
            let same = |field: &&String| field.to_lowercase() == *name;
            collection.dates.iter().find(same)
        });
        let field = match (named, collection.since) {
            (Some(field), _) => field.as_str(),
            (None, Some(_)) => "_id",
            (None, None) => {
                draft.left.push(Left {
                    place: collection.name.clone(),
                    text: "grows".to_owned(),
                    reason: "no field says when a document came to be".to_owned(),
                });
                continue;
            }
        };
        let leads = |index: &Index| index.leads.as_deref() == Some(field);
        let mut why = format!(
            "{}: {}, {} documents; age by {field}",
            collection.name,
            human_bytes(collection.bytes),
            human_count(collection.documents)
        );
        if !collection.indexes.iter().any(leads) {
            why.push_str(", no index begins with it: up to `max_scan` (1 GB) all of it is read");
        }
        if let Some(since) = collection.since {
            // That of another field is in no document that was looked at: the first by `_id` may be any of them.
            let of = match field {
                "_id" => "the first is",
                _ => "by `_id`, whatever that field says, the first is",
            };
            why.push_str(&format!("; {of} of {}", since.format("%Y-%m")));
        }
        for line in comment(2, &shown(&why)).lines() {
            task.options.push(line.to_owned());
        }
        task.options.push(format!(
            "  - {{ collection: {}, field: {}, older_than: 12mo }}",
            scalar(&collection.name),
            match field {
                "_id" => quoted("_id"),
                field => scalar(field),
            }
        ));
    }
    let some = task.options.len() > 1;
    if some {
        draft.tasks.push(task);
    }
    some
}
