//! Databases that have come to a server since a plan was saved, or have gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::Failure;
use super::Work;
use crate::config::{Config, Target};
use crate::pipeline::{self, PipelineError};
use crate::plan::{Saved, SavedPlan};

/// What a task is for now and was not when plans for all databases of a server were saved.
pub(super) async fn new_databases(
    config: &Config,
    saved: &Saved,
    work: &Work,
) -> Result<Work, Failure> {
    let mut new = Work::new();
    let mut looked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (plan, (task, target)) in saved.plans.iter().zip(work) {
        let server = target.server();
        if !plan.with_all || !looked.insert((&task.name, server)) {
            continue;
        }
        let Some(many) = config.targets.get(server).filter(|one| one.is_many()) else {
            continue;
        };
        let there = match pipeline::spread(task, many).await {
            Ok(there) => there,
            // Those that are gone are told.
            Err(PipelineError::NoDatabase { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let known = |one: &Target| {
            let of = |plan: &SavedPlan| plan.task == task.name && plan.target == one.name;
            saved.plans.iter().any(of)
        };
        let unknown = there.into_iter().filter(|one| !known(one));
        new.extend(unknown.map(|one| (Arc::clone(task), one)));
    }
    Ok(new)
}

/// What is said of a plan whose database was dropped.
pub(super) const GONE: &str = "the database is not there any more, or takes no connections now";

/// What the databases of each server are called as targets.
pub(super) type Servers = BTreeMap<String, BTreeSet<String>>;

/// Whether it is one of the databases of a server, and is not there any more.
pub(super) async fn is_gone(
    config: &Config,
    target: &Target,
    servers: &mut Servers,
) -> Result<bool, Failure> {
    let server = target.database.as_ref().map(|one| &one.server);
    let Some(server) = server.and_then(|name| config.targets.get(name)) else {
        return Ok(false);
    };
    if !servers.contains_key(&server.name) {
        let found = match pipeline::look_up(server).await {
            Ok(found) => found,
            Err(PipelineError::NoDatabase { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let names = found.into_iter().map(|one| one.name).collect();
        servers.insert(server.name.clone(), names);
    }
    let there = servers.get(&server.name);
    Ok(there.is_some_and(|there| !there.contains(&target.name)))
}
