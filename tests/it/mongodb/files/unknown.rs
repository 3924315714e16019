//! A history that was set back to before the last archives of documents: they are told.

use serde_json::json;

use super::super::{codes, for_base, steps};
use super::{address, old_documents, run, task};
use crate::support::mongo::TestBase;
use crate::support::s3::{BUCKET, S3};

async fn what_the_history_does_not_know_is_told(version: u32) {
    let base = TestBase::new(version).await;
    old_documents(&base.db, "events", 0, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let place = address(folder.path());
    let workspace = task(for_base(&base), "events", &json!({ "files": place }));
    assert_eq!(run(&workspace, "archive", 0)["rows"], 50);
    let kept = workspace.keep_history();
    old_documents(&base.db, "events", 50, 80).await;
    assert_eq!(run(&workspace, "archive", 0)["rows"], 30);
    workspace.set_history_back(kept.path());

    let more = format!("1 more, 30 documents, lie in {place}, and the history does not know them");
    for (verb, code) in [
        (vec!["archive", "list"], 0),
        (vec!["archive", "verify"], 1),
        (vec!["archive", "restore", "--into", "back", "--dry-run"], 1),
        (vec!["archive", "restore", "--into", "back"], 1),
    ] {
        let said = workspace.run(&verb).expect(code).stdout;
        assert!(said.contains(&more), "{said}");
    }
    assert_eq!(base.ids("back").await.len(), 50);
    for _ in 0..2 {
        let told = run(&workspace, "archive", 0);
        assert_eq!(codes(&told), ["archive.unknown_files"], "{told:#}");
        assert_eq!(steps(&told, "succeeded").len(), 1, "{told:#}");
        let said = told["findings"][0]["message"].as_str().unwrap();
        assert!(
            said.contains("has 1 archive of this collection, 30 documents")
                && said.contains("maint archive adopt"),
            "{said}"
        );
    }
    let adopt = ["archive", "adopt", "--files", &place, "--target", "app"];
    workspace.run(adopt).expect(0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
    workspace.run(["archive", "verify"]).expect(0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(base.ids("back").await.len(), 80);

    // What another target has archived to the same place is read once, and is not told.
    let file = std::fs::read_dir(
        folder
            .path()
            .join(format!("collection={}.events", base.db.name())),
    )
    .unwrap()
    .map(|entry| entry.unwrap().path())
    .find(|path| path.to_string_lossy().ends_with(".manifest.json"))
    .unwrap();
    let mut theirs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let id = uuid::Uuid::now_v7();
    theirs["id"] = json!(id);
    theirs["target"] = json!("theirs");
    let beside = file.with_file_name(format!("_{id}.manifest.json"));
    std::fs::write(beside, theirs.to_string()).unwrap();
    let told = run(&workspace, "archive", 0);
    assert_eq!(codes(&told), [""; 0], "{told:#}");
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
    let listed = workspace
        .run(["archive", "list", "--output", "json"])
        .expect(0);
    assert_eq!(listed.json().get("unknown"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_history_does_not_know_is_told_44() {
    what_the_history_does_not_know_is_told(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_history_does_not_know_is_told_60() {
    what_the_history_does_not_know_is_told(60).await;
}

/// Of a batch whose end nobody has seen, a manifest that lay beside its files proves nothing: whoever
/// can write there may have changed it. The only files of documents stay, and nobody's session ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_beside_files_removes_none() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 20).await;
    let folder = tempfile::tempdir().unwrap();
    let place = address(folder.path());
    let workspace = task(for_base(&base), "events", &json!({ "files": place }));
    let empty = workspace.keep_history();
    assert_eq!(run(&workspace, "archive", 0)["rows"], 20);
    workspace.set_history_back(empty.path());
    let files = || {
        let own = format!("collection={}.events", base.db.name());
        let names = std::fs::read_dir(folder.path().join(own)).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = files();
    let manifest = before
        .iter()
        .find(|path| path.to_string_lossy().ends_with(".manifest.json"))
        .unwrap();
    let mut session = base.db.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    base.db
        .collection::<mongodb::bson::Document>("theirs")
        .insert_one(mongodb::bson::doc! { "_id": 1 })
        .session(&mut session)
        .await
        .unwrap();
    let mongodb::bson::Bson::Binary(theirs) = session.id().get("id").unwrap().clone() else {
        panic!("an id of a session is binary");
    };
    let digits: String = theirs.bytes.iter().map(|b| format!("{b:02x}")).collect();
    // A history of its own again, which says what lies there.
    workspace.run(["run", "archive", "--now"]);
    let mut forged: serde_json::Value =
        serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    forged["settled"] = json!(false);
    forged["session"] = json!(digits);
    std::fs::write(manifest, forged.to_string()).unwrap();
    let adopt = ["archive", "adopt", "--files", &place, "--target", "app"];
    workspace.run(adopt).expect(0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
    session.commit_transaction().await.unwrap();
    assert_eq!(files(), before);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(base.ids("back").await.len(), 20);
}

/// Files of documents that are in their collection, and that cannot be removed, keep nothing from being
/// archived: they are told until they are gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_keeps_nothing_from_being_archived() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 20).await;
    let folder = tempfile::tempdir().unwrap();
    let place = address(folder.path());
    let workspace = task(for_base(&base), "events", &json!({ "files": place }));
    assert_eq!(run(&workspace, "archive", 0)["rows"], 20);
    let listed = workspace.run(["archive", "list", "--output", "json"]);
    let mut open = listed.expect(0).json()["archived"][0]["manifest"].clone();
    // As if the batch had been given back, and nobody had seen it.
    open["settled"] = json!(false);
    let id = open["id"].as_str().unwrap().to_owned();
    let file = folder
        .path()
        .join(open["files"][0]["path"].as_str().unwrap());
    old_documents(&base.db, "events", 0, 20).await;
    let beside = file.with_file_name(format!("_{id}.manifest.json"));
    std::fs::write(beside, open.to_string()).unwrap();
    workspace
        .knows("archive", format!("archive {id}"), open)
        .await;
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    for rows in [20, 0] {
        let told = run(&workspace, "archive", 0);
        assert_eq!(told["rows"], rows, "{told:#}");
        assert_eq!(codes(&told), ["archive.left_over"], "{told:#}");
    }
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(base.ids("back").await.len(), 20);
    std::fs::remove_dir(&file).unwrap();
    let told = run(&workspace, "archive", 0);
    assert_eq!(codes(&told), [""; 0], "{told:#}");
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

/// Without the manifest beside them nobody finds files once the history is lost: `verify` tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_gone_or_another_is_told() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let place = address(folder.path());
    let workspace = task(for_base(&base), "events", &json!({ "files": place }));
    run(&workspace, "archive", 0);
    workspace.run(["archive", "verify"]).expect(0);
    let files = folder
        .path()
        .join(format!("collection={}.events", base.db.name()));
    let manifest = std::fs::read_dir(files)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".manifest.json"))
        .unwrap();
    let written = std::fs::read(&manifest).unwrap();
    let mut other: serde_json::Value = serde_json::from_slice(&written).unwrap();
    other["files"][0]["rows"] = json!(49);
    let changed = |field: &str, value: serde_json::Value| {
        let mut other: serde_json::Value = serde_json::from_slice(&written).unwrap();
        other[field] = value;
        Some(other.to_string().into_bytes())
    };
    for (content, said) in [
        (
            changed("collection", json!("others")),
            "differs from the history in `collection`",
        ),
        (
            changed("settled", json!(false)),
            "differs from the history in `settled`",
        ),
        (None, "is gone"),
        (Some(b"{".to_vec()), "is not as written"),
        (Some(other.to_string().into_bytes()), "is not as written"),
    ] {
        match content {
            None => std::fs::remove_file(&manifest).unwrap(),
            Some(content) => std::fs::write(&manifest, content).unwrap(),
        }
        let told = workspace.run(["archive", "verify"]).expect(1).stdout;
        assert!(
            told.contains("the manifest beside them") && told.contains(said),
            "{told}"
        );
    }
    std::fs::write(&manifest, written).unwrap();
    workspace.run(["archive", "verify"]).expect(0);
}

/// Doctor tries the place of the files, leaves nothing there, and repeats no markup of the store.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_tries_the_place_of_the_files() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 5).await;
    let s3 = S3::start();
    let of = |files: &str| {
        let files = json!({ "files": files });
        s3.known_to(task(for_base(&base), "events", &files))
    };
    let told = of(&format!("s3://{BUCKET}/a")).run(["doctor"]).expect(0);
    assert!(
        told.stdout.contains("takes files and gives them back"),
        "{told:#?}"
    );
    let left = std::fs::read_dir(s3.folder.path().join(BUCKET).join("a"));
    let left = left.map_or(0, |left| {
        let tried = |one: &std::fs::DirEntry| one.file_name().to_string_lossy().contains("tried");
        left.map(Result::unwrap).filter(tried).count()
    });
    assert_eq!(left, 0);
    let workspace = of("s3://no-such-bucket/a");
    let told = workspace.run(["doctor"]).expect(1);
    let words = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("NoSuchBucket: The specified bucket does not exist; make the bucket"),
        "{told:#?}"
    );
    assert!(!words.contains('<'), "{told:#?}");
    // Who checks with connections is told the same.
    let checked = workspace.run(["check", "--connect"]).expect(3);
    assert!(
        checked.stderr.contains("files of task `archive`")
            && checked.stderr.contains("NoSuchBucket"),
        "{checked:#?}"
    );
    let checked = of(&format!("s3://{BUCKET}/a"))
        .run(["check", "--connect"])
        .expect(0);
    assert!(
        checked.stdout.contains("takes files and gives them back"),
        "{checked:#?}"
    );
    // A folder that is not there is made by the first run, if it can be.
    let below = |name: &str| {
        format!(
            "file://{}",
            base.servers.path().join(name).join("old").display()
        )
    };
    std::fs::write(base.servers.path().join("a-file"), "").unwrap();
    of(&below("nothing-yet"))
        .run(["check", "--connect"])
        .expect(0);
    let unmakeable = of(&below("a-file"));
    let checked = unmakeable.run(["check", "--connect"]).expect(3);
    assert!(
        checked.stderr.contains("a-file cannot be written"),
        "{checked:#?}"
    );
    unmakeable.run(["doctor"]).expect(1);
    let failed = run(&workspace, "archive", 1).to_string();
    assert!(
        failed.contains("NoSuchBucket") && !failed.contains("<Code>"),
        "{failed}"
    );
}
