//! Reindex: what is rebuilt, what is left and why, what is removed.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use super::{finding, objects};
use crate::settings::role;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const EVERYTHING: &str = "min_size: 0MB, min_bloat: 0%";

fn workspace(url: &str, options: &str) -> Workspace {
    Workspace::for_target(url).task(
        "reindex",
        &format!("kind: reindex\ntarget: app\noptions: {{ {options} }}\nlimits: {{ lock_timeout: 1s, lock_retries: 0 }}\n"),
    )
}

fn run(workspace: &Workspace, code: i32) -> Value {
    workspace
        .run(["run", "reindex", "--now", "--output", "json"])
        .expect(code)
        .json()
}

fn plan(workspace: &Workspace) -> Value {
    let document = workspace
        .run(["plan", "reindex", "--output", "json"])
        .expect(0)
        .json();
    document["plans"][0]["plan"].clone()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

async fn filenode(db: &TestDatabase, index: &str) -> i64 {
    db.number(&format!("SELECT pg_relation_filenode('{index}')::int8"))
        .await
}

for_each_version! {
    /// Every access method and every sort of index, leaves of partitioned
    /// ones one by one; expression indexes keep their statistics.
    async fn every_sort_of_index_is_rebuilt_once(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE m (id bigint PRIMARY KEY, u int UNIQUE, a int[], p point, t text, h text, b bigint);
            INSERT INTO m SELECT n, n, ARRAY[n, n + 1], point(n, n), n::text, n::text, n FROM generate_series(1, 3000) n;
            CREATE INDEX m_gin ON m USING gin (a);
            CREATE INDEX m_gist ON m USING gist (p);
            CREATE INDEX m_spgist ON m USING spgist (t);
            CREATE INDEX m_hash ON m USING hash (h);
            CREATE INDEX m_brin ON m USING brin (b);
            CREATE INDEX m_partial ON m (b) WHERE b > 1000;
            CREATE INDEX m_expression ON m ((b % 7));
            CREATE INDEX m_covering ON m (b) INCLUDE (u);
            CREATE TABLE p (id int, v int) PARTITION BY RANGE (id);
            CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000);
            CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (3001);
            CREATE INDEX p_v ON p (v);
            INSERT INTO p SELECT n, n FROM generate_series(1, 3000) n").await;
        db.execute("VACUUM ANALYZE").await;
        // Whoever forgets this after a rebuild leaves the planner guessing.
        let expression_rows = "SELECT count(*) FROM pg_stats WHERE tablename = 'm_expression'";
        assert_eq!(db.number(expression_rows).await, 1);
        let all = names(&["public.m_pkey", "public.m_u_key", "public.m_gin", "public.m_gist", "public.m_spgist",
            "public.m_hash", "public.m_brin", "public.m_partial", "public.m_expression", "public.m_covering",
            "public.p1_v_idx", "public.p2_v_idx"]);
        let mut before = Vec::new();
        for index in &all {
            before.push(filenode(&db, index).await);
        }
        let workspace = workspace(&db.url, EVERYTHING);
        let done = run(&workspace, 0);
        assert_eq!(objects(&done, "reindex", "succeeded"), all);
        for (index, before) in all.iter().zip(before) {
            assert_ne!(filenode(&db, index).await, before, "{index}");
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
        assert_eq!(db.number(expression_rows).await, 1);
        let again = run(&workspace, 0);
        assert_eq!(again["runs"][0]["steps"].as_array().unwrap().len(), 0, "{again:#}");
    }
}

for_each_version! {
    /// What cannot be rebuilt without blocking is left, with the reason.
    async fn what_would_block_is_left_with_the_reason(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE bookings (room int4range, EXCLUDE USING gist (room WITH &&));
            INSERT INTO bookings SELECT int4range(n * 2, n * 2 + 1) FROM generate_series(1, 500) n; ANALYZE").await;
        let workspace = workspace(&db.url, &format!("{EVERYTHING}, include: [\"public.*\", \"pg_catalog.pg_am*\"]"));
        let before = filenode(&db, "public.bookings_room_excl").await;
        let plan = plan(&workspace);
        let skipped = plan["skipped"].as_array().unwrap();
        let reason = |object: &str| skipped.iter().find(|s| s["object"] == object)
            .unwrap_or_else(|| panic!("{object} in {plan:#}"))["reason"].as_str().unwrap().to_owned();
        assert!(reason("public.bookings_room_excl").contains("exclusion constraint cannot be rebuilt concurrently"));
        assert!(reason("pg_catalog.pg_am_oid_index").contains("system catalogs cannot be rebuilt concurrently"));
        let done = run(&workspace, 0);
        assert_eq!(done["runs"][0]["steps"].as_array().unwrap().len(), 0, "{done:#}");
        assert_eq!(filenode(&db, "public.bookings_room_excl").await, before);
    }
}

for_each_version! {
    /// Indexes of TOAST tables only on request.
    async fn toast_indexes_on_request(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE docs (id int, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
            INSERT INTO docs SELECT n, repeat('x', 5000) FROM generate_series(1, 2000) n; ANALYZE").await;
        let toast = "(SELECT indexrelid FROM pg_index WHERE indrelid = (SELECT reltoastrelid FROM pg_class WHERE relname = 'docs'))";
        let node = format!("SELECT pg_relation_filenode({toast})::int8");
        let name: String = db.client.query_one(&format!("SELECT {toast}::regclass::text"), &[]).await.unwrap().get(0);
        let before = db.number(&node).await;
        run(&workspace(&db.url, EVERYTHING), 0);
        assert_eq!(db.number(&node).await, before);
        let asking = workspace(&db.url, &format!("{EVERYTHING}, toast: true, include: [\"pg_toast.*\"]"));
        let done = run(&asking, 0);
        assert!(objects(&done, "reindex", "succeeded").contains(&name), "{done:#}");
        assert_ne!(db.number(&node).await, before);
        assert_eq!(db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
    }
}

for_each_version! {
    /// Leftovers are known by the server's rule for names, and proved by
    /// definition; whatever is valid, different, or being worked on stays.
    async fn leftovers_are_removed_only_when_they_are_nobodys(major: u32) {
        let db = fresh_database(major).await;
        let long = "n".repeat(63);
        let leftovers = [
            ("short_ccnew".to_owned(), "a"),
            ("short_ccnew1".to_owned(), "a"),
            ("short_ccold".to_owned(), "a"),
            (format!("{}_ccnew", &long[..57]), "b"),
            (format!("{}_ccnew2", &long[..56]), "b"),
        ];
        db.execute(&format!("CREATE TABLE t (a int, b int, c int); CREATE TABLE busy (a int);
            INSERT INTO t SELECT n, n, n FROM generate_series(1, 1000) n;
            CREATE INDEX short ON t (a); CREATE INDEX \"{long}\" ON t (b); CREATE INDEX other ON t (c); CREATE INDEX busy_a ON busy (a);
            CREATE INDEX other_ccnew ON t (c); CREATE INDEX short_ccnew9 ON t (b, c);
            CREATE INDEX nobody_ccnew ON t (a, b); CREATE INDEX busy_a_ccnew ON busy (a)")).await;
        for (name, column) in &leftovers {
            db.execute(&format!("CREATE INDEX \"{name}\" ON t ({column})")).await;
        }
        let invalid: Vec<String> = leftovers.iter().map(|(name, _)| format!("'{name}'"))
            // Another definition; no base; somebody at work.
            .chain(["'short_ccnew9'", "'nobody_ccnew'", "'busy_a_ccnew'"].map(str::to_owned)).collect();
        db.execute(&format!("UPDATE pg_index SET indisvalid = false WHERE indexrelid IN
            (SELECT oid FROM pg_class WHERE relname IN ({}))", invalid.join(", "))).await;
        db.execute("ANALYZE").await;
        let builder = db.connect().await;
        builder.batch_execute("BEGIN; LOCK TABLE busy IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();

        let workspace = workspace(&db.url, "min_bloat: 90%");
        let done = run(&workspace, 0);
        let removed: BTreeSet<String> = leftovers.iter().map(|(name, _)| format!("public.{name}")).collect();
        assert_eq!(objects(&done, "drop_leftover", "succeeded"), removed, "{done:#}");
        let stays = "SELECT count(*) FROM pg_class WHERE relname IN
            ('other_ccnew', 'short_ccnew9', 'nobody_ccnew', 'busy_a_ccnew', 'short', 'other', 'busy_a')";
        assert_eq!(db.number(stays).await, 7);
        assert_eq!(db.number(&format!("SELECT count(*) FROM pg_class WHERE relname = '{long}'")).await, 1);
        // The one that looks like a leftover is named with who works on it.
        let plan = plan(&workspace);
        assert!(plan["skipped"].to_string().contains("somebody works on public.busy"), "{plan:#}");
        builder.batch_execute("ROLLBACK").await.unwrap();
        let done = run(&workspace, 0);
        assert_eq!(objects(&done, "drop_leftover", "succeeded"), names(&["public.busy_a_ccnew"]));
        assert_eq!(db.number(stays).await, 6);
    }
}

for_oldest_and_newest! {
    /// `method: exact` reads pages where pgstattuple is installed, and says so
    /// where it is not.
    async fn exact_where_possible(major: u32) {
        let db = fresh_database(major).await;
        for table in ["bloated", "tight"] {
            db.execute(&format!("CREATE TABLE {table} (id bigint); INSERT INTO {table} SELECT generate_series(1, 50000); CREATE INDEX {table}_id ON {table} (id)")).await;
        }
        db.execute("DELETE FROM bloated WHERE id % 4 <> 0").await;
        db.execute("VACUUM ANALYZE").await;
        let workspace = workspace(&db.url, "method: exact, min_size: 100kB");
        let without = plan(&workspace);
        assert_eq!(without["findings"][0]["code"], "extension.missing", "{without:#}");
        db.execute("CREATE EXTENSION pgstattuple").await;
        let with = plan(&workspace);
        assert_eq!(with["findings"].as_array().unwrap().len(), 0);
        let steps = with["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 1, "{with:#}");
        assert_eq!(steps[0]["object"], "public.bloated_id");
        assert!(steps[0]["reason"].as_str().unwrap().contains("measured page by page"));
        let expected = steps[0]["estimate"]["bytes_after"].as_f64().unwrap();
        run(&workspace, 0);
        let real = db.number("SELECT pg_relation_size('bloated_id')").await as f64;
        assert!((expected / real - 1.0).abs() < 0.15, "expected {expected}, became {real}");
        assert_eq!(plan(&workspace)["steps"].as_array().unwrap().len(), 0);
    }
}

for_oldest_and_newest! {
    /// What a build itself leaves free is no bloat: a second run right after the first does nothing,
    /// and what has come free since is found all the same.
    async fn what_a_build_leaves_is_no_bloat(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pgstattuple; CREATE TABLE h (id int, r tstzrange);
            INSERT INTO h SELECT i, tstzrange('2026-01-01'::timestamptz + i * interval '1 min', '2026-01-01'::timestamptz + i * interval '31 min') FROM generate_series(1, 20000) i;
            CREATE INDEX h_gist ON h USING gist (r); CREATE INDEX h_hash ON h USING hash (id); CREATE INDEX h_tree ON h (id)").await;
        db.execute("VACUUM ANALYZE h").await;
        let first = workspace(&db.url, EVERYTHING);
        run(&first, 0);
        let exact = "kind: reindex\ntarget: app\noptions: { method: exact, min_size: 8kB, min_bloat: 1% }\n";
        let workspace = first.task("reindex", exact);
        let nothing = run(&workspace, 0);
        assert_eq!(nothing["runs"][0]["steps"].as_array().unwrap().len(), 0, "{nothing:#}");
        db.execute("DELETE FROM h WHERE id > 5000").await;
        db.execute("VACUUM ANALYZE h").await;
        let done = run(&workspace, 0);
        assert!(objects(&done, "reindex", "succeeded").is_superset(&names(&["public.h_gist", "public.h_tree"])), "{done:#}");
        let again = run(&workspace, 0);
        assert_eq!(again["runs"][0]["steps"].as_array().unwrap().len(), 0, "{again:#}");
    }
}

for_each_version! {
    /// A role that may not is told once, and what is needed; with MAINTAIN
    /// (17 and newer) it may.
    async fn a_role_that_may_not_is_told(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("{}_reader", db.name);
        db.execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'p';
            CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 5000); CREATE INDEX t_id ON t (id)")).await;
        db.execute("ANALYZE").await;
        let mut url = Url::parse(&db.url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("p")).unwrap();
        let workspace = workspace(url.as_str(), EVERYTHING);
        // Nothing of what was asked for could be done.
        let done = run(&workspace, 1);
        assert_eq!(done["runs"][0]["steps"].as_array().unwrap().len(), 0, "{done:#}");
        let told = finding(&done, "privilege.missing");
        assert_eq!(told["object"], "public.t_id");
        if major >= 17 {
            assert!(told["suggestion"].as_str().unwrap().contains("GRANT MAINTAIN ON public.t TO"), "{told:#}");
            db.execute(&format!("GRANT MAINTAIN ON t TO \"{role}\"")).await;
            let done = run(&workspace, 0);
            assert_eq!(objects(&done, "reindex", "succeeded"), names(&["public.t_id"]));
        } else {
            // Whoever is a member of a superuser is one.
            let help = told["message"].as_str().unwrap();
            assert!(!help.contains("GRANT") && help.contains("ALTER TABLE public.t OWNER TO"), "{told:#}");
            assert!(told["suggestion"].is_null(), "{told:#}");
            let advice = workspace.run(["advise"]).expect(0).stdout;
            assert!(advice.lines().all(|line| line.is_empty() || line.starts_with("--")), "{advice}");
            // Neither of one who can make himself, or others, mighty.
            let owner = format!("{}_owner", db.name);
            db.execute(&format!("CREATE ROLE \"{owner}\" CREATEROLE; GRANT CREATE ON SCHEMA public TO \"{owner}\"; ALTER TABLE t OWNER TO \"{owner}\"")).await;
            let done = run(&workspace, 1);
            assert!(finding(&done, "privilege.missing")["suggestion"].is_null(), "{done:#}");
            db.execute(&format!("ALTER ROLE \"{owner}\" NOCREATEROLE")).await;
            let done = run(&workspace, 1);
            let help = finding(&done, "privilege.missing")["suggestion"].as_str().unwrap().to_owned();
            assert_eq!(help, format!("GRANT {owner} TO {role}"), "{done:#}");
            db.execute(&help).await;
            let done = run(&workspace, 0);
            assert_eq!(objects(&done, "reindex", "succeeded"), names(&["public.t_id"]));
            db.execute(&format!("ALTER TABLE t OWNER TO current_user; DROP OWNED BY \"{owner}\"; DROP ROLE \"{owner}\"")).await;
        }
        db.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
    }
}

for_oldest_and_newest! {
    /// What was learned of an index holds for that one: another that was made under its name is
    /// not measured against it, nor is one of a table that was made anew.
    async fn what_was_learned_of_an_index_is_not_believed_of_another_of_its_name(major: u32) {
        let db = fresh_database(major).await;
        let table = "CREATE TABLE t (id int, narrow int, wide text);
            INSERT INTO t SELECT g, g, repeat(md5(g::text), 8) FROM generate_series(1, 20000) g";
        db.execute(&format!("{table}; CREATE INDEX i ON t (narrow) WHERE id > 0; ANALYZE t")).await;
        let workspace = workspace(&db.url, EVERYTHING);
        assert_eq!(objects(&run(&workspace, 0), "reindex", "succeeded"), BTreeSet::from(["public.i".to_owned()]));
        assert_eq!(objects(&run(&workspace, 0), "reindex", "succeeded"), BTreeSet::new());
        let learned = || async {
            let store = maint::history::open(&format!("sqlite:{}", workspace.history().display())).await.unwrap();
            let known = store.baselines("app").await.unwrap().remove("public.i").unwrap();
            store.close().await;
            (known.rebuilt, known.bytes, known.made_as.unwrap())
        };
        let (rebuilt, narrow, first) = learned().await;
        assert!(rebuilt);
        // Smaller than what was learned, and as bloated as the day: with `0%` it is rebuilt once, as nothing is known of it.
        db.execute("DROP INDEX i; CREATE INDEX i ON t (id) WHERE id < 100; ANALYZE t").await;
        let document = run(&workspace, 0);
        assert_eq!(objects(&document, "reindex", "succeeded"), BTreeSet::from(["public.i".to_owned()]), "{document:#}");
        let (rebuilt, bytes, second) = learned().await;
        assert!(rebuilt && bytes < narrow && first != second, "{bytes} {narrow} {first} {second}");
        assert_eq!(objects(&run(&workspace, 0), "reindex", "succeeded"), BTreeSet::new());
        // The same definition on a table that was made anew, with rows that need more.
        db.execute(&format!("DROP TABLE t; {table}; CREATE INDEX i ON t (id) WHERE id < 100; ANALYZE t")).await;
        assert_eq!(objects(&run(&workspace, 0), "reindex", "succeeded"), BTreeSet::from(["public.i".to_owned()]));
        let (_, _, third) = learned().await;
        assert_ne!(second, third);
        // Neither ANALYZE, nor VACUUM, nor another name of the table makes it another one.
        for sql in ["VACUUM t", "VACUUM FULL t", "ALTER TABLE t RENAME TO u", "ANALYZE u"] {
            db.execute(sql).await;
        }
        assert_eq!(objects(&run(&workspace, 0), "reindex", "succeeded"), BTreeSet::new());
        assert_eq!(learned().await.2, third);
    }
}

/// An event trigger that fails is asked after a concurrent rebuild has been committed: that is done, and
/// told so, with what failed. Before 17 none is asked. One that fails before it is a failure.
#[tokio::test]
async fn a_rebuild_that_an_event_trigger_fails_after_is_done() {
    for major in [17, 18] {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, "").await;
        db.execute(&format!("GRANT ALL ON SCHEMA public TO {keeper}; CREATE TABLE t (id int PRIMARY KEY, at int); ALTER TABLE t OWNER TO {keeper};
            INSERT INTO t SELECT n, n FROM generate_series(1, 3000) n; CREATE INDEX t_at ON t (at);
            CREATE TABLE noted (what text);
            CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.noted VALUES (tg_tag); END $$;
            CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note()")).await;
        db.execute("VACUUM ANALYZE t").await;
        let workspace = workspace(&url, EVERYTHING);
        let nodes = [filenode(&db, "t_at").await, filenode(&db, "t_pkey").await];
        let document = run(&workspace, 0);
        assert_eq!(
            objects(&document, "reindex", "succeeded"),
            names(&["public.t_at", "public.t_pkey"]),
            "{document:#}"
        );
        let told = finding(&document, "statement.failed_after");
        let message = told["message"].as_str().unwrap();
        assert!(
            message.contains("is done and committed") && message.contains("the event trigger note"),
            "{document:#}"
        );
        for (index, before) in ["t_at", "t_pkey"].into_iter().zip(nodes) {
            assert_ne!(filenode(&db, index).await, before, "{index}");
        }
        let invalid =
            "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 't'::regclass";
        assert_eq!(db.number(invalid).await, 0);
        db.execute("DROP EVENT TRIGGER note; CREATE EVENT TRIGGER note ON ddl_command_start EXECUTE FUNCTION note(); DELETE FROM t WHERE id % 5 <> 0").await;
        db.execute("VACUUM ANALYZE t").await;
        let document = run(&workspace, 1);
        assert_eq!(
            objects(&document, "reindex", "failed"),
            names(&["public.t_at", "public.t_pkey"]),
            "{document:#}"
        );
    }
}
