//! A partition that would be over as soon as it is made is not made: a second run right after the first has nothing
//! to take back.

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// A gap that ends before the limit, within the month in which the limit lies.
#[tokio::test]
async fn a_gap_that_ends_before_the_limit_is_not_filled() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE e (at timestamptz NOT NULL) PARTITION BY RANGE (at);
        DO $$ DECLARE x timestamptz := date_trunc('hour', now() - interval '40 days') - interval '1 hour';
            m timestamptz := date_trunc('month', x, 'UTC');
        BEGIN
            EXECUTE format('CREATE TABLE e_old PARTITION OF e FOR VALUES FROM (%L) TO (%L)', m - interval '60 days', m);
            EXECUTE format('CREATE TABLE e_new PARTITION OF e FOR VALUES FROM (%L) TO (%L)', x, date_trunc('month', now(), 'UTC'));
        END $$").await;
    let options = "{ tables: [e], interval: month, ahead: 0, keep: 40d, grace: 0s, fill_gaps: true, time_zone: UTC }";
    let workspace = Workspace::for_target(&db.url).task(
        "partitions",
        &format!("kind: partitions\ntarget: app\noptions: {options}\n"),
    );
    let steps = || {
        let output = workspace.run(["run", "partitions", "--now", "--output", "json"]);
        let run = output.expect(0).json()["runs"][0].clone();
        let steps = run["steps"].as_array().unwrap().clone();
        let named = |step: &serde_json::Value| step["action"].as_str().unwrap().to_owned();
        steps.iter().map(named).collect::<Vec<_>>()
    };
    assert_eq!(steps(), ["create_partition", "retire_partition"]);
    assert_eq!(steps(), Vec::<String>::new());
    assert_eq!(
        db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'e'::regclass")
            .await,
        2
    );
}
