//! Watchdogs that take their time, or do not answer at all.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// A watchdog that hears of a start and answers only once the work is seen to be done, and to
/// nothing else if it is `deaf`.
struct Watchdog {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Watchdog {
    async fn start(db: &TestDatabase, deaf: bool) -> Watchdog {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (url, notes) = (db.url.clone(), Arc::clone(&heard));
        let router = Router::new().fallback(move |request: Request| {
            let (url, notes) = (url.clone(), Arc::clone(&notes));
            async move {
                let path = request.uri().path().to_owned();
                notes.lock().unwrap().push(path.clone());
                if deaf {
                    std::future::pending::<()>().await;
                }
                if path.ends_with("/start") {
                    done(&url).await;
                    // Only who was still being waited for gets here.
                    notes
                        .lock()
                        .unwrap()
                        .push("done while it waited".to_owned());
                }
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/weg", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Watchdog { url, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// Waits until the task has done its work.
async fn done(url: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let until = Instant::now() + Duration::from_secs(300);
    while Instant::now() < until {
        let row = client.query_one("SELECT count(*) FROM t", &[]).await;
        if row.unwrap().get::<_, i64>(0) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the work was not done");
}

fn workspace(db: &TestDatabase, url: &str, cron: &str) -> Workspace {
    Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\n\
         targets: {{ app: {{ engine: postgres, url: \"{}\" }} }}\n\
         schedules:\n  often: {{ cron: \"{cron}\", tasks: [one], ping: {{ url: \"{url}\" }} }}\n",
        db.url
    ))
    .task(
        "one",
        "kind: sql\ntarget: app\nlimits: { grace: 1s }\n\
         options: { statements: [{ name: one, sql: INSERT INTO public.t VALUES (1) }] }\n",
    )
}

async fn with_table() -> TestDatabase {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    db
}

#[tokio::test]
async fn work_does_not_wait_for_a_watchdog_that_is_told_of_its_start() {
    for verb in [
        vec!["run", "--all"],
        vec!["run", "--due", "--schedule", "often"],
    ] {
        let db = with_table().await;
        let watchdog = Watchdog::start(&db, false).await;
        let workspace = workspace(&db, &watchdog.url, "* * * * *");
        let ran = tokio::task::spawn_blocking(move || workspace.run(verb).expect(0));
        let ran = ran.await.unwrap();
        // In their order all the same.
        let order = ["/weg/start", "done while it waited", "/weg"];
        assert_eq!(
            watchdog.heard().get(..3),
            Some(&order.map(str::to_owned)[..]),
            "{ran:#?}"
        );
    }
}

#[tokio::test]
async fn a_watchdog_that_never_answers_is_told_of_the_end_too_and_it_is_said() {
    let db = with_table().await;
    let watchdog = Watchdog::start(&db, true).await;
    let workspace = workspace(&db, &watchdog.url, "0 0 1 1 *");
    let ran = tokio::task::spawn_blocking(move || workspace.run(["run", "--all"]).expect(0));
    let ran = ran.await.unwrap();
    assert_eq!(watchdog.heard(), ["/weg/start", "/weg"], "{ran:#?}");
    for signal in ["of the start", "of the success"] {
        let said = format!("was not told {signal}");
        assert!(ran.stderr.contains(&said), "{ran:#?}");
    }
    assert!(!ran.stderr.contains(&watchdog.url), "{ran:#?}");
}

/// No step is at work: nothing has to be cleared away, and nobody be waited for.
#[tokio::test]
async fn a_daemon_is_not_kept_from_ending_by_a_watchdog_that_does_not_answer() {
    let db = with_table().await;
    let watchdog = Watchdog::start(&db, true).await;
    let workspace = workspace(&db, &watchdog.url, "* * * * *");
    let log = workspace.path().join("log");
    let mut process = workspace
        .process(["serve", "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let patience = Patience::until("the watchdog to be told");
    while watchdog.heard().is_empty() {
        patience.pause().await;
    }
    let patience = Patience::until("the work to be done");
    while db.number("SELECT count(*) FROM t").await == 0 {
        patience.pause().await;
    }
    kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).unwrap();
    let patience = Patience::until("the process to end");
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status,
            None => patience.pause().await,
        }
    };
    let said = std::fs::read_to_string(log).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("leaving without clearing away"), "{said}");
}
