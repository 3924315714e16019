//! Open advice as tasks: files that a person reads, and that are carried out like any other.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use super::Failure;
use super::advise::{may_run, open};
use super::context::Context;
use crate::config::Config;
use crate::history::TrackedFinding;
use crate::init::{DraftTask, quoted};
use crate::report::text::{counted, shown};
use crate::values::{Engine, describe};

/// Writes a task for each target with open advice, and returns their names. None of them runs
/// unless it is named.
///
/// # Errors
/// Where there is nothing to be made of it, or a file is there already; then none is written.
pub(super) async fn write(
    context: &Context<'_>,
    target: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let config = context.config_for_looking().await?;
    if let Some(target) = target {
        super::context::known_target(&config, target)?;
    }
    let path = context.config_path()?;
    let folder = path.parent().unwrap_or(Path::new("")).join("tasks");
    let mut drafts = Vec::new();
    let mut left = 0;
    let mut shared = Shared::default();
    for (target, list) in open(&config, target).await? {
        let all = list.len();
        if let Some(server) = shares_tasks(&config, &target) {
            left += all - shared.add(server, &target, &list);
            continue;
        }
        let draft = task(&config, &target, &list);
        left += all - draft.as_ref().map_or(0, |(_, statements)| *statements);
        drafts.extend(draft);
    }
    if drafts.is_empty() && shared.statements > 0 {
        return Err(Failure::Usage(shared.text()));
    }
    if drafts.is_empty() {
        return Err(Failure::Usage(format!(
            "none of the open advice ({left}) is a statement that may run by itself: read it with `maint advise`"
        )));
    }
    for (draft, _) in &drafts {
        let file = folder.join(format!("{}.yaml", draft.name));
        if file.exists() {
            return Err(Failure::Usage(format!(
                "{} is there already: carry it out with `maint run {} --now`, or remove it, and ask again",
                file.display(),
                draft.name
            )));
        }
    }
    for (draft, statements) in &drafts {
        let file = folder.join(format!("{}.yaml", draft.name));
        let written = std::fs::File::create_new(&file)
            .and_then(|mut file| file.write_all(draft.text().as_bytes()));
        written.map_err(|why| {
            Failure::Usage(format!(
                "{} cannot be written: {}",
                file.display(),
                describe(&why)
            ))
        })?;
        errln!(
            "written: {}: {}",
            file.display(),
            counted(*statements, "statement")
        );
    }
    if left > 0 {
        let pieces = match left {
            1 => "1 piece of advice is".to_owned(),
            n => format!("{n} pieces of advice are"),
        };
        errln!(
            "note: {pieces} left to people (what drops, ends or blocks something, rights, several statements at once): `maint advise`"
        );
    }
    if shared.statements > 0 {
        errln!("note: {}", shared.text());
    }
    Ok(drafts.into_iter().map(|(draft, _)| draft.name).collect())
}

/// The target that stands for many databases, of which this is one, or is the server of.
fn shares_tasks<'a>(config: &'a Config, target: &str) -> Option<&'a str> {
    let found = config.target(target)?;
    let server = config.targets.get(found.server())?;
    server.is_many().then_some(server.name.as_str())
}

/// Advice for databases that share their tasks: none of them can have one of its own.
#[derive(Default)]
struct Shared {
    servers: BTreeSet<String>,
    databases: BTreeSet<String>,
    statements: usize,
}

impl Shared {
    /// Adds what a task would be made of, and tells how many pieces of advice that are.
    fn add(&mut self, server: &str, target: &str, list: &[TrackedFinding]) -> usize {
        let statements = list.iter().filter_map(statement).count();
        if statements > 0 {
            self.servers.insert(server.to_owned());
            self.databases.insert(target.to_owned());
            self.statements += statements;
        }
        statements
    }

    /// What is so, and what helps.
    fn text(&self) -> String {
        let settings: Vec<String> = self
            .servers
            .iter()
            .map(|server| format!("`targets.{}.databases`", shown(server)))
            .collect();
        let first = self.databases.first().map_or("", String::as_str);
        format!(
            "no task is made of {} for {} of {}: the databases that such a target stands for share their tasks, and this advice is for one of them alone. `maint advise --target {}` prints it as SQL for psql, and so for each of them; a target of its own for a database, beside the server's, makes a task of it",
            counted(self.statements, "statement"),
            counted(self.databases.len(), "target"),
            settings.join(" and "),
            shown(first)
        )
    }
}

/// The task of a target, and how many pieces of advice are in it.
fn task(config: &Config, target: &str, list: &[TrackedFinding]) -> Option<(DraftTask, usize)> {
    // The databases of one server share their tasks.
    let found = config.targets.get(target)?;
    if found.engine != Engine::Postgres || found.is_many() {
        return None;
    }
    let called = name(config.targets.keys(), target);
    let mut task = DraftTask::new(
        called.clone(),
        "sql",
        format!(
            "What maint advises for {target}, from its findings. Read each, take out what you do not want, look at it with `maint plan {}`, and remove the file once it is done: what runs twice may be done twice.",
            called
        ),
    )
    .within("lock_timeout: 3s");
    target.clone_into(&mut task.target);
    task.enabled = false;
    task.options.push("statements:".to_owned());
    let (mut statements, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut taken = 0;
    for one in list {
        let Some(sql) = statement(one) else { continue };
        taken += 1;
        if !statements.insert(sql.clone()) {
            continue;
        }
        let called = shown(&format!("{} {}", one.code, one.object)).into_owned();
        let mut name = called.clone();
        for n in 2.. {
            if names.insert(name.clone()) {
                break;
            }
            name = format!("{called} ({n})");
        }
        let why = crate::init::comment(2, &shown(&one.message));
        task.options.extend(why.lines().map(str::to_owned));
        task.options.push(format!("  - name: {}", quoted(&name)));
        task.options.push(format!("    sql: {}", quoted(&sql)));
    }
    (taken > 0).then_some((task, taken))
}

/// The one statement that is advised, where it may run by itself.
fn statement(one: &TrackedFinding) -> Option<String> {
    let sql = one.suggestion.as_deref()?.trim().trim_end_matches(';');
    // Rights, roles and the server are not maint's to change, least of all for itself; and where an
    // extension belongs, the session of a person says.
    let of_others = [
        "GRANT ",
        "SET ",
        "ALTER ROLE ",
        "ALTER SYSTEM ",
        "ALTER DATABASE ",
        "CREATE EXTENSION ",
    ];
    let of_others = of_others.iter().any(|words| sql.starts_with(words));
    // A `;` within a name keeps a statement out, too: it is one for a person.
    (may_run(sql) && !of_others && !sql.contains(';')).then(|| sql.to_owned())
}

/// `advice-` and the target, as a task may be called: another one for each target, also where names differ only in what a
/// task's name cannot have.
fn name<'a>(targets: impl Iterator<Item = &'a String>, target: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' => c,
        _ => '-',
    };
    let called = |target: &str| format!("advice-{}", target.chars().map(plain).collect::<String>());
    let mut taken = BTreeSet::new();
    for one in targets {
        let mut name = called(one);
        for n in 2.. {
            if taken.insert(name.clone()) {
                break;
            }
            name = format!("{}-{n}", called(one));
        }
        if one == target {
            return name;
        }
    }
    called(target)
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn no_two_targets_share_a_file() {
        let targets = ["App", "app", "app-2", "a.pp", "a-pp"].map(str::to_owned);
        let names = targets.each_ref().map(|one| name(targets.iter(), one));
        assert_eq!(
            names,
            [
                "advice-app",
                "advice-app-2",
                "advice-app-2-2",
                "advice-a-pp",
                "advice-a-pp-2"
            ]
        );
        assert_eq!(name([].iter(), "Gone"), "advice-gone");
    }
}
