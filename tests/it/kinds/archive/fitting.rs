//! Whether what was archived fits where it is to go, and is there to come back: told before and by the restore.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::database::task;
use super::{archive, into_files, parquet_files, workspace};
use crate::support::s3::{BUCKET, S3};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

async fn filled(db: &TestDatabase) {
    db.execute(
        "CREATE TABLE t (id int, at timestamptz NOT NULL, note varchar(50), amount numeric(10, 2));
         INSERT INTO t SELECT n, '2020-01-01', repeat('x', n % 6), n * 100 FROM generate_series(1, 60) n",
    )
    .await;
}

fn rule() -> Value {
    json!({ "table": "t", "column": "at", "older_than": "1y" })
}

fn restore(workspace: &Workspace, into: &str, more: &[&str], code: i32) -> String {
    let args = ["archive", "restore", "--from", "t", "--into", into];
    let said = workspace.run([&args[..], more].concat()).expect(code);
    format!("{}{}", said.stdout, said.stderr)
}

/// Columns that have become narrower: the dry run names them, and the restore says which values are too long or
/// too large, and of what type they were.
#[tokio::test]
async fn a_narrower_column_is_named() {
    let db = fresh_database(17).await;
    filled(&db).await;
    db.execute(
        "CREATE TABLE short (id int, at timestamptz, note varchar(3), amount numeric(10, 2));
         CREATE TABLE fixed (id int, at timestamptz, note char(4), amount numeric(10, 2));
         CREATE TABLE small (id int, at timestamptz, note varchar(50), amount numeric(5, 2));
         CREATE TABLE wider (id bigint, at timestamptz, note text, amount numeric)",
    )
    .await;
    let (workspace, _folder) = into_files(&db, &rule());
    archive(&workspace);
    for (into, column, is, was, why) in [
        (
            "short",
            "note",
            "character varying(3)",
            "character varying(50)",
            "20 values are too long for it",
        ),
        (
            "fixed",
            "note",
            "character(4)",
            "character varying(50)",
            "10 values are too long for it",
        ),
        (
            "small",
            "amount",
            "numeric(5,2)",
            "numeric(10,2)",
            "some are too large for it",
        ),
    ] {
        let said = restore(&workspace, into, &["--dry-run"], 0);
        assert!(
            said.contains(&format!(
                "column {column} of public.{into} is {is}, and was {was}"
            )),
            "{said}"
        );
        let document = workspace.run([
            "archive",
            "restore",
            "--from",
            "t",
            "--into",
            into,
            "--dry-run",
            "--output",
            "json",
        ]);
        let retyped = &document.expect(0).json()["retyped"];
        assert_eq!(
            *retyped,
            json!([{ "column": column, "type": is, "archived_as": was }])
        );
        let said = restore(&workspace, into, &[], 1);
        assert!(
            said.contains(&format!("column {column} of public.{into} is of type {is}")),
            "{said}"
        );
        assert!(
            said.contains(why) && said.contains(&format!("such as {was}")),
            "{said}"
        );
        assert_eq!(db.number(&format!("SELECT count(*) FROM {into}")).await, 0);
    }
    restore(&workspace, "wider", &[], 0);
    assert_eq!(db.number("SELECT count(*) FROM wider").await, 60);
}

/// A file that is gone or cut off: the dry run says that nothing would come back, as the restore does.
#[tokio::test]
async fn a_dry_run_misses_files() {
    let s3 = S3::start();
    let folder = tempfile::tempdir().unwrap();
    let on_disk = format!("file://{}", folder.path().display());
    let bucket = format!("s3://{BUCKET}/a");
    let below: [(String, PathBuf); 2] = [
        (on_disk, folder.path().to_owned()),
        (bucket, s3.folder.path().join(BUCKET).join("a")),
    ];
    for (place, below) in below {
        let db = fresh_database(17).await;
        filled(&db).await;
        let mut options = rule();
        options["destination"] = json!({ "files": place });
        let workspace = s3.known_to(workspace(&db, &options));
        archive(&workspace);
        assert!(restore(&workspace, "back", &["--dry-run"], 0).contains("60 rows would come back"));
        let file = below.join(&parquet_files(&below)[0]);
        let content = fs::read(&file).unwrap();
        fs::write(&file, &content[1..]).unwrap();
        let said = restore(&workspace, "back", &["--dry-run"], 1);
        assert!(
            said.contains("nothing would be restored: ") && said.contains("bytes, not"),
            "{place}: {said}"
        );
        assert!(!said.contains("would come back"), "{said}");
        fs::remove_file(&file).unwrap();
        let said = restore(&workspace, "back", &["--dry-run", "--output", "json"], 1);
        let document: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        let problem = document["problems"][0].as_str().unwrap();
        assert!(problem.contains("cannot be read"), "{place}: {document:#}");
        restore(&workspace, "back", &[], 1);
    }
}

/// Rows that an archive keeps in another database come back from no file: where they are is said.
#[tokio::test]
async fn what_is_in_a_table_is_told() {
    let (db, other) = (fresh_database(17).await, fresh_database(17).await);
    filled(&db).await;
    other
        .execute("CREATE TABLE old (id int, at timestamptz NOT NULL, note varchar(50), amount numeric(10, 2))")
        .await;
    let mut options = rule();
    options["destination"] = json!({ "database": "warehouse", "table": "old" });
    let workspace = task(&db, &other, options.clone());
    archive(&workspace);
    let said = restore(&workspace, "back", &[], 2);
    assert!(
        said.contains("public.old on warehouse, a table and no files, has 60 rows of public.t"),
        "{said}"
    );
    // And beside what is in files.
    filled_again(&db).await;
    let folder = tempfile::tempdir().unwrap();
    options["destination"] = json!({ "files": format!("file://{}", folder.path().display()) });
    workspace.file(
        "tasks/archive.yaml",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
    archive(&workspace);
    let said = restore(&workspace, "back", &[], 1);
    assert!(
        said.contains("public.old on warehouse, a table and no files, has 60 rows of public.t"),
        "{said}"
    );
    assert_eq!(db.number("SELECT count(*) FROM back").await, 7);
}

async fn filled_again(db: &TestDatabase) {
    db.execute("INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 7) n")
        .await;
}

/// What went home and left once more, changed, comes back once also without the history: it is noted beside the files.
#[tokio::test]
async fn what_went_home_is_noted_beside_the_files() {
    let db = fresh_database(17).await;
    filled(&db).await;
    let (workspace, folder) = into_files(&db, &rule());
    archive(&workspace);
    restore(&workspace, "t", &[], 0);
    db.execute("UPDATE t SET note = 'new' WHERE id = 1").await;
    archive(&workspace);
    let place = format!("file://{}", folder.path().display());
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", workspace.history().display()));
    }
    let restore = ["archive", "restore", "--files", &place, "--into", "back"];
    let said = workspace.run(restore).expect(0).stdout;
    assert!(
        said.contains("60 rows are back") && said.contains("was left out"),
        "{said}"
    );
    assert_eq!(db.number("SELECT count(DISTINCT id) FROM back").await, 60);
    assert_eq!(
        db.number("SELECT count(*) FROM back WHERE note = 'new'")
            .await,
        1
    );
}

/// What the restore itself would refuse without reading a row, its dry run refuses, too.
#[tokio::test]
async fn a_dry_run_fails_as_the_restore_would() {
    let db = fresh_database(17).await;
    filled(&db).await;
    db.execute(
        "CREATE TABLE more (LIKE t, owner int NOT NULL); CREATE TABLE less (LIKE t, owner int NOT NULL DEFAULT 7);
         CREATE TABLE stamped (LIKE t); CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.note = ''x''; RETURN new; END';
         CREATE TRIGGER stamps BEFORE INSERT ON stamped FOR EACH ROW EXECUTE FUNCTION stamp()",
    )
    .await;
    let (workspace, _folder) = into_files(&db, &rule());
    archive(&workspace);
    for (into, why) in [
        (
            "more",
            "column owner of public.more has to have a value, has no default",
        ),
        (
            "stamped",
            "nothing would be restored without `--disable-triggers`: trigger stamps",
        ),
    ] {
        let said = restore(&workspace, into, &["--dry-run"], 1);
        assert!(
            said.contains(why) && !said.contains("would come back"),
            "{said}"
        );
        restore(&workspace, into, &[], 1);
        assert_eq!(db.number(&format!("SELECT count(*) FROM {into}")).await, 0);
    }
    let said = restore(
        &workspace,
        "stamped",
        &["--dry-run", "--disable-triggers"],
        0,
    );
    assert!(said.contains("60 rows would come back"), "{said}");
    restore(&workspace, "stamped", &["--disable-triggers"], 0);
    restore(&workspace, "less", &["--again"], 0);
    assert_eq!(
        db.number("SELECT count(*) FROM less WHERE owner = 7").await,
        60
    );

    // A table that is to be made has the latest type, and older rows may not fit it.
    db.execute("ALTER TABLE t ALTER note TYPE int USING 5; INSERT INTO t SELECT n, '2020-01-01', n, 1 FROM generate_series(1, 5) n").await;
    archive(&workspace);
    let said = restore(&workspace, "new", &["--again", "--dry-run"], 0);
    assert!(said.contains("column note of public.new is integer, and was character varying(50) when rows were archived"), "{said}");
}

/// NOT NULL that holds from now on only: the table that is made for the rows takes those from before as well.
#[tokio::test]
async fn nulls_from_before_go_along() {
    let db = fresh_database(18).await;
    filled(&db).await;
    db.execute(
        "UPDATE t SET note = NULL WHERE id <= 20; ALTER TABLE t ADD NOT NULL note NOT VALID",
    )
    .await;
    let mut options = rule();
    options["destination"] = json!({ "table": "kept" });
    let workspace = workspace(&db, &options);
    archive(&workspace);
    assert_eq!(
        db.number("SELECT count(*) FROM kept WHERE note IS NULL")
            .await,
        20
    );
    assert_eq!(db.number("SELECT count(*) FROM kept").await, 60);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
}

/// A column of another type gives back what it was given, or nothing comes back: no digit, day, zone or word is
/// lost where the server has no way back from the one type to the other.
#[tokio::test]
async fn no_value_changes_with_its_type() {
    let db = fresh_database(17).await;
    db.execute("CREATE DOMAIN stamp AS timestamp; CREATE DOMAIN moment AS timestamptz;
        CREATE TABLE t (id int, at timestamptz NOT NULL, code text, w timestamp, ws timestamp[], j text, f text, v text,
            during tsrange, s stamp, days date[], long bigint, flag text);
        INSERT INTO t VALUES (1, '2020-01-01', '00123', '2020-05-05 03:04', '{2020-05-05 03:04}', '{\"a\":1,\"a\":2}',
            '0.10000000000000000001', 'the big Cats', '[2020-01-01 09:00,2020-01-01 10:00)', '2020-01-01 09:00', '{2020-01-01}', 7, 'yes')").await;
    let (workspace, _folder) = into_files(&db, &rule());
    archive(&workspace);
    for (n, (column, becomes)) in [
        ("code", "int"),
        ("code", "bigint"),
        ("code", "numeric"),
        ("w", "time"),
        ("w", "stamp"),
        ("w", "moment"),
        ("ws", "time[]"),
        ("ws", "timestamptz[]"),
        ("j", "jsonb"),
        ("f", "float8"),
        ("v", "tsvector"),
        ("during", "tstzrange"),
        ("s", "timestamptz"),
        ("s", "date"),
        ("days", "timestamptz[]"),
        ("flag", "bool"),
        ("long", "int"),
        ("code", "varchar(9)"),
    ]
    .into_iter()
    .enumerate()
    {
        let into = format!("into_{n}");
        db.execute(&format!("CREATE TABLE {into} (LIKE t); ALTER TABLE {into} DROP COLUMN {column}, ADD COLUMN {column} {becomes}")).await;
        let fits = matches!(
            (column, becomes),
            ("long", "int") | ("code", "varchar(9)") | ("w", "stamp")
        );
        let said = restore(&workspace, &into, &[], i32::from(!fits));
        assert_eq!(
            db.number(&format!("SELECT count(*) FROM {into}")).await,
            i64::from(fits),
            "{column} {becomes}: {said}"
        );
        assert!(
            fits || said.contains(&format!("{column} ")),
            "{column} {becomes}: {said}"
        );
    }
}
