//! What no schema can say about `schedules.yaml`: names that refer to something, URLs that fit.

mod addresses;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub(super) use self::addresses::{connections, dials, is_smtp, is_web};
use super::files::File;
use super::guess::{guess, shown};
use super::model::SchedulesFile;
use super::node::{Node, Span};
use super::opening::{TaskWindow, never_open};
use super::types::Task;
use crate::values::{CalendarSpan, TimeSpan, wall_clock};

/// Names in `schedules`: tasks, and other schedules in `after`.
pub(super) fn schedules(root: &Node, tasks: &BTreeSet<String>, file: &mut File) {
    let schedules = root.get("schedules").map(Node::entries).unwrap_or_default();
    let by_name: HashMap<&str, &Node> = schedules
        .iter()
        .map(|one| (one.key.as_str(), &one.value))
        .collect();
    let looping = looping(&by_name);
    for schedule in schedules {
        let name = &schedule.key;
        if name.starts_with(REPORT) {
            let message = format!(
                "`{name}` is no name for a schedule: the occurrences of reports are called so"
            );
            file.report(file.problem(schedule.key_span, message));
        }
        for node in schedule
            .value
            .get("tasks")
            .map(Node::items)
            .unwrap_or_default()
        {
            if node.text().is_some_and(|task| !tasks.contains(task)) {
                if file.is_full() {
                    file.report(file.problem(node.span, "unknown"));
                    continue;
                }
                let message = format!("unknown task `{}` in schedule `{name}`", shown(node));
                let problem = file.problem(node.span, message);
                let problem = guess(problem, node, tasks.iter().map(String::as_str).collect());
                file.report(match &problem.hint {
                    Some(_) => problem,
                    None => problem.hint(format!("a task is a file: tasks/{}.yaml", shown(node))),
                });
            }
        }
        for node in schedule
            .value
            .get("after")
            .map(Node::items)
            .unwrap_or_default()
        {
            let Some(other) = node.text() else { continue };
            if !by_name.contains_key(other) {
                if file.is_full() {
                    file.report(file.problem(node.span, "unknown"));
                    continue;
                }
                let message = format!("unknown schedule `{}` in schedule `{name}`", shown(node));
                let problem = file.problem(node.span, message);
                let known = schedules.iter().map(|s| s.key.as_str()).collect();
                file.report(guess(problem, node, known));
            } else if looping
                .get(name.as_str())
                .is_some_and(|ring| looping.get(other) == Some(ring))
            {
                let message = format!("schedule `{name}` would wait for itself");
                file.report(file.problem(node.span, message));
            }
        }
    }
}

/// Less of a history knows nothing of yesterday.
const SHORTEST_RETENTION: std::time::Duration = std::time::Duration::from_secs(86_400);

/// How the schedules of reports are called.
const REPORT: &str = "report:";

/// Names that nobody could type, or see.
pub(super) fn names(root: &Node, file: &mut File) {
    for (section, noun) in [
        ("targets", "a target"),
        ("groups", "a group"),
        ("schedules", "a schedule"),
        ("reports", "a report"),
    ] {
        let entries = root.get(section).map(Node::entries).unwrap_or_default();
        for entry in entries {
            let name = &entry.key;
            let odd = match name {
                name if name.trim().is_empty() => "it is empty",
                name if name.trim() != name.as_str() => "it begins or ends with a blank",
                name if name.starts_with('-') => {
                    "it begins with `-`, and commands would take it for an option"
                }
                name if name.contains("${") => "variables are filled into values only",
                name if name.chars().any(char::is_control) => "it has characters that nobody sees",
                _ => continue,
            };
            let message = format!("{name:?} is no name for {noun}: {odd}");
            file.report(file.problem(entry.key_span, message));
        }
    }
}

/// Values that would be taken for what nobody can have meant.
pub(super) fn values(root: &Node, typed: &SchedulesFile, file: &mut File) {
    let place = |node: Option<&Node>| node.map_or(root.span, |node| node.span);
    if typed.history_retention.get() < SHORTEST_RETENTION {
        let message = format!(
            "`history_retention` is {}: the history would forget what it needs to know what is due, and what has failed",
            typed.history_retention
        );
        let problem = file.problem(place(root.get("history_retention")), message);
        file.report(problem.hint("1d is the shortest; 400d where it is left out"));
    }
    let odd = |text: &&String| text.trim().chars().any(char::is_control);
    if typed.environment.as_ref().filter(odd).is_some() {
        let message = "`environment` has characters that nobody sees: subjects begin with it";
        file.report(file.problem(place(root.get("environment")), message));
    }
    for (name, report) in &typed.reports {
        if report.period == CalendarSpan::Months(0)
            || report.period == CalendarSpan::Fixed(TimeSpan::ZERO)
        {
            let entry = root.get("reports").and_then(|all| all.get(name));
            let message = format!("report `{name}` would look back for no time at all");
            let problem = file.problem(place(entry.and_then(|one| one.get("period"))), message);
            file.report(problem.hint("write how far back: `7d`, `1mo`"));
        }
    }
}

/// Tasks whose own window lets no occurrence of a schedule run them.
pub(super) fn windows(
    root: &Node,
    typed: &SchedulesFile,
    tasks: &BTreeMap<String, Task>,
    file: &mut File,
) {
    let now = wall_clock();
    for (name, schedule) in typed.schedules.iter().filter(|(_, one)| one.enabled) {
        let own: Vec<TaskWindow> = schedule
            .tasks
            .iter()
            .filter_map(|task| tasks.get(task).filter(|task| task.enabled))
            .map(|task| TaskWindow {
                task: task.name.clone(),
                window: task.window.clone(),
            })
            .collect();
        let zone = schedule.timezone.unwrap_or(typed.timezone).get();
        let fires = (&schedule.cron, schedule.window.as_ref());
        for never in never_open(fires, &own, zone, now) {
            let (Some(window), task) = (&never.window, &never.task) else {
                continue;
            };
            let entry = root.get("schedules").and_then(|all| all.get(name));
            let items = entry.and_then(|one| one.get("tasks")).map(Node::items);
            let mut items = items.unwrap_or_default().iter();
            let item = items.find(|item| item.text() == Some(task.as_str()));
            let place = item.map_or(root.span, |item| item.span);
            let (why, hint) = match &schedule.window {
                Some(other) if own.len() == 1 => (
                    format!("window `{other}` of schedule `{name}` is never open then"),
                    "give both the same window, or leave one out",
                ),
                _ => (
                    format!(
                        "the occurrences of schedule `{name}` begin at other times, by its window and those of its other tasks"
                    ),
                    "give the task a schedule of its own, or another window",
                ),
            };
            let message =
                format!("task `{task}` would never run: its window is `{window}`, and {why}");
            file.report(file.problem(place, message).hint(hint));
        }
    }
}

/// The schedules that wait for themselves, each with the number of its ring: those that can be
/// reached from each other by `after`. Every schedule and every `after` is looked at once.
fn looping<'a>(schedules: &HashMap<&'a str, &'a Node>) -> HashMap<&'a str, usize> {
    let after = |name: &str| -> Vec<&'a str> {
        let node = schedules.get(name).and_then(|node| node.get("after"));
        let named = node.map(Node::items).unwrap_or_default().iter();
        named
            .filter_map(Node::text)
            .filter(|other| schedules.contains_key(other))
            .collect()
    };
    let mut rings = HashMap::new();
    // Tarjan's strongly connected components, with a stack of its own: a chain may be long.
    let (mut index, mut low) = (HashMap::new(), HashMap::new());
    let (mut stack, mut on_stack) = (Vec::new(), HashSet::new());
    let mut names: Vec<&'a str> = schedules.keys().copied().collect();
    names.sort_unstable();
    for root in names {
        if index.contains_key(root) {
            continue;
        }
        let mut path: Vec<(&'a str, Vec<&'a str>)> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(name) = next.take() {
                let number = index.len();
                index.insert(name, number);
                low.insert(name, number);
                stack.push(name);
                on_stack.insert(name);
                path.push((name, after(name)));
            }
            let Some((name, todo)) = path.last_mut() else {
                break;
            };
            let name = *name;
            if let Some(other) = todo.pop() {
                if !index.contains_key(other) {
                    next = Some(other);
                } else if on_stack.contains(other) {
                    let least = low[name].min(index[other]);
                    low.insert(name, least);
                }
                continue;
            }
            path.pop();
            if let Some((before, _)) = path.last() {
                let least = low[before].min(low[name]);
                low.insert(before, least);
            }
            if low[name] == index[name] {
                let from = stack.iter().rposition(|one| *one == name).unwrap_or(0);
                let ring = stack.split_off(from);
                let alone = ring.len() == 1 && !after(name).contains(&name);
                for one in &ring {
                    on_stack.remove(one);
                    if !alone {
                        rings.insert(*one, index[name]);
                    }
                }
            }
        }
    }
    rings
}

/// The place of a key's value, or of the key where the value is a block.
pub(super) fn span(root: &Node, path: &[&str]) -> Span {
    let mut place = Span::default();
    let mut node = root;
    for key in path {
        let Some(entry) = node.entry(key) else { break };
        node = &entry.value;
        place = if node.scalar().is_some() {
            node.span
        } else {
            entry.key_span
        };
    }
    place
}
