//! Planted damage is found and named, and a healthy copy is not accused.

use serde_json::Value;

use crate::support::servers::{TestDatabase, cluster, fresh_database};
use crate::support::workspace::Workspace;

const INTEGRITY: &str =
    "kind: integrity\ntarget: app\nlimits: { lock_timeout: 300ms, lock_retries: 1 }\n";

/// A shop with everything that can go wrong, and nothing that has.
const SHOP: &str = r#"
    CREATE EXTENSION amcheck;
    CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, region text COLLATE "C", code int, UNIQUE (region, code));
    INSERT INTO customers (region, code) SELECT 'r' || g % 10, g FROM generate_series(1, 2000) g;
    CREATE TABLE orders (id serial PRIMARY KEY, customer_id bigint REFERENCES customers, region text, code int,
        total numeric CHECK (total >= 0), FOREIGN KEY (region, code) REFERENCES customers (region, code) MATCH FULL);
    INSERT INTO orders (customer_id, region, code, total) SELECT id, region, code, id FROM customers;
    INSERT INTO orders (customer_id, total) VALUES (NULL, NULL);
    CREATE TABLE events (id bigint, day date, customer_id bigint REFERENCES customers, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE events_a PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE events_b PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO events SELECT id, '2026-01-01'::date + id::int % 59, id FROM customers;
    CREATE TABLE notes (event_id bigint, event_day date, FOREIGN KEY (event_id, event_day) REFERENCES events);
    INSERT INTO notes SELECT id, day FROM events;
    CREATE INDEX notes_event ON notes USING gin ((ARRAY[event_id]));
    CREATE UNIQUE INDEX customers_lower ON customers (lower(region), code) WHERE code > 10;
"#;

fn workspace(db: &TestDatabase, options: &str) -> Workspace {
    Workspace::for_target(&db.url).task("integrity", &format!("{INTEGRITY}options: {options}\n"))
}

/// What was found, as `code object`, sorted.
pub(super) fn found(document: &Value) -> Vec<String> {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let mut found: Vec<String> = findings
        .iter()
        .map(|f| {
            format!(
                "{} {}",
                f["code"].as_str().unwrap(),
                f["object"].as_str().unwrap()
            )
        })
        .collect();
    found.sort();
    found
}

fn run(workspace: &Workspace) -> Value {
    let output = workspace
        .run(["run", "integrity", "--now", "--output", "json"])
        .expect(0);
    let document = output.json();
    assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
    document
}

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    /// Everything is looked at, and nothing is found; right afterwards there
    /// is nothing left to look at.
    async fn a_healthy_database_is_not_accused(major: u32) {
        let db = fresh_database(major).await;
        db.execute(SHOP).await;
        for level in ["light", "full"] {
            let workspace = workspace(&db, &format!("{{ amcheck: {level}, parent_check: true }}"));
            let first = run(&workspace);
            assert_eq!(found(&first), Vec::<String>::new(), "{first:#}");
            let steps = first["runs"][0]["steps"].as_array().unwrap();
            let count = |action: &str| steps.iter().filter(|s| s["action"] == action && s["status"] == "succeeded").count();
            assert_eq!(count("check_foreign_key"), 4);
            assert_eq!(count("check_constraints"), 1);
            assert_eq!(count("check_table"), 5);
            // Seven B-trees that hold pages, and from 18 on the GIN index.
            assert_eq!(count("check_index"), if major >= 18 { 7 } else { 6 }, "{steps:#?}");
            assert_eq!(count("check_index_levels"), 6);
            assert_eq!(count("check_catalogs"), 2);
            // Damage since then is not found: it is said that nobody looked.
            db.execute("ALTER TABLE orders DISABLE TRIGGER ALL; UPDATE orders SET customer_id = -1 WHERE id = 1; ALTER TABLE orders ENABLE TRIGGER ALL").await;
            let second = run(&workspace);
            assert_eq!(second["runs"][0]["steps"], serde_json::json!([]));
            assert_eq!(found(&second), ["integrity.not_again integrity"]);
            let said = workspace.run(["run", "integrity", "--now"]).expect(0).stdout;
            assert!(said.contains("nothing was looked at: all ") && said.contains("--set recheck_after=0s"), "{said}");
            let again = workspace.run(["run", "integrity", "--now", "--set", "recheck_after=0s", "--output", "json"]).json();
            assert!(found(&again).iter().any(|one| one.contains("orders_customer_id_fkey")), "{again:#}");
            db.execute("UPDATE orders SET customer_id = 1 WHERE id = 1").await;
        }
    }
}

for_oldest_and_newest! {
    /// A function of somebody's beside those of amcheck that the server cannot tell from them is named, and takes nothing
    /// else along: what can be looked at is. Elsewhere it is in nobody's way.
    async fn a_function_beside_amcheck_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute(SHOP).await;
        db.execute("CREATE FUNCTION public.bt_index_check(regclass, boolean, text, int DEFAULT 0) RETURNS void LANGUAGE sql AS 'SELECT';
            CREATE FUNCTION public.bt_index_check(oid, boolean, int DEFAULT 0) RETURNS void LANGUAGE sql AS 'SELECT';
            CREATE FUNCTION public.bt_index_parent_check(regclass, boolean, boolean, int DEFAULT 0) RETURNS void LANGUAGE sql AS 'SELECT'").await;
        run(&workspace(&db, "{ recheck_after: 0s }"));
        db.execute("CREATE FUNCTION public.bt_index_check(regclass, boolean, int DEFAULT 0) RETURNS void LANGUAGE sql AS 'SELECT'").await;
        let (mine, parents) = ("amcheck.ambiguous public.bt_index_check(regclass,boolean,integer)",
            "amcheck.ambiguous public.bt_index_parent_check(regclass,boolean,boolean,integer)");
        for (options, told) in [("{ recheck_after: 0s }", vec![mine]), ("{ recheck_after: 0s, parent_check: true }", vec![mine, parents])] {
            let workspace = workspace(&db, options);
            let output = workspace.run(["run", "integrity", "--now", "--output", "json"]);
            let document = output.json();
            assert_eq!((output.code, &document["runs"][0]["status"]), (1, &"partial".into()), "{document:#}");
            assert_eq!(found(&document), told, "{document:#}");
            let steps = document["runs"][0]["steps"].as_array().unwrap();
            let count = |action: &str| steps.iter().filter(|s| s["action"] == action && s["status"] == "succeeded").count();
            assert_eq!((count("check_table"), count("check_catalogs")), (5, 1), "{document:#}");
            assert_eq!((count("check_index"), count("check_index_levels")), (usize::from(major >= 18), 0), "{document:#}");
            assert!(steps.iter().all(|step| step["status"] == "succeeded"), "{document:#}");
        }
        db.execute("CREATE SCHEMA amcheck; ALTER EXTENSION amcheck SET SCHEMA amcheck").await;
        let document = run(&workspace(&db, "{ recheck_after: 0s, parent_check: true }"));
        assert_eq!(found(&document), Vec::<String>::new(), "{document:#}");
        assert!(document.to_string().contains("check_index_levels"), "{document:#}");
    }
}

for_versions! {
    [pg14 = 14]
    /// A table that was made again or restored, or whose rows were loaded anew, has the name of one that was found in
    /// order, and is looked at all the same; what is as it was is not.
    async fn what_was_made_again_is_looked_at_again(major: u32) {
        let db = fresh_database(major).await;
        let tables = "CREATE TABLE c (p int CONSTRAINT fk REFERENCES p, n int CONSTRAINT low CHECK (n < 9))";
        let orphans = "SET session_replication_role = replica; INSERT INTO c SELECT g, 1 FROM generate_series(100, 149) g;
            RESET session_replication_role";
        db.execute("CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); CREATE TABLE q (p int REFERENCES p);
            CREATE TABLE l (at int) PARTITION BY RANGE (at); CREATE TABLE l1 PARTITION OF l FOR VALUES FROM (0) TO (10);
            ALTER TABLE l ADD CONSTRAINT odd CHECK (at <> 5)").await;
        db.execute(tables).await;
        let workspace = workspace(&db, "{ amcheck: off }");
        let looked_at = |document: &Value| -> Vec<String> {
            let steps = document["runs"][0]["steps"].as_array().unwrap().iter();
            steps.map(|s| s["object"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(found(&run(&workspace)), Vec::<String>::new());
        assert_eq!(looked_at(&run(&workspace)), Vec::<String>::new());
        let again = |steps: &[&str], findings: &[&str]| {
            let document = run(&workspace);
            let mut steps_now = looked_at(&document);
            steps_now.sort();
            assert_eq!(steps_now, steps, "{document:#}");
            let found: Vec<String> = found(&document).into_iter().filter(|one| !one.starts_with("integrity.")).collect();
            assert_eq!(found, findings, "{document:#}");
        };
        db.execute("DROP TABLE c").await;
        db.execute(tables).await;
        db.execute(orphans).await;
        again(&["public.c", "public.c.fk"], &["foreign_key.orphans public.c.fk"]);
        // Mended, it is in order; loaded into the same table, it has other files.
        db.execute("DELETE FROM c").await;
        again(&["public.c.fk"], &[]);
        db.execute("TRUNCATE c").await;
        db.execute(orphans).await;
        again(&["public.c", "public.c.fk"], &["foreign_key.orphans public.c.fk"]);
        db.execute("DELETE FROM c").await;
        again(&["public.c.fk"], &[]);
        // A constraint of the same name that was never validated.
        db.execute("ALTER TABLE c DROP CONSTRAINT low; INSERT INTO c VALUES (1, 99);
            ALTER TABLE c ADD CONSTRAINT low CHECK (n < 9) NOT VALID").await;
        again(&["public.c"], &["constraint.not_valid public.c.low", "constraint.violated public.c.low"]);
        db.execute("DELETE FROM c; ALTER TABLE c VALIDATE CONSTRAINT low").await;
        again(&["public.c"], &[]);
        // A partition that was replaced.
        db.execute("DROP TABLE l1; CREATE TABLE l1 PARTITION OF l FOR VALUES FROM (0) TO (10)").await;
        again(&["public.l"], &[]);
        again(&[], &[]);
    }
}

for_each_version! {
    /// Rows that foreign keys and checks should have kept out are counted,
    /// constraint by constraint, and told without what is in them.
    async fn broken_promises_are_counted(major: u32) {
        let db = fresh_database(major).await;
        db.execute(SHOP).await;
        // As a restore with triggers switched off leaves it.
        db.execute("SET session_replication_role = replica;
            INSERT INTO orders (customer_id) VALUES (900001), (900002), (900003);
            INSERT INTO orders (region, code) VALUES ('r1', NULL), ('nowhere', 424242);
            INSERT INTO events VALUES (7, '2026-02-27', 900004);
            INSERT INTO notes VALUES (900005, '2026-01-01'), (NULL, '2026-01-01');
            RESET session_replication_role").await;
        db.execute("CREATE TABLE drafts (customer_id bigint, size int);
            INSERT INTO drafts VALUES (900006, -4), (1, NULL);
            ALTER TABLE drafts ADD CONSTRAINT known FOREIGN KEY (customer_id) REFERENCES customers NOT VALID;
            ALTER TABLE drafts ADD CONSTRAINT sized CHECK (size > 0) NOT VALID;
            UPDATE pg_constraint SET convalidated = true WHERE conname = 'sized'").await;
        // Fails, and leaves its half.
        let _ = db.client.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY never ON orders ((total IS NULL))").await;

        let document = run(&workspace(&db, "{ queries: [{ name: fresh, sql: 'SELECT 1 FROM public.customers WHERE id > 1998; ' }, { name: fine, sql: 'SELECT 1 WHERE false -- never' }] }"));
        assert_eq!(found(&document), [
            "constraint.not_valid public.drafts.known",
            "constraint.violated public.drafts.sized",
            "foreign_key.orphans public.drafts.known",
            "foreign_key.orphans public.events.events_customer_id_fkey",
            "foreign_key.orphans public.notes.notes_event_id_event_day_fkey",
            "foreign_key.orphans public.orders.orders_customer_id_fkey",
            "foreign_key.orphans public.orders.orders_region_code_fkey",
            "index.invalid public.never",
            "query.rows fresh",
        ]);
        let findings = document["runs"][0]["findings"].as_array().unwrap();
        for (object, number, severity) in [
            ("public.drafts.known", "1 row", "warning"), ("public.events.events_customer_id_fkey", "1 row", "critical"),
            ("public.notes.notes_event_id_event_day_fkey", "1 row", "critical"), ("public.orders.orders_customer_id_fkey", "3 rows", "critical"),
            ("public.orders.orders_region_code_fkey", "2 rows", "critical"), ("fresh", "returned 2 rows", "critical"),
        ] {
            let finding = findings.iter().find(|f| f["object"] == object && f["code"] != "constraint.not_valid").unwrap();
            assert!(finding["message"].as_str().unwrap().contains(number), "{finding:#}");
            assert_eq!(finding["severity"], severity, "{finding:#}");
            // What is suggested finds as many rows as were counted.
            let listed = db.client.query(finding["suggestion"].as_str().unwrap(), &[]).await.unwrap();
            assert!(number.contains(&listed.len().to_string()), "{finding:#}");
        }
        for value in ["90000", "nowhere", "424242"] {
            assert!(!findings.iter().any(|f| f["message"].as_str().unwrap().contains(value)), "{findings:#?}");
        }
    }
}

for_each_version! {
    /// What no row violates is validated on request; what some row violates is not.
    async fn constraints_are_validated_on_request(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA \"select\";
            CREATE TABLE \"select\".\"weird \"\"name; DROP TABLE x\" (id bigint PRIMARY KEY, \"Parent\" bigint, \"order\" int);
            INSERT INTO \"select\".\"weird \"\"name; DROP TABLE x\" SELECT g, g, g FROM generate_series(1, 100) g;
            ALTER TABLE \"select\".\"weird \"\"name; DROP TABLE x\" ADD CONSTRAINT \"good; one\" FOREIGN KEY (\"Parent\") REFERENCES \"select\".\"weird \"\"name; DROP TABLE x\" NOT VALID,
                ADD CONSTRAINT \"Good\" CHECK (\"order\" > 0) NOT VALID, ADD CONSTRAINT \"bad %s {n}\" CHECK (\"order\" < 100) NOT VALID").await;
        let workspace = workspace(&db, "{ validate: true }");
        let valid = "SELECT conname::text FROM pg_constraint WHERE convalidated AND contype IN ('c', 'f') AND conrelid::regclass::text ~ 'weird' ORDER BY 1";
        assert!(db.strings(valid).await.is_empty());
        let document = run(&workspace);
        assert_eq!(db.strings(valid).await, ["Good", "good; one"]);
        assert_eq!(found(&document)[1..], ["constraint.violated \"select\".\"weird \"\"name; DROP TABLE x\".\"bad %s {n}\""], "{document:#}");
    }
}

for_each_version! {
    /// A role that may read little reports what it could not look at.
    async fn missing_privileges_are_findings(major: u32) {
        let db = fresh_database(major).await;
        db.execute(SHOP).await;
        let role = format!("guest_{}", db.name);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON customers, orders TO {role};
            ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id < 10)")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let workspace = Workspace::for_target(&url).task("integrity", &format!(
            "{INTEGRITY}options: {{ validate: true, queries: [{{ name: mine, sql: 'SELECT 1 FROM public.notes' }}] }}\n"));
        // A question of the user's that could not be asked: the run has not succeeded.
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(1).json();
        let mine = document["runs"][0]["findings"].as_array().unwrap().iter().find(|f| f["object"] == "mine").unwrap();
        assert_eq!(mine["suggestion"], format!("GRANT SELECT ON public.notes TO {role}"));
        assert_eq!(found(&document), ["privilege.missing amcheck", "privilege.missing mine", "privilege.missing public.customers_id_seq", "privilege.missing public.events", "privilege.missing public.orders"], "{document:#}");
        let message = document["runs"][0]["findings"].as_array().unwrap().iter().find(|f| f["object"] == "public.events").unwrap()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("public.events and 2 more"), "{message}");
        // Who may read the table, but not all its rows, needs something else than a GRANT.
        db.execute(&format!("GRANT SELECT ON notes, events TO {role}")).await;
        workspace.file("tasks/integrity.yaml", &format!("{INTEGRITY}options: {{ amcheck: off, queries: [{{ name: mine, sql: 'SELECT 1 FROM public.orders WHERE id = 0' }}] }}\n"));
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(1).json();
        let bypass = format!("ALTER ROLE {role} BYPASSRLS");
        for object in ["mine", "public.orders"] {
            let finding = document["runs"][0]["findings"].as_array().unwrap().iter().find(|f| f["object"] == object).unwrap();
            assert_eq!(finding["suggestion"], bypass, "{document:#}");
        }
        db.execute(&format!("REVOKE SELECT ON notes, events FROM {role}")).await;
        // Nothing at all that may be looked at is no clean bill of health.
        db.execute(&format!("REVOKE SELECT ON customers, orders FROM {role}")).await;
        workspace.file("tasks/integrity.yaml", &format!("{INTEGRITY}options: {{ amcheck: off }}\n"));
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(document["runs"][0]["status"], "failed", "{document:#}");
    }
}

for_oldest_and_newest! {
    /// A question whose operators may be anybody's is not asked, and the run says so.
    async fn a_query_that_is_refused_has_not_succeeded(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA open; GRANT ALL ON SCHEMA open TO PUBLIC; CREATE EXTENSION citext SCHEMA open; CREATE TABLE members (name open.citext)").await;
        let workspace = workspace(&db, "{ amcheck: off, queries: [{ name: roots, sql: \"SELECT 1 FROM public.members WHERE name = 'root'\" }] }");
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(found(&document), ["query.refused roots"], "{document:#}");
        db.execute("REVOKE ALL ON SCHEMA open FROM PUBLIC").await;
        let document = run(&workspace);
        assert_eq!(document["runs"][0]["steps"][0]["status"], "succeeded", "{document:#}");
    }
}

for_oldest_and_newest! {
    /// When the time is up the check under way is cancelled, the rest is left
    /// for the next run, which says how far it got.
    async fn what_does_not_fit_comes_next_time(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE VIEW something AS SELECT 1").await;
        let task = |sql: &str, budget: &str| format!("kind: integrity\ntarget: app\noptions: {{ amcheck: off, queries: [{{ name: a, sql: '{sql}' }}, {{ name: b, sql: 'SELECT 1 WHERE false' }}] }}\nlimits: {{ jobs: 1, budget: {budget} }}\n");
        let workspace = Workspace::for_target(&db.url).task("integrity", &task("SELECT pg_sleep(300)", "3s"));
        let first = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(first["runs"][0]["status"], "incomplete", "{first:#}");
        let steps: Vec<(&str, &str)> = first["runs"][0]["steps"].as_array().unwrap().iter()
            .map(|s| (s["object"].as_str().unwrap(), s["status"].as_str().unwrap())).collect();
        assert_eq!(steps, [("a", "deferred"), ("b", "deferred")]);
        assert_eq!(db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(300)%' AND state = 'active' AND pid <> pg_backend_pid()").await, 0);

        workspace.file("tasks/integrity.yaml", &task("SELECT 1 WHERE false", "1h"));
        let second = run(&workspace);
        assert_eq!(found(&second), ["integrity.coverage coverage"]);
        assert!(second.to_string().contains("0 of 2 queries"), "{second:#}");
        assert_eq!(found(&run(&workspace)), ["integrity.not_again integrity"], "all is covered now");
    }
}

for_each_version! {
    /// Keys that a damaged unique index let in twice are counted without its
    /// help, and the suggested query lists them.
    async fn a_unique_index_that_let_keys_in_twice_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION amcheck; CREATE TABLE \"select\" (\"the Key\" int NOT NULL, note text);
            INSERT INTO \"select\" SELECT n, 'kept' FROM generate_series(1, 500) n; CREATE UNIQUE INDEX twice ON \"select\" (\"the Key\");
            CREATE UNIQUE INDEX \"Twice too\" ON \"select\" (lower(note) COLLATE \"C\") WHERE note <> 'kept' OR note = '';
            CREATE UNIQUE INDEX sound ON \"select\" (note) WHERE note <> 'kept'").await;
        if major >= 15 {
            db.execute("CREATE TABLE nulls (a int); CREATE UNIQUE INDEX one_null ON nulls (a) NULLS NOT DISTINCT; INSERT INTO nulls VALUES (NULL), (1)").await;
        }
        // The indexes miss what is written while the server does not keep them up.
        let damaged = "indexrelid IN ('twice'::regclass, '\"Twice too\"'::regclass)";
        db.execute(&format!("UPDATE pg_index SET indisready = false, indisvalid = false WHERE {damaged}")).await;
        db.connect().await.batch_execute("INSERT INTO \"select\" VALUES (7, 'a'), (8, 'A'), (9, 'b')").await.unwrap();
        db.execute(&format!("UPDATE pg_index SET indisready = true, indisvalid = true WHERE {damaged}")).await;
        // Whoever asks through the index sees nothing wrong.
        db.execute("VACUUM ANALYZE \"select\"").await;
        db.client.batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashagg = off; SET enable_sort = off").await.unwrap();
        assert_eq!(db.number("SELECT count(*) FROM (SELECT \"the Key\" FROM \"select\" GROUP BY 1 HAVING count(*) > 1) t").await, 0);

        let document = run(&workspace(&db, "{ amcheck: full }"));
        assert_eq!(found(&document), ["corruption.data public.\"Twice too\"", "corruption.data public.twice",
            "index.duplicate_keys public.\"Twice too\"", "index.duplicate_keys public.twice"], "{document:#}");
        let findings = document["runs"][0]["findings"].as_array().unwrap();
        for (object, keys, first) in [("public.\"Twice too\"", 1, "a"), ("public.twice", 3, "7")] {
            let of_index = |code: &str| findings.iter().find(|f| f["object"] == object && f["code"] == code).unwrap();
            let finding = of_index("index.duplicate_keys");
            assert_eq!(finding["severity"], "critical");
            let message = finding["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("{keys} keys of the unique index {object} are in public.\"select\" more than once")), "{message}");
            let list = finding["suggestion"].as_str().unwrap();
            let rows = db.client.simple_query(&format!("{list} ORDER BY 4")).await.unwrap();
            let values: Vec<&str> = rows.iter().filter_map(|m| match m { tokio_postgres::SimpleQueryMessage::Row(row) => row.get(3), _ => None }).collect();
            assert_eq!((values.len(), values[0]), (keys, first), "{list}");
            assert_eq!(of_index("corruption.data")["suggestion"], format!("REINDEX INDEX CONCURRENTLY {object}"));
        }
    }
}

for_versions! {
    [pg14 = 14, pg18 = 18]
    /// Constraints of which no row is looked at are named, those of partitions once, by each run; what is left out by name is not.
    async fn what_is_not_looked_at_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION btree_gist; CREATE TABLE ranges (id int, r int4range, CONSTRAINT apart EXCLUDE USING gist (r WITH &&));
            CREATE TABLE hidden (r int4range, EXCLUDE USING gist (r WITH &&)); CREATE TABLE p (id int PRIMARY KEY, CHECK (id > 0))").await;
        let mut expected = vec!["constraint.not_looked_at public.ranges.apart"];
        if major >= 18 {
            db.execute("CREATE TABLE own (id int REFERENCES p NOT ENFORCED, CONSTRAINT small CHECK (id < 5) NOT ENFORCED, CHECK (id < 7));
                CREATE TABLE parted (id int REFERENCES p NOT ENFORCED, v int CONSTRAINT few CHECK (v < 5) NOT ENFORCED, at daterange, UNIQUE (id, at WITHOUT OVERLAPS)) PARTITION BY RANGE (id);
                CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9); INSERT INTO own VALUES (6); INSERT INTO parted VALUES (1, 9, '[2026-01-01,2026-02-01)')").await;
            expected.splice(0..0, [
                "constraint.not_looked_at public.own.own_id_fkey",
                "constraint.not_looked_at public.own.small",
                "constraint.not_looked_at public.parted.few",
                "constraint.not_looked_at public.parted.parted_id_at_key",
                "constraint.not_looked_at public.parted.parted_id_fkey",
            ]);
        }
        let workspace = workspace(&db, "{ amcheck: off, exclude: [public.hidden], recheck_after: 0s }");
        for _ in 0..2 {
            let document = run(&workspace);
            assert_eq!(found(&document), expected, "{document:#}");
            let findings = document["runs"][0]["findings"].as_array().unwrap();
            assert!(findings.iter().all(|f| f["severity"] == "info"), "{document:#}");
            assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
        }
    }
}

/// A foreign key over periods is kept by all rows of its key together.
#[tokio::test]
async fn periods_have_to_be_covered_pg18() {
    let db = fresh_database(18).await;
    db.execute("CREATE EXTENSION btree_gist; CREATE SCHEMA \"select\";
        CREATE TABLE \"select\".\"Rooms\" (id int, \"valid At\" daterange, PRIMARY KEY (id, \"valid At\" WITHOUT OVERLAPS));
        CREATE TABLE bookings (n int, room int, during daterange,
            CONSTRAINT \"kept; free\" FOREIGN KEY (room, PERIOD during) REFERENCES \"select\".\"Rooms\" (id, PERIOD \"valid At\"));
        CREATE TABLE spans (id int4range, during int4multirange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
        CREATE TABLE parts (id int4range, during int4multirange, FOREIGN KEY (id, PERIOD during) REFERENCES spans (id, PERIOD during));
        INSERT INTO \"select\".\"Rooms\" VALUES (1, '[2026-01-01,2026-02-01)'), (1, '[2026-02-01,2026-03-01)'), (2, '[2026-01-01,2026-01-31)'), (2, '[2026-02-01,)');
        INSERT INTO bookings VALUES (1, 1, '[2026-01-20,2026-02-10)'), (2, NULL, '[2020-01-01,2021-01-01)'), (3, 9, NULL), (4, 2, '[2026-03-01,)');
        INSERT INTO spans VALUES ('[1,2)', '{[1,5),[7,9)}'), ('[1,2)', '{[5,7)}'); INSERT INTO parts VALUES ('[1,2)', '{[2,8)}')").await;
    let workspace = workspace(&db, "{ amcheck: off, recheck_after: 0s }");
    let healthy = run(&workspace);
    // Whether periods overlap is not looked at.
    let unlooked = [
        "constraint.not_looked_at \"select\".\"Rooms\".\"Rooms_pkey\"",
        "constraint.not_looked_at public.spans.spans_pkey",
    ];
    assert_eq!(found(&healthy), unlooked, "{healthy:#}");
    assert_eq!(healthy["runs"][0]["steps"].as_array().unwrap().len(), 2);
    // A day between two periods, past the last one, no such key, an empty period.
    db.execute("SET session_replication_role = replica;
        INSERT INTO bookings VALUES (5, 2, '[2026-01-20,2026-02-10)'), (6, 1, '[2026-02-10,2026-03-02)'), (7, 3, '[2026-01-01,2026-01-02)'), (8, 1, 'empty');
        INSERT INTO parts VALUES ('[1,2)', '{[2,3),[8,10)}'); SET session_replication_role = origin").await;
    let document = run(&workspace);
    assert_eq!(
        found(&document)[2..],
        [
            "foreign_key.orphans public.bookings.\"kept; free\"",
            "foreign_key.orphans public.parts.parts_id_during_fkey"
        ],
        "{document:#}"
    );
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let of = |table: &str| {
        findings
            .iter()
            .find(|f| f["object"].as_str().unwrap().contains(table))
            .unwrap()
    };
    let (bookings, parts) = (of("bookings"), of("parts"));
    assert!(
        bookings["message"]
            .as_str()
            .unwrap()
            .starts_with("4 rows of public.bookings"),
        "{bookings:#}"
    );
    assert!(
        parts["message"]
            .as_str()
            .unwrap()
            .starts_with("1 row of public.parts"),
        "{parts:#}"
    );
    let listed = db
        .strings(&format!(
            "SELECT n::text FROM ({}) f ORDER BY n",
            bookings["suggestion"].as_str().unwrap()
        ))
        .await;
    assert_eq!(listed, ["5", "6", "7", "8"]);
    // The server agrees: each of them is refused when written under its eyes.
    for row in [
        "5, 2, '[2026-01-20,2026-02-10)'",
        "6, 1, '[2026-02-10,2026-03-02)'",
        "7, 3, '[2026-01-01,2026-01-02)'",
        "8, 1, 'empty'",
    ] {
        let refused = db
            .client
            .batch_execute(&format!("INSERT INTO bookings VALUES ({row})"))
            .await
            .unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "23503", "{row}");
    }
}

for_each_version! {
    /// What a domain demands of new values only is told, until it is validated.
    async fn checks_of_domains_that_are_not_valid_are_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA \"odd one\"; CREATE DOMAIN \"odd one\".price AS int CHECK (value > 0); CREATE TABLE t (p \"odd one\".price);
            ALTER DOMAIN \"odd one\".price ADD CONSTRAINT \"not much\" CHECK (value < 100) NOT VALID").await;
        let workspace = workspace(&db, "{ amcheck: off }");
        let document = run(&workspace);
        assert_eq!(found(&document), ["constraint.not_valid \"odd one\".price.\"not much\""], "{document:#}");
        let suggestion = document["runs"][0]["findings"][0]["suggestion"].as_str().unwrap();
        let (_, statement) = suggestion.split_once("by hand: ").unwrap();
        db.execute(statement).await;
        assert_eq!(found(&run(&workspace)), [""; 0]);
    }
}

for_oldest_and_newest! {
    /// An integer key without a sequence is judged by its statistics: where the role may not see these, that is told,
    /// with what lets it.
    async fn keys_that_cannot_be_seen_are_told(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("guest_{}", db.name);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; CREATE TABLE t (id smallint PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 32500); ANALYZE t")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let workspace = Workspace::for_target(&url).task("integrity", &format!("{INTEGRITY}options: {{ amcheck: off }}\n"));
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(found(&document), ["privilege.missing public.t"], "{document:#}");
        db.execute(document["runs"][0]["findings"][0]["suggestion"].as_str().unwrap()).await;
        let document = workspace.run(["run", "integrity", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(found(&document), ["sequence.near_end public.t.id"], "{document:#}");
    }
}
