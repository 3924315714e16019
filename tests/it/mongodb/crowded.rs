//! What anybody may write where maint reads takes no more memory than what maint has written itself.

use mongodb::bson::{DateTime, Document, doc};

use super::cleanup::days_ago;
use super::{run, workspace};
use crate::support::memory::peak_of;
use crate::support::mongo::Servers;

/// In bytes.
const MOST: i64 = 160 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_read_within_bounds() {
    let set = Servers::single(60).await;
    let db = set.direct(0, None).await.database("app");
    let all = |name: &str| db.collection::<Document>(name);
    let old = (0..10).map(|n| doc! { "_id": n, "at": days_ago(100) });
    all("events").insert_many(old).await.unwrap();
    let junk = "x".repeat(12 << 20);
    let soon = DateTime::from_millis(DateTime::now().timestamp_millis() + 300_000);
    for n in 0..14 {
        let claim = doc! { "_id": format!("c{n}"), "owner": "o", "expires": soon, "more": &junk };
        all("maint.claims").insert_one(claim).await.unwrap();
        let id = format!("m{n}");
        let from = doc! { "database": "app", "collection": "q", "more": &junk };
        let into = doc! { "database": "app", "collection": "z", "uuid": "u" };
        let mark = match n % 2 {
            0 => doc! { "_id": id, "state": "copying", "owner": "o", "from": from, "into": into },
            _ => {
                doc! { "_id": id, "state": "adding", "owner": "o", "from": "a.b", "into": "app.sums", "more": &junk }
            }
        };
        all("maint.archives").insert_one(mark).await.unwrap();
    }
    for n in 0..10 {
        let words = vec!["y".repeat(1_000); 9_000];
        let create = doc! { "create": format!("v{n}"), "validator": { "x": { "$in": words } } };
        db.run_command(create).await.unwrap();
    }
    let rules = "rules: [{ collection: events, field: at, older_than: 30d }]";
    let adds = "{ $group: { _id: $at, n: { $sum: 1 } } }, { $merge: { into: sums, whenMatched: [{ $set: { n: { $add: [$n, $$new.n] } } }] } }";
    let there = workspace(&set.url(None, "app", "replicaSet=one"))
        .task("sweep", &format!("kind: cleanup\ntarget: app\noptions: {{ {rules} }}\n"))
        .task("keep", &format!("kind: archive\ntarget: app\noptions: {{ {rules}, destination: {{ collection: kept }} }}\n"))
        .task("add", &format!("kind: refresh\ntarget: app\noptions: {{ aggregations: [{{ collection: events, pipeline: [{adds}] }}] }}\n"));
    for words in [
        &["doctor"][..],
        &["plan", "sweep"],
        &["plan", "keep"],
        &["plan", "add"],
    ] {
        let (peak, said) = peak_of(&there, words);
        assert!(peak < MOST, "{words:?}: {} MB: {said}", peak >> 20);
    }
    let url = set.url(None, "app", "replicaSet=one");
    let (peak, said) = peak_of(&there, &["init", &url, "--dir", "drafted"]);
    assert!(peak < MOST, "init: {} MB: {said}", peak >> 20);
    let drafted = there.path().join("drafted/tasks/snapshot.yaml");
    assert!(drafted.exists(), "{said}");
    run(&there, "sweep", 0);
    assert_eq!(all("events").count_documents(doc! {}).await.unwrap(), 0);
}

/// Values that point at parents, and ids, of any size are gone through as many at a time as fit.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_gone_through_within_bounds() {
    let set = Servers::single(60).await;
    let db = set.direct(0, None).await.database("app");
    let all = |name: &str| db.collection::<Document>(name);
    all("parents")
        .insert_one(doc! { "_id": "p" })
        .await
        .unwrap();
    let children = (0..60).map(|n| doc! { "_id": n, "of": "p" });
    all("children").insert_many(children).await.unwrap();
    for n in 100..130 {
        let text = format!("{n}{}", "x".repeat(8 << 20));
        let child = doc! { "_id": n, "of": text };
        all("children").insert_one(child).await.unwrap();
    }
    let rules = "rules: [{ collection: children, orphaned: { field: of, parent: parents } }]";
    let there = workspace(&set.url(None, "app", "replicaSet=one")).task(
        "sweep",
        &format!("kind: cleanup\ntarget: app\noptions: {{ {rules} }}\n"),
    );
    let (peak, said) = peak_of(&there, &["run", "sweep", "--now"]);
    assert_eq!(
        all("children").count_documents(doc! {}).await.unwrap(),
        60,
        "{said}"
    );
    assert!(peak < 2 * MOST, "{} MB", peak >> 20);
}
