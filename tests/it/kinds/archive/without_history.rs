//! What lies beside the files is enough to list, prove and restore them.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use super::moved::manifests;
use super::undone::told;
use super::{archive, checksum, into_files, nothing_is_left, parquet_files, workspace};
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, S3};
use crate::support::servers::fresh_database;

/// Rows and a whole partition, the history lost, the files moved: everything
/// is found where they are now.
#[tokio::test]
async fn a_lost_history_loses_no_archive() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE e (id int, at timestamptz NOT NULL, tags text[]) PARTITION BY RANGE (at);
        CREATE TABLE e1 PARTITION OF e FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
        CREATE TABLE e2 PARTITION OF e FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2100-01-01 00:00+00');
        CREATE TABLE other (at date);
        INSERT INTO other VALUES ('2020-01-01');
        INSERT INTO e SELECT n, '2020-01-15 00:00+00'::timestamptz + n * interval '1 hour', ARRAY[n::text, NULL] FROM generate_series(1, 600) n").await;
    let old = checksum(&db, "SELECT * FROM e").await;
    let s3 = S3::start();
    let files = format!("s3://{BUCKET}/a");
    for table in ["e", "other"] {
        let options = json!({ "table": table, "column": "at", "older_than": "1y", "destination": { "files": files } });
        archive(&s3.known_to(workspace(&db, &options)));
    }
    let bucket = s3.folder.path().join(BUCKET);
    std::fs::rename(bucket.join("a"), bucket.join("b")).unwrap();
    let moved = format!("s3://{BUCKET}/b");

    // Another workspace, with a history that knows nothing.
    let fresh = s3.known_to(workspace(&db, &json!({ "table": "e", "column": "at", "older_than": "1y", "destination": { "files": files } })));
    let all = fresh
        .run(["archive", "list", "--files", &moved, "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(all["archived"].as_array().unwrap().len(), 3, "{all:#}");
    for one in all["archived"].as_array().unwrap() {
        assert_eq!(one["manifest"]["settled"], true, "{all:#}");
        assert_eq!(one["manifest"]["storage"], moved.as_str(), "{all:#}");
    }
    let verified = fresh
        .run(["archive", "verify", "--files", &moved])
        .expect(0)
        .stdout;
    assert!(verified.contains("3 of 3"), "{verified}");
    let several = fresh
        .run(["archive", "restore", "--files", &moved, "--into", "back"])
        .expect(2)
        .stderr;
    assert!(several.contains("several tables"), "{several}");
    fresh
        .run([
            "archive", "restore", "--files", &moved, "--from", "e", "--into", "back",
        ])
        .expect(0);
    assert_eq!(checksum(&db, "SELECT * FROM back").await, old);

    // A folder too deep, or not deep enough: which one is meant is said.
    for (folder, said) in [
        (format!("{moved}/table=public.other"), "begin with a folder"),
        (
            format!("{moved}/table=public.other/year=2020"),
            "no manifests below",
        ),
        (format!("s3://{BUCKET}"), "begin with a folder"),
    ] {
        for verb in [&["list"][..], &["verify"], &["restore", "--into", "wrong"]] {
            let args = [&["archive"], verb, &["--files", &folder]].concat();
            let told = fresh.run(args).expect(2).stderr;
            assert!(
                told.contains(said) && told.ends_with(&format!("--files {moved}\n")),
                "{folder}: {told}"
            );
        }
    }
    assert_eq!(
        db.number("SELECT count(*) FROM pg_tables WHERE tablename = 'wrong'")
            .await,
        0
    );

    let empty = format!("s3://{BUCKET}/nothing-here");
    let nothing = fresh
        .run(["archive", "list", "--files", &empty])
        .expect(2)
        .stderr;
    assert!(nothing.contains("no manifests below"), "{nothing}");
    let file = std::fs::read_dir(bucket.join("b/table=public.other"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.to_string_lossy().ends_with(".manifest.json"))
        .unwrap();
    std::fs::write(&file, "{}").unwrap();
    let broken = fresh
        .run(["archive", "list", "--files", &moved])
        .expect(0)
        .stdout;
    assert!(
        broken.contains("is no manifest that this version can read")
            && broken.contains("2 archived"),
        "{broken}"
    );
}

for_versions! {
    [pg18 = 18]
    /// A history that was lost does not see that archived rows are in their table again: what lies
    /// beside the files says it, before the first rows go. Nothing of it is changed, until a person
    /// says whose it is.
    async fn what_a_lost_history_archived_is_not_archived_twice(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 100) n; CREATE TABLE copy AS SELECT * FROM t").await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1y" }));
        archive(&workspace);
        let lost = |workspace: &crate::support::workspace::Workspace| {
            for end in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(format!("{}{end}", workspace.history().display()));
            }
        };
        lost(&workspace);
        db.execute("INSERT INTO t SELECT * FROM copy").await;
        let place = format!("file://{}", folder.path().display());
        let files = parquet_files(folder.path());
        for _ in 0..2 {
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            let said = output.json()["runs"][0]["steps"][0]["error"].as_str().unwrap().to_owned();
            assert!(said.contains("that the history does not know") && said.contains("would be archived twice"), "{said}");
            assert!(said.contains(&format!("maint archive adopt --files {place} --from public.t --target app")), "{said}");
            assert_eq!((parquet_files(folder.path()), db.number("SELECT count(*) FROM t").await), (files.clone(), 100));
        }
        let adopt = ["archive", "adopt", "--files", &place, "--from", "public.t", "--target", "app"];
        let adopted = workspace.run(adopt).expect(0).stdout;
        assert!(adopted.contains("1 archived, 100 rows, not known before"), "{adopted}");
        assert!(workspace.run(adopt).expect(0).stdout.contains("0 archived"));
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["settle", "archive"], vec!["archive.undone"]), Some(100)), "{run:#}");
        assert_eq!(manifests(&workspace).await.len(), 1);
        nothing_is_left(&workspace);
        workspace.run(["archive", "verify"]).expect(0);

        // Where the rows have gone, that is told, and the work goes on.
        lost(&workspace);
        db.execute("INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(201, 210) n").await;
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["settle", "archive"], vec!["archive.unknown_files"]), Some(10)), "{run:#}");
        let said = run["findings"][0]["message"].as_str().unwrap();
        assert!(said.contains("has 1 archive of this table, 100 rows"), "{said}");
        db.execute("INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(211, 220) n").await;
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["settle", "archive"], vec!["archive.unknown_files"]), Some(10)), "{run:#}");
    }
}

/// Copies all that is in a folder.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let into = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&into).unwrap();
            copy(&entry.path(), &into);
        } else {
            fs::copy(entry.path(), into).unwrap();
        }
    }
}

for_oldest_and_newest! {
    /// Files of the first format, with arrays as text and manifests that never
    /// say whether the rows have left.
    async fn files_of_an_earlier_version(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _) = into_files(&db, &json!({ "table": "e", "column": "at", "older_than": "1y" }));
        // A restore is noted beside the files: those of the checkout stay as they are.
        let folder = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kinds/archive/old-files"), folder.path());
        let files = format!("file://{}", folder.path().display());
        workspace.run(["archive", "verify", "--files", &files]).expect(0);
        let restore = ["archive", "restore", "--files", &files, "--into", "old"];
        let refused = workspace.run(restore).expect(2).stderr;
        assert!(refused.contains("--unsettled"), "{refused}");
        workspace.run(restore.into_iter().chain(["--unsettled"])).expect(0);
        db.execute(r#"CREATE TABLE expected (id int, at timestamptz, tags text[], n int[], m text[][], note text);
            INSERT INTO expected VALUES (1, '2020-01-05 00:00+00', '{a,"b c",NULL,"NULL"}', '{1,2,3}', '{{a,b},{c,d}}', 'plain'),
                (2, '2020-01-06 00:00+00', '{}', '[0:1]={7,8}', NULL, E'tab\tend'), (3, '2020-02-07 00:00+00', NULL, NULL, '{}', NULL)"#).await;
        assert_eq!(checksum(&db, "SELECT * FROM old").await, checksum(&db, "SELECT * FROM expected").await);
    }
}

/// The file of the history is moved away in mid-run: no row goes whose manifest would be kept only
/// in a file that nobody finds.
#[tokio::test]
async fn a_history_that_is_moved_away_in_mid_run_ends_the_deleting() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE e (id int PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO e SELECT n, '2020-01-15' FROM generate_series(1, 20000) n;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(42); RETURN NULL; END';
        CREATE TRIGGER wait AFTER DELETE ON e FOR EACH STATEMENT EXECUTE FUNCTION wait()").await;
    db.client
        .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let options = json!({ "table": "e", "column": "at", "older_than": "1y", "destination": { "files": files } });
    let workspace = workspace(&db, &options);
    let running = workspace
        .process(["run", "archive", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    let patience = Patience::until("the first batch to wait");
    while db.number(waiting).await == 0 {
        patience.pause().await;
    }
    let file = workspace.path().join("maint.db");
    fs::rename(&file, workspace.path().join("elsewhere.db")).unwrap();
    db.client
        .batch_execute("SELECT pg_catalog.pg_advisory_unlock(42)")
        .await
        .unwrap();
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap())
        .await
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(!ended.status.success(), "{said}");
    assert!(
        said.contains("was removed or replaced while it was in use"),
        "{said}"
    );
    let left = db.number("SELECT count(*) FROM e").await;
    assert!(left > 0, "{said}");
    // What had gone before is in the files, and once the history is back everything goes.
    fs::rename(workspace.path().join("elsewhere.db"), &file).unwrap();
    archive(&workspace);
    assert_eq!(db.number("SELECT count(*) FROM e").await, 0);
    workspace
        .run(["archive", "restore", "--files", &files, "--into", "back"])
        .expect(0);
    assert_eq!(
        db.number("SELECT count(DISTINCT id) FROM back").await,
        20000
    );
    assert_eq!(db.number("SELECT count(*) FROM back").await, 20000);
}
