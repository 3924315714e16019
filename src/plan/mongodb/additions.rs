//! Aggregations that add to their result: the mark that each has in the target, and what is said of
//! one that was cut off.

use chrono::DateTime;
use sha2::{Digest, Sha256};

use super::{Aggregate, Measure, shell_name, shell_text};
use crate::engines::mongodb::{Addition, CLAIMS, MARKS, namespace};
use crate::plan::{Finding, Severity};

/// How many bytes of the pipeline's hash tell it from others.
const HASHED: usize = 6;

/// Under which key it is remembered what an aggregation left, which is itself remembered under this
/// one.
pub(crate) fn left_by(key: &str) -> String {
    format!("left by: {key}")
}

impl Aggregate {
    /// The whole name of what it begins with.
    pub(crate) fn from(&self) -> String {
        namespace(&self.database, &self.collection)
    }

    /// The id of its mark: one for each pipeline between two collections.
    pub(crate) fn mark(&self, into: &Measure) -> String {
        let mut hash = Sha256::new();
        for stage in &self.pipeline {
            hash.update(stage.0.to_string());
        }
        let hash: String = hash
            .finalize()
            .iter()
            .take(HASHED)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (from, into) = (self.from(), namespace(&into.database, &into.collection));
        format!("addition {from} -> {into} {hash}")
    }
}

/// Why nothing is added while another run does so.
pub(crate) fn adding(mark: &Addition) -> String {
    format!(
        "another run adds to it just now: {}{}, as its claim in `{CLAIMS}` and its mark in `{MARKS}` say",
        mark.owner,
        since(mark)
    )
}

/// Since when it is made, or was.
fn since(mark: &Addition) -> String {
    mark.since
        .and_then(|at| DateTime::from_timestamp_millis(at.timestamp_millis()))
        .map(|at| format!(" of {}", at.format("%Y-%m-%d %H:%M:%S UTC")))
        .unwrap_or_default()
}

/// What a person should know of an addition whose end nobody has seen; `database` has its mark.
pub(crate) fn cut_off(mark: &Addition, database: &str) -> Finding {
    let marks = shell_name(database, MARKS);
    let it = format!("{{_id: {}}}", shell_text(&mark.id));
    let since = since(mark);
    let into = &mark.into;
    Finding {
        code: "refresh.cut_off".to_owned(),
        severity: Severity::Critical,
        object: into.clone(),
        message: format!(
            "{into} is not added to: {}{since}, which added to it from {}, was cut off, and nothing tells how much of that is there; once more would count it twice. Look at {into}. If it is as it was before, or was put back so, remove the mark, and it is made again: {marks}.deleteOne({it}). If all of it is there, or was completed by hand, say so: {marks}.updateOne({it}, {{$set: {{state: \"made\"}}}}). If {into} is dropped or emptied, it is made anew without a word",
            match mark.owner.as_str() {
                "" => "a run",
                owner => owner,
            },
            mark.from
        ),
        suggestion: Some(format!("{marks}.find({it})")),
    }
}

/// The same where the history knows that it was made: its mark could not say so, or somebody has changed it.
pub(crate) fn set_back(mark: &Addition, database: &str) -> Finding {
    let marks = shell_name(database, MARKS);
    let it = format!("{{_id: {}}}", shell_text(&mark.id));
    let (into, from) = (&mark.into, &mark.from);
    Finding {
        message: format!(
            "{into} is not added to: its mark in `{MARKS}` says that what was added{} from {from} was cut off, and the history that all of it was. Either the mark could not be told so, or somebody who may write to {database} has changed it. If {into} looks whole, say so: {marks}.updateOne({it}, {{$set: {{state: \"made\"}}}})",
            since(mark),
        ),
        ..cut_off(mark, database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::mongodb::{Added, Json};
    use mongodb::bson::doc;

    #[test]
    fn each_pipeline_between_two_collections_has_a_mark_of_its_own() {
        let into = Measure {
            database: "app".to_owned(),
            collection: "sums".to_owned(),
        };
        let of = |day: i32| Aggregate {
            database: "app".to_owned(),
            collection: "events".to_owned(),
            pipeline: vec![Json::of(&doc! { "$match": { "day": day } })],
            allow_disk_use: true,
            repeatable: false,
            from_secondary: false,
        };
        let (one, two) = (of(1).mark(&into), of(2).mark(&into));
        assert!(one.starts_with("addition app.events -> app.sums "));
        assert!(one != two && one == of(1).mark(&into));
    }

    #[test]
    fn what_was_cut_off_says_how_to_go_on() {
        let mark = Addition {
            id: "addition a -> b 1".to_owned(),
            from: "app.events".to_owned(),
            into: "app.sums".to_owned(),
            owner: "maint run".to_owned(),
            since: None,
            added: Added::CutOff,
            memory: None,
        };
        let told = cut_off(&mark, "app").message;
        for part in [
            "deleteOne({_id: \"addition a -> b 1\"})",
            "{$set: {state: \"made\"}}",
            "dropped or emptied",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let told = set_back(&mark, "app").message;
        assert!(told.contains("the history that all of it was"), "{told}");
        assert!(told.contains("{$set: {state: \"made\"}}"), "{told}");
    }
}
