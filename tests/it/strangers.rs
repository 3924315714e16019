//! What anybody in the database may do to keep maint from its work, and what
//! it says of that.

use std::time::{Duration, Instant};

use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, connect, fresh_database};
use crate::support::workspace::Workspace;

const TIDY: &str =
    "kind: sql\ntarget: app\noptions: { statements: [{ name: all, sql: DELETE FROM public.t }] }\n";

fn workspace(db: &TestDatabase) -> Workspace {
    Workspace::for_target(&db.url).task("tidy", TIDY)
}

/// As the claim of `tidy` is taken.
const LOCK: &str = "pg_advisory_lock(1835955249, hashtext('tidy'))";

/// A role without any privilege, and its URL.
async fn nobody(db: &TestDatabase) -> (String, String) {
    let role = format!("mallory_{}", &db.name[20..]);
    db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"))
        .await;
    let (_, server) = db.url.split_once('@').unwrap();
    let url = format!("postgres://{role}:x@{server}");
    (role, url)
}

/// The lock of a task in the hands of somebody else is no run that is "already
/// at work": it is told, with the statement that ends exactly that session.
#[tokio::test]
async fn who_holds_a_task_and_is_no_run_is_told() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    let (mallory, url) = nobody(&db).await;
    let impostor = "maint 0190a4c0-0000-7000-8000-000000000000";
    for (url, role, name, why) in [
        (
            &url,
            mallory.as_str(),
            "psql",
            "does not call itself a run of maint's",
        ),
        (
            &db.url,
            "postgres",
            "nightly job",
            "does not call itself a run of maint's",
        ),
        (
            &url,
            mallory.as_str(),
            impostor,
            "not the role that maint connects as",
        ),
    ] {
        let stranger = connect(url).await;
        let take = format!("SET application_name = '{name}'; SELECT {LOCK}");
        stranger.batch_execute(&take).await.unwrap();
        let row = stranger.query_one("SELECT pg_backend_pid()", &[]).await;
        let pid: i32 = row.unwrap().get(0);

        let workspace = workspace(&db);
        let run = workspace.run(["run", "tidy", "--now", "--output", "json"]);
        let run = run.expect(1).json();
        let run = &run["runs"][0];
        assert_eq!(run["status"], "failed");
        let finding = &run["findings"][0];
        assert_eq!(finding["code"], "claim.stranger");
        assert_eq!(finding["severity"], "critical");
        let message = finding["message"].as_str().unwrap();
        let who = format!("pid {pid}, role {role}, {name}, since ");
        assert!(message.contains(&who) && message.contains(why), "{message}");
        assert!(run["error"].as_str().unwrap().contains(&who), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 1);
        let doctor = workspace.run(["doctor"]).expect(1).stdout;
        let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(doctor.contains(&who) && doctor.contains(why), "{doctor}");
        let shown = workspace.run(["show", "last"]).stdout;
        assert!(shown.contains(&pid.to_string()), "{shown}");

        // The statement ends this session, and no other: not one that has
        // taken over the process id, as a later `backend_start` shows.
        let end = finding["suggestion"].as_str().unwrap();
        let other = end.replace("a.backend_start = '2", "a.backend_start = '1");
        assert_ne!(other, end);
        assert!(db.client.query(&other, &[]).await.unwrap().is_empty());
        assert_eq!(db.client.query(end, &[]).await.unwrap().len(), 1);
        let until = Instant::now() + Duration::from_secs(60);
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        while db.number(&alive).await > 0 {
            assert!(Instant::now() < until, "the session did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        workspace.run(["run", "tidy", "--now"]).expect(0);
        db.execute("INSERT INTO t VALUES (1)").await;
    }
}

/// A way that was cut leaves sessions on the server that nobody will ever end: those of a run that
/// is over are ended, those of a run that nobody knows are not.
#[tokio::test]
async fn a_session_of_a_run_that_is_over_does_not_keep_its_task() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    let workspace = workspace(&db);
    let ran = workspace.run(["run", "tidy", "--now", "--output", "json"]);
    let id = ran.expect(0).json()["runs"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    db.execute("INSERT INTO t VALUES (1)").await;
    let taken = |url: String, name: String| async move {
        let session = connect(&url).await;
        let take = format!("SET application_name = '{name}'; SELECT {LOCK}");
        session.batch_execute(&take).await.unwrap();
        session
    };

    let unknown = "maint 0190a4c0-0000-7000-8000-000000000000";
    let session = taken(db.url.clone(), unknown.to_owned()).await;
    let ran = workspace.run(["run", "tidy", "--now"]).expect(4);
    assert!(ran.stdout.contains("already at work"), "{ran:#?}");
    session.query("SELECT 1", &[]).await.unwrap();
    drop(session);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1835955249
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let patience = Patience::until("the session of an unknown run to be gone");
    while db.number(held).await > 0 {
        patience.pause().await;
    }

    let session = taken(db.url.clone(), format!("maint {id}")).await;
    workspace.run(["run", "tidy", "--now"]).expect(0);
    assert!(session.query("SELECT 1", &[]).await.is_err());
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);

    // Who logged in as another role cannot be ended by ours.
    db.execute("INSERT INTO t VALUES (1)").await;
    let (member, url) = nobody(&db).await;
    let server = url.split_once('@').unwrap().1.to_owned();
    db.execute(&format!(
        "CREATE ROLE {member}_ours LOGIN PASSWORD 'x'; GRANT {member}_ours TO {member};
         GRANT ALL ON t TO {member}_ours; GRANT CREATE ON DATABASE {} TO {member}_ours",
        db.name
    ))
    .await;
    let workspace =
        Workspace::for_target(&format!("postgres://{member}_ours:x@{server}")).task("tidy", TIDY);
    let ran = workspace.run(["run", "tidy", "--now", "--output", "json"]);
    let id = ran.expect(0).json()["runs"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = taken(url, format!("maint {id}")).await;
    let ran = workspace.run(["run", "tidy", "--now", "--output", "json"]);
    let run = &ran.expect(1).json()["runs"][0];
    assert_eq!(run["status"], "failed", "{run:#}");
    let finding = &run["findings"][0];
    assert_eq!(finding["code"], "claim.left_over", "{run:#}");
    let end = finding["suggestion"].as_str().unwrap();
    assert_eq!(db.client.query(end, &[]).await.unwrap().len(), 1);
    let patience = Patience::until("the session to be ended by what was suggested");
    while session.query("SELECT 1", &[]).await.is_ok() {
        patience.pause().await;
    }
    workspace.run(["run", "tidy", "--now"]).expect(0);
}

/// A prepared transaction holds locks without a session, over restarts.
#[tokio::test]
async fn a_prepared_transaction_that_holds_a_task_is_told() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    let lock = LOCK.replace("pg_advisory_lock", "pg_advisory_xact_lock");
    let held = format!("held '{}", db.name);
    db.execute(&format!(
        "BEGIN; SELECT {lock}; PREPARE TRANSACTION '{}'",
        held.replace('\'', "''")
    ))
    .await;
    let workspace = workspace(&db);
    let run = workspace.run(["run", "tidy", "--now", "--output", "json"]);
    let run = run.expect(1).json();
    let finding = &run["runs"][0]["findings"][0];
    let message = finding["message"].as_str().unwrap();
    let who = format!("prepared transaction {held}, role postgres, since ");
    assert!(message.contains(&who), "{message}");
    db.execute(finding["suggestion"].as_str().unwrap()).await;
    workspace.run(["run", "tidy", "--now"]).expect(0);
}

/// Who may not see since when somebody is there still gets a statement that
/// ends only who holds the lock.
#[tokio::test]
async fn a_stranger_is_told_to_a_role_that_sees_little() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    let (mallory, url) = nobody(&db).await;
    db.execute(&format!("GRANT DELETE ON t TO {mallory}")).await;
    db.client
        .batch_execute(&format!("SET application_name = 'other'; SELECT {LOCK}"))
        .await
        .unwrap();
    let workspace = Workspace::for_target(&url).task("tidy", TIDY);
    let run = workspace.run(["run", "tidy", "--now", "--output", "json"]);
    let run = run.expect(1).json();
    let finding = &run["runs"][0]["findings"][0];
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.contains("role postgres, other, since when this role may not see"),
        "{message}"
    );
    let end = finding["suggestion"].as_str().unwrap();
    assert!(end.contains("l.objid = ") && !end.contains("backend_start"));
    let unlock = LOCK.replace("pg_advisory_lock", "pg_advisory_unlock");
    let given_back = format!("SELECT {unlock}");
    db.client.batch_execute(&given_back).await.unwrap();
    // Nobody holds it any more: the statement finds nobody.
    let admin = db.connect().await;
    assert!(admin.query(end, &[]).await.unwrap().is_empty());
    workspace.run(["run", "tidy", "--now"]).expect(0);
}

/// Devices never end, and opening a pipe waits for somebody to write to it: whatever file a command
/// is given, it ends.
#[test]
fn only_files_are_read() {
    let workspace = Workspace::new(
        "history: sqlite:maint.db\ntargets: { app: { engine: postgres, url: \"postgres://127.0.0.1:1/x\" } }\n",
    );
    let pipe = workspace.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = pipe.to_str().unwrap();
    for file in ["/dev/zero", pipe, "."] {
        for args in [
            &["run", "--plan", file][..],
            &["plan", "--check", file],
            &["init", "--from", "crontab", file],
        ] {
            let said = workspace.run(args.iter().copied()).expect(2);
            assert!(
                said.stderr.contains("cannot be read: it is "),
                "{args:?} {said:#?}"
            );
        }
    }
    for (name, value) in [("PGSERVICEFILE", pipe), ("PGSERVICEFILE", "/dev/zero")] {
        let yaml = "history: sqlite:maint.db\ntargets: { app: { engine: postgres, url: \"postgres://?service=x\" } }\n";
        let other = Workspace::new(yaml).env(name, value);
        let said = other.run(["check"]).expect(2);
        assert!(said.stderr.contains("cannot be read"), "{said:#?}");
    }
    for key in ["sslrootcert", "sslcrl", "sslcert"] {
        let yaml = format!(
            "history: sqlite:maint.db\ntargets: {{ app: {{ engine: postgres, url: \"postgres://127.0.0.1:1/x?sslmode=verify-full&{key}={pipe}&sslkey={pipe}\" }} }}\n"
        );
        let other = Workspace::new(&yaml).task("a", "kind: analyze\ntarget: app\n");
        let said = other.run(["check", "--connect"]);
        assert_ne!(said.code, 0, "{said:#?}");
    }
}
