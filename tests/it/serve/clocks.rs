//! Clocks that are wrong, and what they leave in the history.

use chrono::{DateTime, TimeDelta, Utc};
use maint::history::{OccurrenceFilter, Store, open};
use maint::scheduler::definitions;

use super::{Served, wait_until};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::{Workspace, off, run_off};

/// A schedule by `cron` for a task that counts in the table `ticks`.
async fn ticking(db: &TestDatabase, history: &str, cron: &str) -> Workspace {
    db.execute("CREATE TABLE ticks (n int)").await;
    let workspace = Workspace::new("").task(
        "tick",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: one, sql: INSERT INTO public.ticks VALUES (1) }] }\n",
    );
    let history = match history {
        "" => format!("sqlite:{}", workspace.history().display()),
        url => url.to_owned(),
    };
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: \"{history}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n\
             schedules:\n  every: {{ cron: \"{cron}\", tasks: [tick] }}\n",
            db.url
        ),
    );
    workspace
}

async fn history_of(workspace: &Workspace) -> (maint::config::Config, std::sync::Arc<dyn Store>) {
    let file = workspace.path().join("schedules.yaml");
    let config = maint::config::load(&file, &maint::kinds::catalog(), &|_| None).unwrap();
    let store = open(config.history.expose()).await.unwrap();
    (config, store)
}

/// Makes the schedules known since then, whatever is known of them.
async fn known_since(workspace: &Workspace, since: DateTime<Utc>) {
    let (config, store) = history_of(workspace).await;
    let definitions = definitions(&config);
    let mut other = definitions.clone();
    for (_, definition) in &mut other {
        definition.push('?');
    }
    store.know_schedules(&other, since).await.unwrap();
    store.know_schedules(&definitions, since).await.unwrap();
    store.close().await;
}

for_oldest_and_newest! {
    /// What a clock that was ahead has said of a schedule holds it up no longer than until
    /// somebody looks, and is told, in either history.
    async fn a_schedule_first_seen_by_a_clock_ahead_runs(major: u32) {
        for shared in [false, true] {
            let db = fresh_database(major).await;
            let keeper = fresh_database(major).await;
            // Due once a day, last a moment ago: no minute that changes between two looks of
            // this test makes it due again.
            let last = Utc::now() - TimeDelta::minutes(1);
            let cron = last.format("%-M %-H * * *").to_string();
            let workspace = ticking(&db, if shared { &keeper.url } else { "" }, &cron).await;
            if shared {
                known_since(&workspace, Utc::now() + TimeDelta::days(400)).await;
            } else {
                run_off(&workspace, "+400d", &["run", "--due"]).expect(0);
            }
            let told = workspace.run(["status"]).expect(1);
            assert!(told.stdout.contains("schedule every is known since"), "{told:#?}");

            let first = workspace.run(["run", "--due"]).expect(0);
            assert_eq!(first.stdout, "nothing is due\n");
            assert!(first.stderr.contains("every"), "{first:#?}");
            assert!(first.stderr.contains("a clock that was ahead"), "{first:#?}");
            let told = workspace.run(["status"]).expect(1);
            assert!(told.stdout.contains("a clock that was ahead"), "{told:#?}");

            let (config, store) = history_of(&workspace).await;
            let now = Utc::now();
            let since = store.know_schedules(&definitions(&config), now).await.unwrap()["every"];
            assert!(since <= now, "{since}");
            store.close().await;
            // As if it had been known when it was due.
            known_since(&workspace, last - TimeDelta::minutes(2)).await;
            workspace.run(["run", "--due"]).expect(0);
            assert_eq!(db.number("SELECT count(*) FROM ticks").await, 1);
        }
    }
}

for_oldest_and_newest! {
    /// An instance whose clock is not that of the history does nothing before its time, and all
    /// say so.
    async fn nothing_is_done_early_by_the_clock_of_the_history(major: u32) {
        let db = fresh_database(major).await;
        let keeper = fresh_database(major).await;
        let workspace = ticking(&db, &keeper.url, "* * * * *").await;
        workspace.run(["run", "--due"]).expect(0);
        let ahead = run_off(&workspace, "+400s", &["run", "--due"]);
        assert!(ahead.stderr.contains("ahead of that of the history"), "{ahead:#?}");
        let own = run_off(&workspace, "+400s", &["status"]).expect(1);
        assert!(own.stdout.contains("the clock of this machine is about"), "{own:#?}");
        let others = workspace.run(["status"]).expect(1);
        assert!(others.stdout.contains("ahead of that of the history"), "{others:#?}");

        // The minute may have changed since the first look.
        let ticks = "SELECT count(*) FROM ticks";
        let rightly = db.number(ticks).await;
        known_since(&workspace, Utc::now() - TimeDelta::minutes(3)).await;
        let behind = run_off(&workspace, "-400s", &["run", "--due"]);
        assert!(behind.stderr.contains("behind that of the history"), "{behind:#?}");
        assert_eq!(db.number(ticks).await, rightly);

        let file = workspace.path().join("schedules.yaml");
        let served = Served::start_with(&workspace, &file, |process| off(process, "+400s"));
        let metric = "maint_history_clock_ahead_seconds";
        wait_until("the clocks are compared", || served.metric(metric) > 390.0);
        let ran = |line: &str| line.contains("status=\"ran\"}") && !line.ends_with(" 0");
        wait_until("something has run", || served.get("/metrics").1.lines().any(ran));
        assert_eq!(served.stop().0, Some(0));
        let (_, store) = history_of(&workspace).await;
        let done = store.occurrences(&OccurrenceFilter::default()).await.unwrap();
        let soonest = done.iter().map(|one| one.recorded_at - one.scheduled_for).min();
        assert!(soonest.is_some_and(|early| early >= TimeDelta::zero()), "{done:#?}");
        store.close().await;
    }
}
