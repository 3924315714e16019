//! Partitioned tables, leaf by leaf or partition by partition.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{checksum, clean, nothing_is_left, workspace};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};

/// Six monthly partitions, the oldest three expired as a whole after 92 days
/// or more, and rows every hour.
async fn months(db: &TestDatabase, default: bool) {
    db.execute("DROP TABLE IF EXISTS events CASCADE; CREATE TABLE events (id bigint, at timestamptz NOT NULL, kind text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)").await;
    for n in 0..6 {
        db.execute(&format!(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE events_{n} PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                date_trunc('day', now()) - interval '{} days', date_trunc('day', now()) - interval '{} days'); END $$",
            30 * (n + 1) - 1, 30 * n - 1
        )).await;
    }
    if default {
        db.execute("CREATE TABLE events_rest PARTITION OF events DEFAULT")
            .await;
    }
    db.execute("INSERT INTO events SELECT n, now() - n * interval '1 hour', CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END
        FROM generate_series(1, 24 * 170) n; ANALYZE events").await;
}

fn actions(run: &Value) -> Vec<(&str, &str)> {
    let steps = run["steps"].as_array().unwrap();
    let mut all: Vec<_> = steps
        .iter()
        .map(|s| (s["action"].as_str().unwrap(), s["object"].as_str().unwrap()))
        .collect();
    all.sort_unstable();
    all
}

for_oldest_and_newest! {
    /// Partitions that expired as a whole are detached and dropped; from the
    /// one in which the cut-off lies exactly the old rows are deleted.
    async fn expired_partitions_are_dropped(major: u32) {
        let db = fresh_database(major).await;
        for default in [false, true] {
            months(&db, default).await;
            let workspace = workspace(&db, &json!([{ "table": "events", "column": "at", "older_than": "75d" }]));
            let kept = checksum(&db, "SELECT * FROM events WHERE at >= now() - interval '75 days'").await;
            let gone = db.number("SELECT count(*) FROM events WHERE at < now() - interval '75 days'").await;
            let dry = workspace.run(["run", "cleanup", "--dry-run", "--output", "json"]).expect(0).json();
            assert_eq!(dry["plans"][0]["rows"], gone);
            let statement = dry["plans"][0]["plan"]["steps"].to_string();
            assert_eq!(statement.contains("CONCURRENTLY"), !default, "{statement}");
            let run = clean(&workspace);
            assert_eq!(actions(&run), [("delete", "public.events_2"), ("drop_partition", "public.events_3"),
                ("drop_partition", "public.events_4"), ("drop_partition", "public.events_5")]);
            assert_eq!(checksum(&db, "SELECT * FROM events").await, kept);
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname IN ('events_3', 'events_4', 'events_5')").await, 0);
            nothing_is_left(&workspace);
        }
    }
}

for_oldest_and_newest! {
    /// Where a partition holds rows that stay, or somebody points at the
    /// table, rows are deleted leaf by leaf.
    async fn other_rules_go_leaf_by_leaf(major: u32) {
        let db = fresh_database(major).await;
        months(&db, true).await;
        let rules = json!([{ "table": "events", "column": "at", "older_than": "75d", "where": "events.kind = 'a'" }]);
        let kept = checksum(&db, "SELECT * FROM events WHERE at >= now() - interval '75 days' OR kind = 'b'").await;
        let first = workspace(&db, &rules);
        let run = clean(&first);
        assert!(actions(&run).iter().all(|(action, _)| *action == "delete"), "{run:#}");
        assert_eq!(actions(&run).len(), 4);
        assert_eq!(checksum(&db, "SELECT * FROM events").await, kept);
        nothing_is_left(&first);

        db.execute("CREATE TABLE follow_up (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES events ON DELETE CASCADE);
            CREATE INDEX ON follow_up (id, at);
            INSERT INTO follow_up SELECT id, at FROM events").await;
        let second = workspace(&db, &json!([{ "table": "events", "column": "at", "older_than": "75d" }]));
        let run = clean(&second);
        assert!(actions(&run).iter().all(|(action, _)| *action == "delete"), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM follow_up WHERE at < now() - interval '75 days'").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM events").await, db.number("SELECT count(*) FROM follow_up").await);
        nothing_is_left(&second);
    }
}

for_oldest_and_newest! {
    /// Tables that inherit without being partitions are walked, too.
    async fn inheritance(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE base (n int, at date); CREATE TABLE heir (more text) INHERITS (base);
            INSERT INTO base SELECT n, current_date - n FROM generate_series(1, 100) n;
            INSERT INTO heir SELECT n, current_date - n, 'x' FROM generate_series(1, 100) n").await;
        let workspace = workspace(&db, &json!([{ "table": "base", "column": "at", "older_than": "50d" }]));
        assert_eq!(actions(&clean(&workspace)), [("delete", "public.base"), ("delete", "public.heir")]);
        assert_eq!(db.number("SELECT min(current_date - at)::int8 FROM base").await, 1);
        assert_eq!(db.number("SELECT count(*) FROM base WHERE at < (now() AT TIME ZONE 'UTC')::date - 50").await, 0);
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// Killed while it waits for the end of a concurrent detachment: the next
    /// run finishes it and drops the partition.
    async fn killed_while_detaching(major: u32) {
        let db = fresh_database(major).await;
        months(&db, false).await;
        let kept = checksum(&db, "SELECT * FROM events WHERE at >= now() - interval '149 days'").await;
        let workspace = workspace(&db, &json!([{ "table": "events", "column": "at", "older_than": "149d" }]));
        let reader = db.connect().await;
        reader.batch_execute("BEGIN; SELECT count(*) FROM events").await.unwrap();
        let mut process = workspace.process(["run", "cleanup", "--now"])
            .stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let patience = Patience::until("the detachment to be pending");
        while db.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await == 0 {
            assert!(process.try_wait().unwrap().is_none(), "it ended");
            patience.pause().await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        reader.batch_execute("ROLLBACK").await.unwrap();
        let run = clean(&workspace);
        assert!(actions(&run).contains(&("drop_partition", "public.events_5")), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'events_5'").await, 0);
        assert_eq!(checksum(&db, "SELECT * FROM events WHERE at >= now() - interval '149 days'").await, kept);
        nothing_is_left(&workspace);
        // Died between the detachment and the drop: today's rule decides.
        db.execute("ALTER TABLE events DETACH PARTITION events_4; COMMENT ON TABLE events_4 IS 'maint: expired partition of public.events'").await;
        workspace.knows_mark("cleanup", &db, "public.events_4").await;
        assert_eq!(clean(&workspace)["steps"][0]["status"], "skipped");
        let workspace = super::workspace(&db, &json!([{ "table": "events", "column": "at", "older_than": "119d" }]));
        workspace.knows_mark("cleanup", &db, "public.events_4").await;
        assert!(actions(&clean(&workspace)).contains(&("drop_partition", "public.events_4")));
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'events_4'").await, 0);
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// A partition whose deletions a publication tells, by whichever table above it is named, is
    /// not dropped: its rows are deleted.
    async fn what_is_published_above_is_deleted_by_rows(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE top (id int, region text, at timestamptz NOT NULL, PRIMARY KEY (id, region, at)) PARTITION BY LIST (region);
            CREATE TABLE mid PARTITION OF top FOR VALUES IN ('eu') PARTITION BY RANGE (at);
            CREATE TABLE mid_2020 PARTITION OF mid FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
            INSERT INTO top SELECT n, 'eu', '2020-05-05' FROM generate_series(1, 9) n;
            CREATE PUBLICATION told FOR TABLE top WITH (publish_via_partition_root = true)").await;
        let workspace = workspace(&db, &json!([{ "table": "mid", "column": "at", "older_than": "1y" }]));
        let run = clean(&workspace);
        assert_eq!(actions(&run), [("delete", "public.mid_2020")], "{run:#}");
        assert_eq!(run["rows"], 9);
    }
}

for_oldest_and_newest! {
    /// Who points at one partition keeps that one from being dropped, and no other.
    async fn only_the_one_that_is_pointed_at_goes_by_rows(major: u32) {
        let db = fresh_database(major).await;
        months(&db, false).await;
        db.execute("CREATE UNIQUE INDEX ON events_4 (id); CREATE TABLE kk (pid bigint, CONSTRAINT points FOREIGN KEY (pid) REFERENCES events_4 (id)); CREATE INDEX ON kk (pid);
            INSERT INTO kk SELECT max(id) FROM events_4").await;
        let workspace = workspace(&db, &json!([{ "table": "events", "column": "at", "older_than": "75d" }]));
        let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
        assert_eq!(plan.matches("foreign keys point at it").count(), 1, "{plan}");
        assert!(plan.contains("points of public.kk"), "{plan}");
        // Of the partition that keeps younger rows nothing is said of the key.
        assert_eq!(plan.matches("fails where there is a child in public.kk").count(), 1, "{plan}");
        let run = workspace.run(["run", "cleanup", "--now", "--output", "json"]).json()["runs"][0].clone();
        let all = actions(&run);
        assert!(all.contains(&("delete", "public.events_4")), "{run:#}");
        assert!(all.contains(&("drop_partition", "public.events_3")) && all.contains(&("drop_partition", "public.events_5")), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM events_4").await, 1);
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname IN ('events_3', 'events_5')").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM events_2 WHERE at < now() - interval '75 days'").await, 0);
    }
}
