//! What only plans for MongoDB hold.

mod additions;
mod along;
mod archive;
pub(super) mod codes;
pub(crate) mod copies;
mod look;
mod rights;
mod shell;
mod walk;

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use additions::{adding, cut_off, left_by, set_back};
pub use along::{ALONG, index_described};
pub use archive::{Export, Format, LONGEST_NAME, Manifest, Restored, Stray, fields};
pub use look::{Look, Validate};
pub(crate) use rights::{to_delete, to_keep, to_mark, to_read, to_write};
pub use shell::{shell_document, shell_json, shell_key, shell_name, shell_stages, shell_text};
pub use walk::{AgeLimit, Destination, Orphans, Path, Walk, single};

use super::{Need, Speaks, Step};
use crate::engines::EngineError;
use crate::engines::mongodb::{Json, Right, Session};
use crate::values::NamePattern;

/// What a step does, and what is asked around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// What is done.
    pub work: Work,
    /// The collection whose size is measured before and after.
    pub measure: Option<Measure>,
    /// What it relies on, by what that is: collections by their UUIDs, an index by its keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relies_on: BTreeMap<String, String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Commands in order; the first failure ends the step. Each may be given again.
    Commands(Vec<Command>),
    /// Deletes, or moves, many documents batch by batch.
    Walk(Box<Walk>),
    /// Finds out what became of archived batches whose end nobody saw.
    Settle(Vec<Manifest>),
    /// Removes files of batches whose documents are in their collection still.
    Clear(Vec<Manifest>),
    /// Reads what lies beside files and the history does not know.
    Strays(Vec<Stray>),
    /// Takes copies back that stand beside originals which were not deleted.
    TakeBack(TakeBack),
    /// Runs an aggregation that writes its result to a collection.
    Aggregate(Aggregate),
    /// Questions whose answers become findings.
    Look(Look),
    /// Gives the free space of a collection's files back, member by member.
    Compact(Compact),
}

impl Default for Work {
    fn default() -> Self {
        Work::Commands(Vec::new())
    }
}

/// Batches that were broken off after they had been copied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TakeBack {
    /// The database whose collection `maint.archives` has their marks.
    pub database: String,
    /// The ids of the marks.
    pub marks: Vec<String>,
}

/// A command and the database it is given in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// The database.
    pub database: String,
    /// The command, as the shell's `runCommand` takes it.
    pub command: Json,
}

/// A collection whose size is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
}

/// An aggregation that ends in `$merge` or `$out`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// The database of the source.
    pub database: String,
    /// The source.
    pub collection: String,
    /// The stages.
    pub pipeline: Vec<Json>,
    /// Whether the server may use files for what does not fit into memory.
    pub allow_disk_use: bool,
    /// Whether a second try after a lost answer gives the same result.
    pub repeatable: bool,
    /// Whether a secondary reads the sources, where there is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_secondary: bool,
}

/// Compaction of one collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compact {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// On which member, `host:port`; the server itself where it stands alone.
    pub member: Option<String>,
    /// Whether the member steps down first, because it is primary.
    pub step_down: bool,
    /// Whether it is compacted as primary: there is no other member that could be one meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
    /// How far a member may be behind before the next one is begun, in seconds.
    pub caught_up_seconds: f64,
    /// What is worth it, in megabytes, where the server takes that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_mb: Option<i64>,
    /// Whether the member is told to compact all that it has by itself, once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_itself: bool,
}

impl Compact {
    /// As the shell writes it.
    fn text(&self) -> String {
        let down = if self.step_down {
            "rs.stepDown(); "
        } else {
            ""
        };
        let target = self
            .target_mb
            .map(|mb| format!(", freeSpaceTargetMB: {mb}"));
        let mut target = target.unwrap_or_default();
        if self.in_place && !self.by_itself {
            target.push_str(", force: true");
        }
        match self.by_itself {
            true => format!("{down}db.adminCommand({{autoCompact: true, runOnce: true{target}}})"),
            false => format!(
                "{down}db.getSiblingDB({}).runCommand({{compact: {}{target}}})",
                shell_text(&self.database),
                shell_text(&self.collection)
            ),
        }
    }
}

/// Under which words a step relies on the identity of a collection.
pub fn uuid_of(database: &str, collection: &str) -> String {
    let of = crate::engines::mongodb::namespace(database, collection);
    format!("the UUID of {of}")
}

/// What a recorded command keeps waiting, in words.
pub fn locks(statement: &str) -> Vec<String> {
    let lock = if statement.contains("compact:")
        || statement.contains("\"compact\"")
        || statement.contains("autoCompact:")
    {
        "the collection is read and written meanwhile, but not dropped, and its indexes are not changed"
    } else if statement.contains("validate") {
        "in the background nobody waits; with `full` nobody else reads or writes the collection meanwhile"
    } else if statement.contains("delete") || statement.contains("aggregate") {
        "intent locks, given back again and again: nobody waits who does not change the same documents"
    } else {
        "intent locks: nobody waits for long"
    };
    vec![lock.to_owned()]
}

impl super::Body for Body {
    /// Nothing that is done here blocks others.
    fn until(&self) -> Option<DateTime<Utc>> {
        None
    }

    fn keeps_what_it_did(&self) -> bool {
        matches!(self.work, Work::Walk(_))
    }

    fn destroys(&self) -> bool {
        !matches!(self.work, Work::Look(_) | Work::Compact(_))
    }

    fn elsewhere(&self) -> Option<String> {
        match &self.work {
            Work::Walk(walk) => {
                let into = walk.into.as_ref().and_then(|into| {
                    let whole =
                        crate::engines::mongodb::namespace(&into.database, &into.collection);
                    into.target
                        .as_ref()
                        .map(|target| format!("{whole} of target {target}"))
                });
                into.or_else(|| walk.files.as_ref().map(|files| files.storage.clone()))
            }
            Work::Settle(_) | Work::Clear(_) | Work::Strays(_) | Work::TakeBack(_) => {
                Some("the place of the archives".to_owned())
            }
            Work::Commands(_) | Work::Aggregate(_) | Work::Look(_) | Work::Compact(_) => None,
        }
    }

    fn at_any_time(&self) -> String {
        match &self.work {
            Work::Walk(walk) => walk.at_any_time(),
            _ => self.text(),
        }
    }

    fn identity(&self) -> serde_json::Value {
        match self.relies_on.is_empty() {
            true => serde_json::Value::Null,
            false => serde_json::json!(self.relies_on),
        }
    }

    fn text(&self) -> String {
        match &self.work {
            Work::Commands(commands) => {
                let texts: Vec<String> = commands
                    .iter()
                    .map(|c| {
                        format!(
                            "db.getSiblingDB({}).runCommand({})",
                            shell_text(&c.database),
                            shell_json(&c.command)
                        )
                    })
                    .collect();
                texts.join("; ")
            }
            Work::Walk(walk) => walk.text(),
            Work::Settle(pending) => {
                let marks = pending.iter().map(|m| {
                    let shell = shell_name(&m.marks, crate::engines::mongodb::MARKS);
                    format!("{shell}.findOne({{_id: \"{}\"}})", m.id)
                });
                marks.collect::<Vec<_>>().join("; ")
            }
            Work::Clear(left) => {
                let texts = left.iter().map(|m| {
                    let files = m.files.iter().map(|file| &*file.path);
                    let files: Vec<&str> = files.collect();
                    format!("remove {} from {}", files.join(", "), m.storage)
                });
                texts.collect::<Vec<_>>().join("; ")
            }
            Work::Strays(strays) => {
                let texts = strays.iter().map(|stray| {
                    let beside = &stray.beside;
                    let (some, place) = (beside.ids.len(), &beside.storage);
                    format!("read {some} manifests of {place}/{}", beside.folder)
                });
                texts.collect::<Vec<_>>().join("; ")
            }
            Work::TakeBack(work) => {
                let marks = shell_name(&work.database, crate::engines::mongodb::MARKS);
                format!(
                    "{marks}.find({{_id: {{$in: {:?}}}}}); deleteMany of the copies that are as they were written, in a transaction",
                    work.marks
                )
            }
            Work::Aggregate(work) => {
                format!(
                    "{}.aggregate({}{})",
                    shell_name(&work.database, &work.collection),
                    shell_stages(&work.pipeline),
                    match work.from_secondary {
                        true => ", {readPreference: \"secondaryPreferred\"}",
                        false => "",
                    }
                )
            }
            Work::Look(look) => look.text(),
            Work::Compact(compact) => compact.text(),
        }
    }
}

#[async_trait]
impl Speaks for Session {
    type Body = Body;
    type Right = Right;

    async fn meeting_nothing(&self, patterns: &[NamePattern]) -> Result<Vec<usize>, EngineError> {
        let database = self.database();
        // Who may not list them cannot tell that one is missing.
        let Some(names) = self.collection_names(database).await? else {
            return Ok(Vec::new());
        };
        let meets =
            |pattern: &NamePattern| names.iter().any(|name| pattern.matches(database, name));
        let misses = patterns
            .iter()
            .enumerate()
            .filter(|(_, pattern)| !meets(pattern));
        Ok(misses.map(|(n, _)| n).collect())
    }
}

impl Step<Body> {
    /// Does this.
    pub fn doing(mut self, work: Work) -> Self {
        self.body.work = work;
        self
    }

    /// Measures this collection before and after.
    pub fn measuring(mut self, database: &str, collection: &str) -> Self {
        self.body.measure = Some(Measure {
            database: database.to_owned(),
            collection: collection.to_owned(),
        });
        self
    }

    /// Is another step without this collection: one that was dropped and made again has another
    /// UUID.
    pub fn relying_on(mut self, database: &str, collection: &str, uuid: &str) -> Self {
        if !uuid.is_empty() {
            let relies_on = &mut self.body.relies_on;
            relies_on.insert(uuid_of(database, collection), uuid.to_owned());
        }
        self
    }

    /// Waits for a step of this plan, and is skipped unless it succeeds.
    pub fn needing(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }
}
