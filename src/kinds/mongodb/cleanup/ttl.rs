//! TTL indexes: there, as wanted, and at work.

mod indexes;
mod told;

use chrono::{DateTime, TimeDelta, Utc};
use mongodb::bson::{DateTime as BsonDate, Document, doc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::common::{Collection, Index, Shape};
use super::rule::fit;
use super::rule::named;
use crate::engines::mongodb::{Json, Right, namespace};
use crate::plan::mongodb::{Body, Command, Work, shell_document, shell_name, to_read};
use crate::plan::{Ageing, Finding, Gone, Moment, Plan, Severity, Step, Unfit};
use crate::values::{CalendarSpan, TimeSpan, several};

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

impl Ttl {
    pub(super) fn ages(&self) -> Ageing {
        Ageing {
            object: named(self.database.as_deref(), &self.collection),
            after: CalendarSpan::Fixed(self.expire_after),
            fate: Gone::Lost,
        }
    }
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
    /// Whether some dates there are no times that anybody knows, where something is to be made.
    pub(super) timeless: bool,
    /// Types in the field, of a sample.
    pub(super) types: Vec<(String, i64)>,
    /// Whether any document has a date there, where none of the sample does.
    pub(super) told: Option<bool>,
    /// Whether the server's TTL monitor is on, where that may be asked.
    pub(super) monitor: Option<bool>,
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
            if look.timeless {
                plan.undone(self.timeless(database, &object));
                return;
            }
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

    /// Under which key is remembered when documents began to expire.
    fn made(&self, object: &str) -> String {
        format!("ttl of {object} by {}", self.field)
    }

    fn overdue(&self) -> i64 {
        i64::try_from(self.max_overdue.get().as_secs()).unwrap_or(i64::MAX)
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
}
