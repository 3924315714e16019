//! Real damage: bytes changed in the files of a stopped server, and a
//! standby whose files are not those of its primary.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use super::finding;
use super::integrity::found;
use crate::support::patience::Patience;
use crate::support::servers::{connect, private_cluster};
use crate::support::standby::{restarted, standby};
use crate::support::workspace::Workspace;

const TABLES: &str = "CREATE EXTENSION amcheck;
    CREATE TABLE sound (id bigint PRIMARY KEY, v text);
    CREATE TABLE \"Broken Heap\" (id bigint, v text);
    CREATE TABLE broken_index (id bigint, v text);
    INSERT INTO sound SELECT g, md5(g::text) FROM generate_series(1, 5000) g;
    INSERT INTO \"Broken Heap\" SELECT * FROM sound;
    INSERT INTO broken_index SELECT * FROM sound;
    CREATE INDEX \"Broken; Index\" ON broken_index (v);
    CHECKPOINT";

/// Flips one bit of the first line pointer in block 3, as a failing disk does.
fn flip(data: &Path, file: &str) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(data.join(file))
        .unwrap();
    let place = 3 * 8192 + 24;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], place).unwrap();
}

async fn files(url: &str) -> (String, String) {
    let client = connect(url).await;
    let row = client.query_one("SELECT pg_relation_filepath('\"Broken Heap\"'), pg_relation_filepath('\"Broken; Index\"')", &[]).await.unwrap();
    (row.get(0), row.get(1))
}

fn workspace(primary: &str, replica: &str, options: &str) -> Workspace {
    let replicas = match replica {
        "" => String::new(),
        url => format!(", replicas: [\"{url}\"]"),
    };
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{primary}\"{replicas} }}\n"
    ))
    .task("integrity", &format!("kind: integrity\ntarget: app\noptions: {options}\n"))
}

fn run(workspace: &Workspace) -> Value {
    let document = workspace
        .run(["run", "integrity", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
    document
}

/// What is said to be damaged, without the code: that depends on who notices first.
fn damaged(document: &Value) -> Vec<String> {
    let mut objects: Vec<String> = found(document)
        .into_iter()
        .map(|line| {
            let (code, object) = line.split_once(' ').unwrap();
            assert!(code.starts_with("corruption."), "{code} {object}");
            object.to_owned()
        })
        .collect();
    objects.sort();
    objects
}

for_each_version! {
    /// A changed byte in a table and one in an index: both named, nothing else,
    /// every step succeeded; and both are named again by the next run.
    async fn changed_bytes_are_found(major: u32) {
        let cluster = private_cluster(major, &[("autovacuum", "off")]);
        connect(&cluster.url("postgres")).await.batch_execute(TABLES).await.unwrap();
        let (table, index) = files(&cluster.url("postgres")).await;
        let healthy = run(&workspace(&cluster.url("postgres"), "", "{ amcheck: full }"));
        assert_eq!(found(&healthy), Vec::<String>::new(), "{healthy:#}");

        let server = restarted(major, &cluster, |data| {
            flip(data, &table);
            flip(data, &index);
        });
        for level in ["light", "full"] {
            let workspace = workspace(&server.url("postgres"), "", &format!("{{ amcheck: {level} }}"));
            let first = run(&workspace);
            let damaged_now: Vec<String> = found(&first).iter().filter(|l| !l.starts_with("checksum.")).cloned().collect();
            let mut objects: Vec<&str> = damaged_now.iter().map(|l| l.split_once(' ').unwrap().1).collect();
            objects.sort_unstable();
            assert_eq!(objects, ["public.\"Broken Heap\"", "public.\"Broken; Index\""], "{first:#}");
            for finding in first["runs"][0]["findings"].as_array().unwrap() {
                assert_eq!(finding["severity"], "critical");
                if finding["object"] == "public.\"Broken; Index\"" {
                    assert_eq!(finding["suggestion"], "REINDEX INDEX CONCURRENTLY public.\"Broken; Index\"");
                }
            }
            // Damage is not forgotten, what is sound is not looked at again so soon.
            let second = run(&workspace);
            let steps = second["runs"][0]["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 2, "{second:#}");
            assert!(found(&second).iter().any(|l| l.ends_with("Broken Heap\"")), "{second:#}");
            if major >= 18 {
                // Clusters have checksums since then, and the server counts what did not match.
                let counted = finding(&second, "checksum.failures");
                assert_eq!((&counted["severity"], &counted["object"]), (&"critical".into(), &"postgres".into()), "{second:#}");
            }
        }
    }
}

for_each_version! {
    /// What only reads goes to the replica: its damage is found, and the
    /// primary is never asked. Without the replica heavy checks are left out.
    async fn checks_run_on_the_replica(major: u32) {
        let cluster = private_cluster(major, &[("autovacuum", "off"), ("log_statement", "all"), ("wal_level", "replica"), ("wal_keep_size", "1GB")]);
        let client = connect(&cluster.url("postgres")).await;
        client.batch_execute(TABLES).await.unwrap();
        client.batch_execute("CREATE UNLOGGED TABLE only_here (id bigint PRIMARY KEY, up bigint REFERENCES only_here);
            CREATE TABLE child (id bigint REFERENCES sound); INSERT INTO child SELECT id FROM sound").await.unwrap();
        let (table, index) = files(&cluster.url("postgres")).await;
        client.batch_execute("CHECKPOINT").await.unwrap();
        let mut replica = standby(major, &cluster, |data| {
            flip(data, &table);
            flip(data, &index);
        }).await;
        let workspace = workspace(&cluster.url("postgres"), &replica.url("postgres"), "{ amcheck: full }");
        let document = run(&workspace);
        assert_eq!(damaged(&document), ["public.\"Broken Heap\"", "public.\"Broken; Index\""], "{document:#}");
        for finding in document["runs"][0]["findings"].as_array().unwrap() {
            assert!(finding["message"].as_str().unwrap().ends_with("(seen on replica 1)"), "{finding:#}");
        }
        let asked = |log: &str, what: &str| log.matches(what).count();
        let (here, there) = (std::fs::read_to_string(cluster.log_file()).unwrap(), replica.log());
        // The primary: only the table that the standby has not, and not closely.
        assert_eq!((asked(&here, "verify_heapam($1"), asked(&here, "bt_index_check($1")), (1, 1));
        assert!(asked(&there, "verify_heapam($1") >= 4 && asked(&there, "bt_index_check($1") >= 2);
        assert_eq!((asked(&here, "NOT EXISTS (SELECT 1 FROM ONLY public.sound"), asked(&there, "NOT EXISTS (SELECT 1 FROM ONLY public.sound")), (0, 1));
        assert_eq!((asked(&here, "NOT EXISTS (SELECT 1 FROM ONLY public.only_here"), asked(&there, "NOT EXISTS (SELECT 1 FROM ONLY public.only_here")), (1, 0));
        assert!(here.lines().filter(|l| l.contains("bt_index_check($1")).all(|l| l.contains("regclass, false")), "{here}");

        replica.stop();
        let alone = run(&workspace);
        assert_eq!(found(&alone).iter().map(|l| l.split_once(' ').unwrap().0).collect::<Vec<_>>(),
            ["integrity.coverage", "integrity.no_replica", "integrity.not_again", "replica.unreachable"], "{alone:#}");
        drop(replica);
        // Another server is no replica, whatever the configuration says.
        let stranger = private_cluster(major, &[]);
        let workspace = self::workspace(&cluster.url("postgres"), &stranger.url("postgres"), "{ amcheck: full }");
        let document = run(&workspace);
        assert_eq!(found(&document), ["integrity.no_replica amcheck", "replica.not_a_standby replica 1"], "{document:#}");
    }
}

/// Every run reads the next replica, so that damage on any of them is found;
/// one that is gone is told, and passed over.
#[tokio::test]
async fn replicas_take_turns() {
    let cluster = private_cluster(
        17,
        &[
            ("autovacuum", "off"),
            ("wal_level", "replica"),
            ("wal_keep_size", "1GB"),
        ],
    );
    connect(&cluster.url("postgres"))
        .await
        .batch_execute(TABLES)
        .await
        .unwrap();
    let (table, index) = files(&cluster.url("postgres")).await;
    let mut sound = standby(17, &cluster, |_| {}).await;
    let broken = standby(17, &cluster, |data| {
        flip(data, &table);
        flip(data, &index);
    })
    .await;
    let both = format!("{}\", \"{}", sound.url("postgres"), broken.url("postgres"));
    let workspace = workspace(
        &cluster.url("postgres"),
        &both,
        "{ amcheck: light, recheck_after: 0s }",
    );
    let names = ["public.\"Broken Heap\"", "public.\"Broken; Index\""];
    for turn in [1, 2, 1, 2] {
        let document = run(&workspace);
        let expected = if turn == 2 {
            names.to_vec()
        } else {
            Vec::new()
        };
        assert_eq!(damaged(&document), expected, "turn of {turn}: {document:#}");
        for finding in document["runs"][0]["findings"].as_array().unwrap() {
            let message = finding["message"].as_str().unwrap();
            assert!(message.ends_with("(seen on replica 2)"), "{finding:#}");
        }
    }
    sound.stop();
    let document = run(&workspace);
    finding(&document, "replica.unreachable");
    for name in names {
        assert!(
            found(&document).iter().any(|line| line.ends_with(name)),
            "{document:#}"
        );
    }
}

/// What a replica holds whose replay is paused is so of an earlier state: nothing is believed that is all well there,
/// and what went wrong since is found on the primary. Once it goes on, it is read again.
#[tokio::test]
async fn a_replica_that_is_held_back_is_not_believed() {
    let cluster = private_cluster(16, &[("wal_level", "replica"), ("wal_keep_size", "1GB")]);
    let client = connect(&cluster.url("postgres")).await;
    client
        .batch_execute(
            "CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents VALUES (1);
        CREATE TABLE children (id int REFERENCES parents); INSERT INTO children VALUES (1)",
        )
        .await
        .unwrap();
    let replica = standby(16, &cluster, |_| {}).await;
    let workspace = workspace(
        &cluster.url("postgres"),
        &replica.url("postgres"),
        "{ amcheck: \"off\" }",
    );
    let copy = connect(&replica.url("postgres")).await;
    copy.batch_execute("SELECT pg_wal_replay_pause()")
        .await
        .unwrap();
    let patience = Patience::until("the replica to pause");
    while !copy
        .query_one("SELECT pg_get_wal_replay_pause_state() = 'paused'", &[])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        patience.pause().await;
    }
    client
        .batch_execute("SET session_replication_role = replica; INSERT INTO children VALUES (99)")
        .await
        .unwrap();
    let document = run(&workspace);
    assert_eq!(
        found(&document),
        [
            "foreign_key.orphans public.children.children_id_fkey",
            "replica.held_back replica 1"
        ],
        "{document:#}"
    );
    let told = finding(&document, "replica.held_back").clone();
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("its replay is paused"),
        "{told:#}"
    );
    copy.batch_execute(told["suggestion"].as_str().unwrap())
        .await
        .unwrap();
    client
        .batch_execute("DELETE FROM children WHERE id = 99")
        .await
        .unwrap();
    let end: String = client
        .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
        .await
        .unwrap()
        .get(0);
    let patience = Patience::until("the replica to catch up");
    while !copy
        .query_one(
            &format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn"),
            &[],
        )
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        patience.pause().await;
    }
    let document = run(&workspace);
    assert_eq!(
        found(&document),
        ["integrity.coverage coverage"],
        "{document:#}"
    );
}
