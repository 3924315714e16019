//! What a document's values are in an index: of an array each element, of what is not there null,
//! and of fields below the same array those of one element together.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};

/// Stages that give one document where values of these fields are in several documents.
pub(super) fn duplicates(fields: &[String]) -> Vec<Document> {
    let paths = fields.iter().enumerate();
    let paths: Vec<Path<'_>> = paths
        .map(|(n, field)| (format!("f{n}"), field.split('.').collect()))
        .collect();
    let keys = Keys::default().of("$$ROOT", &paths);
    vec![
        // What a document has twice is one entry.
        doc! { "$project": { "maint_key": { "$setUnion": [keys, []] } } },
        doc! { "$unwind": "$maint_key" },
        doc! { "$group": { "_id": "$maint_key", "n": { "$sum": 1 }, "first": { "$first": "$_id" } } },
        doc! { "$match": { "n": { "$gt": 1 } } },
        doc! { "$group": { "_id": Bson::Null, "n": { "$sum": 1 } } },
    ]
}

/// The name of a value in an entry, and the way to it.
type Path<'a> = (String, Vec<&'a str>);

/// Makes expressions, with a name of its own for each variable.
#[derive(Default)]
struct Keys {
    variables: u32,
}

impl Keys {
    fn variable(&mut self) -> String {
        self.variables += 1;
        format!("v{}", self.variables)
    }

    /// An array of the entries for these paths below `at`, which is no array.
    fn of(&mut self, at: &str, paths: &[Path<'_>]) -> Bson {
        // By the first part: which end there, and which go on.
        let mut parts: BTreeMap<&str, (Vec<String>, Vec<Path<'_>>)> = BTreeMap::new();
        for (name, path) in paths {
            let Some((part, rest)) = path.split_first() else {
                continue;
            };
            let (ended, further) = parts.entry(*part).or_default();
            match rest {
                [] => ended.push(name.clone()),
                rest => further.push((name.clone(), rest.to_vec())),
            }
        }
        let mut all: Option<Bson> = None;
        for (part, (ended, further)) in parts {
            let below = self.below(&format!("{at}.{part}"), &ended, &further);
            all = Some(match all {
                Some(all) => self.crossed(&all, &below),
                None => below,
            });
        }
        all.unwrap_or_else(|| Bson::Document(doc! { "$literal": [{}] }))
    }

    /// The entries for a value: each element of an array, and of an empty one what no value is.
    fn below(&mut self, at: &str, ended: &[String], further: &[Path<'_>]) -> Bson {
        let (value, element, entry) = (self.variable(), self.variable(), self.variable());
        let (value_is, element_is) = (format!("$${value}"), format!("$${element}"));
        // What ends here is the element itself; an array within an array has no fields.
        let fields = doc! { "$cond": [{ "$isArray": &element_is }, Bson::Null, &element_is] };
        let each = doc! { "$map": {
            "input": &value_is, "as": &element, "in": { "itself": &element_is, "fields": fields },
        } };
        let none = doc! { "$literal": [{ "itself": { "maint": "an empty array" }, "fields": Bson::Null }] };
        let empty = doc! { "$eq": [{ "$size": &value_is }, 0] };
        let elements = doc! { "$let": { "vars": { &value: at }, "in": { "$cond": [
            { "$isArray": &value_is },
            { "$cond": [empty, none, each] },
            [{ "itself": &value_is, "fields": &value_is }],
        ] } } };
        let itself = format!("$${entry}.itself");
        let own: Document = ended
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    doc! { "$ifNull": [&itself, Bson::Null] }.into(),
                )
            })
            .collect();
        let own = match own.is_empty() {
            true => Bson::Document(doc! { "$literal": [{}] }),
            false => Bson::Array(vec![own.into()]),
        };
        let entries = match further {
            [] => own,
            further => {
                let further = self.of(&format!("$${entry}.fields"), further);
                self.crossed(&own, &further)
            }
        };
        gathered(elements.into(), &entry, entries)
    }

    /// Every entry of one with every entry of the other.
    fn crossed(&mut self, one: &Bson, other: &Bson) -> Bson {
        let (first, second) = (self.variable(), self.variable());
        let merged = doc! { "$mergeObjects": [format!("$${first}"), format!("$${second}")] };
        let each = doc! { "$map": { "input": other.clone(), "as": &second, "in": merged } };
        gathered(one.clone(), &first, each.into())
    }
}

/// What `each` gives for every one of `all`, in one array.
fn gathered(all: Bson, name: &str, each: Bson) -> Bson {
    let each = doc! { "$let": { "vars": { name: "$$this" }, "in": each } };
    let joined = doc! { "$concatArrays": ["$$value", each] };
    Bson::Document(doc! { "$reduce": { "input": all, "initialValue": [], "in": joined } })
}
