//! A run that fails is tried again within its occurrence.

use std::path::Path;
use std::sync::Arc;

use maint::config::Config;
use maint::execute::{Live, Stop};
use maint::history::{OccurrenceStatus, RunFilter, RunStatus, Store, open};
use maint::notify::Teller;
use maint::report::Templates;
use maint::scheduler::{Job, Outcome, PipelineWorker, Silence, Worker};

use super::{recorder, utc};
use crate::support::servers::{TestDatabase, fresh_database};

/// A task that fails `times` times: a sequence counts also what is rolled back.
fn failing(folder: &Path, target: &str, times: u32, retries: &str) -> Config {
    std::fs::create_dir_all(folder.join("tasks")).unwrap();
    let file = folder.join("schedules.yaml");
    let yaml = format!(
        "targets:\n  app: {{ engine: postgres, url: \"{target}\" }}\n\
         schedules:\n  nightly: {{ cron: \"0 2 * * *\", tasks: [work] }}\n"
    );
    std::fs::write(&file, yaml).unwrap();
    let task = format!(
        "kind: sql\ntarget: app\nretries: {{ {retries} }}\noptions:\n  statements:\n    - name: work\n      \
         sql: INSERT INTO public.t SELECT 1 / (CASE WHEN pg_catalog.nextval('public.s') > {times} THEN 1 ELSE 0 END)\n"
    );
    std::fs::write(folder.join("tasks/work.yaml"), task).unwrap();
    maint::config::load(&file, &maint::kinds::catalog(), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

async fn carried_out(config: Config, store: &Arc<dyn Store>) -> Outcome {
    let config = Arc::new(config);
    let teller = Teller::new(Arc::clone(&config), Templates::default(), "host".into());
    let worker = PipelineWorker::new(
        recorder(store),
        Arc::new(Silence),
        "host".into(),
        Live::default(),
        Arc::new(teller),
        Templates::default(),
    );
    let job = Job {
        schedule: config.schedules["nightly"].clone(),
        config,
        at: utc("2026-06-10T02:00:00Z"),
        catch_up: false,
        claims: 1,
        stop: Stop::default(),
    };
    worker.carry_out(job).await
}

async fn target() -> TestDatabase {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); CREATE SEQUENCE s")
        .await;
    db
}

/// How the runs of the occurrence ended, oldest first.
async fn statuses(store: &dyn Store) -> Vec<RunStatus> {
    let mut runs = store.runs(&RunFilter::default()).await.unwrap();
    runs.reverse();
    let at = Some(utc("2026-06-10T02:00:00Z"));
    assert!(runs.iter().all(|run| run.scheduled_for == at), "{runs:#?}");
    runs.iter().map(|run| run.status).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_is_tried_again_until_it_succeeds() {
    use RunStatus::{Failed, Succeeded};
    let db = target().await;
    let folder = tempfile::tempdir().unwrap();
    let store = open("sqlite::memory:").await.unwrap();
    let config = failing(folder.path(), &db.url, 2, "max: 5, backoff: 50ms");
    let Outcome::Ended(ended) = carried_out(config, &store).await else {
        panic!("nobody stopped it");
    };
    assert_eq!(ended.status, OccurrenceStatus::Ran);
    assert_eq!(ended.succeeded, Some(true));
    assert_eq!(ended.runs.len(), 3);
    assert_eq!(
        statuses(store.as_ref()).await,
        [Failed, Failed, Succeeded],
        "and no further one after a success"
    );
    assert_eq!(db.number("SELECT count(*) FROM t").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_come_to_an_end() {
    let db = target().await;
    let folder = tempfile::tempdir().unwrap();
    let store = open("sqlite::memory:").await.unwrap();
    let config = failing(folder.path(), &db.url, 1_000, "max: 2, backoff: 50ms");
    let Outcome::Ended(ended) = carried_out(config, &store).await else {
        panic!("nobody stopped it");
    };
    assert_eq!(ended.succeeded, Some(false));
    assert_eq!(statuses(store.as_ref()).await, [RunStatus::Failed; 3]);
}
