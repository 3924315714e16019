//! A history that was set back to before the last archives: they are told wherever somebody asks.

use std::fs;

use serde_json::{Value, json};

use super::moved::{manifests, remembered};
use super::undone::told;
use super::{archive, checksum, into_files, nothing_is_left, parquet_files, workspace};
use crate::support::s3::{BUCKET, Fault, S3};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn table(key: &str) -> String {
    format!("CREATE TABLE t (id int {key}, at timestamptz NOT NULL)")
}

async fn more(db: &TestDatabase, from: i32, to: i32) {
    db.execute(&format!(
        "INSERT INTO t SELECT n, '2020-01-01'::timestamptz + n * interval '1 minute' FROM generate_series({from}, {to}) n"
    ))
    .await;
}

fn rule() -> Value {
    json!({ "table": "t", "column": "at", "older_than": "30d" })
}

/// What `maint archive` says, and what of that is unknown to the history.
fn said(workspace: &Workspace, verb: &[&str], code: i32) -> (String, Value) {
    let args = ["archive"].iter().chain(verb);
    let text = workspace.run(args.clone()).expect(code).stdout;
    let json = args.chain(&["--output", "json"]);
    let json = workspace.run(json).expect(code).json();
    (text, json)
}

for_versions! {
    [pg17 = 17]
    /// What the history does not know is told by `list`, `verify`, `restore` and each run, until a
    /// person says whose it is; then it is as if nothing had been.
    async fn what_a_history_that_was_set_back_does_not_know_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&table("PRIMARY KEY")).await;
        more(&db, 1, 100).await;
        let (workspace, folder) = into_files(&db, &rule());
        archive(&workspace);
        let kept = workspace.keep_history();
        more(&db, 101, 150).await;
        assert_eq!(archive(&workspace)["rows"], 50);
        let files = parquet_files(folder.path());
        workspace.set_history_back(kept.path());

        let place = format!("file://{}", folder.path().display());
        let adopt = format!("maint archive adopt --files {place} --target app");
        let more_lie = format!("1 more, 50 rows, lie in {place}, and the history does not know them");
        for (verb, code) in [
            (vec!["list"], 0),
            (vec!["list", "--from", "t", "--target", "app"], 0),
            (vec!["verify"], 1),
            (vec!["restore", "--into", "seen", "--dry-run"], 1),
        ] {
            let (text, json) = said(&workspace, &verb, code);
            assert!(text.contains(&more_lie) && text.contains(&adopt), "{text}");
            assert_eq!(json["unknown"].as_array().unwrap().len(), 1, "{json:#}");
            assert_eq!((&json["unknown"][0]["manifest"]["rows"], &json["unknown"][0]["target"]), (&json!(50), &json!("app")), "{json:#}");
        }
        let text = workspace.run(["archive", "restore", "--into", "back"]).expect(1).stdout;
        assert!(text.contains("100 rows are back in") && text.contains(&more_lie), "{text}");
        assert_eq!(db.number("SELECT count(*) FROM back").await, 100);
        // Who asks for certain archives, or for another table, gets what was asked for.
        let first = manifests(&workspace).await.remove(0).1["id"].as_str().unwrap().to_owned();
        workspace.run(["archive", "restore", &first, "--into", "one", "--again"]).expect(0);
        workspace.run(["archive", "verify", &first]).expect(0);
        assert_eq!(said(&workspace, &["list", "--from", "other"], 0).1, json!({ "archived": [] }));

        for _ in 0..2 {
            let run = archive(&workspace);
            assert_eq!(told(&run), (vec!["settle"], vec!["archive.unknown_files"]), "{run:#}");
            let message = run["findings"][0]["message"].as_str().unwrap();
            assert!(message.contains("has 1 archive of this table, 50 rows") && message.contains("maint archive adopt"), "{message}");
        }
        more(&db, 151, 160).await;
        let run = archive(&workspace);
        assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], vec!["archive.unknown_files"]), &json!(10)), "{run:#}");
        assert!(files.iter().all(|file| folder.path().join(file).exists()), "{files:?}");

        workspace.run(["archive", "adopt", "--files", &place, "--target", "app"]).expect(0);
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle"], vec![]), "{run:#}");
        nothing_is_left(&workspace);
        let (text, json) = said(&workspace, &["list"], 0);
        assert!(text.contains("3 archived, 160 rows") && !text.contains("more"), "{text}");
        assert_eq!(json.get("unknown"), None, "{json:#}");
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--into", "back"]).expect(0);
        assert_eq!(db.number("SELECT count(DISTINCT id) FROM back").await, 160);
        assert_eq!(db.number("SELECT count(*) FROM back").await, 160);
    }
}

for_versions! {
    [pg17 = 17]
    /// The history and the table were set back together: what the files have is not archived again,
    /// with a key or without one.
    async fn what_was_set_back_with_its_history_is_not_doubled(major: u32) {
        for key in ["PRIMARY KEY", ""] {
            let db = fresh_database(major).await;
            db.execute(&table(key)).await;
            more(&db, 1, 100).await;
            let (workspace, folder) = into_files(&db, &rule());
            archive(&workspace);
            let kept = workspace.keep_history();
            more(&db, 101, 150).await;
            archive(&workspace);
            workspace.set_history_back(kept.path());
            more(&db, 101, 150).await;
            let files = parquet_files(folder.path());
            for _ in 0..2 {
                let run = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1).json();
                let why = run["runs"][0]["steps"][0]["error"].as_str().unwrap().to_owned();
                assert!(why.contains("has 1 archive of public.t, 50 rows, that the history does not know") && why.contains("would be archived twice"), "{why}");
                assert_eq!(db.number("SELECT count(*) FROM t").await, 50);
                assert_eq!(parquet_files(folder.path()), files);
            }
            let place = format!("file://{}", folder.path().display());
            workspace.run(["archive", "adopt", "--files", &place, "--target", "app"]).expect(0);
            if key.is_empty() {
                // Rows that are alike are a person's to judge, and stay so.
                for _ in 0..2 {
                    let run = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1).json();
                    let why = run["runs"][0]["steps"][0]["error"].as_str().unwrap().to_owned();
                    assert!(why.contains("50 rows of public.t are like the 50"), "{why}");
                    assert_eq!(parquet_files(folder.path()), files);
                }
                let all = manifests(&workspace).await;
                let open = all.iter().find(|(_, m)| m["settled"] == json!(false)).unwrap();
                workspace.run(["archive", "settle", open.1["id"].as_str().unwrap(), "--kept"]).expect(0);
                archive(&workspace);
            } else {
                let run = archive(&workspace);
                assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], vec!["archive.undone"]), &json!(50)), "{run:#}");
            }
            nothing_is_left(&workspace);
            workspace.run(["archive", "restore", "--into", "back"]).expect(0);
            assert_eq!(db.number("SELECT count(*) FROM back").await, 150);
            assert_eq!(db.number("SELECT count(DISTINCT id) FROM back").await, 150);
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// What another installation archives to the same place is read once, and is nobody's concern,
    /// also where its target has the same name; what no version can read is told.
    async fn archives_of_others_are_not_told(major: u32) {
        let (db, other) = (fresh_database(major).await, fresh_database(major).await);
        let (workspace, folder) = into_files(&db, &rule());
        let place = format!("file://{}", folder.path().display());
        for (n, db) in [&db, &other].into_iter().enumerate() {
            db.execute(&table("PRIMARY KEY")).await;
            more(db, 1, 100 + n as i32).await;
        }
        let mut options = rule();
        options["destination"] = json!({ "files": place });
        let theirs = super::workspace(&other, &options);
        archive(&theirs);
        archive(&workspace);
        for one in [&workspace, &theirs] {
            // The first that came saw nothing; who comes later reads the manifest, and once only.
            archive(one);
            nothing_is_left(one);
            assert_eq!(remembered(one, "stranger ").await.len(), 1);
            assert_eq!(manifests(one).await.len(), 1);
            let (_, json) = said(one, &["list"], 0);
            assert_eq!((json["archived"].as_array().unwrap().len(), json.get("unknown")), (1, None), "{json:#}");
            one.run(["archive", "verify"]).expect(0);
        }
        let odd = format!("table=public.t/_{}.manifest.json", uuid::Uuid::now_v7());
        fs::write(folder.path().join(odd), "{}").unwrap();
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle"], vec!["archive.unknown_files"]), "{run:#}");
        assert!(run["findings"][0]["message"].as_str().unwrap().contains("has 1 manifest that the history does not know"), "{run:#}");
        let (text, json) = said(&workspace, &["verify"], 1);
        assert!(text.contains("1 of what lies there as manifests and the history does not know cannot be read, and is left out"), "{text}");
        assert_eq!(json["unread"].as_array().unwrap().len(), 1, "{json:#}");
        assert_eq!(checksum(&db, "SELECT 1").await, checksum(&other, "SELECT 1").await);
    }
}

/// In a bucket; and a place that cannot be looked at is not taken for one that has nothing.
#[tokio::test]
async fn a_place_that_cannot_be_seen_is_told() {
    let db = fresh_database(17).await;
    db.execute(&table("PRIMARY KEY")).await;
    more(&db, 1, 100).await;
    let s3 = S3::start();
    let place = format!("s3://{BUCKET}/a/b");
    let mut options = rule();
    options["destination"] = json!({ "files": place });
    let workspace = s3.known_to(workspace(&db, &options));
    archive(&workspace);
    let whole = workspace.keep_history();
    more(&db, 101, 150).await;
    archive(&workspace);
    workspace.set_history_back(whole.path());
    let (text, json) = said(&workspace, &["list"], 0);
    assert!(
        text.contains("1 archived, 100 rows") && text.contains("1 more, 50 rows"),
        "{text}"
    );
    assert_eq!(json["unknown"][0]["storage"], place, "{json:#}");
    let run = archive(&workspace);
    assert_eq!(
        told(&run),
        (vec!["settle"], vec!["archive.unknown_files"]),
        "{run:#}"
    );
    s3.fail(Fault::Unavailable, 0);
    let (text, json) = said(&workspace, &["list"], 0);
    let unseen =
        format!("whether {place} has archives that the history does not know cannot be seen");
    assert!(
        text.contains("1 archived, 100 rows") && text.contains(&unseen),
        "{text}"
    );
    assert_eq!(json["unseen"][0]["storage"], place, "{json:#}");
    let verified = workspace.run(["archive", "verify"]).expect(1).stdout;
    assert!(verified.contains(&unseen), "{verified}");
}

/// A task that has archived nothing yet says that its place cannot be seen; a history that knows
/// nothing has what its tasks name looked at.
#[tokio::test]
async fn the_places_of_tasks_are_looked_at() {
    let db = fresh_database(16).await;
    db.execute(&table("PRIMARY KEY")).await;
    let (workspace, folder) = into_files(&db, &rule());
    let place = folder.path().to_owned();
    fs::remove_dir(&place).unwrap();
    fs::write(&place, "no folder").unwrap();
    let run = archive(&workspace);
    assert_eq!(
        told(&run),
        (vec![], vec!["archive.unknown_files"]),
        "{run:#}"
    );
    let said = run["findings"][0]["message"].as_str().unwrap();
    assert!(said.contains("cannot be seen"), "{said}");
    fs::remove_file(&place).unwrap();
    let kept = workspace.keep_history();
    more(&db, 1, 100).await;
    archive(&workspace);
    workspace.set_history_back(kept.path());
    let listed = workspace.run(["archive", "list"]).expect(0).stdout;
    assert!(
        listed.contains("0 archived, 0 rows") && listed.contains("1 more, 100 rows"),
        "{listed}"
    );
    let refused = workspace
        .run(["archive", "restore", "--from", "t", "--into", "back"])
        .expect(2)
        .stderr;
    assert!(
        refused.contains("nothing is archived that fits") && refused.contains("1 more, 100 rows"),
        "{refused}"
    );
}
