//! The numbers of the last snapshot reach Prometheus.

use mongodb::IndexModel;
use mongodb::bson::doc;

use super::{Served, TASK, schedules};
use crate::support::mongo::TestBase;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

#[tokio::test]
async fn prometheus_is_told_what_the_last_snapshot_saw() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE big (id int); INSERT INTO big SELECT generate_series(1, 50000);
         CREATE INDEX big_id ON big (id); CREATE INDEX big_unused ON big ((id + 1))",
    )
    .await;
    db.execute("VACUUM ANALYZE big").await;
    db.execute("SET enable_seqscan = off; SELECT count(*) FROM big WHERE id = 7")
        .await;
    let workspace = Workspace::new("targets: {}\n")
        .task("analyze", TASK)
        .task("snapshot", "kind: snapshot\ntarget: app\n");
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules(&db.url, &["daily"]).replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &yaml);
    let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));
    assert!(
        !served
            .get("/metrics")
            .1
            .contains("maint_database_size_bytes")
    );
    workspace.run(["run", "snapshot", "--now"]).expect(0);
    let (code, page) = served.get("/metrics");
    assert_eq!(code, 200);
    let value = |series: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        let value = line.unwrap_or_else(|| panic!("{series} is not in\n{page}"));
        value.trim().parse::<f64>().unwrap()
    };
    assert!(value("maint_database_size_bytes{target=\"app\",object=\"\"}") > 1e6);
    assert!(value("maint_table_size_bytes{target=\"app\",object=\"public.big\"}") > 1e6);
    assert!(value("maint_connections_used{target=\"app\",object=\"\"}") >= 1.0);
    assert!(value("maint_connections_in_state{target=\"app\",object=\"idle\"}") >= 1.0);
    assert!(value("maint_connections_longest_seconds{target=\"app\",object=\"idle\"}") >= 0.0);
    assert!(value("maint_connections_waiting{target=\"app\",object=\"\"}") >= 0.0);
    assert!(value("maint_table_rows{target=\"app\",object=\"public.big\"}") == 50_000.0);
    assert!(value("maint_table_hit_ratio{target=\"app\",object=\"public.big\"}") > 0.0);
    assert!(value("maint_index_scans{target=\"app\",object=\"public.big_id\"}") >= 1.0);
    assert!(value("maint_index_entries_read{target=\"app\",object=\"public.big_id\"}") >= 1.0);
    assert!(value("maint_indexes_never_used{target=\"app\",object=\"\"}") >= 1.0);
    assert_eq!(served.stop().0, Some(0));
}

/// The same for the other engine, in its own words, in every place that shows numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_saw_of_collections_is_shown_everywhere() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let pad = "x".repeat(300);
        let documents = (0..5000).map(|n| doc! { "_id": n, "n": n, "pad": &pad });
        let big = base.collection("big");
        big.insert_many(documents).await.unwrap();
        for field in ["n", "pad"] {
            let index = IndexModel::builder().keys(doc! { field: 1 }).build();
            big.create_index(index).await.unwrap();
        }
        big.find_one(doc! { "n": 7 }).await.unwrap();
        base.db
            .run_command(doc! { "profile": 1, "slowms": 0 })
            .await
            .unwrap();
        big.find_one(doc! { "pad": "y" }).await.unwrap();
        base.db
            .run_command(doc! { "profile": 0, "slowms": 100 })
            .await
            .unwrap();
        let workspace =
            Workspace::new("targets: {}\n").task("snapshot", "kind: snapshot\ntarget: app\n");
        let history = format!("sqlite:{}", workspace.history().display());
        workspace.file(
            "schedules.yaml",
            &format!(
                "history: {history}\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\nschedules:\n  daily: {{ cron: \"0 2 * * *\", tasks: [snapshot] }}\n",
                base.url()
            ),
        );
        workspace.run(["run", "snapshot", "--now"]).expect(0);
        let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));
        let (_, page) = served.get("/metrics");
        let value = |series: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(series));
            let value = line.unwrap_or_else(|| panic!("{series} is not in\n{page}"));
            value.trim().parse::<f64>().unwrap()
        };
        let of = |name: &str, object: &str| {
            value(&format!(
                "maint_{name}{{target=\"app\",object=\"{object}\"}}"
            ))
        };
        let object = format!("{}.big", base.name);
        assert!(of("database_size_bytes", "") > 1e4);
        assert!(of("database_free_bytes", "") >= 0.0);
        assert!(of("collection_size_bytes", &object) > 1e4);
        assert!(of("collection_index_bytes", &object) > 1e4);
        assert!(of("collection_free_bytes", &object) >= 0.0);
        assert!(of("collection_documents", &object) == 5000.0);
        assert!(of("connections_used", "") >= 1.0);
        assert!(of("connections_limit", "") > of("connections_used", ""));
        assert!(of("tickets_available", "read") > 0.0);
        assert!(of("tickets_available", "write") > 0.0);
        assert!(of("cache_used_ratio", "") > 0.0);
        assert!((0.0..=1.0).contains(&of("cache_dirty_ratio", "")));
        assert!(of("oplog_window_seconds", "") >= 0.0);
        assert!(of("index_scans", &format!("{object}.n_1")) >= 1.0);
        assert!(of("index_scans", &format!("{object}.pad_1")) >= 1.0);
        assert!(of("indexes_never_used", "") >= 1.0);
        assert!(
            page.contains("maint_replication_lag_seconds{target=\"app\""),
            "{page}"
        );
        let (_, trends) = served.get("/trends?target=app");
        let report = workspace.run(["report"]).expect(0).stdout;
        for words in [
            "largest collections",
            "slowest operations",
            "free tickets",
            "reach of the oplog",
        ] {
            assert!(trends.contains(words), "{words}: {trends}");
            assert!(report.contains(words), "{words}: {report}");
        }
        assert!(
            trends.contains(&object) && trends.contains("find {pad: ?}"),
            "{trends}"
        );
        for text in [&trends, &report] {
            assert!(!text.contains("largest tables"), "{text}");
        }
        assert_eq!(served.stop().0, Some(0));
    }
}
