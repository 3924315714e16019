//! Addresses of targets, of the history and of whom letters go to: whether they can be taken apart.

use super::super::files::File;
use super::super::model::SchedulesFile;
use super::super::node::{Node, Span};
use super::super::reading::Care;
use super::super::telling::WebhookFormat;
use super::span;
use crate::engines::mongodb;
use crate::engines::postgres::connect::Dial;
use crate::values::{DatabasePattern, Engine, Secret};

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
pub(in crate::config) fn connections(root: &Node, typed: &SchedulesFile, file: &mut File) {
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
pub(in crate::config) fn dials(
    root: &Node,
    typed: &SchedulesFile,
    env: &dyn Fn(&str) -> Option<String>,
    care: Care,
    file: &mut File,
) {
    let mut check = |path: &[&str], url: Option<&Secret>, place: Span| {
        let url = url.map(Secret::expose);
        if url.is_some_and(|url| url.is_empty() || !is_postgres(url)) {
            return;
        }
        if let Err(why) = Dial::resolve(url, env) {
            if care == Care::Export && why.is_of_this_machine() {
                return;
            }
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

pub(in crate::config) fn is_smtp(url: &str) -> bool {
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

pub(in crate::config) fn is_web(url: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}
