//! A new partition has what its siblings have, and what stands in the way of
//! an extra stands in nobody else's.

use serde_json::Value;

use crate::support::servers::{TestDatabase, cluster, connect, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(url: &str, options: &str) -> Workspace {
    Workspace::for_target(url).task("partitions", &task(options))
}

fn task(options: &str) -> String {
    format!("kind: partitions\ntarget: app\noptions: {{ {options} }}\n")
}

fn run(workspace: &Workspace) -> Value {
    run_with(workspace, 0)
}

fn run_with(workspace: &Workspace, code: i32) -> Value {
    workspace
        .run(["run", "partitions", "--now", "--output", "json"])
        .expect(code)
        .json()
}

fn codes(document: &Value) -> Vec<&str> {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect()
}

/// `action status` of all steps.
fn steps(document: &Value) -> Vec<String> {
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    let word = |v: &Value| v.as_str().unwrap().to_owned();
    steps
        .iter()
        .map(|s| format!("{} {}", word(&s["action"]), word(&s["status"])))
        .collect()
}

/// The first day of the current month and of later ones, as the server sees them.
async fn month(db: &TestDatabase, ahead: i32) -> String {
    db.strings(&format!("SELECT to_char((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '{ahead} months')::date, 'YYYY-MM-DD')")).await.remove(0)
}

async fn sibling(db: &TestDatabase, table: &str, name: &str, from: &str, to: &str) {
    db.execute(&format!(
        "CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{from}') TO ('{to}')"
    ))
    .await;
}

for_each_version! {
    /// Row security, policies, column grants, local keys and indexes, the
    /// identity of rows, the owner: whoever saw half of the rows sees half of the new ones.
    async fn who_saw_half_sees_half(major: u32) {
        let db = fresh_database(major).await;
        let (reader, owner) = (format!("reader_{}", db.name), format!("owner_{}", db.name));
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute(&format!("CREATE ROLE {reader} LOGIN PASSWORD 'x'; CREATE ROLE {owner}; GRANT CREATE, USAGE ON SCHEMA public TO {owner};
            CREATE TABLE tenants (id int, mine bool); GRANT SELECT ON tenants TO {reader}; INSERT INTO tenants VALUES (1, true), (2, false);
            CREATE TABLE ev (id int NOT NULL, tenant int, secret text, at timestamptz NOT NULL) PARTITION BY RANGE (at); ALTER TABLE ev OWNER TO {owner}")).await;
        sibling(&db, "ev", "ev_first", &this, &next).await;
        db.execute(&format!("ALTER TABLE ev_first OWNER TO {owner}; ALTER TABLE ev_first ENABLE ROW LEVEL SECURITY; ALTER TABLE ev_first FORCE ROW LEVEL SECURITY;
            CREATE POLICY half ON ev_first FOR SELECT TO {reader} USING (EXISTS (SELECT 1 FROM tenants t WHERE t.id = ev_first.tenant AND t.mine));
            CREATE POLICY \"odd; one\" ON ev_first AS RESTRICTIVE FOR ALL TO PUBLIC USING (id <> 13) WITH CHECK (id <> 13);
            GRANT SELECT (id, tenant) ON ev_first TO {reader}; GRANT UPDATE (\"secret\") ON ev_first TO {reader} WITH GRANT OPTION;
            ALTER TABLE ev_first ADD PRIMARY KEY (id); CREATE INDEX ON ev_first (lower(secret)) WHERE tenant > 0;
            CREATE UNIQUE INDEX ON ev_first (tenant, id); ALTER TABLE ev_first ALTER tenant SET NOT NULL; ALTER TABLE ev ALTER tenant SET NOT NULL;
            ALTER TABLE ev_first REPLICA IDENTITY USING INDEX ev_first_tenant_id_idx")).await;
        let workspace = workspace(&db.url, "tables: [public.ev], interval: month, ahead: 2");
        let document = run(&workspace);
        assert_eq!(steps(&document), vec!["create_partition succeeded"; 2], "{document:#}");
        assert_eq!(codes(&document), Vec::<&str>::new(), "{document:#}");
        let new = document["runs"][0]["steps"][0]["object"].as_str().unwrap().to_owned();
        db.execute(&format!("INSERT INTO ev SELECT g, 1 + g % 2, 's', '{next}' FROM generate_series(1, 20) g WHERE g <> 13")).await;
        let guest = connect(&format!("postgres://{reader}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name)).await;
        let seen: i64 = guest.query_one(&format!("SELECT count(id) FROM {new}"), &[]).await.unwrap().get(0);
        assert_eq!(seen, 10);
        assert!(guest.query(&format!("SELECT secret FROM {new}"), &[]).await.is_err(), "a column that nobody granted");
        // The same of both, but for names.
        let same = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
            SELECT 'policy ' || polname || polcmd::text || polpermissive || polroles::text || replace(coalesce(pg_get_expr(polqual, polrelid), ''), c.relname, 'X') || coalesce(pg_get_expr(polwithcheck, polrelid), '') FROM pg_policy WHERE polrelid = c.oid
            UNION ALL SELECT 'column ' || attname || attacl::text FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL
            UNION ALL SELECT 'index ' || regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', '') || indisprimary || indisreplident FROM pg_index WHERE indrelid = c.oid
            UNION ALL SELECT 'table ' || relowner::regrole || relrowsecurity || relforcerowsecurity || relreplident::text || coalesce(relacl::text, '')) lines(line), pg_class c";
        let of = |table: &str| same.replace("FROM (", "FROM (SELECT * FROM pg_class WHERE oid = 'TABLE'::regclass) c, LATERAL (").replace(", pg_class c", "").replace("TABLE'", &format!("{table}'"));
        assert_eq!(db.strings(&of(&new)).await, db.strings(&of("ev_first")).await);
        // The owner can go on working with all of them.
        db.execute(&format!("SET ROLE {owner}; ALTER TABLE ev ADD COLUMN more int")).await;
        let again = run(&workspace);
        assert_eq!(steps(&again), Vec::<String>::new(), "{again:#}");
    }
}

for_each_version! {
    /// What the default privileges of whoever creates it say is nothing that a sibling has; and
    /// what its owner has given up stays given up.
    async fn default_privileges_are_not_for_new_partitions(major: u32) {
        let db = fresh_database(major).await;
        let (reader, owner) = (format!("reader_{}", db.name), format!("owner_{}", db.name));
        let (keeper, url) = crate::settings::role(&db, "").await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute(&format!("CREATE ROLE {reader}; CREATE ROLE {owner}; GRANT {owner} TO {keeper}; GRANT ALL ON SCHEMA public TO {owner}, {keeper};
            ALTER DEFAULT PRIVILEGES FOR ROLE {keeper} GRANT SELECT, INSERT ON TABLES TO {reader};
            ALTER DEFAULT PRIVILEGES FOR ROLE {keeper} REVOKE TRUNCATE ON TABLES FROM {keeper};
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};
            SET ROLE {owner}; CREATE TABLE pay (id int, at date, card text) PARTITION BY RANGE (at);
            CREATE TABLE pay_first PARTITION OF pay FOR VALUES FROM ('{this}') TO ('{next}');
            REVOKE ALL ON pay, pay_first FROM {reader}; REVOKE UPDATE ON pay_first FROM {owner}; GRANT UPDATE (id) ON pay_first TO {reader};
            CREATE TABLE bare (id int, at date) PARTITION BY RANGE (at); RESET ROLE")).await;
        for url in [url.as_str(), db.url.as_str()] {
            for table in db.strings("SELECT oid::regclass::text FROM pg_class WHERE relispartition AND relname <> 'pay_first'").await {
                db.execute(&format!("DROP TABLE {table}")).await;
            }
            let document = run(&workspace(url, "tables: [public.pay, public.bare], interval: month, ahead: 1"));
            assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
        }
        assert!(db.number("SELECT count(*) FROM pg_class WHERE relispartition").await >= 4);
        let may = |table: &str, what: &str| format!("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r' AND relname ~ '^{table}' AND has_table_privilege('{reader}', oid, '{what}')");
        for what in ["SELECT", "INSERT"] {
            for table in ["pay", "bare"] {
                assert_eq!(db.number(&may(table, what)).await, 0, "{table} {what}");
            }
        }
        let unlike = format!("SELECT count(*) FROM pg_class WHERE relispartition AND relname ~ '^pay' AND NOT (has_table_privilege('{owner}', oid, 'TRUNCATE')
            AND NOT has_table_privilege('{owner}', oid, 'UPDATE') AND has_any_column_privilege('{reader}', oid, 'UPDATE'))");
        assert_eq!(db.number(&unlike).await, 0);
    }
}

for_oldest_and_newest! {
    /// Where nothing but a default partition is there, or nothing at all, whoever may not read the table, or
    /// some of its rows only, may read no more of a new partition: not by what its owner gives by default.
    async fn a_first_partition_is_no_wider_than_its_table(major: u32) {
        let db = fresh_database(major).await;
        let reader = format!("reader_{}", db.name);
        let (owner, url) = crate::settings::role(&db, "").await;
        db.execute(&format!("CREATE ROLE {reader}; GRANT ALL ON SCHEMA public TO {owner}; ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT INSERT ON TABLES TO PUBLIC; SET ROLE {owner};
            CREATE TABLE ev (id int, at date) PARTITION BY RANGE (at); CREATE TABLE ev_d PARTITION OF ev DEFAULT;
            REVOKE ALL ON ev, ev_d FROM {reader}, PUBLIC; GRANT UPDATE ON ev_d TO {reader};
            ALTER TABLE ev_d ENABLE ROW LEVEL SECURITY; CREATE POLICY part ON ev_d FOR SELECT TO {reader} USING (ev_d.id > 5);
            INSERT INTO ev VALUES (1, current_date);
            CREATE TABLE bare (id int, at date) PARTITION BY RANGE (at); REVOKE ALL ON bare FROM {reader}, PUBLIC;
            CREATE TABLE hidden (id int, at date) PARTITION BY RANGE (at); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
            CREATE TABLE plain (id int, at date) PARTITION BY RANGE (at)")).await;
        let document = run(&workspace(&url, "tables: [public.ev, public.bare, public.hidden, public.plain], interval: month, ahead: 0, move_default_rows: true"));
        assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
        let made = |table: &str, what: &str| format!("SELECT count(*) FROM pg_class WHERE relispartition AND relname ~ '^{table}_' AND relname <> 'ev_d' AND {what}");
        let reads = format!("has_table_privilege('{reader}', oid, 'SELECT')");
        for (table, may) in [("ev", 0), ("bare", 0), ("hidden", 0), ("plain", 1)] {
            assert_eq!(db.number(&made(table, "true")).await, 1, "{table}");
            assert_eq!(db.number(&made(table, &reads)).await, may, "{table}");
        }
        let like = format!("relrowsecurity AND has_table_privilege('{reader}', oid, 'UPDATE') AND NOT has_table_privilege('{reader}', oid, 'INSERT')
            AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = pg_class.oid AND polname = 'part')");
        assert_eq!(db.number(&made("ev", &like)).await, 1);
        assert_eq!(db.number("SELECT count(*) FROM ONLY ev_d").await, 0);
    }
}

/// A publication of some rows and columns is suggested for the same of the new partition.
#[tokio::test]
async fn a_publication_of_some_is_suggested_as_it_is() {
    let db = fresh_database(17).await;
    let (this, next) = (month(&db, 0).await, month(&db, 1).await);
    db.execute(&format!("CREATE TABLE ev (id int, at date NOT NULL, secret text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE ev_first PARTITION OF ev FOR VALUES FROM ('{this}') TO ('{next}');
        CREATE PUBLICATION partly FOR TABLE ONLY ev_first (id, at) WHERE (id > 5)")).await;
    let document = run(&workspace(
        &db.url,
        "tables: [public.ev], interval: month, ahead: 1",
    ));
    let suggestion = document["runs"][0]["findings"][0]["suggestion"]
        .as_str()
        .unwrap();
    db.execute(suggestion).await;
    assert_eq!(
        db.strings("SELECT DISTINCT attnames::text || ' ' || rowfilter FROM pg_publication_tables")
            .await,
        ["{id,at} (id > 5)"],
        "{suggestion}"
    );
    assert_eq!(
        db.number("SELECT count(*) FROM pg_publication_tables")
            .await,
        2
    );
}

for_oldest_and_newest! {
    /// A first partition belongs to who owns the table.
    async fn a_first_partition_belongs_to_the_owner_of_the_table(major: u32) {
        let db = fresh_database(major).await;
        let owner = format!("owner_{}", db.name);
        db.execute(&format!("CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; CREATE TABLE ev (id int, at date) PARTITION BY RANGE (at); ALTER TABLE ev REPLICA IDENTITY FULL; ALTER TABLE ev OWNER TO {owner}")).await;
        let document = run(&workspace(&db.url, "tables: [public.ev], interval: month, ahead: 0"));
        assert_eq!(steps(&document), ["create_partition succeeded"], "{document:#}");
        assert_eq!(db.strings("SELECT relowner::regrole || ' ' || relreplident::text FROM pg_class WHERE relispartition").await, [format!("{owner} f")]);
        db.execute(&format!("SET ROLE {owner}; ALTER TABLE ev ADD COLUMN more int")).await;
    }
}

for_oldest_and_newest! {
    /// Subscribers know no partition that they have not been told of: who makes one says so, where a publication
    /// tells of rows by their partition.
    async fn who_follows_the_table_is_to_be_told(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        for (publication, told) in [
            ("FOR TABLE ev", vec!["partitions.subscribers"]),
            ("FOR ALL TABLES", vec!["partitions.subscribers"]),
            ("FOR TABLE ev_first", vec!["partitions.subscribers"]),
            ("FOR TABLE ev WITH (publish_via_partition_root)", vec![]),
            ("FOR TABLE other", vec![]),
        ] {
            db.execute(&format!("DROP TABLE IF EXISTS ev, other; CREATE TABLE other (id int); CREATE TABLE ev (id int, at date) PARTITION BY RANGE (at);
                CREATE TABLE ev_first PARTITION OF ev FOR VALUES FROM ('{this}') TO ('{next}'); DROP PUBLICATION IF EXISTS \"p b\"; CREATE PUBLICATION \"p b\" {publication}")).await;
            let workspace = workspace(&db.url, "tables: [ev], interval: month, ahead: 2");
            let document = run(&workspace);
            assert_eq!(steps(&document), vec!["create_partition succeeded"; 2], "{document:#}");
            assert_eq!(codes(&document), told, "{publication}: {document:#}");
            if let [finding] = document["runs"][0]["findings"].as_array().unwrap().as_slice() {
                let message = finding["message"].as_str().unwrap();
                assert!(message.starts_with("the first row that comes into 2 new partitions of "), "{message}");
                assert!(message.contains("stops the replication of all tables at who subscribes to the publication \"p b\""), "{message}");
            }
            assert_eq!(codes(&run(&workspace)), Vec::<&str>::new());
        }
    }
}

for_each_version! {
    /// A publication of another role, a type that bears the name, names that
    /// are cut, a tablespace that the role prefers: none keeps rows from having a partition.
    async fn an_extra_that_cannot_be_had_stops_nothing(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("keeper_{}", db.name);
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        let long = format!("measurements_{}", "x".repeat(34));
        assert_eq!(long.len(), 47);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; CREATE SCHEMA app AUTHORIZATION {role};
            SET ROLE {role}; CREATE TABLE app.ev (id int, at date) PARTITION BY RANGE (at);
            CREATE TABLE app.{long} (region text, at date) PARTITION BY RANGE (at); RESET ROLE;
            ALTER ROLE {role} SET default_tablespace = 'pg_default'")).await;
        let (y, m) = (&next[..4], &next[5..7]);
        db.execute(&format!("SET ROLE {role}; CREATE TABLE app.ev_first PARTITION OF app.ev FOR VALUES FROM ('{this}') TO ('{next}');
            CREATE TYPE app.ev_y{y}m{m} AS ENUM ('a');
            CREATE TABLE app.{long}_first PARTITION OF app.{long} FOR VALUES FROM ('{this}') TO ('{next}') PARTITION BY LIST (region);
            CREATE TABLE app.{long}_first_eu PARTITION OF app.{long}_first FOR VALUES IN ('eu'); CREATE TABLE app.other PARTITION OF app.{long}_first DEFAULT; RESET ROLE;
            CREATE PUBLICATION of_another FOR TABLE app.ev_first")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let workspace = workspace(&url, &format!("tables: [app.ev, app.{long}], interval: month, ahead: 3"));
        let document = run(&workspace);
        assert_eq!(steps(&document), vec!["create_partition succeeded"; 6], "{document:#}");
        assert_eq!(codes(&document), vec!["partitions.publication"; 3], "{document:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r' AND reltablespace = 0").await, 12);
        let statement = document["runs"][0]["findings"][0]["suggestion"].as_str().unwrap();
        db.execute(statement).await;
        let again = run(&workspace);
        assert_eq!(steps(&again), Vec::<String>::new());
        // All have their rows' place, names with the period whole.
        db.execute(&format!("INSERT INTO app.ev SELECT g, d::date FROM generate_series(1, 5) g, generate_series('{this}'::date, '{next}'::date + interval '1 month', '1 day') d;
            INSERT INTO app.{long} SELECT r, d::date FROM unnest(ARRAY['eu', 'us']) r, generate_series('{this}'::date, '{next}'::date + interval '1 month', '1 day') d")).await;
        let names = db.strings(&format!("SELECT relname::text FROM pg_class WHERE relname ~ 'm{m}_eu$' AND relname ~ 'y{y}'")).await;
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

for_each_version! {
    /// A partition that somebody is detaching takes no rows: the period gets a
    /// new one in the same run.
    async fn a_pending_detach_covers_nothing(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute("CREATE TABLE ev (id int, at timestamptz) PARTITION BY RANGE (at)").await;
        sibling(&db, "ev", "ev_now", &format!("{this}+00"), &format!("{next}+00")).await;
        let reader = db.connect().await;
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ev").await.unwrap();
        let other = db.connect().await;
        other.batch_execute("SET statement_timeout = '300ms'").await.unwrap();
        assert!(other.batch_execute("ALTER TABLE ev DETACH PARTITION ev_now CONCURRENTLY").await.is_err());
        reader.batch_execute("COMMIT").await.unwrap();
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await, 1);
        assert!(db.client.batch_execute("INSERT INTO ev VALUES (1, now())").await.is_err());
        let document = run(&workspace(&db.url, "tables: [public.ev], interval: month, ahead: 0"));
        assert_eq!(steps(&document), ["finish_detach succeeded", "create_partition succeeded"], "{document:#}");
        db.execute("INSERT INTO ev VALUES (1, now())").await;
    }
}

for_oldest_and_newest! {
    /// Bounds of any value are read; rows of the default partition that are in
    /// the way are seen wherever an edge runs.
    async fn bounds_of_any_value(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute(&format!("CREATE TABLE old (at timestamptz) PARTITION BY RANGE (at); CREATE TABLE old_bc PARTITION OF old FOR VALUES FROM ('0100-01-01 00:00:00+00 BC') TO ('0001-01-01 00:00:00+00 BC');
            CREATE TABLE old_far PARTITION OF old FOR VALUES FROM ('10000-01-01 00:00:00+00') TO ('infinity');
            CREATE TABLE dates (at date) PARTITION BY RANGE (at); CREATE TABLE dates_bc PARTITION OF dates FOR VALUES FROM (MINVALUE) TO ('0044-03-15 BC'); CREATE TABLE dates_far PARTITION OF dates FOR VALUES FROM ('20000-01-01') TO (MAXVALUE);
            CREATE TABLE odd (id int, at timestamptz) PARTITION BY RANGE (at); CREATE TABLE odd_default PARTITION OF odd DEFAULT;
            CREATE TABLE odd_now PARTITION OF odd FOR VALUES FROM ('{this} 00:00+00') TO ('{next} 00:07:03+00'); INSERT INTO odd VALUES (1, '{next} 00:08+00'), (2, '{next} 00:07:03+00'), (3, '{next} 00:14:59+00')")).await;
        let workspace = workspace(&db.url, "tables: [public.old, public.dates, public.odd], interval: month, ahead: 1, move_default_rows: true");
        let document = run(&workspace);
        assert_eq!(steps(&document), vec!["create_partition succeeded"; 5], "{document:#}");
        assert_eq!(db.number("SELECT count(*) FROM odd_default").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM odd").await, 3);
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
        db.execute("INSERT INTO old VALUES (now()); INSERT INTO dates VALUES (current_date)").await;
    }
}

for_oldest_and_newest! {
    /// How large the default partition is, its files say: it is not read to
    /// find out that it is too large to be read.
    async fn a_large_default_is_measured_not_read(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pg_stat_statements; CREATE TABLE ev (id int, region int, at timestamptz) PARTITION BY RANGE (at); CREATE TABLE ev_rest PARTITION OF ev DEFAULT PARTITION BY LIST (region);
            CREATE TABLE ev_rest_1 PARTITION OF ev_rest DEFAULT; INSERT INTO ev SELECT g, g, '2001-01-01' FROM generate_series(1, 30000) g").await;
        let workspace = workspace(&db.url, "tables: [public.ev], interval: month, ahead: 1, max_default_size: 1MB");
        let document = workspace.run(["run", "partitions", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(document["runs"][0]["status"], "failed", "{document:#}");
        assert_eq!(codes(&document), ["partitions.default_large"], "{document:#}");
        assert_eq!(steps(&document), Vec::<String>::new());
        let read = db.strings("SELECT query FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query ~ 'FROM public.ev_rest'").await;
        assert_eq!(read, Vec::<String>::new());
    }
}

for_oldest_and_newest! {
    /// Midnights of existing bounds say in which zone they are; another one is asked for, not made.
    async fn existing_bounds_tell_the_zone(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int, at timestamptz) PARTITION BY RANGE (at)").await;
        for n in -3..=0 {
            let (from, to) = (month(&db, n).await, month(&db, n + 1).await);
            sibling(&db, "ev", &format!("ev_{}", n + 3), &format!("{from} 00:00+00"), &format!("{to} 00:00+00")).await;
        }
        let workspace = workspace(&db.url, "tables: [public.ev], interval: month, ahead: 1");
        let yaml = std::fs::read_to_string(workspace.path().join("schedules.yaml")).unwrap();
        workspace.file("schedules.yaml", &format!("timezone: Europe/Berlin\n{yaml}"));
        let document = workspace.run(["run", "partitions", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(codes(&document), ["partitions.time_zone"], "{document:#}");
        assert_eq!(document["runs"][0]["findings"][0]["suggestion"], "time_zone: UTC");
        assert_eq!(steps(&document), Vec::<String>::new());
        let doctor = workspace.run(["doctor"]).expect(1).stdout;
        assert!(doctor.contains("; time_zone: UTC") && !doctor.contains("partitions: works"), "{doctor}");
        workspace.file("tasks/partitions.yaml", &task("tables: [public.ev], interval: month, ahead: 1, time_zone: UTC"));
        let doctor = workspace.run(["doctor"]).stdout;
        assert!(doctor.contains("partitions: works: 1 step to do now"), "{doctor}");
        assert_eq!(steps(&run(&workspace)), ["create_partition succeeded"]);
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
    }
}

for_oldest_and_newest! {
    /// Partitions on another server: out of reach they stop nothing; when their time is over, what
    /// leads to their rows is not dropped, and that is told.
    async fn foreign_partitions_stop_nothing_and_are_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION postgres_fdw; CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', connect_timeout '1'); CREATE USER MAPPING FOR PUBLIC SERVER away;
            CREATE TABLE ev (id int, at timestamptz) PARTITION BY RANGE (at);
            CREATE FOREIGN TABLE ev_2001 PARTITION OF ev FOR VALUES FROM ('2001-01-01+00') TO ('2002-01-01+00') SERVER away;
            CREATE FOREIGN TABLE ev_2002 PARTITION OF ev FOR VALUES FROM ('2002-01-01+00') TO ('2003-01-01+00') SERVER away;
            CREATE TABLE d (id int, at timestamptz) PARTITION BY RANGE (at); CREATE FOREIGN TABLE d_rest PARTITION OF d DEFAULT SERVER away").await;
        let workspace = workspace(&db.url, "tables: [public.ev, public.d], interval: month, ahead: 0, keep: 6mo, grace: 0s, time_zone: UTC");
        let told = |document: &Value| -> Vec<(String, String)> {
            let text = |f: &Value, name: &str| f[name].as_str().unwrap().to_owned();
            let all = document["runs"][0]["findings"].as_array().unwrap().iter();
            all.filter(|f| f["code"] == "rows.foreign").map(|f| (text(f, "object"), text(f, "suggestion"))).collect()
        };
        let document = run_with(&workspace, 1);
        assert_eq!(steps(&document), ["create_partition succeeded", "create_partition succeeded"], "{document:#}");
        assert_eq!(document["runs"][0]["status"], "partial", "{document:#}");
        // The last one stays until there is another: that is the next run's.
        let advice = |name: &str| (format!("public.{name}"), format!("ALTER TABLE public.ev DETACH PARTITION public.{name}"));
        assert_eq!(told(&document), [advice("ev_2001")]);
        let document = run_with(&workspace, 1);
        assert_eq!(steps(&document), Vec::<String>::new());
        assert_eq!(told(&document), [advice("ev_2001"), advice("ev_2002")]);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'ev'::regclass").await, 3);
        // Who lets them go by hand keeps what leads to the rows.
        for (_, statement) in told(&document) {
            db.execute(&statement).await;
        }
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relkind = 'f' AND relname LIKE 'ev%'").await, 2);
    }
}

for_each_version! {
    /// Code and constraints that only the newest partition has are not repeated:
    /// they are told, with statements that give them to the new one.
    async fn what_only_the_sibling_has_is_told(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute("CREATE TABLE other (id int PRIMARY KEY);
            CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
            CREATE TABLE ev (id int, at date NOT NULL, note text DEFAULT 'x', ref int) PARTITION BY RANGE (at);
            CREATE TRIGGER all_of_them BEFORE UPDATE ON ev FOR EACH ROW EXECUTE FUNCTION seen();
            CREATE TRIGGER \"here not\" BEFORE UPDATE ON ev FOR EACH ROW EXECUTE FUNCTION seen()").await;
        sibling(&db, "ev", "\"ev Old\"", &this, &next).await;
        db.execute("ALTER TABLE \"ev Old\" DISABLE TRIGGER \"here not\"; ALTER TABLE \"ev Old\" ALTER note SET STORAGE EXTERNAL, ALTER note SET COMPRESSION pglz,
            ALTER ref SET (n_distinct = 7), ALTER ref SET STATISTICS 333").await;
        db.execute(&format!("CREATE TRIGGER audit BEFORE INSERT ON \"ev Old\" FOR EACH ROW EXECUTE FUNCTION seen();
            ALTER TABLE \"ev Old\" ADD CONSTRAINT positive CHECK (id > 0), ADD CONSTRAINT within CHECK (at >= '{this}'),
                ADD CONSTRAINT there FOREIGN KEY (ref) REFERENCES other, ALTER id SET NOT NULL, ALTER note SET DEFAULT 'y';
            CREATE STATISTICS both_of (dependencies) ON id, ref FROM \"ev Old\";
            CREATE INDEX \"by half\" ON \"ev Old\" ((id / 2)); ALTER INDEX \"by half\" ALTER COLUMN 1 SET STATISTICS 700; CLUSTER \"ev Old\" USING \"by half\";
            CREATE RULE spares AS ON UPDATE TO \"ev Old\" WHERE old.id < 0 DO ALSO NOTHING; CREATE RULE also AS ON DELETE TO \"ev Old\" DO ALSO NOTHING;
            CREATE POLICY few ON \"ev Old\" USING (id > 0); COMMENT ON POLICY few ON \"ev Old\" IS 'whose''s'; COMMENT ON TRIGGER audit ON \"ev Old\" IS 'who';
            COMMENT ON RULE spares ON \"ev Old\" IS 'spared'; COMMENT ON CONSTRAINT positive ON \"ev Old\" IS 'more';
            CREATE INDEX of_all ON ev (ref); CREATE INDEX also_of_all ON ev (note);
            DO $$ BEGIN EXECUTE (SELECT format('ALTER INDEX %s SET (fillfactor = 60)', i.inhrelid::regclass) FROM pg_inherits i WHERE i.inhparent = 'of_all'::regclass); END $$;
            COMMENT ON INDEX \"by half\" IS 'why'; COMMENT ON COLUMN \"ev Old\".note IS 'what it''s for'; COMMENT ON COLUMN ev.id IS 'of all'")).await;
        let workspace = workspace(&db.url, "tables: [ev], interval: month, ahead: 1");
        let done = run(&workspace);
        let findings = done["runs"][0]["findings"].as_array().unwrap();
        let told = findings.iter().find(|f| f["code"] == "partitions.besides");
        let told = told.unwrap_or_else(|| panic!("{done:#}"));
        let message = told["message"].as_str().unwrap();
        for what in ["the trigger audit", "the check positive", "the foreign key there", "NOT NULL of id", "the default of note", "the extended statistics both_of", "another state of the trigger \"here not\"",
            "the storage of note", "the compression of note", "the options of ref", "the statistics target of ref",
            "the rule spares", "the rule also", "the comment on the policy few", "the comment on the trigger audit", "the comment on the rule spares", "the comment on the constraint positive",
            "the options of the index \"ev Old_ref_idx\"", "the CLUSTER mark on \"by half\"", "the comment on the index \"by half\"", "statistics targets of the index \"by half\"", "the comment on the column note"] {
            assert!(message.contains(what), "{what}: {message}");
        }
        assert!(!message.contains("all_of_them") && !message.contains("within"), "{message}");
        // The statements do what they say, on the new partition.
        let new = db.strings("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ev'::regclass AND inhrelid::regclass::text <> '\"ev Old\"'").await.remove(0);
        db.execute(told["suggestion"].as_str().unwrap()).await;
        assert_eq!(db.strings(&format!("SELECT tgname::text FROM pg_trigger WHERE tgrelid = '{new}'::regclass AND tgname = 'audit'")).await, ["audit"]);
        assert_eq!(db.strings(&format!("SELECT conname::text FROM pg_constraint WHERE conrelid = '{new}'::regclass AND contype IN ('c', 'f') ORDER BY 1")).await, ["positive", "there"]);
        assert_eq!(db.number("SELECT count(*) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attname = 'note' AND pg_get_expr(d.adbin, d.adrelid) LIKE '%y%'").await, 2);
        assert_eq!(db.strings(&format!("SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = '{new}'::regclass AND tgname = 'here not'")).await, ["D"]);
        assert_eq!(db.number(&format!("SELECT count(*) FROM pg_attribute WHERE attrelid = '{new}'::regclass AND (attname = 'note' AND attstorage = 'e' AND attcompression = 'p' OR attname = 'ref' AND attstattarget = 333 AND attoptions = '{{n_distinct=7}}')")).await, 2);
        assert_eq!(db.strings(&format!("SELECT col_description('{new}'::regclass, attnum) FROM pg_attribute WHERE attrelid = '{new}'::regclass AND attname = 'note'")).await, ["what it's for"]);
        let rules = db.strings(&format!("SELECT rulename || ': ' || coalesce(obj_description(oid, 'pg_rewrite'), 'none') FROM pg_rewrite WHERE ev_class = '{new}'::regclass ORDER BY 1")).await;
        assert_eq!(rules, ["also: none", "spares: spared"]);
        assert_eq!(db.strings(&format!("SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polrelid = '{new}'::regclass")).await, ["whose's"]);
        assert_eq!(db.strings(&format!("SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger WHERE tgrelid = '{new}'::regclass AND tgname = 'audit'")).await, ["who"]);
        assert!(!message.contains("the options of the index \"ev Old_note_idx\""), "{message}");
        // What all have comes from the table, and is no news.
        assert!(codes(&run(&workspace)).is_empty());
    }
}

for_each_version! {
    /// What the identity of a sibling's rows needs is given, where the table itself leaves it open;
    /// rows of the default partition that cannot have it keep no partition from being made.
    async fn an_identity_of_rows_is_given_what_it_needs(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        for table in ["own", "inherited", "strays"] {
            db.execute(&format!("CREATE TABLE {table} (\"Id\" int, chosen int, at timestamptz NOT NULL) PARTITION BY RANGE (at)")).await;
            sibling(&db, table, &format!("{table}_first"), &this, &next).await;
            let on = if table == "inherited" { format!("{table} (at, \"Id\")") } else { format!("{table}_first (\"Id\", chosen)") };
            db.execute(&format!("CREATE UNIQUE INDEX ON {on}; ALTER TABLE {table}_first ALTER \"Id\" SET NOT NULL, ALTER chosen SET NOT NULL")).await;
            let index = db.strings(&format!("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '{table}_first'::regclass")).await.remove(0);
            db.execute(&format!("ALTER TABLE {table}_first REPLICA IDENTITY USING INDEX {index}")).await;
        }
        db.execute(&format!("CREATE TABLE strays_rest PARTITION OF strays DEFAULT; INSERT INTO strays VALUES (NULL, 1, '{next}')")).await;
        let workspace = workspace(&db.url, "tables: [public.own, public.inherited, public.strays], interval: month, ahead: 1, move_default_rows: true");
        let document = run(&workspace);
        assert_eq!(steps(&document), vec!["create_partition succeeded"; 3], "{document:#}");
        let new = "FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relname !~ '_(first|rest)$' AND c.relkind = 'r'";
        assert_eq!(
            db.strings(&format!("SELECT i.inhparent::regclass || ' ' || c.relreplident::text || ' ' || (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attnotnull) {new} ORDER BY 1")).await,
            // Of another column than those of its index, NOT NULL is not repeated.
            ["inherited i Id,at", "own i Id,chosen,at", "strays d at"]
        );
        assert_eq!(db.number("SELECT count(*) FROM strays WHERE tableoid <> 'strays_rest'::regclass").await, 1);
        let findings = document["runs"][0]["findings"].as_array().unwrap();
        let told: Vec<&str> = findings.iter().filter(|f| f["code"] == "partitions.besides").map(|f| f["message"].as_str().unwrap()).collect();
        assert_eq!(told.len(), 2, "{document:#}");
        assert!(told.iter().any(|m| m.contains("NOT NULL of chosen")), "{told:?}");
        assert!(told.iter().any(|m| m.contains("rows of the default partition") && m.contains("replica identity")), "{told:?}");
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
    }
}

for_oldest_and_newest! {
    /// Rows that are to move out of the default partition, and do not meet what the new one is given as
    /// its siblings have it: told with the constraint, and nothing is moved; once they do, they move.
    async fn rows_that_break_what_siblings_have_are_told(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at)").await;
        sibling(&db, "ev", "ev_first", &this, &next).await;
        db.execute(&format!("ALTER TABLE ev_first ADD UNIQUE (id); CREATE TABLE ev_rest PARTITION OF ev DEFAULT;
            INSERT INTO ev VALUES (7, '{next}'), (7, '{next}'), (8, '{next}')")).await;
        let workspace = workspace(&db.url, "tables: [public.ev], interval: month, ahead: 1, move_default_rows: true");
        let document = run_with(&workspace, 1);
        let error = document["runs"][0]["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains("rows that are to move out of the default partition do not meet ") && error.contains("id_key"), "{document:#}");
        assert!(error.contains("nothing was made or moved") && error.contains("HAVING count(*) > 1"), "{document:#}");
        assert_eq!(db.number("SELECT count(*) FROM ev_rest").await, 3);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'ev'::regclass").await, 2);
        db.execute("DELETE FROM ev_rest WHERE ctid = (SELECT min(ctid) FROM ev_rest WHERE id = 7)").await;
        assert_eq!(steps(&run(&workspace)), ["create_partition succeeded"]);
        assert_eq!(db.number("SELECT count(*) FROM ev_rest").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM ev").await, 2);
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
    }
}

for_oldest_and_newest! {
    /// The same of what the table itself has had since only new rows were asked: no sibling has it that it
    /// could be taken from.
    async fn rows_that_break_what_the_table_has_are_told_of_that(major: u32) {
        let options = "tables: [public.ev], interval: month, ahead: 1, move_default_rows: true";
        let mut rules = vec![
            ("ALTER TABLE ev ADD CONSTRAINT whole CHECK (w > 0) NOT VALID", "whole, which the table itself has, NOT VALID"),
        ];
        if major >= 18 {
            rules.push(("ALTER TABLE ev ADD CONSTRAINT there NOT NULL n NOT VALID", "NOT NULL of n, which the table itself has, NOT VALID"));
        }
        for (rule, words) in rules {
            let db = fresh_database(major).await;
            let (this, then) = (month(&db, 0).await, month(&db, 1).await);
            db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL, w int, n int) PARTITION BY RANGE (at)").await;
            sibling(&db, "ev", "ev_first", &this, &then).await;
            db.execute(&format!("CREATE TABLE ev_rest PARTITION OF ev DEFAULT; INSERT INTO ev VALUES (7, '{then}', 0, NULL)")).await;
            db.execute(rule).await;
            let workspace = workspace(&db.url, options);
            let document = run_with(&workspace, 1);
            let error = document["runs"][0]["steps"][0]["error"].as_str().unwrap();
            assert!(error.contains(words) && error.contains("nothing was made or moved"), "{error}");
            assert!(!error.contains("sibling"), "{error}");
            db.execute("UPDATE ev SET w = 1, n = 1").await;
            assert_eq!(steps(&run(&workspace)), ["create_partition succeeded"]);
        }
    }
}

for_oldest_and_newest! {
    /// A key whose type is a domain over a domain is what is below both.
    async fn a_key_of_a_domain_over_a_domain(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE DOMAIN inner_one AS timestamptz; CREATE DOMAIN outer_one AS inner_one;
            CREATE TABLE ev (id int, at outer_one NOT NULL) PARTITION BY RANGE (at)").await;
        let workspace = workspace(&db.url, "tables: [public.ev], interval: month, ahead: 1");
        assert_eq!(steps(&run(&workspace)), vec!["create_partition succeeded"; 2]);
        db.execute("INSERT INTO ev VALUES (1, now())").await;
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
    }
}

for_oldest_and_newest! {
    /// Numbers and UUIDs look alike, whatever they count: where the partitions that are there
    /// cannot be what the task says, nothing is done with them.
    async fn keys_that_count_something_else_are_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE secs (id bigint) PARTITION BY RANGE (id); CREATE TABLE millis (id bigint) PARTITION BY RANGE (id);
            CREATE TABLE ids (id uuid) PARTITION BY RANGE (id)").await;
        db.execute("DO $$ BEGIN FOR n IN -5..1 LOOP DECLARE
                a bigint := extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + n * interval '1 month')::bigint;
                b bigint := extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + (n + 1) * interval '1 month')::bigint; BEGIN
            EXECUTE format('CREATE TABLE secs_%s PARTITION OF secs FOR VALUES FROM (%s) TO (%s)', n + 5, a, b);
            EXECUTE format('CREATE TABLE millis_%s PARTITION OF millis FOR VALUES FROM (%s) TO (%s)', n + 5, a * 1000, b * 1000); END; END LOOP;
            FOR n IN 0..100 LOOP EXECUTE format('CREATE TABLE ids_%s PARTITION OF ids FOR VALUES FROM (%L) TO (%L)', n,
                lpad(to_hex(n), 2, '0') || '000000-0000-0000-0000-000000000000', lpad(to_hex(n + 1), 2, '0') || '000000-0000-0000-0000-000000000000'); END LOOP; END $$").await;
        let children = "SELECT count(*) FROM pg_inherits";
        let before = db.number(children).await;
        for (options, words) in [
            ("tables: [public.secs], epoch: millis", "`epoch: seconds`"),
            ("tables: [public.millis], epoch: seconds", "`epoch: millis`"),
            ("tables: [public.ids]", "not of version 7"),
        ] {
            let workspace = workspace(&db.url, &format!("{options}, interval: month, ahead: 1, keep: 1mo, grace: 0s"));
            let document = workspace.run(["run", "partitions", "--now", "--output", "json"]).expect(1).json();
            assert_eq!(codes(&document), ["partitions.unsuitable"], "{options}: {document:#}");
            assert!(document.to_string().contains(words), "{options}: {document:#}");
            assert_eq!(steps(&document), Vec::<String>::new());
            assert_eq!(db.number(children).await, before);
        }
        for (table, epoch) in [("secs", "seconds"), ("millis", "millis")] {
            let workspace = workspace(&db.url, &format!("tables: [public.{table}], epoch: {epoch}, interval: month, ahead: 1, time_zone: UTC"));
            assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// A publication that has the siblings because of their schema has none that is made in the table's: that is told,
    /// with the statement that gives it, until which its subscribers would get none of its rows.
    async fn a_publication_of_the_schema_of_siblings_is_told(major: u32) {
        let db = fresh_database(major).await;
        let (this, next) = (month(&db, 0).await, month(&db, 1).await);
        db.execute(&format!("CREATE SCHEMA parts; CREATE TABLE ev (id int, at date) PARTITION BY RANGE (at);
            CREATE TABLE parts.ev_first PARTITION OF ev FOR VALUES FROM ('{this}') TO ('{next}');
            CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA parts; CREATE PUBLICATION by_root FOR TABLES IN SCHEMA public, parts")).await;
        let workspace = workspace(&db.url, "tables: [ev], interval: month, ahead: 1");
        let document = run(&workspace);
        assert_eq!(steps(&document), ["create_partition succeeded"], "{document:#}");
        let findings = document["runs"][0]["findings"].as_array().unwrap();
        let told: Vec<&Value> = findings.iter().filter(|f| f["code"] == "partitions.publication").collect();
        assert_eq!(told.len(), 1, "{document:#}");
        let message = told[0]["message"].as_str().unwrap();
        assert!(message.contains("publication by_schema has the tables of the schema parts"), "{message}");
        let of_new = "SELECT pubname::text FROM pg_publication_tables WHERE tablename ~ '^ev_y' ORDER BY 1";
        assert_eq!(db.strings(of_new).await, ["by_root"]);
        db.execute(told[0]["suggestion"].as_str().unwrap()).await;
        assert_eq!(db.strings(of_new).await, ["by_root", "by_schema"]);
        assert_eq!(steps(&run(&workspace)), Vec::<String>::new());
    }
}
