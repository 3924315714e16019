//! Which documents a rule means, as a filter.

mod orphaned;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, Document, doc};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use self::orphaned::Orphaned;
use super::super::common::Collection;
use super::super::fields::{self, Kinds};
use super::super::filter::{self, Without};
use super::age::{Age, older};
use super::uses::Use;
use crate::engines::mongodb::{Json, Right, is_uncountable, misnamed, misnamed_database};
use crate::plan::mongodb::{Orphans, Path, single, to_delete, to_read};
use crate::plan::{Ageing, Gone, Unfit};
use crate::values::{Bytes, CalendarSpan, Epoch, Percent};

/// Documents of one collection that are to go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The collection.
    pub(in crate::kinds::mongodb) collection: String,
    /// Its database, where it is not the one in the target's `url`.
    #[serde(default)]
    pub(in crate::kinds::mongodb) database: Option<String>,
    /// The field that tells how old a document is: a date, an ObjectId (`_id`), or a number with
    /// `epoch`. Fields of embedded documents are written with dots. A document without a value of
    /// that type there stays.
    #[serde(default)]
    pub(in crate::kinds::mongodb) field: Option<String>,
    /// Documents older than this go. `0d` for fields that say when a document expires.
    #[serde(default)]
    pub(super) older_than: Option<CalendarSpan>,
    /// What a number in `field` counts since 1970.
    #[serde(default)]
    pub(in crate::kinds::mongodb) epoch: Option<Epoch>,
    /// Only documents that match this filter.
    #[serde(default, rename = "where")]
    pub(super) only: Option<Json>,
    /// Only documents whose parent is gone.
    #[serde(default)]
    pub(in crate::kinds::mongodb) orphaned: Option<Orphaned>,
    /// No documents that match one of these filters.
    #[serde(default)]
    pub(super) keep: Vec<Json>,
    /// Fields of `where`, `keep` and `orphaned` that may be in no document at all. Without that a
    /// rule whose `keep` names a field that no document has is not followed: what was to be kept
    /// would go where the name is misspelt.
    #[serde(default)]
    pub(super) may_be_absent: Vec<String>,
    /// Nothing goes where more documents than this would.
    #[serde(default)]
    pub(super) max_rows: Option<u64>,
    /// Nothing goes where a larger share of the collection than this would. Orphans may be half of
    /// it where nothing is said, and none where there is no parent at all.
    #[serde(default)]
    pub(super) max_share: Option<Percent>,
}

/// Whether a collection of these names can be looked after.
pub(in crate::kinds::mongodb) fn fit(
    key: &str,
    collection: &str,
    database: Option<&str>,
) -> Result<(), String> {
    let database = database.and_then(|name| Some(("database", name, misnamed_database(name)?)));
    let collection = misnamed(collection).map(|why| (key, collection, why));
    match collection.or(database) {
        Some((key, name, why)) => Err(format!("`{key}: {name}` {why}")),
        None => Ok(()),
    }
}

/// A collection, with its database where that is not the one of the target.
pub(super) fn named(database: Option<&str>, collection: &str) -> String {
    match database {
        Some(database) => format!("{database}.{collection}"),
        None => collection.to_owned(),
    }
}

impl Rule {
    /// What it takes by age, where its age tells.
    pub(in crate::kinds::mongodb) fn ages(&self, fate: Gone) -> Option<Ageing> {
        let all = self.only.is_none() && self.keep.is_empty() && self.orphaned.is_none();
        Some(Ageing {
            object: named(self.database.as_deref(), &self.collection),
            after: self.older_than.filter(|_| all || fate == Gone::Kept)?,
            fate,
        })
    }

    /// What the user has to be allowed, where the target's database is this one.
    pub(in crate::kinds::mongodb) fn rights(&self, own: &str) -> Vec<Right> {
        let database = self.database.as_deref().unwrap_or(own);
        let mut rights = to_delete(database, &self.collection);
        if let Some(of) = &self.orphaned {
            let database = of.parent_database.as_deref().unwrap_or(database);
            rights.extend(to_read(database, &of.parent));
        }
        rights
    }

    /// Whether the rule makes sense by itself.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        let name = &self.collection;
        if name.is_empty() {
            return Err(Unfit::at("collection", "a rule without a `collection`"));
        }
        fit("collection", name, self.database.as_deref())?;
        if let Some(of) = &self.orphaned {
            fit("parent", &of.parent, of.parent_database.as_deref())?;
        }
        if self.field.is_none() && self.only.is_none() && self.orphaned.is_none() {
            return Err(format!(
                "the rule for `{name}` has neither an age nor a condition and would empty the collection; give it `field` and `older_than`, `where`, or `orphaned`"
            ).into());
        }
        match (&self.field, self.older_than) {
            (Some(_), None) => {
                return Err(Unfit::at(
                    "field",
                    format!("the rule for `{name}` names a `field` but no `older_than`"),
                ));
            }
            (None, Some(_)) => {
                return Err(Unfit::at(
                    "older_than",
                    format!(
                        "the rule for `{name}` says `older_than` but not which `field` tells the age"
                    ),
                ));
            }
            _ => {}
        }
        let orphan = self
            .orphaned
            .iter()
            .flat_map(|o| [&o.field, &o.parent_field]);
        for field in self.field.iter().chain(orphan) {
            if field.is_empty()
                || field
                    .split('.')
                    .any(|part| part.is_empty() || part.starts_with('$'))
            {
                return Err(format!(
                    "`{field}` in the rule for `{name}` is no field: expected a name, or names with dots between them"
                )
                .into());
            }
        }
        let filters = self
            .only
            .iter()
            .map(|f| ("where", f))
            .chain(self.keep.iter().map(|f| ("keep", f)));
        for (key, filter) in filters {
            let document = filter.document().map_err(|why| {
                Unfit::at(
                    key,
                    format!("`{key}` in the rule for `{name}` is no filter: {why}"),
                )
            })?;
            if document.is_empty() {
                return Err(Unfit::at(
                    key,
                    match key {
                        "where" => format!(
                            "`where` in the rule for `{name}` is empty, and would match every document"
                        ),
                        _ => format!(
                            "`keep` in the rule for `{name}` is empty, and would keep every document"
                        ),
                    },
                ));
            }
            if let Some((operator, why)) = filter::unusable(&document) {
                return Err(Unfit::at(
                    key,
                    format!("`{key}` in the rule for `{name}` has `{operator}`, {why}"),
                ));
            }
        }
        let all = self.only.iter().chain(&self.keep);
        let all: Result<Vec<Document>, String> = all.map(Json::document).collect();
        if is_uncountable(&all.unwrap_or_default()) {
            return Err(Unfit::from(format!(
                "the rule for `{name}` has `$where` and `$$NOW`, and no command of the server counts documents by both; write `$expr` instead of `$where`, or `field` and `older_than` instead of `$$NOW`"
            )));
        }
        Ok(())
    }

    /// The fields that its filters name, what for, and what they are compared with.
    pub(super) fn names(&self) -> Result<BTreeMap<String, (Vec<Use>, Kinds)>, String> {
        let mut names: BTreeMap<String, (Vec<Use>, Kinds)> = BTreeMap::new();
        let mut note = |field: String, used, kinds: Kinds| {
            let known = names.entry(field).or_insert((Vec::new(), kinds.clone()));
            known.0.push(used);
            known.1 = fields::both(known.1.take(), kinds);
        };
        for keep in &self.keep {
            for (field, met) in filter::named(&keep.document()?).fields {
                let used = match met.without {
                    Without::Met => Use::KeepsAll,
                    // What may keep nothing is not tried.
                    Without::Unmet | Without::Unknown => Use::KeepsNone,
                };
                note(field, used, met.kinds);
            }
        }
        if let Some(only) = &self.only {
            for (field, met) in filter::named(&only.document()?).fields {
                let used = match met.without {
                    Without::Unmet => Use::TakesNone,
                    Without::Met | Without::Unknown => Use::TakesAll,
                };
                note(field, used, met.kinds);
            }
        }
        if let Some(of) = &self.orphaned {
            note(of.field.clone(), Use::Points, None);
        }
        Ok(names)
    }

    /// Its filters with operators that hide which fields they name: what for, the operator, and
    /// what meets none of them where they are misspelt.
    pub(super) fn hidden(&self) -> Result<Vec<(Use, String, Document)>, String> {
        let mut hidden = Vec::new();
        for keep in &self.keep {
            let keep = keep.document()?;
            if let Some(operator) = filter::named(&keep).opaque {
                hidden.push((Use::KeepsNone, operator, keep));
            }
        }
        if let Some(only) = &self.only {
            let only = only.document()?;
            if let Some(operator) = filter::named(&only).opaque {
                hidden.push((Use::TakesAll, operator, doc! { "$nor": [only] }));
            }
        }
        hidden.retain(|(_, operator, _)| !self.may_be_absent.contains(operator));
        Ok(hidden)
    }

    /// How the age is written: as most of the dates and ObjectIds in the field are, by the types
    /// seen in a sample, and by how many there are, where that was counted.
    pub(super) fn age(
        &self,
        types: &[(String, i64)],
        counted: Option<(i64, i64)>,
    ) -> Result<Option<Age>, String> {
        let Some(field) = &self.field else {
            return Ok(None);
        };
        if let Some(epoch) = self.epoch {
            return Ok(Some(Age::Number(epoch)));
        }
        let seen = |name: &str| types.iter().any(|(kind, n)| kind == name && *n > 0);
        let sampled = |name: &str| {
            let found = types.iter().find(|(kind, _)| kind == name);
            found.map_or(0, |(_, n)| *n)
        };
        let sampled = (sampled("date"), sampled("objectId"));
        // Where both were counted up to the limit, the sample tells which are more.
        let (dates, ids) = match counted {
            Some((dates, ids)) if dates != ids => (dates, ids),
            _ => sampled,
        };
        if ids > dates {
            return Ok(Some(Age::ObjectId));
        }
        if dates > 0 {
            return Ok(Some(Age::Date));
        }
        for number in ["int", "long", "double", "decimal"] {
            if seen(number) {
                return Err(format!(
                    "`{field}` of {} holds numbers; say with `epoch` whether they count seconds, millis or micros since 1970",
                    self.collection
                ));
            }
        }
        let others: Vec<&str> = types
            .iter()
            .map(|(kind, _)| kind.as_str())
            .filter(|kind| !matches!(*kind, "missing" | "null"))
            .collect();
        if let Some(kind) = others.first() {
            return Err(format!(
                "`{field}` of {} is of type {kind}; expected a date, an ObjectId, or a number with `epoch`",
                self.collection
            ));
        }
        // Nothing there yet.
        Ok(Some(Age::Date))
    }

    /// The documents that go now. Along an index each batch looks for arrays itself: the
    /// question where it ends is then answered by the index alone.
    pub(super) fn filter(
        &self,
        age: Option<Age>,
        now: DateTime<Utc>,
        path: &Path,
    ) -> Result<Document, String> {
        let mut parts: Vec<Document> = Vec::new();
        if let (Some(field), Some(span), Some(age)) = (&self.field, self.older_than, age) {
            parts.push(doc! { field.as_str(): older(age, span.before(now)) });
            if matches!(path, Path::Ids) {
                parts.extend(single(field));
            }
        }
        if let Some(only) = &self.only {
            parts.push(only.document()?);
        }
        let keep: Result<Vec<Document>, String> = self.keep.iter().map(Json::document).collect();
        let keep = keep?;
        if !keep.is_empty() {
            parts.push(doc! { "$nor": keep });
        }
        if let Some(orphaned) = &self.orphaned {
            let field = orphaned.field.as_str();
            parts.push(doc! { field: { "$exists": true, "$ne": Bson::Null } });
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => doc! { "$and": parts },
        })
    }

    /// What is older than that moment goes.
    pub(super) fn cutoff(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.older_than.map_or(now, |span| span.before(now))
    }

    /// How the collection is gone through.
    ///
    /// # Errors
    /// When only by reading all of it, and it is too large for that: what would help.
    pub(super) fn path(&self, collection: &Collection, most: Bytes) -> Result<Path, String> {
        if let Some(field) = &self.field
            && self.orphaned.is_none()
            && let Some(index) = collection
                .ordering(field)
                // Fewer fields are fewer that could be arrays, and a smaller index.
                .min_by_key(|index| index.keys.len())
        {
            return Ok(Path::Range {
                field: field.clone(),
                index: index.name.clone(),
            });
        }
        let size = u64::try_from(collection.bytes).unwrap_or(0);
        if size > most.get() {
            return Err(match &self.field {
                Some(field) if self.orphaned.is_none() => format!(
                    "{}, and reading all {} for it is more than `max_scan` ({most})",
                    collection.lacks_order(field),
                    Bytes(size)
                ),
                _ => format!(
                    "every document has to be read, and {} is more than `max_scan` ({most})",
                    Bytes(size)
                ),
            });
        }
        Ok(Path::Ids)
    }

    /// Whose parents are looked for.
    pub(super) fn orphans(&self, database: &str) -> Option<Orphans> {
        let of = self.orphaned.as_ref()?;
        Some(Orphans {
            field: of.field.clone(),
            parent_database: of
                .parent_database
                .clone()
                .unwrap_or_else(|| database.to_owned()),
            parent: of.parent.clone(),
            parent_field: of.parent_field.clone(),
            limited: self.max_rows.is_some() || self.max_share.is_some(),
        })
    }
}
