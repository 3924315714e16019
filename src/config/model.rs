//! What the files may say: the single source of the checks and of the JSON Schema.
//!
//! Every description here is read by people, in their editor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::limits::{Limits, Retries, Throttle};
use super::telling::{Email, Hook, Notify, Smtp};
use crate::values::{
    CalendarSpan, Cron, DatabasePattern, Engine, Secret, TimeSpan, TimeZone, Window,
};

/// Databases to look after, and when: the file `schedules.yaml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "maint schedules.yaml")]
pub(super) struct SchedulesFile {
    /// Time zone of all schedules and windows that do not name their own.
    #[serde(default = "utc")]
    pub timezone: TimeZone,
    /// What these databases are together, such as `production`: subjects of mails and messages
    /// begin with it, in brackets.
    #[serde(default)]
    pub environment: Option<String>,
    /// Where runs are recorded: `sqlite:FILE`, relative to this file, or `postgres://…`, which
    /// more than one instance needs.
    #[serde(default = "default_history")]
    #[schemars(default = "default_history_text")]
    pub history: Secret,
    /// How long runs, occurrences and measurements are kept.
    #[serde(default = "default_retention")]
    pub history_retention: TimeSpan,
    /// The databases, by name.
    pub targets: BTreeMap<String, TargetEntry>,
    /// Further targets, from inventories that others keep.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "for the schema; `inventory` reads them from the tree"
    )]
    pub targets_from: Vec<TargetsFrom>,
    /// Names for several targets at once. A group may contain groups, and patterns of targets
    /// such as `shard_*`.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "for the schema; `names` resolves groups from the tree"
    )]
    pub groups: BTreeMap<String, Vec<String>>,
    /// When which tasks run, by name.
    #[serde(default)]
    pub schedules: BTreeMap<String, ScheduleEntry>,
    /// Reports that are sent regularly, by name.
    #[serde(default)]
    pub reports: BTreeMap<String, Report>,
    /// The mail server.
    pub smtp: Option<Smtp>,
    /// Who is told what at once.
    pub notify: Option<Notify>,
    /// The pages of `maint serve`.
    #[serde(default)]
    pub web: Web,
}

/// An inventory of targets: a `file`, what a `command` writes, or what a `query` answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "for the schema; `inventory` and `sources` read it from the tree"
)]
pub(super) struct TargetsFrom {
    /// A file in YAML or JSON, relative to this one: a mapping of names to targets, or a list of
    /// targets with a `name` each. `${VARIABLE}` and `file:` mean there what they mean here.
    pub file: Option<PathBuf>,
    /// A program and its arguments; no shell reads them. What it writes is read as a `file` is. A
    /// path to it is relative to this file.
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// A query, asked of `target`: a row for each target, with columns that are called like the
    /// keys of one, and `name`. Nulls are keys that are left out. Tables are named with their
    /// schema.
    pub query: Option<String>,
    /// Where `query` is asked: a PostgreSQL database under `targets`.
    pub target: Option<String>,
    /// How long `command` or `query` may take; half a minute where it is left out.
    pub time_limit: Option<TimeSpan>,
    /// How often `maint serve` asks `command` or `query` again; every five minutes where it is
    /// left out.
    pub every: Option<TimeSpan>,
    /// The database system of those that do not say.
    pub engine: Option<Engine>,
}

/// The pages of `maint serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    /// `true`: whoever reaches the pages and `/metrics` may read them without the token. Without
    /// it, reading needs the token where there is one. Acting always needs it.
    pub public: bool,
    /// Where people reach the pages, as `https://maint.example.com`: messages link there.
    pub url: Option<String>,
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn default_history() -> Secret {
    Secret::new(default_history_text())
}

fn default_retention() -> TimeSpan {
    TimeSpan::from_mins(400 * 24 * 60)
}

fn default_history_text() -> String {
    "sqlite:maint.db".to_owned()
}

/// A database to maintain.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetEntry {
    /// The database system.
    pub engine: Engine,
    /// How to connect. Left out: as libpq's environment says (`PGHOST`, `PGDATABASE`, …).
    /// Empty, as `"${DATABASE_URL:-}"` may be: the target is not configured.
    pub url: Option<Secret>,
    /// Standbys: their lag is watched, and heavy checks run there. Empty ones are left out.
    #[serde(default)]
    pub replicas: Vec<Secret>,
    /// Which databases of the server are meant: `["*", "!tenant_test*"]`. They are looked up with
    /// every run, and each has runs of its own, as `name/database`. Left out: the one that `url`
    /// names.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub databases: Option<Vec<DatabasePattern>>,
    /// How many connections all runs on these `databases` may have to the server together. A run
    /// waits until as many as it may need are free.
    #[serde(default)]
    #[schemars(range(min = 5))]
    pub max_connections: Option<u32>,
    /// Roles whose code (triggers, expressions, policies, …) may run with the rights of the role
    /// in `url`. Its own code, that of superusers, and of who has its rights anyway, may.
    #[serde(default)]
    pub trust_owners: Vec<String>,
    /// A note for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// When some tasks run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleEntry {
    /// When they fire.
    pub cron: Cron,
    /// Which tasks, in this order.
    #[schemars(length(min = 1))]
    pub tasks: Vec<String>,
    /// When they may run.
    pub window: Option<Window>,
    /// Time zone of `cron` and `window`.
    pub timezone: Option<TimeZone>,
    /// How old a missed occurrence may be to be made up for, once. Without it: as long as there
    /// is between two occurrences, a day at most. `0s`: never.
    pub catch_up: Option<TimeSpan>,
    /// Longest delay, so that not everything starts at once. How long it is depends on the names
    /// of the schedule and the machine, and stays the same.
    pub jitter: Option<TimeSpan>,
    /// Schedules that must have ended well before this one begins: those of their occurrences that
    /// are due at the same time or were due before.
    #[serde(default)]
    pub after: Vec<String>,
    /// By requests that a watchdog service waits for: `…/start`, the address itself after
    /// success, `…/fail`.
    pub ping: Option<Hook>,
    /// Programs that are run around each occurrence: before the first of its tasks, and after the
    /// last.
    #[serde(default)]
    pub commands: Commands,
    /// `false` switches the schedule off.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A report that is sent regularly.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// When it is sent.
    pub cron: Cron,
    /// How far back it looks.
    pub period: CalendarSpan,
    /// To whom.
    pub email: Option<Email>,
    /// `false` switches the report off.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// One task: a file in `tasks/`, named after it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "maint task")]
pub(super) struct TaskFile {
    /// What is done.
    pub kind: String,
    /// To which target or group.
    pub target: String,
    /// A note for people.
    pub description: Option<String>,
    /// `false` switches the task off.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the kind can be told.
    #[serde(default)]
    #[expect(dead_code, reason = "for the schema; the kind's own schema reads them")]
    pub options: Map<String, Value>,
    /// How far it may go.
    #[serde(default)]
    pub limits: Limits,
    /// When it pauses to leave the server to others.
    #[serde(default)]
    pub throttle: Throttle,
    /// When it may run; together with the window of a schedule, only when both are open.
    pub window: Option<Window>,
    /// What happens after a failure.
    #[serde(default)]
    pub retries: Retries,
    /// Roles whose code this task may run, beside those that the target trusts.
    #[serde(default)]
    pub trust_owners: Vec<String>,
    /// Programs that are run around each run.
    #[serde(default)]
    pub commands: Commands,
}

fn yes() -> bool {
    true
}

/// Programs that are run around each run of a task, or around each occurrence of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    /// Before anything is looked at. Where it fails, nothing is done, and the run, or the
    /// occurrence, has failed.
    pub before: Option<Command>,
    /// Afterwards, however it ended.
    pub after: Option<Command>,
    /// After what failed, or failed in part; before `after`.
    pub on_error: Option<Command>,
}

/// A program. It knows of the run from `MAINT_RUN`, `MAINT_TASK`, `MAINT_KIND`, `MAINT_TARGET`,
/// `MAINT_TRIGGER`, `MAINT_STATUS`, `MAINT_ROWS` and `MAINT_ERROR`; of an occurrence from
/// `MAINT_SCHEDULE`, `MAINT_SCHEDULED_FOR`, `MAINT_TRIGGER`, `MAINT_STATUS`, `MAINT_RUNS` and
/// `MAINT_ERROR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments; no shell reads them.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// How long it may take.
    #[serde(default = "a_minute")]
    pub timeout: TimeSpan,
}

fn a_minute() -> TimeSpan {
    TimeSpan::from_mins(1)
}
