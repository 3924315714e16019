//! Three instances on one history in PostgreSQL, behind a pooler in
//! transaction mode, killed and restarted at random.
//!
//! `MAINT_TEST_INSTANCES_SECONDS` makes it longer; 600 is the long run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use maint::execute::{Live, Stop};
use maint::history::{
    Occurrence, OccurrenceFilter, OccurrenceStatus, RunFilter, RunStatus, RunSummary, Store, open,
};
use maint::notify::Teller;
use maint::report::Templates;
use maint::scheduler::{Clock, Options, PipelineWorker, Scheduler, Silence, definitions};

use super::{recorder, utc};
use crate::support::pooler::Pooler;
use crate::support::servers::fresh_database;

/// So many schedules fire every minute.
const SCHEDULES: usize = 8;
/// The clock of the instances goes so much faster: a minute is 30 seconds.
const FASTER: i32 = 2;
const BEGIN: &str = "2026-06-10T00:00:01Z";
/// Long enough for a living instance on a busy machine never to lose it.
const LEASE: Duration = Duration::from_secs(6);
/// What must happen some time is waited for so long.
const PATIENCE: Duration = Duration::from_secs(180);

/// The same time in every instance.
struct Fast(DateTime<Utc>);

impl Clock for Fast {
    fn now(&self) -> DateTime<Utc> {
        utc(BEGIN) + (Utc::now() - self.0) * FASTER
    }

    fn is_on_the_wall(&self) -> bool {
        false
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
        recorder(&store),
        Arc::new(Silence),
        name.clone(),
        Live::default(),
        Arc::new(teller),
        Templates::default(),
    );
    let options = Options {
        owner: format!("{name}/{}", std::process::id()),
        seed: name,
        lease: LEASE,
        only: None,
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
        match scheduler.tick().await {
            Ok(_) => std::fs::write(env("MAINT_TEST_INSTANCE_READY"), "").unwrap(),
            Err(error) => eprintln!("{error:?}"),
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

/// Starts an instance, and waits until it has looked at the calendar.
async fn start(config: &Path, name: &str, since: DateTime<Utc>) -> Instance {
    let ready = config.with_file_name(format!("ready-{name}"));
    let _ = std::fs::remove_file(&ready);
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
        .env("MAINT_TEST_INSTANCE_READY", &ready)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let instance = Instance(process);
    let began = Instant::now();
    while !ready.exists() {
        assert!(began.elapsed() < PATIENCE, "{name} does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    instance
}

async fn known(store: &dyn Store) -> Vec<Occurrence> {
    let filter = OccurrenceFilter::default();
    store.occurrences(&filter).await.unwrap()
}

fn stands_for(run: &RunSummary, one: &Occurrence) -> bool {
    run.task == one.schedule.replace('s', "t") && run.scheduled_for == Some(one.scheduled_for)
}

/// Waits until somebody is in the middle of a run, and tells which instance that is.
async fn owner_at_work(store: &dyn Store) -> usize {
    let began = Instant::now();
    loop {
        let filter = RunFilter {
            statuses: vec![RunStatus::Running],
            ..RunFilter::default()
        };
        let at_work = store.runs(&filter).await.unwrap();
        let owner = known(store)
            .await
            .into_iter()
            .filter(|one| at_work.iter().any(|run| stands_for(run, one)))
            .find_map(|one| one.claimed_by);
        if let Some(owner) = owner {
            return usize::from(owner.as_bytes()[0] - b'a');
        }
        assert!(began.elapsed() < PATIENCE, "nobody is at work");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// When it was on our clock that it was `at` on theirs.
fn real(since: DateTime<Utc>, at: DateTime<Utc>) -> DateTime<Utc> {
    since + (at - utc(BEGIN)) / FASTER
}

fn write_config(folder: &Path, history: &str, target: &str) -> PathBuf {
    let mut yaml = format!(
        "history: \"{history}\"\ntargets:\n  app: {{ engine: postgres, url: \"{target}\" }}\nschedules:\n"
    );
    std::fs::create_dir(folder.join("tasks")).unwrap();
    for n in 0..SCHEDULES {
        yaml.push_str(&format!(
            "  s{n}: {{ cron: \"* * * * *\", tasks: [t{n}] }}\n"
        ));
        // Long enough to be killed in the middle.
        std::fs::write(
            folder.join(format!("tasks/t{n}.yaml")),
            "kind: sql\ntarget: app\noptions:\n  statements:\n    - name: work\n      \
             sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_sleep(1.5)\n",
        )
        .unwrap();
    }
    let config = folder.join("schedules.yaml");
    std::fs::write(&config, yaml).unwrap();
    config
}

/// Kills instances for so long, and goes on until something was taken over.
async fn kill_at_random(
    lasts: Duration,
    store: &dyn Store,
    config: &Path,
    since: DateTime<Utc>,
    instances: &mut [Instance],
) -> u32 {
    let began = Instant::now();
    let mut seed = u64::from(std::process::id());
    let mut kills = 0;
    loop {
        let taken_over = known(store).await.iter().any(|one| one.claims > 1);
        if began.elapsed() >= lasts && taken_over {
            return kills;
        }
        assert!(began.elapsed() < lasts + PATIENCE, "nothing is taken over");
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(500 + (seed >> 33) % 3_000)).await;
        let mut victim = usize::try_from((seed >> 40) % 3).unwrap();
        if kills % 4 == 1 {
            // One that is at work right now.
            victim = owner_at_work(store).await;
        }
        let _ = instances[victim].0.kill();
        instances[victim] = start(config, ["a", "b", "c"][victim], since).await;
        kills += 1;
    }
}

/// Waits until everything planned for after `since` and before `until` has
/// come to its end.
async fn settled(store: &dyn Store, since: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Occurrence> {
    let minute = |at: DateTime<Utc>| usize::try_from(at.timestamp() / 60).unwrap();
    let expected = (minute(until) - minute(since)) * SCHEDULES;
    let began = Instant::now();
    loop {
        let mut known = known(store).await;
        known.retain(|one| one.scheduled_for <= until);
        let over = |one: &Occurrence| one.status != OccurrenceStatus::Running;
        assert!(known.len() <= expected, "{known:#?}");
        if known.len() == expected && known.iter().all(over) {
            return known;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{} of {expected}: {known:#?}",
            known.len()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[derive(Default)]
struct Tally {
    lives: BTreeSet<String>,
    ran: u32,
    taken_over: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_occurrence_runs_once_whoever_dies() {
    let seconds = std::env::var("MAINT_TEST_INSTANCES_SECONDS");
    let lasts = Duration::from_secs(seconds.map_or(40, |text| text.parse().unwrap()));
    let home = fresh_database(17).await;
    let target = fresh_database(17).await;
    target.execute("CREATE TABLE t (id int)").await;
    let pooler = Pooler::start(&home, "transaction");
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &pooler.url, &target.url);
    let store = open(&home.url).await.unwrap();
    let since = Utc::now();
    let mut instances = Vec::new();
    for name in ["a", "b", "c"] {
        instances.push(start(&config, name, since).await);
    }
    let kills = kill_at_random(lasts, store.as_ref(), &config, since, &mut instances).await;
    // However long the first one needed to start: from then on it counts.
    let loaded = maint::config::load(&config, &maint::kinds::catalog(), &|_| None).unwrap();
    let schedules = definitions(&loaded);
    let first = store.know_schedules(&schedules, Utc::now()).await.unwrap();
    let first = *first.values().max().unwrap();
    let known = settled(store.as_ref(), first, Fast(since).now()).await;
    drop(instances);

    let runs = store.runs(&RunFilter::default()).await.unwrap();
    let minute = TimeDelta::minutes(1);
    let mut instances: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut waited, mut interrupted) = (0, 0);
    for one in &known {
        let done: Vec<&RunSummary> = runs.iter().filter(|run| stands_for(run, one)).collect();
        if one.status == OccurrenceStatus::Missed {
            // Only where those before it were killed so often that the next
            // one was due before they had ended.
            let before = known.iter().find(|other| {
                other.schedule == one.schedule
                    && other.claims > 1
                    && other.scheduled_for < one.scheduled_for
                    && other.finished_at > Some(real(since, one.scheduled_for + minute))
            });
            assert!(before.is_some() && done.is_empty(), "{one:#?}: {known:#?}");
            waited += 1;
            continue;
        }
        use OccurrenceStatus::{CaughtUp, Ran};
        assert!(matches!(one.status, Ran | CaughtUp), "{one:#?}");
        assert_eq!(one.succeeded, Some(true), "{one:#?}: {done:#?}");
        let (ended, dead): (Vec<_>, Vec<_>) = done
            .into_iter()
            .partition(|run| run.status != RunStatus::Interrupted);
        assert_eq!(ended.len(), 1, "{one:#?}: {ended:#?}");
        assert_eq!(ended[0].status, RunStatus::Succeeded, "{ended:#?}");
        interrupted += dead.len();
        let owner = one.claimed_by.clone().unwrap();
        let tally = instances
            .entry(owner.split('/').next().unwrap().to_owned())
            .or_default();
        tally.lives.insert(owner);
        tally.ran += 1;
        tally.taken_over += u32::from(one.claims > 1);
    }
    println!(
        "{kills} kills, {} occurrences, each run once; {interrupted} runs were interrupted, \
         {waited} occurrences made way for the next",
        known.len(),
    );
    println!("| instance | lives that ran something | ran | of them taken over |");
    println!("|---|---:|---:|---:|");
    for (name, tally) in &instances {
        let lives = tally.lives.len();
        println!(
            "| {name} | {lives} | {} | {} |",
            tally.ran, tally.taken_over
        );
    }
}
