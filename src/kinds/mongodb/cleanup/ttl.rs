//! TTL indexes: there, as wanted, and at work.

use chrono::{DateTime, TimeDelta, Utc};
use mongodb::bson::{DateTime as BsonDate, Document, doc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::common::{Collection, Index, Shape};
use super::rule::fit;
use crate::engines::mongodb::{Json, Right, namespace, number};
use crate::plan::mongodb::{
    Body, Command, Work, shell_document, shell_key, shell_name, shell_text, to_read,
};
use crate::plan::{Finding, Moment, Plan, Severity, Step, Unfit};
use crate::values::{TimeSpan, several};

/// Documents that the server itself removes when their time has come.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ttl {
    /// The collection.
    pub(super) collection: String,
    /// Its database, where it is not the one in the target's `url`.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// The field with a date.
    pub(super) field: String,
    /// How long after that date a document goes; `0s` where the field says when it expires.
    pub(super) expire_after: TimeSpan,
    /// How long after that an expired document may still be there before it is a finding.
    #[serde(default = "an_hour")]
    pub(super) max_overdue: TimeSpan,
    /// No index is made, and none changed, where more documents than this would go at once.
    #[serde(default)]
    pub(super) max_rows: Option<u64>,
}

fn an_hour() -> TimeSpan {
    TimeSpan::from_mins(60)
}

/// What an index can be made like on a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// Its version, as far as it matters.
    pub(super) release: (u32, u32),
    /// Whether it is a member of a replica set.
    pub(super) replicated: bool,
}

/// What was seen of one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// Documents whose time came longer ago than `max_overdue`; up to a thousand.
    pub(super) overdue: i64,
    /// Documents that would go at once, where something is made or limited, and they were counted.
    pub(super) expired: Option<i64>,
    /// Types in the field, of a sample.
    pub(super) types: Vec<(String, i64)>,
    /// Whether any document has a date there, where none of the sample does.
    pub(super) told: Option<bool>,
    /// Whether the server's TTL monitor is on, where that may be asked.
    pub(super) monitor: Option<bool>,
}

/// Which way the only field of an index goes; none where it is of another type, such as a hashed
/// one, by which nothing expires.
fn way(index: &Index) -> Option<i32> {
    match number(index.keys.first().map(|(_, way)| way)) {
        Some(1) => Some(1),
        Some(-1) => Some(-1),
        _ => None,
    }
}

/// The index that is there cannot be made to expire anything.
struct Conflict;

impl Ttl {
    /// What the user has to be allowed, where the target's database is this one.
    pub(super) fn rights(&self, own: &str) -> Vec<Right> {
        let database = self.database.as_deref().unwrap_or(own);
        let mut rights = to_read(database, &self.collection);
        let actions = ["createIndex", "collMod"];
        rights.extend(Right::each(database, &self.collection, &actions));
        rights
    }

    pub(super) fn check(&self) -> Result<(), Unfit> {
        fit("collection", &self.collection, self.database.as_deref())?;
        if self.field.is_empty()
            || self
                .field
                .split('.')
                .any(|part| part.is_empty() || part.starts_with('$'))
        {
            return Err(Unfit::at(
                "field",
                format!(
                    "`{}` in `ttl` for `{}` is no field",
                    self.field, self.collection
                ),
            ));
        }
        if self.field == "_id" {
            return Err(Unfit::at(
                "field",
                format!(
                    "`ttl` for `{}` names `_id`, which never expires",
                    self.collection
                ),
            ));
        }
        if self.expire_after.get().subsec_nanos() > 0 {
            return Err(Unfit::at(
                "expire_after",
                format!(
                    "`expire_after` in `ttl` for `{}` is {}; MongoDB counts whole seconds",
                    self.collection, self.expire_after
                ),
            ));
        }
        if self.seconds() > i64::from(i32::MAX) {
            return Err(Unfit::at(
                "expire_after",
                format!(
                    "`expire_after` in `ttl` for `{}` is more than the 68 years that MongoDB can wait",
                    self.collection
                ),
            ));
        }
        Ok(())
    }

    /// Whether both are about the same field of the same collection.
    pub(super) fn is_for_same(&self, other: &Ttl) -> bool {
        let of = |ttl: &Ttl| {
            (
                ttl.database.clone(),
                ttl.collection.clone(),
                ttl.field.clone(),
            )
        };
        of(self) == of(other)
    }

    pub(super) fn seconds(&self) -> i64 {
        i64::try_from(self.expire_after.get().as_secs()).unwrap_or(i64::MAX)
    }

    /// Documents whose time came before `at`.
    pub(super) fn expired_at(&self, at: DateTime<Utc>) -> Document {
        let limit = at - TimeDelta::seconds(self.seconds().min(i64::from(i32::MAX)));
        doc! { &self.field: { "$lt": BsonDate::from_millis(limit.timestamp_millis()) } }
    }

    /// The index for this field alone by which each document that has a date there expires, or
    /// could. Of several the one that expires documents counts.
    pub(super) fn index<'a>(&self, collection: &'a Collection) -> Option<&'a Index> {
        let whole = self.ordered(collection).filter(|index| !index.partial);
        whole.min_by_key(|index| index.expires.is_none())
    }

    /// A TTL index for this field by which some documents expire, and the others never do.
    fn partial<'a>(&self, collection: &'a Collection) -> Option<&'a Index> {
        let mut found = self.ordered(collection);
        found.find(|index| index.partial && index.expires.is_some())
    }

    /// The indexes for this field alone that go along its values.
    fn ordered<'a>(&self, collection: &'a Collection) -> impl Iterator<Item = &'a Index> {
        let field = self.field.clone();
        collection.indexes.iter().filter(move |index| {
            matches!(index.keys.as_slice(), [(name, _)] if *name == field) && way(index).is_some()
        })
    }

    /// Which way an index over all documents can go along the field, beside those that are there: in
    /// a direction that no other has, and from 5.0 on beside partial ones.
    fn free_way(&self, collection: &Collection, release: (u32, u32)) -> Option<i32> {
        let free = |beside_partial: bool| {
            [1, -1].into_iter().find(|wanted| {
                let mut there = self.ordered(collection);
                there.all(|i| way(i) != Some(*wanted) || (beside_partial && i.partial))
            })
        };
        free(false).or_else(|| (release >= (5, 0)).then(|| free(true))?)
    }

    /// A name for an index on the field: the usual one, unless another index has it.
    fn free_name(&self, collection: &Collection, way: i32) -> String {
        let usual = format!("{}_{way}", self.field);
        let is_taken = |name: &String| collection.indexes.iter().any(|i| i.name == *name);
        match is_taken(&usual) {
            false => usual,
            true => format!("{usual}_expires"),
        }
    }

    /// What makes an index by which every document expires, beside those that are there.
    fn beside(&self, database: &str, way: i32) -> String {
        format!(
            "{}.createIndex({{{}: {way}}}, {{expireAfterSeconds: {}}})",
            shell_name(database, &self.collection),
            shell_key(&self.field),
            self.seconds()
        )
    }

    /// Makes an index by which every document expires. A member that is down, or far behind, would
    /// otherwise have its end waited for as long as it is: a majority decides.
    fn create(&self, database: &str, way: i32, name: &str, replicated: bool) -> Work {
        let index = doc! { "key": { &self.field: way }, "name": name, "expireAfterSeconds": self.seconds() };
        let mut command = doc! {
            "createIndexes": &self.collection,
            "indexes": [index],
            "writeConcern": { "w": "majority" },
        };
        if replicated {
            command.insert("commitQuorum", "majority");
        }
        Work::Commands(vec![Command {
            database: database.to_owned(),
            command: Json::of(&command),
        }])
    }

    /// What drops an index and makes it anew with all that it has, and a time to expire by.
    fn anew(&self, database: &str, index: &Index) -> String {
        let shell = shell_name(database, &self.collection);
        let keys: Document = index.keys.iter().cloned().collect();
        let mut options = doc! { "expireAfterSeconds": self.seconds() };
        let kept = index.whole.iter().filter(|(option, _)| {
            !matches!(
                option.as_str(),
                "v" | "key" | "ns" | "background" | "expireAfterSeconds"
            )
        });
        options.extend(kept.map(|(option, value)| (option.clone(), value.clone())));
        format!(
            "{shell}.dropIndex({}); {shell}.createIndex({}, {})",
            shell_text(&index.name),
            shell_document(&keys),
            shell_document(&options)
        )
    }

    /// Whether documents expire as they should: nothing has to be made or changed.
    pub(super) fn is_as_wanted(&self, collection: &Collection) -> bool {
        self.index(collection)
            .is_some_and(|index| self.expires_as_wanted(index))
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    fn expires_as_wanted(&self, index: &Index) -> bool {
        index.expires == Some(self.seconds() as f64)
    }

    /// What the server does of its own accord as soon as it may.
    fn at_once(look: &Look) -> String {
        match look.expired {
            Some(0) => "no document has expired yet".to_owned(),
            Some(1) => "1 document has expired: the server removes it at once".to_owned(),
            Some(n) => format!("{n} documents have expired: the server removes them at once"),
            None => "how many documents the server removes at once could not be counted in time"
                .to_owned(),
        }
    }

    /// What has to be done, and what is wrong.
    pub(super) fn plan(
        &self,
        database: &str,
        collection: &Collection,
        look: &Look,
        server: Server,
        at: &Moment,
        plan: &mut Plan<Body>,
    ) {
        let object = namespace(database, &self.collection);
        if let Some(why) = collection.undeletable() {
            let why = match collection.shape {
                Shape::TimeSeries => {
                    "it is a time-series collection, which expires as a whole: collMod with expireAfterSeconds"
                }
                _ => why,
            };
            plan.undone(Finding {
                code: "cleanup.rule".to_owned(),
                severity: Severity::Critical,
                message: format!("`ttl` for {object} cannot be seen to: {why}"),
                object,
                suggestion: None,
            });
            return;
        }
        if let Some(why) = self.never(&object, collection, look) {
            plan.undone(Finding {
                code: "ttl.wrong_type".to_owned(),
                severity: Severity::Critical,
                object,
                message: why,
                suggestion: Some(self.undated(database)),
            });
            return;
        }
        let release = server.release;
        let shown = format!("`{}` after {}", self.field, self.expire_after);
        let work = match (self.index(collection), self.partial(collection)) {
            (None, None) if let Some(way) = self.free_way(collection, release) => Ok(Some((
                "create_ttl",
                format!("no index lets documents expire by {shown}"),
                self.create(
                    database,
                    way,
                    &self.free_name(collection, way),
                    server.replicated,
                ),
            ))),
            (None, partial) => {
                let place = (database, object.as_str());
                let beside = self.free_way(collection, release);
                self.in_part(place, partial, beside, plan);
                Err(Conflict)
            }
            (Some(index), _) => {
                let place = (database, object.as_str());
                self.adjust(place, collection, index, release, plan)
            }
        };
        let Ok(work) = work else {
            // Nothing expires by it, or not all: whatever is still there has that reason.
            let look = Look {
                overdue: 0,
                ..look.clone()
            };
            self.findings(database, &object, &look, plan);
            return;
        };
        if let Some((action, reason, work)) = work {
            if let (Some(most), Some(expired)) = (self.max_rows, look.expired)
                && u64::try_from(expired).unwrap_or(0) > most
            {
                plan.refuse(
                    &object,
                    format!(
                        "{} would go at once, more than `max_rows` ({most})",
                        several(expired, "document")
                    ),
                );
                plan.findings.push(Finding {
                    code: "cleanup.too_many".to_owned(),
                    severity: Severity::Critical,
                    object,
                    message: format!("with the TTL index {} would go at once, more than `max_rows` ({most}); nothing was done", several(expired, "document")),
                    suggestion: Some(format!("{}.countDocuments({})", shell_name(database, &self.collection), shell_document(&self.expired_at(at.now)))),
                });
                return;
            }
            let mut step = Step::new(action, &object, &object)
                .because(reason)
                .doing(work)
                .remembering(self.made(&object), json!({ "at": at.now.timestamp() }))
                .relying_on(database, &self.collection, &collection.uuid);
            step.details.push(Ttl::at_once(look));
            if let Some(index) = self.index(collection) {
                let relies_on = &mut step.body.relies_on;
                relies_on.insert("the index that is changed".to_owned(), index.described());
            }
            plan.steps.push(step);
            self.types_told(database, &object, look, plan);
            return;
        }
        let mut look = look.clone();
        let made = at.memories.get(&self.made(&object));
        // Of a clock that was ahead then, nothing is believed.
        if let Some(made) = made.and_then(|made| made["at"].as_i64())
            && (0..self.overdue()).contains(&(at.now.timestamp() - made))
        {
            // The server has not had the time yet that an expired document may stay.
            look.overdue = 0;
        }
        self.findings(database, &object, &look, plan);
    }

    /// Why nothing would ever expire, if so. An index says that somebody knows the field, which may
    /// be in no document today.
    fn never(&self, object: &str, collection: &Collection, look: &Look) -> Option<String> {
        let known = collection.indexes.iter().flat_map(|index| &index.keys);
        let known = known.into_iter().any(|(name, _)| *name == self.field);
        let kinds: Vec<String> = look.types.iter().map(|(k, n)| format!("{n} {k}")).collect();
        (look.told == Some(false) && !known).then(|| {
            format!(
                "nothing can expire: no document of {object} has a date in `{}` ({}). Look at the spelling of the field; numbers and texts never expire",
                self.field,
                kinds.join(", ")
            )
        })
    }

    /// What finds the documents that never expire.
    fn undated(&self, database: &str) -> String {
        format!(
            "{}.find({{{}: {{$not: {{$type: \"date\"}}}}}})",
            shell_name(database, &self.collection),
            shell_key(&self.field)
        )
    }

    /// Under which key is remembered when documents began to expire.
    fn made(&self, object: &str) -> String {
        format!("ttl of {object} by {}", self.field)
    }

    fn overdue(&self) -> i64 {
        i64::try_from(self.max_overdue.get().as_secs()).unwrap_or(i64::MAX)
    }

    /// Documents expire by a part of them at most. What that leaves out may be meant to stay, which no
    /// run decides.
    fn in_part(
        &self,
        (database, object): (&str, &str),
        partial: Option<&Index>,
        beside: Option<i32>,
        plan: &mut Plan<Body>,
    ) {
        let (code, message) = match partial {
            Some(index) => (
                "ttl.partial",
                format!(
                    "the TTL index `{}` on `{}` covers only documents that match {}: no other document of {object} ever expires by it, and `ttl` says that all do. Make an index for all of them, or leave the entry out if only those are to expire: `snapshot` looks at every TTL index",
                    index.name,
                    self.field,
                    covered(index)
                ),
            ),
            None => (
                "ttl.conflict",
                format!(
                    "documents of {object} do not expire: partial indexes on `{}` go in both directions, and before MongoDB 5.0 there is no third. One of them has to be dropped",
                    self.field
                ),
            ),
        };
        plan.undone(Finding {
            code: code.to_owned(),
            severity: Severity::Critical,
            object: object.to_owned(),
            message,
            suggestion: beside.map(|way| self.beside(database, way)),
        });
    }

    fn adjust(
        &self,
        (database, object): (&str, &str),
        collection: &Collection,
        index: &Index,
        release: (u32, u32),
        plan: &mut Plan<Body>,
    ) -> Result<Option<(&'static str, String, Work)>, Conflict> {
        let wanted = self.seconds();
        if index.expires.is_none() && release < (5, 1) {
            let why = "does not expire anything, and before MongoDB 5.1 an index cannot be told to";
            plan.refuse(
                object,
                format!("the index `{}` on `{}` {why}", index.name, self.field),
            );
            let beside = self.free_way(collection, release).filter(|_| index.unique);
            let (help, suggestion) = match beside {
                Some(way) => (
                    "It is unique, and without it, be it for a moment, duplicates may come in: leave it, and make another in the other direction, by which documents expire",
                    self.beside(database, way),
                ),
                None if index.unique => (
                    "It has to be dropped and made anew; meanwhile queries that use it are slow, and duplicates may come in, with which it cannot be made: stop what writes first",
                    self.anew(database, index),
                ),
                None => (
                    "It has to be dropped and made anew, with all that it has; queries that use it are slow meanwhile",
                    self.anew(database, index),
                ),
            };
            plan.findings.push(Finding {
                code: "ttl.conflict".to_owned(),
                severity: Severity::Critical,
                object: object.to_owned(),
                message: format!(
                    "documents of {object} do not expire: the index `{}` on `{}` {why}. {help}",
                    index.name, self.field
                ),
                suggestion: Some(suggestion),
            });
            return Err(Conflict);
        }
        if index.hidden {
            plan.findings.push(Finding {
                code: "ttl.partial".to_owned(),
                severity: Severity::Info,
                object: object.to_owned(),
                message: format!("the TTL index `{}` is hidden", index.name),
                suggestion: None,
            });
        }
        if self.expires_as_wanted(index) {
            return Ok(None);
        }
        let reason = match index.expires {
            None => format!("the index `{}` does not expire anything yet", index.name),
            Some(seconds) if seconds.is_nan() => format!(
                "the index `{}` has expireAfterSeconds: NaN, with which some versions delete nothing and others everything",
                index.name
            ),
            Some(seconds) => format!(
                "the index `{}` expires after {seconds} s instead of {wanted} s",
                index.name
            ),
        };
        let command = Json::of(&doc! {
            "collMod": &self.collection,
            "index": { "name": &index.name, "expireAfterSeconds": wanted },
            "writeConcern": { "w": "majority" },
        });
        Ok(Some((
            "alter_ttl",
            reason,
            Work::Commands(vec![Command {
                database: database.to_owned(),
                command,
            }]),
        )))
    }

    fn findings(&self, database: &str, object: &str, look: &Look, plan: &mut Plan<Body>) {
        let mut say = |code: &str, severity, message: String, suggestion: Option<String>| {
            plan.findings.push(Finding {
                code: code.to_owned(),
                severity,
                object: object.to_owned(),
                message,
                suggestion,
            });
        };
        if look.monitor == Some(false) {
            say(
                "ttl.monitor_off",
                Severity::Critical,
                "the server's TTL monitor is off: nothing expires in any collection".to_owned(),
                Some("db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})".to_owned()),
            );
        }
        if look.overdue > 0 {
            let least = if look.overdue >= 1000 {
                "at least "
            } else {
                ""
            };
            let many = format!("{least}{}", several(look.overdue, "document"));
            let are = if look.overdue == 1 { "is" } else { "are" };
            say(
                "ttl.stalled",
                Severity::Critical,
                format!(
                    "{many} should have expired more than {} ago and {are} still there: the TTL monitor is off, held up by a long index build or by load, or every member that could be primary is not",
                    self.max_overdue
                ),
                Some("db.serverStatus().metrics.ttl".to_owned()),
            );
        }
        self.types_told(database, object, look, plan);
    }

    /// Documents without a date never expire: that should be known.
    fn types_told(&self, database: &str, object: &str, look: &Look, plan: &mut Plan<Body>) {
        let all: i64 = look.types.iter().map(|(_, n)| n).sum();
        let wrong = look.types.iter();
        let wrong: Vec<&(String, i64)> = wrong
            .filter(|(kind, _)| !matches!(kind.as_str(), "date" | "array"))
            .collect();
        let n: i64 = wrong.iter().map(|(_, n)| n).sum();
        if n == 0 {
            return;
        }
        let kinds = wrong.iter().map(|(kind, n)| format!("{n} {kind}"));
        plan.findings.push(Finding {
            code: "ttl.wrong_type".to_owned(),
            severity: Severity::Warning,
            object: object.to_owned(),
            message: format!(
                "of {} looked at, {n} without a date in `{}` ({}): what has none never expires",
                several(all, "document"),
                self.field,
                kinds.collect::<Vec<_>>().join(", ")
            ),
            suggestion: Some(self.undated(database)),
        });
    }
}

/// Which documents a partial index has.
fn covered(index: &Index) -> String {
    let filter = index.whole.get_document("partialFilterExpression");
    filter.map_or_else(|_| "its filter".to_owned(), shell_document)
}
