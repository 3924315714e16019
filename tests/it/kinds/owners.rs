//! Tables whose parts, or whose sources, belong to somebody else.

use serde_json::Value;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn as_role(db: &TestDatabase, role: &str) -> String {
    let mut url: url::Url = db.url.parse().unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some("x")).unwrap();
    url.to_string()
}

fn run(workspace: &Workspace, task: &str, code: i32) -> Value {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    output.expect(code).json()["runs"][0].clone()
}

for_oldest_and_newest! {
    /// A partition of somebody else is passed by, and the table is analyzed all the same: once.
    async fn partitions_of_others_do_not_make_their_table_stale(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("owner_{}", db.name);
        db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; CREATE TABLE ev (id int, v int) PARTITION BY RANGE (id);
            CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (0) TO (1000); CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (1000) TO (2000);
            INSERT INTO ev SELECT n, n % 7 FROM generate_series(0, 1999) n; ALTER TABLE ev OWNER TO {role}; ALTER TABLE ev_1 OWNER TO {role}")).await;
        let workspace = Workspace::for_target(&as_role(&db, &role)).task("analyze", "kind: analyze\ntarget: app\noptions: { include: [public.ev, public.ev_1] }\n");
        let done = run(&workspace, "analyze", 0);
        let steps = done["steps"].as_array().unwrap();
        let of_all = steps.iter().find(|s| s["object"] == "public.ev").unwrap();
        assert_eq!(of_all["status"], "succeeded", "{done:#}");
        if major < 18 {
            assert!(of_all["error"].as_str().unwrap().contains("a part was left out"), "{done:#}");
        }
        let seen = "SELECT count(*) FROM pg_stats WHERE tablename = 'ev' AND inherited";
        assert_eq!(db.number(seen).await, 2);
        let again = run(&workspace, "analyze", 0);
        assert_eq!(again["steps"].as_array().unwrap().len(), 0, "{again:#}");
        db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
}

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    /// A view that its own owner may not read any more is told with the right that is missing.
    async fn a_view_whose_owner_may_not_read_is_told(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("owner_{}", db.name);
        db.execute(&format!("CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}; CREATE TABLE s (id int PRIMARY KEY); INSERT INTO s VALUES (1);
            GRANT SELECT ON s TO {role}; CREATE MATERIALIZED VIEW m AS SELECT id FROM s; CREATE UNIQUE INDEX ON m (id); ALTER MATERIALIZED VIEW m OWNER TO {role};
            CREATE MATERIALIZED VIEW other AS SELECT count(*) AS n FROM s; CREATE UNIQUE INDEX ON other (n)")).await;
        let workspace = Workspace::for_target(&db.url).task("refresh", "kind: refresh\ntarget: app\noptions: { always: true }\n");
        assert_eq!(run(&workspace, "refresh", 0)["steps"].as_array().unwrap().len(), 2);
        db.execute(&format!("REVOKE SELECT ON s FROM {role}; INSERT INTO s VALUES (2)")).await;
        let run_one = run(&workspace, "refresh", 1);
        assert_eq!(run_one["status"], "partial", "{run_one:#}");
        let told = run_one["findings"].as_array().unwrap().iter().find(|f| f["code"] == "privilege.missing").unwrap().clone();
        assert!(told["message"].as_str().unwrap().contains(&format!("refreshed as its owner {role}, who may not read public.s")), "{told}");
        assert_eq!(db.number("SELECT n FROM other").await, 2);
        assert_eq!(db.number("SELECT count(*) FROM m").await, 1);
        db.execute(told["suggestion"].as_str().unwrap()).await;
        assert_eq!(run(&workspace, "refresh", 0)["steps"].as_array().unwrap().len(), 2);
        assert_eq!(db.number("SELECT count(*) FROM m").await, 2);
        // A right to some columns is a right.
        db.execute(&format!("REVOKE SELECT ON s FROM {role}; GRANT SELECT (id) ON s TO {role}")).await;
        assert_eq!(run(&workspace, "refresh", 0)["steps"].as_array().unwrap().len(), 2);
        db.execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
    }
}
