//! Columns of Parquet files where none are declared: from a look at documents.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use mongodb::bson::{Document, doc};

use crate::engines::mongodb::{Field, FieldType, Limit, MongoError, Session};
use crate::plan::mongodb::{LONGEST_NAME, Manifest};
use crate::plan::{Finding, Severity};

/// How many documents are looked at, of those that come first and of any.
const LOOKED_AT: i32 = 1_000;
/// Larger documents, in bytes, are not looked at.
const LARGE: i32 = 1 << 20;
/// More columns help nobody; the other fields are in the column of what is left.
const MOST: usize = 200;

/// Types of fields, and in how many of the documents looked at, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    fields: BTreeMap<String, BTreeMap<String, i64>>,
    /// In how many there is a field whose name is no valid UTF-8: no column can have it.
    nameless: i64,
}

/// The columns of a file, and what is to be known of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Schema {
    pub(super) fields: Vec<Field>,
    /// Values that have no place in the column of their field, in words.
    pub(super) misfits: Vec<String>,
    /// The column of what has none of its own.
    pub(super) rest: String,
    /// Whether some documents have a field whose name is no valid UTF-8.
    pub(super) nameless: bool,
}

/// How long documents may be chosen by chance.
const SAMPLING: Limit = Limit(Duration::from_secs(2));

/// Looks at documents that meet the condition: the first, and some of all. None where that takes
/// too long.
pub(super) async fn look(
    db: &Session,
    (database, collection): &(String, String),
    condition: &Document,
    limit: Limit,
) -> Result<Option<Seen>, MongoError> {
    let mut seen = Seen::default();
    let first = [
        doc! { "$match": condition.clone() },
        doc! { "$limit": LOOKED_AT },
    ];
    let some = [
        doc! { "$sample": { "size": LOOKED_AT } },
        doc! { "$match": condition.clone() },
    ];
    for (chosen, limit) in [(first, limit), (some, SAMPLING)] {
        let mut stages = chosen.to_vec();
        // What the largest have would be in the server's memory several times over.
        let size = doc! { "$bsonSize": "$$ROOT" };
        stages.push(doc! { "$match": { "$expr": { "$lt": [size, LARGE] } } });
        let is_binary = doc! { "$eq": [{ "$type": "$maint_f.v" }, "binData"] };
        // What is not of that subtype has no place in the column then, and is told in another.
        let is_uuid =
            doc! { "$eq": [{ "$cond": [is_binary, { "$binarySize": "$maint_f.v" }, 0] }, 16] };
        let kind = doc! { "$cond": [is_uuid, "uuid", { "$type": "$maint_f.v" }] };
        stages.extend([
            doc! { "$project": { "_id": 0, "maint_f": { "$objectToArray": "$$ROOT" } } },
            doc! { "$unwind": "$maint_f" },
            doc! { "$group": { "_id": { "name": "$maint_f.k", "type": kind }, "n": { "$sum": 1 } } },
        ]);
        let doing = "looking at fields and their types";
        let command = doc! { "aggregate": collection, "pipeline": stages, "cursor": {}, "allowDiskUse": true };
        let found = match db.all_raw(doing, database, command, limit).await {
            // Where many documents have just gone, chance meets none for long.
            Err(error) if error.is_out_of_time() && limit == SAMPLING => break,
            Err(error) if error.is_out_of_time() => return Ok(None),
            found => found?,
        };
        for group in found {
            let n = group.get("n").ok().flatten();
            let n = n.and_then(|n| n.as_i64().or_else(|| n.as_i32().map(i64::from)));
            let (Ok(id), Some(n)) = (group.get_document("_id"), n) else {
                continue;
            };
            if let (Ok(name), Ok(kind)) = (id.get_str("name"), id.get_str("type")) {
                *seen
                    .fields
                    .entry(name.to_owned())
                    .or_default()
                    .entry(kind.to_owned())
                    .or_default() += n;
            } else {
                seen.nameless += n;
            }
        }
    }
    Ok(Some(seen))
}

/// The columns that the newest of these files has: a field keeps its type, so that all files can
/// be read as one.
pub(super) fn known(
    manifests: &[Manifest],
    (database, collection): &(String, String),
) -> Vec<Field> {
    let mut of = manifests.iter().rev();
    let newest = of.find(|manifest| {
        manifest.database == *database
            && manifest.collection == *collection
            && manifest
                .columns
                .iter()
                .any(|field| field.kind == FieldType::Rest)
    });
    newest
        .map(|manifest| manifest.columns.clone())
        .unwrap_or_default()
}

impl Seen {
    /// A column for each field that is mostly of a type that columns have, after those that are
    /// `known`, and one of what has no place there.
    pub(super) fn schema(&self, known: Vec<Field>) -> Schema {
        let is_rest = |field: &Field| field.kind == FieldType::Rest;
        let rest = known.iter().find(|field| is_rest(field));
        let rest = rest.map(|field| field.name.clone());
        let mut fields: Vec<Field> = known.into_iter().filter(|field| !is_rest(field)).collect();
        // Names of columns are one where only their letters' case differs.
        let mut taken: HashSet<String> =
            fields.iter().map(|f| f.name.to_ascii_lowercase()).collect();
        taken.extend(["_id".to_owned()].into_iter().chain(rest.clone()));
        let mut most: Vec<(&String, FieldType, i64)> = self
            .fields
            .iter()
            .filter_map(|(name, kinds)| {
                let (kind, n) = usual(kinds)?;
                Some((name, kind, n))
            })
            .collect();
        most.sort_by_key(|(name, _, n)| (std::cmp::Reverse(*n), *name));
        let mut new: Vec<Field> = Vec::new();
        for (name, kind, _) in most {
            let fits = !name.is_empty() && name.len() <= LONGEST_NAME;
            if fits && fields.len() + new.len() < MOST && taken.insert(name.to_ascii_lowercase()) {
                let name = name.clone();
                new.push(Field { name, kind });
            }
        }
        new.sort_by(|a, b| a.name.cmp(&b.name));
        fields.extend(new);
        let mut misfits = Vec::new();
        for field in &fields {
            for (kind, n) in self.fields.get(&field.name).into_iter().flatten() {
                if !matches!(kind.as_str(), "null" | "undefined" | "missing")
                    && !field.kind.takes(kind)
                {
                    misfits.push(format!(
                        "`{}` is {} here, and of type {kind} in {n}",
                        field.name, field.kind
                    ));
                }
            }
        }
        let nameless = self.nameless > 0;
        let rest = rest.unwrap_or_else(|| {
            let mut name = "rest".to_owned();
            while taken.contains(&name) || self.fields.contains_key(&name) {
                name.push('_');
            }
            name
        });
        fields.push(Field {
            name: rest.clone(),
            kind: FieldType::Rest,
        });
        Schema {
            fields,
            misfits,
            rest,
            nameless,
        }
    }
}

impl Schema {
    /// The columns, for who reads the plan.
    pub(super) fn told(&self) -> String {
        let shown = |field: &Field| format!("{} {}", field.name, field.kind);
        let columns: Vec<String> = self.fields.iter().map(shown).collect();
        format!("columns, as documents suggest: {}", columns.join(", "))
    }

    /// That some values are not in the column of their field.
    pub(super) fn finding(&self, object: &str) -> Option<Finding> {
        let mut told = Vec::new();
        if !self.misfits.is_empty() {
            told.push(format!(
                "some values of the documents looked at have no place in the column of their field: {}. They are in `{}`, as extended JSON, and in the whole document",
                self.misfits.join("; "),
                self.rest
            ));
        }
        if self.nameless {
            told.push("some of the documents looked at have a field whose name is no valid UTF-8, as old drivers have written: from there on such a document is in the column of whole documents alone".to_owned());
        }
        (!told.is_empty()).then(|| Finding {
            code: "archive.types".to_owned(),
            severity: Severity::Info,
            object: object.to_owned(),
            message: told.join("; "),
            suggestion: None,
        })
    }
}

/// The type that most values have, of those that columns have, and how many have it. Whole numbers
/// and others together are numbers.
fn usual(kinds: &BTreeMap<String, i64>) -> Option<(FieldType, i64)> {
    let of = |names: &[&str]| {
        names
            .iter()
            .filter_map(|name| kinds.get(*name))
            .sum::<i64>()
    };
    let numbers = match (of(&["int", "long"]), of(&["double"])) {
        (_, 0) => FieldType::Long,
        (0, _) => FieldType::Double,
        _ => FieldType::Number,
    };
    let all = [
        (numbers, of(&["int", "long", "double"])),
        (FieldType::Bool, of(&["bool"])),
        (FieldType::Date, of(&["date"])),
        (FieldType::String, of(&["string"])),
        (FieldType::ObjectId, of(&["objectId"])),
        (FieldType::Uuid, of(&["uuid"])),
        (FieldType::Decimal, of(&["decimal"])),
    ];
    let most = all.into_iter().rev().max_by_key(|(_, n)| *n)?;
    // What is mostly something else, such as a document, is better looked for in one place.
    let others: i64 = kinds
        .iter()
        .filter(|(kind, _)| !matches!(kind.as_str(), "null" | "undefined" | "missing"))
        .map(|(_, n)| n)
        .sum();
    (most.1 > 0 && most.1 * 2 >= others).then_some(most)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn seen(fields: &[(&str, &[(&str, i64)])]) -> Seen {
        let of = |kinds: &[(&str, i64)]| {
            kinds
                .iter()
                .map(|(kind, n)| ((*kind).to_owned(), *n))
                .collect()
        };
        Seen {
            fields: fields
                .iter()
                .map(|(name, kinds)| ((*name).to_owned(), of(kinds)))
                .collect(),
            nameless: 0,
        }
    }

    fn shown(schema: &Schema) -> Vec<String> {
        schema
            .fields
            .iter()
            .map(|f| format!("{} {}", f.name, f.kind))
            .collect()
    }

    #[test]
    fn a_field_has_the_type_that_most_values_have() {
        let schema = seen(&[
            ("_id", &[("objectId", 10)]),
            ("at", &[("date", 9), ("string", 1), ("null", 5)]),
            ("n", &[("int", 5), ("long", 5)]),
            ("price", &[("int", 5), ("double", 4), ("decimal", 1)]),
            ("who", &[("uuid", 10)]),
            ("nested", &[("object", 9), ("string", 1)]),
            ("tags", &[("array", 10)]),
            ("rest", &[("bool", 3)]),
            ("REST", &[("bool", 2)]),
            ("", &[("bool", 2)]),
        ])
        .schema(Vec::new());
        assert_eq!(
            shown(&schema),
            [
                "at date",
                "n long",
                "price number",
                "rest bool",
                "who uuid",
                "rest_ rest"
            ]
        );
        assert_eq!(
            schema.misfits,
            [
                "`at` is date here, and of type string in 1",
                "`price` is number here, and of type decimal in 1"
            ]
        );
    }

    #[test]
    fn a_field_keeps_the_type_that_earlier_files_have() {
        let first = seen(&[("a", &[("int", 3)]), ("b", &[("string", 3)])]).schema(Vec::new());
        assert_eq!(shown(&first), ["a long", "b string", "rest rest"]);
        let then = seen(&[("a", &[("string", 3)]), ("aa", &[("bool", 1)])]).schema(first.fields);
        assert_eq!(shown(&then), ["a long", "b string", "aa bool", "rest rest"]);
        assert_eq!(then.misfits, ["`a` is long here, and of type string in 3"]);
    }

    #[test]
    fn there_are_not_more_columns_than_help() {
        let names: Vec<String> = (0..500).map(|n| format!("f{n}")).collect();
        let kinds: [(&str, i64); 1] = [("bool", 1)];
        let fields: Vec<(&str, &[(&str, i64)])> =
            names.iter().map(|n| (n.as_str(), &kinds[..])).collect();
        assert_eq!(seen(&fields).schema(Vec::new()).fields.len(), MOST + 1);
    }
}
