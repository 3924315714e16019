//! Targets that stand for many databases of one server.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Stdio;

use maint::demo::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::patience::Patience;
use crate::support::servers::{connect, private_cluster};
use crate::support::workspace::Workspace;

/// What of them needs something, of how many.
const NEEDY: [usize; 5] = [3, 9, 14, 21, 29];

/// A server with databases `tenant_1` and so on, each with an empty table, and the needy ones
/// with another that has rows and was never analyzed.
struct Fleet {
    cluster: Cluster,
    admin: Client,
}

impl Fleet {
    async fn start(databases: usize, needy: &[usize]) -> Fleet {
        let cluster = private_cluster(17, &[("autovacuum", "off"), ("max_connections", "60")]);
        let admin = connect(&cluster.url("postgres")).await;
        let fleet = Fleet { cluster, admin };
        fleet
            .run("CREATE DATABASE pattern TEMPLATE template0")
            .await;
        let pattern = connect(&fleet.cluster.url("pattern")).await;
        pattern
            .batch_execute("CREATE TABLE t (id int)")
            .await
            .unwrap();
        drop(pattern);
        for n in 1..=databases {
            fleet.create(&format!("tenant_{n}")).await;
        }
        for n in needy {
            fleet.disturb(&format!("tenant_{n}")).await;
        }
        fleet
    }

    async fn run(&self, sql: &str) {
        let done = self.admin.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    }

    async fn create(&self, name: &str) {
        let patience = crate::support::patience::Patience::until("the pattern to be free");
        let sql = format!("CREATE DATABASE \"{name}\" TEMPLATE pattern");
        while let Err(error) = self.admin.batch_execute(&sql).await {
            // Somebody is connected to the pattern still.
            assert_eq!(error.code().map(|c| c.code()), Some("55006"), "{error:?}");
            patience.pause().await;
        }
    }

    /// A session in one of them, whatever its name.
    async fn connect(&self, name: &str) -> Client {
        let mut written = String::new();
        for byte in name.bytes() {
            written.push_str(&format!("%{byte:02X}"));
        }
        connect(&self.cluster.url(&written)).await
    }

    /// Gives the database a table that nobody has analyzed.
    async fn disturb(&self, name: &str) {
        let there = self.connect(name).await;
        there
            .batch_execute(
                "CREATE TABLE fresh AS SELECT n AS id FROM pg_catalog.generate_series(1, 1000) n",
            )
            .await
            .unwrap();
        // A session that stays open tells what it has written only after a while, which may be
        // after somebody has gathered statistics.
        there
            .batch_execute("SELECT pg_catalog.pg_stat_force_next_flush()")
            .await
            .unwrap();
    }

    /// How many tables of the database have statistics.
    async fn analyzed(&self, name: &str) -> i64 {
        let there = self.connect(name).await;
        let sql =
            "SELECT count(DISTINCT tablename) FROM pg_catalog.pg_stats WHERE schemaname = 'public'";
        there.query_one(sql, &[]).await.unwrap().get(0)
    }

    fn workspace(&self, more: &str) -> Workspace {
        Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  fleet:\n    engine: postgres\n    \
             url: \"{}\"\n    databases: [\"tenant_*\", \"!tenant_test*\"]\n{more}",
            self.cluster.url("postgres")
        ))
        .task("statistics", "kind: analyze\ntarget: fleet\n")
    }
}

fn runs(said: &Value) -> &Vec<Value> {
    said["runs"].as_array().unwrap()
}

/// The targets of the runs that did something.
fn worked(said: &Value) -> BTreeSet<String> {
    runs(said)
        .iter()
        .filter(|run| !run["steps"].as_array().unwrap().is_empty())
        .map(|run| run["target"].as_str().unwrap().to_owned())
        .collect()
}

/// The findings of the run on the server.
fn told(said: &Value) -> Vec<(String, String)> {
    let of_server = runs(said).iter().filter(|run| run["target"] == "fleet");
    let findings = of_server.flat_map(|run| run["findings"].as_array().unwrap().clone());
    findings
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            (text("code"), text("object"))
        })
        .collect()
}

fn owned(code: &str, object: &str) -> (String, String) {
    (code.to_owned(), object.to_owned())
}

async fn five_of(databases: usize, needy: &[usize]) {
    let fleet = Fleet::start(databases, needy).await;
    let workspace = fleet.workspace("");
    let expected: BTreeSet<String> = needy.iter().map(|n| format!("fleet/tenant_{n}")).collect();

    // One plan: who needs something, and how many do not.
    let planned = workspace.run(["plan", "statistics"]).expect(0);
    for target in &expected {
        assert!(
            planned.stdout.contains(&format!("on {target}: 1 step")),
            "{planned:?}"
        );
    }
    let rest = databases - needy.len();
    let folded = format!("statistics on fleet: nothing to do in {rest} of {databases} databases");
    assert!(planned.stdout.contains(&folded), "{planned:?}");

    // One command: as many runs as databases, those that need something do something.
    let said = workspace.run(["run", "statistics", "--now", "--output", "json"]);
    let said = said.expect(0).json();
    assert_eq!(
        runs(&said).len(),
        databases + 1,
        "each database, and the server"
    );
    assert_eq!(worked(&said), expected);
    for run in runs(&said) {
        assert_eq!(run["status"], "succeeded", "{run:#}");
    }
    assert_eq!(
        told(&said),
        [owned("database.new", "")],
        "all are new together"
    );
    for n in 1..=databases {
        let tables = i64::from(needy.contains(&n));
        assert_eq!(fleet.analyzed(&format!("tenant_{n}")).await, tables, "{n}");
    }

    // And nothing when it is run again: no step, and no word of the server.
    let again = workspace.run(["run", "statistics", "--now", "--output", "json"]);
    let again = again.expect(0).json();
    assert_eq!(runs(&again).len(), databases);
    assert_eq!(worked(&again), BTreeSet::new());
    let again = workspace.run(["run", "statistics", "--now"]).expect(0);
    let folded = format!("statistics on fleet: nothing to do in {databases} databases");
    assert_eq!(again.stdout.trim(), folded);

    // Whoever comes is looked after at once, whoever goes is told once.
    fleet.create("tenant_new").await;
    fleet.disturb("tenant_new").await;
    fleet.create("tenant_test7").await;
    fleet.disturb("tenant_test7").await;
    fleet.run("DROP DATABASE tenant_2 WITH (FORCE)").await;
    let said = workspace.run(["run", "statistics", "--now", "--output", "json"]);
    let said = said.expect(0).json();
    assert_eq!(
        worked(&said),
        BTreeSet::from(["fleet/tenant_new".to_owned()])
    );
    let news = [
        owned("database.new", "tenant_new"),
        owned("database.gone", "tenant_2"),
    ];
    assert_eq!(told(&said), news);
    let gone = &runs(&said)[0]["findings"][1]["message"];
    assert!(
        gone.as_str()
            .unwrap()
            .contains("its last run was statistics"),
        "{gone}"
    );
    assert_eq!(fleet.analyzed("tenant_new").await, 1);
    assert_eq!(fleet.analyzed("tenant_test7").await, 0, "left out");
    let said = workspace.run(["run", "statistics", "--now", "--output", "json"]);
    let said = said.expect(0).json();
    assert_eq!(told(&said), []);
    assert_eq!(worked(&said), BTreeSet::new());
}

#[tokio::test]
async fn of_thirty_databases_five_need_something_and_one_comes_and_one_goes() {
    five_of(30, &NEEDY).await;
}

/// The same on a scale that takes minutes: `cargo test --test it fleet -- --ignored`.
#[tokio::test]
#[ignore = "creates 300 databases"]
async fn of_three_hundred_databases_five_need_something() {
    five_of(300, &[7, 77, 150, 222, 300]).await;
}

/// A database that takes no connections for a while is not gone.
#[tokio::test]
async fn a_database_that_is_closed_is_told_until_it_is_open_again() {
    let fleet = Fleet::start(2, &[1]).await;
    let workspace = fleet.workspace("");
    let ran = || {
        let said = workspace.run(["run", "statistics", "--now", "--output", "json"]);
        said.expect(0).json()
    };
    assert_eq!(told(&ran()), [owned("database.new", "")]);
    fleet.disturb("tenant_2").await;
    fleet
        .run("ALTER DATABASE tenant_2 WITH ALLOW_CONNECTIONS false")
        .await;
    for _ in 0..2 {
        let said = ran();
        assert_eq!(told(&said), [owned("database.closed", "tenant_2")]);
        assert_eq!(runs(&said)[0]["findings"][0]["severity"], "warning");
        assert_eq!(worked(&said), BTreeSet::new());
    }
    fleet
        .run("ALTER DATABASE tenant_2 WITH ALLOW_CONNECTIONS true")
        .await;
    let said = ran();
    assert_eq!(told(&said), []);
    assert_eq!(worked(&said), BTreeSet::from(["fleet/tenant_2".to_owned()]));
    assert_eq!(fleet.analyzed("tenant_2").await, 1);
}

/// Nor is one unsaid that was closed before anybody knew of it.
#[tokio::test]
async fn a_database_that_was_closed_before_the_first_run_is_told() {
    let fleet = Fleet::start(2, &[1]).await;
    fleet
        .run("ALTER DATABASE tenant_2 WITH ALLOW_CONNECTIONS false")
        .await;
    let workspace = fleet.workspace("");
    for first in [true, false] {
        let said = workspace.run(["run", "statistics", "--now", "--output", "json"]);
        let said = said.expect(0).json();
        let closed = owned("database.closed", "tenant_2");
        match first {
            true => assert_eq!(told(&said), [owned("database.new", ""), closed]),
            false => assert_eq!(told(&said), [closed]),
        }
    }
}

/// What cannot be looked after is said wherever somebody looks, and once.
#[tokio::test]
async fn a_database_that_cannot_be_connected_to_is_told_by_every_verb() {
    let fleet = Fleet::start(3, &[1]).await;
    fleet
        .run("ALTER DATABASE tenant_2 WITH ALLOW_CONNECTIONS false")
        .await;
    let workspace = fleet.workspace("");
    let closed = "the database tenant_2 takes no connections: nothing is done in it";
    let planned = workspace.run(["plan"]).expect(0);
    let said = format!("{}{}", planned.stdout, planned.stderr);
    assert_eq!(said.matches(closed).count(), 1, "{said}");
    assert!(said.contains("fleet/tenant_2: "), "{said}");
    let doctor = workspace.run(["doctor", "--output", "json"]).json();
    let checks = doctor["checks"].as_array().unwrap();
    let told: Vec<_> = checks.iter().filter(|one| one["text"] == closed).collect();
    assert_eq!(told.len(), 1, "{doctor:#}");
    assert_eq!(told[0]["target"], "fleet/tenant_2");
    workspace.run(["run", "statistics", "--now"]);
    let status = workspace.run(["status"]).stdout;
    let status = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(status.matches(closed).count(), 1, "{status}");
}

#[tokio::test]
async fn a_database_that_lets_nobody_in_stops_no_other() {
    let fleet = Fleet::start(3, &[1, 3]).await;
    // As a DROP DATABASE leaves it that was interrupted.
    fleet
        .run("UPDATE pg_catalog.pg_database SET datconnlimit = -2 WHERE datname = 'tenant_2'")
        .await;
    let workspace = fleet.workspace("");
    let said = workspace
        .run(["run", "statistics", "--now", "--output", "json"])
        .expect(3)
        .json();
    let status = |target: &str| {
        let run = runs(&said).iter().find(|run| run["target"] == target);
        run.unwrap_or_else(|| panic!("no run on {target}: {said:#}"))["status"].clone()
    };
    assert_eq!(status("fleet/tenant_1"), "succeeded");
    assert_eq!(status("fleet/tenant_2"), "failed");
    assert_eq!(status("fleet/tenant_3"), "succeeded");
    assert_eq!(fleet.analyzed("tenant_1").await, 1);
    assert_eq!(fleet.analyzed("tenant_3").await, 1);
    // It is what `status` says, until it is gone.
    let standing = workspace.run(["status"]).expect(1);
    assert!(
        standing
            .stdout
            .contains("statistics on fleet/tenant_2 has not succeeded"),
        "{standing:?}"
    );
    fleet.run("DROP DATABASE tenant_2").await;
    workspace.run(["run", "statistics", "--now"]).expect(0);
    workspace.run(["status"]).expect(0);
}

#[tokio::test]
async fn where_no_database_is_meant_that_is_a_failed_run() {
    let fleet = Fleet::start(1, &[1]).await;
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  fleet: {{ engine: postgres, url: \"{}\", \
         databases: [\"shop_*\"] }}\n",
        fleet.cluster.url("postgres")
    ))
    .task("statistics", "kind: analyze\ntarget: fleet\n");
    let ran = workspace
        .run(["run", "statistics", "--now", "--output", "json"])
        .expect(1);
    let said = ran.json();
    assert_eq!(runs(&said).len(), 1, "{said:#}");
    assert_eq!(runs(&said)[0]["target"], "fleet");
    assert_eq!(runs(&said)[0]["status"], "failed");
    let error = runs(&said)[0]["error"].as_str().unwrap();
    assert_eq!(
        error,
        "none of the 3 databases of `fleet` is meant by its `databases`: shop_*"
    );
    let history = workspace
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(history["runs"][0]["status"], "failed");
    // What failed is told to be well again.
    fleet.create("shop_1").await;
    let said = workspace
        .run(["run", "statistics", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(told(&said), [owned("database.new", "")]);
    workspace.run(["status"]).expect(0);
    assert_eq!(fleet.analyzed("tenant_1").await, 0, "nobody meant it");
}

#[tokio::test]
async fn one_database_is_named_as_a_target() {
    let fleet = Fleet::start(2, &[1, 2]).await;
    fleet.create("tenant a/b%").await;
    fleet.disturb("tenant a/b%").await;
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  fleet: {{ engine: postgres, url: \"{}\", \
         databases: [\"tenant*\", \"!tenant_2\"] }}\n",
        fleet.cluster.url("postgres")
    ))
    .task("statistics", "kind: analyze\ntarget: fleet\n");
    let odd = "fleet/tenant%20a%2Fb%25";
    let said = workspace
        .run([
            "run",
            "statistics",
            "--now",
            "--target",
            odd,
            "--output",
            "json",
        ])
        .expect(0)
        .json();
    assert_eq!(worked(&said), BTreeSet::from([odd.to_owned()]));
    assert_eq!(runs(&said).len(), 1);
    assert_eq!(fleet.analyzed("tenant a/b%").await, 1);
    assert_eq!(fleet.analyzed("tenant_1").await, 0);
    let history = workspace
        .run(["history", "--target", odd, "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(history["runs"].as_array().unwrap().len(), 1);
    for (name, why) in [
        (
            "fleet/tenant_2",
            "is no database that `targets.fleet.databases` means",
        ),
        (
            "fleet/other",
            "is no database that `targets.fleet.databases` means",
        ),
        ("flee", "there is no target `flee`"),
    ] {
        let refused = workspace
            .run(["run", "statistics", "--now", "--target", name])
            .expect(2);
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
}

#[tokio::test]
async fn a_saved_plan_is_for_the_databases_that_it_names() {
    let fleet = Fleet::start(3, &[1, 2]).await;
    let workspace = fleet.workspace("");
    workspace
        .run(["plan", "statistics", "--save", "plan.json"])
        .expect(0);
    let saved = std::fs::read_to_string(workspace.path().join("plan.json")).unwrap();
    let saved: Value = serde_json::from_str(&saved).unwrap();
    let targets: Vec<&str> = saved["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| plan["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        ["fleet/tenant_1", "fleet/tenant_2", "fleet/tenant_3"]
    );
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    // A database that nobody has approved is not touched.
    fleet.create("tenant_new").await;
    let said = workspace.run(["plan", "--check", "plan.json"]).expect(0);
    assert!(
        said.stdout
            .contains("new since the plan was saved, with nothing to do: fleet/tenant_new"),
        "{said:?}"
    );
    fleet.disturb("tenant_new").await;
    let said = workspace.run(["plan", "--check", "plan.json"]).expect(5);
    assert!(
        said.stdout.contains("statistics on fleet/tenant_new: the database is new since the plan was saved, and is not in it: 1 step would be done there"),
        "{said:?}"
    );
    let said = workspace
        .run(["plan", "--check", "plan.json", "--output", "json"])
        .expect(5)
        .json();
    assert_eq!(said["new_databases"][0], "fleet/tenant_new", "{said:#}");
    // A plan for one of them says nothing of the others.
    workspace
        .run([
            "plan",
            "statistics",
            "--target",
            "fleet/tenant_1",
            "--save",
            "one.json",
        ])
        .expect(0);
    workspace.run(["plan", "--check", "one.json"]).expect(0);
    let said = workspace
        .run(["run", "--plan", "plan.json", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(runs(&said).len(), 3);
    assert_eq!(fleet.analyzed("tenant_1").await, 1);
    assert_eq!(fleet.analyzed("tenant_new").await, 0);
    workspace.run(["run", "--plan", "plan.json"]).expect(2);
    // Nor is any other where one of the plan is gone.
    workspace
        .run(["plan", "statistics", "--save", "later.json"])
        .expect(0);
    fleet.run("DROP DATABASE tenant_2 WITH (FORCE)").await;
    let refused = workspace.run(["run", "--plan", "later.json"]).expect(2);
    assert!(
        refused
            .stderr
            .contains("the database is not there any more"),
        "{refused:?}"
    );
    assert_eq!(fleet.analyzed("tenant_new").await, 0);
}

/// Advice for one of many databases is no task: that is said, with what helps, and nothing is written.
#[tokio::test]
async fn advice_for_one_of_many_databases_makes_no_task() {
    // One where autovacuum comes, though not while this is going on.
    let cluster = private_cluster(17, &[("autovacuum_naptime", "1d")]);
    let admin = connect(&cluster.url("postgres")).await;
    let fleet = Fleet { cluster, admin };
    for name in ["tenant_1", "tenant_2"] {
        fleet.run(&format!("CREATE DATABASE {name}")).await;
    }
    let there = fleet.connect("tenant_2").await;
    there
        .batch_execute("CREATE TABLE off (id int) WITH (autovacuum_enabled = false); INSERT INTO off SELECT pg_catalog.generate_series(1, 35000)")
        .await
        .unwrap();
    for (statement, counted) in [
        (
            "SELECT pg_catalog.pg_stat_force_next_flush()",
            "n_tup_ins = 35000",
        ),
        ("VACUUM ANALYZE off", "vacuum_count = 1"),
    ] {
        there.batch_execute(statement).await.unwrap();
        let patience = Patience::until(counted);
        let sql = format!("SELECT count(*) FROM pg_catalog.pg_stat_user_tables WHERE {counted}");
        while there.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) < 1 {
            patience.pause().await;
        }
    }
    let own = format!(
        "  alone: {{ engine: postgres, url: \"{}\" }}\n",
        fleet.cluster.url("tenant_2")
    );
    let options = "options: { min_dead_rows: 1000 }\n";
    let workspace = fleet
        .workspace(&own)
        .task("look", &format!("kind: snapshot\ntarget: fleet\n{options}"))
        .task("own", &format!("kind: snapshot\ntarget: alone\n{options}"));
    workspace.run(["run", "look", "--now"]).expect(0);
    let advice = workspace.run(["advise"]).expect(0).stdout;
    let statement = "ALTER TABLE public.off RESET (autovacuum_enabled)";
    assert!(advice.contains(statement), "{advice}");
    for target in [None, Some("fleet/tenant_2")] {
        let mut args = vec!["plan", "--from-advice", "--save", "advice.json"];
        args.extend(target.into_iter().flat_map(|target| ["--target", target]));
        let refused = workspace.run(args).expect(2);
        assert!(
            refused.stderr.contains("`targets.fleet.databases`")
                && refused
                    .stderr
                    .contains("`maint advise --target fleet/tenant_2`"),
            "{refused:?}"
        );
    }
    let printed = workspace
        .run(["advise", "--target", "fleet/tenant_2"])
        .expect(0)
        .stdout;
    assert!(printed.contains(&format!("{statement};")), "{printed}");
    let files = || {
        std::fs::read_dir(workspace.path().join("tasks"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 3);
    assert!(!workspace.path().join("advice.json").exists());
    // A target of its own makes a task of it, and the others are told beside it.
    workspace.run(["run", "own", "--now"]).expect(0);
    let saved = workspace
        .run(["plan", "--from-advice", "--save", "advice.json"])
        .expect(0);
    assert!(
        saved.stderr.contains("tasks/advice-alone.yaml")
            && saved.stderr.contains("`targets.fleet.databases`"),
        "{saved:?}"
    );
    assert_eq!(files(), 4);
    workspace
        .run(["run", "--plan", "advice.json", "--output", "json"])
        .expect(0);
    let reset =
        "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'off' AND reloptions IS NULL";
    assert_eq!(
        there.query_one(reset, &[]).await.unwrap().get::<_, i64>(0),
        1
    );
}

#[tokio::test]
async fn what_is_due_runs_once_in_every_database() {
    let fleet = Fleet::start(3, &[1, 2]).await;
    let workspace = fleet.workspace(
        "schedules:\n  often: { cron: \"* * * * *\", tasks: [statistics], catch_up: 1h }\n",
    );
    // Known from now on; the next minute is due.
    workspace.run(["run", "--due"]).expect(0);
    let patience = crate::support::patience::Patience::until("an occurrence to be due");
    let said = loop {
        let said = workspace
            .run(["run", "--due", "--output", "json"])
            .expect(0)
            .json();
        if !runs(&said).is_empty() {
            break said;
        }
        patience.pause().await;
    };
    let expected = ["fleet/tenant_1", "fleet/tenant_2"].map(str::to_owned);
    assert_eq!(worked(&said), BTreeSet::from(expected));
    let at: BTreeSet<String> = runs(&said)
        .iter()
        .map(|r| r["scheduled_for"].to_string())
        .collect();
    assert_eq!(at.len(), 1, "one occurrence: {at:?}");
    assert_eq!(
        runs(&said).len(),
        4,
        "three databases, and what is new on the server"
    );
    let occurrence = &said["occurrences"][0];
    assert_eq!(occurrence["status"], "ran");
    assert_eq!(occurrence["succeeded"], true);
}

#[tokio::test]
async fn what_belongs_to_the_server_is_looked_at_once() {
    let fleet = Fleet::start(3, &[]).await;
    fleet
        .run(
            "SELECT pg_catalog.pg_create_physical_replication_slot('nobody', true);
              CREATE TABLE w AS SELECT n FROM pg_catalog.generate_series(1, 1000) n",
        )
        .await;
    let workspace = fleet.workspace("").task(
        "look",
        "kind: snapshot\ntarget: fleet\noptions: { max_slot_retention: 1kB }\n",
    );
    let planned = workspace
        .run(["plan", "look", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(planned["plans"].as_array().unwrap().len(), 4);
    let said = workspace
        .run(["run", "look", "--now", "--output", "json"])
        .expect(0)
        .json();
    let targets: Vec<&str> = runs(&said)
        .iter()
        .map(|r| r["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        [
            "fleet",
            "fleet/tenant_1",
            "fleet/tenant_2",
            "fleet/tenant_3"
        ]
    );
    let with = |code: &str| {
        runs(&said)
            .iter()
            .filter(|run| {
                run["findings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|f| f["code"] == code)
            })
            .map(|run| run["target"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // The server was started with it off.
    assert_eq!(with("setting.unsafe"), ["fleet"]);
    assert_eq!(with("replication.slot"), ["fleet"]);
    assert_eq!(with("database.new"), ["fleet"]);
    let location = format!("sqlite:{}", workspace.history().display());
    let store = maint::history::open(&location).await.unwrap();
    for (metric, expected) in [
        ("freeze.age", vec!["fleet", "fleet/tenant_1"]),
        ("connections.used", vec!["fleet"]),
        ("database.bytes", vec!["fleet/tenant_1"]),
    ] {
        let mut found = Vec::new();
        for target in ["fleet", "fleet/tenant_1"] {
            let since = chrono::DateTime::UNIX_EPOCH;
            if !store
                .measurements(target, metric, since)
                .await
                .unwrap()
                .is_empty()
            {
                found.push(target);
            }
        }
        assert_eq!(found, expected, "{metric}");
    }
    store.close().await;
    // Doctor, too: the version is said once.
    let said = workspace.run(["doctor", "--output", "json"]).json();
    let versions: Vec<&Value> = said["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["text"].as_str().unwrap().starts_with("PostgreSQL 17"))
        .map(|one| &one["target"])
        .collect();
    assert_eq!(versions, ["fleet"]);
}

#[tokio::test]
async fn runs_share_the_connections_of_their_server() {
    let fleet = Fleet::start(4, &[1, 2, 3, 4]).await;
    let block = |n: usize| format!("tenant_{n}");
    let mut held = Vec::new();
    for n in 1..=4 {
        let there = connect(&fleet.cluster.url(&block(n))).await;
        there
            .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
            .await
            .unwrap();
        held.push(there);
    }
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  fleet: {{ engine: postgres, url: \"{}\", \
         databases: [\"tenant_*\"], max_connections: 11 }}\n",
        fleet.cluster.url("postgres")
    ))
    .task(
        "work",
        "kind: sql\ntarget: fleet\nlimits: { parallel_targets: 4, lock_timeout: 1h }\noptions:\n  \
         statements:\n    - name: work\n      \
         sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_advisory_xact_lock(42)\n",
    );
    let mut running = workspace
        .process(["run", "work", "--now"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Five for each run: two at once, however many targets may be.
    let waiting = "SELECT count(DISTINCT datname) FROM pg_catalog.pg_stat_activity WHERE wait_event = 'advisory'";
    let ours =
        "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE application_name LIKE 'maint %'";
    let mut most = 0;
    let patience = crate::support::patience::Patience::until("two runs to be at work");
    loop {
        let waiting: i64 = fleet.admin.query_one(waiting, &[]).await.unwrap().get(0);
        most = most.max(
            fleet
                .admin
                .query_one(ours, &[])
                .await
                .unwrap()
                .get::<_, i64>(0),
        );
        assert!(waiting <= 2, "{waiting} runs at once");
        if waiting == 2 {
            break;
        }
        patience.pause().await;
    }
    drop(held);
    let patience = crate::support::patience::Patience::until("the runs to end");
    let ended = loop {
        most = most.max(
            fleet
                .admin
                .query_one(ours, &[])
                .await
                .unwrap()
                .get::<_, i64>(0),
        );
        if let Some(ended) = running.try_wait().unwrap() {
            break ended;
        }
        patience.pause().await;
    };
    assert!(ended.success(), "{ended:?}");
    assert!(most <= 11, "{most} connections");
    for n in 1..=4 {
        let there = connect(&fleet.cluster.url(&block(n))).await;
        let rows: i64 = there
            .query_one("SELECT count(*) FROM t", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(rows, 1);
    }
}

#[test]
fn what_makes_no_sense_is_said_with_its_place() {
    for (targets, expected) in [
        (
            "fleet: { engine: postgres, url: \"postgres://h/d\", databases: [] }",
            "databases",
        ),
        (
            "fleet: { engine: postgres, url: \"postgres://h/d\", databases: [\"!a\"] }",
            "`targets.fleet.databases` leaves databases out, and names none that are meant",
        ),
        (
            "fleet: { engine: postgres, url: \"postgres://h/d\", databases: [\"!\"] }",
            "names nothing",
        ),
        (
            "fleet: { engine: postgres, url: \"postgres://h/d\", databases: [\"*\"] }\n  \
             fleet/a: { engine: postgres, url: \"postgres://h/a\" }",
            "`fleet/a` could be a database of `fleet`",
        ),
        (
            "a/b: { engine: postgres, url: \"postgres://h/d\", databases: [\"*\"] }",
            "its own name must have no `/`",
        ),
        (
            "fleet: { engine: postgres, url: \"postgres://h/d\", max_connections: 9 }",
            "`targets.fleet.max_connections` is for targets with `databases`",
        ),
        (
            "fleet: { engine: postgres, url: \"postgres://h/d\", databases: [\"*\"], max_connections: 4 }",
            "max_connections",
        ),
    ] {
        let workspace = Workspace::new(&format!("targets:\n  {targets}\n"));
        let said = workspace.run(["check"]).expect(2);
        assert!(said.stderr.contains(expected), "{targets}\n{}", said.stderr);
        assert!(
            said.stderr.contains("schedules.yaml:2") || said.stderr.contains("schedules.yaml:3"),
            "{}",
            said.stderr
        );
    }
}

/// Who asks for databases hears a signal as whoever works does, also where the server says nothing.
#[tokio::test]
async fn a_signal_is_heard_while_databases_are_looked_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  fleet: {{ engine: postgres, \
         url: \"postgres://anna@{}/postgres?connect_timeout=600\", databases: [\"*\"] }}\n",
        silent.local_addr().unwrap()
    ))
    .task("statistics", "kind: analyze\ntarget: fleet\n");
    let mut process = workspace
        .process(["run", "statistics", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Patience::until("maint to ask for the databases");
    let connection = loop {
        match silent.accept() {
            Ok((connection, _)) => break connection,
            Err(_) => patience.pause().await,
        }
    };
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).unwrap();
    let patience = Patience::until("the process to end");
    while process.try_wait().unwrap().is_none() {
        patience.pause().await;
    }
    drop(connection);
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &runs(&said)[0];
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert_eq!(run["steps"], Value::Array(Vec::new()));
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("asked for its databases"), "{error}");
    let history = workspace
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(history["runs"][0]["status"], "cancelled");
}
