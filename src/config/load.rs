//! The story: read, take apart, fill in, check, build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::built::build;
use super::files::{File, Files};
use super::inventory::{self, Reading};
use super::model::{SchedulesFile, TaskFile};
use super::names::Names;
use super::node::Node;
use super::reading::{Care, against, tree, typed};
use super::sources::{self, Answers};
use super::types::{Config, Task};
use super::{check, closed, options, outlived, overwritten, throttle, told};
use crate::plan::KindInfo;
use crate::values::{Problem, Problems, describe, wall_clock};

/// Reads `schedules.yaml` and the folder `tasks/` beside it; never connects.
///
/// `env` looks up variables of the environment.
///
/// # Errors
///
/// Every problem of all files at once, in order of their places. No message shows a secret or
/// the value of a variable.
pub fn load(
    path: &Path,
    kinds: &[KindInfo],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    load_with(path, kinds, env, Care::Run, &Answers::default())
}

/// The same, and every connection URL is taken apart: an address that makes no sense is a failed
/// run of one target, but a problem of the file to who checks it.
///
/// # Errors
///
/// As [`load`].
pub fn load_for_check(
    path: &Path,
    kinds: &[KindInfo],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    load_with(path, kinds, env, Care::Check, &Answers::default())
}

/// The same, with the targets that commands and queries have answered. Without an answer any name
/// may be that of a target of theirs.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(
    path: &Path,
    kinds: &[KindInfo],
    env: &dyn Fn(&str) -> Option<String>,
    care: Care,
    answers: &Answers,
) -> Result<Config, Problems> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = Files::default();
    let (mut schedules, readable) = match File::read(path) {
        Ok(file) => (file, true),
        Err(problem) => {
            files.report(*problem);
            (File::new(path, ""), false)
        }
    };
    let tree = if readable {
        tree(&mut schedules, env, care)
    } else {
        None
    };
    let typed = tree.as_ref().and_then(|tree| {
        sources::hide(tree, &mut schedules);
        let value = against::<SchedulesFile>(tree, folder, &mut schedules)?;
        typed::<SchedulesFile>(value, tree, &mut schedules)
    });
    let perhaps = |name: &str| Some(env(name).unwrap_or_default());
    let reading = Reading {
        folder,
        env: if care == Care::Look { &perhaps } else { env },
        may_be_empty: care == Care::Look,
        care,
        answers,
    };
    if let Some(tree) = &tree {
        sources::check(tree, &mut schedules);
    }
    let (mut inventories, unread) = match &tree {
        Some(tree) => inventory::read(tree, &reading, &mut files),
        None => Default::default(),
    };
    let outside = tree.as_ref().map(|tree| sources::outside(tree, answers));
    let outside = outside.unwrap_or_default();
    let unseen = outside.not_asked.keys().copied();
    let unseen: Vec<usize> = unseen.chain(unread).collect();
    let names = tree
        .as_ref()
        .map(|tree| Names::read(tree, &mut inventories, &unseen, &mut schedules))
        .unwrap_or_default();

    let mut tasks = BTreeMap::new();
    let mut task_names = BTreeSet::new();
    let mut passed_by = Vec::new();
    for path in task_files(folder, &mut passed_by, &mut files) {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('-') {
            let why = format!(
                "`{name}` is no name for a task: it begins with `-`, and commands would take it for an option"
            );
            files.report(Problem::new(&path, why).hint("give the file another name"));
        }
        task_names.insert(name.clone());
        if let Some(task) = task(&path, name, &names, kinds, env, care, &mut files) {
            tasks.insert(task.name.clone(), task);
        }
    }

    if let Some(tree) = &tree {
        check::names(tree, &mut schedules);
        check::schedules(tree, &task_names, &mut schedules);
        if care == Care::Check {
            names.check_empty(tree, &mut schedules);
        }
        if let Some(typed) = &typed {
            check::values(tree, typed, &mut schedules);
            check::connections(tree, typed, &mut schedules);
            if care == Care::Check {
                told::addresses(tree, typed, &mut schedules);
            }
            if care.takes_urls_apart() {
                check::dials(tree, typed, env, care, &mut schedules);
            }
            if care == Care::Check {
                check::windows(tree, typed, &tasks, &mut schedules);
            }
        }
    }
    let mut paths = Vec::new();
    let mut further = Vec::new();
    for inventory in inventories {
        files.close(inventory.file);
        paths.extend(inventory.path);
        further.extend(inventory.typed);
    }
    files.close(schedules);
    files.finish()?;
    // Without a problem both are there: whatever keeps `typed` away has been reported.
    let mut typed = typed.ok_or_else(|| Problem::new(path, "cannot be read"))?;
    typed
        .targets
        .extend(further.into_iter().flat_map(|one| one.targets));
    let unset = match care {
        Care::Look => tree.as_ref().map(|tree| unset(tree, env)),
        Care::Run | Care::Check | Care::Export => None,
    };
    let mut config = build(path, typed, names, tasks, &unset.unwrap_or_default());
    config.inventories = paths;
    config.warnings.extend(outside.not_asked.values().cloned());
    config.warnings.extend(passed_by);
    if care == Care::Check {
        let unscheduled = unscheduled(&config);
        config.warnings.extend(unscheduled);
        let never_within = closed::never_within(&config, wall_clock());
        config.warnings.extend(never_within);
        let outlived = outlived::before_their_archive(&config, kinds, wall_clock());
        config.warnings.extend(outlived);
        let overwritten = overwritten::by_each_other(&config, kinds);
        let said = overwritten.into_iter().map(|one| one.said);
        config.warnings.extend(said);
    }
    config.outside = outside;
    Ok(config)
}

/// Targets whose URL is a variable that is not set where somebody only looks: whoever runs the tasks
/// has it, or would be told. A default says that it may be missing there as well.
fn unset(tree: &Node, env: &dyn Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let targets = tree.get("targets").map(Node::entries).unwrap_or_default();
    let unset = targets.iter().filter(|entry| {
        let url = entry.value.get("url").and_then(Node::scalar);
        url.is_some_and(|url| {
            let name = url.shown().strip_prefix("${");
            let name = name.and_then(|rest| rest.strip_suffix('}'));
            url.text.is_empty()
                && name.is_some_and(|name| !name.contains(":-") && env(name).is_none())
        })
    });
    unset.map(|entry| entry.key.clone()).collect()
}

/// So many tasks are named in one sentence.
const MOST_NAMED: usize = 5;

/// What is to be said of tasks that nothing runs by itself.
fn unscheduled(config: &Config) -> Option<String> {
    let names: Vec<String> = config
        .unscheduled()
        .map(|task| format!("`{}`", task.name))
        .collect();
    let first = names.first()?;
    if config.schedules.is_empty() {
        return Some("there are no `schedules`: no task runs by itself".to_owned());
    }
    let help = "list it in a schedule, run it with `maint run`, or set `enabled: false`";
    Some(match names.len() {
        1 => format!("task {first} is in no schedule, so nothing runs it by itself: {help}"),
        n => {
            let some = names.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>();
            let more = match n - some.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(
                "{n} tasks are in no schedule, so nothing runs them by itself ({}{more}): {}",
                some.join(", "),
                help.replace(" it ", " each ")
            )
        }
    })
}

/// The files in `tasks/`, in order. Files that only look like tasks are reported, and folders with
/// such are told.
fn task_files(folder: &Path, passed_by: &mut Vec<String>, files: &mut Files) -> Vec<PathBuf> {
    let tasks = folder.join("tasks");
    let entries = match std::fs::read_dir(&tasks) {
        Ok(entries) => entries,
        Err(why) => {
            let message = format!("the folder of tasks cannot be read: {}", describe(&why));
            files.report(Problem::new(&tasks, message).hint(
                "`tasks` stands beside `schedules.yaml` and has a file for each task, such as \
                 `tasks/analyze.yaml`; `maint init` writes both",
            ));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Kubernetes mounts its files beside hidden folders, editors leave hidden files.
        if name.starts_with('.') {
            return false;
        }
        if path.is_dir() {
            if name.ends_with(".yaml") {
                files.report(Problem::new(path, "is a folder: a task is a file"));
            } else if has_tasks(path) {
                passed_by.push(format!(
                    "{} is a folder in the folder of tasks: no task in it is read; move its files \
                     into `tasks`",
                    path.display()
                ));
            }
            return false;
        }
        let stem = [".yml", ".yaml"].iter().find_map(|end| {
            let at = name.len().checked_sub(end.len())?;
            let (stem, written) = name.split_at_checked(at)?;
            (written.eq_ignore_ascii_case(end) && written != ".yaml").then_some(stem)
        });
        if let Some(stem) = stem {
            let problem = Problem::new(path, "is not read: tasks end in `.yaml`");
            files.report(problem.hint(format!("rename it to `{stem}.yaml`")));
        }
        name.ends_with(".yaml")
    });
    paths
}

/// Whether a folder, or one in it, holds what somebody may take for tasks.
fn has_tasks(folder: &Path) -> bool {
    /// Who keeps more than that in a folder keeps something else there.
    const MOST: usize = 1_000;
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST {
                return false;
            }
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if name.starts_with('.') {
                continue;
            }
            if name.ends_with(".yaml") || name.ends_with(".yml") {
                return true;
            }
            // Not through links, which may lead in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    false
}

/// One task file; `None` where it has a problem.
fn task(
    path: &Path,
    name: String,
    names: &Names,
    kinds: &[KindInfo],
    env: &dyn Fn(&str) -> Option<String>,
    care: Care,
    files: &mut Files,
) -> Option<Task> {
    if !is_task_name(&name) {
        let problem = Problem::new(path, format!("`{name}` is not a name for a task"));
        files.report(
            problem.hint(
                "use lower-case letters, digits, `-` and `_`, beginning with a letter or digit",
            ),
        );
    }
    let mut file = match File::read(path) {
        Ok(file) => file,
        Err(problem) => {
            files.report(*problem);
            return None;
        }
    };
    let folder = path
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new(""));
    let task = tree(&mut file, env, care).and_then(|tree| {
        let value = against::<TaskFile>(&tree, folder, &mut file);
        if let Some(target) = tree.get("target") {
            names.check(target, &mut file);
        }
        let kind = options::kind(&tree, names, kinds, &mut file);
        if let Some(kind) = kind {
            options::misplaced(&tree, kind, &mut file);
        }
        let options = kind.and_then(|kind| options::options(&tree, kind, names, folder, &mut file));
        let mut value = value?;
        // Checked by the schema of the kind, which knows more than that of the file.
        value.as_object_mut()?.shift_remove("options");
        let typed: TaskFile = typed(value, &tree, &mut file)?;
        for (key, why) in throttle::unusable(&typed.throttle) {
            let written = tree.get("throttle").and_then(|all| all.get(key));
            let place = written.map_or(tree.span, |node| node.span);
            file.report(file.problem(place, format!("`throttle.{key}` {why}")));
        }
        let without_time = typed.limits.without_time();
        for key in without_time.filter(|_| care == Care::Check) {
            let written = tree.get("limits").and_then(|all| all.get(key));
            let place = written.map_or(tree.span, |node| node.span);
            let message = format!("`limits.{key}` is no time at all: nothing could be done in it");
            let problem = file.problem(place, message);
            file.report(problem.hint("write a time such as `2h`, or leave it out"));
        }
        Some(Task {
            name,
            engine: kind?.engine,
            kind: typed.kind,
            description: typed.description,
            enabled: typed.enabled,
            targets: names.expand(&typed.target),
            looks_at_server: kind?.looks_at_server,
            needs_history: kind?.needs_history,
            target: typed.target,
            options: options?,
            filled: std::mem::take(&mut file.filled),
            changed: Vec::new(),
            limits: typed.limits,
            throttle: typed.throttle,
            window: typed.window,
            retries: typed.retries,
            trust_owners: typed.trust_owners,
            commands: typed.commands,
            elsewhere: Arc::default(),
        })
    });
    files.close(file);
    task
}

/// `[a-z0-9][a-z0-9_-]*`: fits a command line, a metric and a Kubernetes name.
fn is_task_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(plain) && name.chars().all(|c| plain(c) || c == '-' || c == '_')
}
