//! The other kinds: what they do, and that they do nothing the second time.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use tokio::sync::RwLock;

use super::{codes, for_base, run, run_with, steps, workspace};
use crate::support::mongo::{Servers, TestBase};

const REFRESH: &str = "kind: refresh
target: app
options:
  aggregations:
    - collection: events
      pipeline:
        - { $group: { _id: $day, n: { $sum: 1 } } }
        - { $merge: { into: dashboard_metrics, whenMatched: replace } }
";

async fn refreshed_after_a_change(version: u32) {
    let base = TestBase::new(version).await;
    base.collection("events")
        .insert_many([doc! { "day": 1 }, doc! { "day": 1 }, doc! { "day": 2 }])
        .await
        .unwrap();
    let workspace = for_base(&base).task("refresh", REFRESH);
    let done = run(&workspace, "refresh", 0);
    assert_eq!(
        steps(&done, "succeeded"),
        [format!("refresh {}.dashboard_metrics", base.name)],
        "{done:#}"
    );
    let found = base
        .collection("dashboard_metrics")
        .find_one(doc! { "_id": 1 })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.get_i32("n").ok(), Some(2));
    let again = run(&workspace, "refresh", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    base.collection("events")
        .insert_one(doc! { "day": 1 })
        .await
        .unwrap();
    let third = run(&workspace, "refresh", 0);
    assert_eq!(
        third["steps"][0]["reason"], "its sources have changed; it held 2 documents, and holds 2",
        "{third:#}"
    );
    let found = base
        .collection("dashboard_metrics")
        .find_one(doc! { "_id": 1 })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.get_i32("n").ok(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_made_anew_after_a_change_4_4() {
    refreshed_after_a_change(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_made_anew_after_a_change_5_0() {
    refreshed_after_a_change(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_made_anew_after_a_change_6_0() {
    refreshed_after_a_change(60).await;
}

/// The refresh with a secondary that reads.
fn from_a_secondary() -> String {
    REFRESH.replace(
        "    - collection: events\n",
        "    - collection: events\n      read_from: secondary\n",
    )
}

/// How often each member has made the aggregation, the primary first.
async fn aggregated(servers: &Servers, database: &str) -> (u64, u64) {
    let primary = servers.primary().await;
    let (mut there, mut elsewhere) = (0, 0);
    for n in 0..3 {
        let profile = servers
            .direct(n, Some("root"))
            .await
            .database(database)
            .collection::<Document>("system.profile");
        let ours = doc! { "command.aggregate": "events", "command.pipeline.0.$group": { "$exists": true } };
        let count = profile.count_documents(ours).await.unwrap();
        match n == primary {
            true => there += count,
            false => elsewhere += count,
        }
    }
    (there, elsewhere)
}

async fn profile_everything(servers: &Servers, database: &str) {
    for n in 0..3 {
        let member = servers.direct(n, Some("root")).await.database(database);
        member.run_command(doc! { "profile": 2 }).await.unwrap();
    }
}

async fn a_secondary_reads(version: u32) {
    let base = TestBase::new(version).await;
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .build();
    base.collection("events")
        .insert_many([doc! { "day": 1 }, doc! { "day": 1 }])
        .write_concern(everywhere)
        .await
        .unwrap();
    profile_everything(base.servers, &base.name).await;
    let workspace = for_base(&base)
        .task("refresh", REFRESH)
        .task("aside", &from_a_secondary());
    let done = run(&workspace, "refresh", 0);
    assert_eq!(aggregated(base.servers, &base.name).await, (1, 0));
    base.collection("events")
        .insert_one(doc! { "day": 1 })
        .await
        .unwrap();
    let aside = run(&workspace, "aside", 0);
    assert_eq!(
        steps(&aside, "succeeded"),
        [format!("refresh {}.dashboard_metrics", base.name)],
        "{done:#} {aside:#}"
    );
    assert_eq!(aggregated(base.servers, &base.name).await, (1, 1));
    let found = base.collection("dashboard_metrics");
    let found = found.find_one(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert_eq!(found.get_i32("n").ok(), Some(3));
    let again = run(&workspace, "aside", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_reads_where_that_is_wanted_4_4() {
    a_secondary_reads(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_reads_where_that_is_wanted_6_0() {
    a_secondary_reads(60).await;
}

/// A result that takes the place of another: a secondary writes it by way of the primary from 5.0 on,
/// and before, the primary reads.
async fn out_by_a_secondary(version: u32) {
    let base = TestBase::new(version).await;
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .build();
    base.collection("events")
        .insert_many([doc! { "day": 1 }, doc! { "day": 1 }])
        .write_concern(everywhere)
        .await
        .unwrap();
    profile_everything(base.servers, &base.name).await;
    let task = from_a_secondary().replace(
        "{ $merge: { into: dashboard_metrics, whenMatched: replace } }",
        "{ $out: dashboard_metrics }",
    );
    let workspace = for_base(&base).task("refresh", &task);
    let done = run(&workspace, "refresh", 0);
    assert_eq!(done["rows"], 1, "{done:#}");
    let who = if version < 50 { (1, 0) } else { (0, 1) };
    assert_eq!(aggregated(base.servers, &base.name).await, who, "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_makes_a_result_anew_where_it_can_4_4() {
    out_by_a_secondary(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_makes_a_result_anew_where_it_can_5_0() {
    out_by_a_secondary(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_makes_a_result_anew_where_it_can_6_0() {
    out_by_a_secondary(60).await;
}

/// A secondary that has not heard of the time that the primary has come to refuses to read.
async fn the_primary_reads_for_it(version: u32) {
    let set = Servers::set(version).await;
    let db = set.root().await.database("app");
    let events = db.collection::<Document>("events");
    events.insert_one(doc! { "day": 1 }).await.unwrap();
    set.whole().await;
    profile_everything(&set, "app").await;
    let primary = set.primary().await;
    for n in (0..3).filter(|n| *n != primary) {
        let member = set.direct(n, Some("root")).await.database("admin");
        let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn",
        "data": { "failCommands": ["aggregate"], "errorCode": 72 } };
        member.run_command(fail).await.unwrap();
    }
    let workspace = workspace(&set.maint_url("app")).task("refresh", &from_a_secondary());
    let output = workspace.run(["run", "refresh", "--now"]).expect(0);
    for n in 0..3 {
        let member = set.direct(n, Some("root")).await.database("admin");
        let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        member.run_command(off).await.unwrap();
    }
    let told = "the primary reads: the secondary cannot";
    assert!(output.stderr.contains(told), "{output:?}");
    let metrics = db.collection::<Document>("dashboard_metrics");
    assert_eq!(metrics.count_documents(doc! {}).await.unwrap(), 1);
    assert_eq!(aggregated(&set, "app").await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_secondary_refuses_the_primary_reads_4_4() {
    the_primary_reads_for_it(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_secondary_refuses_the_primary_reads_6_0() {
    the_primary_reads_for_it(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_reads_nothing_that_is_behind() {
    let set = Servers::set(60).await;
    let db = set.root().await.database("app");
    let events = db.collection::<Document>("events");
    events.insert_one(doc! { "day": 1 }).await.unwrap();
    set.whole().await;
    profile_everything(&set, "app").await;
    let task = format!("{}throttle: {{ pause_file: held }}\n", from_a_secondary());
    let workspace = workspace(&set.maint_url("app")).task("refresh", &task);
    let primary = set.primary().await;
    let mut others = Vec::new();
    for n in (0..3).filter(|n| *n != primary) {
        others.push(set.direct(n, Some("root")).await.database("admin"));
    }
    let fail = |mode: &str| doc! { "configureFailPoint": "rsSyncApplyStop", "mode": mode };
    let held = run_with(&workspace, "refresh", async {
        for member in &others {
            member.run_command(fail("alwaysOn")).await.unwrap();
        }
        let one = mongodb::options::WriteConcern::builder()
            .w(mongodb::options::Acknowledgment::Nodes(1))
            .build();
        events
            .insert_one(doc! { "day": 1 })
            .write_concern(one)
            .await
            .unwrap();
        let (others, off) = (others.clone(), fail("off"));
        tokio::spawn(async move {
            // Long enough for a read that does not wait; a slow machine only hides a fault.
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            for member in others {
                member.run_command(off.clone()).await.unwrap();
            }
        });
    })
    .await;
    assert_eq!(held["status"], "succeeded", "{held:#}");
    let metrics = db.collection::<Document>("dashboard_metrics");
    let found = metrics.find_one(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert_eq!(found.get_i32("n").ok(), Some(2), "{held:#}");
    assert_eq!(aggregated(&set, "app").await, (0, 1), "{held:#}");
}

async fn snapshot(version: u32) {
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    events
        .insert_many((0..2000).map(|n| doc! { "a": n, "b": n, "pad": "x".repeat(50) }))
        .await
        .unwrap();
    for keys in [doc! { "a": 1 }, doc! { "a": 1, "b": 1 }] {
        events
            .create_index(IndexModel::builder().keys(keys).build())
            .await
            .unwrap();
    }
    let workspace = for_base(&base).task(
        "snapshot",
        "kind: snapshot\ntarget: app\noptions: { min_size: 1kB, unused_after: 0s }\n",
    );
    let done = run(&workspace, "snapshot", 0);
    assert_eq!(done["status"], "succeeded");
    assert_eq!(
        codes(&done),
        ["index.overlapping", "index.unused"],
        "{done:#}"
    );
    let text = done["findings"].to_string();
    assert!(text.contains("events.a_1\""), "{text}");
    events
        .find_one(doc! { "a": 5, "b": 5 })
        .hint(mongodb::options::Hint::Keys(doc! { "a": 1, "b": 1 }))
        .await
        .unwrap();
    assert_eq!(
        codes(&run(&workspace, "snapshot", 0)),
        ["index.overlapping"]
    );
    let report = workspace.run(["report", "--period", "7d"]).expect(0);
    assert!(!report.stdout.contains("tables"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_indexes_that_no_member_uses_4_4() {
    snapshot(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_indexes_that_no_member_uses_5_0() {
    snapshot(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_indexes_that_no_member_uses_6_0() {
    snapshot(60).await;
}

/// What the profilers have seen, by shape and without a value.
async fn slow(version: u32) {
    let base = TestBase::new(version).await;
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .build();
    base.collection("events")
        .insert_one(doc! { "name": "secret-name", "n": 1 })
        .write_concern(everywhere)
        .await
        .unwrap();
    let workspace = for_base(&base)
        .task(
            "snapshot",
            "kind: snapshot\ntarget: app\noptions: { max_operation_mean: 100ms }\n",
        )
        .task(
            "elsewhere",
            "kind: snapshot\ntarget: app\noptions: { max_operation_mean: 100ms, exclude: [\"*.events\"] }\n",
        )
        .task(
            "patient",
            "kind: snapshot\ntarget: app\noptions: { max_operation_mean: 1h }\n",
        );
    // No profiler has been on.
    assert_eq!(codes(&run(&workspace, "snapshot", 0)), [""; 0]);
    profile_everything(base.servers, &base.name).await;
    for n in 0..3 {
        let member = base.servers.direct(n, Some("root")).await;
        let events = member.database(&base.name).collection::<Document>("events");
        let slow =
            doc! { "name": "secret-name", "$where": format!("sleep({}); return true", 200 + n) };
        assert!(events.find_one(slow).await.unwrap().is_some());
    }
    let done = run(&workspace, "snapshot", 0);
    assert_eq!(codes(&done), ["operation.slow"], "{done:#}");
    let finding = &done["findings"][0];
    assert_eq!(finding["object"], format!("{}.events", base.name));
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.contains("over 3 recorded") && message.ends_with(": find {name: ?, $where: ?}"),
        "{message}"
    );
    assert!(!done.to_string().contains("secret-name"), "{done:#}");
    assert_eq!(codes(&run(&workspace, "elsewhere", 0)), [""; 0]);
    assert_eq!(codes(&run(&workspace, "patient", 0)), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_slow_operations_by_their_shape_4_4() {
    slow(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_slow_operations_by_their_shape_6_0() {
    slow(60).await;
}

async fn integrity(version: u32) {
    let _nobody_compacts = COMPACTING.read().await;
    let base = TestBase::new(version).await;
    base.db
        .run_command(doc! { "create": "users", "validator": { "name": { "$type": "string" } } })
        .await
        .unwrap();
    let users = base.collection("users");
    users
        .insert_many([
            doc! { "_id": 1, "name": "a" },
            doc! { "_id": 2, "name": "a" },
        ])
        .await
        .unwrap();
    let insert = doc! { "insert": "users", "documents": [{ "_id": 3, "name": 7 }], "bypassDocumentValidation": true };
    base.db.run_command(insert).await.unwrap();
    base.collection("posts")
        .insert_many([
            doc! { "_id": 1, "user": 1 },
            doc! { "_id": 2, "user": 99 },
            doc! { "_id": 3, "user": { "$ref": "users", "$id": 1 } },
            doc! { "_id": 4, "user": { "$ref": "users", "$id": 98 } },
        ])
        .await
        .unwrap();
    let workspace = for_base(&base).task("integrity", "kind: integrity\ntarget: app\noptions:\n  references: [{ collection: posts, field: user, parent: users }]\n  unique: [{ collection: users, fields: [name] }]\n");
    let done = run(&workspace, "integrity", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    // 5.0 warns of documents that do not meet the schema in words of its own, too.
    let mut found = codes(&done);
    found.retain(|code| version != 50 || code != "collection.validate_warning");
    assert_eq!(
        found,
        [
            "collection.duplicates",
            "collection.schema",
            "reference.orphaned"
        ],
        "{done:#}"
    );
    let orphans = done["findings"].to_string();
    assert!(orphans.contains("2 references in `user`"), "{done:#}");
    let validated = steps(&done, "succeeded")
        .into_iter()
        .filter(|s| s.starts_with("validate"))
        .count();
    assert_eq!(validated, 2, "{done:#}");
    let full = workspace.task(
        "full",
        "kind: integrity\ntarget: app\noptions: { validate: full, include: [\"*.posts\"] }\n",
    );
    let done = run(&full, "full", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn integrity_finds_what_is_broken_4_4() {
    integrity(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn integrity_finds_what_is_broken_5_0() {
    integrity(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn integrity_finds_what_is_broken_6_0() {
    integrity(60).await;
}

/// 4.4 puts a secondary that compacts out of reach for everybody else of the set.
static COMPACTING: RwLock<()> = RwLock::const_new(());

async fn compact(version: u32) {
    let _alone = COMPACTING.write().await;
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    let pad = || {
        (0..20)
            .map(|_| uuid::Uuid::now_v7().simple().to_string())
            .collect::<String>()
    };
    for from in 0..20 {
        let documents = (0..1000).map(|n| doc! { "_id": from * 1000 + n, "pad": pad() });
        events.insert_many(documents).await.unwrap();
    }
    for n in 0..3 {
        let admin = base.servers.direct(n, Some("root")).await.database("admin");
        admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    }
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .build();
    events
        .delete_many(doc! { "_id": { "$gte": 500 } })
        .write_concern(everywhere)
        .await
        .unwrap();
    // Freed blocks count once a checkpoint has been made.
    for n in 0..3 {
        let admin = base.servers.direct(n, Some("root")).await.database("admin");
        admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    }
    let workspace = for_base(&base).task(
        "compact",
        "kind: compact\ntarget: app\noptions: { min_free: 100kB, min_share: 10% }\n",
    );
    let done = run(&workspace, "compact", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let compacted = steps(&done, "succeeded");
    assert_eq!(compacted.len(), 2, "{done:#}");
    let primary = base.servers.address(base.servers.primary().await);
    assert!(
        compacted
            .iter()
            .all(|s| s.starts_with("compact ") && !s.ends_with(&primary)),
        "{compacted:?}"
    );
    assert_eq!(
        base.collection("events")
            .count_documents(Document::new())
            .await
            .unwrap(),
        500
    );
    let again = run(&workspace, "compact", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_the_secondaries_one_by_one_4_4() {
    compact(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_the_secondaries_one_by_one_6_0() {
    compact(60).await;
}

/// What is measured lies in buckets: those are validated, as any collection is, and count.
async fn time_series_are_validated(version: u32) {
    let base = TestBase::new(version).await;
    let create =
        doc! { "create": "measured", "timeseries": { "timeField": "at", "metaField": "m" } };
    base.db.run_command(create).await.unwrap();
    let measured = (0..200).map(|n| doc! { "at": mongodb::bson::DateTime::from_millis(1_700_000_000_000 + n * 60_000), "m": n % 3 });
    base.collection("measured")
        .insert_many(measured)
        .await
        .unwrap();
    let workspace = for_base(&base).task("integrity", "kind: integrity\ntarget: app\n");
    for n in 0..2 {
        let done = run(&workspace, "integrity", 0);
        let step = format!("validate {}.measured", base.name);
        assert_eq!(steps(&done, "succeeded"), [step], "{n}: {done:#}");
        assert!(done["steps"][0]["rows"].as_i64().unwrap() > 0, "{done:#}");
        // After the first run one of three members is covered.
        let told: &[&str] = if n == 0 { &[] } else { &["integrity.coverage"] };
        assert_eq!(codes(&done), told, "{done:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_series_are_validated_5_0() {
    time_series_are_validated(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_series_are_validated_6_0() {
    time_series_are_validated(60).await;
}

/// What the server itself says of indexes, written by old shells and by drivers.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_nobody_would_miss_are_told_whatever_their_type() {
    let base = TestBase::new(60).await;
    let places = (0..200).map(|n| doc! { "a": n, "b": n, "at": [n % 90, n % 90], "open": true });
    base.collection("places").insert_many(places).await.unwrap();
    let german = doc! { "locale": "de" };
    let open = doc! { "open": true };
    let indexes = vec![
        doc! { "name": "a", "key": { "a": 1.0 } },
        doc! { "name": "ab", "key": { "a": 1, "b": 1 } },
        doc! { "name": "at", "key": { "at": "2dsphere" } },
        doc! { "name": "sparse", "key": { "at": "2dsphere" }, "sparse": true },
        doc! { "name": "de", "key": { "b": 1 }, "collation": &german },
        doc! { "name": "de2", "key": { "b": 1, "a": 1 }, "collation": &german },
        doc! { "name": "some", "key": { "b": -1 }, "partialFilterExpression": &open },
        doc! { "name": "some2", "key": { "b": -1, "a": 1 }, "partialFilterExpression": &open },
        doc! { "name": "whole", "key": { "b": -1, "c": 1, "a": 1 } },
        doc! { "name": "hashed", "key": { "a": "hashed" } },
    ];
    let create = doc! { "createIndexes": "places", "indexes": indexes };
    base.db.run_command(create).await.unwrap();
    let workspace = for_base(&base).task(
        "snapshot",
        "kind: snapshot\ntarget: app\noptions: { min_size: 1kB }\n",
    );
    let done = run(&workspace, "snapshot", 0);
    let told = done["findings"].as_array().unwrap().iter().map(|finding| {
        let object = finding["object"].as_str().unwrap();
        let name = object.rsplit('.').next().unwrap();
        format!("{} {name}", finding["code"].as_str().unwrap())
    });
    let mut told: Vec<String> = told.collect();
    told.sort();
    let expected = [
        "index.duplicate sparse",
        "index.overlapping a",
        "index.overlapping de",
        "index.overlapping some",
    ];
    assert_eq!(told, expected, "{done:#}");
}
