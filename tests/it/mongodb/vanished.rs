//! What is renamed, dropped or swapped between plan and step, and what could never work: told, and
//! nothing is done to the wrong one.

use std::time::Duration;

use mongodb::IndexModel;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::IndexOptions;
use serde_json::Value;

use super::cleanup::days_ago;
use super::{codes, for_base, run, run_with, steps};
use crate::support::mongo::TestBase;
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

/// What happens to `events` meanwhile.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Renamed,
    Swapped,
    Dropped,
}

async fn happens(base: &TestBase, what: Meanwhile) {
    if let Meanwhile::Dropped = what {
        base.collection("events").drop().await.unwrap();
        return;
    }
    let whole = |name: &str| format!("{}.{name}", base.name);
    let rename = doc! { "renameCollection": whole("events"), "to": whole("before") };
    let admin = base.servers.root().await.database("admin");
    admin.run_command(rename).await.unwrap();
    if let Meanwhile::Swapped = what {
        fill(base).await;
    }
}

async fn fill(base: &TestBase) {
    let documents =
        (0..40).map(|n| doc! { "_id": n, "at": days_ago(if n < 30 { 100 } else { 1 }) });
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
}

async fn vanishes(version: u32) {
    let rules = "rules: [{ collection: events, field: at, older_than: 30d }]";
    for (kind, options) in [
        ("cleanup", rules.to_owned()),
        ("archive", format!("{rules}, destination: {{ collection: kept }}")),
        (
            "refresh",
            "aggregations: [{ collection: events, pipeline: [{ $group: { _id: $at, n: { $sum: 1 } } }, { $out: days }] }]".to_owned(),
        ),
    ] {
        for what in [Meanwhile::Renamed, Meanwhile::Swapped, Meanwhile::Dropped] {
            let base = TestBase::new(version).await;
            fill(&base).await;
            let result = doc! { "_id": "of before" };
            base.collection("days").insert_one(result).await.unwrap();
            let workspace = for_base(&base).task("t", &format!(
                "kind: {kind}\ntarget: app\noptions: {{ {options} }}\nthrottle: {{ pause_file: held }}\n"
            ));
            let done = run_with(&workspace, "t", happens(&base, what)).await;
            let object = done["steps"][0]["object"].clone();
            let why = format!("{kind} {what:?}: {done:#}");
            assert_eq!(steps(&done, "skipped").len(), 1, "{why}");
            assert!(steps(&done, "succeeded").is_empty(), "{why} {object}");
            assert_eq!(codes(&done), ["collection.vanished"], "{why}");
            let said = done["findings"][0]["message"].as_str().unwrap();
            let (word, events, before) = match what {
                Meanwhile::Renamed => ("before, and was not looked at", 0, 40),
                Meanwhile::Swapped => ("before, and was not looked at", 40, 40),
                Meanwhile::Dropped => ("was dropped meanwhile", 0, 0),
            };
            assert!(said.contains(word), "{why}");
            assert_eq!(base.count("events", doc! {}).await, events, "{why}");
            assert_eq!(base.count("before", doc! {}).await, before, "{why}");
            assert_eq!(base.ids("days").await, ["\"of before\""], "{why}");
            assert_eq!(base.count("kept", doc! {}).await, 0, "{why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_not_what_was_looked_at_is_left_out_and_told_4_4() {
    vanishes(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_not_what_was_looked_at_is_left_out_and_told_6_0() {
    vanishes(60).await;
}

const IN_THE_MIDDLE: i64 = 30_000;

/// A run that is held up when the first documents have gone, while something happens; and how many were left then.
async fn in_the_middle(
    workspace: &Workspace,
    base: &TestBase,
    happens: impl Future<Output = ()>,
) -> (Value, i64) {
    let documents = (0..IN_THE_MIDDLE).map(|n| doc! { "_id": n, "at": days_ago(100) });
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
    let mut process = workspace.begins(["run", "t", "--now"]);
    let counted = async || base.count("events", doc! {}).await.cast_signed();
    let patience = Patience::until("the first documents to go");
    while counted().await == IN_THE_MIDDLE {
        if process.try_wait().unwrap().is_some() {
            let shown = workspace.run(["show", "last"]);
            panic!("it ended by itself: {shown:#?}");
        }
        patience.pause().await;
    }
    workspace.file("held", "");
    let patience = Patience::until("the step to be held up");
    let mut left = 0;
    loop {
        let now = counted().await;
        if now == left {
            break;
        }
        left = now;
        tokio::time::sleep(Duration::from_secs(1)).await;
        patience.pause().await;
    }
    assert!(left > 0, "it was done before anybody could hold it up");
    happens.await;
    std::fs::remove_file(workspace.path().join("held")).unwrap();
    process.wait().unwrap();
    let shown = workspace
        .run(["show", "last", "--output", "json"])
        .expect(0)
        .json();
    (shown["runs"][0].clone(), left)
}

fn held(base: &TestBase, kind: &str, options: &str) -> Workspace {
    let workspace = for_base(base);
    let options = options.replace(
        "FILES",
        &workspace.path().join("kept").display().to_string(),
    );
    workspace.task(
        "t",
        &format!("kind: {kind}\ntarget: app\noptions: {{ rules: [{{ collection: events, field: at, older_than: 30d }}], {options} }}\nthrottle: {{ pause_file: held }}\n"),
    )
}

/// What had gone before is told, and the step has failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_goes_in_the_middle_of_a_step_fails_it() {
    let kept = "destination: { collection: kept }";
    let files = "destination: { files: \"file://FILES\" }";
    for (version, kind, options, what) in [
        (60, "cleanup", "batch_goal: 10ms", Meanwhile::Renamed),
        (44, "cleanup", "batch_goal: 10ms", Meanwhile::Swapped),
        (44, "archive", kept, Meanwhile::Renamed),
        (60, "archive", kept, Meanwhile::Swapped),
        (50, "archive", kept, Meanwhile::Dropped),
        (60, "archive", files, Meanwhile::Renamed),
    ] {
        let base = TestBase::new(version).await;
        let workspace = held(&base, kind, options);
        let (done, left) = in_the_middle(&workspace, &base, happens(&base, what)).await;
        let why = format!("{version} {kind} {options} {what:?}: {done:#}");
        assert_eq!(done["status"], "failed", "{why}");
        assert_eq!(codes(&done), ["collection.vanished"], "{why}");
        let told = said(&done, "collection.vanished");
        let gone = IN_THE_MIDDLE - left;
        assert_eq!(done["rows"], gone, "{why}");
        assert!(told.contains("documents had gone before"), "{why}");
        let (before, events) = match what {
            Meanwhile::Renamed => (left, 0),
            Meanwhile::Swapped => (left, 40),
            Meanwhile::Dropped => (0, 0),
        };
        let count = async |of: &str| base.count(of, doc! {}).await.cast_signed();
        assert_eq!(count("before").await, before, "{why}");
        assert_eq!(count("events").await, events, "{why}");
        let kept = if options == kept { gone } else { 0 };
        assert_eq!(count("kept").await, kept, "{why}");
    }
}

/// So it has where the index that it goes along is not there any more: what is left was not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_goes_in_the_middle_of_a_step_fails_it() {
    for (kind, options) in [
        ("cleanup", "batch_goal: 10ms"),
        ("archive", "destination: { collection: kept }"),
    ] {
        let base = TestBase::new(60).await;
        let events = base.collection("events");
        let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
        events.create_index(index).await.unwrap();
        let workspace = held(&base, kind, options);
        let goes = async { events.drop_index("at_1").await.unwrap() };
        let (done, held) = in_the_middle(&workspace, &base, goes).await;
        let why = format!("{kind}: {done:#}");
        assert_eq!(done["status"], "failed", "{why}");
        assert_eq!(codes(&done), ["cleanup.index"], "{why}");
        // A batch whose end had been found was not stopped by it.
        let left = base.count("events", doc! {}).await.cast_signed();
        assert!(left > 0 && left <= held, "{left} {held} {why}");
        let gone = IN_THE_MIDDLE - left;
        assert_eq!(done["rows"], gone, "{why}");
        let told = said(&done, "cleanup.index");
        assert!(told.contains("documents had gone before"), "{why}");
        let again = run(&workspace, "t", 0);
        assert_eq!(again["rows"], left, "{again:#}");
        let kept = if kind == "archive" { IN_THE_MIDDLE } else { 0 };
        let there = base.count("kept", doc! {}).await;
        assert_eq!(there.cast_signed(), kept, "{again:#}");
    }
}

/// What is made of a collection that goes meanwhile may lack some of it; no document of it has gone by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_collection_goes_while_it_is_made_is_not_believed() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        fill(&base).await;
        // All has been read when it sleeps.
        let workspace = for_base(&base).task("t", "kind: refresh\ntarget: app\noptions: { aggregations: [{ collection: events, pipeline: [{ $group: { _id: null, n: { $sum: 1 } } }, { $addFields: { slept: { $function: { body: 'function() { sleep(4000); return 1; }', args: [], lang: js } } } }, { $out: days }] }] }\n");
        let mut process = workspace.begins(["run", "t", "--now"]);
        let admin = base.servers.root().await.database("admin");
        let patience = Patience::until("the result to be made");
        loop {
            let whole = format!("{}.events", base.name);
            let making = doc! { "currentOp": 1, "ns": whole, "command.aggregate": "events", "secs_running": { "$gte": 1 } };
            let found = admin.run_command(making).await.unwrap();
            if !found.get_array("inprog").unwrap().is_empty() {
                break;
            }
            assert!(process.try_wait().unwrap().is_none(), "it ended before");
            patience.pause().await;
        }
        happens(&base, Meanwhile::Renamed).await;
        process.wait().unwrap();
        let shown = workspace.run(["show", "last", "--output", "json"]);
        let done = shown.expect(0).json()["runs"][0].clone();
        assert_eq!(done["status"], "failed", "{version}: {done:#}");
        assert_eq!(codes(&done), ["collection.vanished"], "{version}: {done:#}");
        let told = said(&done, "collection.vanished");
        assert!(
            told.contains("its result was made all the same") && !told.contains("had gone"),
            "{version}: {told}"
        );
        assert_eq!(base.count("days", doc! { "n": 40 }).await, 1);
        assert_eq!(base.count("before", doc! {}).await, 40);
    }
}

fn said(run: &Value, code: &str) -> String {
    let all = run["findings"].as_array().unwrap();
    let of = all.iter().filter(|one| one["code"] == code);
    let texts = of.map(|one| one["message"].as_str().unwrap().to_owned());
    texts.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_without_dates_lets_nothing_expire_and_is_told_at_once() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let documents =
            (0..20).map(|n| doc! { "_id": n, "expires": DateTime::now(), "text": "soon" });
        base.collection("a").insert_many(documents).await.unwrap();
        for field in ["expirs", "text"] {
            let task = format!(
                "kind: cleanup\ntarget: app\noptions: {{ ttl: [{{ collection: a, field: {field}, expire_after: 30d }}] }}\n"
            );
            let workspace = for_base(&base).task("t", &task);
            let done = run(&workspace, "t", 1);
            assert_eq!(codes(&done), ["ttl.wrong_type"], "{done:#}");
            assert!(done["steps"].as_array().unwrap().is_empty(), "{done:#}");
            let said = said(&done, "ttl.wrong_type");
            assert!(said.contains("nothing can expire"), "{said}");
            let indexes = base.collection("a").list_index_names().await.unwrap();
            assert_eq!(indexes, ["_id_"]);
        }
        // Some without a date are told, and the index is made.
        base.collection("a")
            .insert_one(doc! { "_id": "x" })
            .await
            .unwrap();
        let workspace = for_base(&base).task("t", "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: a, field: expires, expire_after: 30d }] }\n");
        let done = run(&workspace, "t", 0);
        assert_eq!(steps(&done, "succeeded").len(), 1, "{done:#}");
        assert_eq!(codes(&done), ["ttl.wrong_type"], "{done:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_no_time_are_told() {
    let base = TestBase::new(60).await;
    let old = DateTime::now().timestamp_millis() / 1000 - 100 * 86_400;
    let mut documents: Vec<Document> = (0..10).map(|n| doc! { "_id": n, "at": old }).collect();
    for (n, odd) in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY]
        .into_iter()
        .enumerate()
    {
        documents.push(doc! { "_id": format!("odd {n}"), "at": odd });
    }
    base.collection("a").insert_many(documents).await.unwrap();
    let workspace = for_base(&base).task("t", "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, field: at, older_than: 30d, epoch: seconds }] }\n");
    let done = run(&workspace, "t", 0);
    assert_eq!(done["rows"], 10, "{done:#}");
    let told = said(&done, "cleanup.types");
    assert!(
        told.contains("3 documents have a number in `at` that is no time"),
        "{done:#}"
    );
    assert_eq!(base.count("a", doc! {}).await, 3);
    let again = run(&workspace, "t", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    assert!(
        said(&again, "cleanup.types").contains("that is no time"),
        "{again:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_server_would_not_take_is_told_in_the_plan_and_the_others_go_on() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let documents = (0..5).map(|n| doc! { "_id": n, "x": n });
        base.collection("a").insert_many(documents).await.unwrap();
        let unique = IndexOptions::builder().unique(true).build();
        let index = IndexModel::builder()
            .keys(doc! { "x": 1 })
            .options(unique)
            .build();
        base.collection("good").create_index(index).await.unwrap();
        let (upper, long) = (base.name.to_uppercase(), "l".repeat(250));
        let one = |last: &str| {
            format!(
                "{{ collection: a, pipeline: [{{ $group: {{ _id: $x, x: {{ $first: $x }} }} }}, {last}] }}"
            )
        };
        let all = [
            "{ $merge: { into: good, on: x } }".to_owned(),
            "{ $merge: { into: bad, on: x } }".to_owned(),
            format!("{{ $out: {{ db: {upper}, coll: r }} }}"),
            format!("{{ $out: {long} }}"),
        ];
        let all: Vec<String> = all.iter().map(|last| one(last)).collect();
        let task = format!(
            "kind: refresh\ntarget: app\noptions: {{ aggregations: [{}] }}\n",
            all.join(", ")
        );
        let workspace = for_base(&base).task("t", &task);
        let done = run(&workspace, "t", 1);
        assert_eq!(
            steps(&done, "succeeded"),
            [format!("refresh {}.good", base.name)],
            "{done:#}"
        );
        assert!(steps(&done, "failed").is_empty(), "{done:#}");
        assert_eq!(codes(&done), ["refresh.source"; 3], "{done:#}");
        let said = said(&done, "refresh.source");
        for words in [
            "no unique index of",
            "upper and lower case",
            "the server takes 255",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(base.count("good", doc! {}).await, 5);
        assert_eq!(base.count("bad", doc! {}).await, 0);
        // The same of an archive.
        for destination in [
            format!("{{ database: {upper} }}"),
            format!("{{ collection: {long} }}"),
        ] {
            let task = format!(
                "kind: archive\ntarget: app\noptions: {{ rules: [{{ collection: a, where: {{ x: 1 }} }}], destination: {destination} }}\n"
            );
            let workspace = for_base(&base).task("t", &task);
            let done = run(&workspace, "t", 1);
            assert_eq!(codes(&done), ["archive.rule"], "{done:#}");
            assert!(done["steps"].as_array().unwrap().is_empty(), "{done:#}");
            assert_eq!(base.count("a", doc! {}).await, 5);
        }
    }
}

/// What an error over a document says is made of its values.
#[tokio::test(flavor = "multi_thread")]
async fn no_error_of_an_aggregation_shows_what_documents_hold() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let card = doc! { "_id": 1, "at": days_ago(100), "card": "S3cret-4111" };
        base.collection("a").insert_one(card).await.unwrap();
        for stage in [
            "{ $replaceRoot: { newRoot: $card } }",
            "{ $project: { d: { $dateToString: { date: $at, timezone: $card } } } }",
            "{ $project: { d: { $function: { body: 'function(c) { throw c; }', args: [$card], lang: js } } } }",
            "{ $project: { d: { $add: [$card, 1] } } }",
        ] {
            let task = format!(
                "kind: refresh\ntarget: app\noptions: {{ aggregations: [{{ collection: a, pipeline: [{stage}, {{ $out: r }}] }}] }}\n"
            );
            let workspace = for_base(&base).task("t", &task);
            let output = workspace.run(["run", "t", "--now"]).expect(1);
            let shown = workspace
                .run(["show", "last", "--output", "json"])
                .expect(0);
            for text in [&output.stdout, &output.stderr, &shown.stdout] {
                assert!(!text.contains("4111"), "{stage}: {text}");
            }
            // Of this one the server names types alone, and its own words stay.
            let words = match stage.contains("$add") {
                true => "$add only supports",
                false => "over one of the documents",
            };
            assert!(shown.stdout.contains(words), "{stage}: {shown:#?}");
        }
        let task = "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, field: at, older_than: 30d, where: { $expr: { $eq: [{ $dateToString: { date: $at, timezone: $card } }, x] } } }] }\n";
        let workspace = for_base(&base).task("t", task);
        let output = workspace.run(["run", "t", "--now", "--output", "json"]);
        assert!(!format!("{output:?}").contains("4111"), "{output:#?}");
        assert_eq!(base.count("a", doc! {}).await, 1);
    }
}

/// An index that a step goes along is dropped, hidden or made otherwise: the step is skipped, names it, and
/// does not pass for one that has done its work.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_not_what_it_was_is_named() {
    let rules = "rules: [{ collection: events, field: at, older_than: 30d }]";
    let kept = format!("{rules}, destination: {{ collection: kept }}");
    for (kind, options, what) in [
        ("cleanup", rules, "was dropped"),
        ("cleanup", rules, "was hidden"),
        ("cleanup", rules, "was made anew"),
        ("archive", &kept, "was dropped"),
        ("archive", &kept, "was made anew"),
    ] {
        let base = TestBase::new(60).await;
        fill(&base).await;
        let events = base.collection("events");
        let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
        events.create_index(index).await.unwrap();
        let happens = async {
            match what {
                "was hidden" => {
                    let hide =
                        doc! { "collMod": "events", "index": { "name": "at_1", "hidden": true } };
                    base.db.run_command(hide).await.unwrap();
                }
                _ => events.drop_index("at_1").await.unwrap(),
            }
            if what == "was made anew" {
                let partial = doc! { "_id": { "$gt": 35 } };
                let options = IndexOptions::builder()
                    .partial_filter_expression(partial)
                    .build();
                let index = IndexModel::builder()
                    .keys(doc! { "at": 1 })
                    .options(options)
                    .build();
                events.create_index(index).await.unwrap();
            }
        };
        let workspace = for_base(&base).task("t", &format!(
            "kind: {kind}\ntarget: app\noptions: {{ {options} }}\nthrottle: {{ pause_file: held }}\n"
        ));
        let done = run_with(&workspace, "t", happens).await;
        assert_eq!(steps(&done, "skipped").len(), 1, "{kind} {what}: {done:#}");
        assert_eq!(codes(&done), ["cleanup.index"], "{kind} {what}: {done:#}");
        let told = said(&done, "cleanup.index");
        assert!(
            told.contains("the index `at_1` of") && told.contains(what),
            "{told}"
        );
        assert_eq!(base.count("events", doc! {}).await, 40, "{kind} {what}");
        // The next run finds another way.
        let again = run(&workspace, "t", 0);
        assert_eq!(again["rows"], 30, "{kind} {what}: {again:#}");
    }
}
