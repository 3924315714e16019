//! A target that goes by another name now has not lost what was archived from it.

use serde_json::json;

use super::moved::{know, manifests, manifests_of};
use super::undone::told;
use super::{archive, checksum, into_files, nothing_is_left, parquet_files};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Has the target `app` the name `prod`.
fn rename(workspace: &Workspace) {
    for file in ["schedules.yaml", "tasks/archive.yaml"] {
        let content = std::fs::read_to_string(workspace.path().join(file)).unwrap();
        let content = content.replace("app:", "prod:");
        workspace.file(file, &content.replace("target: app", "target: prod"));
    }
}

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 100) n; INSERT INTO t VALUES (0, now());
    CREATE TABLE copy AS SELECT * FROM t WHERE id > 0";

for_versions! {
    [pg17 = 17]
    /// The runs of a target that has another name now look after what it archived before: batches
    /// that were interrupted, and those that a server which was set back has again.
    async fn a_renamed_target_looks_after_its_batches(major: u32) {
        let db = fresh_database(major).await;
        db.execute(ROWS).await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1y" }));
        archive(&workspace);
        let (key, mut known) = manifests(&workspace).await.remove(0);
        let files = parquet_files(folder.path());
        // One was interrupted before it had committed, and the rows are there.
        known["settled"] = json!(false);
        know(&workspace, &key, &known).await;
        db.execute("INSERT INTO t SELECT * FROM copy").await;
        rename(&workspace);
        let plan = workspace.run(["plan", "archive", "--output", "json"]).expect(0).json();
        assert!(plan.to_string().contains("under another target name"), "{plan:#}");
        assert_eq!(manifests(&workspace).await.len(), 1, "a plan changes nothing");
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["settle", "archive"], vec![]), Some(100)), "{run:#}");
        assert!(files.iter().all(|file| !folder.path().join(file).exists()), "{files:?}");
        assert_eq!(manifests(&workspace).await, []);
        assert_eq!(manifests_of(&workspace, "prod").await.len(), 1);
        nothing_is_left(&workspace);
        let listed = workspace.run(["archive", "list"]).expect(0).stdout;
        assert!(listed.contains("prod") && !listed.contains("not configured any more"), "{listed}");
        workspace.run(["archive", "verify"]).expect(0);

        // Back under its old name, the rows are there again.
        for file in ["schedules.yaml", "tasks/archive.yaml"] {
            let content = std::fs::read_to_string(workspace.path().join(file)).unwrap();
            workspace.file(file, &content.replace("prod", "app"));
        }
        db.execute("INSERT INTO t SELECT * FROM copy").await;
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["settle", "archive"], vec!["archive.undone"]), Some(100)), "{run:#}");
        assert_eq!((manifests(&workspace).await.len(), manifests_of(&workspace, "prod").await.len()), (1, 0));
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg18 = 18]
    /// A copy of a database has its system identifier, and rows that were archived from the original.
    /// What the original has archived is not the copy's to settle: that is said, and a person may say
    /// that it is no copy.
    async fn a_copy_is_not_taken_for_a_renamed_target(major: u32) {
        let db = fresh_database(major).await;
        db.execute(ROWS).await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1y" }));
        archive(&workspace);
        let (key, known) = manifests(&workspace).await.remove(0);
        let files = parquet_files(folder.path());
        // It has the rows that the original had when it was copied.
        db.execute("INSERT INTO t SELECT * FROM copy").await;
        rename(&workspace);
        let server = known["server"].as_str().unwrap();
        for (field, value) in [("since", json!("2020-01-01 00:00:00.000000")), ("since", json!(null)), ("server", json!(format!("{server}2")))] {
            let mut other = known.clone();
            other[field] = value;
            know(&workspace, &key, &other).await;
            let plan = workspace.run(["plan", "archive", "--output", "json"]).expect(0).json().to_string();
            assert!(plan.contains("archive.other_name") && !plan.contains("settle"), "{field}: {plan}");
        }
        // Of another database, nothing is said.
        let mut other = known.clone();
        other["database"] = json!("another");
        know(&workspace, &key, &other).await;
        let plan = workspace.run(["plan", "archive", "--output", "json"]).expect(0).json().to_string();
        assert!(!plan.contains("archive.other_name") && !plan.contains("settle"), "{plan}");

        let mut other = known.clone();
        other["since"] = json!("2020-01-01 00:00:00.000000");
        know(&workspace, &key, &other).await;
        let said = workspace.run(["archive", "adopt", "app", "--target", "nobody"]).expect(2).stderr;
        assert!(said.contains("nobody"), "{said}");
        let said = workspace.run(["archive", "adopt", "prod", "--target", "prod"]).expect(2).stderr;
        assert!(said.contains("is configured"), "{said}");
        let adopted = workspace.run(["archive", "adopt", "app", "--target", "prod"]).expect(0).stdout;
        assert!(adopted.contains("1 archived, 100 rows"), "{adopted}");
        assert_eq!((manifests(&workspace).await.len(), manifests_of(&workspace, "prod").await.len()), (0, 1));
        // By another name again, and nobody says anything: the copy is archived beside it.
        for file in ["schedules.yaml", "tasks/archive.yaml"] {
            let content = std::fs::read_to_string(workspace.path().join(file)).unwrap();
            workspace.file(file, &content.replace("prod", "test"));
        }
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["archive"], vec!["archive.other_name"]), Some(100)), "{run:#}");
        let said = run["findings"][0]["message"].as_str().unwrap();
        assert!(said.contains("100 rows of public.t") && said.contains("the target name prod") && said.contains("maint archive adopt prod --target"), "{said}");
        assert!(files.iter().all(|file| folder.path().join(file).exists()), "{files:?}");
        assert_eq!(manifests_of(&workspace, "prod").await[0].1, other);
        nothing_is_left(&workspace);
        workspace.run(["archive", "verify"]).expect(0);
    }
}

for_versions! {
    [pg15 = 15]
    /// Listed, proved, and brought back, once, into the target that is named.
    async fn a_renamed_target_keeps_its_archives(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int, at timestamptz NOT NULL);
            INSERT INTO e SELECT n, '2020-01-15 00:00+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 600) n").await;
        let old = checksum(&db, "SELECT * FROM e").await;
        let (workspace, _folder) = into_files(&db, &json!({ "table": "e", "column": "at", "older_than": "1y" }));
        archive(&workspace);
        assert_eq!(db.number("SELECT count(*) FROM e").await, 0);
        // Brought back once under the old name.
        workspace.run(["archive", "restore", "--from", "e", "--into", "before"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM before").await, old);
        rename(&workspace);
        let listed = workspace.run(["archive", "list"]).expect(0).stdout;
        assert!(listed.contains("of the target app, which is not configured any more"), "{listed}");
        let all = workspace.run(["archive", "list", "--output", "json"]).expect(0).json();
        let each = all["archived"].as_array().unwrap();
        assert!(!each.is_empty() && each.iter().all(|one| one["target"] == "app" && one["configured"] == false), "{all:#}");
        let rows: i64 = each.iter().map(|one| one["manifest"]["rows"].as_i64().unwrap()).sum();
        assert_eq!(rows, 600);
        for narrowed in [["--of", "app"], ["--target", "app"], ["--from", "e"]] {
            let verified = workspace.run(["archive", "verify"].iter().chain(&narrowed)).expect(0).stdout;
            assert!(verified.contains(&format!("{} of {} are as written", each.len(), each.len())), "{verified}");
            assert!(verified.contains("not configured any more"), "{verified}");
        }
        let none = workspace.run(["archive", "list", "--target", "prod", "--output", "json"]).expect(0).json();
        assert_eq!(none["archived"], json!([]));
        let unknown = workspace.run(["archive", "list", "--of", "nobody"]).expect(2).stderr;
        assert!(unknown.contains("nobody"), "{unknown}");
        // Into which target is for a person to say.
        let whereto = workspace.run(["archive", "restore", "--from", "e", "--into", "back"]).expect(2).stderr;
        assert!(whereto.contains("of the target app, which is not configured any more") && whereto.contains("--of app --target"), "{whereto}");
        let restore = ["archive", "restore", "--of", "app", "--target", "prod", "--into"];
        // What went back under the old name is known to be back.
        let again = workspace.run(restore.iter().chain(&["before"])).expect(2).stderr;
        assert!(again.contains("back already"), "{again}");
        workspace.run(restore.iter().chain(&["back"])).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
        let again = workspace.run(restore.iter().chain(&["back"])).expect(2).stderr;
        assert!(again.contains("back already"), "{again}");
        assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
    }
}

for_oldest_and_newest! {
    /// Rows of partitions that have left find none in the table that they came from: which were there is said, as
    /// statements that make them again.
    async fn partitions_that_are_missing_are_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE \"E 1\" PARTITION OF e FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
            CREATE TABLE e2 PARTITION OF e FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2020-03-01 00:00+00');
            CREATE TABLE e3 PARTITION OF e FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2100-01-01 00:00+00');
            INSERT INTO e SELECT n, '2020-01-15 00:00+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 900) n;
            INSERT INTO e VALUES (0, now())").await;
        let old = checksum(&db, "SELECT * FROM e").await;
        let (workspace, _folder) = into_files(&db, &json!({ "table": "e", "column": "at", "older_than": "1y" }));
        archive(&workspace);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'e'::regclass").await, 1);
        let restore = ["archive", "restore", "--from", "e", "--into", "e"];
        let told = workspace.run(restore).expect(1).stderr;
        let statements: Vec<&str> = told.split("; ").filter_map(|part| part.find("CREATE TABLE").map(|at| &part[at..])).map(|one| one.split(". Or").next().unwrap()).collect();
        assert_eq!(statements.len(), 2, "{told}");
        assert!(statements[0].starts_with("CREATE TABLE public.\"E 1\" PARTITION OF public.e FOR VALUES FROM"), "{told}");
        assert_eq!(db.number("SELECT count(*) FROM e").await, 1, "all or nothing");
        db.execute(&statements.join("; ")).await;
        workspace.run(restore).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM e").await, old);
    }
}
