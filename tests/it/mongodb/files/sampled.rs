//! Parquet files with columns that nobody has declared.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, RawDocumentBuf, doc};
use serde_json::{Value, json};

use super::super::archive::raw;
use super::{address, archived, bytes, codes, for_base, run, task};
use crate::support::mongo::TestBase;

/// What other programs read of the files: types of columns, and what is in some.
const READ: &str = r#"
import json, sys, duckdb
duck = duckdb.connect()
source = f"read_parquet('{sys.argv[1]}/**/*.parquet', union_by_name=true)"
types = duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
rows = duck.execute(f"SELECT n, price, \"who\"::text, \"at\"::text, rest, rest_ FROM {source} ORDER BY n NULLS LAST, rest").fetchall()
print(json.dumps({"types": {t[0]: t[1] for t in types}, "rows": rows}))
"#;

fn read(folder: &std::path::Path) -> Value {
    let tools = std::env::var("MAINT_TEST_TOOLS").expect(
        "MAINT_TEST_TOOLS names the folder of the tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
    );
    let output = std::process::Command::new(format!("{tools}/bin/python3"))
        .args(["-c", READ])
        .arg(folder)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn sampled(version: u32) {
    let base = TestBase::new(version).await;
    let at = |n: i64| DateTime::from_millis(1_600_000_000_000 + n * 1000);
    let uuid = |n: u8| {
        Bson::Binary(Binary {
            subtype: BinarySubtype::Uuid,
            bytes: vec![n; 16],
        })
    };
    let mut documents: Vec<_> = (0..50_u8)
        .map(|n| doc! { "_id": i32::from(n), "at": at(n.into()), "n": i64::from(n), "price": i32::from(n), "who": uuid(n), "rest": true })
        .collect();
    documents[1].insert("price", 1.5);
    documents[2].insert("n", "two");
    documents[3].insert("nested", doc! { "a": [1, { "b": Bson::Null }] });
    documents[4].insert("at_", Bson::MinKey);
    let events = base.collection("events");
    events.insert_many(documents).await.unwrap();
    let before = raw(&base.db, "events").await;
    let folder = tempfile::tempdir().unwrap();
    let destination = json!({ "files": address(folder.path()), "format": "parquet" });
    let workspace = task(for_base(&base), "events", &destination);
    let planned = workspace.run(["plan", "archive"]).expect(0).stdout;
    assert!(
        planned.contains("at date, n long, price number, rest bool, who uuid, rest_ rest"),
        "{planned}"
    );
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["rows"], 50, "{done:#}");
    assert_eq!(codes(&done), ["archive.types"], "{done:#}");
    let said = done["findings"][0]["message"].as_str().unwrap();
    assert!(
        said.contains("`n` is long here, and of type string in ") && said.contains("`rest_`"),
        "{said}"
    );
    assert_eq!(base.count("events", doc! {}).await, 0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));

    let found = read(folder.path());
    for (column, kind) in [
        ("at", "TIMESTAMP WITH TIME ZONE"),
        ("n", "BIGINT"),
        ("price", "DOUBLE"),
        ("rest", "BOOLEAN"),
        ("who", "BLOB"),
        ("rest_", "VARCHAR"),
        ("document", "BLOB"),
    ] {
        assert_eq!(found["types"][column], kind, "{column}: {found:#}");
    }
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 50);
    assert_eq!(rows[1][1], 1.5, "{found:#}");
    assert_eq!(rows[49][2], "\\x02".repeat(16));
    assert_eq!(rows[49][0], Value::Null);
    assert_eq!(rows[49][4], true);
    assert_eq!(rows[49][5], r#"{"n":"two"}"#, "{found:#}");
    let nested = r#"{"nested":{"a":[{"$numberInt":"1"},{"b":null}]}}"#;
    assert_eq!(rows[2][5], nested, "{found:#}");

    // Later documents are of another shape: fields keep their types, and new ones come behind.
    let later =
        (100..110_i64).map(|n| doc! { "_id": n, "at": at(n), "n": "text", "who": 5, "new": true });
    events.insert_many(later).await.unwrap();
    let mut all = before;
    all.extend(raw(&base.db, "events").await);
    assert_eq!(run(&workspace, "archive", 0)["rows"], 10);
    let columns = |n: usize| -> Vec<String> {
        let columns = archived(&workspace)[n]["manifest"]["columns"].clone();
        let columns = columns.as_array().unwrap();
        let name = |c: &Value| format!("{} {}", c["name"], c["type"]).replace('"', "");
        columns.iter().map(name).collect()
    };
    let first = ["at date", "n long", "price number", "rest bool", "who uuid"];
    let mut shapes = [columns(0), columns(1)];
    shapes.sort_by_key(Vec::len);
    assert_eq!(shapes[0], [&first[..], &["rest_ rest"]].concat());
    assert_eq!(
        shapes[1],
        [&first[..], &["new bool", "rest_ rest"]].concat()
    );
    assert_eq!(read(folder.path())["rows"].as_array().unwrap().len(), 60);

    let verified = workspace.run(["archive", "verify"]).expect(0).stdout;
    assert!(verified.contains("are as written"), "{verified}");
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let back: Vec<RawDocumentBuf> = raw(&base.db, "back").await;
    assert!(bytes(&all) == bytes(&back), "something is not the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_those_that_documents_suggest_4_4() {
    sampled(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_those_that_documents_suggest_6_0() {
    sampled(60).await;
}

/// One document that an old driver has written keeps nobody from the others, nor itself from the files.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_utf_8_keeps_nobody() {
    let base = TestBase::new(60).await;
    let at = DateTime::from_millis(1_600_000_000_000);
    let mut documents: Vec<RawDocumentBuf> = Vec::new();
    for n in 0..10 {
        let document = doc! { "_id": n, "at": at, "bad_": 1, "n": n };
        let mut whole = mongodb::bson::RawDocumentBuf::try_from(&document)
            .unwrap()
            .into_bytes();
        if n == 5 {
            let place = whole.windows(4).position(|name| name == b"bad_").unwrap();
            whole[place] = 0xff;
        }
        documents.push(RawDocumentBuf::from_bytes(whole).unwrap());
    }
    let events = base.db.collection::<RawDocumentBuf>("events");
    events.insert_many(documents).await.unwrap();
    let before = raw(&base.db, "events").await;
    let folder = tempfile::tempdir().unwrap();
    let destination = json!({ "files": address(folder.path()), "format": "parquet" });
    let workspace = task(for_base(&base), "events", &destination);
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["rows"], 10, "{done:#}");
    assert_eq!(codes(&done), ["archive.types"], "{done:#}");
    let said = done["findings"][0]["message"].as_str().unwrap();
    assert!(said.contains("no valid UTF-8"), "{said}");
    let listed = workspace.run(["archive", "list"]).expect(0).stdout;
    for word in ["collection", "documents", "1 archived, 10 documents"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let back: Vec<RawDocumentBuf> = raw(&base.db, "back").await;
    assert!(bytes(&before) == bytes(&back), "something is not the same");
}
