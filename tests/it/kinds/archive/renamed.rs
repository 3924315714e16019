//! A target that goes by another name now has not lost what was archived from it.

use serde_json::json;

use super::{archive, checksum, into_files};
use crate::support::servers::fresh_database;

for_each_version! {
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
        for file in ["schedules.yaml", "tasks/archive.yaml"] {
            let content = std::fs::read_to_string(workspace.path().join(file)).unwrap();
            workspace.file(file, &content.replace("app:", "prod:").replace("target: app", "target: prod"));
        }
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

for_each_version! {
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
