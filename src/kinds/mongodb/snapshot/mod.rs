//! How a database is: sizes, use of indexes on every member, lag, the oplog,
//! connections, the cache, slow operations; numbers for the time series, thresholds to findings.

mod expiry;
mod facts;
mod load;
mod slow;

use schemars::JsonSchema;
use serde::Deserialize;

use self::facts::{Facts, long_ones, members, server, slow_ones, uses};
use super::common::{Collection, Index, Shape, collections, empty, fill, is_empty, is_internal};
use crate::engines::EngineError;
use crate::engines::mongodb::{Members, Session, Spread, namespace, number};
use crate::plan::mongodb::{Body, shell_name, shell_text};
use crate::plan::{Finding, Kind, Measurement, Moment, Plan, Severity, Site};
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

/// How many shapes of slow operations are named.
const MOST_SLOW: usize = 10;
/// How many of them go into the time series.
const MOST_SHAPES: usize = 50;
/// How many of the largest indexes do.
const MOST_INDEXES: usize = 20;

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

    /// How often the largest indexes were used, on all members together.
    fn used(&self, facts: &Facts, plan: &mut Plan<Body>) {
        if facts.unasked > 0 {
            // What a member that was not asked adds is missing.
            return;
        }
        let indexes = facts.collections.iter().flat_map(|(name, collection)| {
            let indexes = collection.indexes.iter();
            indexes.map(move |index| (name, index))
        });
        let mut all: Vec<(i64, String, i64)> = indexes
            .filter_map(|(name, index)| {
                let uses = facts.uses.get(&(name.clone(), index.name.clone()))?;
                let object = format!("{}.{}", namespace(&facts.database, name), index.name);
                Some((index.bytes, object, uses.iter().map(|one| one.times).sum()))
            })
            .collect();
        let never = all.iter().filter(|(_, _, times)| *times == 0).count();
        note(
            plan,
            "indexes.never_used",
            "",
            i64::try_from(never).unwrap_or(i64::MAX),
        );
        all.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        for (_, object, times) in all.iter().take(MOST_INDEXES) {
            note(plan, "index.scans", object, *times);
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

    fn operations(&self, facts: &Facts, plan: &mut Plan<Body>) {
        for (operation, on, seconds) in &facts.long {
            say(
                plan,
                ("operation.long", Severity::Warning),
                on,
                format!("an operation ({operation}) runs for {} min, longer than {}", seconds / 60, self.max_operation),
                Some("db.getSiblingDB(\"admin\").aggregate([{$currentOp: {allUsers: true}}, {$match: {secs_running: {$gt: 60}}}])".to_owned()),
            );
        }
        let limit = self.max_operation_mean.get().as_secs_f64() * 1000.0;
        let mut slow: Vec<_> = facts
            .slow
            .iter()
            .filter(|((ns, _), slow)| {
                let name = ns.split_once('.').map_or("", |(_, name)| name);
                slow.mean_ms() > limit && self.wants(&facts.database, name)
            })
            .collect();
        // What costs most time in all comes first.
        slow.sort_by_key(|(key, slow)| (std::cmp::Reverse(slow.total_ms), *key));
        let mut shapes: Vec<_> = facts.slow.iter().collect();
        // What costs most time in all comes first.
        shapes.sort_by_key(|(key, slow)| (std::cmp::Reverse(slow.total_ms), *key));
        for ((ns, shape), slow) in shapes.into_iter().take(MOST_SHAPES) {
            let object = format!("{ns} {shape}");
            measure(plan, "operation.mean_ms", &object, slow.mean_ms());
            note(plan, "operation.calls", &object, slow.calls);
        }
        for ((ns, shape), slow) in slow.into_iter().take(MOST_SLOW) {
            say(
                plan,
                ("operation.slow", Severity::Warning),
                ns,
                format!(
                    "takes {:.1} s on average, longer than {}: {:.1} s over {} recorded in the last {} h, {:.1} s at most, {} documents and index entries looked at each time: {shape}",
                    slow.mean_ms() / 1000.0,
                    self.max_operation_mean,
                    slow.total_ms as f64 / 1000.0,
                    slow.calls,
                    slow::HOURS,
                    slow.max_ms as f64 / 1000.0,
                    slow.examined / slow.calls.max(1),
                ),
                Some(format!(
                    "{}.find({{ns: {}}}).sort({{millis: -1}}).limit(5)",
                    shell_name(&facts.database, slow::PROFILE),
                    shell_text(ns)
                )),
            );
        }
    }

    fn replication(&self, facts: &Facts, plan: &mut Plan<Body>) {
        for member in &facts.members.0 {
            let Some(lag) = member.lag else { continue };
            plan.measurements.push(Measurement {
                metric: "replication.lag_ms".to_owned(),
                object: member.name.clone(),
                value: lag * 1000.0,
            });
            if lag > self.max_replication_lag.get().as_secs_f64() {
                say(
                    plan,
                    ("replication.lag", Severity::Warning),
                    &member.name,
                    format!(
                        "the member is {lag:.0} s behind, more than {}",
                        self.max_replication_lag
                    ),
                    Some("rs.printSecondaryReplicationInfo()".to_owned()),
                );
            }
        }
        if let Some(seconds) = facts.oplog {
            note(plan, "oplog.window_ms", "", seconds.saturating_mul(1000));
            let least = i64::try_from(self.min_oplog.get().as_secs()).unwrap_or(i64::MAX);
            let size = facts
                .status
                .as_ref()
                .and_then(|s| number(s.get("uptime")))
                .unwrap_or(i64::MAX);
            // A young set has written nothing for longer.
            if seconds < least && size > least {
                say(
                    plan,
                    ("oplog.short", Severity::Warning),
                    "local.oplog.rs",
                    format!(
                        "the oplog reaches back {:.1} h, less than {}: a member that is away for longer has to copy everything anew",
                        seconds as f64 / 3600.0,
                        self.min_oplog
                    ),
                    Some("db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES})".to_owned()),
                );
            }
        }
    }

    fn indexes(
        &self,
        facts: &Facts,
        name: &str,
        collection: &Collection,
        at: &Moment,
        plan: &mut Plan<Body>,
    ) {
        let object = namespace(&facts.database, name);
        let shell = shell_name(&facts.database, name);
        for index in &collection.indexes {
            if index.name == "_id_" || u64::try_from(index.bytes).unwrap_or(0) < self.min_size.get()
            {
                continue;
            }
            let shown = format!("{object}.{}", index.name);
            if let Some(other) = collection.indexes.iter().find(|other| covers(other, index)) {
                let same = other.keys == index.keys;
                let (code, words) = match same {
                    true => ("index.duplicate", "has the same keys"),
                    false => ("index.overlapping", "begins with the same keys"),
                };
                say(
                    plan,
                    (code, Severity::Info),
                    &shown,
                    format!(
                        "`{}` {words}: this one ({}) costs every write and helps no query",
                        other.name,
                        Bytes(u64::try_from(index.bytes).unwrap_or(0))
                    ),
                    Some(format!(
                        "{shell}.hideIndex({})  // drop it when nobody misses it",
                        shell_text(&index.name)
                    )),
                );
                continue;
            }
            let Some(uses) = facts.uses.get(&(name.to_owned(), index.name.clone())) else {
                continue;
            };
            let times: i64 = uses.iter().map(|u| u.times).sum();
            let youngest = uses.iter().map(|u| u.since).max().unwrap_or(0);
            let days = (at.now.timestamp() - youngest) / 86_400;
            let long_enough = at.now.timestamp() - youngest
                >= i64::try_from(self.unused_after.get().as_secs()).unwrap_or(i64::MAX);
            // What holds a promise is not judged by its use.
            if times == 0
                && long_enough
                && facts.unasked == 0
                // Queries of the other shards are not seen here.
                && collection.spread == Spread::No
                && !index.unique
                && index.expires.is_none()
                && !index.hidden
            {
                say(
                    plan,
                    ("index.unused", Severity::Info),
                    &shown,
                    format!(
                        "no member has used the index for {days} days; it takes {} and costs every write",
                        Bytes(u64::try_from(index.bytes).unwrap_or(0))
                    ),
                    Some(format!(
                        "{shell}.hideIndex({})  // drop it when nobody misses it",
                        shell_text(&index.name)
                    )),
                );
            }
        }
    }
}

/// Whether `other` answers everything that `index` does.
fn covers(other: &Index, index: &Index) -> bool {
    let special =
        |i: &Index| i.sparse || i.partial || i.collated || i.hidden || i.expires.is_some();
    if other.name == index.name || index.unique || special(index) || special(other) {
        return false;
    }
    let begins = other.keys.len() >= index.keys.len()
        && other.keys.iter().zip(&index.keys).all(|(a, b)| a == b);
    // Of two that are the same, the one that sorts later is the duplicate.
    begins && (other.keys.len() > index.keys.len() || other.unique || other.name < index.name)
}

fn note(plan: &mut Plan<Body>, metric: &str, object: &str, value: i64) {
    plan.measurements.push(Measurement {
        metric: metric.to_owned(),
        object: object.to_owned(),
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        value: value as f64,
    });
}

fn measure(plan: &mut Plan<Body>, metric: &str, object: &str, value: f64) {
    plan.measurements.push(Measurement {
        metric: metric.to_owned(),
        object: object.to_owned(),
        value,
    });
}

fn say(
    plan: &mut Plan<Body>,
    (code, severity): (&str, Severity),
    object: &str,
    message: String,
    suggestion: Option<String>,
) {
    plan.findings.push(Finding {
        code: code.to_owned(),
        severity,
        object: object.to_owned(),
        message,
        suggestion,
    });
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: i64, of: i64) -> f64 {
    part as f64 / of.max(1) as f64
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::collections::HashMap;

    use std::collections::BTreeMap;

    use mongodb::bson::Bson;

    use super::facts::Use;
    use super::*;

    fn index(name: &str, keys: &[&str]) -> Index {
        Index {
            name: name.to_owned(),
            keys: keys
                .iter()
                .map(|k| ((*k).to_owned(), Bson::Int32(1)))
                .collect(),
            bytes: 10 << 20,
            ..Index::default()
        }
    }

    fn findings(
        indexes: Vec<Index>,
        uses: &[(&str, i64, i64)],
        unasked: usize,
    ) -> Vec<(String, String)> {
        let now = 1_800_000_000;
        let mut all: BTreeMap<(String, String), Vec<Use>> = BTreeMap::new();
        for (name, times, days) in uses {
            let seen = Use {
                times: *times,
                since: now - days * 86_400,
            };
            all.entry(("c".to_owned(), (*name).to_owned()))
                .or_default()
                .push(seen);
        }
        let facts = Facts {
            database: "app".to_owned(),
            collections: BTreeMap::from([(
                "c".to_owned(),
                Collection {
                    indexes,
                    ..Collection::default()
                },
            )]),
            uses: all,
            unasked,
            ..Facts::default()
        };
        let moment = Moment {
            now: chrono::DateTime::from_timestamp(now, 0).unwrap(),
            round: 1,
            baselines: HashMap::new(),
            memories: HashMap::new(),
            former: Default::default(),
            zone: chrono_tz::UTC,
        };
        let plan = Snapshot::default().plan(facts, &moment);
        plan.findings
            .into_iter()
            .map(|f| (f.code, f.object))
            .collect()
    }

    #[test]
    fn unused_means_on_every_member_and_for_long() {
        let one = || vec![index("a_1", &["a"])];
        let unused = [("index.unused".to_owned(), "app.c.a_1".to_owned())];
        assert_eq!(
            findings(one(), &[("a_1", 0, 40), ("a_1", 0, 50)], 0),
            unused
        );
        assert!(findings(one(), &[("a_1", 0, 40), ("a_1", 3, 50)], 0).is_empty());
        assert!(findings(one(), &[("a_1", 0, 40), ("a_1", 0, 2)], 0).is_empty());
        assert!(
            findings(one(), &[("a_1", 0, 40)], 1).is_empty(),
            "one member was not asked"
        );
        let mut unique = index("a_1", &["a"]);
        unique.unique = true;
        assert!(findings(vec![unique], &[("a_1", 0, 40)], 0).is_empty());
    }

    #[test]
    fn prefixes_and_duplicates_are_told_apart() {
        let told = findings(
            vec![
                index("a_1", &["a"]),
                index("a_1_b_1", &["a", "b"]),
                index("z", &["a", "b"]),
            ],
            &[],
            0,
        );
        assert_eq!(
            told,
            [
                ("index.overlapping".to_owned(), "app.c.a_1".to_owned()),
                ("index.duplicate".to_owned(), "app.c.z".to_owned()),
            ]
        );
    }
}
