//! From a SQLite file to PostgreSQL.

use maint::history::{
    Alert, Baseline, Claim, Copied, HistoryError, Letter, Notice, OccurrenceFilter, Pause,
    RunFilter, RunRecord, RunStatus, StepStatus, Store, copy, open,
};
use maint::plan::{Measurement, Memory, Severity};
use serde_json::json;

use super::{at, finding, id, run, step};
use crate::support::pooler::Pooler;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

async fn fill(store: &dyn Store) {
    for ms in 0..1_200 {
        let over = RunRecord {
            status: RunStatus::Partial,
            finished_at: Some(at(ms)),
            rows: i64::MAX,
            error: Some("línea 1\n\u{1b}[31m行 \"quoted\" \\ {}".into()),
            steps: vec![step(1, StepStatus::Succeeded)],
            findings: vec![finding(Severity::Critical, "a")],
            ..run("reindex", ms)
        };
        store.close_run(&over).await.unwrap();
    }
    store.open_run(&run("vacuum", 5_000)).await.unwrap();
    let baseline = Baseline {
        object: "public.i".into(),
        bytes: 8192,
        tuples: 0.1 + 0.2,
        learned_at: at(1),
        rebuilt: true,
        made_as: Some("1/2/3".into()),
    };
    store.learn("app", &baseline).await.unwrap();
    let memory = Memory {
        key: "k".into(),
        value: json!({ "z": "\u{0}", "a": [1, 2.5, null] }),
    };
    store
        .remember("app", "vacuum", at(0), &[memory])
        .await
        .unwrap();
    let size = Measurement {
        metric: "size".into(),
        object: "t".into(),
        value: 1.0 / 3.0,
    };
    store.add_measurements("app", at(0), &[size]).await.unwrap();
    let notice = Notice {
        id: id(0, 1),
        at: at(0),
        event: "failed".into(),
        task: "reindex".into(),
        target: "app".into(),
        schedule: None,
        run: Some(id(0, 1)),
        text: "text".into(),
    };
    store.add_notices(&[notice]).await.unwrap();
    let letter = Letter {
        id: id(0, 2),
        created_at: at(0),
        channel: "webhook".into(),
        body: json!({ "z": 1, "a": "é" }),
        attempts: 0,
        next_attempt_at: at(0),
        last_error: None,
    };
    assert!(store.post(&[], &[letter]).await.unwrap());
    let alert = Alert {
        task: "reindex".into(),
        target: "app".into(),
        since: at(0),
        escalated_at: None,
    };
    store.put_alert(&alert).await.unwrap();
    let claim = Claim {
        schedule: "nightly".into(),
        scheduled_for: at(0),
        catch_up: true,
        owner: "me".into(),
        lease: std::time::Duration::from_secs(3600),
        now: at(0),
    };
    store.claim_occurrence(&claim).await.unwrap();
    let pause = Pause {
        schedule: "nightly".into(),
        since: at(0),
        until: None,
        by: "me".into(),
    };
    store.pause_schedule(&pause).await.unwrap();
    store
        .know_schedules(&[("nightly".into(), "0 2 * * *".into())], at(0))
        .await
        .unwrap();
}

async fn same(a: &dyn Store, b: &dyn Store) {
    let runs = a.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(b.runs(&RunFilter::default()).await.unwrap(), runs);
    for one in runs.iter().step_by(100) {
        let id = one.id.to_string();
        assert_eq!(a.run(&id).await.unwrap(), b.run(&id).await.unwrap());
    }
    assert_eq!(
        a.baselines("app").await.unwrap(),
        b.baselines("app").await.unwrap()
    );
    assert_eq!(
        a.memories("app", "vacuum").await.unwrap(),
        b.memories("app", "vacuum").await.unwrap()
    );
    assert_eq!(
        a.measurements("app", "size", at(0)).await.unwrap(),
        b.measurements("app", "size", at(0)).await.unwrap()
    );
    assert_eq!(
        a.pending_notices().await.unwrap(),
        b.pending_notices().await.unwrap()
    );
    assert_eq!(a.alerts().await.unwrap(), b.alerts().await.unwrap());
    let filter = OccurrenceFilter::default();
    assert_eq!(
        a.occurrences(&filter).await.unwrap(),
        b.occurrences(&filter).await.unwrap()
    );
    assert_eq!(a.pauses().await.unwrap(), b.pauses().await.unwrap());
}

#[tokio::test]
async fn everything_moves_and_may_be_moved_again() {
    let db = fresh_database(17).await;
    let pooler = Pooler::start(&db, "transaction");
    let workspace = Workspace::new(&format!(
        "history: \"{}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
        pooler.url, db.url
    ));
    let from = format!("sqlite:{}", workspace.path().join("old.db").display());
    let old = open(&from).await.unwrap();
    fill(&*old).await;

    let first = workspace
        .run(["history", "copy", "--from", &from, "--output", "json"])
        .expect(0)
        .json();
    let rows = |document: &serde_json::Value, table: &str, key: &str| {
        let tables = document["copied"].as_array().unwrap();
        let found = tables.iter().find(|one| one["table"] == table).unwrap();
        found[key].as_u64().unwrap()
    };
    assert_eq!(rows(&first, "runs", "rows"), 1_201);
    assert_eq!(rows(&first, "runs", "new"), 1_201);
    assert_eq!(rows(&first, "steps", "new"), 1_200);
    let new = open(&pooler.url).await.unwrap();
    same(&*old, &*new).await;
    let letter = new.claim_letter(at(1), at(2)).await.unwrap().unwrap();
    assert_eq!(letter.body, json!({ "z": 1, "a": "é" }));

    let again = copy(&from, &db.url).await.unwrap();
    assert!(again.iter().all(|one: &Copied| one.new == 0), "{again:?}");
    same(&*old, &*new).await;
}

#[tokio::test]
async fn only_from_a_file_to_a_database() {
    for (from, to) in [
        ("sqlite:a.db", "sqlite:b.db"),
        ("postgres://s3cret@h/d", "sqlite:b.db"),
        ("sqlite::memory:", "postgres://s3cret@h/d"),
    ] {
        let error = copy(from, to).await.unwrap_err();
        assert!(matches!(error, HistoryError::CannotCopy), "{error:?}");
    }
    let missing = copy("sqlite:/nowhere/maint.db", "postgres://u@127.0.0.1:1/d").await;
    assert!(
        matches!(missing, Err(HistoryError::Missing { .. })),
        "{missing:?}"
    );
}

/// What is wrong with the command line is not said of the configuration; a plain name is that of a file.
#[tokio::test]
async fn what_the_command_line_names_is_told_as_such() {
    let workspace = Workspace::new(
        "history: sqlite:own.db\ntargets:\n  app: { engine: postgres, url: \"postgres://h/d\" }\n",
    );
    let file = workspace.path().join("other.db").display().to_string();
    drop(open(&format!("sqlite:{file}")).await.unwrap());
    let to = "postgres://u@127.0.0.1:1/d?sslmode=disable";
    for (from, to, code, said) in [
        // It is read; what does not answer is the database.
        (file.as_str(), to, 3, "127.0.0.1:1/d"),
        ("/no/such.db", to, 2, "`--from` names /no/such.db, and"),
        (
            "sqlite:/no/such.db",
            to,
            2,
            "`--from` names /no/such.db, and",
        ),
        ("mysql://u:s3cret@h/d", to, 2, "`--from` names no file"),
        (
            file.as_str(),
            "mysql://u:s3cret@h/d",
            2,
            "`--to` (or MAINT_HISTORY_TO) names no database",
        ),
        (
            file.as_str(),
            "other.db",
            2,
            "`--to` (or MAINT_HISTORY_TO) names no database",
        ),
    ] {
        let told = workspace.run(["history", "copy", "--from", from, "--to", to]);
        let told = told.expect(code).stderr;
        assert!(told.contains(said), "{from} {to}: {told}");
        assert!(
            !told.contains("`history:`") && !told.contains("s3cret"),
            "{told}"
        );
    }
}
