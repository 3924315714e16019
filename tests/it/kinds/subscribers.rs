//! Repack of a table that logical replication follows: nobody is sent its moved rows unasked, and a
//! subscriber that is sent them holds the same rows afterwards.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use maint::demo::Cluster;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::objects;
use super::repack::{damaged, write};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, connect, database_on, has_19, private_cluster};
use crate::support::workspace::Workspace;

/// A publisher and a subscriber of its table `t`, in two databases of one server.
struct Pair {
    _cluster: Cluster,
    here: TestDatabase,
    there: TestDatabase,
}

const SLOT: &str = "feed";

/// All columns, in the order of the key.
const ROWS: &str = "SELECT concat_ws('|', id, parent, n, twice, coalesce(note, 'none'), md5(big)) FROM t ORDER BY id";

/// Where the rows are, and who wrote them last.
const PLACES: &str = "SELECT ctid::text || ' ' || xmin::text FROM t ORDER BY id";

impl Pair {
    async fn of(major: u32) -> Pair {
        let settings = [
            ("wal_level", "logical"),
            ("autovacuum", "off"),
            ("wal_receiver_status_interval", "1s"),
        ];
        let cluster = private_cluster(major, &settings);
        let here = database_on(&cluster, major).await;
        let there = database_on(&cluster, major).await;
        damaged(&here, 40_000).await;
        here.execute("CREATE EXTENSION amcheck; CREATE PUBLICATION news FOR TABLE t")
            .await;
        // On one server a subscription cannot wait for the slot that it would make itself.
        here.execute(&format!(
            "SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"
        ))
        .await;
        there
            .execute(
                "CREATE TABLE t (id bigint PRIMARY KEY, parent int NOT NULL, n int NOT NULL,
                    twice int GENERATED ALWAYS AS (n * 2) STORED, note text, big text)",
            )
            .await;
        there
            .execute(&format!(
                "CREATE SUBSCRIPTION readers CONNECTION '{}' PUBLICATION news WITH (create_slot = false, slot_name = '{SLOT}')",
                here.url
            ))
            .await;
        let patience = Patience::until("the subscriber to have the table");
        let ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";
        while there.number(ready).await == 0 {
            patience.pause().await;
        }
        let pair = Pair {
            _cluster: cluster,
            here,
            there,
        };
        pair.is_equal().await;
        pair
    }

    /// Waits until the subscriber has what was written so far.
    async fn catches_up(&self) {
        let written = self
            .here
            .strings("SELECT pg_current_wal_lsn()::text")
            .await
            .remove(0);
        let sent = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND confirmed_flush_lsn >= '{written}'"
        );
        let patience = Patience::until("the subscriber to catch up");
        while self.here.number(&sent).await == 0 {
            patience.pause().await;
        }
    }

    /// Both hold the same rows, as soon as the subscriber has put in what it was sent: what it
    /// confirms to have may be a little ahead of what is seen there.
    async fn is_equal(&self) {
        self.catches_up().await;
        let ours = self.here.strings(ROWS).await;
        assert!(ours.len() > 1_000);
        let patience = Patience::until("the subscriber to hold the same rows");
        while self.there.strings(ROWS).await != ours {
            patience.pause().await;
        }
    }

    /// Keys that point in and out still find their rows, each row has its entry in each index, and
    /// the server takes the constraints anew.
    async fn is_sound(&self) {
        self.here
            .execute("SELECT bt_index_check(indexrelid::regclass, true) FROM pg_index WHERE indrelid = 't'::regclass")
            .await;
        self.here
            .execute("ALTER TABLE child ADD CONSTRAINT again FOREIGN KEY (t) REFERENCES t; ALTER TABLE child DROP CONSTRAINT again;
                ALTER TABLE t ADD CONSTRAINT again FOREIGN KEY (parent) REFERENCES parent; ALTER TABLE t DROP CONSTRAINT again")
            .await;
        assert!(self.here.number("SELECT count(*) FROM child").await > 0);
    }

    fn workspace(&self, options: &str) -> Workspace {
        Workspace::for_target(&self.here.url).task(
            "repack",
            &format!("kind: repack\ntarget: app\noptions: {{ min_size: 100kB, include: [t], {options} }}\nlimits: {{ transaction_wait: 30s }}\n"),
        )
    }
}

fn run(workspace: &Workspace, code: i32) -> Value {
    workspace
        .run(["run", "repack", "--now", "--output", "json"])
        .expect(code)
        .json()
}

/// Runs it while somebody else writes, inserts and deletes.
async fn run_beside_writers(pair: &Pair, workspace: &Workspace) -> Value {
    let stop = Arc::new(AtomicBool::new(false));
    let client: Client = connect(&pair.here.url).await;
    let writer = tokio::spawn(write(client, 1_000_000, Arc::clone(&stop)));
    let running = workspace
        .process(["run", "repack", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap())
        .await
        .unwrap();
    stop.store(true, Ordering::Relaxed);
    let ledger: BTreeMap<i64, i32> = writer.await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let theirs = pair
        .here
        .client
        .query("SELECT id, n FROM t WHERE id >= 1000000 ORDER BY id", &[])
        .await
        .unwrap();
    let theirs: BTreeMap<i64, i32> = theirs.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(theirs, ledger);
    serde_json::from_slice(&ended.stdout).unwrap()
}

async fn is_sent_moved_rows_only_where_that_is_allowed(major: u32) {
    let pair = Pair::of(major).await;
    let (here, there) = (
        pair.here.strings(PLACES).await,
        pair.there.strings(PLACES).await,
    );
    let refused = run(&pair.workspace("way: move"), 1);
    assert_eq!(refused["runs"][0]["steps"], json!([]), "{refused:#}");
    let told = refused["runs"][0].to_string();
    assert!(
        told.contains("logical slot feed would decode every one (allow_replicated: true)"),
        "{refused:#}"
    );
    pair.catches_up().await;
    assert_eq!(pair.here.strings(PLACES).await, here);
    assert_eq!(pair.there.strings(PLACES).await, there);

    let size = "SELECT pg_relation_size('t')";
    let large = pair.here.number(size).await;
    let allowed = pair.workspace("way: move, allow_replicated: true");
    let done = run_beside_writers(&pair, &allowed).await;
    assert_eq!(
        objects(&done, "move_rows", "succeeded"),
        ["public.t".to_owned()].into(),
        "{done:#}"
    );
    assert!(pair.here.number(size).await * 2 < large, "{done:#}");
    pair.is_equal().await;
    pair.is_sound().await;
    // Every row that moved was sent.
    let moved = done["runs"][0]["steps"][0]["rows"].as_u64().unwrap();
    assert!(moved > 1_000, "{done:#}");
    let written = pair.there.strings(PLACES).await;
    let as_before: std::collections::BTreeSet<&String> = there.iter().collect();
    let sent = written.iter().filter(|row| !as_before.contains(row));
    assert!(sent.count() > 1_000);

    // What the writer left is taken up, and then nothing is done any more.
    run(&allowed, 0);
    let places = pair.here.strings(PLACES).await;
    assert_eq!(run(&allowed, 0)["runs"][0]["steps"], json!([]));
    assert_eq!(pair.here.strings(PLACES).await, places);
    pair.is_equal().await;
}

#[tokio::test]
async fn is_sent_moved_rows_only_where_that_is_allowed_pg14() {
    is_sent_moved_rows_only_where_that_is_allowed(14).await;
}

#[tokio::test]
async fn is_sent_moved_rows_only_where_that_is_allowed_pg18() {
    is_sent_moved_rows_only_where_that_is_allowed(18).await;
}

/// The server's own way sends nobody anything, so nobody has to allow it.
#[tokio::test]
async fn is_sent_nothing_by_the_servers_own_way_pg19() {
    if !has_19() {
        return;
    }
    let pair = Pair::of(19).await;
    let there = pair.there.strings(PLACES).await;
    let here = pair.here.strings(PLACES).await;
    let done = run(&pair.workspace("way: auto"), 0);
    assert_eq!(
        objects(&done, "repack", "succeeded"),
        ["public.t".to_owned()].into(),
        "{done:#}"
    );
    pair.is_equal().await;
    assert_ne!(pair.here.strings(PLACES).await, here);
    assert_eq!(pair.there.strings(PLACES).await, there);
    // And with somebody who writes meanwhile, of whose rows each is sent once.
    pair.here
        .execute(
            "DELETE FROM t WHERE id % 3 > 0 AND NOT EXISTS (SELECT FROM child c WHERE c.t = t.id)",
        )
        .await;
    pair.here.execute("VACUUM ANALYZE t").await;
    let done =
        run_beside_writers(&pair, &pair.workspace("min_bloat: 10%, refills_within: 1s")).await;
    assert_eq!(
        objects(&done, "repack", "succeeded"),
        ["public.t".to_owned()].into(),
        "{done:#}"
    );
    pair.is_equal().await;
    pair.is_sound().await;
}
