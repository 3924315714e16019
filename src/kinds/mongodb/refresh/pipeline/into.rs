//! Where the result of a pipeline goes, and why not there.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document};

use super::super::super::common::{Collection, Index, Shape};
use super::super::Aggregation;
use super::reads::read_by;
use super::reads::through_views;
use crate::engines::mongodb::{misnamed, misnamed_database, namespace};
use crate::plan::mongodb::shell_document;
use crate::plan::{Replaced, Replacing};

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
    /// Why it must not run, where its result would get in the way of what it reads, also through
    /// a view. `$out` replaces its source. `$merge` may write to a collection that it reads, and the
    /// server then may read what it has just written, again and again: unless everything was read
    /// before the first document is written, or it only changes the documents that it has read.
    pub(in crate::kinds::mongodb::refresh) fn overwrites(
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
    pub(in crate::kinds::mongodb::refresh) fn replaces(&self) -> bool {
        let last = self.pipeline.last().and_then(|last| last.document().ok());
        last.is_some_and(|last| last.contains_key("$out"))
    }

    /// How it treats what others may have put where its result goes.
    pub(in crate::kinds::mongodb::refresh) fn replacing(&self) -> Option<Replacing> {
        let (database, collection) = self.result("")?;
        let last = self.pipeline.last()?.document().ok()?;
        let matched = |merge: &Document| merge.get_str("whenMatched").ok() == Some("replace");
        let much = match last.get("$merge") {
            None => Replaced::All,
            Some(Bson::Document(merge)) if matched(merge) => Replaced::SameKeys,
            Some(_) => Replaced::Nothing,
        };
        let own = database.is_empty();
        let object = match own {
            true => collection,
            false => namespace(&database, &collection),
        };
        Some(Replacing { object, own, much })
    }

    /// Why the server would not write to what is there, if so.
    pub(in crate::kinds::mongodb::refresh) fn unfit(
        &self,
        into: &Collection,
    ) -> Option<&'static str> {
        match (into.shape, self.replaces()) {
            (Shape::View, _) => Some("it is a view, and nothing can be written to one"),
            (Shape::Capped, true) => Some("it is capped, and `$out` replaces no such collection"),
            (Shape::TimeSeries, false) => {
                Some("it is a time-series collection, and `$merge` writes to none")
            }
            _ => None,
        }
    }

    /// What `$merge` goes on, where no unique index of what is there has exactly that, and compares as the collection
    /// that is read does by default: the server takes no other. By `_id` a collection compares as it does by default.
    /// How a view, or what is not there yet, compares is not judged.
    pub(in crate::kinds::mongodb::refresh) fn lacks_unique(
        &self,
        into: Option<&Collection>,
        from: Option<&Collection>,
    ) -> Option<Lacking> {
        let last = self.pipeline.last()?.document().ok()?;
        let on = last.get_document("$merge").ok();
        let mut on = match on.and_then(|merge| merge.get("on")) {
            Some(Bson::String(field)) => vec![field.clone()],
            Some(Bson::Array(fields)) => fields
                .iter()
                .filter_map(|field| field.as_str().map(str::to_owned))
                .collect(),
            Some(_) => return None,
            None if last.contains_key("$merge") => vec!["_id".to_owned()],
            None => return None,
        };
        on.sort();
        let from = from.filter(|from| from.shape != Shape::View && !from.left_out);
        let collation = from.map(|from| from.options.get("collation"));
        let is_as = |other: Option<&Bson>| collation.is_none_or(|own| own == other);
        if on == ["_id"] {
            let into = into.filter(|into| !into.left_out)?;
            let fits = is_as(into.options.get("collation"));
            return (!fits).then(|| Lacking::new(on, collation));
        }
        let has_keys = |index: &&Index| {
            let mut keys: Vec<&String> = index.keys.iter().map(|(name, _)| name).collect();
            keys.sort();
            index.unique && !index.partial && keys.into_iter().eq(&on)
        };
        let indexes = into.map(|into| into.indexes.as_slice()).unwrap_or_default();
        let mut fit = indexes.iter().filter(has_keys).peekable();
        let by_keys = fit.peek().is_some();
        if fit.any(|index| is_as(index.whole.get("collation"))) {
            return None;
        }
        let collation = collation.filter(|collation| by_keys || collation.is_some());
        Some(Lacking::new(on, collation))
    }
}

/// What a `$merge` goes on, and no index is for.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kinds::mongodb::refresh) struct Lacking {
    /// The fields.
    pub(in crate::kinds::mongodb::refresh) on: Vec<String>,
    /// By which collation it would have to compare, as the shell takes it, where that matters.
    pub(in crate::kinds::mongodb::refresh) collation: Option<String>,
}

impl Lacking {
    fn new(on: Vec<String>, collation: Option<Option<&Bson>>) -> Lacking {
        let shown = |collation: Option<&Bson>| match collation.and_then(Bson::as_document) {
            Some(collation) => {
                let mut collation = collation.clone();
                // That of the server's library.
                collation.remove("version");
                shell_document(&collation)
            }
            None => "{locale: \"simple\"}".to_owned(),
        };
        Lacking {
            on,
            collation: collation.map(shown),
        }
    }
}

/// Why no result may go there; a database that is not named is the target's own.
pub(super) fn misplaced((database, collection): &(String, String)) -> Option<String> {
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
pub(in crate::kinds::mongodb::refresh) fn clashing(
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
