//! What only a file can meet: other processes, other versions, damage.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use maint::history::{HistoryError, RunFilter, RunStatus, StepStatus, Store, open, open_existing};
use maint::plan::Severity;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::{at, finding, id, run, step};
use crate::support::workspace::Workspace;

fn location(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// `unwrap_err` wants `Debug`, which a `dyn Store` has not.
fn refused(opened: Result<Arc<dyn Store>, HistoryError>) -> HistoryError {
    match opened {
        Ok(_) => panic!("opened"),
        Err(error) => {
            assert!(error.hint().is_some(), "{error:?} has no hint");
            error
        }
    }
}

async fn raw(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_new_file_is_private_complete_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    let store = open(&location(&path)).await.unwrap();
    store.open_run(&run("reindex", 0)).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?}");
    }
    store.close().await;
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    let again = open_existing(&location(&path)).await.unwrap();
    assert_eq!(again.run("last").await.unwrap(), run("reindex", 0));
}

/// Each writer opens the same new file for itself, as a process would.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_share_one_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(&folder.path().join("maint.db"));
    let writers = (0..8u64).map(|writer| {
        let location = location.clone();
        tokio::spawn(async move {
            let store = open(&location).await.unwrap();
            for n in 0..5i64 {
                let mut run = run(&format!("task-{writer}"), n);
                run.id = id(n, writer);
                store.open_run(&run).await.unwrap();
                for seq in 1..=3 {
                    store
                        .open_step(run.id, &step(seq, StepStatus::Running))
                        .await
                        .unwrap();
                    store
                        .close_step(run.id, &step(seq, StepStatus::Succeeded))
                        .await
                        .unwrap();
                }
                store
                    .add_findings(run.id, &[finding(Severity::Info, "a")])
                    .await
                    .unwrap();
                assert_eq!(
                    store
                        .interrupt_running("nobody", "app", at(0))
                        .await
                        .unwrap(),
                    []
                );
                run.status = RunStatus::Succeeded;
                store.close_run(&run).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let store = open_existing(&location).await.unwrap();
    let runs = store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 40);
    assert!(runs.iter().all(|run| run.succeeded == 3
        && run.findings.info == 1
        && run.status == RunStatus::Succeeded));
}

#[tokio::test]
async fn a_missing_file_is_not_made_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    let error = refused(open_existing(&location(&path)).await);
    assert!(matches!(error, HistoryError::Missing { .. }), "{error:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(open(&location(&folder.path().join("no/maint.db"))).await);
    assert!(matches!(error, HistoryError::NoFolder { .. }), "{error:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    open(&location(&path)).await.unwrap().close().await;
    raw(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'from the future', TRUE, x'00', 0)",
    )
    .await;
    for opened in [
        open(&location(&path)).await,
        open_existing(&location(&path)).await,
    ] {
        let error = refused(opened);
        assert!(
            matches!(error, HistoryError::NewerSchema { found: 99, .. }),
            "{error:?}"
        );
    }
}

/// Two versions may have been made side by side, so the newest number says
/// nothing about those before.
#[tokio::test]
async fn a_migration_that_was_left_out_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    open(&location(&path)).await.unwrap().close().await;
    raw(
        &path,
        "DROP INDEX runs_by_status; DELETE FROM _sqlx_migrations WHERE version = 31",
    )
    .await;
    open(&location(&path)).await.unwrap().close().await;
    // Fails where the index has not been made again.
    raw(&path, "DROP INDEX runs_by_status").await;
}

#[tokio::test]
async fn the_database_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    std::fs::write(&path, "").unwrap();
    raw(&path, "CREATE TABLE users (id INTEGER)").await;
    let before = std::fs::read(&path).unwrap();
    let error = refused(open(&location(&path)).await);
    assert!(
        matches!(error, HistoryError::NotAHistory { .. }),
        "{error:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn damage_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(
        &text,
        "this was never a database, whatever its name says\n".repeat(100),
    )
    .unwrap();
    let before = std::fs::read(&text).unwrap();
    let error = refused(open(&location(&text)).await);
    assert!(
        matches!(error, HistoryError::NotADatabase { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("text.db"), "{error}");
    assert_eq!(std::fs::read(&text).unwrap(), before);

    let torn = folder.path().join("torn.db");
    let store = open(&location(&torn)).await.unwrap();
    store.close_run(&run("reindex", 0)).await.unwrap();
    store.close().await;
    let mut bytes = std::fs::read(&torn).unwrap();
    let header = 4096;
    bytes[header..].fill(0xa5);
    std::fs::write(&torn, bytes).unwrap();
    let met = async { open(&location(&torn)).await?.run("last").await };
    let error = met.await.unwrap_err();
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error:?}");
}

/// Permissions mean nothing to root, so root asks where even it may not write.
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let closed = if nix::unistd::Uid::effective().is_root() {
        Path::new("/sys").to_owned()
    } else {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
        folder.path().to_owned()
    };
    let error = refused(open(&location(&closed.join("maint.db"))).await);
    assert!(matches!(error, HistoryError::ReadOnly { .. }), "{error:?}");
}

/// What is written into a file that nobody will find again is not taken for kept.
#[tokio::test]
async fn a_file_that_was_removed_or_replaced_in_use_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    let store = open(&location(&path)).await.unwrap();
    store.open_run(&run("reindex", 0)).await.unwrap();

    // Away: nothing is taken, and no other file is made in silence.
    let aside = folder.path().join("aside.db");
    let companions = || {
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("maint.db{end}")));
        }
    };
    std::fs::rename(&path, &aside).unwrap();
    companions();
    let noticed = store.open_run(&run("reindex", 1)).await.unwrap_err();
    assert!(
        matches!(noticed, HistoryError::Replaced { .. }),
        "{noticed:?}"
    );
    assert!(noticed.hint().is_some() && noticed.is_retryable());
    let missing = store.open_run(&run("reindex", 1)).await.unwrap_err();
    assert!(
        matches!(missing, HistoryError::CannotOpen { .. }),
        "{missing:?}"
    );
    assert!(!missing.is_retryable() && !path.exists());

    // Another in its place: told once, and written into from then on.
    let other = open(&location(&path)).await.unwrap();
    store.open_run(&run("reindex", 2)).await.unwrap();
    assert_eq!(other.run("last").await.unwrap(), run("reindex", 2));
    other.close().await;
    let third = folder.path().join("third.db");
    open(&location(&third)).await.unwrap().close().await;
    std::fs::rename(&third, &path).unwrap();
    companions();
    let noticed = store.open_run(&run("reindex", 3)).await.unwrap_err();
    assert!(
        matches!(noticed, HistoryError::Replaced { .. }),
        "{noticed:?}"
    );
    store.open_run(&run("reindex", 3)).await.unwrap();
    store.close().await;
    let again = open_existing(&location(&path)).await.unwrap();
    assert_eq!(again.run("last").await.unwrap(), run("reindex", 3));
    let runs = again.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 1);
}

/// Who only reads, such as the pages of `maint serve`, reads what is there now, and not for ever
/// what was there when the process began.
#[tokio::test]
async fn readers_follow_a_file_that_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    let store = open(&location(&path)).await.unwrap();
    store.open_run(&run("reindex", 0)).await.unwrap();
    assert_eq!(store.run("last").await.unwrap(), run("reindex", 0));
    let other = folder.path().join("other.db");
    let filled = open(&location(&other)).await.unwrap();
    filled.open_run(&run("vacuum", 1)).await.unwrap();
    filled.close().await;
    let aside = folder.path().join("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    for end in ["-wal", "-shm"] {
        let companion = folder.path().join(format!("maint.db{end}"));
        let _ = std::fs::rename(companion, folder.path().join(format!("aside.db{end}")));
    }
    let away = store.runs(&RunFilter::default()).await.unwrap_err();
    assert!(matches!(away, HistoryError::CannotOpen { .. }), "{away:?}");
    assert!(!path.exists());
    std::fs::rename(&other, &path).unwrap();
    // Somebody else writes there, whose companions must stay as they are.
    let somebody = open(&location(&path)).await.unwrap();
    somebody.open_run(&run("vacuum", 2)).await.unwrap();
    let runs = store.runs(&RunFilter::default()).await.unwrap();
    let tasks: Vec<&str> = runs.iter().map(|run| run.task.as_str()).collect();
    assert_eq!(tasks, ["vacuum", "vacuum"]);
    somebody.open_run(&run("vacuum", 3)).await.unwrap();
    assert_eq!(store.runs(&RunFilter::default()).await.unwrap().len(), 3);
    somebody.close().await;
    store.close().await;
    let again = open_existing(&location(&path)).await.unwrap();
    assert_eq!(again.runs(&RunFilter::default()).await.unwrap().len(), 3);
    // Nothing of what was there before is lost either.
    let before = open_existing(&location(&aside)).await.unwrap();
    assert_eq!(before.run("last").await.unwrap(), run("reindex", 0));
}

/// What can never hold a history is refused before anything is done, not taken for one that is away.
#[test]
fn a_folder_or_a_device_is_no_history() {
    for (place, what) in [
        ("sqlite:state", "a folder"),
        ("sqlite:/dev/null", "a device"),
    ] {
        // Whether there is a server is not even asked.
        let workspace = Workspace::new(&format!(
            "history: \"{place}\"\ntargets: {{ app: {{ engine: postgres, url: \"postgres://127.0.0.1:1/d\" }} }}\n"
        ))
        .task("analyze", "kind: analyze\ntarget: app\n");
        std::fs::create_dir(workspace.path().join("state")).unwrap();
        for command in [
            &["run", "analyze", "--now"][..],
            &["run", "--due"],
            &["history"],
        ] {
            let ended = workspace.run(command).expect(2);
            assert!(
                ended.stderr.contains("the history cannot be in "),
                "{ended:#?}"
            );
            assert!(
                ended.stderr.contains(&format!("that is {what}")),
                "{ended:#?}"
            );
            assert!(ended.stderr.contains("name a file"), "{ended:#?}");
        }
    }
}
