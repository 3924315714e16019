//! Whether documents that a task archives to another target can be kept there.

use super::missing::{lacking, told};
use super::session;
use crate::config::Task;
use crate::engines::mongodb::{MongoError, Rights, Session, namespace};
use crate::kinds::mongodb::elsewhere;
use crate::pipeline::checkup::{Level, Line};
use crate::plan::mongodb::{Destination, to_keep};
use crate::values::with_causes;

/// Documents of a collection, by database and name, and where they are put.
type Moved = ((String, String), Destination);

/// Tries every place on another target that a task puts documents into; nothing is written there.
pub(super) async fn tried(here: &Session, task: &Task) -> Vec<Line> {
    if task.kind != "archive" {
        return Vec::new();
    }
    let moved = elsewhere(&task.options, here.database());
    let Some(name) = moved.first().and_then(|(_, into)| into.target.clone()) else {
        return Vec::new();
    };
    // That there is no such target is told where the configuration is read.
    let Some(target) = task.elsewhere.get(&name) else {
        return Vec::new();
    };
    let lines = match session(target, "maint doctor").await {
        Ok(there) => {
            let found = looked(here, &there, &moved).await;
            there.close().await;
            found.unwrap_or_else(|error| {
                let what = "whether documents can be kept there is not known";
                vec![(Level::Problem, told(what, &error))]
            })
        }
        Err(error) => vec![(
            Level::Problem,
            format!("it cannot be reached: {}", with_causes(&error)),
        )],
    };
    let of = |(level, text)| {
        let text = format!("{}: archives to target `{name}`: {text}", task.name);
        (level, text)
    };
    lines.into_iter().map(of).collect()
}

async fn looked(here: &Session, there: &Session, moved: &[Moved]) -> Result<Vec<Line>, MongoError> {
    if !there.server.writable {
        let text = "not the primary: nothing can be kept there; list all members in its url";
        return Ok(vec![(Level::Problem, text.to_owned())]);
    }
    let needed: Vec<_> = moved.iter().flat_map(|(_, into)| to_keep(into)).collect();
    if let Some(rights) = Rights::of(there).await? {
        let lacking = lacking(&rights, &needed, there);
        if !lacking.is_empty() {
            let line = |what| (Level::Problem, format!("its user lacks {what}"));
            return Ok(lacking.into_iter().map(line).collect());
        }
    }
    let mut lines = Vec::new();
    for ((database, collection), into) in moved {
        let whole = namespace(&into.database, &into.collection);
        let (held, unfit) = there.to_keep(&into.database, &into.collection).await?;
        let own = here.identity(database, collection).await?;
        let line = match (unfit, held) {
            (Some(why), _) => (Level::Problem, format!("{whole} cannot keep them: {why}")),
            (None, Some(held)) if own.is_some() && own == held.uuid => (
                Level::Problem,
                format!("{whole} is where the documents are already, by another name"),
            ),
            (None, Some(_)) => (Level::Ok, format!("{whole} can keep them")),
            (None, None) => (
                Level::Ok,
                format!("{whole} does not exist yet, and can be made"),
            ),
        };
        lines.push(line);
    }
    Ok(lines)
}
