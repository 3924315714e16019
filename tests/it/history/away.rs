//! The history goes away, before a run or in the middle of one: the work goes
//! on, and its record is written once, later.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::wire::{Mode, Wire};
use crate::support::workspace::Workspace;

/// A target, and a history in another database that is reached through a wire.
async fn workspace() -> (TestDatabase, TestDatabase, Wire, Workspace) {
    let (target, kept) = (fresh_database(17).await, fresh_database(17).await);
    target
        .execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000)")
        .await;
    let mut url = url::Url::parse(&kept.url).unwrap();
    let wire = Wire::to(url.port().unwrap()).await;
    url.set_port(Some(wire.port)).unwrap();
    let workspace = Workspace::new(&format!(
        "history: \"{url}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n\
         notify: {{ on: [failed], file: told.jsonl }}\n",
        target.url
    ))
    .task("analyze", "kind: analyze\ntarget: app\n")
    .task(
        "work",
        "kind: sql\ntarget: app\nlimits: { lock_timeout: 1h }\noptions:\n  statements:\n    \
         - name: wait\n      \
           sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_advisory_xact_lock(42)\n    \
         - name: later\n      sql: INSERT INTO public.t VALUES (2)\n",
    )
    .task(
        "old",
        "kind: archive\ntarget: app\noptions:\n  table: public.t\n  column: at\n  older_than: 1y\n  destination: { table: public.t_old }\n",
    );
    (target, kept, wire, workspace)
}

fn spooled(workspace: &Workspace) -> usize {
    std::fs::read_dir(workspace.path().join("maint-spool")).map_or(0, |folder| folder.count())
}

/// `work` in the background, until it waits for the lock that the test holds.
async fn in_the_middle(target: &TestDatabase, workspace: &Workspace) -> std::process::Child {
    target
        .client
        .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
        .await
        .unwrap();
    let running = workspace
        .process(["run", "work", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND wait_event = 'advisory'";
    let began = Instant::now();
    while target.number(waiting).await == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(180),
            "the run does not reach its statement"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running
}

async fn let_go(target: &TestDatabase) {
    target
        .client
        .batch_execute("SELECT pg_catalog.pg_advisory_unlock(42)")
        .await
        .unwrap();
}

/// Where the file beside it cannot be written either, that is said: the work is
/// done, and nobody will find it in the history.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_can_be_kept_nowhere_are_told() {
    let (target, _kept, wire, workspace) = workspace().await;
    workspace.file("maint-spool", "in the way of the folder");
    workspace.file("tmp", "in the way of the other");
    let temporary = workspace.path().join("tmp");
    let workspace = workspace.env("TMPDIR", temporary.to_str().unwrap());
    let running = in_the_middle(&target, &workspace).await;
    wire.set(Mode::Cut);
    let_go(&target).await;
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
}

/// Where there is no room beside it, records are kept among the temporary files, and written once.
#[tokio::test(flavor = "multi_thread")]
async fn records_without_room_beside_are_kept_elsewhere() {
    let (target, _kept, wire, workspace) = workspace().await;
    workspace.file("maint-spool", "in the way of the folder");
    let temporary = workspace.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let workspace = workspace.env("TMPDIR", temporary.to_str().unwrap());
    let running = in_the_middle(&target, &workspace).await;
    wire.set(Mode::Cut);
    let_go(&target).await;
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let elsewhere = || {
        let folders = std::fs::read_dir(&temporary).unwrap();
        let mut folders = folders.map(|one| one.unwrap().path());
        folders.find(|path| path.to_string_lossy().contains("maint-spool-"))
    };
    let folder = elsewhere().expect("a folder for records");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&folder.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    wire.set(Mode::Pass);
    workspace.run(["run", "analyze", "--now"]).expect(0);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let runs = workspace
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{runs:#?}");
    assert!(
        runs.iter().all(|run| run["status"] == "succeeded"),
        "{runs:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_goes_away_in_mid_run_stops_nothing() {
    for mode in [Mode::Cut, Mode::Stall] {
        let (target, _kept, wire, workspace) = workspace().await;
        let running = in_the_middle(&target, &workspace).await;
        wire.set(mode);
        let_go(&target).await;
        let ended = running.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{mode:?}: {ended:?}");
        let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(said["runs"][0]["status"], "succeeded", "{mode:?}: {said:#}");
        assert_eq!(spooled(&workspace), 1, "{mode:?}: {ended:?}");

        wire.set(Mode::Pass);
        let ran = workspace.run(["run", "analyze", "--now"]).expect(0);
        assert_eq!(spooled(&workspace), 0, "{mode:?}: {ran:#?}");
        let shown = workspace.run(["history", "--output", "json"]).expect(0);
        let runs = shown.json();
        let mut statuses: Vec<(String, String)> = runs["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| {
                let word = |key: &str| run[key].as_str().unwrap().to_owned();
                (word("task"), word("status"))
            })
            .collect();
        statuses.sort();
        let expected = [("analyze", "succeeded"), ("work", "succeeded")];
        assert_eq!(
            statuses,
            expected.map(|(task, status)| (task.to_owned(), status.to_owned())),
            "{mode:?}: each once, and none taken for dead"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_without_the_history_but_not_where_it_is_the_proof() {
    let (target, _kept, wire, workspace) = workspace().await;
    target
        .execute("ALTER TABLE t ADD at timestamptz NOT NULL DEFAULT '2001-01-01', ADD PRIMARY KEY (id); CREATE TABLE t_old (LIKE t)")
        .await;
    workspace.run(["run", "analyze", "--now"]).expect(0);
    wire.set(Mode::Cut);
    target
        .execute("INSERT INTO t SELECT generate_series(1001, 9000)")
        .await;
    let ran = workspace
        .run(["run", "analyze", "--now", "--output", "json"])
        .expect(0);
    let run = &ran.json()["runs"][0];
    assert_eq!(run["status"], "succeeded", "{ran:#?}");
    assert_eq!(
        run["findings"][0]["code"], "history.unreachable",
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("without the history"), "{ran:#?}");

    let refused = workspace
        .run(["run", "old", "--now", "--output", "json"])
        .expect(3);
    let run = &refused.json()["runs"][0];
    assert_eq!(run["status"], "failed", "{refused:#?}");
    assert!(
        run["error"].as_str().unwrap().contains("history"),
        "{refused:#?}"
    );
    assert_eq!(target.number("SELECT count(*) FROM t_old").await, 0);
    assert_eq!(target.number("SELECT count(*) FROM t").await, 9000);
    assert_eq!(spooled(&workspace), 2);
    // It is told at once: the history may stay away for as long as it likes.
    let told = || std::fs::read_to_string(workspace.path().join("told.jsonl")).unwrap_or_default();
    assert!(told().contains("old"), "{}", told());
    let at_once = told();

    wire.set(Mode::Pass);
    // Whoever asks before a run has written them down is not told that all is well.
    let status = workspace.run(["status"]).expect(1).stdout;
    assert!(
        status.contains("records of what ran wait beside the history"),
        "{status}"
    );
    let nagios = workspace.run(["status", "--output", "nagios"]).expect(2);
    assert!(nagios.stdout.contains("MAINT CRITICAL"), "{nagios:#?}");
    let ran = workspace.run(["run", "analyze", "--now"]).expect(0);
    assert_eq!(spooled(&workspace), 0, "{ran:#?}");
    let shown = workspace.run(["history", "--output", "json"]).expect(0);
    assert_eq!(
        shown.json()["runs"].as_array().unwrap().len(),
        4,
        "{shown:#?}"
    );
    assert_eq!(told(), at_once);
    // That it failed was told, and so is that it does no more, though no alert was opened then.
    workspace.file(
        "tasks/old.yaml",
        "kind: archive\ntarget: app\noptions:\n  table: public.t\n  column: at\n  older_than: 90y\n  destination: { table: public.t_old }\n",
    );
    workspace.run(["run", "old", "--now"]).expect(0);
    let news = told().split_off(at_once.len());
    assert!(
        news.contains("\"recovered\"") && news.contains("old"),
        "{news}"
    );
    workspace.run(["run", "old", "--now"]).expect(0);
    assert_eq!(
        told().matches("\"recovered\"").count(),
        news.matches("\"recovered\"").count()
    );
}

/// What one run has kept, and the history does not take, keeps no other from its work: neither by rights that are
/// missing, nor by what it says.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_not_taken_stop_nothing() {
    let (target, kept, _wire, workspace) = workspace().await;
    workspace.run(["run", "analyze", "--now"]).expect(0);
    let refuse = "CREATE FUNCTION maint.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE insufficient_privilege; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON maint.runs FOR EACH ROW EXECUTE FUNCTION maint.refuse()";
    kept.execute(refuse).await;
    for night in 1..=3 {
        target
            .execute("INSERT INTO t SELECT generate_series(1, 50000)")
            .await;
        let ran = workspace.run(["run", "analyze", "--now", "--output", "json"]);
        assert_eq!(
            ran.expect(0).json()["runs"][0]["status"],
            "succeeded",
            "night {night}"
        );
        assert_eq!(spooled(&workspace), night);
        let status = workspace.run(["status"]).expect(1).stdout;
        assert!(status.contains("beside the history"), "{status}");
    }
    kept.execute("DROP TRIGGER refuse ON maint.runs").await;
    workspace.run(["run", "analyze", "--now"]).expect(0);
    assert_eq!(spooled(&workspace), 0);
    let shown = workspace.run(["history", "--output", "json"]).expect(0);
    assert_eq!(shown.json()["runs"].as_array().unwrap().len(), 5);
    let status = workspace.run(["status"]).stdout;
    assert!(!status.contains("beside the history"), "{status}");
}
