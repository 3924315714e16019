//! Tasks that take from each other what they make, and databases of one target that do: each succeeds, and
//! what the last one has made is all there is.

use super::types::{Config, Task};
use crate::plan::{KindInfo, Replaced, Replacing};

/// What is to be said of such tasks.
pub(super) fn by_each_other(config: &Config, kinds: &[KindInfo]) -> Vec<String> {
    let enabled = config.tasks.values().filter(|task| task.enabled);
    let all: Vec<(&Task, Vec<Replacing>)> = enabled
        .filter_map(|task| {
            let is = |info: &&KindInfo| info.name == task.kind && info.engine == task.engine;
            let info = kinds.iter().find(is)?;
            Some((task, (info.replaces)(&task.options)))
        })
        .collect();
    let mut said = Vec::new();
    for (n, (task, made)) in all.iter().enumerate() {
        said.extend(made.iter().filter_map(|of| by_databases(config, task, of)));
        for (other, theirs) in all.iter().skip(n + 1) {
            let shared = |one: &&String| other.targets.contains(one);
            let Some(target) = task.targets.iter().find(shared) else {
                continue;
            };
            let pairs = made
                .iter()
                .flat_map(|of| theirs.iter().map(move |to| (of, to)));
            let mut pairs = pairs.filter(|(of, to)| {
                of.object == to.object && of.own == to.own && of.much.clashes(to.much)
            });
            if let Some((of, to)) = pairs.next() {
                let all = of.much == Replaced::All || to.much == Replaced::All;
                said.push(format!(
                    "tasks `{}` and `{}` both put what they make into {} of target {target}, and {}. Give each a place of its own, or make it one task",
                    task.name,
                    other.name,
                    of.object,
                    loses(all)
                ));
            }
        }
    }
    said
}

/// The same of the databases of one target, which all put it into one place.
fn by_databases(config: &Config, task: &Task, of: &Replacing) -> Option<String> {
    if of.own || of.much == Replaced::Nothing {
        return None;
    }
    let many = |name: &&String| {
        let target = config.targets.get(name.as_str());
        target.is_some_and(|target| target.databases.is_some())
    };
    let target = task.targets.iter().find(many)?;
    Some(format!(
        "task `{}` puts what it makes of every database of target {target} into {}, and {}. Leave the database out of the place, so that each database has its own, or give each a task of its own",
        task.name,
        of.object,
        loses(of.much == Replaced::All)
    ))
}

fn loses(all: bool) -> &'static str {
    match all {
        true => "one replaces all that another has put there: only what the last one made is left",
        false => {
            "one replaces what another has put there under the same key: where keys meet, only what the last one made is left"
        }
    }
}
