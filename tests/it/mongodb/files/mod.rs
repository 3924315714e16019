//! Documents in files: the same to the byte when they come back, none lost,
//! none doubled, and what lies beside the files is not trusted.

mod back;
mod hostile;
mod killed;
mod lost;
mod sampled;
mod unknown;

use std::path::{Path, PathBuf};

use mongodb::bson::{DateTime, RawDocumentBuf, doc};
use mongodb::{Database, IndexModel};
use serde_json::{Value, json};

use super::archive::{hostile, raw};
use super::{codes, for_base, run, workspace};
use crate::support::memory::peak_of;
use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

/// A task that archives what is older than ninety days into this place.
pub(super) fn task(workspace: Workspace, collection: &str, destination: &Value) -> Workspace {
    let options = json!({ "rules": [{ "collection": collection, "field": "at", "older_than": "90d" }], "destination": destination });
    workspace.task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    )
}

fn address(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// So many old documents, ten of each moment, and an index.
pub(super) async fn old_documents(db: &Database, name: &str, from: i32, to: i32) {
    let events = db.collection(name);
    for begin in (from..to).step_by(2_000) {
        let some = (begin..(begin + 2_000).min(to)).map(|n| {
            doc! { "_id": n, "at": DateTime::from_millis(1_600_000_000_000 + i64::from(n / 10) * 1000), "v": 0, "pad": "x".repeat(80) }
        });
        events.insert_many(some).await.unwrap();
    }
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    events.create_index(index).await.unwrap();
}

pub(super) fn bytes(documents: &[RawDocumentBuf]) -> Vec<Vec<u8>> {
    documents.iter().map(|d| d.as_bytes().to_vec()).collect()
}

/// What `maint archive list` tells.
fn archived(workspace: &Workspace) -> Vec<Value> {
    let listed = workspace
        .run(["archive", "list", "--output", "json"])
        .expect(0);
    listed.json()["archived"].as_array().unwrap().clone()
}

/// Every file below a folder, with its path below it.
pub(super) fn files_below(folder: &Path) -> Vec<String> {
    fn go(root: &Path, at: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                go(root, &path, found);
            } else {
                let below = path.strip_prefix(root).unwrap();
                found.push(below.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    go(folder, folder, &mut found);
    found.retain(|file| !file.contains(".s3s-") && !file.contains(".bucket-"));
    found.sort();
    found
}

/// The files in this folder are those that the manifests name, and their manifests.
#[track_caller]
fn nothing_else(workspace: &Workspace, folder: &Path) {
    let mut known = Vec::new();
    for one in archived(workspace) {
        let manifest = &one["manifest"];
        let id = manifest["id"].as_str().unwrap();
        for file in manifest["files"].as_array().unwrap() {
            let path = file["path"].as_str().unwrap();
            let below = path.rsplit_once('/').unwrap().0;
            known.push(format!("{below}/_{id}.manifest.json"));
            known.push(path.to_owned());
        }
    }
    known.sort();
    known.dedup();
    assert_eq!(files_below(folder), known);
}

/// The one manifest below a folder.
fn manifest_of(folder: &Path) -> PathBuf {
    let files = files_below(folder);
    let manifest = files.iter().find(|f| f.ends_with(".manifest.json"));
    folder.join(manifest.unwrap())
}

/// A name with what names may have: dots, blanks, slashes, no letters, and as
/// long as the oldest servers take it. No server takes a `$`.
fn hostile_name(base: &TestBase) -> String {
    let mut name = "ev nts/..\\%2F.ünï日本\"'x".to_owned();
    while base.name.len() + 1 + name.len() + 3 <= 120 {
        name.push('日');
    }
    name
}

/// Documents of every kind, in a collection of a hostile name, in both formats.
/// A dry run says what the restore would: a file that is not there keeps all of it.
fn a_file_is_missed(workspace: &Workspace, folder: &Path, into: &str) {
    let files = files_below(folder);
    let data = files.iter().find(|f| !f.ends_with(".manifest.json"));
    let file = folder.join(data.unwrap());
    let aside = folder.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let dry = ["archive", "restore", "--into", into, "--dry-run"];
    let said = workspace.run(dry).expect(1).stdout;
    assert!(
        said.contains("nothing would be restored: ") && !said.contains("would come back"),
        "{said}"
    );
    let document = workspace
        .run(dry.into_iter().chain(["--output", "json"]))
        .expect(1)
        .json();
    let problem = document["problems"][0].as_str().unwrap();
    assert!(problem.contains("cannot be read"), "{document:#}");
    std::fs::rename(&aside, &file).unwrap();
}

async fn there_and_back(version: u32) {
    for format in ["jsonl", "parquet"] {
        let base = TestBase::new(version).await;
        let name = hostile_name(&base);
        let events = base.db.collection::<RawDocumentBuf>(&name);
        for document in hostile() {
            // Only from 5.0 on may a name begin with a dollar, or have a dot.
            if version == 44 && document.get("$dollar").unwrap().is_some() {
                continue;
            }
            events.insert_one(document).await.unwrap();
        }
        base.collection(&name)
            .insert_one(doc! { "_id": "stays" })
            .await
            .unwrap();
        let mut before = raw(&base.db, &name).await;
        before.retain(|d| d.get_bool("old_enough").is_ok());
        let count = before.len();
        assert_eq!(count, if version == 44 { 8 } else { 9 });
        let folder = tempfile::tempdir().unwrap();
        let mut destination = json!({ "files": address(folder.path()), "format": format });
        if format == "parquet" {
            destination["columns"] =
                json!({ "old_enough": "bool", "d": "decimal", "document": "long" });
        }
        let options = json!({ "rules": [{ "collection": name, "where": { "old_enough": true } }], "destination": destination });
        let workspace = for_base(&base).task(
            "archive",
            &format!("kind: archive\ntarget: app\noptions: {options}\n"),
        );
        let done = run(&workspace, "archive", 0);
        assert_eq!(
            (&done["status"], &done["rows"]),
            (&"succeeded".into(), &count.into()),
            "{done:#}"
        );
        assert_eq!(base.ids(&name).await, ["\"stays\""]);
        assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
        nothing_else(&workspace, folder.path());
        let marks = base.count("maint.archives", doc! {}).await;
        assert_eq!(marks, 0, "marks are left");

        let manifest = &archived(&workspace)[0]["manifest"];
        for (key, value) in [
            ("engine", "mongodb"),
            ("target", "app"),
            ("database", &*base.name),
            ("collection", &*name),
            ("format", format),
        ] {
            assert_eq!(manifest[key], value, "{manifest:#}");
        }
        let verified = workspace.run(["archive", "verify"]).expect(0).stdout;
        assert!(verified.contains("are as written"), "{verified}");
        let into = "back.to/the 1 ü";
        let dry = workspace
            .run(["archive", "restore", "--into", into, "--dry-run"])
            .expect(0)
            .stdout;
        assert!(
            dry.contains(&format!("{count} documents would come back")),
            "{dry}"
        );
        assert_eq!(base.count(into, doc! {}).await, 0);
        a_file_is_missed(&workspace, folder.path(), into);
        let restore = ["archive", "restore", "--into", into];
        workspace.run(restore).expect(0);
        let after = raw(&base.db, into).await;
        assert!(bytes(&before) == bytes(&after), "something is not the same");

        // Twice is refused; asked for all the same, nothing is doubled.
        let twice = workspace.run(restore).expect(2).stderr;
        assert!(
            twice.contains("back already") && twice.contains("--again"),
            "{twice}"
        );
        base.collection(into)
            .delete_one(doc! { "_id": true })
            .await
            .unwrap();
        let again = workspace
            .run(restore.into_iter().chain(["--again"]))
            .expect(0)
            .stdout;
        assert!(again.contains("1 document is back"), "{again}");
        assert!(bytes(&before) == bytes(&raw(&base.db, into).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_back_to_the_byte_4_4() {
    there_and_back(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_back_to_the_byte_6_0() {
    there_and_back(60).await;
}

/// What others write while documents leave is neither lost nor archived as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_changes_meanwhile_stays_as_it_is_now() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 6_000).await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        for_base(&base),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let events = base.collection("events");
    let (mut written, mut gone, mut n) = (std::collections::BTreeMap::new(), 0, 0_i32);
    while process.try_wait().unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        n += 1;
        let id = n * 37 % 6_000;
        if n % 5 == 0 {
            gone += events
                .delete_one(doc! { "_id": id })
                .await
                .unwrap()
                .deleted_count;
            written.remove(&id);
            continue;
        }
        let updated = events
            .update_one(doc! { "_id": id }, doc! { "$set": { "v": n } })
            .await
            .unwrap();
        if updated.matched_count == 1 {
            written.insert(id, n);
        }
    }
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(!written.is_empty(), "nobody came in between");
    let left = events.count_documents(doc! {}).await.unwrap();
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let back = base.collection("back");
    let archived = back.count_documents(doc! {}).await.unwrap();
    assert_eq!(
        left + archived + gone,
        6_000,
        "{left} left, {archived} archived, {gone} deleted"
    );
    for (id, v) in written {
        let here = events
            .count_documents(doc! { "_id": id, "v": v })
            .await
            .unwrap();
        let there = back
            .count_documents(doc! { "_id": id, "v": v })
            .await
            .unwrap();
        assert_eq!(here + there, 1, "document {id} was written with {v}");
    }
    nothing_else(&workspace, folder.path());
    run(&workspace, "archive", 0);
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

/// However large documents are, memory stays bounded.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_by_bytes() {
    let base = TestBase::new(60).await;
    let events = base.db.collection::<RawDocumentBuf>("events");
    let folder = tempfile::tempdir().unwrap();
    let mut peaks = Vec::new();
    let admin = base.servers.root().await.database("admin");
    for format in ["jsonl", "parquet"] {
        for n in 0..2 {
            let old = DateTime::from_millis(1_000_000_000_000 + n);
            let text = "\u{1}\"ü日".repeat(1_750_000);
            let mut shapes = vec![
                RawDocumentBuf::try_from(
                    &doc! { "_id": format!("text {n}"), "at": old, "v": text },
                )
                .unwrap(),
            ];
            let mut wide = RawDocumentBuf::new();
            wide.append(mongodb::bson::cstr!("_id"), format!("wide {n}"));
            wide.append(mongodb::bson::cstr!("at"), old);
            for value in 0..3_000_000_i32 {
                wide.append(mongodb::bson::cstr!("k"), value % 7 == 0);
                if wide.as_bytes().len() > 12_000_000 {
                    break;
                }
            }
            shapes.push(wide);
            let random: Vec<u8> = (0..12_500_000_u32)
                .map(|b| (b.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            let binary = mongodb::bson::Binary {
                subtype: mongodb::bson::spec::BinarySubtype::Generic,
                bytes: random,
            };
            shapes.push(
                RawDocumentBuf::try_from(
                    &doc! { "_id": format!("bytes {n}"), "at": old, "v": binary },
                )
                .unwrap(),
            );
            for document in shapes {
                events.insert_one(&document).await.unwrap();
                // The servers' caches are small: they take the next when this one is on disk.
                admin.run_command(doc! { "fsync": 1 }).await.unwrap();
            }
        }
        let place = format!("{}/{format}", address(folder.path()));
        let destination = json!({ "files": place, "format": format });
        let workspace = task(for_base(&base), "events", &destination);
        let (peak, out) = peak_of(&workspace, &["run", "archive", "--now", "--output", "json"]);
        let done: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(done["runs"][0]["rows"], 6, "{done:#}");
        peaks.push(("archive", format, peak >> 20));
        let (peak, _) = peak_of(&workspace, &["archive", "verify"]);
        peaks.push(("verify", format, peak >> 20));
        let into = format!("back {format}");
        let (peak, _) = peak_of(&workspace, &["archive", "restore", "--into", &into]);
        peaks.push(("restore", format, peak >> 20));
        assert_eq!(base.count(&into, doc! {}).await, 6);
    }
    assert!(peaks.iter().all(|(.., mb)| *mb < 128), "MB: {peaks:?}");
}

/// No more go than the rule allows, and where nobody can write, nothing does.
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_a_place_that_cannot_be_written_keeps_all() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 20).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let inside = format!("{}/file", address(folder.path()));
    let workspace = task(for_base(&base), "events", &json!({ "files": inside }));
    let failed = run(&workspace, "archive", 1);
    let said = failed["steps"].to_string();
    assert!(said.contains("nothing was deleted"), "{failed:#}");
    assert_eq!(base.count("events", doc! {}).await, 20);
    let options = json!({ "rules": [{ "collection": "events", "field": "at", "older_than": "90d", "max_rows": 19 }], "destination": { "files": address(folder.path()) } });
    let limited = for_base(&base).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
    let refused = run(&limited, "archive", 1);
    assert_eq!(codes(&refused), ["cleanup.too_many"], "{refused:#}");
    assert_eq!(base.count("events", doc! {}).await, 20);
    let all = task(
        for_base(&base),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    assert_eq!(run(&all, "archive", 0)["rows"], 20);
    // What has vanished is told.
    let below = files_below(folder.path());
    let below = below.iter().find(|f| f.contains('/')).unwrap();
    std::fs::remove_dir_all(folder.path().join(below.split('/').next().unwrap())).unwrap();
    let told = all
        .run(["run", "archive", "--now", "--output", "json"])
        .json()["runs"][0]
        .clone();
    assert_eq!(codes(&told), ["archive.files_missing"], "{told:#}");
}
