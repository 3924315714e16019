//! What children point at, and whether that can be found among parents at all: an id of another
//! type, a field that no parent has, and an empty collection make an orphan of every child.

use std::collections::{BTreeMap, HashSet};

use mongodb::bson::{Bson, Document, doc};

use super::forms::{self, COUNTING};
use super::rule::Rule;
use crate::engines::mongodb::{MongoError, Session, fitting_of, key, namespace, number, size_of};
use crate::plan::mongodb::Orphans;

/// So many different values are looked up one after the other in another database.
const VALUES: usize = 1_000_000;
/// So many at once.
const CHUNK: usize = 1_000;

/// What was seen of the values that point at parents.
#[derive(Clone, Debug, Default)]
pub(super) struct Pointing {
    /// Types of values that parents have, too, as `$type` takes them.
    pub(super) met: Vec<String>,
    /// Types of values that no parent has, and how many.
    pub(super) strays: Vec<(String, i64)>,
    /// Conditions on values of a form that no parent has, though some have their type.
    pub(super) unmet: Vec<Document>,
    /// Documents with an array there, or around it: each may point at several parents.
    pub(super) arrays: i64,
    /// Whether some are references (DBRef).
    pub(super) references: bool,
    /// Whether there is no parent at all.
    pub(super) parent_is_empty: bool,
}

impl Pointing {
    /// Why nothing may go by the rule, if so.
    pub(super) fn refused(&self, rule: &Rule, of: &Orphans, collated: bool) -> Option<String> {
        let parent = namespace(&of.parent_database, &of.parent);
        let (field, parent_field) = (&of.field, &of.parent_field);
        if self.references {
            return Some(format!(
                "`{field}` holds references (DBRef) in some documents, which are not compared with `{parent_field}` of {parent}: leave those out with `where` or `keep`, or give them a field with the id alone"
            ));
        }
        if self.met.is_empty() && self.strays.is_empty() {
            return None;
        }
        if self.parent_is_empty && rule.max_share.is_none() {
            return Some(format!(
                "{parent} is empty, and every document would go; if that is right, say `max_share: 100%`"
            ));
        }
        if !self.parent_is_empty && self.met.is_empty() {
            return Some(format!(
                "`{field}` holds values of type {}, and no document of {parent} has one in `{parent_field}`: every document would go. Look at the spelling of both fields, and at the types of what is in them",
                self.strays
                    .iter()
                    .map(|(kind, _)| kind.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        let compared = self.met.iter().map(String::as_str);
        let mut compared = compared.chain(self.strays.iter().map(|(kind, _)| kind.as_str()));
        if collated && compared.any(|kind| matches!(kind, "string" | "symbol" | "object")) {
            return Some(format!(
                "it compares texts by a collation, and {parent} does not: equal is not the same for both sides"
            ));
        }
        None
    }

    /// Only children whose parent could be found if it were there.
    pub(super) fn within(&self, filter: Document, field: &str) -> Document {
        let mut parts = vec![
            filter,
            doc! { format!("{field}.$ref"): { "$exists": false } },
        ];
        // Who says that all may go where there is no parent means all.
        if !self.parent_is_empty {
            parts.push(doc! { field: { "$type": self.met.clone() } });
            parts.extend(
                self.unmet
                    .iter()
                    .map(|form| doc! { "$nor": [form.clone()] }),
            );
        }
        doc! { "$and": parts }
    }
}

/// Looks at what children point at; none where that takes too long.
pub(super) async fn look(
    db: &Session,
    collection: &str,
    database: &str,
    filter: &Document,
    of: &Orphans,
) -> Result<Option<Pointing>, MongoError> {
    match looked(db, collection, database, filter, of).await {
        Ok(pointing) => Ok(Some(pointing)),
        Err(error) if error.is_out_of_time() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn looked(
    db: &Session,
    collection: &str,
    database: &str,
    filter: &Document,
    of: &Orphans,
) -> Result<Pointing, MongoError> {
    let doing = "looking at what children point at";
    let mut pointing = Pointing::default();
    let field = of.field.as_str();
    let referring =
        doc! { "$and": [filter.clone(), { format!("{field}.$ref"): { "$exists": true } }] };
    let find =
        doc! { "find": collection, "filter": referring, "limit": 1, "projection": { "_id": 1 } };
    pointing.references = !db.all(doing, database, find, COUNTING).await?.is_empty();
    let stages = vec![
        doc! { "$match": filter.clone() },
        doc! { "$group": { "_id": { "$type": format!("${field}") }, "n": { "$sum": 1 } } },
    ];
    let command = doc! { "aggregate": collection, "pipeline": stages, "cursor": {} };
    let found = db.all(doing, database, command, COUNTING).await?;
    let mut kinds: BTreeMap<&str, i64> = BTreeMap::new();
    for group in &found {
        let kind = match group.get_str("_id").unwrap_or_default() {
            "int" | "long" | "double" | "decimal" => "number",
            "array" => {
                pointing.arrays += number(group.get("n")).unwrap_or(0);
                continue;
            }
            "missing" | "null" | "undefined" | "" => continue,
            kind => kind,
        };
        *kinds.entry(kind).or_default() += number(group.get("n")).unwrap_or(0);
    }
    let any = doc! { "find": &of.parent, "limit": 1, "projection": { "_id": 1 } };
    let any = db.all(doing, &of.parent_database, any, COUNTING).await?;
    pointing.parent_is_empty = any.is_empty();
    for (kind, n) in kinds {
        // The server holds a symbol and a string to be equal.
        let of_kind: &[&str] = match kind {
            "string" | "symbol" => &["string", "symbol"],
            _ => &[kind],
        };
        let filter = doc! { of.parent_field.as_str(): { "$type": of_kind.to_vec() } };
        let find =
            doc! { "find": &of.parent, "filter": filter, "limit": 1, "projection": { "_id": 1 } };
        let met = db.all(doing, &of.parent_database, find, COUNTING).await?;
        match met.is_empty() {
            true => pointing.strays.push((kind.to_owned(), n)),
            false => pointing.met.push(kind.to_owned()),
        }
    }
    let children = forms::Place {
        database,
        collection,
        field,
    };
    let parents = forms::Place {
        database: &of.parent_database,
        collection: &of.parent,
        field: &of.parent_field,
    };
    for kind in pointing.met.clone() {
        for (form, n, ours) in forms::unmet(db, &kind, (&children, filter), &parents).await? {
            pointing.strays.push((form, n));
            pointing.unmet.push(ours);
        }
    }
    Ok(pointing)
}

/// How many children have no parent in another database, which no aggregation reaches; none
/// where they point at too many different values to look each up.
pub(super) async fn count_elsewhere(
    db: &Session,
    collection: &str,
    database: &str,
    filter: &Document,
    of: &Orphans,
) -> Result<Option<i64>, MongoError> {
    let doing = "looking for orphans";
    let stages = vec![
        doc! { "$match": filter.clone() },
        doc! { "$group": { "_id": format!("${}", of.field), "n": { "$sum": 1 } } },
        doc! { "$match": { "_id": { "$not": { "$type": "array" } } } },
        doc! { "$limit": VALUES as i64 + 1 },
    ];
    let command =
        doc! { "aggregate": collection, "pipeline": stages, "cursor": {}, "allowDiskUse": true };
    let groups = match db.all(doing, database, command, COUNTING).await {
        Err(error) if error.is_out_of_time() => return Ok(None),
        groups => groups?,
    };
    if groups.len() > VALUES {
        return Ok(None);
    }
    let field = of.parent_field.as_str();
    let mut count = 0;
    let mut rest = groups.as_slice();
    while !rest.is_empty() {
        let sizes = rest.iter().take(CHUNK);
        let sizes = sizes.map(|d| d.get("_id").map_or(0, size_of));
        let (chunk, behind) = rest.split_at(fitting_of(sizes));
        rest = behind;
        let mut open: Vec<(Bson, i64)> = chunk
            .iter()
            .filter_map(|d| Some((d.get("_id")?.clone(), number(d.get("n"))?)))
            .collect();
        let values: Vec<Bson> = open.iter().map(|(value, _)| value.clone()).collect();
        let find = doc! {
            "find": &of.parent, "filter": { field: { "$in": values } }, "projection": { "_id": 0, field: 1 },
        };
        let parents = db.all(doing, &of.parent_database, find, COUNTING).await?;
        let known: HashSet<String> = parents
            .iter()
            .filter_map(|d| at(d, field))
            .map(key)
            .collect();
        open.retain(|(value, _)| !known.contains(&key(value)));
        // What is equal without looking it is for the server to say: mostly that is nothing.
        let mut parts = vec![open];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let values: Vec<Bson> = part.iter().map(|(value, _)| value.clone()).collect();
            let find = doc! {
                "find": &of.parent, "filter": { field: { "$in": values } }, "limit": 1, "projection": { "_id": 1 },
            };
            let there = db.all(doing, &of.parent_database, find, COUNTING).await?;
            if there.is_empty() {
                count += part.iter().map(|(_, n)| n).sum::<i64>();
            } else if part.len() > 1 {
                let (one, other) = part.split_at(part.len() / 2);
                parts.push(one.to_vec());
                parts.push(other.to_vec());
            }
        }
    }
    Ok(Some(count))
}

fn at<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    let mut parts = path.split('.');
    let mut value = document.get(parts.next()?)?;
    for part in parts {
        value = value.as_document()?.get(part)?;
    }
    Some(value)
}
