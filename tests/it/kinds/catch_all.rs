//! Bounds that end nowhere, in another zone, or at other UUIDs; where the first partition is put;
//! rows that come while others are moved.

use serde_json::Value;

use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, connect, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

fn workspace(url: &str, options: &str) -> Workspace {
    let task = format!(
        "kind: partitions\ntarget: app\noptions: {{ {options} }}\nlimits: {{ lock_timeout: 1s, lock_retries: 3 }}\n"
    );
    Workspace::for_target(url).task("partitions", &task)
}

fn run(workspace: &Workspace) -> Value {
    let document = workspace.run(["run", "partitions", "--now", "--output", "json"]);
    document.json()["runs"][0].clone()
}

fn told(run: &Value) -> Vec<&str> {
    let findings = run["findings"].as_array().unwrap().iter();
    findings.map(|f| f["code"].as_str().unwrap()).collect()
}

async fn partitions(db: &TestDatabase, table: &str) -> i64 {
    db.number(&format!(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass"
    ))
    .await
}

for_versions! {
    [pg16 = 16]
    /// A partition that takes everything from this month on, or for ever so long, is told each
    /// time; without it, the partitions are made.
    async fn what_takes_everything_is_told(major: u32) {
        for end in ["(MAXVALUE)", "('infinity')", "('9999-01-01')"] {
            let db = fresh_database(major).await;
            db.execute(&format!("CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
                CREATE TABLE ev_old PARTITION OF ev FOR VALUES FROM (MINVALUE) TO ('2021-01-01 00:00+00');
                CREATE TABLE ev_rest PARTITION OF ev FOR VALUES FROM ('2021-01-01 00:00+00') TO {end};
                INSERT INTO ev VALUES (1, now())")).await;
            let workspace = workspace(&db.url, "tables: [ev], interval: month, ahead: 2, time_zone: UTC");
            for _ in 0..2 {
                let run = run(&workspace);
                assert_eq!((told(&run), run["status"].as_str().unwrap()), (vec!["partitions.catch_all"], "failed"), "{end}: {run:#}");
                assert_eq!(run["steps"], serde_json::json!([]));
            }
            let advised = run(&workspace)["findings"][0]["suggestion"].as_str().unwrap().to_owned();
            db.execute(&advised).await;
            let made = run(&workspace);
            assert_eq!((told(&made).len(), made["status"].as_str().unwrap()), (0, "succeeded"), "{end}: {made:#}");
            assert_eq!(partitions(&db, "ev").await, 4);
            db.execute("INSERT INTO ev SELECT * FROM ev_rest").await;
        }
    }
}

for_oldest_and_newest! {
    /// Many days of one season look alike in two zones; those before tell which is meant.
    async fn days_of_another_season_tell_the_zone(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at)").await;
        // Every midnight of a place that is an hour ahead all the year round.
        db.execute("DO $$ DECLARE d date; BEGIN FOR d IN SELECT generate_series('2025-06-01'::date, '2026-03-20', '1 day') LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF ev FOR VALUES FROM (%L) TO (%L)', 'ev_' || d, d::timestamp AT TIME ZONE 'Africa/Lagos', (d + 1)::timestamp AT TIME ZONE 'Africa/Lagos');
            END LOOP; END $$").await;
        let workspace = workspace(&db.url, "tables: [ev], interval: day, ahead: 1");
        let yaml = std::fs::read_to_string(workspace.path().join("schedules.yaml")).unwrap();
        workspace.file("schedules.yaml", &format!("timezone: Europe/Berlin\n{yaml}"));
        let before = partitions(&db, "ev").await;
        let asked = run(&workspace);
        assert!(told(&asked).contains(&"partitions.time_zone"), "{asked:#}");
        assert_eq!(partitions(&db, "ev").await, before);
        workspace.file("schedules.yaml", &format!("timezone: Africa/Lagos\n{yaml}"));
        let made = run(&workspace);
        assert!(!told(&made).contains(&"partitions.time_zone"), "{made:#}");
        assert_eq!(partitions(&db, "ev").await, before + 2);
    }
}

for_oldest_and_newest! {
    /// Without a time zone nobody knows whose midnights bounds are that are none: it is told, with what leads to one.
    async fn bounds_beside_midnight_are_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int, at timestamp NOT NULL) PARTITION BY RANGE (at);
            DO $$ DECLARE m date; BEGIN FOR m IN SELECT generate_series(date_trunc('month', now()) - interval '3 months', date_trunc('month', now()), '1 month') LOOP
                EXECUTE format('CREATE TABLE %I PARTITION OF ev FOR VALUES FROM (%L) TO (%L)', 'ev_' || m,
                    m::timestamp AT TIME ZONE 'America/New_York' AT TIME ZONE 'UTC', (m + interval '1 month') AT TIME ZONE 'America/New_York' AT TIME ZONE 'UTC');
            END LOOP; END $$").await;
        let workspace = workspace(&db.url, "tables: [ev], interval: month, ahead: 2");
        let asked = run(&workspace);
        assert_eq!((told(&asked), asked["status"].as_str().unwrap()), (vec!["partitions.time_zone"], "failed"), "{asked:#}");
        assert_eq!(partitions(&db, "ev").await, 4);
        let bridge = asked["findings"][0]["suggestion"].as_str().unwrap().to_owned();
        db.execute(&bridge).await;
        let made = run(&workspace);
        assert_eq!((told(&made).len(), made["status"].as_str().unwrap()), (0, "succeeded"), "{made:#}");
        assert_eq!(db.strings("SELECT count(*) || ' ' || count(*) FILTER (WHERE pg_get_expr(relpartbound, oid) ~ '(00:00:00.*){2}') FROM pg_class WHERE relispartition AND relkind = 'r'").await, ["6 1"]);
    }
}

for_oldest_and_newest! {
    /// The first partition is stored where its table says.
    async fn the_first_partition_is_where_its_table_says(major: u32) {
        let cluster = private_cluster(major, &[]);
        let client = connect(&cluster.url("postgres")).await;
        client.batch_execute("SET allow_in_place_tablespaces = on").await.unwrap();
        client.batch_execute("CREATE TABLESPACE slow LOCATION ''").await.unwrap();
        client.batch_execute("CREATE TABLE ev (id int, at date NOT NULL) PARTITION BY RANGE (at) TABLESPACE slow").await.unwrap();
        let made = run(&workspace(&cluster.url("postgres"), "tables: [ev], interval: month, ahead: 1, time_zone: UTC"));
        assert_eq!(made["status"], "succeeded", "{made:#}");
        let sql = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE s.spcname = 'slow'";
        let there: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(there, 2);
    }
}

for_oldest_and_newest! {
    /// Rows that come all the time into the default partition do not keep those that are there
    /// from leaving it, and none of them is lost.
    async fn steady_inserts_do_not_keep_rows_from_moving(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE ev_rest PARTITION OF ev DEFAULT;
            CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
            INSERT INTO ev SELECT g, now() FROM generate_series(1, 20000) g").await;
        let (url, stop) = (db.url.clone(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let stopping = stop.clone();
        let writer = tokio::spawn(async move {
            let client = connect(&url).await;
            let mut written = 0_i64;
            while !stopping.load(std::sync::atomic::Ordering::Relaxed) {
                client.batch_execute("INSERT INTO ev VALUES (0, now())").await.unwrap();
                written += 1;
            }
            written
        });
        let patience = Patience::until("the first rows of the writer");
        while db.number("SELECT count(*) FROM ev WHERE id = 0").await == 0 {
            patience.pause().await;
        }
        let workspace = workspace(&db.url, "tables: [ev], interval: month, ahead: 0, time_zone: UTC, move_default_rows: true");
        let moved = tokio::task::spawn_blocking(move || run(&workspace)).await.unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let written = writer.await.unwrap();
        assert_eq!(moved["status"], "succeeded", "{moved:#}");
        assert_eq!(db.number("SELECT count(*) FROM ev").await, 20_000 + written);
        assert_eq!(db.number("SELECT count(*) FROM ev_rest").await, 0);
    }
}

for_oldest_and_newest! {
    /// Bounds beyond the times of our days are read, and a row whose key only looks old keeps its
    /// partition, until it is gone.
    async fn only_keys_that_begin_with_their_time_grow_old(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id uuid NOT NULL) PARTITION BY RANGE (id);
            CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('016f5e66-e800-0000-0000-000000000000') TO ('0176bb3e-7000-0000-0000-000000000000');
            CREATE TABLE ev_2021 PARTITION OF ev FOR VALUES FROM ('0176bb3e-7000-0000-0000-000000000000') TO ('017e12ef-9c00-0000-0000-000000000000');
            CREATE TABLE high (id uuid NOT NULL) PARTITION BY RANGE (id);
            CREATE TABLE high_1 PARTITION OF high FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO ('ffffffff-ffff-ffff-ffff-ffffffffffff');
            INSERT INTO ev VALUES ('01700000-0000-7000-8000-000000000001'), ('01700000-0000-4000-8000-000000000002')").await;
        let workspace = workspace(&db.url, "tables: [ev, high], interval: year, ahead: 0, keep: 1y, grace: 0s, time_zone: UTC");
        let kept = run(&workspace);
        let high: Vec<_> = kept["findings"].as_array().unwrap().iter().filter(|f| f["object"] == "public.high").collect();
        assert!(high.len() == 1 && high[0]["message"].as_str().unwrap().contains("not of version 7"), "{kept:#}");
        let step = |run: &Value| run["steps"].as_array().unwrap().iter().find(|s| s["object"] == "public.ev_2020").cloned().unwrap();
        assert!(step(&kept)["status"] == "skipped" && step(&kept)["error"].as_str().unwrap().contains("version 7"), "{kept:#}");
        assert_eq!(db.number("SELECT count(*) FROM ev").await, 2);
        db.execute("DELETE FROM ev WHERE id = '01700000-0000-4000-8000-000000000002'").await;
        let gone = run(&workspace);
        assert_eq!(step(&gone)["status"], "succeeded", "{gone:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_2020'").await, 0);
    }
}
