//! A database of two thousand tables is looked at with as many questions as
//! one of twenty.

use std::collections::BTreeMap;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

use super::workspace;

async fn tables(db: &TestDatabase, count: u32) {
    db.execute(&format!(
        "DO $$ BEGIN FOR n IN 1..{count} LOOP
            EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', n);
            EXECUTE format('CREATE INDEX ON t%s (v)', n);
        END LOOP; END $$"
    ))
    .await;
    db.execute("ANALYZE").await;
}

/// The statements that the server carried out in a database, and how often each.
pub(super) struct Questions(BTreeMap<String, i64>);

impl Questions {
    /// How many they are.
    pub(super) fn count(&self) -> i64 {
        self.0.values().sum()
    }

    /// Fails where `other` are more or fewer, and says which.
    pub(super) fn are_as_many_as(&self, other: &Questions, task: &str) {
        let only = |these: &Questions, those: &Questions| {
            let more = these
                .0
                .iter()
                .filter(|(sql, n)| those.0.get(*sql) != Some(n));
            more.map(|(sql, n)| format!("{n} × {sql}"))
                .collect::<Vec<_>>()
        };
        assert!(self.count() > 0, "{task}");
        assert_eq!(
            self.count(),
            other.count(),
            "{task}: {:#?} and {:#?}",
            only(self, other),
            only(other, self)
        );
    }
}

async fn questions(db: &TestDatabase, task: &str) -> Questions {
    questions_of(db, &workspace(db), task).await
}

/// What `maint plan` asks in this database, but for whether the database has any table: that is asked where there
/// is nothing to do, and what 14 counts may be lost on its way, so that there is.
pub(super) async fn questions_of(
    db: &TestDatabase,
    workspace: &Workspace,
    task: &str,
) -> Questions {
    db.client.batch_execute("SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)").await.unwrap();
    workspace.run(["plan", task]).expect(0);
    let sql = "SELECT query, sum(calls)::int8 FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE 'SELECT pg_catalog.current_database()::text, EXISTS%'
         GROUP BY query";
    let asked = db.client.query(sql, &[]).await.unwrap();
    Questions(asked.iter().map(|row| (row.get(0), row.get(1))).collect())
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// The number of questions does not depend on the number of tables, and
    /// right after a run there is nothing to do.
    async fn the_number_of_questions_is_fixed(major: u32) {
        let few = fresh_database(major).await;
        let many = fresh_database(major).await;
        for (db, count) in [(&few, 20), (&many, 2000)] {
            db.execute("CREATE EXTENSION pg_stat_statements").await;
            tables(db, count).await;
        }
        for task in ["analyze", "vacuum", "reindex", "integrity", "snapshot"] {
            let (small, large) = (questions(&few, task).await, questions(&many, task).await);
            small.are_as_many_as(&large, task);
        }
        workspace(&many).run(["run", "analyze", "--now"]).expect(0);
        let again = workspace(&many).run(["run", "analyze", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(again["runs"][0]["steps"].as_array().unwrap().len(), 0);
        assert_eq!(again["runs"][0]["status"], "succeeded");
    }
}

for_oldest_and_newest! {
    /// Whether tables still go by their names is asked for many at once.
    async fn names_are_asked_for_together(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pg_stat_statements; DO $$ BEGIN FOR n IN 1..200 LOOP
                EXECUTE format('CREATE TABLE t%s (id int)', n);
                EXECUTE format('INSERT INTO t%s SELECT g FROM generate_series(1, 100) g', n);
            END LOOP; END $$").await;
        db.execute("SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)").await;
        let analyzed = workspace(&db).run(["run", "analyze", "--now", "--output", "json"]).expect(0).json();
        let steps = analyzed["runs"][0]["steps"].as_array().unwrap();
        assert_eq!(steps.iter().filter(|s| s["status"] == "succeeded").count(), 200, "{analyzed:#}");
        let asked = db.number(
            "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query LIKE '%pg_identify_object(%' AND query LIKE '%format(%' AND query NOT LIKE '%pg_stat_statements%'",
        ).await;
        assert!((1..100).contains(&asked), "{asked} questions");
    }
}

for_oldest_and_newest! {
    /// Which tables have statistics is asked only where it says something: of one of which nobody knows that
    /// it was analyzed.
    async fn statistics_are_looked_for_where_it_matters(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pg_stat_statements; CREATE TABLE t AS SELECT 1 AS id; ANALYZE").await;
        let looked = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query LIKE '%SELECT s.schemaname::text, s.tablename::text%' AND query NOT LIKE '%pg_stat_statements%'";
        questions(&db, "analyze").await;
        assert_eq!(db.number(looked).await, 0);
        db.execute("CREATE TABLE never AS SELECT 1 AS id").await;
        questions(&db, "analyze").await;
        assert_eq!(db.number(looked).await, 1);
    }
}

/// Thousands of steps of earlier runs are read where there are steps to do, and not before: here reading
/// them fails, and a run that finds nothing to do misses nothing.
#[tokio::test]
async fn nothing_to_do_reads_no_steps() {
    let db = fresh_database(18).await;
    db.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g")
        .await;
    let workspace = workspace(&db);
    let analyze = || {
        let output = workspace.run(["run", "analyze", "--now", "--output", "json"]);
        output.expect(0).json()["runs"][0].clone()
    };
    assert_eq!(analyze()["steps"].as_array().unwrap().len(), 1);
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(workspace.history());
    let mut file = sqlx::ConnectOptions::connect(&file).await.unwrap();
    let broken = "UPDATE steps SET lock_waits = '7', duration_ms = 'long'";
    sqlx::query(broken).execute(&mut file).await.unwrap();
    let again = analyze();
    assert_eq!(again["steps"], serde_json::json!([]), "{again:#}");
    assert_eq!(again["findings"], serde_json::json!([]), "{again:#}");
    // Where there is something to do, it is asked how long that took.
    db.execute("INSERT INTO t SELECT g FROM generate_series(1, 1000) g")
        .await;
    let more = workspace.run(["run", "analyze", "--now", "--output", "json"]);
    assert!(
        more.stderr.contains("the history does not answer"),
        "{more:#?}"
    );
}
