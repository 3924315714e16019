//! What an aggregation has left behind is looked at, and one that would write over what it reads
//! is not begun.

use mongodb::bson::{Document, doc};
use serde_json::Value;

use super::{codes, for_base, run, steps};
use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

fn with(workspace: Workspace, from: &str, pipeline: &str) -> Workspace {
    workspace.task(
        "refresh",
        &format!("kind: refresh\ntarget: app\noptions: {{ aggregations: [{{ collection: {from}, pipeline: {pipeline} }}] }}\n"),
    )
}

/// What is said of the one step, and of what it found.
fn told(run: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&run["steps"][0]["reason"]),
        text(&run["findings"][0]["message"]),
    )
}

async fn events(base: &TestBase, days: impl Iterator<Item = i32>) {
    let documents = days.map(|day| doc! { "day": day, "n": 1 });
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
}

async fn looked_at(version: u32) {
    let base = TestBase::new(version).await;
    events(&base, [1, 1, 2, 3].into_iter()).await;
    let out = "[{ $match: { n: 1 } }, { $group: { _id: $day, n: { $sum: 1 } } }, { $out: days }]";
    let mut workspace = with(for_base(&base), "events", out);
    let first = run(&workspace, "refresh", 0);
    assert_eq!(first["rows"], 3, "{first:#}");
    assert_eq!(
        told(&first).0,
        "it does not exist yet; it holds 3 documents"
    );
    assert!(codes(&first).is_empty(), "{first:#}");
    let again = run(&workspace, "refresh", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    // A change in place is a change.
    let up = doc! { "$inc": { "day": 0, "times": 1 } };
    for _ in 0..2 {
        let events = base.collection("events");
        events
            .update_one(doc! { "day": 2 }, up.clone())
            .await
            .unwrap();
        let changed = run(&workspace, "refresh", 0);
        assert_eq!(steps(&changed, "succeeded").len(), 1, "{changed:#}");
        events
            .find_one_and_update(doc! { "day": 3 }, up.clone())
            .await
            .unwrap();
        let changed = run(&workspace, "refresh", 0);
        assert_eq!(steps(&changed, "succeeded").len(), 1, "{changed:#}");
        let again = run(&workspace, "refresh", 0);
        assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    }
    // Somebody has renamed the field that is asked for.
    let rename = doc! { "$rename": { "n": "count" } };
    base.collection("events")
        .update_many(doc! {}, rename)
        .await
        .unwrap();
    for turn in 0..3 {
        let emptied = run(&workspace, "refresh", 0);
        let (held, why) = match turn {
            0 => (3, "is empty now, and held 3 before"),
            _ => (0, "is still empty"),
        };
        assert!(
            told(&emptied)
                .0
                .ends_with(&format!("it held {held} documents, and holds 0")),
            "{emptied:#}"
        );
        assert_eq!(codes(&emptied), ["refresh.nothing"], "{emptied:#}");
        assert!(told(&emptied).1.ends_with(why), "{emptied:#}");
        assert_eq!(base.count("days", doc! {}).await, 0);
    }
    // The first time is no better.
    let empty = out.replace("days", "others");
    workspace = with(workspace, "events", &empty);
    for why in ["is empty", "is still empty"] {
        let none = run(&workspace, "refresh", 0);
        assert_eq!(codes(&none), ["refresh.nothing"], "{none:#}");
        assert!(told(&none).1.contains(why), "{none:#}");
        let reason = match why {
            "is empty" => "it does not exist yet",
            _ => "its pipeline gave no document when it was last made",
        };
        assert!(told(&none).0.starts_with(reason), "{none:#}");
    }

    // A `$merge` that gives nothing leaves what was there, which looks as if all were well.
    let merge = "[{ $match: { n: 1 } }, { $group: { _id: $day, n: { $sum: 1 } } }, { $merge: { into: kept, whenMatched: replace } }]";
    workspace = with(workspace, "events", merge);
    let none = run(&workspace, "refresh", 0);
    assert_eq!(codes(&none), ["refresh.nothing"], "{none:#}");
    assert!(told(&none).1.contains("does not exist after"), "{none:#}");
    base.db.create_collection("kept").await.unwrap();
    for _ in 0..2 {
        let none = run(&workspace, "refresh", 0);
        assert_eq!(codes(&none), ["refresh.nothing"], "{none:#}");
        assert!(told(&none).1.ends_with("is still empty"), "{none:#}");
    }
    let back = doc! { "$rename": { "count": "n" } };
    base.collection("events")
        .update_many(doc! {}, back)
        .await
        .unwrap();
    let filled = run(&workspace, "refresh", 0);
    assert!(codes(&filled).is_empty(), "{filled:#}");
    assert_eq!(base.count("kept", doc! {}).await, 3);
    // The same result once more is no reason to say anything.
    let other = doc! { "other": true };
    base.collection("events").insert_one(other).await.unwrap();
    let same = run(&workspace, "refresh", 0);
    assert_eq!(steps(&same, "succeeded").len(), 1, "{same:#}");
    assert!(codes(&same).is_empty(), "{same:#}");
    let rename = doc! { "$rename": { "n": "count" } };
    base.collection("events")
        .update_many(doc! {}, rename)
        .await
        .unwrap();
    for _ in 0..2 {
        let stale = run(&workspace, "refresh", 0);
        assert_eq!(codes(&stale), ["refresh.nothing"], "{stale:#}");
        assert!(told(&stale).1.contains("still holds the 3 of before"));
        assert_eq!(base.count("kept", doc! {}).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pipeline_leaves_is_looked_at_4_4() {
    looked_at(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pipeline_leaves_is_looked_at_6_0() {
    looked_at(60).await;
}

async fn own_source(version: u32) {
    let base = TestBase::new(version).await;
    events(&base, 0..50).await;
    let view = doc! { "create": "young", "viewOn": "events", "pipeline": [{ "$match": { "day": { "$lt": 9 } } }] };
    base.db.run_command(view).await.unwrap();
    base.collection("users")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let mut workspace = for_base(&base);
    let whole = || async { base.count("events", doc! {}).await };
    // The file alone tells that this is wrong.
    for (pipeline, why) in [
        (
            "[{ $match: { day: 1 } }, { $out: events }]",
            "what it reads would be lost",
        ),
        (
            "[{ $set: { x: 1 } }, { $merge: events }]",
            "whenNotMatched: discard",
        ),
    ] {
        workspace = with(workspace, "events", pipeline);
        let refused = workspace.run(["run", "refresh", "--now"]).expect(2);
        assert!(refused.stderr.contains(why), "{refused:#?}");
    }
    // This has to be asked for: the database's name, and what a view reads.
    let own = format!(
        "[{{ $match: {{ day: 1 }} }}, {{ $out: {{ db: {}, coll: events }} }}]",
        base.name
    );
    for (from, pipeline) in [
        ("events", own.as_str()),
        ("young", "[{ $match: { day: 1 } }, { $out: events }]"),
        ("young", "[{ $set: { x: 1 } }, { $merge: events }]"),
    ] {
        workspace = with(workspace, from, pipeline);
        let refused = run(&workspace, "refresh", 1);
        assert_eq!(codes(&refused), ["refresh.source"], "{refused:#}");
        assert!(
            refused["steps"].as_array().unwrap().is_empty(),
            "{refused:#}"
        );
        assert_eq!(whole().await, 50, "{pipeline}");
        let touched = doc! { "x": { "$exists": true } };
        assert_eq!(base.count("events", touched).await, 0);
    }
    // These are as the server allows them, and end.
    let changes = "[{ $set: { x: 1 } }, { $merge: { into: events, whenNotMatched: discard } }]";
    workspace = with(workspace, "events", changes);
    let done = run(&workspace, "refresh", 0);
    assert_eq!(steps(&done, "succeeded").len(), 1, "{done:#}");
    assert_eq!(base.count("events", doc! { "x": 1 }).await, 50);
    let adds = "[{ $group: { _id: { $concat: [day, { $toString: $day }] }, n: { $sum: 1 } } }, { $merge: { into: events } }]";
    workspace = with(workspace, "events", adds);
    let done = run(&workspace, "refresh", 0);
    assert_eq!(steps(&done, "succeeded").len(), 1, "{done:#}");
    assert_eq!(whole().await, 100);
    let ids: Document = doc! { "_id": { "$type": "string" } };
    assert_eq!(base.count("events", ids).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_over_what_it_is_made_from_4_4() {
    own_source(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_over_what_it_is_made_from_6_0() {
    own_source(60).await;
}

/// What is kept in one collection from several pipelines is all made in one run, whatever their
/// order in the file, and never where another result or maint itself would lose by it.
#[tokio::test(flavor = "multi_thread")]
async fn several_pipelines_keep_their_results_in_one_collection() {
    let base = TestBase::new(60).await;
    events(&base, [1, 1, 2].into_iter()).await;
    let task = |aggregations: &str| {
        format!("kind: refresh\ntarget: app\noptions: {{ aggregations: [{aggregations}] }}\n")
    };
    // The first reads what the others make.
    let three = "{ collection: sums, pipeline: [{ $group: { _id: all, n: { $sum: $n } } }, { $out: total }] }, \
        { collection: events, pipeline: [{ $group: { _id: $day, n: { $sum: 1 } } }, { $merge: sums }] }, \
        { collection: events, pipeline: [{ $group: { _id: none, n: { $sum: 10 } } }, { $merge: { into: sums } }] }";
    let mut workspace = for_base(&base).task("refresh", &task(three));
    let first = run(&workspace, "refresh", 0);
    let sums = format!("refresh {}.sums (from events", base.name);
    let mut made = steps(&first, "succeeded");
    made.sort();
    let total = format!("refresh {}.total", base.name);
    assert_eq!(
        made,
        [format!("{sums})"), format!("{sums}, 2)"), total],
        "{first:#}"
    );
    assert!(codes(&first).is_empty(), "{first:#}");
    assert_eq!(base.ids("sums").await, ["1", "2", "\"none\""]);
    assert_eq!(base.count("total", doc! { "n": 33 }).await, 1);
    // What the first run has written into a source is a change for whoever reads it, once.
    for made in [1, 0] {
        let again = run(&workspace, "refresh", 0);
        assert_eq!(again["steps"].as_array().unwrap().len(), made, "{again:#}");
        assert!(
            !again["steps"].to_string().contains("sums (from"),
            "{again:#}"
        );
    }
    // Who changes is made anew, both.
    events(&base, [2].into_iter()).await;
    let changed = run(&workspace, "refresh", 0);
    assert_eq!(steps(&changed, "succeeded").len(), 3, "{changed:#}");
    assert_eq!(base.count("total", doc! { "n": 44 }).await, 1);
    // What the server cannot write to is said before anything is.
    let view = doc! { "create": "seen", "viewOn": "events", "pipeline": [] };
    base.db.run_command(view).await.unwrap();
    let into = "{ collection: events, pipeline: [{ $group: { _id: $day } }, { $merge: seen }] }";
    workspace = workspace.task("refresh", &task(into));
    let refused = run(&workspace, "refresh", 1);
    assert_eq!(codes(&refused), ["refresh.source"], "{refused:#}");
    assert!(refused.to_string().contains("it is a view"), "{refused:#}");
    // What belongs to others is not written to.
    let claims = base.count("maint.claims", doc! {}).await;
    for (last, said) in [
        ("{ $out: maint.claims }", "belongs to maint"),
        (
            "{ $merge: { into: { db: other, coll: maint.archives } } }",
            "belongs to maint",
        ),
        ("{ $out: system.views }", "belongs to the server"),
        (
            "{ $out: sums } ] }, { collection: events, pipeline: [{ $limit: 1 }, { $merge: sums }",
            "`$out` replaces",
        ),
    ] {
        let one =
            format!("{{ collection: events, pipeline: [{{ $group: {{ _id: 1 }} }}, {last}] }}");
        workspace = workspace.task("refresh", &task(&one));
        let output = workspace.run(["check"]).expect(2);
        assert!(
            output.stderr.contains(said) || output.stdout.contains(said),
            "{last}: {output:?}"
        );
        workspace.run(["run", "refresh", "--now"]).expect(2);
    }
    assert_eq!(base.count("maint.claims", doc! {}).await, claims);
}

/// Who names the wrong collection as a result is told, before it is replaced, what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_that_what_is_there_goes() {
    let base = TestBase::new(60).await;
    events(&base, [1, 2].into_iter()).await;
    let users = (0..4).map(|n| doc! { "_id": n });
    base.collection("users").insert_many(users).await.unwrap();
    let out = "[{ $group: { _id: $day, n: { $sum: 1 } } }, { $out: users }]";
    let workspace = with(for_base(&base), "events", out);
    let planned = || {
        let plan = workspace.run(["plan", "refresh"]).expect(0).stdout;
        plan.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let words = "takes the place of all that is there, 4 documents that maint has not made";
    let plan = planned();
    assert!(plan.contains(words), "{plan}");
    assert_eq!(base.count("users", doc! {}).await, 4);
    run(&workspace, "refresh", 0);
    assert_eq!(base.count("users", doc! {}).await, 2);
    events(&base, [3].into_iter()).await;
    let plan = planned();
    assert!(!plan.contains("takes the place"), "{plan}");
    // What only adds takes nobody's place.
    let merge = out.replace("$out: users", "$merge: events_by_day");
    let by_day = doc! { "_id": 9 };
    base.collection("events_by_day")
        .insert_one(by_day)
        .await
        .unwrap();
    let workspace = with(for_base(&base), "events", &merge);
    let plan = workspace.run(["plan", "refresh"]).expect(0).stdout;
    assert!(!plan.contains("takes the place"), "{plan}");
}

/// Somebody else's `$out` goes there, too: told whenever another collection stands there.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_others_replace_is_told() {
    let base = TestBase::new(60).await;
    events(&base, [1, 2].into_iter()).await;
    let ours = with(
        for_base(&base),
        "events",
        "[{ $group: { _id: $day } }, { $out: days }]",
    );
    let theirs = with(
        for_base(&base),
        "events",
        "[{ $group: { _id: all } }, { $out: days }]",
    );
    let first = run(&ours, "refresh", 0);
    assert!(codes(&first).is_empty(), "{first:#}");
    run(&theirs, "refresh", 0);
    for workspace in [&ours, &theirs] {
        let again = run(workspace, "refresh", 0);
        assert_eq!(codes(&again), ["refresh.replaced"], "{again:#}");
        assert!(
            told(&again).1.contains("only the last one's is left"),
            "{again:#}"
        );
        assert_eq!(steps(&again, "succeeded").len(), 1, "{again:#}");
    }
    let alone = run(&theirs, "refresh", 0);
    assert!(codes(&alone).is_empty(), "{alone:#}");
}

/// Two targets that are one server by their addresses: a plan of one task says so, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_which_task_takes_the_place_of_its_result() {
    let base = TestBase::new(60).await;
    events(&base, [1, 2].into_iter()).await;
    let refresh = |target: &str, into: &str| {
        format!(
            "kind: refresh\ntarget: {target}\noptions: {{ aggregations: [{{ collection: events, pipeline: [{{ $group: {{ _id: $day }} }}, {{ $out: {into} }}] }}] }}\n"
        )
    };
    let url = base.url();
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{url}\" }}\n  twin: {{ engine: mongodb, url: \"{url}\" }}\n"
    ))
    .task("one", &refresh("app", "days"))
    .task("two", &refresh("twin", "days"))
    .task("three", &refresh("app", "others"));
    let says = "one replaces all that another has put there";
    for (arguments, told) in [
        (vec!["plan", "one"], true),
        (vec!["plan", "two", "--output", "json"], true),
        (vec!["plan", "two", "--save", "saved.json"], true),
        (vec!["plan"], true),
        (vec!["plan", "three"], false),
    ] {
        let plan = workspace.run(arguments.clone()).expect(0);
        assert_eq!(plan.stderr.contains(says), told, "{arguments:?}: {plan:?}");
        if told {
            assert!(plan.stderr.contains("`one`"), "{plan:?}");
            assert!(plan.stderr.contains("`two`"), "{plan:?}");
        }
    }
    for name in ["days", "others"] {
        assert_eq!(base.count(name, doc! {}).await, 0);
    }
}

/// A `$merge` goes along an index that compares as what is read does: by any other, by `_id`, too, the server refuses
/// it, which is seen before anything is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_needs_an_index_that_compares_as_its_source() {
    let base = TestBase::new(60).await;
    let german = doc! { "locale": "de" };
    let make = async |name: &str, collation: Option<&Document>| {
        let mut create = doc! { "create": name };
        create.extend(collation.map(|c| ("collation".to_owned(), c.clone().into())));
        base.db.run_command(create).await.unwrap();
    };
    make("plain", None).await;
    make("german", Some(&german)).await;
    for name in ["plain", "german"] {
        base.collection(name)
            .insert_one(doc! { "_id": 1, "k": "a" })
            .await
            .unwrap();
    }
    for (name, own) in [("sums", None), ("summen", Some(&german))] {
        make(name, own).await;
        // The index compares otherwise than its collection.
        let other = match own {
            None => german.clone(),
            Some(_) => doc! { "locale": "simple" },
        };
        let index = doc! { "name": "k", "key": { "k": 1 }, "unique": true, "collation": other };
        base.db
            .run_command(doc! { "createIndexes": name, "indexes": [index] })
            .await
            .unwrap();
    }
    for (from, into, on, made) in [
        ("plain", "sums", "_id", true),
        ("german", "sums", "_id", false),
        ("plain", "sums", "k", false),
        ("german", "sums", "k", true),
        ("plain", "summen", "_id", false),
        ("plain", "summen", "k", true),
        ("german", "summen", "k", false),
    ] {
        base.collection(into).delete_many(doc! {}).await.unwrap();
        let unset = if on == "k" { "{ $unset: _id }, " } else { "" };
        let task = format!(
            "kind: refresh\ntarget: app\noptions:\n  aggregations:\n    - {{ collection: {from}, always: true, pipeline: [{unset}{{ $merge: {{ into: {into}, on: {on}, whenMatched: replace }} }}] }}\n"
        );
        let workspace = for_base(&base).task("refresh", &task);
        let done = run(&workspace, "refresh", i32::from(!made));
        let case = format!("{from} {into} {on}");
        assert_eq!(
            base.count(into, doc! {}).await,
            u64::from(made),
            "{case}: {done:#}"
        );
        if made {
            continue;
        }
        assert_eq!(
            done["steps"].as_array().unwrap().len(),
            0,
            "{case}: {done:#}"
        );
        assert_eq!(codes(&done), ["refresh.source"], "{case}: {done:#}");
        let told = done["findings"][0]["message"].as_str().unwrap();
        assert!(told.contains("by default"), "{case}: {told}");
    }
}
