//! Every row is in exactly one place, as whoever wrote it last left it: while
//! rows are archived or deleted in batches, others insert, change, prolong,
//! delete and roll back as fast as they can, maint is killed at any moment,
//! and now and then the server goes down with it. So it is with rows that only move within their table.
//!
//! Writers note in the same transaction what a row is now. In the end what
//! was noted is what remains and what was archived, by value, each once.
//! `MAINT_LEDGER_KILLS` says how often each way is interrupted, and `MAINT_LEDGER_SEED` at which
//! moments: another one each time, which is printed. `scripts/bench ledger 200` does it at length.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use maint::demo::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, S3};
use crate::support::servers::{connect, has_19, private_cluster};
use crate::support::workspace::Workspace;

/// Rows of one lot: enough that a run is rarely through before it is killed.
const LOT: i64 = 2_000;
/// Where fewer are left there will be another lot.
const FEW: i64 = 1_000;
/// What is too old, and what will never be in this test.
const OLD: &str = "at < '2026-01-01'";
/// Of what is to be repacked, so many rows come, and one in so many stays.
const BLOAT: i64 = 20_000;
const STAYS: i64 = 7;
const WRITERS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// One destination, reached in one way.
struct Case {
    name: &'static str,
    kind: &'static str,
    options: Value,
    partitioned: bool,
    /// In a store of its own, where the rows have to be brought back from.
    s3: Option<S3>,
    files: Option<tempfile::TempDir>,
    /// How the statements begin that do the work.
    at_work: &'static str,
    kills: u32,
}

impl Case {
    fn of(name: &'static str, walk: &str, destination: Option<Value>) -> Case {
        let partitioned = walk == "whole";
        let mut rule = json!({ "table": "t", "column": "at", "older_than": "30d" });
        if !partitioned {
            rule["walk"] = json!(walk);
        }
        let (kind, mut options) = match destination {
            Some(destination) => {
                rule["destination"] = destination;
                ("archive", rule)
            }
            None => ("cleanup", json!({ "rules": [rule] })),
        };
        options["batch_goal"] = json!("20ms");
        Case {
            name,
            kind,
            options,
            partitioned,
            s3: None,
            files: None,
            at_work: "DELETE FROM",
            kills: kills(2),
        }
    }

    /// Rows that stay in their table, and whose moves a subscriber follows.
    fn repack(name: &'static str, at_work: &'static str) -> Case {
        Case {
            name,
            kind: "repack",
            options: json!({
                "include": ["t"], "min_size": "100kB", "min_bloat": "20%", "batch_goal": "10ms",
                "refills_within": "1s", "allow_replicated": true,
            }),
            partitioned: false,
            s3: None,
            files: None,
            at_work,
            kills: kills(5),
        }
    }

    fn repacks(&self) -> bool {
        self.kind == "repack"
    }

    fn files(name: &'static str, walk: &str) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        Case {
            files: Some(folder),
            ..Case::of(name, walk, Some(json!({ "files": url })))
        }
    }

    fn s3(name: &'static str, walk: &str) -> Case {
        let url = format!("s3://{BUCKET}/ledger");
        Case {
            s3: Some(S3::start()),
            ..Case::of(name, walk, Some(json!({ "files": url })))
        }
    }
}

/// Numbers in no order, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// How often what was done by writers, to be sure that it was.
#[derive(Default)]
struct Done {
    inserted: AtomicU64,
    changed: AtomicU64,
    prolonged: AtomicU64,
    deleted: AtomicU64,
    rolled_back: AtomicU64,
}

pub(crate) async fn reconnect(url: &str) -> Client {
    let began = Instant::now();
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            tokio::spawn(connection);
            if client.simple_query("SELECT 1").await.is_ok() {
                return client;
            }
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the server did not come back within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One writer, until it is told to stop. What fails has not happened, in
/// neither of the two tables.
async fn write(
    url: String,
    seed: u64,
    newest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    done: Arc<Done>,
) {
    let mut dice = Dice(seed);
    let mut client = reconnect(&url).await;
    while !stop.load(Ordering::SeqCst) {
        // Mostly among those that come next.
        let newest = newest.load(Ordering::SeqCst);
        let id = newest - dice.roll(LOT.unsigned_abs());
        let at = match dice.roll(3) {
            0 => "now()".to_owned(),
            1 => "'2025-06-01'".to_owned(),
            _ => format!(
                "(SELECT at FROM truth WHERE id = {})",
                newest - dice.roll(20)
            ),
        };
        let noted =
            "UPDATE truth SET at = u.at, v = u.v FROM u WHERE truth.id = u.id RETURNING truth.id";
        let (count, sql) = match dice.roll(8) {
            0 | 1 => (
                &done.inserted,
                format!(
                    "WITH u AS (INSERT INTO t VALUES (nextval('ids'), {at}, 'new' || random()) RETURNING *) INSERT INTO truth SELECT * FROM u RETURNING id"
                ),
            ),
            2 | 3 => (
                &done.changed,
                format!(
                    "WITH u AS (UPDATE t SET v = 'changed' || random() WHERE id = {id} RETURNING *) {noted}"
                ),
            ),
            4 | 5 => (
                &done.prolonged,
                format!(
                    "WITH u AS (UPDATE t SET at = now(), v = v || '+' WHERE id = {id} RETURNING *) {noted}"
                ),
            ),
            6 => (
                &done.changed,
                format!(
                    "WITH u AS (UPDATE t SET at = '2025-06-01' WHERE id = (SELECT id FROM truth WHERE id > {id} AND NOT {OLD} LIMIT 1) RETURNING *) {noted}"
                ),
            ),
            _ => (
                &done.deleted,
                format!(
                    "WITH u AS (DELETE FROM t WHERE id = {id} RETURNING *) DELETE FROM truth USING u WHERE truth.id = u.id RETURNING truth.id"
                ),
            ),
        };
        let result = if dice.roll(5) == 0 {
            done.rolled_back.fetch_add(1, Ordering::SeqCst);
            client
                .batch_execute(&format!("BEGIN; {sql}; ROLLBACK"))
                .await
                .map(|()| 0)
        } else {
            client
                .simple_query(&sql)
                .await
                .map(|rows| rows.len().saturating_sub(2))
        };
        match result {
            Ok(rows) if rows > 0 => {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(_) => {}
            Err(_) if client.is_closed() => client = reconnect(&url).await,
            // A transaction that failed half-way is still open.
            Err(_) => drop(client.batch_execute("ROLLBACK").await),
        }
    }
}

struct Ledger<'a> {
    case: &'a Case,
    url: String,
    there: String,
    cluster: &'a Cluster,
    workspace: Workspace,
    newest: Arc<AtomicU64>,
    lots: i64,
    /// When it is interrupted, and by what.
    dice: Dice,
}

impl<'a> Ledger<'a> {
    async fn of(case: &'a Case, cluster: &'a Cluster, seed: u64) -> Ledger<'a> {
        let admin = reconnect(&cluster.url("postgres")).await;
        let name = format!("ledger_{}", uuid::Uuid::now_v7().simple());
        for name in [&name, &format!("{name}_there")] {
            let create = format!("CREATE DATABASE {name} TEMPLATE template0");
            admin.batch_execute(&create).await.unwrap();
        }
        let (url, there) = (cluster.url(&name), cluster.url(&format!("{name}_there")));
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n  there: {{ engine: postgres, url: \"{there}\" }}\n"
        ))
        .task("work", &format!(
            "kind: {}\ntarget: app\noptions: {}\nlimits: {{ lock_timeout: 5s, lock_retries: 20 }}\n",
            case.kind, case.options
        ));
        let workspace = match &case.s3 {
            Some(s3) => s3.known_to(workspace),
            None => workspace,
        };
        let mut ledger = Ledger {
            case,
            url,
            there,
            cluster,
            workspace,
            newest: Arc::default(),
            lots: 0,
            dice: Dice(seed),
        };
        let table = if case.partitioned {
            "CREATE TABLE t (id bigint NOT NULL, at timestamptz NOT NULL, v text) PARTITION BY RANGE (at);
             CREATE TABLE t_late PARTITION OF t FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
             CREATE INDEX ON t (id)"
        } else {
            "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text); CREATE INDEX ON t (at)"
        };
        let client = reconnect(&ledger.url).await;
        client.batch_execute(&format!("CREATE SEQUENCE ids; {table}; CREATE TABLE truth (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text)")).await.unwrap();
        if case.repacks() {
            ledger.followed().await;
        }
        ledger.lot().await;
        ledger
    }

    /// Other tables point at its rows, and a subscriber is sent each change of them.
    async fn followed(&self) {
        let client = reconnect(&self.url).await;
        client.batch_execute("CREATE EXTENSION amcheck; CREATE TABLE child (t bigint REFERENCES t ON DELETE CASCADE); CREATE INDEX ON child (t);
            CREATE PUBLICATION news FOR TABLE t").await.unwrap();
        let slot = format!(
            "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
            self.slot()
        );
        client.batch_execute(&slot).await.unwrap();
        let there = reconnect(&self.there).await;
        let table = "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text)";
        there.batch_execute(table).await.unwrap();
        let subscription = format!(
            "CREATE SUBSCRIPTION {} CONNECTION '{}' PUBLICATION news WITH (create_slot = false, copy_data = false)",
            self.slot(),
            self.url
        );
        there.batch_execute(&subscription).await.unwrap();
    }

    /// The name of the database is the one that no other has.
    fn slot(&self) -> &str {
        self.url
            .rsplit('/')
            .next()
            .unwrap()
            .split('?')
            .next()
            .unwrap()
    }

    /// Another lot of old rows; in partitions of its own where there are such.
    async fn lot(&mut self) {
        let client = reconnect(&self.url).await;
        let lot = self.lots;
        self.lots += 1;
        let rows = if self.case.repacks() { BLOAT } else { LOT };
        if self.case.partitioned {
            let from = format!("'2015-01-01'::date + {lot}");
            client.batch_execute(&format!(
                "DO $$ BEGIN EXECUTE format('CREATE TABLE t_{lot} PARTITION OF t FOR VALUES FROM (%L) TO (%L)', {from}, {from} + 1); END $$"
            )).await.unwrap();
        }
        let at = format!("'2015-01-01'::date + {lot} + n * interval '20 seconds'");
        let newest: i64 = client
            .query_one(&format!(
                "WITH made AS (INSERT INTO t SELECT nextval('ids'), {at}, repeat(md5(n::text), 4) FROM generate_series(1, {rows}) n RETURNING *),
                    noted AS (INSERT INTO truth SELECT * FROM made RETURNING id) SELECT max(id) FROM noted"
            ), &[])
            .await
            .unwrap()
            .get(0);
        if self.case.repacks() {
            // The gaps are everywhere, and the newest rows are at the end, where they have to move from.
            client
                .batch_execute(&format!(
                    "WITH gone AS (DELETE FROM t WHERE id > {newest} - {rows} AND id % {STAYS} <> 0 RETURNING id)
                        DELETE FROM truth USING gone WHERE truth.id = gone.id;
                     INSERT INTO child SELECT id FROM t WHERE id > {newest} - {rows} AND id % 3 = 0 FOR KEY SHARE"
                ))
                .await
                .unwrap();
            client.batch_execute("VACUUM t").await.unwrap();
        }
        client.batch_execute("ANALYZE t").await.unwrap();
        self.newest.store(newest.unsigned_abs(), Ordering::SeqCst);
    }

    async fn number(&self, sql: &str) -> i64 {
        let client = reconnect(&self.url).await;
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Kills a server process that works for maint: the server ends all
    /// others, too, and recovers from its log. Whether there was one.
    async fn crash(&self, process: &mut std::process::Child) -> bool {
        let client = reconnect(&self.url).await;
        let began = Instant::now();
        while process.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
            let rows = client
                .query("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'maint %' AND query LIKE '%' || $1::text || '%' AND state = 'active' LIMIT 1", &[&self.case.at_work])
                .await
                .unwrap();
            if let Some(row) = rows.first() {
                if kill(Pid::from_raw(row.get(0)), Signal::SIGKILL).is_err() {
                    continue;
                }
                while !client.is_closed() {
                    assert!(
                        began.elapsed() < PATIENCE,
                        "the server did not notice the death of its process"
                    );
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                drop(reconnect(&self.cluster.url("postgres")).await);
                return true;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    }

    /// Waits until rows are on their move; whether there are any, and the run has not ended before.
    async fn at_work(&self, process: &mut std::process::Child) -> bool {
        let client = reconnect(&self.url).await;
        let patience = Patience::until("rows to move");
        // Within a transaction that moves some, or just behind one.
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'maint %' AND query LIKE '%' || $1::text || '%'";
        while process.try_wait().unwrap().is_none() {
            let row = client.query_one(sql, &[&self.case.at_work]).await.unwrap();
            if row.get::<_, i64>(0) > 0 {
                return true;
            }
            patience.pause().await;
        }
        false
    }

    /// Interrupts so many runs, and lets the last one finish.
    async fn go_through(&mut self, times: u32) -> (u32, u32) {
        let began = Instant::now();
        self.workspace.run(["plan", "work"]).expect(0);
        let start = began.elapsed();
        let (mut killed, mut crashed, mut n) = (0, 0, 0_u32);
        while killed + crashed < times {
            let mut process = self
                .workspace
                .process(["run", "work", "--now"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            n += 1;
            assert!(
                n < 20 * times,
                "{}: of {n} runs only {killed} were met",
                self.case.name
            );
            let down = self.dice.roll(3) == 0 && self.crash(&mut process).await;
            if !down {
                let moment = u32::try_from(self.dice.roll(260)).unwrap();
                // From its begin, or from when the rows begin to move.
                if !self.case.repacks() {
                    tokio::time::sleep(start * (40 + moment) / 100).await;
                } else if self.at_work(&mut process).await {
                    tokio::time::sleep(Duration::from_millis(u64::from(moment) / 2)).await;
                }
                killed += u32::from(process.try_wait().unwrap().is_none());
            }
            crashed += u32::from(down);
            let through = !down && process.try_wait().unwrap().is_some();
            process.kill().unwrap();
            process.wait().unwrap();
            if self.case.repacks() {
                if through {
                    self.lot().await;
                }
            } else if self
                .number(&format!("SELECT count(*) FROM t WHERE {OLD}"))
                .await
                < FEW
            {
                self.lot().await;
            }
        }
        (killed, crashed)
    }

    /// Runs it until nothing is left to do.
    fn finish(&self) {
        for _ in 0..6 {
            let output = self
                .workspace
                .run(["run", "work", "--now", "--output", "json"]);
            let run = &output.json()["runs"][0];
            if run["status"] == "succeeded" && run["steps"] == json!([]) {
                return;
            }
        }
        let output = self
            .workspace
            .run(["run", "work", "--now", "--output", "json"]);
        panic!(
            "{}: there is always something left: {output:#?}",
            self.case.name
        );
    }

    /// Every row with its values, wherever `rows` has it from.
    async fn rows(url: &str, rows: &str) -> Vec<String> {
        let client = reconnect(url).await;
        let sql = format!(
            "SELECT concat_ws('|', id, extract(epoch FROM at), v) AS line FROM ({rows}) r ORDER BY id, 1"
        );
        let found = client.query(&sql, &[]).await.unwrap();
        found.iter().map(|row| row.get(0)).collect()
    }

    /// The rows that nobody was to take away are all there, here and at the subscriber, and what
    /// points at them and what finds them still does.
    async fn unmoved(&self) {
        let rows = Self::rows(&self.url, "SELECT * FROM t").await;
        let truth = Self::rows(&self.url, "SELECT * FROM truth").await;
        same(self.case.name, "the table", &rows, &truth);
        let client = reconnect(&self.url).await;
        let written: String = client
            .query_one("SELECT pg_current_wal_lsn()::text", &[])
            .await
            .unwrap()
            .get(0);
        let sent = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND confirmed_flush_lsn >= '{written}'",
            self.slot()
        );
        let patience = Patience::until("the subscriber to catch up");
        while self.number(&sent).await == 0 {
            patience.pause().await;
        }
        let there = Self::rows(&self.there, "SELECT * FROM t").await;
        same(self.case.name, "the subscriber", &there, &rows);
        let sound = "SELECT bt_index_check(indexrelid::regclass, true) FROM pg_index WHERE indrelid = 't'::regclass AND indisvalid";
        client.batch_execute(sound).await.unwrap();
        client
            .batch_execute("ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE")
            .await
            .unwrap();
        assert!(self.number("SELECT count(*) FROM child").await > 0);
        let broken = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
        assert_eq!(self.number(broken).await, 0, "{}", self.case.name);
    }

    async fn balance(&self) {
        if self.case.repacks() {
            return self.unmoved().await;
        }
        let remaining = Self::rows(&self.url, "SELECT * FROM t").await;
        let young = Self::rows(&self.url, &format!("SELECT * FROM truth WHERE NOT {OLD}")).await;
        same(self.case.name, "what remains", &remaining, &young);
        let old = Self::rows(&self.url, &format!("SELECT * FROM truth WHERE {OLD}")).await;
        if self.case.kind == "cleanup" {
            return;
        }
        let archived = if self.case.files.is_some() || self.case.s3.is_some() {
            self.workspace.run(["archive", "verify"]).expect(0);
            self.workspace
                .run(["archive", "restore", "--into", "back"])
                .expect(0);
            Self::rows(&self.url, "SELECT * FROM back").await
        } else if self.case.options["destination"]["database"].is_string() {
            Self::rows(&self.there, "SELECT * FROM kept").await
        } else {
            Self::rows(&self.url, "SELECT * FROM kept").await
        };
        same(self.case.name, "what was archived", &archived, &old);
    }
}

fn same(case: &str, what: &str, found: &[String], expected: &[String]) {
    let all = |of: &[String]| {
        of.iter()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
    };
    let (there, right) = (all(found), all(expected));
    let lost: Vec<&String> = right.difference(&there).take(5).collect();
    let wrong: Vec<&String> = there.difference(&right).take(5).collect();
    assert!(
        lost.is_empty() && wrong.is_empty(),
        "{case}: {what} lacks {lost:#?} and has instead {wrong:#?}"
    );
    assert_eq!(
        found.len(),
        expected.len(),
        "{case}: of {what} some are twice"
    );
}

fn kills(usually: u32) -> u32 {
    let told = std::env::var("MAINT_LEDGER_KILLS").ok();
    told.map_or(usually, |n| n.parse().unwrap())
}

/// No zero: the dice would show nothing else.
fn seed() -> u64 {
    let told = std::env::var("MAINT_LEDGER_SEED").ok();
    let any = || uuid::Uuid::now_v7().as_u64_pair().1;
    told.map_or_else(any, |n| n.parse().unwrap()).max(1)
}

async fn balances(cases: Vec<Case>) {
    balances_on(17, &[], cases).await;
}

async fn balances_on(major: u32, more: &[(&str, &str)], cases: Vec<Case>) {
    let seed = seed();
    println!("MAINT_LEDGER_SEED={seed}");
    let mut settings = vec![("autovacuum", "off"), ("restart_after_crash", "on")];
    settings.extend(more);
    let cluster = private_cluster(major, &settings);
    // What the server does itself when it comes up again is no business of the first case.
    drop(connect(&cluster.url("postgres")).await);
    for case in &cases {
        let mut ledger = Ledger::of(case, &cluster, seed).await;
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
        let writers: Vec<_> = (1..=WRITERS)
            .map(|n| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                let newest = Arc::clone(&ledger.newest);
                tokio::spawn(write(
                    ledger.url.clone(),
                    (seed ^ (0x9E37_79B9 * n)).max(1),
                    newest,
                    stop,
                    done,
                ))
            })
            .collect();
        let (killed, crashed) = ledger.go_through(case.kills).await;
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.await.unwrap();
        }
        ledger.finish();
        ledger.balance().await;
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let counts = [
            &done.inserted,
            &done.changed,
            &done.prolonged,
            &done.deleted,
            &done.rolled_back,
        ]
        .map(count);
        let all = ledger.number("SELECT count(*) FROM truth").await;
        println!(
            "{}: balanced: {all} rows, {killed} kills, {crashed} crashes of the server; inserted, changed, prolonged, deleted, rolled back: {counts:?}",
            case.name
        );
        assert!(counts.iter().all(|n| *n > 0), "{}: {counts:?}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_on_their_way_to_tables() {
    let there = || json!({ "database": "there", "table": "kept" });
    balances(vec![
        Case::of("a table, by key", "key", Some(json!({ "table": "kept" }))),
        Case::of(
            "a table, by blocks",
            "blocks",
            Some(json!({ "table": "kept" })),
        ),
        Case::of("a database, by key", "key", Some(there())),
        Case::of("a database, by blocks", "blocks", Some(there())),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_on_their_way_to_files() {
    balances(vec![
        Case::files("files, by key", "key"),
        Case::files("files, by blocks", "blocks"),
        Case::s3("S3, by key", "key"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whole_partitions_on_their_way() {
    balances(vec![
        Case::files("files, whole partitions", "whole"),
        Case::of(
            "a table, partitions",
            "whole",
            Some(json!({ "table": "kept" })),
        ),
        Case::of(
            "a database, partitions",
            "whole",
            Some(json!({ "database": "there", "table": "kept" })),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_that_are_deleted() {
    balances(vec![
        Case::of("deleted, by key", "key", None),
        Case::of("deleted, by blocks", "blocks", None),
        Case::of("deleted, partitions", "whole", None),
    ])
    .await;
}

/// What a subscriber on the same server needs.
const FOLLOWED: [(&str, &str); 3] = [
    ("wal_level", "logical"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "200ms"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_that_move_to_the_front() {
    let case = Case::repack("repacked, by moving rows", "UPDATE ONLY");
    balances_on(17, &FOLLOWED, vec![case]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_of_a_table_that_is_replaced() {
    if has_19() {
        let case = Case::repack("repacked, by the server", "REPACK (CONCURRENTLY)");
        balances_on(19, &FOLLOWED, vec![case]).await;
    }
}
