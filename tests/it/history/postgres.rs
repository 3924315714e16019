//! What a history in PostgreSQL adds to what every history promises.

use std::sync::Arc;

use maint::history::{
    Baseline, HistoryError, Period, RunFilter, RunStatus, Store, open, open_existing,
};

use super::{at, id, run};
use crate::support::patience::Patience;
use crate::support::pooler::Pooler;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn refused(opened: Result<Arc<dyn Store>, HistoryError>) -> HistoryError {
    match opened {
        Ok(_) => panic!("the history was opened"),
        Err(error) => error,
    }
}

/// Everything that is said of an error, with its causes.
fn said(error: &HistoryError) -> String {
    let mut text = format!("{error} {error:?} {:?}", error.hint());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The database's URL for another role.
fn url_as(db: &TestDatabase, role: &str, password: &str) -> String {
    let (_, rest) = db.url.split_once('@').unwrap();
    format!("postgres://{role}:{password}@{rest}")
}

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    async fn eight_instances_share_one_new_history(major: u32) {
        let db = fresh_database(major).await;
        let pooler = Pooler::start(&db, "transaction");
        let mut instances = Vec::new();
        for n in 0..8u64 {
            let url = if n % 2 == 0 { db.url.clone() } else { pooler.url.clone() };
            instances.push(tokio::spawn(async move {
                let store = open(&url).await.unwrap();
                let mut run = run(&format!("task-{n}"), 0);
                run.id = id(0, n);
                store.open_run(&run).await.unwrap();
                run.status = RunStatus::Succeeded;
                run.finished_at = Some(at(5));
                store.close_run(&run).await.unwrap();
                store.close().await;
            }));
        }
        for instance in instances {
            instance.await.unwrap();
        }
        let store = open_existing(&db.url).await.unwrap();
        let runs = store.runs(&RunFilter::default()).await.unwrap();
        assert_eq!(runs.len(), 8);
        assert!(runs.iter().all(|run| run.status == RunStatus::Succeeded));
    }
}

#[tokio::test]
async fn looking_makes_no_history() {
    let db = fresh_database(17).await;
    let error = refused(open_existing(&db.url).await);
    assert!(matches!(error, HistoryError::Missing { .. }), "{error:?}");
    let schemas = db
        .number("SELECT count(*) FROM pg_namespace WHERE nspname = 'maint'")
        .await;
    assert_eq!(schemas, 0);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let db = fresh_database(17).await;
    open(&db.url).await.unwrap().close().await;
    db.execute("INSERT INTO maint.migrations VALUES (987654, 'from the future')")
        .await;
    for opened in [open(&db.url).await, open_existing(&db.url).await] {
        let error = refused(opened);
        assert!(
            matches!(error, HistoryError::NewerSchema { found: 987_654, .. }),
            "{error:?}"
        );
    }
}

/// A role that owns its schema needs nothing else; one without may not make
/// one; one that may only read can look.
#[tokio::test]
async fn least_privileges() {
    let db = fresh_database(17).await;
    let (writer, reader) = (format!("{}_w", db.name), format!("{}_r", db.name));
    db.execute(&format!(
        "REVOKE ALL ON DATABASE {0} FROM PUBLIC; CREATE ROLE {writer} LOGIN PASSWORD 'w';
         CREATE ROLE {reader} LOGIN PASSWORD 'r'; GRANT CONNECT ON DATABASE {0} TO {writer}, {reader}",
        db.name
    ))
    .await;
    let error = refused(open(&url_as(&db, &writer, "w")).await);
    assert!(
        matches!(error, HistoryError::NotAllowed { .. }),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("CREATE SCHEMA maint"));

    db.execute(&format!("CREATE SCHEMA maint AUTHORIZATION {writer}"))
        .await;
    let store = open(&url_as(&db, &writer, "w")).await.unwrap();
    store.open_run(&run("reindex", 0)).await.unwrap();
    store.close().await;

    db.execute(&format!(
        "GRANT USAGE ON SCHEMA maint TO {reader}; GRANT SELECT ON ALL TABLES IN SCHEMA maint TO {reader}"
    ))
    .await;
    let store = open_existing(&url_as(&db, &reader, "r")).await.unwrap();
    assert_eq!(store.runs(&RunFilter::default()).await.unwrap().len(), 1);
    let error = store.open_run(&run("vacuum", 1)).await.unwrap_err();
    assert!(
        matches!(error, HistoryError::NotAllowed { .. }),
        "{error:?}"
    );
}

/// Whose the schema, a table, or the code on a table is, is asked before
/// anything is written; nobody's code runs with our rights meanwhile.
#[tokio::test]
async fn a_history_of_others_is_refused() {
    for (theirs, names) in [
        ("ALTER SCHEMA maint OWNER TO {r}", "the schema maint"),
        (
            "DROP SCHEMA maint CASCADE; CREATE SCHEMA maint AUTHORIZATION {r}",
            "the schema maint",
        ),
        (
            "ALTER TABLE maint.runs OWNER TO {r}",
            "the table maint.runs",
        ),
        (
            "CREATE TRIGGER x BEFORE INSERT ON maint.runs FOR EACH ROW EXECUTE FUNCTION evil.hook()",
            "code in the trigger x of maint.runs",
        ),
        (
            "ALTER TABLE maint.steps ALTER object SET DEFAULT evil.word()",
            "code in the default object of maint.steps",
        ),
        (
            "CREATE POLICY x ON maint.runs USING (evil.word() = ''); ALTER TABLE maint.runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "",
        ),
        (
            "CREATE RULE x AS ON INSERT TO maint.runs DO ALSO SELECT evil.word()",
            "code in the rule x of maint.runs",
        ),
        (
            "ALTER TABLE maint.runs RENAME TO runs_too; CREATE VIEW maint.runs AS SELECT * FROM maint.runs_too; ALTER VIEW maint.runs OWNER TO {r}",
            "the table maint.runs",
        ),
    ] {
        let db = fresh_database(17).await;
        let role = format!("{}_s", db.name);
        db.execute(&format!(
            "CREATE ROLE {role}; CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO {role}; SET ROLE {role};
             CREATE SEQUENCE evil.called;
             CREATE FUNCTION evil.word() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('evil.called'); RETURN ''; END $$;
             CREATE FUNCTION evil.hook() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('evil.called'); RETURN NEW; END $$"
        ))
        .await;
        let store = open(&db.url).await.unwrap();
        store.open_run(&run("reindex", 0)).await.unwrap();
        store.close().await;
        db.execute(&theirs.replace("{r}", &role)).await;
        let opened = match open(&db.url).await {
            Ok(store) => store.open_run(&run("vacuum", 1)).await,
            Err(error) => Err(error),
        };
        let called = "SELECT count(*) FROM pg_sequences WHERE schemaname = 'evil' AND last_value IS NOT NULL";
        assert_eq!(db.number(called).await, 0, "{theirs}: code ran");
        if names.is_empty() {
            continue;
        }
        let error = opened.expect_err(theirs);
        assert!(
            matches!(error, HistoryError::NotOurs { .. }),
            "{theirs}: {error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&format!("{names} belongs to {role}")),
            "{theirs}: {text}"
        );
        assert!(error.hint().unwrap().contains("OWNER TO postgres"));
    }
}

/// Hostile objects in the way of an unqualified name change nothing.
#[tokio::test]
async fn a_search_path_leads_nowhere() {
    let db = fresh_database(17).await;
    db.execute(&format!(
        "CREATE TABLE public.runs (id int); CREATE SCHEMA evil; CREATE TABLE evil.runs (id int);
         ALTER DATABASE {} SET search_path = evil, public",
        db.name
    ))
    .await;
    let store = open(&db.url).await.unwrap();
    store.open_run(&run("reindex", 0)).await.unwrap();
    assert_eq!(store.run("last").await.unwrap().task, "reindex");
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname = 'runs'")
            .await,
        3
    );
}

/// Who may create in the schema of the history and owns nothing there: what
/// would fit our questions better than the server's own is never called.
#[tokio::test]
async fn functions_and_operators_beside_the_tables_are_not_called() {
    let db = fresh_database(17).await;
    let role = format!("{}_s", db.name);
    let store = open(&db.url).await.unwrap();
    db.execute(&format!(
        "CREATE ROLE {role}; CREATE SCHEMA evil AUTHORIZATION {role};
         GRANT USAGE, CREATE ON SCHEMA maint TO {role}; SET ROLE {role};
         CREATE SEQUENCE evil.called;
         CREATE FUNCTION maint.ratio(bigint, double precision) RETURNS double precision LANGUAGE plpgsql
             AS $$ BEGIN PERFORM nextval('evil.called'); RETURN 0; END $$;
         CREATE OPERATOR maint./ (LEFTARG = bigint, RIGHTARG = double precision, FUNCTION = maint.ratio);
         CREATE FUNCTION maint.json_build_array(bigint, bigint, bigint, bigint, numeric, numeric, numeric)
             RETURNS json LANGUAGE plpgsql
             AS $$ BEGIN PERFORM nextval('evil.called'); RETURN '[7, 7, 7, 7, 7, 7, 7]'; END $$;
         RESET ROLE"
    ))
    .await;
    let called = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM evil.called";
    // They are what a search that leads there finds.
    db.execute(
        "BEGIN; SET LOCAL search_path = pg_catalog, maint, pg_temp;
         SELECT 1::bigint / 2::double precision;
         SELECT json_build_array(1::bigint, 2::bigint, 3::bigint, 4::bigint, 5::numeric, 6::numeric, 7::numeric);
         COMMIT",
    )
    .await;
    assert_eq!(db.number(called).await, 2);

    store.open_run(&run("reindex", 0)).await.unwrap();
    for bytes in [8192, 4096] {
        let baseline = Baseline {
            object: "public.i".into(),
            bytes,
            tuples: 10.0,
            learned_at: at(bytes),
            rebuilt: false,
            made_as: None,
        };
        store.learn("app", &baseline).await.unwrap();
    }
    assert_eq!(
        store.baselines("app").await.unwrap()["public.i"].bytes,
        4096
    );
    let day = Period {
        since: at(0),
        until: at(86_400_000),
    };
    let totals = store.summaries().task_totals(&day, 5).await.unwrap();
    assert_eq!(totals.iter().map(|one| one.runs).collect::<Vec<_>>(), [1]);
    assert_eq!(db.number(called).await, 2, "code of others was called");
}

#[tokio::test]
async fn what_is_out_of_reach_is_said_without_secrets() {
    let db = fresh_database(17).await;
    let role = format!("{}_role", db.name);
    db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'"))
        .await;
    let (_, server) = db.url.split_once('@').unwrap();
    let (server, _) = server.split_once('/').unwrap();
    db.execute("CREATE TABLE something (id int)").await;
    for url in [
        "postgres://maint:s3cret@127.0.0.1:1/maint".to_owned(),
        url_as(&db, &role, "s3cret"),
        format!("postgres://{role}:s3cret@{server}/no_such_database"),
        format!("postgres://{role}:s3cret@{server}/x?sslmode=verify-full"),
    ] {
        let error = refused(open(&url).await);
        assert!(
            matches!(error, HistoryError::NoConnection { .. }),
            "{error:?}"
        );
        assert!(error.is_retryable());
        assert!(!said(&error).contains("s3cret"), "{}", said(&error));

        let workspace = Workspace::new(&format!(
            "history: \"{url}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
            db.url
        ))
        .task("analyze", "kind: analyze\ntarget: app\n");
        // The work goes on, and says why it is not in the history.
        let ran = workspace.run(["run", "analyze", "--now"]).expect(0);
        assert!(ran.stderr.contains("the history at "), "{ran:#?}");
        assert!(ran.stdout.contains("history.unreachable"), "{ran:#?}");
        assert!(ran.stderr.contains("hint: "), "{ran:#?}");
        assert!(
            !ran.stderr.contains("s3cret") && !ran.stdout.contains("s3cret"),
            "{ran:#?}"
        );
    }
    let error = refused(open("postgres://u:s3cret@db/maint?sslmode=nonsense").await);
    assert!(matches!(error, HistoryError::BadUrl(_)), "{error:?}");
    assert!(!said(&error).contains("s3cret"), "{}", said(&error));
}

/// The server goes and comes back: calls fail with a reason in between.
#[tokio::test]
async fn a_lost_server_is_told_and_found_again() {
    let db = fresh_database(17).await;
    let store = open(&db.url).await.unwrap();
    store.open_run(&run("reindex", 0)).await.unwrap();
    db.client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    assert_eq!(store.run("last").await.unwrap().task, "reindex");
    let elsewhere = fresh_database(17).await;
    elsewhere
        .execute(&format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS false",
            db.name
        ))
        .await;
    elsewhere
        .execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            db.name
        ))
        .await;
    let error = store.run("last").await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    elsewhere
        .execute(&format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS true",
            db.name
        ))
        .await;
    assert_eq!(store.run("last").await.unwrap().task, "reindex");
}

for_each_version! {
    /// The whole program on a history behind a pooler in transaction mode.
    async fn maint_runs_on_it(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)").await;
        let home = fresh_database(major).await;
        let pooler = Pooler::start(&home, "transaction");
        let workspace = Workspace::new(&format!(
            "history: \"{}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
            pooler.url, db.url
        ))
        .task("analyze", "kind: analyze\ntarget: app\n");
        let none = workspace.run(["history"]).expect(0);
        assert!(none.stdout.contains("there is no history at 127.0.0.1:"), "{none:#?}");
        workspace.run(["run", "analyze", "--now"]).expect(0);
        let shown = workspace.run(["show", "last", "--output", "json"]).expect(0).json();
        assert_eq!(shown["runs"][0]["status"], "succeeded");
        assert_eq!(shown["runs"][0]["steps"][0]["object"], "public.t");
        let listed = workspace.run(["history", "--output", "json"]).expect(0).json();
        assert_eq!(listed["runs"].as_array().unwrap().len(), 1);
    }
}

/// A history that the first run could not make is told before, and nothing of the attempt stays.
#[tokio::test]
async fn check_says_whether_it_could_be_made() {
    let db = fresh_database(17).await;
    let role = format!("keeper_{}", db.name);
    db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'geheim'"))
        .await;
    let url = url_as(&db, &role, "geheim");
    let workspace = Workspace::new(&format!(
        "history: \"{url}\"\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    let refused = |why: &[&str]| {
        let said = workspace.run(["check", "--connect"]).expect(3);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(
            why.iter().all(|part| text.contains(part)),
            "{why:?}: {text}"
        );
    };
    let fine = || {
        let said = workspace.run(["check", "--connect"]).expect(0);
        assert!(
            said.stdout.contains("the first run makes its schema"),
            "{said:#?}"
        );
    };
    let lacks = [
        "the role may not make its tables in the schema `maint`",
        "CREATE SCHEMA maint AUTHORIZATION",
    ];
    refused(&lacks);
    // Somebody else's, where the role may do nothing.
    db.execute("CREATE SCHEMA maint").await;
    refused(&lacks[..1]);
    db.execute("DROP SCHEMA maint").await;
    // Made for the role beforehand.
    db.execute(&format!("CREATE SCHEMA maint AUTHORIZATION {role}"))
        .await;
    fine();
    db.execute("DROP SCHEMA maint").await;
    db.execute(&format!("GRANT CREATE ON DATABASE {} TO {role}", db.name))
        .await;
    fine();
    let read_only = "default_transaction_read_only";
    db.execute(&format!("ALTER ROLE {role} SET {read_only} = on"))
        .await;
    // Sessions that begin read-only write all the same.
    fine();
    db.execute(&format!("ALTER ROLE {role} RESET {read_only}"))
        .await;
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'maint'";
    assert_eq!(db.number(schemas).await, 0);
    workspace.run(["run", "analyze", "--now"]);
    assert_eq!(db.number(schemas).await, 1);
}

/// What its role or its database say of time limits does not end what the history does.
#[tokio::test]
async fn limits_of_its_role_do_not_end_the_history() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    let (role, url) = crate::settings::role(&db, "").await;
    db.execute(&format!(
        "GRANT CREATE ON DATABASE {} TO {role}; ALTER ROLE {role} SET transaction_timeout = '60ms';
         ALTER ROLE {role} SET statement_timeout = '60ms'; ALTER ROLE {role} SET lock_timeout = '60ms';
         ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60ms'",
        db.name
    ))
    .await;
    let workspace = Workspace::new(&format!(
        "history: \"{url}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
        db.url
    ))
    .task(
        "tidy",
        "kind: sql\ntarget: app\noptions:\n  statements: [{ name: tidy, sql: DELETE FROM public.t }]\n",
    );
    // Somebody else makes the schema just now: each of its limits passes meanwhile.
    let other = db.connect().await;
    let lock = |verb: &str| format!("SELECT pg_{verb}(469785734772)");
    other.batch_execute(&lock("advisory_lock")).await.unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND clock_timestamp() - waitstart > interval '200 ms'";
    let run = tokio::task::spawn_blocking(move || {
        let ran = workspace.run(["run", "tidy", "--now", "--output", "json"]);
        (workspace, ran)
    });
    let patience = Patience::until("the history to wait for longer than its role's limits");
    while db.number(waits).await == 0 && !run.is_finished() {
        patience.pause().await;
    }
    other.batch_execute(&lock("advisory_unlock")).await.unwrap();
    let (_workspace, ran) = run.await.unwrap();
    let ran = ran.expect(0).json();
    assert_eq!(ran["runs"][0]["status"], "succeeded", "{ran:#}");
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    assert_eq!(
        db.number("SELECT count(*) FROM maint.runs WHERE status = 'succeeded'")
            .await,
        1
    );
}

/// A database that cannot hold every name is no place for a history: one record with such a name would
/// never go in, nor would those behind it. One that keeps bytes as they come is.
#[tokio::test]
async fn a_database_that_holds_not_every_name_is_refused() {
    let admin = fresh_database(17).await;
    for (encoding, refuses) in [("LATIN1", true), ("WIN1252", true), ("SQL_ASCII", false)] {
        let name = format!("{}_{}", admin.name, encoding.to_lowercase());
        admin
            .client
            .batch_execute(&format!(
                "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            ))
            .await
            .unwrap();
        let url = admin.url.replace(&admin.name, &name);
        match open(&url).await {
            Ok(store) => {
                assert!(!refuses, "{encoding} was opened");
                store.close().await;
            }
            Err(error) => {
                assert!(refuses, "{encoding}: {error}");
                assert!(
                    said(&error).contains(encoding) && said(&error).contains("ENCODING 'UTF8'")
                );
            }
        }
        admin
            .client
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .unwrap();
    }
}

/// No history is made in a database where subscribers are told of every new table, nor rehearsed; where
/// publications list what they are of, and where it was before, it is used.
#[tokio::test]
async fn a_database_that_tells_subscribers_of_every_table_is_refused() {
    for (major, publication, refuses) in [
        (14, "FOR ALL TABLES", true),
        (18, "FOR ALL TABLES", true),
        (17, "FOR TABLE t", false),
        (17, "FOR ALL TABLES WITH (publish = 'delete')", false),
    ] {
        let db = fresh_database(major).await;
        db.execute(&format!(
            "CREATE TABLE t (id int); CREATE PUBLICATION \"All of it\" {publication}"
        ))
        .await;
        match open(&db.url).await {
            Ok(store) => {
                assert!(!refuses, "{publication}");
                store.close().await;
            }
            Err(error) => {
                assert!(refuses, "{publication}: {error}");
                let said = said(&error);
                assert!(
                    said.contains("the publication \"All of it\" takes in every new table")
                        && said.contains("name another database"),
                    "{said}"
                );
                assert_eq!(
                    db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'maint'")
                        .await,
                    0
                );
                db.execute("DROP PUBLICATION \"All of it\"").await;
                open(&db.url).await.unwrap().close().await;
                db.execute(&format!("CREATE PUBLICATION after_it {publication}"))
                    .await;
                open(&db.url).await.unwrap().close().await;
            }
        }
    }
}

/// Sessions that begin read-only, by role or database, are no standby: the history is made and written.
#[tokio::test]
async fn sessions_that_begin_read_only_write_all_the_same() {
    let db = fresh_database(17).await;
    db.execute(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        db.name
    ))
    .await;
    let store = open(&db.url).await.unwrap();
    store.open_run(&run("task", 0)).await.unwrap();
    store.close().await;
    assert_eq!(db.number("SELECT count(*) FROM maint.runs").await, 1);
}
