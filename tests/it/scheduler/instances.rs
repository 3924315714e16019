//! Three instances on one history in PostgreSQL, behind a pooler in
//! transaction mode, killed and restarted at random.
//!
//! `MAINT_TEST_INSTANCES_SECONDS` makes it longer; 600 is the long run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use maint::execute::{Live, Stop};
use maint::history::{OccurrenceFilter, OccurrenceStatus, RunFilter, RunStatus, Store, open};
use maint::notify::Teller;
use maint::report::Templates;
use maint::scheduler::{Clock, Options, PipelineWorker, Scheduler, Silence};

use super::utc;
use crate::support::pooler::Pooler;
use crate::support::servers::fresh_database;

/// So many schedules fire every minute.
const SCHEDULES: usize = 5;
/// The clock of the instances goes so much faster: a minute is twenty seconds.
const FASTER: i32 = 3;
const BEGIN: &str = "2026-06-10T00:00:01Z";

/// The same time in every instance.
struct Fast(DateTime<Utc>);

impl Clock for Fast {
    fn now(&self) -> DateTime<Utc> {
        utc(BEGIN) + (Utc::now() - self.0) * FASTER
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// One instance; it ends only by being killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that another test starts"]
async fn instance_until_killed() {
    let file = env("MAINT_TEST_INSTANCE_CONFIG");
    let config =
        maint::config::load(Path::new(&file), &maint::kinds::catalog(), &|_| None).unwrap();
    let config = Arc::new(config);
    let store = open(config.history.expose()).await.unwrap();
    let name = env("MAINT_TEST_INSTANCE_NAME");
    let teller = Teller::new(Arc::clone(&config), Templates::default(), name.clone());
    let worker = PipelineWorker::new(
        Arc::clone(&store),
        Arc::new(Silence),
        name.clone(),
        Live::default(),
        Arc::new(teller),
        Templates::default(),
    );
    let options = Options {
        owner: format!("{name}/{}", std::process::id()),
        seed: name,
        lease: Duration::from_secs(2),
    };
    let mut scheduler = Scheduler::new(
        config,
        store,
        Arc::new(Fast(utc(&env("MAINT_TEST_INSTANCE_SINCE")))),
        Arc::new(worker),
        Arc::new(Silence),
        options,
        Stop::default(),
    )
    .await
    .unwrap();
    loop {
        if let Err(error) = scheduler.tick().await {
            eprintln!("{error:?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

struct Instance(Child);

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(config: &Path, name: &str, since: DateTime<Utc>) -> Instance {
    let process = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--nocapture",
            "--exact",
            "scheduler::instances::instance_until_killed",
        ])
        .env("MAINT_TEST_INSTANCE_CONFIG", config)
        .env("MAINT_TEST_INSTANCE_NAME", name)
        .env("MAINT_TEST_INSTANCE_SINCE", since.to_rfc3339())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Instance(process)
}

/// Waits until somebody is at work, and tells which instance that is.
async fn owner_at_work(store: &dyn Store) -> usize {
    let filter = OccurrenceFilter {
        statuses: vec![OccurrenceStatus::Running],
        ..OccurrenceFilter::default()
    };
    loop {
        let running = store.occurrences(&filter).await.unwrap();
        let owner = running.first().and_then(|one| one.claimed_by.clone());
        if let Some(owner) = owner {
            return usize::from(owner.as_bytes()[0] - b'a');
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_occurrence_runs_once_whoever_dies() {
    let seconds = std::env::var("MAINT_TEST_INSTANCES_SECONDS");
    let lasts = Duration::from_secs(seconds.map_or(60, |text| text.parse().unwrap()));
    let home = fresh_database(17).await;
    let target = fresh_database(17).await;
    target.execute("CREATE TABLE t (id int)").await;
    let pooler = Pooler::start(&home, "transaction");
    let folder = tempfile::tempdir().unwrap();
    let mut yaml = format!(
        "history: \"{}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\nschedules:\n",
        pooler.url, target.url
    );
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    for n in 0..SCHEDULES {
        yaml.push_str(&format!(
            "  s{n}: {{ cron: \"* * * * *\", tasks: [t{n}] }}\n"
        ));
        let task = folder.path().join(format!("tasks/t{n}.yaml"));
        // Long enough to be killed in the middle.
        std::fs::write(
            task,
            "kind: sql\ntarget: app\noptions:\n  statements:\n    - name: work\n      \
             sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_sleep(1.5)\n",
        )
        .unwrap();
    }
    let config = folder.path().join("schedules.yaml");
    std::fs::write(&config, yaml).unwrap();

    let store = open(&home.url).await.unwrap();
    let since = Utc::now();
    let mut instances: Vec<Instance> = ["a", "b", "c"]
        .map(|name| start(&config, name, since))
        .into();
    let began = Instant::now();
    let mut seed = u64::from(std::process::id());
    let mut kills = 0;
    while began.elapsed() < lasts {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(1_000 + (seed >> 33) % 3_000)).await;
        let mut victim = usize::try_from((seed >> 40) % 3).unwrap();
        if kills % 4 == 1 {
            // One that is at work right now.
            victim = owner_at_work(store.as_ref()).await;
        }
        // Dropped, and so killed, as it is replaced.
        instances[victim] = start(&config, ["a", "b", "c"][victim], since);
        kills += 1;
    }
    let until = Fast(since).now();
    // What the last one killed has left is taken over.
    let patience = Instant::now();
    let known = loop {
        let filter = OccurrenceFilter::default();
        let mut known = store.occurrences(&filter).await.unwrap();
        known.retain(|one| one.scheduled_for <= until - TimeDelta::minutes(1));
        let open = known
            .iter()
            .any(|one| one.status == OccurrenceStatus::Running);
        if !open && patience.elapsed() > Duration::from_secs(5) {
            break known;
        }
        assert!(
            patience.elapsed() < Duration::from_secs(60),
            "nobody takes over: {known:#?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    drop(instances);

    let minutes = (until - TimeDelta::minutes(1) - utc(BEGIN)).num_seconds() + 1;
    let expected = usize::try_from(minutes / 60).unwrap() * SCHEDULES;
    assert_eq!(known.len(), expected, "{known:#?}");
    let runs = store.runs(&RunFilter::default()).await.unwrap();
    let mut owners: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for one in &known {
        assert_eq!(one.status, OccurrenceStatus::Ran, "{one:?}");
        let task = one.schedule.replace('s', "t");
        let done: Vec<_> = runs
            .iter()
            .filter(|run| run.task == task && run.scheduled_for == Some(one.scheduled_for))
            .filter(|run| run.status != RunStatus::Interrupted)
            .collect();
        assert_eq!(done.len(), 1, "{one:?}: {done:#?}");
        assert_eq!(done[0].status, RunStatus::Succeeded, "{done:#?}");
        let owner = one.claimed_by.clone().unwrap();
        let counts = owners.entry(owner).or_default();
        counts.0 += 1;
        counts.1 += u32::from(one.claims > 1);
    }
    let taken: u32 = owners.values().map(|(_, taken)| taken).sum();
    assert!(taken > 0, "nothing was taken over: {owners:?}");
    println!("{kills} kills, {} occurrences, each run once", known.len());
    println!("{:<12} {:>4} {:>10}", "instance", "ran", "taken over");
    for (owner, (ran, taken)) in &owners {
        println!("{owner:<12} {ran:>4} {taken:>10}");
    }
}
