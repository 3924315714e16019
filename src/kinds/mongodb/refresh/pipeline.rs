//! What a pipeline reads, and where its result goes.

mod again;
mod into;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mongodb::bson::Bson;

use self::into::misplaced;
pub(super) use self::into::{Lacking, clashing};
use self::reads::read_by;
pub(super) use self::reads::read_by_view;
use super::Aggregation;
use crate::plan::Unfit;

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
}
