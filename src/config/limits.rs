//! How far a task may go, when it steps aside, and how often it is tried again.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{Bytes, TimeSpan};

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
