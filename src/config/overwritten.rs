//! Tasks that take from each other what they make, and databases of one target that do: each succeeds, and
//! what the last one has made is all there is.

use std::collections::BTreeMap;

use super::types::{Config, Task};
use crate::engines::{Whereabouts, whereabouts};
use crate::plan::{KindInfo, Replaced, Replacing};

/// What is to be said of such tasks, where it is about one of these.
pub fn overwritten_by_others(config: &Config, kinds: &[KindInfo], tasks: &[&str]) -> Vec<String> {
    let all = by_each_other(config, kinds).into_iter();
    let about = all.filter(|one| one.tasks.iter().any(|name| tasks.contains(&name.as_str())));
    about.map(|one| one.said).collect()
}

/// Tasks of which one takes from the other what it makes, be it of another target or database.
pub(super) struct Overwritten {
    tasks: [String; 2],
    pub(super) said: String,
}

impl Overwritten {
    fn of(one: &Task, other: &Task, said: String) -> Overwritten {
        Overwritten {
            tasks: [one.name.clone(), other.name.clone()],
            said,
        }
    }
}

/// All that is to be said of such tasks.
pub(super) fn by_each_other(config: &Config, kinds: &[KindInfo]) -> Vec<Overwritten> {
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
        let by_databases = made.iter().filter_map(|of| by_databases(config, task, of));
        said.extend(by_databases.map(|text| Overwritten::of(task, task, text)));
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
                let text = format!(
                    "tasks `{}` and `{}` both put what they make into {} of target {target}, and {}. Give each a place of its own, or make it one task",
                    task.name,
                    other.name,
                    of.object,
                    loses(all)
                );
                said.push(Overwritten::of(task, other, text));
            }
        }
    }
    said.extend(on_one_server(config, &all));
    said
}

/// The same of targets that are on one server, as their addresses say.
fn on_one_server(config: &Config, all: &[(&Task, Vec<Replacing>)]) -> Vec<Overwritten> {
    let leads = config.targets.iter().filter_map(|(name, target)| {
        Some((name, whereabouts(target.engine, target.url.as_ref())?))
    });
    let leads: BTreeMap<&String, Whereabouts> = leads.collect();
    // Of many databases each has one of its own.
    let place = |of: &Replacing, target: &String, at: &Whereabouts| match of.own {
        false => Some(of.object.clone()),
        true => {
            let many = config.targets.get(target)?.databases.is_some();
            let database = at.database.as_ref().filter(|_| !many)?;
            Some(format!("{database}.{}", of.object))
        }
    };
    let mut said = Vec::new();
    for (n, (task, made)) in all.iter().enumerate() {
        for (m, (other, theirs)) in all.iter().enumerate().skip(n) {
            let pairs = task.targets.iter().enumerate().flat_map(|(i, one)| {
                let from = if n == m { i + 1 } else { 0 };
                let others = other.targets.iter().skip(from);
                others.map(move |two| (one, two))
            });
            let found = pairs
                .filter(|(one, two)| one != two)
                .find_map(|(one, two)| {
                    let (at, there) = (leads.get(one)?, leads.get(two)?);
                    if at.servers.is_disjoint(&there.servers) {
                        return None;
                    }
                    made.iter().find_map(|of| {
                        let into = place(of, one, at)?;
                        let mut to = theirs.iter().filter(|to| of.much.clashes(to.much));
                        let to = to.find(|to| place(to, two, there).as_ref() == Some(&into))?;
                        let all = of.much == Replaced::All || to.much == Replaced::All;
                        Some((one, two, into, loses(all)))
                    })
                });
            let Some((one, two, into, loses)) = found else {
                continue;
            };
            let who = match n == m {
                true => format!(
                    "task `{}` puts what it makes of targets {one} and {two}",
                    task.name
                ),
                false => format!(
                    "task `{}` puts what it makes of target {one}, and task `{}` what it makes of target {two},",
                    task.name, other.name
                ),
            };
            let text = format!(
                "{who} into {into} of one server, as their addresses say, and {loses}. Give each a place of its own"
            );
            said.push(Overwritten::of(task, other, text));
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
