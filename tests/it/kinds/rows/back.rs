//! What comes back is what went, once; what is read back is not trusted.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{run, workspace};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, cluster, connect, fresh_database};
use crate::support::workspace::Workspace;

async fn archived(db: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL); INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 10) g").await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
    let workspace = workspace(db, db, "archive", &options);
    run(&workspace, "archive", 0);
    (workspace, folder)
}

/// Columns that came, types that grew, columns that the table computes:
/// several archives come back into one table, and none of them twice.
#[tokio::test]
async fn schemas_that_grew_come_back_once() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    db.execute("ALTER TABLE t ADD COLUMN v text; INSERT INTO t SELECT g, now() - interval '2 years', 'v' || g FROM generate_series(11, 20) g").await;
    run(&workspace, "archive", 0);
    db.execute("ALTER TABLE t ALTER id TYPE bigint; INSERT INTO t VALUES (5000000000, now() - interval '2 years', 'big')").await;
    run(&workspace, "archive", 0);
    let restore = ["archive", "restore", "--from", "t", "--into", "back.t"];
    let dry = workspace
        .run(restore.into_iter().chain(["--dry-run"]))
        .expect(0)
        .stdout;
    assert!(
        dry.contains("21 rows would come back into back.t") && dry.contains("id bigint"),
        "{dry}"
    );
    assert_eq!(
        db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'back'")
            .await,
        0
    );
    workspace.run(restore).expect(0);
    assert_eq!(
        db.strings("SELECT count(*) || ' ' || count(v) || ' ' || sum(id) FROM back.t")
            .await,
        ["21 11 5000000210"]
    );
    // Twice is refused, unless it is asked for; a table that is another is filled.
    let twice = workspace.run(restore).expect(2).stderr;
    assert!(
        twice.contains("back already") && twice.contains("--again"),
        "{twice}"
    );
    assert_eq!(db.number("SELECT count(*) FROM back.t").await, 21);
    db.execute("DROP TABLE back.t; CREATE TABLE back.t (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, v text, twice bigint GENERATED ALWAYS AS (id * 2) STORED)").await;
    workspace.run(restore).expect(0);
    assert_eq!(
        db.number("SELECT count(*) FROM back.t WHERE twice = id * 2")
            .await,
        21
    );
    db.execute("CREATE TABLE back.less (id bigint, at timestamptz)")
        .await;
    let less = workspace
        .run(["archive", "restore", "--from", "t", "--into", "back.less"])
        .expect(1)
        .stderr;
    assert!(
        less.contains("has no column v") && less.contains("ADD COLUMN v text"),
        "{less}"
    );
}

/// Back in the table that they came from, where the task takes them again:
/// afterwards each row comes back once.
#[tokio::test]
async fn rows_that_went_twice_come_back_once() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    workspace
        .run(["archive", "restore", "--into", "t"])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 10);
    run(&workspace, "archive", 0);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    let back = workspace
        .run(["archive", "restore", "--into", "again"])
        .expect(0)
        .stdout;
    assert!(back.contains("was left out"), "{back}");
    assert_eq!(db.number("SELECT count(DISTINCT id) FROM again").await, 10);
    assert_eq!(db.number("SELECT count(*) FROM again").await, 10);
    // The manifests beside the files say the same.
    let files = format!("file://{}", folder.path().display());
    workspace
        .run([
            "archive", "restore", "--files", &files, "--into", "third", "--target", "app",
        ])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM third").await, 10);
}

/// Triggers that would change rows are named, and left out where that is asked for.
#[tokio::test]
async fn triggers_are_named() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    db.execute("CREATE TABLE stamped (id int, at timestamptz); CREATE FUNCTION stamps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.at = now(); RETURN new; END';
        CREATE TRIGGER stamp BEFORE INSERT ON stamped FOR EACH ROW EXECUTE FUNCTION stamps(); ALTER TABLE stamped ENABLE ALWAYS TRIGGER stamp").await;
    let restore = ["archive", "restore", "--into", "stamped"];
    let refused = workspace.run(restore).expect(1).stderr;
    assert!(
        refused.contains("trigger stamp") && refused.contains("--disable-triggers"),
        "{refused}"
    );
    assert_eq!(db.number("SELECT count(*) FROM stamped").await, 0);
    workspace
        .run(restore.into_iter().chain(["--disable-triggers"]))
        .expect(0);
    assert_eq!(
        db.number("SELECT count(*) FROM stamped WHERE at < now() - interval '1 year'")
            .await,
        10
    );
    assert_eq!(
        db.strings("SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'stamp'")
            .await,
        ["A"]
    );
}

/// Two databases in one folder: the manifests tell whose they are.
#[tokio::test]
async fn two_sources_in_one_folder() {
    let (one, two) = (fresh_database(17).await, fresh_database(17).await);
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    for (db, n) in [(&one, 1), (&two, 2)] {
        db.execute(&format!("CREATE TABLE t (id int, at timestamptz NOT NULL); INSERT INTO t VALUES ({n}, '2020-01-01')")).await;
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  shard_{n}: {{ engine: postgres, url: \"{}\" }}\n",
            db.url
        ));
        let task = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
        let workspace = workspace.task(
            "archive",
            &format!("kind: archive\ntarget: shard_{n}\noptions: {task}\n"),
        );
        run(&workspace, "archive", 0);
    }
    let fresh = Workspace::for_target(&one.url);
    let restore = ["archive", "restore", "--files", &files, "--into", "back"];
    let both = fresh.run(restore).expect(2).stderr;
    assert!(
        both.contains("shard_1") && both.contains("shard_2") && both.contains("--of"),
        "{both}"
    );
    fresh
        .run(restore.into_iter().chain(["--of", "shard_2"]))
        .expect(0);
    assert_eq!(one.number("SELECT sum(id) FROM back").await, 2);
}

fn manifest_of(folder: &std::path::Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder.join("table=public.t"))
        .unwrap()
        .map(|e| e.unwrap().path());
    entries
        .find(|p| p.to_string_lossy().ends_with(".manifest.json"))
        .unwrap()
}

/// Whoever can write beside the files runs nothing here, reads nothing
/// elsewhere, and makes nobody wait.
#[tokio::test]
async fn a_manifest_is_not_trusted() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    let files = format!("file://{}", folder.path().display());
    let path = manifest_of(folder.path());
    let good: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let pipe = folder.path().join("table=public.t/pipe.parquet");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.parquet")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("out.parquet")).unwrap();
    let injected =
        "integer); CREATE TABLE public.evidence(id int); CREATE TABLE public.x (id bigint";
    for (pointer, value, code, said) in [
        (
            "/columns/0/pg_type",
            json!(injected),
            2,
            "columns[0].pg_type",
        ),
        (
            "/columns/0/pg_type",
            json!("integer, more integer"),
            1,
            "does not know",
        ),
        (
            "/columns/0/pg_type",
            json!("no_such_type"),
            1,
            "does not know",
        ),
        (
            "/columns/0/form",
            json!({ "decimal128": { "precision": 99, "scale": 1 } }),
            2,
            "columns[0].form",
        ),
        (
            "/files/0/path",
            json!("../../etc/hostname"),
            2,
            "files[0].path",
        ),
        (
            "/files/0/path",
            json!("table=public.t/pipe.parquet"),
            1,
            "no plain file",
        ),
        (
            "/files/0/path",
            json!("zero.parquet"),
            1,
            "outside of the folder",
        ),
        (
            "/files/0/path",
            json!("out.parquet"),
            1,
            "outside of the folder",
        ),
        ("/files/0/bytes", json!(1_i64 << 50), 2, "files[0].bytes"),
        ("/files/0/bytes", json!(7), 1, "not 7 as written"),
        ("/files/0/sha256", json!("ff".repeat(32)), 1, "SHA-256"),
        ("/rows", json!(11), 2, "`rows`"),
        (
            "/id",
            json!("0199c0de-0000-7000-8000-000000000001"),
            2,
            "`id`",
        ),
    ] {
        let mut manifest = good.clone();
        *manifest.pointer_mut(pointer).unwrap() = value.clone();
        std::fs::write(&path, manifest.to_string()).unwrap();
        let output = workspace.run([
            "archive", "restore", "--files", &files, "--target", "app", "--into", "back",
        ]);
        let stderr = output.expect(code).stderr;
        assert!(stderr.contains(said), "{pointer} {value}: {stderr}");
        assert_eq!(
            db.number("SELECT count(*) FROM pg_class WHERE relname IN ('evidence', 'x', 'back')")
                .await,
            0
        );
    }
    std::fs::write(&path, good.to_string()).unwrap();
    workspace
        .run([
            "archive", "restore", "--files", &files, "--target", "app", "--into", "back",
        ])
        .expect(0);
}

/// Files that are gone are told, also where there is nothing to do.
#[tokio::test]
async fn lost_files_are_told() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    assert_eq!(run(&workspace, "archive", 0)["findings"], json!([]));
    std::fs::remove_dir_all(folder.path().join("table=public.t")).unwrap();
    let told = super::attempt(&workspace, "archive");
    let message = super::finding(&told, "archive.files_missing");
    assert!(
        message.contains("10 rows") && message.contains("nothing there"),
        "{message}"
    );
}

/// A pod's own disk goes with the pod: a volume is claimed, or the export refuses.
#[test]
fn files_on_a_pods_disk_need_a_volume() {
    let exported = |files: &str| {
        let workspace = Workspace::new(
            "history: \"${HISTORY}\"\ntargets:\n  app: { engine: postgres, url: \"${URL}\" }\nschedules:\n  monthly: { cron: \"0 1 1 * *\", tasks: [archive] }\n",
        )
        .env("HISTORY", "postgres://h/history")
        .env("URL", "postgres://h/app");
        let task = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
        workspace
            .task(
                "archive",
                &format!("kind: archive\ntarget: app\noptions: {task}\n"),
            )
            .run(["export", "kubernetes"])
    };
    let claimed = exported("file:///var/lib/maint/archive").expect(0).stdout;
    assert!(
        claimed.contains("PersistentVolumeClaim") && claimed.contains("mountPath: /var/lib/maint"),
        "{claimed}"
    );
    let refused = exported("file:///srv/archive").expect(2).stderr;
    assert!(
        refused.contains("/srv/archive would be lost with each pod") && refused.contains("s3://"),
        "{refused}"
    );
    assert!(
        !exported("s3://bucket/x")
            .expect(0)
            .stdout
            .contains("PersistentVolumeClaim")
    );
}

/// Columns that are called as folders are keep their values for every reader.
#[tokio::test]
async fn folders_are_not_called_as_columns_are() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE f (\"table\" text, year int, \"Month\" int, at date); INSERT INTO f VALUES ('a', 1, 2, '2020-05-05')").await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let options = json!({ "table": "f", "column": "at", "older_than": "1y", "destination": { "files": files } });
    let workspace = workspace(&db, &db, "archive", &options);
    run(&workspace, "archive", 0);
    let below = folder.path().join("table_=public.f/year_=2020/month_=05");
    assert_eq!(
        std::fs::read_dir(&below).unwrap().count(),
        1,
        "{}",
        below.display()
    );
    for files in [vec![], vec!["--files", &files]] {
        workspace
            .run(["archive", "verify"].into_iter().chain(files.clone()))
            .expect(0);
    }
    workspace
        .run([
            "archive", "restore", "--files", &files, "--target", "app", "--into", "back",
        ])
        .expect(0);
    assert_eq!(
        db.strings("SELECT \"table\" || year || \"Month\" FROM back")
            .await,
        ["a12"]
    );
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

for_oldest_and_newest! {
    /// Two restores at once: one brings the rows back, the other waits, and
    /// finds that they are back.
    async fn two_at_once(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _folder) = archived(&db).await;
        // Both have looked, and neither can store, while somebody holds the table.
        let mut holder = db.connect().await;
        let holder = holder.transaction().await.unwrap();
        holder.batch_execute("LOCK TABLE t IN EXCLUSIVE MODE").await.unwrap();
        let restore = || {
            workspace.process(["archive", "restore", "--from", "t", "--into", "t"])
                .stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [restore(), restore()];
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint archive restore%' AND wait_event_type = 'Lock'";
        let patience = Patience::until("both restores to wait for a lock");
        while db.number(waiting).await < 2 {
            patience.pause().await;
        }
        holder.commit().await.unwrap();
        let mut codes = Vec::new();
        for process in both {
            let ended = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            let code = ended.status.code().unwrap();
            assert!(code == 0 || said.contains("another restore has brought"), "{said}");
            codes.push(code);
        }
        codes.sort_unstable();
        assert_eq!(codes, [0, 1]);
        assert_eq!(db.strings("SELECT count(*) || ' ' || count(DISTINCT id) FROM t").await, ["10 10"]);
    }
}

for_oldest_and_newest! {
    /// The table was swapped for a copy, and then the database got another
    /// name: whether the rows are back is not known, and nothing is doubled.
    async fn after_a_swap_and_another_name(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, folder) = archived(&db).await;
        let restore = ["archive", "restore", "--from", "t", "--into", "t"];
        workspace.run(restore).expect(0);
        db.execute("CREATE TABLE t_new AS TABLE t; DROP TABLE t; ALTER TABLE t_new RENAME TO t").await;
        let files = format!("file://{}", folder.path().display());
        let by_files = ["archive", "restore", "--files", &files, "--target", "app", "--into", "t"];
        for ask in [&restore[..], &by_files[..]] {
            let refused = workspace.run(ask).expect(2).stderr;
            assert!(refused.contains("may be back already") && refused.contains("--again"), "{refused}");
        }
        assert_eq!(db.number("SELECT count(*) FROM t").await, 10);
        let TestDatabase { url, name, client, .. } = db;
        drop(client);
        let admin = connect(&cluster(major).url("postgres")).await;
        admin.batch_execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await.unwrap();
        let rename = format!("ALTER DATABASE {name} RENAME TO {name}_2");
        let patience = Patience::until("the database to be free");
        while admin.batch_execute(&rename).await.is_err() {
            patience.pause().await;
        }
        let renamed = url.replace(&name, &format!("{name}_2"));
        workspace.file("schedules.yaml", &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{renamed}\" }}\n"
        ));
        let refused = workspace.run(restore).expect(2).stderr;
        assert!(refused.contains("may be back already"), "{refused}");
        let client = connect(&renamed).await;
        let count = async || -> i64 { client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0) };
        assert_eq!(count().await, 10);
        // It is known to be right.
        workspace.run(restore.into_iter().chain(["--again"])).expect(0);
        assert_eq!(count().await, 20);
    }
}

/// What the table refuses is said with the rule, that nothing was restored, and what helps; a table
/// that takes them gets them afterwards.
#[tokio::test]
async fn what_a_table_refuses_is_told_with_what_helps() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    db.execute("CREATE TABLE parents (id int PRIMARY KEY);
        CREATE TABLE lacking (id int, at timestamptz, more int NOT NULL);
        CREATE TABLE pointing (id int REFERENCES parents, at timestamptz);
        CREATE TABLE late (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED, at timestamptz);
        CREATE TABLE choosy (id int CONSTRAINT small CHECK (id < 5), at timestamptz);
        CREATE TABLE full_of_them (id int PRIMARY KEY, at timestamptz); INSERT INTO full_of_them SELECT g FROM generate_series(3, 4) g;
        CREATE TABLE by_id (id int, at timestamptz) PARTITION BY RANGE (id); CREATE TABLE by_id_1 PARTITION OF by_id FOR VALUES FROM (1) TO (5)").await;
    for (into, told) in [
        (
            "lacking",
            vec![
                "column more of public.lacking has to have a value",
                "DROP NOT NULL",
            ],
        ),
        (
            "pointing",
            vec!["the foreign key pointing_id_fkey", "bring those back first"],
        ),
        ("late", vec!["the foreign key late_id_fkey"]),
        ("choosy", vec!["the check small"]),
        (
            "full_of_them",
            vec!["full_of_them_pkey", "may be there already"],
        ),
        (
            "by_id",
            vec![
                "has no partition for some",
                "partitions for the values of these rows (RANGE (id))",
            ],
        ),
        (
            "pg_catalog.x",
            vec!["the schema pg_catalog is the server's own"],
        ),
        ("pg_temp.x", vec!["the schema pg_temp is the server's own"]),
    ] {
        let said = workspace
            .run(["archive", "restore", "--from", "t", "--into", into])
            .expect(1)
            .stderr;
        assert!(said.contains("nothing was restored: "), "{into}: {said}");
        assert_eq!(
            said.matches("nothing was restored").count(),
            1,
            "{into}: {said}"
        );
        for words in told {
            assert!(said.contains(words), "{into}: {said}");
        }
    }
    let held = "SELECT (SELECT count(*) FROM lacking) + (SELECT count(*) FROM pointing) + (SELECT count(*) FROM late)
        + (SELECT count(*) FROM choosy) + (SELECT count(*) FROM full_of_them) + (SELECT count(*) FROM by_id)";
    assert_eq!(db.number(held).await, 2);
    db.execute("ALTER TABLE choosy DROP CONSTRAINT small").await;
    workspace
        .run(["archive", "restore", "--from", "t", "--into", "choosy"])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM choosy").await, 10);
}
