//! Children, parents, orphans and triggers.

use serde_json::json;

use super::{checksum, clean, nothing_is_left, with_options, workspace};
use crate::support::servers::fresh_database;

/// Parents of two ages with three children each; without an index on the child.
const FAMILY: &str = "CREATE TABLE parent (id bigint PRIMARY KEY, at timestamptz NOT NULL);
    CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint, note text DEFAULT repeat('x', 200));
    INSERT INTO parent SELECT n, now() - CASE WHEN n % 4 = 0 THEN interval '100 days' ELSE interval '1 day' END
        FROM generate_series(1, 4000) n;
    INSERT INTO child SELECT n, (n - 1) / 3 + 1 FROM generate_series(1, 12000) n;
    ANALYZE parent, child";

for_oldest_and_newest! {
    /// Orphans go, whole families and children of nobody stay. Orphans that
    /// today's run makes go today, and those that a foreign key guards first.
    async fn orphans_go_in_the_right_order(major: u32) {
        let db = fresh_database(major).await;
        for key in ["", "ALTER TABLE child ADD FOREIGN KEY (parent_id) REFERENCES parent NOT VALID; CREATE INDEX ON child (parent_id);"] {
            db.execute("DROP TABLE IF EXISTS parent, child CASCADE").await;
            db.execute(FAMILY).await;
            db.execute("INSERT INTO child SELECT 20000 + n, 90000 + n FROM generate_series(1, 500) n;
                INSERT INTO child SELECT 30000 + n, NULL FROM generate_series(1, 50) n").await;
            db.execute(key).await;
            let rules = if key.is_empty() {
                // Written the wrong way round on purpose.
                json!([
                    { "table": "child", "orphaned": { "columns": ["parent_id"], "parent": "parent" }, "max_share": "100%" },
                    { "table": "parent", "column": "at", "older_than": "90d" },
                ])
            } else {
                // Here the parent cannot go while it has children.
                json!([
                    { "table": "parent", "column": "at", "older_than": "90d" },
                    { "table": "child", "where": "parent_id % 4 = 0 or parent_id > 90000" },
                ])
            };
            let kept = checksum(&db, "SELECT * FROM child WHERE parent_id IS NULL OR (parent_id % 4 <> 0 AND parent_id <= 4000)").await;
            let workspace = workspace(&db, &rules);
            let run = clean(&workspace);
            let order: Vec<&str> = run["steps"].as_array().unwrap().iter().map(|s| s["object"].as_str().unwrap()).collect();
            let expected = if key.is_empty() { ["public.parent", "public.child"] } else { ["public.child", "public.parent"] };
            assert_eq!(order, expected);
            assert_eq!(run["rows"], 1000 + 3000 + 500, "{run:#}");
            assert_eq!(checksum(&db, "SELECT * FROM child").await, kept);
            assert_eq!(db.number("SELECT count(*) FROM parent").await, 3000);
            nothing_is_left(&workspace);
        }
    }
}

for_oldest_and_newest! {
    /// What a delete takes along is in the plan: cascades over two levels with
    /// their rows, and triggers. The trigger fires once for each row.
    async fn cascades_and_triggers_are_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        db.execute("CREATE TABLE toy (id bigint, child_id bigint);
            ALTER TABLE child ADD FOREIGN KEY (parent_id) REFERENCES parent ON DELETE CASCADE;
            ALTER TABLE toy ADD FOREIGN KEY (child_id) REFERENCES child ON DELETE CASCADE;
            INSERT INTO toy SELECT n, n FROM generate_series(1, 12000) n;
            CREATE INDEX ON child (parent_id, id); CREATE INDEX ON toy (child_id) WHERE child_id IS NOT NULL;
            CREATE TABLE log (id bigint);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (old.id); RETURN NULL; END';
            CREATE TRIGGER keep_a_note AFTER DELETE ON parent FOR EACH ROW EXECUTE FUNCTION note(); ANALYZE").await;
        let workspace = workspace(&db, &json!([{ "table": "parent", "column": "at", "older_than": "90d" }]));
        let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
        assert!(plan.contains("deletes about 3000 rows of public.child (parent_id)\n"), "{plan}");
        assert!(plan.contains("in turn deletes about 3000 rows of public.toy (child_id)\n"), "{plan}");
        assert!(plan.contains("fires the trigger keep_a_note (public.note)"), "{plan}");
        let run = clean(&workspace);
        assert_eq!(run["rows"], 1000);
        assert_eq!(db.number("SELECT count(*) FROM child").await, 9000);
        assert_eq!(db.number("SELECT count(*) FROM toy").await, 9000);
        assert_eq!(db.number("SELECT count(*) FROM log").await, 1000);
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// A count is no promise where something may keep rows: then it says so, and what.
    async fn a_dry_run_says_at_most_where_rows_may_stay(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE plain (id int, at timestamptz NOT NULL); INSERT INTO plain SELECT g, now() - interval '1 year' FROM generate_series(1, 10) g;
            CREATE TABLE pointed (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO pointed SELECT * FROM plain;
            CREATE TABLE points (id int REFERENCES pointed); CREATE INDEX ON points (id); INSERT INTO points VALUES (7);
            CREATE TABLE fired (id int, at timestamptz NOT NULL); INSERT INTO fired SELECT * FROM plain;
            CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id < 3 THEN RAISE EXCEPTION ''no''; END IF; RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER late AFTER DELETE ON fired DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION held()").await;
        let rule = |table: &str| json!({ "table": table, "column": "at", "older_than": "90d" });
        let workspace = workspace(&db, &json!([rule("plain"), rule("pointed"), rule("fired")]));
        let dry = workspace.run(["run", "cleanup", "--dry-run"]).expect(0).stdout;
        for told in [
            "exactly 10 rows now",
            "at most 10 rows now; some may stay because of rows of public.points that point at them (points_id_fkey)",
            "at most 10 rows now; some may stay because of trigger late",
        ] {
            assert!(dry.contains(told), "{told}: {dry}");
        }
        assert_eq!(dry.matches("exactly").count(), 1, "{dry}");
        let dry = workspace.run(["run", "cleanup", "--dry-run", "--output", "json"]).expect(0).json();
        let steps = dry["plans"][0]["plan"]["steps"].as_array().unwrap().clone();
        let of = |table: &str| steps.iter().find(|step| step["object"] == table).unwrap()["may_stay"].clone();
        assert_eq!(of("public.plain"), json!([]), "{dry:#}");
        assert_eq!(of("public.fired"), json!(["trigger late"]), "{dry:#}");
        // Which is what becomes of it.
        workspace.run(["run", "cleanup", "--now"]);
        let left = async |table: &str| db.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!((left("plain").await, left("pointed").await), (0, 1));
        assert!(left("fired").await >= 2);
    }
}

for_oldest_and_newest! {
    /// A foreign key without an index: a finding with the statement that
    /// helps, refused where the child is large, allowed where asked for.
    async fn a_missing_index_is_told_and_refused(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        db.execute("ALTER TABLE child ADD FOREIGN KEY (parent_id) REFERENCES parent ON DELETE SET NULL").await;
        let rules = json!([{ "table": "parent", "column": "at", "older_than": "90d" }]);
        let workspace = workspace(&db, &rules);
        let refused = |workspace: &crate::support::workspace::Workspace| {
            let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
            output.expect(1).json()["runs"][0].clone()
        };
        // An index that does not hold every child helps nobody who looks for some.
        db.execute("CREATE INDEX partial ON child (parent_id) WHERE id IS NOT NULL").await;
        assert_eq!(refused(&workspace)["status"], "failed");
        db.execute("DROP INDEX partial").await;
        let run = refused(&workspace);
        assert_eq!(run["steps"], json!([]));
        assert!(run["error"].as_str().unwrap().contains("its rows were left"), "{run:#}");
        let finding = &run["findings"][0];
        assert_eq!(finding["code"], "foreign_key.unindexed");
        assert_eq!(finding["suggestion"], "CREATE INDEX CONCURRENTLY ON public.child (parent_id)");
        // What would mend a run that has failed is open advice, too.
        let advice = workspace.run(["advise"]).expect(0).stdout;
        assert!(advice.contains("CREATE INDEX CONCURRENTLY ON public.child (parent_id)"), "{advice}");
        let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
        assert!(plan.contains("nothing can be done") && plan.contains("its rows were left") && plan.contains("allow_unindexed_cascade"), "{plan}");

        let allowed = with_options(&db, &json!({ "rules": rules, "allow_unindexed_cascade": true }));
        // A fifth of them, because each costs a look at all children.
        db.execute("UPDATE parent SET at = now() WHERE id % 5 <> 0").await;
        assert_eq!(clean(&allowed)["rows"], 200);

        db.execute(finding["suggestion"].as_str().unwrap()).await;
        db.execute("UPDATE parent SET at = now() - interval '1 year' WHERE id % 40 = 1").await;
        let run = clean(&workspace);
        assert_eq!(run["rows"], 100);
        assert_eq!(run["findings"], json!([]));
    }
}

/// The server looks nothing up for a key that it does not enforce.
#[tokio::test]
async fn a_key_that_is_not_enforced_keeps_nothing() {
    let db = fresh_database(18).await;
    db.execute(FAMILY).await;
    db.execute("ALTER TABLE child ADD FOREIGN KEY (parent_id) REFERENCES parent NOT ENFORCED")
        .await;
    let rules = json!([{ "table": "parent", "column": "at", "older_than": "90d" }]);
    let workspace = workspace(&db, &rules);
    let old = db
        .number("SELECT count(*) FROM parent WHERE at < now() - interval '90 days'")
        .await;
    let run = clean(&workspace);
    assert_eq!(
        (run["rows"].as_i64(), &run["findings"]),
        (Some(old), &json!([])),
        "{run:#}"
    );
    let workspace = workspace.task(
        "snapshot",
        "kind: snapshot\ntarget: app\noptions: { min_size: 1kB }\n",
    );
    let document = workspace
        .run(["run", "snapshot", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert!(
        !document.to_string().contains("index.missing_foreign_key"),
        "{document:#}"
    );
}

for_oldest_and_newest! {
    /// What cannot be followed is said, loudly, and harms no other rule.
    async fn a_rule_that_cannot_be_followed(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        db.execute("CREATE VIEW seen AS SELECT * FROM parent; CREATE TABLE whole (n int); INSERT INTO whole VALUES (1)").await;
        let workspace = workspace(&db, &json!([
            { "table": "gone", "where": "true" },
            { "table": "seen", "where": "true" },
            { "table": "parent", "column": "nix", "older_than": "1d" },
            { "table": "child", "column": "note", "older_than": "1d" },
            { "table": "child", "column": "id", "older_than": "1d" },
            { "table": "child", "where": "colour = 'red'" },
            { "table": "whole", "where": "n = 1" },
        ]));
        let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
        let run = &output["runs"][0];
        assert_eq!(run["status"], "partial", "{run:#}");
        assert_eq!(run["rows"], 1);
        let said: Vec<&str> = run["findings"].as_array().unwrap().iter().map(|f| {
            assert_eq!(f["severity"], "critical");
            f["message"].as_str().unwrap()
        }).collect();
        for part in ["no such table", "is no table", "no column `nix`", "is of type text", "say with `epoch`", "column \"colour\" does not exist"] {
            assert!(said.iter().any(|text| text.contains(part)), "{part}: {said:#?}");
        }
        assert_eq!(said.len(), 6);
        assert_eq!(db.number("SELECT count(*) FROM child").await, 12000);
    }
}

for_oldest_and_newest! {
    /// Numbers that count another unit than the rule says are all old, or never.
    async fn numbers_of_another_unit_are_refused(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE log (at bigint); INSERT INTO log SELECT extract(epoch FROM now())::bigint - n * 86400 + 3600 FROM generate_series(0, 19) n").await;
        for (epoch, left) in [("millis", 20), ("micros", 20), ("seconds", 11)] {
            let workspace = workspace(&db, &json!([{ "table": "log", "column": "at", "older_than": "10d", "epoch": epoch }]));
            let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
            if left == 20 {
                let run = &output.expect(1).json()["runs"][0];
                let told = run["findings"][0]["message"].as_str().unwrap();
                assert!(told.contains("is it `epoch: seconds`?"), "{told}");
            } else {
                output.expect(0);
            }
            assert_eq!(db.number("SELECT count(*) FROM log").await, left, "{epoch}");
        }
    }
}

for_oldest_and_newest! {
    /// A role that may not delete leaves the table alone and says what it needs.
    async fn without_the_privilege(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        let role = format!("r_{}", &db.name[5..]);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON parent TO {role}; GRANT SELECT, DELETE ON child TO {role}")).await;
        let at = db.url.find("://").unwrap() + 3;
        let host = db.url[at..].split_once('@').map_or(&db.url[at..], |(_, host)| host);
        let url = format!("{}{role}:x@{host}", &db.url[..at]);
        let workspace = crate::support::workspace::Workspace::for_target(&url).task("cleanup",
            "kind: cleanup\ntarget: app\noptions: { rules: [{ table: parent, where: id > 10 }, { table: child, where: id > 10 }] }\n");
        let said = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
        let run = &said["runs"][0];
        assert_eq!(run["status"], "partial", "{run:#}");
        assert_eq!(run["rows"], 11990);
        let grant = format!("GRANT SELECT, DELETE ON public.parent TO {role}");
        assert_eq!(run["findings"][0]["suggestion"], *grant);
        assert_eq!(db.number("SELECT count(*) FROM parent").await, 4000);
        // What it may do is done, and the rest is not well for that.
        let again = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(again["runs"][0]["status"], "failed");
        db.execute(&grant).await;
        assert_eq!(clean(&workspace)["rows"], 3990);
    }
}

/// A foreign key that sets a part of its columns to null is told to set that part.
#[tokio::test]
async fn only_the_columns_that_are_set_are_told() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE parent (t int, id int, at timestamptz NOT NULL, PRIMARY KEY (t, id));
         INSERT INTO parent SELECT 1, n, now() - n * interval '1 day' FROM generate_series(1, 400) n;
         CREATE TABLE child (t int, pid int, FOREIGN KEY (t, pid) REFERENCES parent ON DELETE SET NULL (pid));
         INSERT INTO child SELECT 1, n FROM generate_series(1, 400) n;
         CREATE INDEX ON child (t, pid); ANALYZE parent, child",
    )
    .await;
    let rules = json!([{ "table": "parent", "column": "at", "older_than": "300d" }]);
    let workspace = workspace(&db, &rules);
    let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
    assert!(plan.contains("sets pid to null in about "), "{plan}");
    assert!(plan.contains("of public.child (t, pid)"), "{plan}");
    clean(&workspace);
    let unset = "SELECT count(*) FROM child WHERE pid IS NULL AND t = 1";
    assert!(db.number(unset).await > 90);
}

for_oldest_and_newest! {
    /// Who points at a partitioned table points at the rows of the partition that a rule names; and from child to
    /// child it goes on through tables and partitions alike.
    async fn cascades_go_on_above_and_below_partitions(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int PRIMARY KEY, at timestamptz NOT NULL) PARTITION BY RANGE (id);
            CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (0) TO (1000); CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (1000) TO (2000);
            INSERT INTO ev SELECT n, '2020-05-01' FROM generate_series(1, 1999) n;
            CREATE TABLE kid (id int PRIMARY KEY, ev int REFERENCES ev ON DELETE CASCADE) PARTITION BY RANGE (id);
            CREATE TABLE kid_1 PARTITION OF kid FOR VALUES FROM (0) TO (100000); INSERT INTO kid SELECT n, n FROM generate_series(1, 1999) n;
            CREATE TABLE toy (id int, kid int REFERENCES kid_1 ON DELETE CASCADE); INSERT INTO toy SELECT n, n FROM generate_series(1, 1999) n;
            CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO p SELECT n, '2020-05-01' FROM generate_series(1, 100) n;
            CREATE TABLE k (id int PRIMARY KEY, p int) PARTITION BY RANGE (id); CREATE TABLE k_1 PARTITION OF k FOR VALUES FROM (0) TO (100000);
            ALTER TABLE k_1 ADD FOREIGN KEY (p) REFERENCES p ON DELETE CASCADE; INSERT INTO k SELECT n, n FROM generate_series(1, 100) n;
            CREATE TABLE g (id int, k int REFERENCES k ON DELETE CASCADE); INSERT INTO g SELECT n, n FROM generate_series(1, 100) n;
            CREATE INDEX ON k (p); CREATE INDEX ON g (k); CREATE INDEX ON toy (kid); ANALYZE").await;
        let rules = json!([{ "table": "ev_1", "column": "at", "older_than": "90d" }, { "table": "p", "column": "at", "older_than": "90d" }]);
        // Without an index, as much would be read for each row as for a row of the whole table.
        let guarded = with_options(&db, &json!({ "rules": rules, "max_unindexed": "8kB" }));
        let plan = guarded.run(["plan", "cleanup"]).stdout;
        assert!(plan.contains("has no index: each deleted row would read all of it"), "{plan}");
        db.execute("CREATE INDEX ON kid (ev)").await;
        let workspace = workspace(&db, &rules);
        let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
        for told in ["deletes about 999 rows of public.kid (ev)", "in turn deletes about 999 rows of public.toy (kid)",
            "deletes about 100 rows of public.k_1 (p)", "in turn deletes about 100 rows of public.g (k)"] {
            assert!(plan.contains(told), "{told}: {plan}");
        }
        let run = clean(&workspace);
        assert_eq!(run["rows"], 999 + 100, "{run:#}");
        for (table, left) in [("ev", 1000), ("kid", 1000), ("toy", 1000), ("p", 0), ("k", 0), ("g", 0)] {
            assert_eq!(db.number(&format!("SELECT count(*) FROM {table}")).await, left, "{table}");
        }
        nothing_is_left(&workspace);
    }
}

/// A foreign key over a PERIOD is looked up by GiST: with such an index its table is not read for every row.
#[tokio::test]
async fn a_key_over_a_period_has_its_index() {
    let db = fresh_database(18).await;
    db.execute("CREATE EXTENSION btree_gist;
        CREATE TABLE p (id int, valid daterange, at timestamptz NOT NULL, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
        CREATE TABLE c (pid int, valid daterange, pad text DEFAULT repeat('x', 200), FOREIGN KEY (pid, PERIOD valid) REFERENCES p (id, PERIOD valid));
        INSERT INTO p SELECT n, '[2020-01-01,2021-01-01)', now() - interval '2 years' FROM generate_series(1, 1000) n;
        INSERT INTO c SELECT n, '[2020-05-01,2020-09-01)' FROM generate_series(1, 500) n; ANALYZE").await;
    let rules = json!([{ "table": "p", "column": "at", "older_than": "1y" }]);
    let workspace = with_options(&db, &json!({ "rules": rules, "max_unindexed": "8kB" }));
    let plan = workspace.run(["plan", "cleanup"]).stdout;
    let index = "CREATE INDEX CONCURRENTLY ON public.c USING gist (pid, valid)";
    assert!(
        plan.contains("has no index") && plan.contains(index),
        "{plan}"
    );
    db.execute(&index.replace(" CONCURRENTLY", "")).await;
    let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
    assert!(!plan.contains("has no index"), "{plan}");
    let run = clean(&workspace);
    assert_eq!(run["rows"], 500, "{run:#}");
}

for_oldest_and_newest! {
    /// Rows that point at what goes are changed: what that sets off is told, and a saved plan is held to it. How many
    /// they are is unknown before an ANALYZE, and not none.
    async fn what_a_change_of_children_sets_off_is_told(major: u32) {
        for (hook, told) in [
            ("CREATE TRIGGER notes AFTER UPDATE ON kid FOR EACH ROW EXECUTE FUNCTION clear()", "fires the trigger notes of public.kid (public.clear)"),
            ("CREATE RULE notes AS ON UPDATE TO kid DO ALSO DELETE FROM precious", "follows the rule notes of public.kid"),
        ] {
            let db = fresh_database(major).await;
            db.execute("CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO p SELECT n, '2020-05-01' FROM generate_series(1, 100) n; ANALYZE;
                CREATE TABLE kid (id int, p int REFERENCES p ON DELETE SET NULL) WITH (autovacuum_enabled = off); INSERT INTO kid SELECT n, n FROM generate_series(1, 100) n; CREATE INDEX ON kid (p);
                UPDATE pg_class SET reltuples = -1 WHERE oid = 'kid'::regclass;
                CREATE TABLE precious (id int); INSERT INTO precious VALUES (1);
                CREATE FUNCTION clear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.precious; RETURN NULL; END'").await;
            let workspace = workspace(&db, &json!([{ "table": "p", "column": "at", "older_than": "90d" }]));
            let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
            workspace.run(["plan", "cleanup", "--save", "plan.json"]).expect(0);
            assert!(plan.contains("sets p to null in rows (how many is not known before an ANALYZE) of public.kid (p)"), "{plan}");
            db.execute(hook).await;
            let check = workspace.run(["plan", "--check", "plan.json"]).expect(5);
            assert!(check.stdout.contains(told) || check.stderr.contains(told), "{check:#?}");
            workspace.run(["run", "--plan", "plan.json"]).expect(2);
            assert_eq!(db.number("SELECT count(*) FROM precious").await, 1);
            let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
            assert!(plan.contains(told), "{plan}");
        }
    }
}

for_oldest_and_newest! {
    /// A partition may have partitions, and somebody may point at it, and not at the table or at one of those.
    async fn a_foreign_key_may_point_between_the_table_and_its_partitions(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
            CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (id);
            CREATE TABLE ev_1_a PARTITION OF ev_1 FOR VALUES FROM (0) TO (500); CREATE TABLE ev_1_b PARTITION OF ev_1 FOR VALUES FROM (500) TO (1000);
            CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (1000) TO (2000);
            INSERT INTO ev SELECT n, now() - interval '2 years' FROM generate_series(1, 1999) n;
            CREATE TABLE kid (id int, ev int REFERENCES ev_1 ON DELETE CASCADE); INSERT INTO kid SELECT n, n FROM generate_series(1, 999) n; ANALYZE").await;
        let rules = json!([{ "table": "ev", "column": "at", "older_than": "1y" }]);
        let guarded = with_options(&db, &json!({ "rules": rules, "max_unindexed": "8kB" }));
        let plan = guarded.run(["plan", "cleanup"]).stdout;
        assert!(plan.contains("has no index: each deleted row would read all of it"), "{plan}");
        db.execute("CREATE INDEX ON kid (ev)").await;
        let workspace = workspace(&db, &rules);
        let plan = workspace.run(["plan", "cleanup", "--output", "json"]).expect(0).json();
        let plan = plan["plans"][0]["plan"].clone();
        let told = |object: &str| {
            let steps = plan["steps"].as_array().unwrap();
            let step = steps.iter().find(|step| step["object"] == object);
            step.unwrap_or_else(|| panic!("{object}: {plan:#}")).to_string().contains("rows of public.kid (ev)")
        };
        assert_eq!(["public.ev_1_a", "public.ev_1_b", "public.ev_2"].map(told), [true, true, false], "{plan:#}");
        assert_eq!(clean(&workspace)["rows"], 1999);
        assert_eq!(db.number("SELECT count(*) FROM kid").await, 0);
    }
}

for_oldest_and_newest! {
    /// No policy holds for what a foreign key does, so that hidden rows may go with those that are seen.
    async fn hidden_rows_that_go_along_are_told(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("r_{}", &db.name[5..]);
        db.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t ON DELETE CASCADE, hidden bool, at timestamptz);
            INSERT INTO t SELECT g, CASE WHEN g > 500 THEN g - 500 END, g > 500, now() - interval '2 years' FROM generate_series(1, 750) g; CREATE INDEX ON t (up);
            ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY seen ON t USING (NOT hidden);
            CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT, DELETE ON t TO {role}; ANALYZE t")).await;
        let mut url = url::Url::parse(&db.url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("x")).unwrap();
        let workspace = crate::support::workspace::Workspace::for_target(url.as_str()).task("cleanup",
            "kind: cleanup\ntarget: app\ntrust_owners: [postgres]\noptions: { rules: [{ table: t, column: at, older_than: 1y }] }\n");
        let said = workspace.run(["run", "cleanup", "--now", "--output", "json"]).json();
        let run = &said["runs"][0];
        let found = run["findings"].as_array().unwrap().iter().find(|f| f["code"] == "cleanup.row_security");
        let message = found.unwrap_or_else(|| panic!("{run:#}"))["message"].as_str().unwrap();
        assert!(message.contains("deletes rows of public.t (up), by t_up_fkey, hidden ones as well"), "{message}");
        assert_eq!((&run["rows"], db.number("SELECT count(*) FROM t").await), (&500.into(), 0), "{run:#}");
    }
}
