//! What the rest of the program sees of the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use serde_json::Value;

pub use super::limits::{Limits, ReplicaGone, Retries, Throttle};
pub use super::model::{Command, Commands, Report, Web};
pub use super::telling::{Email, Event, Hook, Notify, Smtp, Webhook, WebhookFormat};
use crate::plan::Scope;
use crate::values::{Cron, DatabasePattern, Engine, Filled, Secret, TimeSpan, Window};

/// Everything the files say, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `schedules.yaml` it was read from.
    pub path: PathBuf,
    /// Time zone of all schedules and windows that do not name their own.
    pub timezone: Tz,
    /// What the databases are together, such as `production`: subjects begin with it.
    pub environment: Option<String>,
    /// Where runs are recorded: `sqlite:FILE`, with the folder of `path` in front where the
    /// file was relative, or `postgres://…`.
    pub history: Secret,
    /// How long it is kept.
    pub history_retention: TimeSpan,
    /// The databases, by name.
    pub targets: BTreeMap<String, Target>,
    /// Groups by name, with the targets they stand for; groups within groups are resolved.
    pub groups: BTreeMap<String, Vec<String>>,
    /// When which tasks run, by name.
    pub schedules: BTreeMap<String, Schedule>,
    /// Regular reports, by name.
    pub reports: BTreeMap<String, Report>,
    /// The mail server; `None` also where its `url` is empty.
    pub smtp: Option<Smtp>,
    /// Who is told what at once. Hooks whose `url` is empty are left out.
    pub notify: Option<Notify>,
    /// The pages of `maint serve`; `url` without a slash at its end, and `None` where it is empty.
    pub web: Web,
    /// The tasks, by name.
    pub tasks: BTreeMap<String, Task>,
    /// Files that targets were read from, besides.
    pub inventories: Vec<PathBuf>,
    /// What commands and queries of `targets_from` have to do with it.
    pub outside: Outside,
    /// What is not wrong but should be known, in sentences.
    pub warnings: Vec<String>,
}

impl Config {
    /// The folder that relative paths begin at.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Enabled tasks that no schedule has: nothing runs them by itself.
    pub fn unscheduled(&self) -> impl Iterator<Item = &Task> {
        let scheduled = |name: &String| self.schedules.values().any(|one| one.tasks.contains(name));
        let tasks = self.tasks.values().filter(|task| task.enabled);
        tasks.filter(move |task| !scheduled(&task.name))
    }
}

/// A database to maintain.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its database system.
    pub engine: Engine,
    /// How to connect.
    ///
    /// `None` with `configured`: `url` was left out, so libpq's environment says how.
    /// `None` without: `url` is there but empty.
    pub url: Option<Secret>,
    /// Whether there is anything to connect to. Tasks on a target without are skipped.
    pub configured: bool,
    /// Which databases of a server it stands for. Such a target is not worked on itself: its
    /// [databases](Target::of_database) are, and its [server](Target::of_server).
    pub databases: Option<Vec<DatabasePattern>>,
    /// Which of the databases of another target it is.
    pub database: Option<Database>,
    /// Whether it is the database, its server, or both.
    pub scope: Scope,
    /// How many connections all of its runs may have to the server together.
    pub max_connections: Option<u32>,
    /// Standbys.
    pub replicas: Vec<Secret>,
    /// Roles whose code may run with the rights of the role that connects.
    pub trust_owners: Vec<String>,
    /// A note for people.
    pub description: Option<String>,
}

/// When some tasks run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub cron: Cron,
    /// Which tasks, in this order.
    pub tasks: Vec<String>,
    /// When they may run.
    pub window: Option<Window>,
    /// Time zone of `cron` and `window` where it is not the configuration's.
    pub timezone: Option<Tz>,
    /// How old a missed occurrence may be to be made up for; `None`: as long as its period is,
    /// a day at most.
    pub catch_up: Option<TimeSpan>,
    /// Longest delay.
    pub jitter: Option<TimeSpan>,
    /// Schedules that must have ended well before.
    pub after: Vec<String>,
    /// The watchdog that waits for this schedule: its own, or that of `notify`.
    pub ping: Option<Hook>,
    /// Programs that are run around each occurrence.
    pub commands: Commands,
    /// Whether it fires at all.
    pub enabled: bool,
}

/// A kind with its options for a target.
#[derive(Clone, Debug)]
pub struct Task {
    /// The name of its file.
    pub name: String,
    /// What is done.
    pub kind: String,
    /// The engine of the kind and of every target.
    pub engine: Engine,
    /// A note for people.
    pub description: Option<String>,
    /// Whether it runs at all.
    pub enabled: bool,
    /// The target or group, as written.
    pub target: String,
    /// The targets it stands for.
    pub targets: Vec<String>,
    /// Whether part of what its kind looks at belongs to the whole server.
    pub looks_at_server: bool,
    /// Whether its kind's work rests on what the history remembers.
    pub needs_history: bool,
    /// The kind's options: always an object that the kind has accepted.
    pub options: Value,
    /// What variables have put into texts of the options.
    pub filled: Filled,
    /// What `--set` has changed for this once that makes a run look at less, as given:
    /// `include=a.*`.
    pub changed: Vec<String>,
    /// How far it may go.
    pub limits: Limits,
    /// When it pauses.
    pub throttle: Throttle,
    /// When it may run.
    pub window: Option<Window>,
    /// What happens after a failure.
    pub retries: Retries,
    /// Roles whose code it may run, beside those that its target trusts.
    pub trust_owners: Vec<String>,
    /// Programs that are run around it.
    pub commands: Commands,
    /// Every target of the configuration: a task may keep rows in another one.
    pub elsewhere: Arc<BTreeMap<String, Target>>,
}

/// What commands and queries have to do with a configuration.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Those without an answer, by their place, in a sentence each.
    pub not_asked: BTreeMap<usize, String>,
    /// When they are to be asked again; `None` where there are none.
    pub every: Option<Duration>,
    /// A sum of all answers: the same where they are.
    pub answered: [u8; 32],
}

/// One of the databases of a target that stands for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The target.
    pub server: String,
    /// The database, as the server calls it.
    pub name: String,
}
