//! What is seen of one rule: the types of its field, whether anything is to go, and how many.

mod ages;
mod expiring;
mod orphans;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, doc};

use self::ages::{ageless, ages, are_of_one_age, tells, timeless, types};
pub(super) use self::expiring::ttl_look;
use self::orphans::{finer, mistaken, orphan_stages};
use super::super::common::Collection;
use super::super::fields::{self, Seen};
use super::age::Age;
use super::forms::COUNTING;
use super::parents::{self, Pointing};
use super::rule::Rule;
use super::uses::Use;
use super::{Cleanup, limits};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, MongoError, Session, counted, counting, number};
use crate::plan::mongodb::Path;
use crate::values::Epoch;

/// How long a look at one collection may take.
const LOOKING: Limit = Limit(Duration::from_secs(60));
/// How long may be looked for what is only told.
const TRYING: Limit = Limit(Duration::from_secs(10));
/// How long documents may be chosen by chance.
const SAMPLING: Limit = Limit(Duration::from_secs(2));
/// How many documents are looked at for the types of their fields.
const SAMPLE: i32 = 200;
/// How many values of a type are counted: of more than that the sample tells which are more.
pub(super) const COUNTED: i64 = 10_000;

impl Look {
    /// How the age of a document is written, as far as was seen.
    pub(super) fn age(&self, rule: &Rule) -> Result<Option<Age>, String> {
        rule.age(&self.types, self.ages)
    }
}

/// What was seen of one rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) types: Vec<(String, i64)>,
    /// Dates and ObjectIds in the field, each up to a limit, where the sample leaves open which of
    /// them tells the age.
    pub(super) ages: Option<(i64, i64)>,
    /// Documents that tell no age, by the type of what they have there, each up to a limit; none
    /// where no index tells it, or not in time.
    pub(super) ageless: Option<Vec<(String, i64)>>,
    /// Whether any document tells an age, where none of those looked at does.
    pub(super) told: Option<bool>,
    /// Documents whose number is no time: NaN, infinite, or beyond every count; up to a limit.
    pub(super) timeless: i64,
    /// Whether anything is to go; unknown where that is too dear to ask.
    pub(super) any: Option<bool>,
    /// How many, where a limit wants to know.
    pub(super) count: Option<i64>,
    /// How many documents there are, counted, where a share of them is the limit.
    pub(super) all: Option<i64>,
    /// Whether the field is an array in some documents, as its index tells.
    pub(super) multikey: bool,
    /// Which fields of its filters any document has.
    pub(super) fields: BTreeMap<String, Seen>,
    /// What was tried of filters that hide which fields they name.
    pub(super) hidden: Vec<Tried>,
    /// Why the numbers of its field do not count what the rule says.
    pub(super) mistaken: Option<String>,
    /// Whether some of its values are no times that anybody knows: their documents stay.
    pub(super) doubted: bool,
    /// A unit in which some of its numbers are times of our days that are far ahead in the rule's.
    pub(super) finer: Option<Epoch>,
    /// What children point at; none where nobody could look in time.
    pub(super) pointing: Option<Pointing>,
}

/// A filter with an operator that hides which fields it names, tried out.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// What it is for.
    pub(super) used: Use,
    /// The operator.
    pub(super) operator: String,
    /// The filter, as text.
    pub(super) filter: String,
    /// Whether any document shows that it works as it should.
    pub(super) seen: Seen,
}

impl Cleanup {
    pub(super) async fn look(
        &self,
        db: &Session,
        rule: &Rule,
        database: &str,
        collection: &Collection,
        now: DateTime<Utc>,
    ) -> Result<Look, EngineError> {
        let mut names = Vec::new();
        for (field, (_, kinds)) in rule.names().map_err(bad)? {
            names.push((field, kinds));
        }
        let place = (database, rule.collection.as_str());
        let mut look = Look {
            fields: fields::look(db, place, collection, names).await?,
            ..Look::default()
        };
        for (used, operator, filter) in rule.hidden().map_err(bad)? {
            let text = filter.to_string();
            let seen = fields::try_out(db, place, filter).await?;
            look.hidden.extend(seen.map(|seen| Tried {
                used,
                operator,
                filter: text,
                seen,
            }));
        }
        look.mistaken = mistaken(db, place, rule, now).await?;
        if let Some(field) = &rule.field {
            look.types = types(db, database, &rule.collection, field).await?;
        }
        if let (Some(field), Some(_)) = (&rule.field, rule.epoch) {
            look.timeless = timeless(db, database, &rule.collection, field).await?;
        }
        if let Some(field) = &rule.field
            && rule.epoch.is_none()
            && !are_of_one_age(&look.types)
        {
            look.ages = ages(db, database, &rule.collection, field).await?;
        }
        if let (Some(field), Ok(Some(age)), None) = (&rule.field, look.age(rule), &look.mistaken) {
            let doubtful = age.doubtful(field, rule.cutoff(now));
            let seen = fields::try_out(db, place, doubtful).await?;
            look.doubted = seen == Some(Seen::Somewhere);
        }
        if look.mistaken.is_none() {
            look.finer = finer(db, place, rule, now).await?;
        }
        if let (Some(field), Ok(Some(age))) = (&rule.field, look.age(rule))
            && !look.types.is_empty()
            && !look.types.iter().any(|(kind, _)| age.fits(kind))
        {
            look.told = match look.ages {
                Some((dates, ids)) => Some(dates + ids > 0),
                None => tells(db, database, &rule.collection, field, age).await?,
            };
        }
        if let (Some(field), Ok(Some(age))) = (&rule.field, look.age(rule))
            && let Some(index) = collection.ordering(field).find(|index| !index.sparse)
        {
            let along = (field.as_str(), index.name.as_str());
            look.ageless = ageless(db, place, along, age).await?;
        }
        let (Ok(age), Ok(path)) = (look.age(rule), rule.path(collection, self.max_scan)) else {
            return Ok(look);
        };
        let mut filter = rule.filter(age, now, &path).map_err(bad)?;
        let hint = match &path {
            Path::Range { index, .. } => Some(index.as_str()),
            Path::Ids => None,
        };
        if let Some(hint) = hint {
            let explain = doc! {
                "explain": { "find": &rule.collection, "filter": filter.clone(), "hint": hint },
                "verbosity": "queryPlanner",
            };
            let explained = db
                .command("asking how the index is used", database, explain, LOOKING)
                .await?;
            let field = rule.field.as_deref().unwrap_or_default();
            look.multikey = is_multikey(&Bson::Document(explained), field);
        }
        let limited = limits::is_limited(rule);
        if let Some(orphans) = rule.orphans(database) {
            let name = &rule.collection;
            look.pointing = parents::look(db, name, database, &filter, &orphans).await?;
            let Some(pointing) = &look.pointing else {
                return Ok(look);
            };
            if pointing
                .refused(rule, &orphans, super::is_collated(collection))
                .is_some()
            {
                return Ok(look);
            }
            // Nothing points anywhere, be it for want of documents.
            if pointing.met.is_empty() && !pointing.parent_is_empty {
                look.any = Some(false);
                look.count = Some(0);
                return Ok(look);
            }
            filter = pointing.within(filter, &orphans.field);
            if orphans.parent_database != database {
                if limited {
                    look.count =
                        parents::count_elsewhere(db, name, database, &filter, &orphans).await?;
                    look.any = look.count.map(|n| n > 0);
                }
            } else {
                let stages = orphan_stages(
                    filter,
                    &orphans.field,
                    &orphans.parent,
                    &orphans.parent_field,
                    limited,
                );
                let found = db
                    .aggregate(
                        "looking for orphans",
                        database,
                        &rule.collection,
                        stages,
                        COUNTING,
                    )
                    .await;
                match found {
                    Ok(found) if limited => {
                        let n = found.first().and_then(|d| number(d.get("n"))).unwrap_or(0);
                        look.count = Some(n);
                        look.any = Some(n > 0);
                    }
                    Ok(found) => look.any = Some(!found.is_empty()),
                    // The walk itself is not bound to ten minutes.
                    Err(error) if error.is_out_of_time() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(look);
        }
        if limited {
            let count = counting(&rule.collection, filter, hint.map(Bson::from), None);
            match db
                .command("counting documents", database, count, LOOKING)
                .await
            {
                Ok(answer) => {
                    let n = counted(&answer);
                    look.count = Some(n);
                    look.any = Some(n > 0);
                }
                Err(error) if error.is_out_of_time() => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(look);
        }
        let mut find = doc! { "find": &rule.collection, "filter": filter, "limit": 1, "singleBatch": true, "projection": { "_id": 1 } };
        if let Some(hint) = hint {
            find.insert("hint", hint);
        }
        let doing = "looking for documents to delete";
        // What is found is not read: its `_id` may be no valid text.
        match db.all_raw(doing, database, find, LOOKING).await {
            Ok(found) => look.any = Some(!found.is_empty()),
            Err(error) if error.is_out_of_time() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(look)
    }
}

/// How many documents a collection has, counted one by one: the count that the server keeps is wrong after it was
/// killed. None where that takes too long.
pub(super) async fn all_of(
    db: &Session,
    database: &str,
    collection: &str,
) -> Result<Option<i64>, EngineError> {
    let along = Bson::Document(doc! { "_id": 1 });
    let ways = [
        (doc! { "_id": { "$gte": Bson::MinKey } }, Some(along)),
        // A collection that is ordered by its `_id` has no document beyond the least of all values, as it answers.
        (doc! { "_id": { "$exists": true } }, None),
    ];
    let doing = "counting all documents";
    let mut all = 0;
    for (filter, along) in ways {
        let count = counting(collection, filter, along, None);
        all = match db.command(doing, database, count, LOOKING).await {
            Ok(answer) => counted(&answer),
            Err(error) if error.is_out_of_time() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if all > 0 {
            break;
        }
    }
    Ok(Some(all))
}

/// Whether an explanation says that a document has several entries for this field in the index:
/// other fields of the index may be arrays.
fn is_multikey(value: &Bson, field: &str) -> bool {
    match value {
        Bson::Document(document) => {
            let arrays = document.get_document("multiKeyPaths");
            let here = document.get_bool("isMultiKey").unwrap_or(false)
                && arrays
                    .and_then(|paths| paths.get_array(field))
                    .map_or(true, |of_field| !of_field.is_empty());
            here || document.iter().any(|(_, value)| is_multikey(value, field))
        }
        Bson::Array(values) => values.iter().any(|value| is_multikey(value, field)),
        _ => false,
    }
}

fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the rule".to_owned(),
        message,
    }
    .into()
}
