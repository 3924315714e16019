//! Numbers that run out and sort orders that change: told before they hurt.

use serde_json::Value;

use super::integrity::found;
use crate::support::servers::{TestDatabase, cluster, fresh_database};
use crate::support::workspace::Workspace;

fn run(url: &str, options: &str) -> Value {
    let workspace = Workspace::for_target(url).task(
        "integrity",
        &format!("kind: integrity\ntarget: app\noptions: {options}\n"),
    );
    workspace
        .run(["run", "integrity", "--now", "--output", "json"])
        .expect(0)
        .json()
}

fn suggestion<'a>(document: &'a Value, object: &str) -> (&'a str, &'a str) {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let finding = findings
        .iter()
        .find(|f| f["object"] == object)
        .unwrap_or_else(|| panic!("{object}: {document:#}"));
    (
        finding["severity"].as_str().unwrap(),
        finding["suggestion"].as_str().unwrap_or(""),
    )
}

async fn plant(db: &TestDatabase) {
    db.execute(
        "CREATE EXTENSION amcheck; CREATE SCHEMA \"S q\";
        CREATE TABLE plenty (id serial PRIMARY KEY);
        SELECT setval('plenty_id_seq', 1000000000);
        CREATE TABLE serials (id serial PRIMARY KEY, \"No\" bigserial);
        SELECT setval('serials_id_seq', 2040109466), setval('\"serials_No_seq\"', 2147483647);
        CREATE SEQUENCE \"S q\".\"wide; one\" AS bigint;
        CREATE TABLE narrow (\"Id\" smallint DEFAULT nextval('\"S q\".\"wide; one\"') PRIMARY KEY);
        SELECT setval('\"S q\".\"wide; one\"', 27000);
        CREATE SEQUENCE lonely AS integer INCREMENT -1; SELECT setval('lonely', -2147480000);
        CREATE SEQUENCE round_and_round MAXVALUE 10 CYCLE; SELECT setval('round_and_round', 10);
        CREATE SEQUENCE capped MAXVALUE 100; SELECT setval('capped', 99);
        CREATE TABLE parents (id bigint PRIMARY KEY);
        INSERT INTO parents SELECT 2000000000 + g FROM generate_series(1, 3000) g;
        CREATE TABLE children (id bigint PRIMARY KEY, parent int REFERENCES parents);
        INSERT INTO children SELECT id, id FROM parents; ANALYZE",
    )
    .await;
}

for_oldest_and_newest! {
    /// Judged by what ends first, the sequence or its column; keys without a
    /// sequence by what ANALYZE saw, and no value is told.
    async fn what_is_close_to_its_end_is_told(major: u32) {
        let db = fresh_database(major).await;
        plant(&db).await;
        let document = run(&db.url, "{}");
        assert_eq!(found(&document), [
            "sequence.near_end public.capped", "sequence.near_end public.children.parent", "sequence.near_end public.lonely",
            "sequence.near_end public.narrow.\"Id\"", "sequence.near_end public.serials.id",
        ], "{document:#}");
        for (object, severity, statement) in [
            ("public.capped", "critical", "ALTER SEQUENCE public.capped NO MAXVALUE"),
            ("public.children.parent", "warning", "ALTER TABLE public.children ALTER COLUMN parent TYPE bigint"),
            ("public.lonely", "critical", "ALTER SEQUENCE public.lonely AS bigint"),
            ("public.narrow.\"Id\"", "warning", "ALTER TABLE public.narrow ALTER COLUMN \"Id\" TYPE bigint"),
            ("public.serials.id", "critical", "ALTER TABLE public.serials ALTER COLUMN id TYPE bigint; ALTER SEQUENCE public.serials_id_seq AS bigint"),
        ] {
            assert_eq!(suggestion(&document, object), (severity, statement), "{object}");
            db.execute(statement).await;
        }
        assert_eq!(found(&run(&db.url, "{}")), Vec::<String>::new());
    }
}

for_oldest_and_newest! {
    /// A sequence that somebody alters right now, or that the role may not read, stops nothing.
    async fn a_sequence_out_of_reach_stops_nothing(major: u32) {
        let db = fresh_database(major).await;
        plant(&db).await;
        let holder = db.connect().await;
        holder.batch_execute("BEGIN; ALTER SEQUENCE capped INCREMENT 2").await.unwrap();
        let document = run(&db.url, "{}");
        assert!(!found(&document).iter().any(|l| l.contains("capped")), "{document:#}");
        assert_eq!(found(&document).len(), 4);
        holder.batch_execute("ROLLBACK").await.unwrap();

        let role = format!("guest_{}", db.name);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; GRANT SELECT ON lonely TO {role}")).await;
        let url = format!("postgres://{role}:x@127.0.0.1:{}/{}?sslmode=disable", cluster(major).port(), db.name);
        let document = run(&url, "{ amcheck: off }");
        assert_eq!(found(&document), ["privilege.missing \"S q\".\"wide; one\"", "sequence.near_end public.children.parent", "sequence.near_end public.lonely"], "{document:#}");
    }
}

for_oldest_and_newest! {
    /// A sort order with another version names the indexes to rebuild first.
    async fn a_changed_sort_order_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION amcheck; CREATE COLLATION \"My German\" (provider = icu, locale = 'de');
            CREATE COLLATION unused (provider = icu, locale = 'fr');
            CREATE TABLE t (a text COLLATE \"My German\", b text); CREATE INDEX \"a;i\" ON t (a); CREATE INDEX b_i ON t (b)").await;
        assert_eq!(found(&run(&db.url, "{}")), Vec::<String>::new());
        db.execute("UPDATE pg_collation SET collversion = '1.2' WHERE collname IN ('My German', 'unused')").await;
        let document = run(&db.url, "{}");
        assert_eq!(found(&document), ["collation.version COLLATION public.\"My German\""]);
        let (severity, statements) = suggestion(&document, "COLLATION public.\"My German\"");
        assert_eq!((severity, statements), ("warning", "REINDEX INDEX CONCURRENTLY public.\"a;i\"; ALTER COLLATION public.\"My German\" REFRESH VERSION"));
        for statement in statements.split("; ") {
            db.execute(statement).await;
        }
        assert_eq!(found(&run(&db.url, "{}")), Vec::<String>::new());
        if major >= 15 {
            let name = format!("Icu {}", db.name);
            db.execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'")).await;
            db.execute(&format!("UPDATE pg_database SET datcollversion = '1.2' WHERE datname = '{name}'")).await;
            let url = cluster(major).url(&name.replace(' ', "%20"));
            let client = crate::support::servers::connect(&url).await;
            client.batch_execute("CREATE EXTENSION amcheck; CREATE TABLE t (a text PRIMARY KEY)").await.unwrap();
            let document = run(&url, "{}");
            let object = format!("DATABASE \"{name}\"");
            assert_eq!(found(&document), [format!("collation.version {object}")], "{document:#}");
            let (_, statements) = suggestion(&document, &object);
            for statement in statements.split("; ") {
                client.batch_execute(statement).await.unwrap();
            }
            assert_eq!(found(&run(&url, "{}")), Vec::<String>::new());
        }
    }
}

for_oldest_and_newest! {
    /// A key whose type is a domain, or a domain over one, ends where the number below it does; so
    /// does the sequence that feeds it. Nothing is suggested that the server would refuse.
    async fn a_key_of_a_domain_ends_where_its_numbers_do(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION amcheck; CREATE DOMAIN di AS int; CREATE DOMAIN dd AS di; CREATE DOMAIN db AS bigint;
            CREATE TABLE dmt (id di PRIMARY KEY, other db UNIQUE); INSERT INTO dmt SELECT 2000000000 + g, g FROM generate_series(1, 500) g;
            CREATE TABLE two (id dd PRIMARY KEY); INSERT INTO two SELECT 2000000000 + g FROM generate_series(1, 500) g;
            CREATE SEQUENCE s AS bigint; CREATE TABLE fed (id dd DEFAULT nextval('s')); SELECT setval('s', 2100000000); ANALYZE").await;
        let document = run(&db.url, "{}");
        assert_eq!(found(&document), ["sequence.near_end public.dmt.id", "sequence.near_end public.fed.id", "sequence.near_end public.two.id"], "{document:#}");
        for object in ["public.dmt.id", "public.two.id", "public.fed.id"] {
            let (_, suggestion) = suggestion(&document, object);
            assert_eq!(suggestion, "", "{object}");
        }
        assert!(document.to_string().contains("is public.di and has used"), "{document:#}");
    }
}
