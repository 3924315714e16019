//! A run leaves the server to others for as long as it should, says why, and
//! then does its work.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::objects;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, connect, fresh_database, private_cluster};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

/// A run under way, whose words on standard error are read as they come.
pub(crate) struct Running<'a> {
    workspace: &'a Workspace,
    process: Child,
    said: BufReader<ChildStderr>,
}

impl Running<'_> {
    pub(crate) fn begin<'a>(workspace: &'a Workspace, task: &str) -> Running<'a> {
        let mut process = workspace
            .process(["run", task, "--now"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        Running {
            workspace,
            process,
            said,
        }
    }

    /// Reads on until it says this, and gives the whole line.
    pub(crate) fn until(&mut self, words: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.said.read_line(&mut line).unwrap() > 0,
                "{words}: {all}"
            );
            if line.contains(words) {
                return line;
            }
            all.push_str(&line);
        }
    }

    /// Tells it to stop, and waits for that.
    pub(crate) fn stop(self) -> Value {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).unwrap();
        self.end(143)
    }

    /// Waits for its end, and gives what was recorded of it.
    pub(crate) fn end(mut self, code: i32) -> Value {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut rest).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(code), "{rest}");
        let shown = self.workspace.run(["show", "last", "--output", "json"]);
        shown.expect(0).json()
    }
}

/// The settings that steps were throttled by.
fn throttled(document: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for step in document["runs"][0]["steps"].as_array().unwrap() {
        for pause in step["throttled"].as_array().unwrap() {
            assert!(pause["waited_ms"].as_i64().unwrap() >= 0, "{pause}");
            assert!(!pause["reason"].as_str().unwrap().is_empty(), "{pause}");
            all.push(pause["setting"].as_str().unwrap().to_owned());
        }
    }
    all.dedup();
    all
}

fn analyzing(url: &str, throttle: &str) -> Workspace {
    Workspace::for_target(url).task(
        "analyze",
        &format!("kind: analyze\ntarget: app\nthrottle: {throttle}\n"),
    )
}

const ANALYZED: &str = "SELECT count(*) FROM pg_stats WHERE tablename = 't'";

async fn unanalyzed() -> TestDatabase {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    db
}

#[tokio::test]
async fn nothing_begins_while_the_pause_file_exists() {
    let db = unanalyzed().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pause");
    std::fs::write(&file, "").unwrap();
    let workspace = analyzing(
        &db.url,
        &format!("{{ pause_file: {} }}", file.to_str().unwrap()),
    );
    let mut running = Running::begin(&workspace, "analyze");
    let line = running.until("paused: ");
    assert!(line.contains("exists (`throttle.pause_file`)"), "{line}");
    assert_eq!(db.number(ANALYZED).await, 0);
    std::fs::remove_file(&file).unwrap();
    let document = running.end(0);
    assert_eq!(throttled(&document), ["pause_file"]);
    let pause = &document["runs"][0]["steps"][0]["throttled"][0];
    assert!(pause["waited_ms"].as_i64().unwrap() > 0, "{pause}");
    assert_eq!(db.number(ANALYZED).await, 1);
    let shown = workspace.run(["show", "last"]).expect(0).stdout;
    assert!(
        shown.contains("paused") && shown.contains("throttle.pause_file"),
        "{shown}"
    );

    // Without a reason nothing is waited for.
    db.execute("INSERT INTO t SELECT generate_series(1, 50000)")
        .await;
    let again = Running::begin(&workspace, "analyze").end(0);
    assert_eq!(objects(&again, "analyze", "succeeded").len(), 1);
    assert!(throttled(&again).is_empty());
}

#[tokio::test]
async fn a_paused_run_can_be_stopped() {
    let db = unanalyzed().await;
    let workspace = analyzing(&db.url, "{ query: 'SELECT true' }");
    let mut running = Running::begin(&workspace, "analyze");
    running.until("paused: ");
    let document = running.stop();
    assert_eq!(throttled(&document), ["query"]);
    assert_eq!(
        objects(&document, "analyze", "deferred").len(),
        1,
        "{document:#}"
    );
    assert_eq!(db.number(ANALYZED).await, 0);
}

#[tokio::test]
async fn a_budget_ends_a_pause() {
    let db = unanalyzed().await;
    let workspace = Workspace::for_target(&db.url).task(
        "analyze",
        "kind: analyze\ntarget: app\nthrottle: { query: 'SELECT n = 1 FROM pg_catalog.generate_series(1, 3) n' }\nlimits: { budget: 3s }\n",
    );
    // Of several rows the first one decides.
    let document = Running::begin(&workspace, "analyze").end(0);
    assert_eq!(document["runs"][0]["status"], "incomplete", "{document:#}");
    assert_eq!(db.number(ANALYZED).await, 0);
}

/// A condition that cannot be asked for keeps everything from beginning.
#[tokio::test]
async fn a_wrong_question_fails_the_step() {
    for (query, complaint) in [
        ("SELECT nonsense", "column \"nonsense\" does not exist"),
        ("SELECT 1", "it has to answer `true` or `false`"),
        (
            "DELETE FROM public.t RETURNING true",
            "read-only transaction",
        ),
    ] {
        let db = unanalyzed().await;
        let workspace = analyzing(&db.url, &format!("{{ query: '{query}' }}"));
        let document = Running::begin(&workspace, "analyze").end(1);
        let error = document["runs"][0]["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains(complaint), "{error}");
        assert_eq!(db.number(ANALYZED).await, 0);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 5000);
    }
}

for_oldest_and_newest! {
    /// Between two batches of a walk: nothing more goes until the reason is gone.
    async fn a_walk_pauses_between_batches(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, note text);
            INSERT INTO t SELECT n, '2020-01-01', repeat('x', 200) FROM generate_series(1, 3000) n;
            -- An answer holds for a second, so the walk has to take longer.
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.002); RETURN old; END';
            CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slow();
            CREATE TABLE hold (id int); INSERT INTO hold VALUES (1); ANALYZE t").await;
        let workspace = Workspace::for_target(&db.url).task("cleanup", "kind: cleanup\ntarget: app\noptions: { batch_goal: 100ms, rules: [{ table: t, column: at, older_than: 1d }] }
throttle: { query: 'SELECT EXISTS (SELECT FROM public.hold) AND (SELECT count(*) FROM public.t) < 3000' }\n");
        let mut running = Running::begin(&workspace, "cleanup");
        running.until("paused: ");
        let left = db.number("SELECT count(*) FROM t").await;
        assert!(left > 0 && left < 3000, "{left}");
        // Asked again and again, it stays so.
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' AND query LIKE 'ROLLBACK%' AND query_start > ";
        for _ in 0..3 {
            let now = db.strings("SELECT clock_timestamp()::text").await.remove(0);
            let patience = Patience::until("the throttle to ask again");
            while db.number(&format!("{asked} '{now}'")).await == 0 {
                patience.pause().await;
            }
            assert_eq!(db.number("SELECT count(*) FROM t").await, left);
        }
        db.execute("DELETE FROM hold").await;
        let document = running.end(0);
        assert_eq!(throttled(&document), ["query"]);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
        assert_eq!(document["runs"][0]["steps"][0]["rows"], 3000);
    }
}

for_oldest_and_newest! {
    /// However fast batches follow each other: a limit is passed by one of them at most.
    async fn a_limit_is_passed_by_one_batch_at_most(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, note text);
            -- Ten rows a block: the first batch, of 64 blocks, is not all.
            INSERT INTO t SELECT n, '2020-01-01', repeat('x', 700) FROM generate_series(1, 2000) n;
            CREATE TABLE batches (n bigint GENERATED ALWAYS AS IDENTITY, rows int);
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.002); RETURN old; END';
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.batches (rows) SELECT pg_catalog.count(*) FROM gone; RETURN NULL; END';
            CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slow();
            CREATE TRIGGER note AFTER DELETE ON t REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note();
            CREATE TABLE hold (id int); INSERT INTO hold VALUES (1); ANALYZE t").await;
        let workspace = Workspace::for_target(&db.url).task("cleanup", "kind: cleanup\ntarget: app\noptions: { batch_goal: 100ms, rules: [{ table: t, column: at, older_than: 1d }] }
throttle: { query: 'SELECT EXISTS (SELECT FROM public.hold) AND (SELECT count(*) FROM public.t) < 1200' }\n");
        let mut running = Running::begin(&workspace, "cleanup");
        running.until("paused: ");
        let left = db.number("SELECT count(*) FROM t").await;
        let batches = db.number("SELECT count(*) FROM batches").await;
        let last = db.number("SELECT rows::bigint FROM batches ORDER BY n DESC LIMIT 1").await;
        assert!(left > 0 && left < 1200 && batches > 2, "{left} after {batches}");
        assert!(left + last >= 1200, "{left} after {batches}, the last of {last}");
        db.execute("DELETE FROM hold").await;
        let document = running.end(0);
        assert_eq!(throttled(&document), ["query"]);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
        // With nothing to pause for, a second run has nothing to do.
        let again = Running::begin(&workspace, "cleanup").end(0);
        assert!(objects(&again, "cleanup", "succeeded").is_empty(), "{again:#}");
    }
}

for_oldest_and_newest! {
    /// What would let each step of the night fail, or wait, is told by day.
    async fn the_doctor_asks_what_a_run_would_ask(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1); CREATE ROLE doctored LOGIN PASSWORD 'x';
            ALTER TABLE t OWNER TO doctored;
            CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);
            ALTER TABLE p OWNER TO doctored; ALTER TABLE p1 OWNER TO doctored").await;
        assert!(db.client.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id)").await.is_err());
        // A detach that somebody has ended while it waited.
        let holder = db.connect().await;
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM p").await.unwrap();
        db.client.batch_execute("SET lock_timeout = '300ms'").await.unwrap();
        assert!(db.client.batch_execute("ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY").await.is_err());
        holder.batch_execute("ROLLBACK").await.unwrap();

        let url = format!("postgres://doctored:x@{}", db.url.split_once('@').unwrap().1);
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\", replicas: [\"postgres://nobody:x@127.0.0.1:1/postgres?connect_timeout=1\"] }}\n"
        ));
        let task = |workspace: Workspace, name: &str, throttle: &str| {
            workspace.task(name, &format!("kind: analyze\ntarget: app\nthrottle: {{ {throttle} }}\n"))
        };
        let workspace = task(workspace, "asks", "query: SELECT nonsense");
        let workspace = task(workspace, "calls", "http: 'http://127.0.0.1:1/'");
        let workspace = task(workspace, "follows", "max_replica_lag: 1s, replica_gone: pause");
        let workspace = task(workspace, "blind", "max_replica_lag_bytes: 1GB");
        let workspace = task(workspace, "counts", "abort_active_sessions: 0, abort_query: SELECT true");
        let workspace = task(workspace, "works", "query: SELECT false");
        let said = workspace.run(["doctor", "--output", "json"]).expect(1).json();
        let lines: Vec<(String, String)> = said["checks"].as_array().unwrap().iter()
            .map(|line| (line["level"].as_str().unwrap().to_owned(), line["text"].as_str().unwrap().to_owned()))
            .collect();
        let told = |level: &str, words: &[&str]| {
            let fits = |line: &&(String, String)| line.0 == level && words.iter().all(|one| line.1.contains(one));
            assert!(lines.iter().any(|line| fits(&line)), "{level} {words:?}: {said:#}");
        };
        told("problem", &["asks: each step would fail", "nonsense"]);
        told("problem", &["calls: would wait", "did not answer: nothing listens there", "throttle.http"]);
        told("problem", &["follows: would wait", "throttle.replica_gone"]);
        told("problem", &["blind: each step would fail", "replica 1 does not say"]);
        told("problem", &["counts: "]);
        told("ok", &["works: works"]);
        told("problem", &["public.t_id is invalid"]);
        told("problem", &["public.p1 is detached by half", "ALTER TABLE public.p DETACH PARTITION public.p1 FINALIZE"]);
        told("note", &["GRANT pg_read_all_stats TO doctored"]);
        assert!(!lines.iter().any(|(_, text)| text.starts_with("works: would")), "{said:#}");
        // What would wait, or fail, is not said to work as well.
        for name in ["asks", "calls", "follows", "blind"] {
            let of = format!("{name}: ");
            assert_eq!(lines.iter().filter(|(_, text)| text.starts_with(&of)).count(), 1, "{name}: {said:#}");
        }
    }
}

for_each_version! {
    /// Sessions at work, the log, and standbys are looked at on the server.
    async fn load_is_measured(major: u32) {
        let cluster = private_cluster(major, &[("wal_level", "replica"), ("autovacuum", "off")]);
        let url = cluster.url("postgres");
        let client = connect(&url).await;
        client.batch_execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000);
            CREATE ROLE small LOGIN PASSWORD 'x'; ALTER TABLE t OWNER TO small").await.unwrap();

        let worker = connect(&url).await;
        let cancel = worker.cancel_token();
        let sleeping = tokio::spawn(async move { worker.batch_execute("SELECT pg_sleep(3600)").await });
        let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND state = 'active'";
        let patience = Patience::until("the sleeping session");
        while client.query_one(active, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            patience.pause().await;
        }
        // Who may not see is told so, and does nothing.
        let blind = format!("postgres://small:x@{}", url.split_once('@').unwrap().1);
        let workspace = analyzing(&blind, "{ max_active_sessions: 0 }");
        let document = Running::begin(&workspace, "analyze").end(1);
        let error = document["runs"][0]["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains("GRANT pg_read_all_stats TO small"), "{error}");

        let workspace = analyzing(&url, "{ max_active_sessions: 0 }");
        let mut running = Running::begin(&workspace, "analyze");
        let line = running.until("paused: ");
        assert!(line.contains("1 sessions are active, more than 0"), "{line}");
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
        assert!(sleeping.await.unwrap().is_err());
        assert_eq!(throttled(&running.end(0)), ["max_active_sessions"]);

        let replica = standby(major, &cluster, |_| {}).await;
        let copy = connect(&replica.url("postgres")).await;
        copy.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        client.batch_execute("INSERT INTO t SELECT generate_series(1, 50000)").await.unwrap();
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\", replicas: [\"{}\"] }}\n", replica.url("postgres")
        )).task("analyze", "kind: analyze\ntarget: app\nthrottle: { max_replica_lag: 1ms }\n");
        // As soon as its count of rows has arrived there is something to do.
        client.batch_execute("SELECT 1").await.unwrap();
        let patience = Patience::until("the count of rows to arrive");
        while client.query_one("SELECT pg_stat_get_mod_since_analyze('t'::regclass)", &[]).await.unwrap().get::<_, i64>(0) < 50000 {
            patience.pause().await;
        }
        let workspace = workspace.task("bytes", "kind: analyze\ntarget: app\nthrottle: { max_replica_lag_bytes: 1kB }\n");
        let mut running = Running::begin(&workspace, "bytes");
        let line = running.until("paused: ");
        assert!(line.contains("has not replayed") && line.contains("more than 1 kB"), "{line}");
        kill(Pid::from_raw(running.process.id() as i32), Signal::SIGTERM).unwrap();
        running.end(143);
        let mut running = Running::begin(&workspace, "analyze");
        let line = running.until("paused: ");
        assert!(line.contains("behind, more than 1ms"), "{line}");
        copy.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
        let document = running.end(0);
        assert_eq!(throttled(&document), ["max_replica_lag"]);
        assert_eq!(objects(&document, "analyze", "succeeded").len(), 1, "{document:#}");
    }
}

/// What would pause a run may also end it, in the midst of a rebuild.
#[tokio::test]
async fn a_rebuild_is_cancelled_when_it_gets_too_much() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 20000); CREATE INDEX t_id ON t (id);
         CREATE TABLE alarm (id int); ANALYZE",
    )
    .await;
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0% }\nthrottle: { abort_query: 'SELECT EXISTS (SELECT FROM public.alarm)' }\n",
    );
    // A concurrent rebuild waits for it at the end.
    let snapshot = db.connect().await;
    snapshot
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await
        .unwrap();
    let running = Running::begin(&workspace, "reindex");
    let half_built = "SELECT count(*) FROM pg_class WHERE relname LIKE 't\\_id\\_cc%'";
    let began = std::time::Instant::now();
    while db.number(half_built).await == 0 {
        assert!(began.elapsed().as_secs() < 120, "the rebuild never begins");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    db.execute("INSERT INTO alarm VALUES (1)").await;
    let document = running.end(0);
    let run = &document["runs"][0];
    assert_eq!(run["status"], "incomplete", "{document:#}");
    assert_eq!(run["steps"][0]["status"], "cancelled", "{document:#}");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("throttle.abort_query"), "{error}");
    super::finding(&document, "throttle.aborted");
    assert_eq!(db.number(half_built).await, 0, "a half-built index stays");
    snapshot.batch_execute("COMMIT").await.unwrap();
}

/// Nobody is told that all is well because a question that guards the run could not be asked: not
/// before its first step, and not in the middle of one.
#[tokio::test]
async fn a_wrong_question_that_would_end_the_run_fails_it() {
    let db = fresh_database(17).await;
    let workspace = Workspace::for_target(&db.url).task(
        "own",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: wait, sql: SELECT pg_sleep(600) }] }\nthrottle: { abort_query: 'SELECT count(*) > 10 FROM public.alarms' }\n",
    );
    let document = Running::begin(&workspace, "own").end(1);
    let run = &document["runs"][0];
    assert_eq!(run["status"], "failed", "{document:#}");
    let error = run["steps"][0]["error"].as_str().unwrap();
    assert!(error.contains("alarms"), "{error}");

    db.execute("CREATE TABLE alarms ()").await;
    let running = Running::begin(&workspace, "own");
    let patience = Patience::until("the statement to begin");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while db.number(asleep).await == 0 {
        patience.pause().await;
    }
    db.execute("DROP TABLE alarms").await;
    let document = running.end(1);
    let run = &document["runs"][0];
    assert_eq!(run["status"], "failed", "{document:#}");
    let error = run["error"].as_str().unwrap();
    assert!(
        error.contains("could not be seen") && error.contains("alarms"),
        "{error}"
    );
}

/// Waits until the rebuild is at work.
async fn builds(client: &tokio_postgres::Client, half_built: &str, setting: &str) {
    let patience = Patience::until(&format!("the rebuild under {setting}"));
    loop {
        let row = client.query_one(half_built, &[]).await.unwrap();
        if row.get::<_, i64>(0) > 0 {
            return;
        }
        patience.pause().await;
    }
}

/// Each condition that may end a run ends it in the midst of a rebuild, and names itself; what
/// was begun is cleared away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_condition_that_aborts_ends_a_rebuild() {
    let cluster = private_cluster(17, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let url = cluster.url("postgres");
    let client = connect(&url).await;
    client
        .batch_execute(
            "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 20000); CREATE INDEX t_id ON t (id);
             CREATE TABLE busy (id int); ANALYZE",
        )
        .await
        .unwrap();
    let replica = standby(17, &cluster, |_| {}).await;
    let copy = connect(&replica.url("postgres")).await;
    let snapshot = connect(&url).await;
    let workers = [connect(&url).await, connect(&url).await].map(std::sync::Arc::new);
    let half_built = "SELECT count(*) FROM pg_class WHERE relname LIKE 't\\_id\\_cc%'";
    for (setting, limit) in [
        ("abort_active_sessions", "1"),
        ("abort_wal_rate", "1MB"),
        ("abort_replica_lag", "500ms"),
        ("abort_replica_lag_bytes", "100kB"),
    ] {
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\", replicas: [\"{}\"] }}\n",
            replica.url("postgres")
        ))
        .task("reindex", &format!("kind: reindex\ntarget: app\noptions: {{ min_size: 0MB, min_bloat: 0%, include: [public.t_id] }}\nthrottle: {{ {setting}: {limit} }}\n"));
        // The rebuild waits for it at the end, until the run has ended.
        snapshot
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
            .await
            .unwrap();
        let running = Running::begin(&workspace, "reindex");
        builds(&client, half_built, setting).await;
        if setting.contains("lag") {
            copy.batch_execute("SELECT pg_wal_replay_pause()")
                .await
                .unwrap();
        }
        let work = match setting {
            "abort_active_sessions" => "SELECT pg_sleep(3600)",
            _ => {
                "DO $$ BEGIN FOR n IN 1..100000 LOOP INSERT INTO busy SELECT generate_series(1, 20000); COMMIT; END LOOP; END $$"
            }
        };
        let busy = workers.clone().map(|worker| {
            let stop = worker.cancel_token();
            (
                stop,
                tokio::spawn(async move { worker.batch_execute(work).await }),
            )
        });
        let document = tokio::task::block_in_place(|| running.end(0));
        for (stop, work) in busy {
            stop.cancel_query(tokio_postgres::NoTls).await.unwrap();
            assert!(work.await.unwrap().is_err());
        }
        let run = &document["runs"][0];
        assert_eq!(run["status"], "incomplete", "{setting}: {document:#}");
        assert_eq!(
            run["steps"][0]["status"], "cancelled",
            "{setting}: {document:#}"
        );
        let error = run["error"].as_str().unwrap();
        assert!(error.contains(&format!("throttle.{setting}")), "{error}");
        super::finding(&document, "throttle.aborted");
        let left = client.query_one(half_built, &[]).await.unwrap();
        assert_eq!(
            left.get::<_, i64>(0),
            0,
            "{setting}: a half-built index stays"
        );
        snapshot.batch_execute("COMMIT").await.unwrap();
        copy.batch_execute("SELECT pg_wal_replay_resume()")
            .await
            .unwrap();
        client.batch_execute("TRUNCATE busy").await.unwrap();
        // Nothing of it is there any more: the same rebuild gets to its end.
        let patience = Patience::until("the standby to catch up");
        let behind =
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn()";
        while client
            .query_one(behind, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
        {
            patience.pause().await;
        }
        let document = tokio::task::block_in_place(|| Running::begin(&workspace, "reindex").end(0));
        assert_eq!(
            objects(&document, "reindex", "succeeded").len(),
            1,
            "{setting}: {document:#}"
        );
    }
    // A replica that goes away while the rebuild is at work: `abort` means that, too, whatever
    // pauses a run beside it.
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\", replicas: [\"{}\"] }}\n",
        replica.url("postgres")
    ))
    .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0%, include: [public.t_id] }\nthrottle: { max_replica_lag: 5min, replica_gone: abort }\n");
    snapshot
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await
        .unwrap();
    let running = Running::begin(&workspace, "reindex");
    builds(&client, half_built, "replica_gone").await;
    drop((copy, replica));
    let document = tokio::task::block_in_place(|| running.end(0));
    let run = &document["runs"][0];
    assert_eq!(run["status"], "incomplete", "{document:#}");
    assert_eq!(run["steps"][0]["status"], "cancelled", "{document:#}");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("throttle.replica_gone"), "{error}");
    let left = client.query_one(half_built, &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "a half-built index stays");
}

/// Whoever answers anything but 2xx pauses the work; its address is no news.
#[tokio::test]
async fn an_address_says_whether_work_may_go_on() {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};
    let db = unanalyzed().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    static ANSWERS: AtomicU32 = AtomicU32::new(302);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let code = ANSWERS.load(Ordering::SeqCst);
            let _ = write!(
                stream,
                "HTTP/1.1 {code} X\r\nLocation: /ok\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    });
    let workspace = analyzing(
        &db.url,
        &format!("{{ http: 'http://127.0.0.1:{port}/t0ken' }}"),
    );
    let mut running = Running::begin(&workspace, "analyze");
    let line = running.until("paused: ");
    assert!(
        line.contains("answered 302") && line.contains("throttle.http"),
        "{line}"
    );
    assert!(!line.contains("t0ken"), "{line}");
    assert_eq!(db.number(ANALYZED).await, 0);
    ANSWERS.store(204, Ordering::SeqCst);
    assert_eq!(throttled(&running.end(0)), ["http"]);
    assert_eq!(db.number(ANALYZED).await, 1);
}

/// A replica that is gone is a matter of policy.
#[tokio::test]
async fn a_replica_that_is_gone_is_a_policy() {
    let nobody = "postgres://nobody:x@127.0.0.1:1/postgres?connect_timeout=1";
    let of = |db: &TestDatabase, throttle: &str| {
        Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", replicas: [\"{nobody}\"] }}\n",
            db.url
        ))
        .task("analyze", &format!("kind: analyze\ntarget: app\nthrottle: {{ {throttle} }}\nlimits: {{ budget: 20s }}\n"))
    };
    let db = unanalyzed().await;
    let go = |throttle: &str, code: i32| Running::begin(&of(&db, throttle), "analyze").end(code);
    let failed = go("max_replica_lag_bytes: 1MB", 1);
    assert_eq!(objects(&failed, "analyze", "failed").len(), 1, "{failed:#}");
    let aborted = go("max_replica_lag: 1s, replica_gone: abort", 0);
    assert_eq!(aborted["runs"][0]["status"], "incomplete", "{aborted:#}");
    super::finding(&aborted, "throttle.aborted");
    assert_eq!(db.number(ANALYZED).await, 0);
    let paused = of(&db, "max_replica_lag: 1s, replica_gone: pause");
    let mut running = Running::begin(&paused, "analyze");
    let line = running.until("paused: ");
    assert!(line.contains("throttle.replica_gone"), "{line}");
    kill(Pid::from_raw(running.process.id() as i32), Signal::SIGTERM).unwrap();
    running.end(143);
    assert_eq!(db.number(ANALYZED).await, 0);
    // A limit that ends the run beside it is not passed by a replica that is gone.
    for throttle in [
        "max_replica_lag: 1s, replica_gone: pause, abort_replica_lag: 5min",
        "abort_replica_lag: 5min, replica_gone: pause",
    ] {
        let paused = of(&db, throttle);
        let mut running = Running::begin(&paused, "analyze");
        let line = running.until("paused: ");
        assert!(line.contains("throttle.replica_gone"), "{throttle}: {line}");
        kill(Pid::from_raw(running.process.id() as i32), Signal::SIGTERM).unwrap();
        let document = running.end(143);
        assert_eq!(document["runs"][0]["status"], "cancelled", "{document:#}");
    }
    let aborted = go("abort_replica_lag_bytes: 1GB, replica_gone: abort", 0);
    super::finding(&aborted, "throttle.aborted");
    assert_eq!(db.number(ANALYZED).await, 0);
    // Alone it would never be looked at.
    for policy in ["ignore", "pause", "abort"] {
        let alone = of(&db, &format!("replica_gone: {policy}"));
        let refused = alone.run(["check"]).expect(2);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            said.contains("replica_gone") && said.contains("max_replica_lag"),
            "{said}"
        );
    }
    let gone_on = go("max_replica_lag: 1s, replica_gone: ignore", 0);
    assert_eq!(
        objects(&gone_on, "analyze", "succeeded").len(),
        1,
        "{gone_on:#}"
    );
}

/// What a copy of another server has replayed says nothing: nothing goes on by it, and doctor tells.
#[tokio::test]
async fn a_replica_of_another_server_is_none() {
    let db = fresh_database(17).await;
    let other = fresh_database(18).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", replicas: [\"{}\"] }}\n  own: {{ engine: postgres, url: \"{}\", replicas: [\"{}\"] }}\n",
        db.url, other.url, db.url, db.url
    ))
    .task(
        "analyze",
        "kind: analyze\ntarget: app\nthrottle: { max_replica_lag: 5s }\n",
    );
    let words = ["run", "analyze", "--now", "--output", "json"];
    let document = workspace.run(words).expect(1).json();
    let error = document["runs"][0]["steps"][0]["error"].as_str().unwrap();
    assert!(
        error.contains("replica 1 does not say how far it is")
            && error.contains("is a copy of another server"),
        "{error}"
    );
    let analyzed = "SELECT count(*) FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL";
    assert_eq!(db.number(analyzed).await, 0);
    let doctor = workspace.run(["doctor"]).expect(1).stdout;
    let words = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "problem app: the replica",
        "is a copy of another server",
        "problem own: the replica",
        "is no standby, but takes writes",
    ] {
        assert!(words.contains(part), "{part}: {doctor}");
    }
}

/// Only the first row of the query's answer matters, and no more of it is kept.
#[tokio::test]
async fn a_query_of_millions_of_rows_takes_no_memory() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let workspace = Workspace::for_target(&db.url).task(
        "analyze",
        "kind: analyze\ntarget: app\nlimits: { budget: 60s }\nthrottle: { query: 'SELECT n > 1 FROM pg_catalog.generate_series(1, 500000) n' }\n",
    );
    let words = ["run", "analyze", "--now", "--output", "json"];
    let (peak, said) = crate::support::memory::peak_of(&workspace, &words);
    assert!(said.contains("\"succeeded\""), "{said}");
    assert!(peak < 50_000_000, "{peak} bytes");
}
