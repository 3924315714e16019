//! Whether data is whole: validate, orphaned references, duplicate keys,
//! documents against their schema, indexes that differ between members.

mod asked;
mod indexes;
mod unique;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use self::indexes::differing;
use super::common::{
    Collection, Index, Shape, collections, empty, fill, is_empty, is_internal, not_allowed,
    not_answered,
};
use super::fields::{self, Seen};
use crate::engines::EngineError;
use crate::engines::mongodb::{Member, Members, Session};
use crate::plan::mongodb::{Body, Look, Work};
use crate::plan::{Finding, Kind, Moment, Plan, Site, Step, Unfit};
use crate::values::{Engine, NamePattern, TimeSpan};

/// Options of `kind: integrity` on MongoDB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Integrity {
    /// Only collections that match one of these patterns.
    include: Vec<NamePattern>,
    /// No collections that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// How thoroughly the server validates collections.
    validate: Depth,
    /// Within this time every collection should have been validated on every member.
    cover_within: TimeSpan,
    /// References between collections.
    references: Vec<Reference>,
    /// Fields whose values, taken together, occur in one document only.
    unique: Vec<Unique>,
    /// Look for documents that do not meet the schema of their collection.
    schema: bool,
}

impl Default for Integrity {
    fn default() -> Self {
        Integrity {
            include: Vec::new(),
            exclude: Vec::new(),
            validate: Depth::Background,
            cover_within: TimeSpan::from_mins(30 * 24 * 60),
            references: Vec::new(),
            unique: Vec::new(),
            schema: true,
        }
    }
}

/// How thoroughly collections are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Depth {
    /// Not at all.
    Off,
    /// From the last checkpoint, beside the work of others, on one member after the other. Needs
    /// MongoDB 4.4.
    Background,
    /// Every page and document, on a secondary: nobody else gets at the collection meanwhile.
    Full,
}

/// A field that points at another collection.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// The collection that points.
    collection: String,
    /// The field that points.
    field: String,
    /// The collection pointed at.
    parent: String,
    /// The field pointed at.
    #[serde(default = "id")]
    parent_field: String,
}

fn id() -> String {
    "_id".to_owned()
}

/// Fields that tell documents apart.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Unique {
    /// The collection.
    collection: String,
    /// The fields.
    #[schemars(length(min = 1))]
    fields: Vec<String>,
}

/// How far a member may be behind, in seconds, and still have what was made meanwhile.
const BEHIND: f64 = 5.0;

/// What the decision is made from.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    database: String,
    collections: BTreeMap<String, Collection>,
    /// Views, and what each of them reads.
    views: BTreeMap<String, String>,
    /// Names and keys of indexes, by collection and member.
    indexes: BTreeMap<String, BTreeMap<String, Vec<Index>>>,
    /// Members that hold data and answer, and whether each is primary; none of a server that stands
    /// alone.
    members: Vec<(String, bool)>,
    /// Whether the server holds a part of a cluster's documents only.
    shard: bool,
    /// Whether the user may validate nothing at all.
    no_validate: bool,
    /// The database that the user was made in.
    lives_in: String,
    /// Of the fields that checks name, by collection, whether any document has them.
    fields: BTreeMap<String, BTreeMap<String, Seen>>,
    /// Whether there is no collection but maint's own.
    empty: bool,
    findings: Vec<Finding>,
}

impl Kind for Integrity {
    const NAME: &'static str = "integrity";
    const SUMMARY: &'static str = "validates collections, and looks for orphaned references, duplicates, schema violations and indexes that differ between members";
    const ENGINE: Engine = Engine::Mongodb;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        let references = self.references.iter().map(|one| {
            fit(&one.field).map_err(|why| Unfit::at("field", why))?;
            fit(&one.parent_field).map_err(|why| Unfit::at("parent_field", why))
        });
        Unfit::each("references", references)?;
        let unique = self.unique.iter();
        let unique =
            unique.map(|one| Unfit::each("fields", one.fields.iter().map(|field| fit(field))));
        Unfit::each("unique", unique)
    }

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut facts = Facts {
            database: db.database().to_owned(),
            shard: db.server.shard,
            lives_in: db.lives_in().to_owned(),
            ..Facts::default()
        };
        facts.no_validate =
            self.validate != Depth::Off && !db.may("validate", &facts.database).await?;
        let all = collections(db, &facts.database).await?;
        facts.empty = is_empty(&all);
        for (name, mut collection) in all {
            if is_internal(&name) {
                continue;
            }
            if collection.shape == Shape::View {
                let of = collection.options.get_str("viewOn").unwrap_or_default();
                facts.views.insert(name, of.to_owned());
                continue;
            }
            fill(db, &facts.database, &name, &mut collection).await?;
            facts.collections.insert(name, collection);
        }
        for (name, fields) in self.names() {
            if let Some(collection) = facts.collections.get(&name) {
                let place = (facts.database.as_str(), name.as_str());
                let fields = fields.into_iter().map(|field| (field, None)).collect();
                let seen = fields::look(db, place, collection, fields).await?;
                facts.fields.insert(name, seen);
            }
        }
        match Members::of(db).await {
            Ok(members) => {
                let holding = members.0.iter().filter(|m| m.healthy && m.reads());
                facts.members = holding
                    .map(|member| (member.name.clone(), member.state == "PRIMARY"))
                    .collect();
                // A delayed one has what the others had some time ago, and is never primary; one
                // that is behind has not come to the newest yet.
                let now = members.0.iter().filter(|m| m.healthy && m.reads());
                let is_there = |m: &&Member| m.lag.is_none_or(|lag| lag <= BEHIND);
                for member in now.filter(|m| !m.is_delayed()).filter(is_there) {
                    let session = match db.member(&member.name).await {
                        Ok(session) => session,
                        Err(error) => {
                            facts.findings.push(not_answered(
                                &error,
                                "the indexes of this member",
                                &member.name,
                            ));
                            continue;
                        }
                    };
                    for name in facts.collections.keys() {
                        let mut here = Collection::default();
                        fill(&session, &facts.database, name, &mut here).await?;
                        facts
                            .indexes
                            .entry(name.clone())
                            .or_default()
                            .insert(member.name.clone(), here.indexes);
                    }
                }
            }
            Err(error) => facts.findings.push(not_allowed(
                &error,
                "whether indexes differ between members",
                &facts.database,
            )),
        }
        Ok(facts)
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let mut plan = Plan {
            considered: facts.collections.len(),
            findings: facts.findings.clone(),
            ..Plan::default()
        };
        if facts.empty {
            plan.undone(empty(&facts.database));
        }
        for (name, members) in &facts.indexes {
            differing(&facts.database, name, members, &mut plan);
        }
        self.ask(&facts, at, &mut plan);
        self.validations(&facts, at, &mut plan);
        plan.steps = plan
            .steps
            .into_iter()
            .map(|step| facts.relying(step))
            .collect();
        plan
    }
}

impl Facts {
    /// Of another collection of the same name the same would be asked, but nobody has looked at
    /// that.
    fn relying(&self, step: Step<Body>) -> Step<Body> {
        let Work::Look(look) = &step.body.work else {
            return step;
        };
        let name = match look {
            Look::Any { collection, .. } => collection.clone(),
            Look::Validate(validate) => validate.collection.clone(),
        };
        match self.collections.get(&name) {
            Some(collection) => step.relying_on(&self.database, &name, &collection.uuid),
            None => step,
        }
    }
}

impl Integrity {
    /// The fields that checks name, by collection.
    fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut note = |collection: &String, field: &String| {
            let of = names.entry(collection.clone()).or_default();
            of.insert(field.clone());
        };
        for one in &self.references {
            note(&one.collection, &one.field);
            note(&one.parent, &one.parent_field);
        }
        for one in &self.unique {
            one.fields
                .iter()
                .for_each(|field| note(&one.collection, field));
        }
        names
    }

    fn wants(&self, database: &str, name: &str) -> bool {
        let matches = |patterns: &[NamePattern]| patterns.iter().any(|p| p.matches(database, name));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }
}

/// Whether documents can be asked for a field of that name.
fn fit(field: &str) -> Result<(), String> {
    let wrong = |part: &str| part.is_empty() || part.starts_with('$') || part.contains('\0');
    match field.split('.').any(wrong) {
        true => Err(format!(
            "`{field}` is no field: expected a name, or names with dots between them, and none that begins with `$`"
        )),
        false => Ok(()),
    }
}
