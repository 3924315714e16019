//! A connection that stalls, and one that is cut: runs end in time, and what
//! they leave is found.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// What happens to the connections of a [`Proxy`], old ones and new ones.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Forward,
    /// Nothing is said any more, and nothing is closed.
    Stall,
    /// Those that are there now are closed.
    Cut,
}

/// Between maint and the server.
struct Proxy {
    url: String,
    mode: Arc<watch::Sender<Mode>>,
}

impl Proxy {
    async fn start(db: &TestDatabase) -> Proxy {
        let server: tokio_postgres::Config = db.url.parse().unwrap();
        let port = server.get_ports()[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url: url::Url = db.url.parse().unwrap();
        let own = listener.local_addr().unwrap().port();
        url.set_port(Some(own)).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Forward));
        let modes = Arc::clone(&mode);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut mode = modes.subscribe();
                tokio::spawn(async move {
                    mode.wait_for(|mode| *mode != Mode::Stall).await.unwrap();
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    mode.borrow_and_update();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = mode.changed() => {
                            // Both ends are held as they are.
                            let _ = mode.wait_for(|mode| *mode != Mode::Stall).await;
                        }
                    }
                });
            }
        });
        Proxy {
            url: url.to_string(),
            mode,
        }
    }

    fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn wait_for(db: &TestDatabase, what: &str, sql: &str, number: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while db.number(sql).await != number {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn start(workspace: &Workspace, task: &str) -> Child {
    let args = ["run", task, "--now", "--output", "json"];
    let mut process = workspace.process(args);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    process.spawn().unwrap()
}

/// Its exit code, its run, and how long it took from now on.
async fn end(process: Child) -> (Option<i32>, serde_json::Value, Duration) {
    let began = Instant::now();
    let id = Pid::from_raw(process.id() as i32);
    let ended = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap());
    let Ok(output) = tokio::time::timeout(Duration::from_secs(60), ended).await else {
        kill(id, Signal::SIGKILL).unwrap();
        panic!("the process did not end");
    };
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{said}"));
    (
        output.status.code(),
        document["runs"][0].clone(),
        began.elapsed(),
    )
}

fn signal(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id() as i32), signal).unwrap();
}

const SLEEPS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid()";

/// A server that says nothing any more does not keep a run that is to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_obeyed_although_the_server_is_silent() {
    let db = fresh_database(17).await;
    let proxy = Proxy::start(&db).await;
    let workspace = Workspace::for_target(&proxy.url).task(
        "sleep",
        "kind: sql\ntarget: app\nlimits: { grace: 1s }\noptions:\n  statements:\n    - name: sleep\n      sql: SELECT pg_catalog.pg_sleep(3600)\n",
    );
    let process = start(&workspace, "sleep");
    wait_for(&db, "the statement", SLEEPS, 1).await;
    proxy.set(Mode::Stall);
    signal(&process, Signal::SIGTERM);
    let (code, run, took) = end(process).await;
    assert_eq!(code, Some(143), "{run:#}");
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert_eq!(run["steps"][0]["status"], "cancelled", "{run:#}");
    assert!(
        run["error"].as_str().unwrap().contains("without an answer"),
        "{run:#}"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");

    // A third signal waits for nothing, not even for that.
    proxy.set(Mode::Cut);
    wait_for(&db, "the end of the statement", SLEEPS, 0).await;
    proxy.set(Mode::Forward);
    let process = start(&workspace, "sleep");
    wait_for(&db, "the statement", SLEEPS, 1).await;
    signal(&process, Signal::SIGTERM);
    let (code, run, _) = end(process).await;
    assert_eq!(code, Some(143), "{run:#}");
    assert_eq!(run["steps"][0]["error"], "the run was stopped", "{run:#}");
}

/// Nor does a history on the very server that says nothing: what happened is kept in a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_obeyed_although_the_history_is_silent_too() {
    let db = fresh_database(17).await;
    let proxy = Proxy::start(&db).await;
    let url = &proxy.url;
    let workspace = Workspace::new(&format!(
        "history: '{url}'\ntargets: {{ app: {{ engine: postgres, url: '{url}' }} }}\n"
    ))
    .task(
        "sleep",
        "kind: sql\ntarget: app\nlimits: { grace: 15s }\noptions:\n  statements:\n    - name: sleep\n      sql: SELECT pg_catalog.pg_sleep(3600)\n",
    );
    let process = start(&workspace, "sleep");
    wait_for(&db, "the statement", SLEEPS, 1).await;
    proxy.set(Mode::Stall);
    signal(&process, Signal::SIGTERM);
    let (code, run, took) = end(process).await;
    assert_eq!(code, Some(143), "{run:#}");
    assert_eq!(run["status"], "cancelled", "{run:#}");
    // Without a limit of its own each call to the history took ten seconds, or a minute.
    assert!(took < Duration::from_secs(30), "{took:?}");
    proxy.set(Mode::Cut);
    wait_for(&db, "the end of the statement", SLEEPS, 0).await;
    proxy.set(Mode::Forward);
    // The next command takes the record up.
    let shown = workspace
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(shown["runs"][0]["id"], run["id"], "{shown:#}");
}

/// What the statement of a lost connection goes on with is ended, and what it
/// left is removed, by the very next run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cut_connection_left_is_found_at_once() {
    let half_built = "SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_ccnew'";
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE alpha (id bigint); INSERT INTO alpha SELECT generate_series(1, 20000);
         CREATE INDEX alpha_id ON alpha (id); DELETE FROM alpha WHERE id % 5 <> 0",
    )
    .await;
    db.execute("VACUUM ANALYZE alpha").await;
    // A concurrent rebuild waits for it at the very end, with the new index already there.
    let holder = db.connect().await;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    holder.batch_execute(snapshot).await.unwrap();
    let proxy = Proxy::start(&db).await;
    let workspace = Workspace::for_target(&proxy.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30% }\n",
    );
    let process = start(&workspace, "reindex");
    wait_for(&db, "the new index", half_built, 1).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND query LIKE 'REINDEX%' AND wait_event_type = 'Lock'";
    wait_for(&db, "the wait for the snapshot", waits, 1).await;
    proxy.set(Mode::Cut);
    let (_, run, _) = end(process).await;
    assert_eq!(run["status"], "failed", "{run:#}");

    // The server looks for its client every two seconds: mostly the rebuild
    // still waits for the snapshot when the next run begins.
    proxy.set(Mode::Forward);
    let name = format!("maint {}", run["id"].as_str().unwrap());
    let process = start(&workspace, "reindex");
    let orphans =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
    wait_for(&db, "the end of the orphans", &orphans, 0).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let (code, run, _) = end(process).await;
    assert_eq!(code, Some(0), "{run:#}");
    let steps = run["steps"].as_array().unwrap();
    let done: BTreeSet<(&str, &str)> = steps
        .iter()
        .map(|s| (s["action"].as_str().unwrap(), s["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        done,
        BTreeSet::from([("drop_leftover", "succeeded"), ("reindex", "succeeded")])
    );
    assert_eq!(
        db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
            .await,
        0
    );
}

const SLEEP: &str = "kind: sql\ntarget: app\nlimits: LIMITS\noptions:\n  statements:\n    - name: sleep\n      sql: SELECT pg_catalog.pg_sleep(3600)\n";

/// A server that acknowledges what it is sent and says nothing ends no run by its own limits:
/// the run does.
async fn ends_by_itself(major: u32, limits: &str, overdue: &str) {
    let db = fresh_database(major).await;
    let proxy = Proxy::start(&db).await;
    let workspace =
        Workspace::for_target(&proxy.url).task("sleep", &SLEEP.replace("LIMITS", limits));
    let process = start(&workspace, "sleep");
    wait_for(&db, "the statement", SLEEPS, 1).await;
    proxy.set(Mode::Stall);
    let (code, run, _) = end(process).await;
    assert_eq!(code, Some(1), "{run:#}");
    assert_eq!(run["status"], "failed", "{run:#}");
    assert_eq!(run["steps"][0]["status"], "cancelled", "{run:#}");
    let error = run["error"].as_str().unwrap();
    assert!(
        error.contains("the server says nothing any more"),
        "{error}"
    );
    assert!(error.contains(overdue), "{error}");

    // What it left is ended by the next run, which has its claim.
    proxy.set(Mode::Cut);
    wait_for(&db, "the end of the statement", SLEEPS, 0).await;
    proxy.set(Mode::Forward);
    let workspace = workspace.task(
        "sleep",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: sleep, sql: SELECT 1 }] }\n",
    );
    let (code, run, _) = end(start(&workspace, "sleep")).await;
    assert_eq!(code, Some(0), "{run:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_ends_a_run_whose_budget_is_over() {
    ends_by_itself(17, "{ budget: 3s }", "a step beyond the run's time").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_ends_a_run_whose_step_takes_too_long() {
    ends_by_itself(14, "{ step_timeout: 3s }", "`limits.step_timeout`").await;
}

/// Nor does one that says nothing while it is asked what there is to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_ends_a_run_that_looks_what_there_is_to_do() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    // Whoever looks which tables are partitioned waits for it.
    let holder = db.connect().await;
    holder
        .batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_inherits IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let proxy = Proxy::start(&db).await;
    let workspace = Workspace::for_target(&proxy.url).task(
        "analyze",
        "kind: analyze\ntarget: app\nlimits: { budget: 3s }\n",
    );
    let process = start(&workspace, "analyze");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'maint %' AND wait_event_type = 'Lock'";
    wait_for(&db, "the look", waits, 1).await;
    proxy.set(Mode::Stall);
    let (code, run, _) = end(process).await;
    assert_eq!(code, Some(1), "{run:#}");
    assert_eq!(run["status"], "failed", "{run:#}");
    assert!(run["steps"].as_array().unwrap().is_empty(), "{run:#}");
    let error = run["error"].as_str().unwrap();
    assert!(
        error.contains("the answer to what there is to do is overdue"),
        "{error}"
    );
    holder.batch_execute("ROLLBACK").await.unwrap();
}

/// One that answers ends the step by its own limit, and nobody gives it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_ends_a_step_itself() {
    let db = fresh_database(17).await;
    let proxy = Proxy::start(&db).await;
    let workspace =
        Workspace::for_target(&proxy.url).task("sleep", &SLEEP.replace("LIMITS", "{ budget: 3s }"));
    let (code, run, _) = end(start(&workspace, "sleep")).await;
    assert_eq!(code, Some(0), "{run:#}");
    assert_eq!(run["status"], "incomplete", "{run:#}");
    assert_eq!(run["steps"][0]["status"], "deferred", "{run:#}");
}
