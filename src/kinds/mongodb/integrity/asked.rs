//! What is asked of documents: whether references lead somewhere, what is there twice, what does not
//! meet its schema.

use mongodb::bson::{Bson, doc};

use super::super::fields::{self, Seen};
use super::{Facts, Integrity, unique};
use crate::engines::mongodb::{Json, namespace};
use crate::plan::mongodb::{Body, Look, Work, shell_document, shell_name, shell_stages};
use crate::plan::{Finding, Moment, Plan, Severity, Step};

impl Integrity {
    /// Plans what is asked of documents.
    pub(super) fn ask(&self, facts: &Facts, at: &Moment, plan: &mut Plan<Body>) {
        if facts.shard {
            self.told_of_shards(facts, plan);
        } else {
            self.ask_for_orphans(facts, at, plan);
        }
        self.ask_for_duplicates(facts, at, plan);
        self.ask_for_misfits(facts, plan);
    }

    /// References that point nowhere.
    fn ask_for_orphans(&self, facts: &Facts, at: &Moment, plan: &mut Plan<Body>) {
        for reference in &self.references {
            let text = format!(
                "every `{}` points at a document of {}",
                reference.field, reference.parent
            );
            let known = [&reference.collection, &reference.parent]
                .into_iter()
                .find(|name| !facts.collections.contains_key(*name));
            if let Some(missing) = known {
                unknown(facts, missing, plan);
                continue;
            }
            let field = reference.field.as_str();
            let places = [
                (&reference.collection, &reference.field),
                (&reference.parent, &reference.parent_field),
            ];
            facts.tell_unseen(places, at, plan);
            let mut pipeline = vec![
                doc! { "$match": { field: { "$exists": true } } },
                doc! { "$project": { "maint_points_at": format!("${field}") } },
            ];
            // Each part of the path may be an array, and what it leads to as well. What is no array
            // is left as it is, and what is nothing points nowhere.
            for _ in 0..=field.split('.').count() {
                pipeline.push(doc! { "$unwind": "$maint_points_at" });
            }
            pipeline.extend([
                doc! { "$addFields": { "maint_points_at": pointed_at() } },
                doc! { "$lookup": { "from": &reference.parent, "localField": "maint_points_at", "foreignField": &reference.parent_field, "as": "maint_parent" } },
                doc! { "$match": { "maint_parent": { "$size": 0 } } },
                doc! { "$group": { "_id": Bson::Null, "n": { "$sum": 1 } } },
            ]);
            let finding = Finding {
                code: "reference.orphaned".to_owned(),
                severity: Severity::Warning,
                object: namespace(&facts.database, &reference.collection),
                message: format!(
                    "{{n}} references in `{field}` point at no document of {}",
                    reference.parent
                ),
                suggestion: None,
            };
            self.look(
                "check_reference",
                &facts.database,
                &reference.collection,
                (text, field),
                pipeline,
                finding,
                plan,
            );
        }
    }

    /// Values that are in more than one document.
    fn ask_for_duplicates(&self, facts: &Facts, at: &Moment, plan: &mut Plan<Body>) {
        for unique in &self.unique {
            if !facts.collections.contains_key(&unique.collection) {
                unknown(facts, &unique.collection, plan);
                continue;
            }
            let places = unique.fields.iter();
            let places = places.map(|field| (&unique.collection, field));
            facts.tell_unseen(places, at, plan);
            let fields = unique.fields.join(", ");
            let pipeline = unique::duplicates(&unique.fields);
            let finding = Finding {
                code: "collection.duplicates".to_owned(),
                severity: Severity::Warning,
                object: namespace(&facts.database, &unique.collection),
                message: format!("{{n}} values of ({fields}) occur in more than one document"),
                suggestion: None,
            };
            let text = format!("({fields}) occurs in one document only");
            self.look(
                "check_unique",
                &facts.database,
                &unique.collection,
                (text, &fields),
                pipeline,
                finding,
                plan,
            );
        }
    }

    /// Documents that do not meet the schema of their collection.
    fn ask_for_misfits(&self, facts: &Facts, plan: &mut Plan<Body>) {
        for (name, collection) in facts
            .collections
            .iter()
            .filter(|(name, _)| self.wants(&facts.database, name))
        {
            if self.schema && collection.left_out {
                plan.findings.push(Finding {
                    code: "collection.schema".to_owned(),
                    severity: Severity::Info,
                    object: namespace(&facts.database, name),
                    message: "whether documents meet the schema of the collection was not looked at: the schemas of the database are larger than what is read of them".to_owned(),
                    suggestion: None,
                });
            }
            let schema = collection
                .options
                .get_document("validator")
                .ok()
                .filter(|v| !v.is_empty());
            if let Some(schema) = schema.filter(|_| self.schema) {
                let pipeline = vec![
                    doc! { "$match": { "$nor": [schema.clone()] } },
                    doc! { "$group": { "_id": Bson::Null, "n": { "$sum": 1 } } },
                ];
                let finding = Finding {
                    code: "collection.schema".to_owned(),
                    severity: Severity::Warning,
                    object: namespace(&facts.database, name),
                    message: "{n} documents do not meet the schema of the collection".to_owned(),
                    suggestion: Some(format!(
                        "{}.find({{$nor: [{}]}})",
                        shell_name(&facts.database, name),
                        shell_document(schema)
                    )),
                };
                let text = "documents meet the collection's schema".to_owned();
                self.look(
                    "check_schema",
                    &facts.database,
                    name,
                    (text, ""),
                    pipeline,
                    finding,
                    plan,
                );
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one question")]
    pub(super) fn look(
        &self,
        action: &str,
        database: &str,
        collection: &str,
        (reason, about): (String, &str),
        pipeline: Vec<mongodb::bson::Document>,
        mut finding: Finding,
        plan: &mut Plan<Body>,
    ) {
        // What documents hold is never told: who wants to see them asks for them.
        finding.suggestion.get_or_insert_with(|| {
            let counted = pipeline.len().saturating_sub(1);
            let stages = pipeline.iter().take(counted).map(Json::of);
            let stages: Vec<Json> = stages.chain([Json::of(&doc! { "$limit": 20 })]).collect();
            let shell = shell_name(database, collection);
            format!("{shell}.aggregate({})", shell_stages(&stages))
        });
        let object = match about {
            "" => namespace(database, collection),
            about => format!("{} ({about})", namespace(database, collection)),
        };
        plan.steps.push(
            Step::new(action, &object, &object)
                .because(format!("whether {reason}"))
                .doing(Work::Look(Look::Any {
                    database: database.to_owned(),
                    collection: collection.to_owned(),
                    pipeline: pipeline.iter().map(Json::of).collect(),
                    finding: Box::new(finding),
                })),
        );
    }

    /// Of a shard alone it cannot be told that something is nowhere.
    fn told_of_shards(&self, facts: &Facts, plan: &mut Plan<Body>) {
        for reference in &self.references {
            plan.undone(Finding {
                code: "integrity.rule".to_owned(),
                severity: Severity::Critical,
                object: namespace(&facts.database, &reference.collection),
                message: format!(
                    "whether `{}` points at documents of {} was not looked at: this server is a shard of a cluster, and they may be on its other shards. Look through a mongos, and leave the check out here",
                    reference.field, reference.parent
                ),
                suggestion: None,
            });
        }
        for unique in &self.unique {
            plan.findings.push(Finding {
                code: "integrity.rule".to_owned(),
                severity: Severity::Info,
                object: namespace(&facts.database, &unique.collection),
                message: format!(
                    "that ({}) occurs in one document only is looked at among the documents of this shard: the same on another shard is not seen",
                    unique.fields.join(", ")
                ),
                suggestion: None,
            });
        }
    }
}

impl Facts {
    /// Tells of fields that no document has, nor had when it was looked before: a check of such a
    /// one finds nothing, whatever is wrong.
    fn tell_unseen<'a>(
        &self,
        places: impl IntoIterator<Item = (&'a String, &'a String)>,
        at: &Moment,
        plan: &mut Plan<Body>,
    ) {
        for (collection, field) in places {
            let object = namespace(&self.database, collection);
            let seen = self.fields.get(collection).and_then(|of| of.get(field));
            match seen {
                _ if fields::was_seen(at, &object, field, &None) => {}
                Some(Seen::Somewhere) => plan.memories.push(fields::memory(&object, field, &None)),
                Some(Seen::Nowhere) => plan.findings.push(Finding {
                    code: "integrity.rule".to_owned(),
                    severity: Severity::Warning,
                    message: format!(
                        "a check names `{field}`, and no document of {object} has it, so that it says nothing. Look at its spelling, or leave the check out until there is one"
                    ),
                    object,
                    suggestion: None,
                }),
                Some(Seen::Otherwise | Seen::Unknown) | None => {}
            }
        }
    }
}

/// The id within a reference (DBRef); every other value as it is.
fn pointed_at() -> mongodb::bson::Document {
    let value = "$maint_points_at";
    // No path of an aggregation leads to a field whose name begins with a dollar.
    let id = doc! { "$arrayElemAt": ["$$parts.v", { "$indexOfArray": ["$$parts.k", { "$literal": "$id" }] }] };
    let is_reference = doc! { "$setIsSubset": [{ "$literal": ["$ref", "$id"] }, "$$parts.k"] };
    doc! { "$cond": [
        { "$eq": [{ "$type": value }, "object"] },
        { "$let": {
            "vars": { "parts": { "$objectToArray": value } },
            "in": { "$cond": [is_reference, id, value] },
        } },
        value,
    ] }
}

fn unknown(facts: &Facts, collection: &str, plan: &mut Plan<Body>) {
    let object = namespace(&facts.database, collection);
    let why = match facts.views.get(collection) {
        Some(of) => format!("it is a view; name the collection that it reads, {of}"),
        None => "there is no such collection".to_owned(),
    };
    plan.refuse(&object, &*why);
    plan.findings.push(Finding {
        code: "integrity.rule".to_owned(),
        severity: Severity::Critical,
        message: format!("a check names {object}, and {why}"),
        object,
        suggestion: None,
    });
}
