//! A configuration that nobody has written yet, as data, and its files as text.

use std::fmt::Write as _;

use super::yaml::{comment, quoted};
use crate::report::text::shown;
use crate::values::Engine;

/// A configuration that nobody has written yet.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// What `schedules.yaml` begins with, a paragraph each.
    pub about: Vec<String>,
    /// The time zone, and how it is known.
    pub zone: (String, String),
    /// Where the history is; beside the files where nothing is said.
    pub history: Option<String>,
    /// The databases.
    pub targets: Vec<DraftTarget>,
    /// What is done.
    pub tasks: Vec<DraftTask>,
    /// When.
    pub schedules: Vec<DraftSchedule>,
    /// What was looked at and became no task.
    pub left: Vec<Left>,
    /// What a person should know or do, in sentences and statements.
    pub notes: Vec<String>,
}

/// A database.
#[derive(Clone, Debug)]
pub struct DraftTarget {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: Engine,
    /// The variable that holds the URL.
    pub variable: String,
    /// Which one it is, in words.
    pub about: String,
}

/// A task.
#[derive(Clone, Debug)]
pub struct DraftTask {
    /// The name of its file.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its target.
    pub target: String,
    /// Why it is there, a paragraph each: names may be in it as they are.
    pub why: Vec<String>,
    /// Whether it runs.
    pub enabled: bool,
    /// Lines of YAML below `options:`.
    pub options: Vec<String>,
    /// The value of `limits:`, empty where the defaults are right.
    pub limits: String,
    /// Where that stands of which it was made, and its text.
    pub origin: Option<(String, String)>,
}

/// When tasks run.
#[derive(Clone, Debug)]
pub struct DraftSchedule {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub cron: String,
    /// Which tasks.
    pub tasks: Vec<String>,
    /// When they may run.
    pub window: Option<String>,
    /// A zone of its own.
    pub zone: Option<String>,
    /// Why then.
    pub why: String,
}

/// Something that was not translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it stands: `line 4`, `job 12`, a table.
    pub place: String,
    /// What it is.
    pub text: String,
    /// Why not.
    pub reason: String,
}

impl DraftTask {
    /// A task that runs, with the limits of its kind.
    pub fn new(name: impl Into<String>, kind: &'static str, why: impl Into<String>) -> DraftTask {
        DraftTask {
            name: name.into(),
            kind,
            target: "app".to_owned(),
            why: vec![why.into()],
            enabled: true,
            options: Vec::new(),
            limits: String::new(),
            origin: None,
        }
    }

    /// With these limits.
    pub fn within(mut self, limits: &str) -> DraftTask {
        limits.clone_into(&mut self.limits);
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::from("# yaml-language-server: $schema=../schema/task.json\n");
        for why in &self.why {
            text.push_str(&comment(0, &shown(why)));
        }
        let _ = writeln!(text, "kind: {}\ntarget: {}", self.kind, self.target);
        if !self.enabled {
            text.push_str("enabled: false\n");
        }
        if !self.options.is_empty() {
            text.push_str("options:\n");
            for line in &self.options {
                let _ = writeln!(text, "  {line}");
            }
        }
        if !self.limits.is_empty() {
            let _ = writeln!(text, "limits: {{ {} }}", self.limits);
        }
        text
    }
}

impl Draft {
    /// Every file of it: its path below the folder, and its text.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![("schedules.yaml".to_owned(), self.schedules_text())];
        for task in &self.tasks {
            files.push((format!("tasks/{}.yaml", task.name), task.text()));
        }
        files
    }

    /// The same with this task alone, whenever it runs.
    pub fn with_only(&self, task: &DraftTask) -> Draft {
        let of_it = |target: &&DraftTarget| target.name == task.target;
        Draft {
            zone: self.zone.clone(),
            targets: self.targets.iter().filter(of_it).cloned().collect(),
            tasks: vec![task.clone()],
            ..Draft::default()
        }
    }

    /// Takes a task out, with all that was made of the same command and what is for them alone; says
    /// why.
    pub fn give_up(&mut self, name: &str, reason: &str) {
        let found = self.tasks.iter().find(|task| task.name == name);
        let Some(origin) = found.and_then(|task| task.origin.clone()) else {
            return;
        };
        let (gone, kept) = std::mem::take(&mut self.tasks)
            .into_iter()
            .partition::<Vec<_>, _>(|task| task.origin.as_ref() == Some(&origin));
        self.tasks = kept;
        for schedule in &mut self.schedules {
            let is_gone = |name: &String| gone.iter().any(|task| task.name == *name);
            schedule.tasks.retain(|name| !is_gone(name));
        }
        self.schedules.retain(|schedule| !schedule.tasks.is_empty());
        let tasks = &self.tasks;
        let is_used = |target: &DraftTarget| tasks.iter().any(|task| task.target == target.name);
        self.targets.retain(is_used);
        self.left.push(Left {
            place: origin.0,
            text: origin.1,
            reason: reason.to_owned(),
        });
    }

    /// A name that no task has yet, made from this one.
    pub fn free_name(&self, wanted: &str) -> String {
        let mut name: String = wanted
            .chars()
            .map(|c| match c.to_ascii_lowercase() {
                c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' => c,
                _ => '-',
            })
            .collect();
        while name.contains("--") {
            name = name.replace("--", "-");
        }
        name.truncate(50);
        let name = name.trim_matches(['-', '_']).to_owned();
        let name = if name.is_empty() {
            "task".to_owned()
        } else {
            name
        };
        let taken = |name: &str| self.tasks.iter().any(|task| task.name == name);
        if !taken(&name) {
            return name;
        }
        (2..)
            .map(|n| format!("{name}-{n}"))
            .find(|name| !taken(name))
            .unwrap_or(name)
    }

    fn schedules_text(&self) -> String {
        let mut text = String::from("# yaml-language-server: $schema=schema/schedules.json\n");
        for about in &self.about {
            text.push_str(&comment(0, &shown(about)));
        }
        let (zone, why) = &self.zone;
        text.push_str(&comment(0, &shown(why)));
        let _ = writeln!(text, "timezone: {zone}\n");
        let _ = write!(
            text,
            "# Where runs are recorded. More than one instance needs `postgres://…` here.\n\
             history: {}\n\ntargets:\n",
            self.history.as_deref().unwrap_or("sqlite:maint.db")
        );
        for target in &self.targets {
            text.push_str(&comment(2, &shown(&target.about)));
            let engine = match target.engine {
                Engine::Postgres => "postgres",
                Engine::Mongodb => "mongodb",
            };
            let _ = writeln!(
                text,
                "  {}: {{ engine: {engine}, url: \"${{{}}}\" }}",
                target.name, target.variable
            );
        }
        if !self.schedules.is_empty() {
            text.push_str("\nschedules:\n");
        }
        for schedule in &self.schedules {
            text.push_str(&comment(2, &shown(&schedule.why)));
            let _ = writeln!(
                text,
                "  {}:\n    cron: {}\n    tasks: [{}]",
                schedule.name,
                quoted(&schedule.cron),
                schedule.tasks.join(", ")
            );
            if let Some(window) = &schedule.window {
                let _ = writeln!(text, "    window: {}", quoted(window));
            }
            if let Some(zone) = &schedule.zone {
                let _ = writeln!(text, "    timezone: {zone}");
            }
        }
        text
    }
}
