//! The numbers of the last snapshot reach Prometheus.

use super::{Served, TASK, schedules};
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
