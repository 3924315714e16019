//! What the files may say: the single source of the checks and of the JSON Schema.
//!
//! Every description here is read by people, in their editor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::values::{
    Bytes, CalendarSpan, Cron, DatabasePattern, Engine, MailAddress, Secret, TimeSpan, TimeZone,
    Window,
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

/// Who gets a mail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The recipients.
    #[schemars(length(min = 1))]
    pub to: Vec<MailAddress>,
    /// Recipients of a copy.
    #[serde(default)]
    pub cc: Vec<MailAddress>,
    /// Where answers go.
    pub reply_to: Option<MailAddress>,
}

/// The mail server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtp://…` (STARTTLS) or `smtps://…`, with user and password where needed. Empty, as
    /// `"${SMTP_URL:-}"` may be: no mail is sent.
    pub url: Secret,
    /// The sender.
    pub from: MailAddress,
}

/// Who is told what at once.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// What is worth a message.
    #[serde(default = "default_events")]
    pub on: Vec<Event>,
    /// By mail.
    pub email: Option<Email>,
    /// By a POST with JSON.
    pub webhook: Option<Webhook>,
    /// By requests that a watchdog service waits for (`…/start`, the address itself after
    /// success, `…/fail`), for every schedule without a `ping` of its own.
    pub ping: Option<Hook>,
    /// Into this file, one JSON document per line; relative to this file.
    pub file: Option<PathBuf>,
    /// How long news wait for more of them, so that an outage of many targets is one message.
    #[serde(default = "group_wait")]
    pub group_wait: TimeSpan,
    /// How many messages go out per hour and way at most; what is left is told together later.
    #[serde(default = "max_per_hour")]
    #[schemars(range(min = 1))]
    pub max_per_hour: u32,
    /// After how many periods of its schedule without a success a task is told again, to
    /// `escalate_to`; 0 for never.
    #[serde(default = "escalate_after")]
    pub escalate_after: u32,
    /// Who is told then; the recipients of `email` where it is left out.
    pub escalate_to: Option<Email>,
}

fn group_wait() -> TimeSpan {
    TimeSpan::from_mins(1)
}

fn max_per_hour() -> u32 {
    6
}

fn escalate_after() -> u32 {
    3
}

/// An address that JSON is posted to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `https://…`; empty: nobody is called.
    pub url: Secret,
    /// How the JSON is shaped.
    #[serde(default)]
    pub format: WebhookFormat,
}

/// How the JSON of a webhook is shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// Everything there is to know, for programs of one's own.
    #[default]
    Generic,
    /// As Slack and what speaks like it want it.
    Slack,
    /// As Microsoft Teams wants it.
    Teams,
    /// As ntfy wants it; the address is that of the topic, such as `https://ntfy.sh/TOPIC`.
    Ntfy,
    /// As an Apprise server wants it; the address is `https://HOST/notify/KEY`.
    Apprise,
}

fn default_events() -> Vec<Event> {
    vec![
        Event::Failed,
        Event::Partial,
        Event::Missed,
        Event::Critical,
    ]
}

/// What can be worth a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A run succeeded.
    Succeeded,
    /// A run ran out of window or budget.
    Incomplete,
    /// Some steps of a run failed.
    Partial,
    /// A run failed.
    Failed,
    /// The process of a run died.
    Interrupted,
    /// An occurrence did not run and is not made up for.
    Missed,
    /// A finding wants attention in the coming days.
    Warning,
    /// A finding wants attention now.
    Critical,
}

/// An address that is called.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// `https://…`; empty: nobody is called.
    pub url: Secret,
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

/// How far a task may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many steps run at once.
    #[schemars(range(min = 1))]
    pub jobs: u32,
    /// How many targets of the task are worked on at once. Left out: 4, but of the databases of
    /// one server only one.
    #[schemars(range(min = 1))]
    pub parallel_targets: Option<u32>,
    /// Longest wait for a lock. Whoever waits for an exclusive lock holds up everybody behind.
    pub lock_timeout: TimeSpan,
    /// How often a statement is tried again after it did not get its lock.
    pub lock_retries: u32,
    /// How long somebody else's session may wait for a step before that steps back, to be tried
    /// again later: our statement is cancelled, never theirs.
    pub max_block: TimeSpan,
    /// How long a concurrent rebuild may wait for older transactions; it blocks nobody meanwhile.
    pub transaction_wait: TimeSpan,
    /// A concurrent rebuild, or a concurrent detach, is not begun while a transaction is older
    /// than this that it would have to wait for: that may be for ever.
    pub max_transaction_age: TimeSpan,
    /// A rebuild beside the application holds back transaction ids while it is at work: it is not
    /// begun, or is cancelled, where the oldest of them is so many transactions old.
    #[schemars(range(min = 1))]
    pub max_xid_age: u32,
    /// Longest time for one step.
    pub step_timeout: TimeSpan,
    /// Longest time for a run; what does not fit comes first next time.
    pub budget: Option<TimeSpan>,
    /// How long the process may take to end after a signal. A step at work goes on for a fifth
    /// of it, then it is cancelled, and what it left is cleared away.
    pub grace: TimeSpan,
}

impl Limits {
    /// How many targets are worked on at once.
    pub fn targets_at_once(&self) -> usize {
        usize::try_from(self.parallel_targets.unwrap_or(4).max(1)).unwrap_or(1)
    }

    /// The limits by which nothing could ever be done.
    pub fn without_time(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("step_timeout", Some(self.step_timeout)),
            ("budget", self.budget),
        ];
        let none = all
            .into_iter()
            .filter(|(_, time)| *time == Some(TimeSpan::ZERO));
        none.map(|(key, _)| key)
    }

    /// How many databases of one server are worked on at once.
    pub fn databases_at_once(&self) -> usize {
        usize::try_from(self.parallel_targets.unwrap_or(1).max(1)).unwrap_or(1)
    }

    /// How long what was cancelled may take to be cleared away where the server answers: what is
    /// left of the grace, without the time for writing down what has happened; ten seconds at least.
    pub fn clearing(&self) -> Duration {
        let left = self.grace.get().saturating_sub(self.patience());
        let left = left.saturating_sub(Duration::from_secs(3));
        left.max(Duration::from_secs(10))
    }

    /// How long a step may go on after a signal before it is cancelled.
    pub fn patience(&self) -> Duration {
        self.grace.get() / 5
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 1,
            parallel_targets: None,
            lock_timeout: TimeSpan::from_secs(3),
            lock_retries: 5,
            max_block: TimeSpan::from_secs(1),
            transaction_wait: TimeSpan::from_mins(30),
            max_transaction_age: TimeSpan::from_mins(60),
            // Half of what the server begins vacuums against wraparound at, as it comes.
            max_xid_age: 100_000_000,
            step_timeout: TimeSpan::from_mins(120),
            budget: None,
            grace: TimeSpan::from_secs(25),
        }
    }
}

/// When a task pauses to leave the server to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Pause while a replica is further behind.
    pub max_replica_lag: Option<TimeSpan>,
    /// Pause while a replica has not replayed so many bytes of the log.
    pub max_replica_lag_bytes: Option<Bytes>,
    /// What to do while one of `replicas` (MongoDB: a member with data) does not say how far it
    /// is; needs a limit of lag. Where nothing is said, the step fails on PostgreSQL, and MongoDB
    /// goes on without it.
    pub replica_gone: Option<ReplicaGone>,
    /// Pause while more sessions are active.
    pub max_active_sessions: Option<u32>,
    /// Pause while more WAL is written per second.
    pub max_wal_rate: Option<Bytes>,
    /// Pause while less is free on the disk of the server. PostgreSQL does not say how much is:
    /// it is known where maint runs on the same machine, or `free_disk_query` answers it.
    pub min_free_disk: Option<Bytes>,
    /// Answers how many bytes are free on the disk of the server, as one whole number.
    pub free_disk_query: Option<String>,
    /// Pause while this query returns `true`.
    pub query: Option<String>,
    /// Pause while this file exists.
    pub pause_file: Option<PathBuf>,
    /// Pause while a GET of this address is not answered by 2xx within five seconds; redirects
    /// are not followed.
    pub http: Option<String>,
    /// End the run, and cancel what is at work, when a replica is further behind.
    pub abort_replica_lag: Option<TimeSpan>,
    /// End the run when a replica has not replayed so many bytes of the log.
    pub abort_replica_lag_bytes: Option<Bytes>,
    /// End the run when more sessions are active.
    pub abort_active_sessions: Option<u32>,
    /// End the run when more WAL is written per second.
    pub abort_wal_rate: Option<Bytes>,
    /// End the run, and cancel what is at work, when less is free on the disk of the server.
    pub abort_free_disk: Option<Bytes>,
    /// End the run when this query returns `true`.
    pub abort_query: Option<String>,
}

impl Throttle {
    /// What ends the run, as what would pause it; `None` where nothing does.
    pub fn aborting(&self) -> Option<Throttle> {
        // A replica that is gone ends the run by itself, however far the others are.
        let gone = self.replica_gone == Some(ReplicaGone::Abort) && self.asks_replicas();
        let aborting = Throttle {
            max_replica_lag: self.abort_replica_lag,
            max_replica_lag_bytes: self
                .abort_replica_lag_bytes
                .or(gone.then_some(Bytes(u64::MAX))),
            max_active_sessions: self.abort_active_sessions,
            max_wal_rate: self.abort_wal_rate,
            min_free_disk: self.abort_free_disk,
            query: self.abort_query.clone(),
            ..Throttle::default()
        };
        let any = aborting != Throttle::default();
        any.then_some(Throttle {
            replica_gone: self.replica_gone,
            free_disk_query: self.free_disk_query.clone(),
            ..aborting
        })
    }

    /// What pauses a run. Whether a replica is gone is asked for even where only a limit that ends
    /// the run says that replicas matter.
    pub fn pausing(&self) -> Throttle {
        let gone = matches!(
            self.replica_gone,
            Some(ReplicaGone::Pause | ReplicaGone::Abort)
        ) && self.asks_replicas();
        let mut pausing = self.clone();
        if gone && pausing.max_replica_lag.is_none() && pausing.max_replica_lag_bytes.is_none() {
            pausing.max_replica_lag_bytes = Some(Bytes(u64::MAX));
        }
        pausing
    }

    /// Whether it matters how far replicas are.
    pub fn asks_replicas(&self) -> bool {
        self.max_replica_lag.is_some()
            || self.max_replica_lag_bytes.is_some()
            || self.abort_replica_lag.is_some()
            || self.abort_replica_lag_bytes.is_some()
    }

    /// Whether the server has to be asked for what pauses a run.
    pub fn asks_the_server(&self) -> bool {
        self.max_replica_lag.is_some()
            || self.max_replica_lag_bytes.is_some()
            || self.max_active_sessions.is_some()
            || self.max_wal_rate.is_some()
            || self.min_free_disk.is_some()
            || self.query.is_some()
    }
}

/// What to do while a replica does not say how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaGone {
    /// Go on without it.
    Ignore,
    /// Pause until it is back.
    Pause,
    /// End the run.
    Abort,
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

/// What happens after a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// How often a failed run is started again.
    pub max: u32,
    /// The pause before the first retry; each further one is twice as long.
    pub backoff: TimeSpan,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max: 0,
            backoff: TimeSpan::from_mins(1),
        }
    }
}
