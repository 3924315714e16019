//! How a database is: sizes, use of indexes on every member, lag, the oplog,
//! connections, the cache, slow operations; numbers for the time series, thresholds to findings.

mod expiry;
mod facts;
mod indexes;
mod load;
mod operations;
mod replication;
mod slow;
mod told;

use schemars::JsonSchema;
use serde::Deserialize;

use self::facts::{Facts, long_ones, members, server, slow_ones, uses};
use self::told::{measure, note, say, share};
use super::common::{Collection, Shape, collections, empty, fill, is_empty, is_internal};
use crate::engines::EngineError;
use crate::engines::mongodb::{Members, Session, namespace, number};
use crate::plan::mongodb::Body;
use crate::plan::{Kind, Moment, Plan, Severity, Site};
use crate::values::{Bytes, Engine, NamePattern, Percent, TimeSpan, wall_clock};

/// Options of `kind: snapshot` on MongoDB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Snapshot {
    /// Findings only about collections that match one of these patterns.
    include: Vec<NamePattern>,
    /// No findings about collections that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// How many of the largest collections go into the time series; up to 500.
    top: u32,
    /// How far a member may be behind.
    max_replication_lag: TimeSpan,
    /// How far back the oplog should reach: a member that is away longer has to copy everything.
    min_oplog: TimeSpan,
    /// Share of the connections that may be in use.
    max_connections: Percent,
    /// Share of the server's cache that may be changed and not yet written.
    max_dirty: Percent,
    /// How long an operation may run.
    max_operation: TimeSpan,
    /// How long operations of one shape may take on average, of those that the profiler has
    /// recorded in the last 24 hours.
    max_operation_mean: TimeSpan,
    /// A backup by the server's own means (a backup cursor, as Ops Manager and Percona Backup open
    /// it) should have been seen at work within this time. Not looked at where it is not said.
    max_backup_age: Option<TimeSpan>,
    /// How long an expired document may still be there, by any TTL index of the database.
    max_overdue: TimeSpan,
    /// An index that nobody used for this long, on no member, is unused.
    unused_after: TimeSpan,
    /// Indexes smaller than this are not worth a finding.
    min_size: Bytes,
}

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot {
            include: Vec::new(),
            exclude: Vec::new(),
            top: 50,
            max_replication_lag: TimeSpan::from_secs(30),
            min_oplog: TimeSpan::from_mins(24 * 60),
            max_connections: Percent::new(80.0),
            max_dirty: Percent::new(20.0),
            max_operation: TimeSpan::from_mins(10),
            max_operation_mean: TimeSpan::from_secs(1),
            max_backup_age: None,
            max_overdue: TimeSpan::from_mins(60),
            unused_after: TimeSpan::from_mins(30 * 24 * 60),
            min_size: Bytes(1 << 20),
        }
    }
}

impl Kind for Snapshot {
    const NAME: &'static str = "snapshot";
    const SUMMARY: &'static str = "records sizes, index use on all members, lag, oplog and load; findings where a threshold is passed";
    const ENGINE: Engine = Engine::Mongodb;
    const LOOKS_AT_SERVER: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut facts = Facts {
            database: db.database().to_owned(),
            scope: site.scope,
            ..Facts::default()
        };
        match Members::of(db).await {
            Ok(members) => facts.members = members,
            // The door tells of it.
            Err(error) => tracing::debug!(%error, "the members are not known"),
        }
        if site.scope.has_server() {
            server(db, &mut facts).await;
        }
        if !site.scope.has_database() {
            return Ok(facts);
        }
        let all = collections(db, &facts.database).await?;
        facts.empty = is_empty(&all);
        for (name, mut collection) in all {
            if collection.shape == Shape::View || is_internal(&name) {
                continue;
            }
            fill(db, &facts.database, &name, &mut collection).await?;
            facts.collections.insert(name, collection);
        }
        let members = members(db, &mut facts).await;
        uses(&members, &mut facts).await?;
        slow_ones(&members, &mut facts).await;
        long_ones(db, self.max_operation, &mut facts).await;
        expiry::look(db, self.max_overdue, wall_clock(), &mut facts).await;
        Ok(facts)
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let mut plan = Plan {
            considered: facts.collections.len(),
            findings: facts.findings.clone(),
            ..Plan::default()
        };
        if facts.scope.has_server() {
            self.load(&facts, &mut plan);
            load::backup(self.max_backup_age, &facts, at, &mut plan);
            self.replication(&facts, &mut plan);
        }
        if !facts.scope.has_database() {
            return plan;
        }
        if facts.empty {
            plan.undone(empty(&facts.database));
        }
        self.sizes(&facts, &mut plan);
        self.operations(&facts, &mut plan);
        self.used(&facts, &mut plan);
        self.expiry(&facts, &mut plan);
        for (name, collection) in &facts.collections {
            if self.wants(&facts.database, name) {
                self.indexes(&facts, name, collection, at, &mut plan);
            }
        }
        plan
    }
}

impl Snapshot {
    fn wants(&self, database: &str, name: &str) -> bool {
        let matches = |patterns: &[NamePattern]| patterns.iter().any(|p| p.matches(database, name));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }

    fn sizes(&self, facts: &Facts, plan: &mut Plan<Body>) {
        let total: i64 = facts
            .collections
            .values()
            .map(|c| c.bytes + c.index_bytes)
            .sum();
        let free: i64 = facts.collections.values().map(|c| c.free).sum();
        note(plan, "database.bytes", "", total);
        note(plan, "database.free_bytes", "", free);
        let mut largest: Vec<(&String, &Collection)> = facts.collections.iter().collect();
        largest
            .sort_by_key(|(name, c)| (std::cmp::Reverse(c.bytes + c.index_bytes), (*name).clone()));
        for (name, collection) in largest.into_iter().take(self.top.min(500) as usize) {
            let object = namespace(&facts.database, name);
            note(
                plan,
                "collection.bytes",
                &object,
                collection.bytes + collection.index_bytes,
            );
            note(
                plan,
                "collection.index_bytes",
                &object,
                collection.index_bytes,
            );
            note(plan, "collection.documents", &object, collection.documents);
            note(plan, "collection.free_bytes", &object, collection.free);
        }
    }

    fn load(&self, facts: &Facts, plan: &mut Plan<Body>) {
        if let Some(status) = &facts.status {
            let connections = status.get_document("connections").ok();
            let of = |key: &str| connections.and_then(|c| number(c.get(key)));
            if let (Some(used), Some(available)) = (of("current"), of("available")) {
                let limit = used + available;
                note(plan, "connections.used", "", used);
                note(plan, "connections.limit", "", limit);
                if share(used, limit) > self.max_connections.share() {
                    say(
                        plan,
                        ("connections.many", Severity::Warning),
                        &facts.database,
                        format!(
                            "{used} of {limit} connections are in use, more than {}",
                            self.max_connections
                        ),
                        Some("db.serverStatus().connections".to_owned()),
                    );
                }
            }
            let cache = status
                .get_document("wiredTiger")
                .and_then(|w| w.get_document("cache"))
                .ok();
            let of = |key: &str| cache.and_then(|c| number(c.get(key)));
            load::tickets(status, &facts.database, plan);
            load::flow(status, &facts.database, plan);
            if let (Some(dirty), Some(most)) = (
                of("tracked dirty bytes in the cache"),
                of("maximum bytes configured"),
            ) {
                measure(plan, "cache.dirty_ratio", "", share(dirty, most));
                if let Some(used) = of("bytes currently in the cache") {
                    measure(plan, "cache.used_ratio", "", share(used, most));
                }
                if share(dirty, most) > self.max_dirty.share() {
                    say(
                        plan,
                        ("cache.dirty", Severity::Warning),
                        &facts.database,
                        format!(
                            "{:.0} % of the cache are changed and not yet written, more than {}: the disk does not keep up, and operations begin to wait",
                            share(dirty, most) * 100.0,
                            self.max_dirty
                        ),
                        Some("db.serverStatus().wiredTiger.cache".to_owned()),
                    );
                }
            }
        }
    }
}

/// A name as part of a regular expression.
fn escaped(name: &str) -> String {
    name.chars()
        .flat_map(|c| {
            if c.is_alphanumeric() || c == '_' {
                vec![c]
            } else {
                vec!['\\', c]
            }
        })
        .collect()
}
