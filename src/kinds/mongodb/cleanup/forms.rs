//! Forms that ids of one type have: an ObjectId as text and a name are both texts, and none of them
//! is ever the id of a parent whose ids have another form.

use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};

use crate::engines::mongodb::{Limit, MongoError, Session, number};

/// How long counting orphans may take: every child is read, and its parent looked for.
pub(super) const COUNTING: Limit = Limit(Duration::from_secs(600));

/// Values of one type that are written in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// UUIDs as drivers have written them, then and now: the same number is another value.
    Uuid(BinarySubtype),
    /// Texts that this pattern fits, and no one before it.
    Text(&'static str),
    /// Texts of no form that is known.
    Other,
}

/// The forms of a type, as `$type` calls it, with what they are called.
fn forms(kind: &str) -> &'static [(&'static str, Form)] {
    match kind {
        "binData" => &[
            (
                "UUID of the old form (binary subtype 3)",
                Form::Uuid(BinarySubtype::UuidOld),
            ),
            ("UUID (binary subtype 4)", Form::Uuid(BinarySubtype::Uuid)),
        ],
        "string" | "symbol" => TEXTS,
        _ => &[],
    }
}

/// No text has two of these forms.
const TEXTS: &[(&str, Form)] = &[
    (
        "text of 24 hexadecimal digits",
        Form::Text(r"\A[0-9a-f]{24}\z"),
    ),
    (
        "text of 24 hexadecimal digits in capitals",
        Form::Text(r"\A(?![0-9]{24}\z)[0-9A-F]{24}\z"),
    ),
    (
        "text of 32 hexadecimal digits",
        Form::Text(r"\A[0-9a-f]{32}\z"),
    ),
    (
        "text of 32 hexadecimal digits in capitals",
        Form::Text(r"\A(?![0-9]{32}\z)[0-9A-F]{32}\z"),
    ),
    (
        "UUID as text",
        Form::Text(r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z"),
    ),
    (
        "UUID as text in capitals",
        Form::Text(
            r"\A(?![-0-9]{36}\z)[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\z",
        ),
    ),
    (
        "number as text",
        Form::Text(r"\A(?!(?:[0-9]{24}|[0-9]{32})\z)-?[0-9]+\z"),
    ),
    (
        "text that is no number, UUID or hexadecimal digits",
        Form::Other,
    ),
];

impl Form {
    /// Values of this form in a field.
    fn of(self, field: &str) -> Document {
        match self {
            // Binary values are in order by length, subtype, and content.
            Form::Uuid(subtype) => {
                let all = |byte: u8| Binary {
                    subtype,
                    bytes: vec![byte; 16],
                };
                doc! { field: { "$gte": all(0), "$lte": all(0xff) } }
            }
            Form::Text(pattern) => doc! { field: { "$regex": pattern } },
            Form::Other => {
                let known = TEXTS.iter().filter(|(_, form)| *form != Form::Other);
                let known: Vec<Document> = known.map(|(_, form)| form.of(field)).collect();
                doc! { field: { "$type": ["string", "symbol"] }, "$nor": known }
            }
        }
    }
}

/// Where values are: a database, a collection, a field.
pub(super) struct Place<'a> {
    pub(super) database: &'a str,
    pub(super) collection: &'a str,
    pub(super) field: &'a str,
}

/// The forms of a type that children have and no parent has: what they are called, how many children
/// have one, and which.
///
/// # Errors
/// When the server cannot be asked, or not in time.
pub(super) async fn unmet(
    db: &Session,
    kind: &str,
    (children, filter): (&Place<'_>, &Document),
    parents: &Place<'_>,
) -> Result<Vec<(String, i64, Document)>, MongoError> {
    let doing = "looking at what children point at";
    let is_there = async |place: &Place<'_>, filter: Document| {
        let find = doc! { "find": place.collection, "filter": filter, "limit": 1, "projection": { "_id": 1 } };
        let found = db.all_raw(doing, place.database, find, COUNTING).await?;
        Ok::<_, MongoError>(!found.is_empty())
    };
    let mut unmet = Vec::new();
    let mut met = Vec::new();
    // Mostly all have the forms that parents have, which is one question.
    for (name, form) in forms(kind) {
        let ours = form.of(children.field);
        let here = doc! { "$and": [filter.clone(), ours.clone()] };
        if !is_there(children, here.clone()).await? {
            continue;
        }
        if is_there(parents, form.of(parents.field)).await? {
            met.push(ours);
            let others = doc! { "$nor": met.clone(), children.field: { "$type": kind } };
            if !is_there(children, doc! { "$and": [filter.clone(), others] }).await? {
                break;
            }
            continue;
        }
        let count = doc! { "count": children.collection, "query": here };
        let counted = db
            .command(doing, children.database, count, COUNTING)
            .await?;
        if let Some(n @ 1..) = number(counted.get("n")) {
            unmet.push(((*name).to_owned(), n, ours));
        }
    }
    Ok(unmet)
}
