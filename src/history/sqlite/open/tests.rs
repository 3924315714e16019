use super::*;
use crate::history::sql::SqlStore;
use crate::history::{Baseline, Learned, Records, RunFilter, Runs};
use crate::values::wall_clock;

fn baseline() -> Baseline {
    Baseline {
        object: "i".into(),
        bytes: 1,
        tuples: 1.0,
        learned_at: wall_clock(),
        rebuilt: true,
        made_as: None,
    }
}

#[tokio::test]
async fn a_transaction_that_sqlite_took_back_stops_nothing_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    let file = SqliteStore::file(path, Opening::CreateIfMissing);
    let store = file.await.unwrap();
    // As where the disk is full: the transaction is over, and the driver does not know.
    let mut over = store.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut *over).await.unwrap();
    drop(over);
    let store = SqlStore::Sqlite(store);
    store.learn("app", &baseline()).await.unwrap();
    let known = store.baselines("app").await.unwrap();
    assert_eq!(known.len(), 1);
}

#[tokio::test]
async fn a_history_that_cannot_be_written_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maint.db");
    SqliteStore::file(path.clone(), Opening::CreateIfMissing)
        .await
        .unwrap()
        .close()
        .await;
    let reason = HistoryError::Busy {
        place: Place::File(path.clone()),
        source: "any".into(),
    };
    let store = SqlStore::Sqlite(read_only(path, reason).await.unwrap());
    assert_eq!(store.runs(&RunFilter::default()).await.unwrap(), []);
    let refused = store.learn("app", &baseline()).await;
    assert!(
        matches!(refused, Err(HistoryError::ReadOnly { .. })),
        "{refused:?}"
    );
}
