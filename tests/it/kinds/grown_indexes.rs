//! Moving rows makes indexes grow: those that did are rebuilt in the same run.

use serde_json::Value;

use super::objects;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

async fn are_rebuilt(major: u32) {
    let db = fresh_database(major).await;
    db.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int NOT NULL, note text);
         INSERT INTO t SELECT g, g % 7, repeat(md5(g::text), 8) FROM generate_series(1, 30000) g;
         CREATE INDEX \"t \"\"n\" ON t (n, id); CREATE INDEX t_where ON t USING brin (id);
         CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 1000);
         SELECT setseed(0.5); DELETE FROM t WHERE random() < 0.7",
    )
    .await;
    db.execute("VACUUM ANALYZE").await;
    // As tight as they can be: whatever they are larger by afterwards comes of moved rows.
    db.execute("REINDEX TABLE t").await;
    let sizes = "SELECT c.relname::text || ' ' || pg_relation_size(c.oid) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE i.indrelid IN ('t'::regclass, 'other'::regclass) ORDER BY 1";
    let files = "SELECT c.relname::text || ' ' || pg_relation_filenode(c.oid) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relname IN ('t_where', 'other_pkey') ORDER BY 1";
    let rows =
        "SELECT count(*)::text || ' ' || sum(hashtextextended(t::text, 0)::numeric)::text FROM t";
    let (tight, kept, all) = (
        db.strings(sizes).await,
        db.strings(files).await,
        db.strings(rows).await,
    );
    let workspace = Workspace::for_target(&db.url).task(
        "repack",
        "kind: repack\ntarget: app\noptions: { min_size: 100kB, way: move }\n",
    );
    let planned = workspace
        .run(["plan", "repack", "--output", "json"])
        .expect(0)
        .json();
    let steps = planned["plans"][0]["plan"]["steps"]
        .as_array()
        .unwrap()
        .clone();
    let of = |action: &str| steps.iter().filter(|step| step["action"] == action).count();
    assert_eq!((of("move_rows"), of("reindex")), (1, 3), "{steps:#?}");
    assert_eq!(steps[1]["needs"][0]["action"], "move_rows", "{steps:#?}");
    assert!(
        steps[1]["reason"]
            .as_str()
            .unwrap()
            .contains("if it has grown by more than a tenth"),
        "{steps:#?}"
    );
    let run = || -> Value {
        let words = ["run", "repack", "--now", "--output", "json"];
        workspace.run(words).expect(0).json()
    };
    let done = run();
    assert_eq!(done["runs"][0]["status"], "succeeded", "{done:#}");
    let grown = ["public.\"t \"\"n\"", "public.t_pkey"];
    assert_eq!(
        objects(&done, "reindex", "succeeded"),
        grown.map(str::to_owned).into(),
        "{done:#}"
    );
    assert_eq!(
        objects(&done, "reindex", "skipped"),
        ["public.t_where".to_owned()].into(),
        "{done:#}"
    );
    assert_eq!(db.strings(sizes).await, tight);
    assert_eq!(db.strings(files).await, kept);
    assert_eq!(db.strings(rows).await, all);
    for step in done["runs"][0]["steps"].as_array().unwrap() {
        if step["action"] == "reindex" && step["status"] == "succeeded" {
            let size = |key: &str| step[key].as_i64().unwrap();
            assert!(size("bytes_before") > size("bytes_after"), "{step:#}");
        }
    }
    assert_eq!(run()["runs"][0]["steps"], serde_json::json!([]));
}

#[tokio::test]
async fn are_rebuilt_pg14() {
    are_rebuilt(14).await;
}

#[tokio::test]
async fn are_rebuilt_pg17() {
    are_rebuilt(17).await;
}
