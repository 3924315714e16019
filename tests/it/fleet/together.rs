//! The budget of a task is one for all of its databases.

use serde_json::Value;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// An index of the same size whenever and wherever, of which so many of a hundred entries stay, and
/// whose rebuild takes twelve seconds.
async fn bloat(db: &TestDatabase, of_hundred: u32) {
    db.execute("DELETE FROM gate; TRUNCATE t; INSERT INTO t SELECT generate_series(1, 40000)")
        .await;
    db.execute(&format!(
        "DELETE FROM t WHERE id > 1000 AND id % 100 >= {of_hundred}"
    ))
    .await;
    db.execute("VACUUM ANALYZE").await;
    db.execute("INSERT INTO gate VALUES (1)").await;
}

fn run(workspace: &Workspace, set: &[&str]) -> Value {
    let mut words = vec!["run", "reindex", "--now", "--output", "json"];
    for one in set {
        words.extend(["--set", one]);
    }
    workspace.run(words).expect(0).json()
}

/// The targets on which the rebuild ended so.
fn ended<'r>(said: &'r Value, status: &str) -> Vec<&'r str> {
    let with = |run: &&Value| {
        let steps = run["steps"].as_array().unwrap();
        let rebuilt = steps.iter().find(|step| step["action"] == "reindex");
        rebuilt.is_some_and(|step| step["status"] == status)
    };
    let runs = said["runs"].as_array().unwrap().iter().filter(with);
    runs.map(|run| run["target"].as_str().unwrap()).collect()
}

/// Of three databases only one can be done in the time; the others come next, one after the other,
/// however much the first has to offer by then.
#[tokio::test]
async fn time_goes_to_what_wins_most_and_then_to_what_was_left() {
    let mut databases = Vec::new();
    for _ in 0..3 {
        let db = fresh_database(17).await;
        db.execute(
            "CREATE TABLE gate (id int);
             CREATE FUNCTION slow(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS
                'BEGIN IF $1 <= 10 AND EXISTS (SELECT FROM public.gate) THEN PERFORM pg_catalog.pg_sleep(1.2); END IF; RETURN true; END';
             CREATE TABLE t (id int) WITH (autovacuum_enabled = off);
             CREATE INDEX t_id ON t (id) WHERE slow(id)",
        )
        .await;
        databases.push(db);
    }
    let [a, b, c] = &databases[..] else {
        unreachable!()
    };
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  a: {{ engine: postgres, url: \"{}\" }}\n  \
         b: {{ engine: postgres, url: \"{}\" }}\n  c: {{ engine: postgres, url: \"{}\" }}\n\
         groups: {{ all: [a, b, c] }}\n",
        a.url, b.url, c.url
    ))
    .task(
        "reindex",
        "kind: reindex\ntarget: all\noptions: { min_size: 100kB, min_bloat: 20% }\n\
         limits: { parallel_targets: 1, budget: 22s }\n",
    );
    for db in &databases {
        bloat(db, 50).await;
    }
    // How long each takes is known from now on: there is time for all of them.
    let all = run(
        &workspace,
        &["limits.budget=1h", "limits.parallel_targets=3"],
    );
    assert_eq!(ended(&all, "succeeded"), ["a", "b", "c"], "{all:#}");

    bloat(a, 50).await;
    bloat(b, 50).await;
    bloat(c, 0).await;
    let plans = workspace
        .run(["plan", "reindex", "--output", "json"])
        .expect(0)
        .json();
    for (n, fits) in [(0, false), (1, false), (2, true)] {
        let plan = &plans["plans"][n]["plan"];
        assert_eq!(plan["steps"].as_array().unwrap().len(), 1, "{plan:#}");
        let forecast = &plan["forecast"];
        assert_eq!(forecast["shared_by"], 3, "{forecast:#}");
        let left = forecast["will_not_fit"].as_array().unwrap();
        assert_eq!(left.is_empty(), fits, "{n}: {forecast:#}");
    }
    let told = workspace.run(["plan", "reindex"]).expect(0).stdout;
    assert!(
        told.contains("of the 22.0 s that 3 databases have together"),
        "{told}"
    );

    let first = run(&workspace, &[]);
    assert_eq!(ended(&first, "succeeded"), ["c"], "{first:#}");
    assert_eq!(ended(&first, "deferred"), ["a", "b"], "{first:#}");
    assert_eq!(first["runs"][0]["status"], "incomplete", "{first:#}");

    // It has as much to offer as ever, but it is not its turn.
    bloat(c, 0).await;
    let second = run(&workspace, &[]);
    let done = ended(&second, "succeeded");
    assert_eq!(done.len(), 1, "{second:#}");
    assert_ne!(done, ["c"], "{second:#}");
    let third = run(&workspace, &[]);
    let both = [done, ended(&third, "succeeded")].concat();
    assert!(
        both.contains(&"a") && both.contains(&"b"),
        "{both:?}: {third:#}"
    );
    let fourth = run(&workspace, &[]);
    assert_eq!(ended(&fourth, "succeeded"), ["c"], "{fourth:#}");
    let last = run(&workspace, &[]);
    assert!(
        ended(&last, "succeeded").is_empty() && ended(&last, "deferred").is_empty(),
        "{last:#}"
    );
}
