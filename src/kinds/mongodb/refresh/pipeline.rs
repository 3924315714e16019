//! What a pipeline reads, and where its result goes.

use crate::plan::Unfit;
use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document};

use super::super::common::{Collection, Index, Shape};
use super::Aggregation;
use crate::engines::mongodb::{misnamed, misnamed_database, number};

/// Stages that answer only when they have read everything.
const WAITS_FOR_ALL: &[&str] = &[
    "$group",
    "$sort",
    "$bucket",
    "$bucketAuto",
    "$sortByCount",
    "$count",
    "$facet",
];

impl Aggregation {
    /// Whether it makes sense by itself.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        let of = &self.collection;
        let at = |why: String| Unfit::at("pipeline", why);
        let stages = self.pipeline.iter().enumerate().map(|(n, stage)| {
            let n = n + 1;
            let document = stage.document().map_err(|why| {
                format!("stage {n} of the pipeline from `{of}` is no document: {why}")
            })?;
            match document.len() == 1 && document.keys().all(|key| key.starts_with('$')) {
                true => Ok(()),
                false => Err(format!(
                    "stage {n} of the pipeline from `{of}` is no stage: expected one key that begins with `$`"
                )),
            }
        });
        Unfit::each("pipeline", stages)?;
        let Some(into) = self.result("") else {
            return Err(at(format!(
                "the pipeline from `{of}` keeps its result nowhere: end it with `$merge` or `$out`"
            )));
        };
        if let Some(why) = misplaced(&into) {
            return Err(at(format!("the pipeline from `{of}` {why}")));
        }
        // What the views of the database read is only known there.
        match self.overwrites("", &into, &BTreeMap::new()) {
            Some(why) => Err(at(format!("the pipeline from `{of}` {why}"))),
            None => Ok(()),
        }
    }

    pub(super) fn database<'a>(&'a self, own: &'a str) -> &'a str {
        self.database.as_deref().unwrap_or(own)
    }

    /// Where the result goes.
    pub(super) fn result(&self, own: &str) -> Option<(String, String)> {
        let last = self.pipeline.last()?.document().ok()?;
        let (stage, value) = last.into_iter().next()?;
        let database = self.database(own);
        let value = match (stage.as_str(), value) {
            ("$out", value) => value,
            ("$merge", Bson::Document(options)) => options.get("into").cloned()?,
            ("$merge", value) => value,
            _ => return None,
        };
        match value {
            Bson::String(name) => Some((database.to_owned(), name)),
            Bson::Document(at) => Some((
                at.get_str("db").unwrap_or(database).to_owned(),
                at.get_str("coll").ok()?.to_owned(),
            )),
            _ => None,
        }
    }

    /// Every collection that it reads.
    pub(super) fn sources(&self, own: &str) -> Vec<(String, String)> {
        let database = self.database(own);
        let mut names = vec![self.collection.clone()];
        for stage in &self.pipeline {
            if let Ok(stage) = stage.document() {
                read_by(&stage, &mut names);
            }
        }
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| (database.to_owned(), name))
            .collect()
    }

    /// Whether the result depends on something besides the documents.
    pub(super) fn depends_on_time(&self) -> bool {
        let text: String = self
            .pipeline
            .iter()
            .map(|stage| stage.0.to_string())
            .collect();
        [
            "$$NOW",
            "$$CLUSTER_TIME",
            "$rand",
            "$sample",
            "$function",
            "$accumulator",
            "$where",
        ]
        .iter()
        .any(|word| text.contains(word))
    }

    /// Why it must not run, where its result would get in the way of what it reads, also through
    /// a view. `$out` replaces its source. `$merge` may write to a collection that it reads, and the
    /// server then may read what it has just written, again and again: unless everything was read
    /// before the first document is written, or it only changes the documents that it has read.
    pub(super) fn overwrites(
        &self,
        own: &str,
        into: &(String, String),
        views: &BTreeMap<(String, String), Vec<String>>,
    ) -> Option<String> {
        let database = self.database(own);
        if into.0 != database {
            return None;
        }
        let reads = |names: Vec<String>| through_views(names, database, views).contains(&into.1);
        let stages: Vec<Document> = self
            .pipeline
            .iter()
            .filter_map(|stage| stage.document().ok())
            .collect();
        let (last, before) = stages.split_last()?;
        let Some(merge) = last.get("$merge") else {
            let sources = self.sources(own).into_iter().map(|(_, name)| name);
            return reads(sources.collect()).then(|| {
                format!(
                    "ends in `$out` to `{}`, which it reads itself: what it reads would be lost. Let it write to another collection",
                    into.1
                )
            });
        };
        // Whatever comes before such a stage has been read to its end when the stage answers.
        let waits = before.iter().rposition(|stage| {
            stage
                .keys()
                .any(|key| WAITS_FOR_ALL.contains(&key.as_str()))
        });
        let mut late = Vec::new();
        if waits.is_none() {
            late.push(self.collection.clone());
        }
        let rest = before
            .get(waits.map_or(0, |at| at + 1)..)
            .unwrap_or_default();
        let mut looked_up = Vec::new();
        rest.iter().for_each(|stage| read_by(stage, &mut looked_up));
        let inserts = match merge {
            Bson::Document(merge) => {
                !matches!(merge.get_str("whenNotMatched"), Ok("discard" | "fail"))
            }
            _ => true,
        };
        let looks = reads(looked_up);
        (looks || (inserts && reads(late))).then(|| {
            let help = match looks {
                true => "Look it up before a `$group` or a `$sort`, or let it write to another collection",
                false => "Say `whenNotMatched: discard` if it only changes documents that are there, or let it write to another collection",
            };
            format!(
                "ends in `$merge` into `{}`, which it still reads then: it could meet what it has just written, and never end. {help}",
                into.1
            )
        })
    }

    /// Whether its result takes the place of all that is there.
    pub(super) fn replaces(&self) -> bool {
        let last = self.pipeline.last().and_then(|last| last.document().ok());
        last.is_some_and(|last| last.contains_key("$out"))
    }

    /// Why the server would not write to what is there, if so.
    pub(super) fn unfit(&self, into: &Collection) -> Option<&'static str> {
        match (into.shape, self.replaces()) {
            (Shape::View, _) => Some("it is a view, and nothing can be written to one"),
            (Shape::Capped, true) => Some("it is capped, and `$out` replaces no such collection"),
            (Shape::TimeSeries, false) => {
                Some("it is a time-series collection, and `$merge` writes to none")
            }
            _ => None,
        }
    }

    /// The fields that `$merge` goes on, where no unique index of what is there has exactly those;
    /// the server takes `_id` without asking.
    pub(super) fn lacks_unique(&self, into: Option<&Collection>) -> Option<Vec<String>> {
        let last = self.pipeline.last()?.document().ok()?;
        let mut on = match last.get_document("$merge").ok()?.get("on")? {
            Bson::String(field) => vec![field.clone()],
            Bson::Array(fields) => fields
                .iter()
                .filter_map(|field| field.as_str().map(str::to_owned))
                .collect(),
            _ => return None,
        };
        on.sort();
        let is_it = |index: &Index| {
            let mut keys: Vec<&String> = index.keys.iter().map(|(name, _)| name).collect();
            keys.sort();
            index.unique && !index.partial && keys.into_iter().eq(&on)
        };
        let indexes = into.map(|into| into.indexes.as_slice()).unwrap_or_default();
        (on != ["_id"] && !indexes.iter().any(is_it)).then_some(on)
    }

    /// Whether a second time gives what the first gave, also where the first was broken off.
    pub(super) fn repeatable(
        &self,
        own: &str,
        into: &(String, String),
        views: &BTreeMap<(String, String), Vec<String>>,
    ) -> bool {
        let stages: Vec<Document> = self
            .pipeline
            .iter()
            .filter_map(|stage| stage.document().ok())
            .collect();
        let Some((last, before)) = stages.split_last() else {
            return false;
        };
        let Some(merge) = last.get("$merge") else {
            return true;
        };
        let nothing = Document::new();
        let merge = merge.as_document().unwrap_or(&nothing);
        let fails = |key| merge.get_str(key).is_ok_and(|does| does == "fail");
        let adds = match merge.get("whenMatched") {
            // With `let`, its names may stand for anything.
            Some(Bson::Array(stages)) => {
                merge.contains_key("let") || stages.iter().any(reads_what_is_there)
            }
            _ => false,
        };
        let on_id = match merge.get("on") {
            None => true,
            Some(Bson::String(field)) => field == "_id",
            Some(Bson::Array(fields)) => fields.iter().all(|field| field.as_str() == Some("_id")),
            Some(_) => false,
        };
        // What has no `_id` gets another one each time.
        let inserts = merge.get_str("whenNotMatched").unwrap_or("insert") == "insert";
        let database = self.database(own);
        let names = self.sources(own).into_iter().map(|(_, name)| name);
        let reads_itself =
            into.0 == database && through_views(names.collect(), database, views).contains(&into.1);
        let anew = on_id && inserts && lacks_id(before);
        !(adds || fails("whenMatched") || fails("whenNotMatched") || reads_itself || anew)
    }
}

/// Whether a stage of `whenMatched` looks at the document that is there, so that a second time may
/// give something else; not if it takes all from the one that comes.
fn reads_what_is_there(stage: &Bson) -> bool {
    match stage {
        Bson::String(text) => {
            let of_the_new = ["$$new", "$$NOW", "$$CLUSTER_TIME", "$$REMOVE"];
            text.starts_with('$')
                && !of_the_new.iter().any(|name| {
                    let rest = text.strip_prefix(name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
        }
        Bson::Document(document) => document.iter().any(|(key, value)| {
            // These read it without a sign of it.
            matches!(key.as_str(), "$getField" | "$function" | "$rand")
                || reads_what_is_there(value)
        }),
        Bson::Array(values) => values.iter().any(reads_what_is_there),
        _ => false,
    }
}

/// Whether documents may come out of these stages without an `_id`.
fn lacks_id(stages: &[Document]) -> bool {
    let is_off = |value: &Bson| *value == Bson::Boolean(false) || number(Some(value)) == Some(0);
    let is_on =
        |value: &Bson| matches!(value, Bson::Boolean(true)) || number(Some(value)).is_some();
    stages.iter().fold(false, |lacks, stage| {
        let Some((name, what)) = stage.iter().next() else {
            return lacks;
        };
        let id = what.as_document().and_then(|what| what.get("_id"));
        match name.as_str() {
            "$group" | "$bucket" | "$bucketAuto" | "$sortByCount" => false,
            "$count" | "$facet" | "$replaceRoot" | "$replaceWith" | "$densify" | "$documents" => {
                !what
                    .as_document()
                    .map(|what| what.get_document("newRoot").unwrap_or(what))
                    .is_some_and(|root| root.contains_key("_id"))
            }
            "$project" => id.map_or(lacks, |id| is_off(id) || (lacks && is_on(id))),
            "$set" | "$addFields" => lacks && id.is_none(),
            "$unset" => {
                let unset = |value: &Bson| value.as_str() == Some("_id");
                lacks
                    || unset(what)
                    || what
                        .as_array()
                        .is_some_and(|fields| fields.iter().any(unset))
            }
            _ => lacks,
        }
    })
}

/// Why no result may go there; a database that is not named is the target's own.
fn misplaced((database, collection): &(String, String)) -> Option<String> {
    if let Some(why) = misnamed(collection) {
        return Some(format!("keeps its result in `{collection}`, which {why}"));
    }
    let database = Some(database).filter(|name| !name.is_empty())?;
    let why = misnamed_database(database)?;
    Some(format!(
        "keeps its result in the database `{database}`, which {why}"
    ))
}

/// Why results get into each other's way, by the collection that they go to: what `$out` puts there
/// is all that is there.
pub(super) fn clashing(
    aggregations: &[Aggregation],
    own: &str,
) -> BTreeMap<(String, String), String> {
    let mut into: BTreeMap<(String, String), Vec<&Aggregation>> = BTreeMap::new();
    for aggregation in aggregations {
        if let Some(result) = aggregation.result(own) {
            into.entry(result).or_default().push(aggregation);
        }
    }
    let clash = |all: &[&Aggregation]| all.len() > 1 && all.iter().any(|one| one.replaces());
    into.into_iter()
        .filter(|(_, all)| clash(all))
        .map(|(place, all)| {
            let from: Vec<String> = all.iter().map(|a| format!("`{}`", a.collection)).collect();
            let why = format!(
                "the pipelines from {} keep their results in one collection, `{}`, and `$out` replaces what the others have made: end each with `$merge`, or let them write to collections of their own",
                from.join(" and "),
                place.1
            );
            (place, why)
        })
        .collect()
}

/// Collections that a stage, or one within it, reads.
fn read_by(document: &Document, names: &mut Vec<String>) {
    for (key, value) in document {
        match (key.as_str(), value) {
            ("$lookup" | "$graphLookup", Bson::Document(lookup)) => {
                if let Ok(from) = lookup.get_str("from") {
                    names.push(from.to_owned());
                }
                read_by(lookup, names);
            }
            ("$unionWith", Bson::String(name)) => names.push(name.clone()),
            ("$unionWith", Bson::Document(union)) => {
                if let Ok(name) = union.get_str("coll") {
                    names.push(name.to_owned());
                }
                read_by(union, names);
            }
            (_, Bson::Document(inner)) => read_by(inner, names),
            (_, Bson::Array(values)) => values
                .iter()
                .filter_map(Bson::as_document)
                .for_each(|d| read_by(d, names)),
            _ => {}
        }
    }
}

/// What a view reads, directly.
pub(super) fn read_by_view(options: &Document) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(on) = options.get_str("viewOn") {
        names.push(on.to_owned());
    }
    if let Ok(stages) = options.get_array("pipeline") {
        let stages = stages.iter().filter_map(Bson::as_document);
        stages.for_each(|stage| read_by(stage, &mut names));
    }
    names
}

/// These, and all that is read where they are views.
fn through_views(
    mut names: Vec<String>,
    database: &str,
    views: &BTreeMap<(String, String), Vec<String>>,
) -> Vec<String> {
    let mut at = 0;
    while let Some(name) = names.get(at) {
        let more = views.get(&(database.to_owned(), name.clone()));
        for name in more.into_iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        at += 1;
    }
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::super::Refresh;
    use super::*;
    use crate::plan::Kind;

    fn refresh(pipeline: Value) -> Refresh {
        let options = json!({ "aggregations": [{ "collection": "events", "pipeline": pipeline }] });
        serde_json::from_value(options).unwrap()
    }

    #[test]
    fn results_go_to_no_collection_of_maint_or_the_server() {
        for (last, said) in [
            (json!({ "$out": "maint.claims" }), "belongs to maint"),
            (
                json!({ "$out": { "db": "other", "coll": "maint.archives" } }),
                "belongs to maint",
            ),
            (json!({ "$merge": "maint.archives" }), "belongs to maint"),
            (
                json!({ "$merge": { "into": { "db": "other", "coll": "maint.claims" } } }),
                "belongs to maint",
            ),
            (json!({ "$out": "system.views" }), "belongs to the server"),
            (
                json!({ "$out": { "db": "admin", "coll": "x" } }),
                "belongs to the server",
            ),
            (json!({ "$out": "maintenance" }), ""),
        ] {
            let checked = refresh(json!([{ "$group": { "_id": 1 } }, last])).check();
            let why = checked.err().map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(why.is_empty(), said.is_empty(), "{last}: {why}");
            assert!(why.contains(said), "{last}: {why}");
        }
    }

    #[test]
    fn several_merge_into_one_and_out_is_alone() {
        let both = |first: Value, second: Value| {
            let one = |last: Value| json!({ "collection": "a", "pipeline": [{ "$group": { "_id": 1 } }, last] });
            let options = json!({ "aggregations": [one(first), one(second)] });
            let kind: Refresh = serde_json::from_value(options).unwrap();
            kind.check().err().map(|e| e.to_string())
        };
        let (out, merge) = (json!({ "$out": "o" }), json!({ "$merge": "o" }));
        for (first, second) in [(&out, &out), (&out, &merge), (&merge, &out)] {
            let why = both(first.clone(), second.clone()).unwrap();
            assert!(why.contains("`$out` replaces"), "{why}");
        }
        assert_eq!(both(merge, json!({ "$merge": { "into": "o" } })), None);
        assert_eq!(both(out, json!({ "$out": "p" })), None);
    }

    #[test]
    fn what_adds_to_what_is_there_is_not_done_twice() {
        let merge = |matched: Value| json!({ "$merge": { "into": "m", "whenMatched": matched } });
        let group = json!({ "$group": { "_id": "$day" } });
        let bare = json!({ "$project": { "_id": 0, "n": 1 } });
        let add = json!([{ "$set": { "n": { "$add": ["$n", "$$new.n"] } } }]);
        for (pipeline, repeatable) in [
            (json!([merge(add)]), false),
            (json!([merge(json!("replace"))]), true),
            (json!([{ "$merge": "m" }]), true),
            (json!([{ "$out": "m" }]), true),
            (json!([merge(json!("fail"))]), false),
            // All is taken from what comes.
            (
                json!([merge(
                    json!([{ "$set": { "n": "$$new.n", "at": "$$NOW" } }])
                )]),
                true,
            ),
            (json!([merge(json!([{ "$replaceWith": "$$new" }]))]), true),
            (
                json!([merge(json!([{ "$replaceWith": "$$newer" }]))]),
                false,
            ),
            (
                json!([merge(json!([{ "$set": { "n": { "$getField": "n" } } }]))]),
                false,
            ),
            // Each time with another `_id`.
            (json!([bare, { "$merge": "m" }]), false),
            (json!([bare, group, { "$merge": "m" }]), true),
            (
                json!([bare, { "$set": { "_id": "$n" } }, { "$merge": "m" }]),
                true,
            ),
            (
                json!([{ "$unset": ["a", "_id"] }, { "$merge": "m" }]),
                false,
            ),
            (json!([{ "$count": "n" }, { "$merge": "m" }]), false),
            (json!([{ "$project": { "n": 1 } }, { "$merge": "m" }]), true),
            (
                json!([{ "$replaceWith": { "_id": "$a" } }, { "$merge": "m" }]),
                true,
            ),
            (
                json!([bare, { "$merge": { "into": "m", "on": ["a", "b"] } }]),
                true,
            ),
            (
                json!([bare, { "$merge": { "into": "m", "whenNotMatched": "discard" } }]),
                true,
            ),
            // What it reads is what it has written.
            (json!([group, { "$merge": "events" }]), false),
            (
                json!([{ "$unionWith": "young" }, group, { "$merge": "people" }]),
                false,
            ),
        ] {
            let views = BTreeMap::from([(
                ("app".to_owned(), "young".to_owned()),
                vec!["people".to_owned()],
            )]);
            let kind = refresh(pipeline.clone());
            let one = &kind.aggregations[0];
            let into = one.result("app").unwrap();
            assert_eq!(
                one.repeatable("app", &into, &views),
                repeatable,
                "{pipeline}"
            );
        }
    }

    #[test]
    fn sources_are_found_wherever_they_are_named() {
        let kind = refresh(json!([
            { "$lookup": { "from": "users", "let": {}, "pipeline": [{ "$unionWith": "guests" }], "as": "u" } },
            { "$facet": { "a": [{ "$graphLookup": { "from": "tree", "as": "x" } }] } },
            { "$out": { "db": "other", "coll": "m" } },
        ]));
        let names: Vec<String> = kind.aggregations[0]
            .sources("app")
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        assert_eq!(names, ["events", "guests", "tree", "users"]);
        assert_eq!(
            kind.aggregations[0].result("app"),
            Some(("other".to_owned(), "m".to_owned()))
        );
        assert!(refresh(json!([{ "$match": {} }])).check().is_err());
    }

    #[test]
    fn a_result_does_not_get_in_the_way_of_its_sources() {
        let group = json!({ "$group": { "_id": "$day" } });
        let lookup = json!({ "$lookup": { "from": "m", "localField": "a", "foreignField": "_id", "as": "x" } });
        let set = json!({ "$set": { "x": 1 } });
        let merge = |into: &str| json!({ "$merge": { "into": into } });
        let known = |into: &str| json!({ "$merge": { "into": into, "whenNotMatched": "discard" } });
        for (pipeline, said) in [
            (
                json!([group, { "$out": "events" }]),
                "what it reads would be lost",
            ),
            (
                json!([lookup, { "$out": "m" }]),
                "what it reads would be lost",
            ),
            (
                json!([{ "$out": { "db": "app", "coll": "events" } }]),
                "what it reads would be lost",
            ),
            (json!([{ "$out": { "db": "other", "coll": "events" } }]), ""),
            (json!([group, { "$out": "m" }]), ""),
            (json!([set, merge("events")]), "whenNotMatched: discard"),
            (
                json!([set, { "$merge": "events" }]),
                "whenNotMatched: discard",
            ),
            (json!([set, known("events")]), ""),
            (json!([group, merge("events")]), ""),
            (json!([group, lookup, merge("m")]), "Look it up before"),
            (json!([lookup, known("m")]), "Look it up before"),
            (json!([lookup, group, merge("m")]), ""),
            // A view of the source is the source.
            (
                json!([{ "$unionWith": "young" }, { "$out": "people" }]),
                "what it reads would be lost",
            ),
            (
                json!([{ "$unionWith": "young" }, group, merge("people")]),
                "",
            ),
        ] {
            let views = BTreeMap::from([
                (
                    ("app".to_owned(), "young".to_owned()),
                    vec!["adults".to_owned()],
                ),
                (
                    ("app".to_owned(), "adults".to_owned()),
                    vec!["people".to_owned(), "young".to_owned()],
                ),
            ]);
            let kind = refresh(pipeline.clone());
            let aggregation = &kind.aggregations[0];
            let into = aggregation.result("app").unwrap();
            let why = aggregation
                .overwrites("app", &into, &views)
                .unwrap_or_default();
            assert_eq!(why.is_empty(), said.is_empty(), "{pipeline}: {why}");
            assert!(why.contains(said), "{pipeline}: {why}");
        }
        // Where no database has to be asked for it, the file is wrong already.
        let wrong = refresh(json!([{ "$out": "events" }]))
            .check()
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("what it reads would be lost"), "{wrong}");
    }
}
