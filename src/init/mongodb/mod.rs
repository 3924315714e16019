//! Drafts for MongoDB: from names, sizes, indexes, and which fields hold dates. No value of a
//! document leaves the server.

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, Document, doc};

use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Members, Session, number};
use crate::init::yaml::{comment, quoted, scalar};
use crate::init::{Draft, DraftSchedule, DraftTarget, DraftTask, Left};
use crate::report::text::{counted, human_bytes, human_count, shown};
use crate::values::{Engine, with_causes};

/// A collection whose documents could be told by their age.
#[derive(Clone, Debug, Default)]
struct Collection {
    name: String,
    bytes: i64,
    documents: i64,
    indexes: Vec<Index>,
    /// Fields that hold dates in every document looked at.
    dates: Vec<String>,
    /// When its first document by `_id` was made, where that tells.
    since: Option<DateTime<Utc>>,
    /// Capped, a view, or of time series: nothing goes there one by one.
    special: bool,
}

#[derive(Clone, Debug)]
struct Index {
    /// The first of its fields, where all documents are in it.
    leads: Option<String>,
    /// Its only field, and after how many seconds documents expire.
    expires: Option<(String, i64)>,
}

/// So many collections are looked at closely.
const MOST: usize = 300;
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

/// The collections by name, and whether they are of a special kind.
async fn list(session: &Session) -> Result<Vec<(String, bool)>, EngineError> {
    let command = doc! { "listCollections": 1, "authorizedCollections": false };
    let found = session
        .all(
            "looking at collections",
            session.database(),
            command,
            Limit::ASIDE,
        )
        .await?;
    let mut all: Vec<(String, bool)> = found
        .iter()
        .filter_map(|document| {
            let name = document.get_str("name").ok()?.to_owned();
            let plain = document
                .get_str("type")
                .is_ok_and(|kind| kind == "collection");
            let options = document.get_document("options").ok();
            let capped = options.is_some_and(|o| o.get_bool("capped").unwrap_or(false));
            let own = name.starts_with("system.") || name.starts_with("maint.");
            (!own).then_some((name, !plain || capped))
        })
        .collect();
    all.sort();
    Ok(all)
}

async fn fill(session: &Session, collection: &mut Collection) -> Result<(), EngineError> {
    if collection.special {
        return Ok(());
    }
    let database = session.database();
    let listed = session
        .all(
            "looking at indexes",
            database,
            doc! { "listIndexes": collection.name.as_str() },
            Limit::ASIDE,
        )
        .await?;
    collection.indexes = listed.iter().map(index).collect();
    let of = |pipeline| {
        session.aggregate(
            "looking at a collection",
            database,
            &collection.name,
            pipeline,
            Limit::ASIDE,
        )
    };
    let stats = of(vec![doc! { "$collStats": { "storageStats": {} } }]).await?;
    if let Some(stats) = stats
        .first()
        .and_then(|d| d.get_document("storageStats").ok())
    {
        collection.bytes = number(stats.get("storageSize")).unwrap_or(0);
        collection.documents = number(stats.get("count")).unwrap_or(0);
    }
    // Names of fields and their types, of the newest documents; the values stay on the server.
    let types = of(vec![
        doc! { "$sort": { "_id": -1 } },
        doc! { "$limit": 50 },
        doc! { "$project": { "_id": 0, "f": { "$map": {
            "input": { "$objectToArray": "$$ROOT" },
            "in": { "k": "$$this.k", "t": { "$type": "$$this.v" } },
        } } } },
    ])
    .await?;
    collection.dates = dates(&types);
    let first = of(vec![
        doc! { "$sort": { "_id": 1 } },
        doc! { "$limit": 1 },
        doc! { "$match": { "_id": { "$type": "objectId" } } },
        doc! { "$project": { "_id": 0, "at": { "$toDate": "$_id" } } },
    ])
    .await?;
    collection.since = first
        .first()
        .and_then(|d| d.get_datetime("at").ok())
        .and_then(|at| DateTime::from_timestamp_millis(at.timestamp_millis()));
    Ok(())
}

fn index(document: &Document) -> Index {
    let keys = document.get_document("key").cloned().unwrap_or_default();
    let whole = !document.contains_key("partialFilterExpression")
        && !document.get_bool("hidden").unwrap_or(false)
        && !document.contains_key("collation");
    let first = keys
        .iter()
        .next()
        .filter(|(_, way)| matches!(number(Some(way)), Some(1 | -1)))
        .map(|(name, _)| name.clone());
    Index {
        expires: first
            .clone()
            .zip(number(document.get("expireAfterSeconds")))
            .filter(|_| keys.len() == 1 && whole),
        leads: first.filter(|_| whole),
    }
}

/// Fields that are dates wherever they are, and are in most of the documents.
fn dates(documents: &[Document]) -> Vec<String> {
    let mut seen: Vec<(String, usize, usize)> = Vec::new();
    for document in documents {
        let Ok(fields) = document.get_array("f") else {
            continue;
        };
        for field in fields.iter().filter_map(Bson::as_document) {
            let (Ok(name), Ok(kind)) = (field.get_str("k"), field.get_str("t")) else {
                continue;
            };
            // A dot or a dollar in a name cannot be asked for.
            if name.contains(['.', '$']) {
                continue;
            }
            let date = usize::from(kind == "date");
            match seen.iter_mut().find(|(known, ..)| known == name) {
                Some((_, all, dates)) => {
                    *all += 1;
                    *dates += date;
                }
                None => seen.push((name.to_owned(), 1, date)),
            }
        }
    }
    seen.into_iter()
        .filter(|(_, all, dates)| all == dates && all * 10 >= documents.len() * 9)
        .map(|(name, ..)| name)
        .collect()
}

/// Whether there are TTL indexes to look after.
fn ttl(draft: &mut Draft, collections: &[Collection]) -> bool {
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
fn cleanup(draft: &mut Draft, collections: &[Collection]) -> bool {
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
            why.push_str(&format!("; the first is of {}", since.format("%Y-%m")));
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_by_type_not_by_name() {
        let of = |fields: &[(&str, &str)]| {
            let fields: Vec<Document> = fields
                .iter()
                .map(|(k, t)| doc! { "k": *k, "t": *t })
                .collect();
            doc! { "f": fields }
        };
        let documents = [
            of(&[("at", "date"), ("created_at", "string"), ("maybe", "date")]),
            of(&[("at", "date"), ("created_at", "date")]),
        ];
        assert_eq!(dates(&documents), ["at"]);
    }
}
