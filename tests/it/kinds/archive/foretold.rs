//! What keeps archived rows from coming back is said by the dry run in the words of the restore, where the catalog
//! and the manifests tell it; and each reason is the one that holds.

use serde_json::json;

use super::{archive, into_files};
use crate::settings::role;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

async fn archived(db: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    db.execute(
        "CREATE TABLE t (id int, at timestamptz NOT NULL, bits bit(8));
         INSERT INTO t SELECT n, '2020-03-01 00:00+00'::timestamptz + n * interval '1 day', n::bit(8) FROM generate_series(1, 60) n",
    )
    .await;
    let rule = json!({ "table": "t", "column": "at", "older_than": "1y" });
    let (workspace, folder) = into_files(db, &rule);
    assert_eq!(archive(&workspace)["rows"], 60);
    (workspace, folder)
}

/// What is said; without its colours and where it stands.
fn restore(workspace: &Workspace, into: &str, dry: bool, code: i32) -> String {
    let mut args = vec!["archive", "restore", "--from", "t", "--into", into];
    args.extend(dry.then_some("--dry-run"));
    let said = workspace.run(args).expect(code);
    format!("{}{}", said.stdout, said.stderr)
}

/// Both say the same, with these words, and end with code 1.
fn both(workspace: &Workspace, into: &str, words: &[&str]) {
    let (dry, real) = (
        restore(workspace, into, true, 1),
        restore(workspace, into, false, 1),
    );
    assert_eq!(dry, real, "{into}");
    for one in words {
        assert!(real.contains(one), "{into}: {one}: {real}");
    }
}

for_versions! {
    [pg18 = 18]
    /// Rights: of the database, its schemas, the table and its policies; each that lacks is named, and no other.
    async fn rights_that_lack_are_named(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _folder) = archived(&db).await;
        let (keeper, url) = role(&db, "").await;
        let name = &db.name;
        db.execute(&format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {keeper};
            REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {keeper};
            CREATE TABLE plain (LIKE t); CREATE TABLE shut (LIKE t); CREATE TABLE choosy (LIKE t);
            ALTER TABLE shut ENABLE ROW LEVEL SECURITY; ALTER TABLE choosy ENABLE ROW LEVEL SECURITY;
            CREATE POLICY a_few ON choosy TO {keeper} USING (true) WITH CHECK (id < 5)")).await;
        workspace.file("schedules.yaml", &format!("history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"));
        let temporary = format!("GRANT TEMPORARY ON DATABASE {name} TO {keeper}");
        let (select, insert) = (format!("GRANT SELECT ON public.plain TO {keeper}"), format!("GRANT INSERT ON public.plain TO {keeper}"));
        both(&workspace, "plain", &[&temporary, &select, &insert]);
        db.execute(&format!("GRANT SELECT, INSERT ON plain, shut, choosy TO {keeper}")).await;
        both(&workspace, "plain", &[&temporary]);
        assert!(!restore(&workspace, "plain", false, 1).contains("GRANT INSERT"));
        db.execute(&temporary).await;
        both(&workspace, "fresh", &[&format!("GRANT CREATE ON SCHEMA public TO {keeper}")]);
        both(&workspace, "nowhere.fresh", &[&format!("GRANT CREATE ON DATABASE {name} TO {keeper}")]);
        both(&workspace, "shut", &["public.shut has row-level security", "BYPASSRLS"]);
        // What a policy says of each row is seen by the restore itself.
        restore(&workspace, "choosy", true, 0);
        let said = restore(&workspace, "choosy", false, 1);
        assert!(said.contains("public.choosy has row-level security") && !said.contains("GRANT"), "{said}");
        // Rows are compared in the partitions that they came to.
        db.execute(&format!("CREATE TABLE parts (LIKE t) PARTITION BY RANGE (at); CREATE TABLE part PARTITION OF parts DEFAULT; GRANT SELECT, INSERT ON parts TO {keeper}")).await;
        let said = restore(&workspace, "parts", false, 1);
        assert!(said.contains(&format!("GRANT SELECT ON public.part TO {keeper}")), "{said}");
        restore(&workspace, "plain", true, 0);
        restore(&workspace, "plain", false, 0);
        assert_eq!(db.number("SELECT count(*) FROM plain").await, 60);
        db.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).await;
    }
}

/// What the policies of a table are, and whether the dry run knows that they refuse (the restore does) or what they say
/// (the restore takes the rows); or only the restore sees it.
const POLICIES: [(&str, Option<bool>); 7] = [
    (
        "CREATE POLICY i ON p FOR INSERT WITH CHECK (true); CREATE POLICY s ON p FOR SELECT USING (false)",
        Some(false),
    ),
    (
        "CREATE POLICY a ON p USING (false) WITH CHECK (true)",
        Some(false),
    ),
    (
        "CREATE POLICY a ON p USING (true); CREATE POLICY no ON p AS RESTRICTIVE FOR SELECT USING (false)",
        Some(false),
    ),
    (
        "CREATE POLICY i ON p FOR INSERT WITH CHECK (true); CREATE POLICY s ON p FOR SELECT USING (id < 5)",
        None,
    ),
    (
        "CREATE POLICY a ON p USING (true); CREATE POLICY no ON p AS RESTRICTIVE FOR SELECT USING (id < 0)",
        None,
    ),
    (
        "CREATE POLICY a ON p USING (true); CREATE POLICY of_others ON p AS RESTRICTIVE FOR SELECT TO pg_monitor USING (false)",
        Some(true),
    ),
    (
        "CREATE POLICY i ON p FOR INSERT WITH CHECK (true); CREATE POLICY s ON p FOR SELECT USING (false); CREATE POLICY t ON p FOR SELECT USING (true)",
        Some(true),
    ),
];

for_versions! {
    [pg14 = 14]
    /// A table, or a partition in which rows would be compared, whose policies hide rows from the role.
    async fn policies_that_hide_rows_are_foretold(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _folder) = archived(&db).await;
        let (keeper, url) = role(&db, "").await;
        workspace.file("schedules.yaml", &format!("history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"));
        for (policies, known) in POLICIES {
            db.execute(&format!("DROP TABLE IF EXISTS p; CREATE TABLE p (LIKE t); GRANT SELECT, INSERT ON p TO {keeper};
                ALTER TABLE p ENABLE ROW LEVEL SECURITY; {policies}")).await;
            match known {
                Some(false) => both(&workspace, "p", &["public.p has row-level security", "BYPASSRLS"]),
                Some(true) => {
                    let said = restore(&workspace, "p", true, 0);
                    assert!(said.contains("60 rows would come back into public.p") && !said.contains("as far as it was looked at"), "{policies}: {said}");
                    restore(&workspace, "p", false, 0);
                    assert_eq!(db.number("SELECT count(*) FROM p").await, 60, "{policies}");
                }
                None => {
                    let said = restore(&workspace, "p", true, 0);
                    assert!(said.contains("as far as it was looked at") && said.contains("the policies of public.p"), "{policies}: {said}");
                    let said = restore(&workspace, "p", false, 1);
                    assert!(said.contains("public.p has row-level security"), "{policies}: {said}");
                    assert_eq!(db.number("SELECT count(*) FROM p").await, 0, "{policies}");
                }
            }
        }
        // Rows are compared in the partition that they came to, whose own policies hold there, and hide them.
        db.execute(&format!("CREATE TABLE parts (LIKE t) PARTITION BY RANGE (at); CREATE TABLE part PARTITION OF parts DEFAULT; GRANT SELECT, INSERT ON parts, part TO {keeper};
            ALTER TABLE part ENABLE ROW LEVEL SECURITY; CREATE POLICY s ON part USING (false)")).await;
        let said = restore(&workspace, "parts", true, 0);
        assert!(said.contains("as far as it was looked at") && said.contains("the policies of public.part "), "{said}");
        let said = restore(&workspace, "parts", false, 1);
        assert!(said.contains("nothing was restored") && said.contains("public.part") && said.contains("row-level security"), "{said}");
        assert_eq!(db.number("SELECT count(*) FROM parts").await, 0);
        // A partition that may not be read at all is told by both.
        db.execute(&format!("ALTER TABLE part DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON part FROM {keeper}")).await;
        let grant = format!("GRANT SELECT ON public.part TO {keeper}");
        for (dry, code) in [(true, 0), (false, 1)] {
            let said = restore(&workspace, "parts", dry, code);
            assert!(said.contains(&grant), "{said}");
        }
        db.execute(&grant).await;
        restore(&workspace, "parts", false, 0);
        assert_eq!(db.number("SELECT count(*) FROM parts").await, 60);
        db.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).await;
    }
}

for_versions! {
    [pg17 = 17]
    /// Partitions that are missing, and a partition that takes others.
    async fn rows_without_a_place_are_told(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _folder) = archived(&db).await;
        db.execute("CREATE TABLE parts (LIKE t) PARTITION BY RANGE (at);
            CREATE TABLE parts_march PARTITION OF parts FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-04-01 00:00+00')").await;
        both(&workspace, "parts", &["public.parts has no partition for some of the rows", "partitions for 2020-03-02 00:00:00 to 2020-04-30 00:00:00"]);
        both(&workspace, "parts_march", &["public.parts_march is a partition of public.parts", "FOR VALUES FROM", "--into public.parts"]);
        db.execute("CREATE TABLE parts_rest PARTITION OF parts FOR VALUES FROM ('2020-04-01 00:00+00') TO ('2020-06-01 00:00+00')").await;
        restore(&workspace, "parts", true, 0);
        restore(&workspace, "parts", false, 0);
        assert_eq!(db.number("SELECT count(*) FROM parts").await, 60);
        // Bounds of several columns are not judged, and that is said, whatever becomes of it.
        db.execute("CREATE TABLE wide (LIKE t) PARTITION BY RANGE (at, id);
            CREATE TABLE wide_all PARTITION OF wide FOR VALUES FROM ('2020-03-01 00:00+00', 0) TO ('2020-06-01 00:00+00', 0);
            CREATE TABLE short (LIKE t) PARTITION BY RANGE (at, id);
            CREATE TABLE short_some PARTITION OF short FOR VALUES FROM ('2020-03-01 00:00+00', 0) TO ('2020-03-20 00:00+00', 0)").await;
        for (into, code) in [("wide", 0), ("short", 1)] {
            let said = restore(&workspace, into, true, 0);
            assert!(said.contains("as far as it was looked at") && said.contains("RANGE (at, id)"), "{into}: {said}");
            let said = restore(&workspace, into, false, code);
            assert_eq!(said.contains("has no partition for some of the rows"), code == 1, "{into}: {said}");
        }
        assert_eq!(db.number("SELECT (SELECT count(*) FROM wide) - (SELECT count(*) FROM short)").await, 60);
    }
}

/// Bits of another length name their column; a table that a crash empties takes the rows, and that is told.
#[tokio::test]
async fn other_lengths_and_tables_that_do_not_last() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    db.execute("CREATE TABLE narrow (id int, at timestamptz, bits bit(3)); CREATE UNLOGGED TABLE fleeting (LIKE t);
        CREATE TABLE computed (id int GENERATED ALWAYS AS (1) STORED, at timestamptz GENERATED ALWAYS AS ('2020-01-01 00:00+00'::timestamptz) STORED,
            bits bit(8) GENERATED ALWAYS AS ('00000000'::bit(8)) STORED)").await;
    let said = restore(&workspace, "narrow", false, 1);
    assert!(
        said.contains("column bits of public.narrow is of type bit(3)")
            && said.contains("of another length than it takes"),
        "{said}"
    );
    both(&workspace, "computed", &["computes every column itself"]);
    let told = "public.fleeting is UNLOGGED";
    assert!(restore(&workspace, "fleeting", true, 0).contains(told));
    assert!(restore(&workspace, "fleeting", false, 0).contains(told));
}

/// A label that an enum has lost, of a value that was archived, is named before; one that no row has is none.
#[tokio::test]
async fn a_lost_label_is_told() {
    let db = fresh_database(17).await;
    db.execute("CREATE TYPE mood AS ENUM ('fine', 'it''s bad', 'never');
        CREATE TABLE t (id int, at timestamptz NOT NULL, m mood); INSERT INTO t VALUES (1, '2020-01-01', 'fine'), (2, '2020-01-01', 'it''s bad')").await;
    let rule = json!({ "table": "t", "column": "at", "older_than": "1y" });
    let (workspace, _folder) = into_files(&db, &rule);
    assert_eq!(archive(&workspace)["rows"], 2);
    db.execute("ALTER TYPE mood RENAME VALUE 'never' TO 'ever'")
        .await;
    restore(&workspace, "t", true, 0);
    db.execute("ALTER TYPE mood RENAME VALUE 'it''s bad' TO 'bad'")
        .await;
    both(
        &workspace,
        "t",
        &[
            "column m of public.t",
            "it has no 'it''s bad'. The type has lost or renamed a label",
        ],
    );
}

/// A table without a column that could be kept is refused before anything is done.
#[tokio::test]
async fn a_table_without_columns_is_refused() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE bare (); INSERT INTO bare SELECT FROM generate_series(1, 3)")
        .await;
    let (workspace, _folder) = into_files(&db, &json!({ "table": "bare", "where": "true" }));
    let run = super::refused(&workspace);
    let message = run["findings"][0]["message"].as_str().unwrap();
    assert!(message.contains("it has no columns"), "{run:#}");
    assert_eq!(db.number("SELECT count(*) FROM bare").await, 3);
}

/// Whether there is a partition is judged as far down as all goes by time; what is partitioned further by something
/// else is named, and so are labels within arrays: nothing is promised that was not looked at.
#[tokio::test]
async fn partitions_below_partitions_are_told() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TYPE mood AS ENUM ('fine', 'bad');
        CREATE TABLE t (id int, at timestamptz NOT NULL, m mood[]) PARTITION BY RANGE (at);
        CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-04-01 00:00+00');
        CREATE TABLE t_now PARTITION OF t FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2100-01-01 00:00+00');
        INSERT INTO t SELECT n, '2020-03-01 00:00+00'::timestamptz + n * interval '1 hour', '{fine}' FROM generate_series(1, 60) n",
    )
    .await;
    let rule = json!({ "table": "t", "column": "at", "older_than": "1y" });
    let (workspace, _folder) = into_files(&db, &rule);
    assert_eq!(archive(&workspace)["rows"], 60);
    let none = "public.t has no partition for some of the rows";
    both(&workspace, "t", &[none]);
    // Another partition that goes on by something else changes nothing.
    db.execute("DROP TABLE t_now; CREATE TABLE t_now PARTITION OF t FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2100-01-01 00:00+00') PARTITION BY LIST (id);
        CREATE TABLE t_now_1 PARTITION OF t_now FOR VALUES IN (1)").await;
    both(&workspace, "t", &[none]);
    // One that would take the rows, and has no partition that takes any.
    db.execute("CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-04-01 00:00+00') PARTITION BY LIST (id)").await;
    both(&workspace, "t", &[none]);
    db.execute("CREATE TABLE t_3_1 PARTITION OF t_3 FOR VALUES IN (1)")
        .await;
    let said = restore(&workspace, "t", true, 0);
    for part in [
        "whether public.t has a partition for each of them is seen by the restore itself",
        "rows go into t_3, where they find their partition by LIST (id)",
        "column m of public.t (public.mood[]) has all labels",
        "60 rows would come back into public.t, as far as it was looked at",
    ] {
        assert!(
            said.replace("public.t_3", "t_3").contains(part),
            "{part}: {said}"
        );
    }
    assert!(restore(&workspace, "t", false, 1).contains(none));
    // Further down by the same key it is judged.
    db.execute("DROP TABLE t_3; CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-04-01 00:00+00') PARTITION BY RANGE (at);
        CREATE TABLE t_3_1 PARTITION OF t_3 FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-03-02 00:00+00')").await;
    both(&workspace, "t", &[none]);
    db.execute("CREATE TABLE t_3_2 PARTITION OF t_3 FOR VALUES FROM ('2020-03-02 00:00+00') TO ('2020-04-01 00:00+00')").await;
    let said = restore(&workspace, "t", true, 0);
    assert!(!said.contains("has a partition"), "{said}");
    restore(&workspace, "t", false, 0);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 60);
}

/// What the table computes itself is told by the restore as by the dry run.
#[tokio::test]
async fn what_the_table_computes_is_told() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    db.execute("CREATE TABLE half (id int GENERATED ALWAYS AS (7) STORED, at timestamptz NOT NULL, bits bit(8))").await;
    let told = "public.half computes by itself: id";
    assert!(restore(&workspace, "half", true, 0).contains(told));
    let said = restore(&workspace, "half", false, 0);
    assert!(
        said.contains(told) && said.contains("stays in the archive"),
        "{said}"
    );
    assert_eq!(
        db.number("SELECT count(*) FROM half WHERE id = 7").await,
        60
    );
}

/// A table that rows are to be moved to, whose policies hold for the role: the plan says so with what helps, and not
/// each run anew that something failed.
#[tokio::test]
async fn a_destination_with_policies_is_told_by_the_plan() {
    let db = fresh_database(17).await;
    let (keeper, url) = role(&db, "").await;
    db.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 10) n;
        CREATE TABLE kept (id int, at timestamptz); GRANT ALL ON t, kept TO {keeper}; ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
        CREATE POLICY i ON kept FOR INSERT WITH CHECK (true); CREATE POLICY s ON kept FOR SELECT USING (true)")).await;
    let yaml = "kind: archive\ntarget: app\noptions: { table: t, column: at, older_than: 30d, destination: { table: kept } }\n";
    let workspace = Workspace::for_target(&url).task("archive", yaml);
    let run = workspace
        .run(["run", "archive", "--now", "--output", "json"])
        .expect(1)
        .json();
    assert_eq!(run["runs"][0]["steps"], json!([]), "{run:#}");
    let told = &run["runs"][0]["findings"][0];
    assert_eq!(told["code"], "privilege.missing", "{run:#}");
    assert_eq!(told["object"], "public.kept", "{run:#}");
    db.execute(told["suggestion"].as_str().unwrap()).await;
    workspace.run(["run", "archive", "--now"]).expect(0);
    assert_eq!(db.number("SELECT count(*) FROM kept").await, 10);
    db.execute(&format!("DROP OWNED BY {keeper}")).await;
}
