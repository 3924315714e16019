//! Drafts for MongoDB: from names, sizes, indexes, and which fields hold dates. No value of a
//! document leaves the server.

mod collections;
mod removing;

use self::collections::{Collection, fill, list};
use self::removing::{cleanup, ttl};
use crate::engines::EngineError;
use crate::engines::mongodb::{Members, Session};
use crate::init::{Draft, DraftSchedule, DraftTarget, DraftTask, Left};
use crate::report::text::{counted, human_bytes};
use crate::values::{Engine, with_causes};

/// So many collections are looked at closely.
const MOST: usize = 300;

/// Looks at a database, and says what would fit it. `variable` is to hold its URL.
///
/// # Errors
/// When the server cannot be asked.
pub async fn look(session: &Session, variable: &str) -> Result<Draft, EngineError> {
    let members = Members::of(session).await;
    let mut collections = Vec::new();
    let mut draft = begin(session, variable);
    for (name, special) in list(session).await? {
        if collections.len() >= MOST {
            draft
                .notes
                .push(format!("Only {MOST} collections were looked at closely."));
            break;
        }
        let mut collection = Collection {
            name,
            special,
            ..Collection::default()
        };
        match fill(session, &mut collection).await {
            Ok(()) => collections.push(collection),
            Err(error) => draft.notes.push(format!(
                "{} could not be looked at: {}{}",
                collection.name,
                with_causes(&error),
                error
                    .hint()
                    .map_or_else(String::new, |hint| format!(" ({hint})"))
            )),
        }
    }
    collections.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    let bytes: i64 = collections.iter().map(|one| one.bytes).sum();
    if let Some(target) = draft.targets.first_mut() {
        target.about = format!(
            "{}: {}, {}. The URL comes from the environment, so that no password is in a file.",
            session.database(),
            human_bytes(bytes),
            counted(collections.len(), "collection")
        );
    }
    let mut nightly = vec!["snapshot"];
    let mut weekly = vec!["integrity"];
    draft.tasks.push(
        DraftTask::new(
            "snapshot",
            "snapshot",
            "Sizes, lag, the oplog's reach, and indexes that no member uses. Changes nothing.",
        )
        .within("budget: 10min"),
    );
    draft.tasks.push(
        DraftTask::new(
            "integrity",
            "integrity",
            "Whether collections and indexes are whole, and alike on all members; those never or longest ago looked at come first.",
        )
        .within("step_timeout: 1h, budget: 2h"),
    );
    if ttl(&mut draft, &collections) {
        nightly.push("ttl");
    }
    if cleanup(&mut draft, &collections) {
        nightly.push("cleanup");
    }
    match &members {
        Ok(members) if members.secondaries().next().is_some() => {
            draft.tasks.push(
                DraftTask::new(
                    "compact",
                    "compact",
                    format!(
                        "Free space in the files back to the system, one member at a time: {} beside the primary, which is left out.",
                        counted(members.secondaries().count(), "secondary").replace("secondarys", "secondaries")
                    ),
                )
                .within("budget: 3h"),
            );
            weekly.push("compact");
        }
        Ok(_) => draft.left.push(Left {
            place: session.database().to_owned(),
            text: "compact".to_owned(),
            reason: "there is no secondary to begin with".to_owned(),
        }),
        Err(error) => draft.notes.push(format!(
            "The members could not be asked for, so there is no task `compact`: {}{}",
            with_causes(&error),
            error
                .hint()
                .map_or_else(String::new, |hint| format!(" ({hint})"))
        )),
    }
    for (name, cron, window, tasks) in [
        ("daily", "0 2 * * *", "02:00-05:00", nightly),
        ("weekly", "0 1 * * SUN", "Sun 01:00-05:00", weekly),
    ] {
        draft.schedules.push(DraftSchedule {
            name: name.to_owned(),
            cron: cron.to_owned(),
            tasks: tasks.iter().map(ToString::to_string).collect(),
            window: Some(window.to_owned()),
            zone: None,
            why: "When this database is quiet is not known: nights are a guess.".to_owned(),
        });
    }
    Ok(draft)
}

fn begin(session: &Session, variable: &str) -> Draft {
    let server = &session.server;
    let place = match &server.set {
        Some(set) => format!("replica set {set}"),
        None => "which stands alone".to_owned(),
    };
    Draft {
        about: vec![format!(
            "What maint looks after, and when. Written by `maint init` from the database {} on MongoDB {}, {place}. `maint check` says what is wrong with this file, `maint next` when things will run.",
            session.database(),
            server.version
        )],
        zone: (
            "UTC".to_owned(),
            "Every time here is UTC: name your own zone, such as Europe/Berlin.".to_owned(),
        ),
        targets: vec![DraftTarget {
            name: "app".to_owned(),
            engine: Engine::Mongodb,
            variable: variable.to_owned(),
            about: String::new(),
        }],
        ..Draft::default()
    }
}
