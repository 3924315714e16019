//! Into an S3-compatible store that asks for credentials; and with one that
//! fails, cuts, lies.

use serde_json::json;

use super::whole::{comes_back, exists, options, two_partitions};
use super::{archive, checksum, nothing_is_left, parquet_files, workspace};
use crate::support::s3::{BUCKET, Fault, S3};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

async fn rows(db: &TestDatabase) {
    db.execute("CREATE TABLE \"T 1\" (id bigint PRIMARY KEY, at timestamptz, v text);
        INSERT INTO \"T 1\" SELECT n, '2020-01-01'::timestamptz + n * interval '2 hours', md5(n::text) FROM generate_series(1, 2000) n;
        INSERT INTO \"T 1\" VALUES (5000, now(), 'young')").await;
}

fn task(db: &TestDatabase, s3: &S3, bucket: &str) -> Workspace {
    s3.known_to(workspace(
        db,
        &json!({ "table": "T 1", "column": "at", "older_than": "30d",
        "destination": { "files": format!("s3://{bucket}/deep/prefix") } }),
    ))
}

for_versions! {
    [pg17 = 17]
    /// There and back.
    async fn there_and_back(major: u32) {
        let db = fresh_database(major).await;
        rows(&db).await;
        let old = checksum(&db, "SELECT * FROM \"T 1\" WHERE id < 5000").await;
        let s3 = S3::start();
        let workspace = task(&db, &s3, BUCKET);
        let run = archive(&workspace);
        assert_eq!(run["rows"], 2000, "{run:#}");
        nothing_is_left(&workspace);
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--into", "back"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
        assert_eq!(db.number("SELECT count(*) FROM \"T 1\"").await, 1);
        // No secret anywhere.
        let said = format!("{:?}", workspace.run(["show", "last", "--output", "json"]));
        assert!(!said.contains("s3cret"));
    }
}

/// Whatever goes wrong: a clear error, nothing deleted, and when all is well
/// again the next run does the work and leaves no other file.
#[tokio::test]
async fn faults_delete_nothing() {
    let db = fresh_database(17).await;
    rows(&db).await;
    let old = checksum(&db, "SELECT * FROM \"T 1\" WHERE id < 5000").await;
    let s3 = S3::start();
    let workspace = task(&db, &s3, BUCKET);
    let fails = |workspace: &Workspace, part: &str| {
        let output = workspace
            .run(["run", "archive", "--now", "--output", "json"])
            .expect(1);
        let error = output.json()["runs"][0]["steps"].to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    for (fault, part) in [
        (Fault::Unavailable, "503"),
        (Fault::Cut, "cannot be written"),
        (Fault::Lies, "cannot be read"),
        (Fault::Halves, "SHA-256"),
    ] {
        for after in [0, 3] {
            s3.fail(fault, after);
            fails(&workspace, part);
            assert_eq!(
                db.number("SELECT count(*) FROM \"T 1\"").await,
                2001,
                "{fault:?}"
            );
        }
    }
    s3.fail(Fault::None, 0);
    fails(&task(&db, &s3, "no-such-bucket"), "NoSuchBucket");
    let stranger = task(&db, &s3, BUCKET).env("AWS_SECRET_ACCESS_KEY", "wrong");
    fails(&stranger, "cannot be written");
    assert_eq!(db.number("SELECT count(*) FROM \"T 1\"").await, 2001);

    // While the store was out of reach files could not be removed; the next run does.
    let run = archive(&workspace);
    assert_eq!(run["rows"], 2000, "{run:#}");
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
    let listed = workspace
        .run(["archive", "list", "--output", "json"])
        .expect(0)
        .json();
    let mut known: Vec<String> = listed["archived"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|a| {
            a["manifest"]["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|f| f["path"].as_str().unwrap().to_owned())
        })
        .collect();
    known.sort();
    let there: Vec<String> = parquet_files(&s3.folder.path().join(BUCKET))
        .into_iter()
        .filter_map(|f| f.strip_prefix("deep/prefix/").map(str::to_owned))
        .collect();
    assert_eq!(there, known);
}

/// A key that may write and not read: the partition is not detached, and nothing that nobody knows of is left at the
/// place, so the next run and `verify` have nothing to tell.
#[tokio::test]
async fn a_place_that_gives_nothing_back_keeps_nothing() {
    keeps_nothing(Fault::WriteOnly, "cannot be read").await;
}

/// The same of one that takes what is written, and says that it has not.
#[tokio::test]
async fn a_place_that_denies_what_it_has_taken_keeps_nothing() {
    keeps_nothing(Fault::Denies, "cannot be written").await;
}

async fn keeps_nothing(fault: Fault, why: &str) {
    let db = fresh_database(17).await;
    let old = two_partitions(&db).await;
    let s3 = S3::start();
    let mut options = options();
    options["destination"] = json!({ "files": format!("s3://{BUCKET}/deep") });
    let workspace = s3.known_to(workspace(&db, &options));
    s3.fail(fault, 0);
    let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
    let run = output.expect(1).json()["runs"][0].clone();
    let error = run["steps"][0]["error"].as_str().unwrap();
    assert!(
        error.contains("public.\"E 1\" was not detached: ") && error.contains(why),
        "{run:#}"
    );
    assert!(exists(&db, "E 1").await);
    s3.fail(Fault::None, 0);
    workspace.run(["archive", "verify"]).expect(0);
    let listed = workspace.run(["archive", "list", "--output", "json"]);
    let listed = listed.expect(0).json();
    assert_eq!(listed["archived"], json!([]), "{listed:#}");
    assert!(listed["unknown"].is_null(), "{listed:#}");
    let run = archive(&workspace);
    let findings = run["findings"].as_array().unwrap().iter();
    assert!(
        findings
            .clone()
            .all(|f| f["code"] != "archive.unknown_files"),
        "{run:#}"
    );
    comes_back(&db, &workspace, &old).await;
}
