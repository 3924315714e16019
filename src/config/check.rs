//! What no schema can say about `schedules.yaml`: names that refer to something, URLs that fit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::files::File;
use super::guess::{guess, shown};
use super::model::SchedulesFile;
use super::node::{Node, Span};
use super::opening::{TaskWindow, never_open};
use super::telling::WebhookFormat;
use super::types::Task;
use crate::engines::mongodb;
use crate::engines::postgres::connect::Dial;
use crate::values::{CalendarSpan, DatabasePattern, Engine, Secret, TimeSpan, wall_clock};

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

/// What a URL of a driver has too much: `jdbc:postgresql://…`, `postgres+asyncpg://…`. Nothing of
/// what follows the scheme.
fn prefixed(url: &str) -> Option<(&str, &str)> {
    let (scheme, _) = url.split_once("://")?;
    let known = |scheme: &str| matches!(scheme, "postgres" | "postgresql" | "mongodb");
    if let Some(rest) = scheme.strip_prefix("jdbc:") {
        return known(rest).then_some(("jdbc:", rest));
    }
    let (rest, _) = scheme.split_once('+')?;
    known(rest).then(|| (&scheme[rest.len()..], rest))
}

/// The engine that this URL is one of, where a URL of another one is expected.
fn other_engine(url: &str, expected: &str) -> Option<&'static str> {
    let fitting = match expected.split_once("://") {
        Some(("`postgres", _)) => is_mongodb(url).then_some("mongodb"),
        Some(("`mongodb", _)) => is_postgres(url).then_some("postgres"),
        _ => None,
    };
    fitting.filter(|_| url.contains("://"))
}

/// URLs by their scheme, and mail without a server. No message shows a URL.
pub(super) fn connections(root: &Node, typed: &SchedulesFile, file: &mut File) {
    let mut check = |path: &[&str], url: &Secret, fits: fn(&str) -> bool, expected: &str| {
        if !url.expose().is_empty() && !fits(url.expose()) {
            let message = format!(
                "`{}` is not a URL that fits; expected {expected}",
                path.join(".")
            );
            let problem = file.problem(span(root, path), message);
            let scheme = expected.split('`').find(|form| form.ends_with("://…"));
            let lacks = scheme.filter(|_| !url.expose().contains("://"));
            if fits(url.expose().trim()) {
                file.report(problem.hint(
                    "there is a blank, or the end of a line, before or behind it: take it out",
                ));
                return;
            }
            file.report(match (prefixed(url.expose()), lacks) {
                (Some((prefix, rest)), _) => {
                    problem.hint(format!("drop `{prefix}`: it begins with `{rest}://`"))
                }
                (None, Some(_)) => {
                    // Of each form that there is, what it begins with.
                    let forms = expected.split('`').skip(1).step_by(2);
                    let begin = |form: &str| {
                        let end = form.find(":").map_or(form.len(), |at| at + 1);
                        let end = end + if form[end..].starts_with("//") { 2 } else { 0 };
                        format!("`{}`", &form[..end])
                    };
                    let begins = forms.filter(|form| form.contains(':')).map(begin);
                    let begins = begins.collect::<Vec<_>>().join(" or ");
                    problem.hint(format!("it has to begin with {begins}"))
                }
                (None, None) => match other_engine(url.expose(), expected) {
                    Some(engine) => {
                        problem.hint(format!("write `engine: {engine}` for such a URL"))
                    }
                    None => problem,
                },
            });
        }
    };
    for (name, target) in &typed.targets {
        let (fits, expected): (fn(&str) -> bool, _) = match target.engine {
            Engine::Postgres => (is_postgres, "`postgres://…` or `host=… dbname=…`"),
            Engine::Mongodb => (is_mongodb, "`mongodb://…` or `mongodb+srv://…`"),
        };
        if let Some(url) = &target.url {
            check(&["targets", name, "url"], url, fits, expected);
        }
        for replica in &target.replicas {
            check(&["targets", name, "replicas"], replica, fits, expected);
        }
    }
    let expected = "`sqlite:FILE` or `postgres://…`";
    check(&["history"], &typed.history, is_history, expected);
    if let Some(smtp) = &typed.smtp {
        check(
            &["smtp", "url"],
            &smtp.url,
            is_smtp,
            "`smtp://…` or `smtps://…`",
        );
    }
    if let Some(notify) = &typed.notify {
        if let Some(hook) = &notify.webhook {
            let (fits, expected): (fn(&str) -> bool, _) = match hook.format {
                WebhookFormat::Ntfy => {
                    (is_topic, "the address of a topic, `https://ntfy.sh/TOPIC`")
                }
                WebhookFormat::Generic
                | WebhookFormat::Slack
                | WebhookFormat::Teams
                | WebhookFormat::Apprise => (is_web, WEB),
            };
            check(&["notify", "webhook", "url"], &hook.url, fits, expected);
        }
        if let Some(hook) = &notify.ping {
            check(&["notify", "ping", "url"], &hook.url, is_web, WEB);
        }
    }
    if let Some(url) = &typed.web.url {
        let url = Secret::new(url.clone());
        check(&["web", "url"], &url, is_web, WEB);
    }
    for (name, schedule) in &typed.schedules {
        if let Some(hook) = &schedule.ping {
            check(&["schedules", name, "ping", "url"], &hook.url, is_web, WEB);
        }
    }
    databases(root, typed, file);
    for (name, target) in &typed.targets {
        if target.engine == Engine::Mongodb && target.url.is_none() {
            let message = format!("missing key `url` in `targets.{name}`");
            let problem = file.problem(span(root, &["targets", name]), message);
            file.report(problem.hint("only PostgreSQL has an environment to connect by"));
        }
    }
    let mut mails: Vec<Vec<&str>> = Vec::new();
    for (name, report) in &typed.reports {
        if report.email.is_some() {
            mails.push(vec!["reports", name, "email"]);
        }
    }
    if typed
        .notify
        .as_ref()
        .is_some_and(|notify| notify.email.is_some())
    {
        mails.push(vec!["notify", "email"]);
    }
    if typed
        .notify
        .as_ref()
        .is_some_and(|notify| notify.escalate_to.is_some())
    {
        mails.push(vec!["notify", "escalate_to"]);
    }
    for path in mails.iter().filter(|_| typed.smtp.is_none()) {
        let message = format!(
            "`{}` needs a mail server, and there is no `smtp`",
            path.join(".")
        );
        let problem = file.problem(span(root, path), message);
        file.report(problem.hint("add `smtp: { url: \"${SMTP_URL}\", from: maint@example.com }`"));
    }
}

/// Targets that stand for many databases: their databases get names of their own, which must be
/// nobody else's.
fn databases(root: &Node, typed: &SchedulesFile, file: &mut File) {
    for (name, target) in &typed.targets {
        let Some(patterns) = &target.databases else {
            if target.max_connections.is_some() {
                let path = ["targets", name, "max_connections"];
                let message = format!(
                    "`targets.{name}.max_connections` is for targets with `databases`: what this one may have, `limits.jobs` of its tasks says"
                );
                file.report(file.problem(span(root, &path), message));
            }
            continue;
        };
        let place = span(root, &["targets", name, "databases"]);
        if patterns.iter().all(DatabasePattern::excludes) {
            let message = format!(
                "`targets.{name}.databases` leaves databases out, and names none that are meant"
            );
            file.report(
                file.problem(place, message)
                    .hint("add \"*\" for all others"),
            );
        }
        if name.contains('/') {
            let message = format!(
                "`{name}` has `databases`, which are called `{name}/…`: its own name must have no `/`"
            );
            file.report(file.problem(place, message));
        }
        let begin = format!("{name}/");
        let groups = root.get("groups").map(Node::entries).unwrap_or_default();
        let groups = groups.iter().map(|group| &group.key);
        for other in typed.targets.keys().chain(groups) {
            if other.starts_with(&begin) {
                let message =
                    format!("`{other}` could be a database of `{name}`, which has `databases`");
                let at = ["targets", "groups"].map(|section| span(root, &[section, other]));
                let at = at.into_iter().find(|at| *at != Span::default());
                file.report(
                    file.problem(at.unwrap_or(place), message)
                        .hint("give it another name"),
                );
            }
        }
    }
}

/// Connection URLs as libpq would read them: parameters, services, files, variables.
pub(super) fn dials(
    root: &Node,
    typed: &SchedulesFile,
    env: &dyn Fn(&str) -> Option<String>,
    file: &mut File,
) {
    let mut check = |path: &[&str], url: Option<&Secret>, place: Span| {
        let url = url.map(Secret::expose);
        if url.is_some_and(|url| url.is_empty() || !is_postgres(url)) {
            return;
        }
        if let Err(why) = Dial::resolve(url, env) {
            let problem = file.problem(place, format!("`{}`: {why}", path.join(".")));
            file.report(problem.hint(why.hint()));
        }
    };
    let mut strange = Vec::new();
    for (name, target) in &typed.targets {
        if target.engine != Engine::Postgres {
            let url = target.url.as_ref().filter(|url| is_mongodb(url.expose()));
            // Of many databases the names are the server's to say.
            let looked = url.map(|url| match target.databases {
                Some(_) => mongodb::Dial::look_at(url),
                None => mongodb::Dial::resolve(url).map(drop),
            });
            if let Some(Err(why)) = looked {
                strange.push((name, why));
            }
            continue;
        }
        let path = ["targets", name, "url"];
        check(&path, target.url.as_ref(), span(root, &path));
        let path = ["targets", name, "replicas"];
        let written = root.get("targets").and_then(|t| t.get(name));
        let written = written.and_then(|t| t.get("replicas")).map(Node::items);
        for (n, replica) in target.replicas.iter().enumerate() {
            let item = written.and_then(|items| items.get(n)).map(|item| item.span);
            check(
                &path,
                Some(replica),
                item.unwrap_or_else(|| span(root, &path)),
            );
        }
    }
    if !typed.history.expose().starts_with("sqlite:") {
        check(&["history"], Some(&typed.history), span(root, &["history"]));
    }
    for (name, why) in strange {
        let place = span(root, &["targets", name, "url"]);
        let problem = file.problem(place, format!("`targets.{name}.url`: {why}"));
        file.report(match why.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
}

const WEB: &str = "`https://…` or `http://…`";

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

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
        || (!url.contains("://") && url.contains('='))
}

fn is_mongodb(url: &str) -> bool {
    url.starts_with("mongodb://") || url.starts_with("mongodb+srv://")
}

fn is_history(url: &str) -> bool {
    url.strip_prefix("sqlite:")
        .is_some_and(|file| !file.is_empty())
        || ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
}

pub(super) fn is_smtp(url: &str) -> bool {
    ["smtp://", "smtps://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}

/// An address that ends with a name.
fn is_topic(url: &str) -> bool {
    let behind = url.split_once("://").map_or("", |(_, behind)| behind);
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    is_web(url) && path.split('/').skip(1).any(|part| !part.is_empty())
}

pub(super) fn is_web(url: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}
