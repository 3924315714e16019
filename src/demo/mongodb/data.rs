//! Sessions, learning events and what the dashboard shows, a year old.

use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Client, IndexModel};

use super::super::DemoError;

/// The platform's database, and where its archive goes.
const CONTENT: &str = "content";
const ARCHIVE: &str = "content_archive";
/// Documents at scale 1.
const EVENTS: f64 = 250_000.0;
const SESSIONS: f64 = 50_000.0;
/// Documents of one insert.
const AT_ONCE: u64 = 5_000;
const DAY: i64 = 86_400_000;

/// How many documents a collection holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// `database.collection`.
    pub name: String,
    /// Of them all.
    pub documents: u64,
}

/// Fills the platform's database, `content`; `progress` is told each step as it begins.
///
/// # Errors
/// When the server refuses.
pub async fn load(client: &Client, scale: f64, progress: &dyn Fn(&str)) -> Result<(), DemoError> {
    let now = DateTime::now().timestamp_millis();
    let events = many(EVENTS, scale);
    progress("loading learning_events");
    fill(client, "learning_events", events, |n| {
        // The newest first, and evenly over a year.
        let age = n.cast_signed() * (360 * DAY / events.max(1).cast_signed());
        doc! {
            "_id": n.cast_signed(), "at": DateTime::from_millis(now - age),
            "user_id": mixed(n) % 5_000, "course_id": mixed(n + 1) % 40,
            "kind": if mixed(n) % 3 == 0 { "answer" } else { "view" },
        }
    })
    .await?;
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    client
        .database(CONTENT)
        .collection::<Document>("learning_events")
        .create_index(index)
        .await
        .map_err(failed("an index on learning_events"))?;
    progress("loading sessions");
    fill(client, "sessions", many(SESSIONS, scale), |n| {
        // Two of three have expired, and nothing removes them yet.
        let days = mixed(n) % 90 - 60;
        doc! { "_id": n.cast_signed(), "user_id": mixed(n) % 5_000, "expires_at": DateTime::from_millis(now + days * DAY) }
    })
    .await
}

/// What there is of the platform, by name.
///
/// # Errors
/// When the server cannot be asked.
pub async fn count(client: &Client) -> Result<Vec<Counted>, DemoError> {
    let mut counted = Vec::new();
    for (database, collection) in [
        (CONTENT, "dashboard_metrics"),
        (CONTENT, "learning_events"),
        (CONTENT, "sessions"),
        (ARCHIVE, "learning_events"),
    ] {
        let documents = client
            .database(database)
            .collection::<Document>(collection)
            .count_documents(doc! {})
            .await
            .map_err(failed("counting documents"))?;
        counted.push(Counted {
            name: format!("{database}.{collection}"),
            documents,
        });
    }
    Ok(counted)
}

async fn fill(
    client: &Client,
    name: &'static str,
    count: u64,
    document: impl Fn(u64) -> Document,
) -> Result<(), DemoError> {
    let collection = client.database(CONTENT).collection::<Document>(name);
    let mut from = 0;
    while from < count {
        let to = count.min(from + AT_ONCE);
        collection
            .insert_many((from..to).map(&document))
            .ordered(false)
            .await
            .map_err(failed(name))?;
        from = to;
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a scale is a small number, and none below zero makes sense"
)]
fn many(at_one: f64, scale: f64) -> u64 {
    (at_one * scale).max(10.0) as u64
}

/// Spreads numbers; the same ones every time.
fn mixed(n: u64) -> i64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 33).cast_signed()
}

fn failed(doing: &'static str) -> impl FnOnce(mongodb::error::Error) -> DemoError {
    move |source| DemoError::Mongodb {
        doing: doing.to_owned(),
        source: Box::new(source),
    }
}
