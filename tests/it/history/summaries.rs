//! What every history promises about its sums.

use chrono::TimeDelta;
use maint::history::{By, FindingState, Period, RunStatus, StepStatus, Store};
use maint::plan::{Measurement, Severity};

use super::{at, finding, run, step};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// The second hour of the tests.
fn period() -> Period {
    Period {
        since: at(HOUR),
        until: at(2 * HOUR),
    }
}

fn ended(task: &str, ms: i64, status: RunStatus) -> maint::history::RunRecord {
    let mut run = run(task, ms);
    run.status = status;
    run.duration_ms = 1_000;
    run.finished_at = Some(run.started_at + TimeDelta::seconds(1));
    (run.rows, run.bytes_before, run.bytes_after) = (5, 1_000, 400);
    run
}

pub(super) async fn runs_are_summed_up_by_period(store: &dyn Store) {
    for run in [
        ended("reindex", 0, RunStatus::Failed),
        ended("reindex", HOUR, RunStatus::Succeeded),
        ended("reindex", HOUR + 1_000, RunStatus::Partial),
        ended("reindex", 2 * HOUR - 1, RunStatus::Partial),
        ended("vacuum", HOUR - 1, RunStatus::Succeeded),
        ended("reindex", 2 * HOUR, RunStatus::Interrupted),
    ] {
        store.close_run(&run).await.unwrap();
    }
    let sums = store.summaries();
    let days = sums.days(&period(), By::Kind).await.unwrap();
    let told: Vec<_> = days
        .iter()
        .map(|one| {
            (
                (one.day.as_str(), one.name.as_str()),
                one.status,
                one.runs,
                one.duration_ms,
                one.rows,
                one.bytes_reclaimed,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                ("2026-03-01", "reindex"),
                RunStatus::Partial,
                2,
                2_000,
                10,
                1_200
            ),
            (
                ("2026-03-01", "reindex"),
                RunStatus::Succeeded,
                1,
                1_000,
                5,
                600
            )
        ]
    );

    let tasks = sums.task_totals(&period(), 2).await.unwrap();
    let [reindex, vacuum] = &tasks[..] else {
        panic!("{tasks:#?}");
    };
    assert_eq!(
        (reindex.task.as_str(), reindex.target.as_str()),
        ("reindex", "app")
    );
    assert_eq!((reindex.runs, reindex.partial, reindex.failed), (3, 2, 0));
    assert_eq!(
        (reindex.last_status, reindex.last_started_at),
        (RunStatus::Partial, at(2 * HOUR - 1))
    );
    assert_eq!(reindex.last_success_at, Some(at(HOUR)));
    assert_eq!(reindex.recent_ms, [1_000, 1_000]);
    // It did not run in the period, but it did before.
    assert_eq!((vacuum.runs, vacuum.rows, vacuum.duration_ms), (0, 0, 0));
    assert_eq!(vacuum.last_started_at, at(HOUR - 1));

    // Over midnight (UTC), and by task: two of them are of the same kind.
    for run in [
        ended("reindex", DAY, RunStatus::Succeeded),
        ended("rebuild", DAY + 1, RunStatus::Succeeded),
    ] {
        store.close_run(&run).await.unwrap();
    }
    let two_days = Period {
        since: at(2 * HOUR),
        until: at(DAY + 2),
    };
    for (by, told) in [
        (
            By::Task,
            &[
                ("2026-03-01", "reindex", 1),
                ("2026-03-02", "rebuild", 1),
                ("2026-03-02", "reindex", 1),
            ][..],
        ),
        (
            By::Kind,
            &[("2026-03-01", "reindex", 1), ("2026-03-02", "reindex", 2)],
        ),
    ] {
        let days = sums.days(&two_days, by).await.unwrap();
        let found: Vec<_> = days
            .iter()
            .map(|one| (one.day.as_str(), one.name.as_str(), one.runs))
            .collect();
        assert_eq!(found, told, "{by:?}");
    }
}

pub(super) async fn gains_and_troubles_are_found(store: &dyn Store) {
    let mut calm = ended("reindex", HOUR, RunStatus::Partial);
    let sized = |seq: u32, status, before, after| {
        let mut step = step(seq, status);
        step.object = format!("public.i{seq}");
        step.started_at = Some(at(HOUR + i64::from(seq)));
        (step.bytes_before, step.bytes_after) = (Some(before), Some(after));
        step.lock_waits.clear();
        step
    };
    calm.steps = vec![
        sized(1, StepStatus::Succeeded, 1_000, 900),
        sized(2, StepStatus::Succeeded, 9_000, 1_000),
        sized(3, StepStatus::Succeeded, 1_000, 2_000),
        sized(4, StepStatus::Failed, 90_000, 1_000),
        sized(5, StepStatus::Succeeded, 5_000, 1_000),
        // Fewer rows than before is nothing given back.
        sized(6, StepStatus::Succeeded, 80_000, 1_000),
    ];
    calm.steps[5].action = "refresh".into();
    calm.steps[3].error = Some("lock timeout".into());
    calm.steps[3].lock_waits = step(4, StepStatus::Failed).lock_waits;
    calm.steps[0].lock_waits = step(1, StepStatus::Succeeded).lock_waits;
    store.close_run(&calm).await.unwrap();
    let mut again = ended("reindex", HOUR + 60_000, RunStatus::Failed);
    again.steps = vec![sized(4, StepStatus::Failed, 90_000, 1_000)];
    again.steps[0].started_at = Some(at(HOUR + 61_000));
    again.steps[0].error = Some("still locked".into());
    store.close_run(&again).await.unwrap();
    let mut lost = ended("vacuum", HOUR + 90_000, RunStatus::Failed);
    lost.error = Some("the server is out of reach".into());
    store.close_run(&lost).await.unwrap();
    // Outside the period.
    let mut old = ended("reindex", 0, RunStatus::Failed);
    old.steps = vec![step(4, StepStatus::Failed)];
    store.close_run(&old).await.unwrap();

    let sums = store.summaries();
    let gains = sums.gains(&period(), 2).await.unwrap();
    let told: Vec<_> = gains
        .iter()
        .map(|one| (one.object.as_str(), one.bytes_before, one.bytes_after))
        .collect();
    assert_eq!(
        told,
        [("public.i2", 9_000, 1_000), ("public.i5", 5_000, 1_000)]
    );
    assert_eq!((gains[0].run, gains[0].task.as_str()), (calm.id, "reindex"));

    let troubles = sums.troubles(&period(), 10).await.unwrap();
    let told: Vec<_> = troubles
        .iter()
        .map(|one| {
            (
                one.task.as_str(),
                one.object.as_str(),
                one.failed,
                one.times,
                one.error.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("vacuum", "", true, 1, Some("the server is out of reach")),
            ("reindex", "public.i4", true, 2, Some("still locked")),
            ("reindex", "public.i1", false, 1, None),
        ]
    );
    assert_eq!(troubles[1].run, again.id);
    assert_eq!(troubles[2].blocker.as_ref().unwrap().blocker_pid, 99);
    assert_eq!(sums.troubles(&period(), 1).await.unwrap().len(), 1);
}

pub(super) async fn findings_are_new_open_or_gone(store: &dyn Store) {
    let with = |task, ms, status, objects: &[&str]| {
        let mut run = ended(task, ms, status);
        run.findings = objects
            .iter()
            .map(|object| finding(Severity::Warning, object))
            .collect();
        run
    };
    for run in [
        with("reindex", 0, RunStatus::Succeeded, &["a", "b", "c"]),
        // Two tasks that see the same thing see one thing.
        with("vacuum", 10, RunStatus::Succeeded, &["b"]),
        // Seen and gone within the period: no news.
        with("reindex", HOUR, RunStatus::Succeeded, &["passing"]),
        with("reindex", HOUR + 10, RunStatus::Partial, &["a", "d"]),
        // These did not get as far as looking.
        with("reindex", HOUR + 20, RunStatus::Failed, &[]),
        with("reindex", HOUR + 30, RunStatus::Skipped, &[]),
        with("removed", HOUR + 40, RunStatus::Succeeded, &["z"]),
    ] {
        store.close_run(&run).await.unwrap();
    }
    let sums = store.summaries();
    let tasks = ["reindex".to_owned(), "vacuum".to_owned()];
    let tracked = sums.tracked_findings(&period(), &tasks, 10).await.unwrap();
    let mut told: Vec<_> = tracked
        .listed
        .iter()
        .map(|one| (one.state.as_str(), one.object.as_str()))
        .collect();
    assert_eq!(told.pop(), Some(("gone", "c")));
    told.sort_unstable();
    assert_eq!(told, [("new", "d"), ("open", "a"), ("open", "b")]);
    let count = |state| {
        let counts = tracked.counts.iter().filter(|(one, _, _)| *one == state);
        counts.map(|(_, _, n)| n).sum::<i64>()
    };
    assert_eq!(FindingState::ALL.iter().map(|s| count(*s)).sum::<i64>(), 4);
    assert_eq!(count(FindingState::Open), 2);
    let all = sums.tracked_findings(&period(), &[], 1).await.unwrap();
    assert_eq!(all.listed.len(), 1);
    assert_eq!(all.counts.iter().map(|(_, _, n)| n).sum::<i64>(), 5);
}

/// From the first run that saw it after the last that looked in vain; one that did not look, and one of a part, were not
/// in vain.
pub(super) async fn a_finding_is_there_since_it_was_seen_again(store: &dyn Store) {
    let with = |task, ms, status, part: Option<&str>, seen: bool| {
        let mut run = ended(task, ms, status);
        run.part = part.map(str::to_owned);
        if seen {
            run.findings = vec![finding(Severity::Critical, "a")];
        }
        run
    };
    let succeeded = RunStatus::Succeeded;
    let runs = [
        with("reindex", 1_000, succeeded, None, true),
        with("reindex", 2_000, succeeded, None, false),
        with("reindex", 3_000, succeeded, None, true),
        with("reindex", 4_000, RunStatus::Failed, None, false),
        with("reindex", 5_000, succeeded, Some("--set include=x"), false),
        with("vacuum", 5_500, succeeded, None, false),
        with("reindex", 6_000, succeeded, None, true),
    ];
    for run in &runs {
        store.close_run(run).await.unwrap();
    }
    let sums = store.summaries();
    let code = finding(Severity::Critical, "a").code;
    let since = async |run: &maint::history::RunRecord, object: &str, from: i64| {
        let since = sums.seen_since(run.id, &code, object, at(from));
        since.await.unwrap()
    };
    assert_eq!(since(&runs[6], "a", 0).await, Some(at(3_000)));
    assert_eq!(since(&runs[6], "a", 3_500).await, Some(at(6_000)));
    assert_eq!(since(&runs[6], "b", 0).await, None);
    assert_eq!(since(&runs[5], "a", 0).await, None);
}

/// A run that was limited to a part adds to what the last whole run found, and takes nothing
/// away; of parts in the same words the last one counts, and a whole run settles all of it.
pub(super) async fn a_part_of_a_task_hides_no_finding_of_the_rest(store: &dyn Store) {
    let with = |ms, part: Option<&str>, objects: &[&str]| {
        let mut run = ended("integrity", ms, RunStatus::Succeeded);
        run.part = part.map(str::to_owned);
        run.findings = objects
            .iter()
            .map(|object| finding(Severity::Warning, object))
            .collect();
        run
    };
    let told = async |since: i64, until: i64| {
        let period = Period {
            since: at(since),
            until: at(until),
        };
        let sums = store.summaries();
        let tracked = sums.tracked_findings(&period, &[], 10).await.unwrap();
        let mut told: Vec<_> = tracked
            .listed
            .iter()
            .map(|one| format!("{} {}", one.state.as_str(), one.object))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told.len() as i64,
            tracked.counts.iter().map(|(_, _, n)| n).sum::<i64>()
        );
        told
    };
    // Nobody has looked at all of it yet.
    let first = with(1_000, Some("--set include=x"), &["x"]);
    store.close_run(&first).await.unwrap();
    assert_eq!(
        store.run(&first.id.to_string()).await.unwrap().part,
        first.part
    );
    assert_eq!(told(0, 1_500).await, ["new x"]);
    assert_eq!(
        store.last_whole_run("integrity", "app").await.unwrap(),
        None
    );
    let whole = with(2_000, None, &["a", "b"]);
    for run in [
        whole.clone(),
        with(3_000, Some("--set include=a"), &[]),
        with(4_000, Some("--set include=c"), &["c", "d"]),
        with(5_000, Some("--set include=c"), &["c", "a"]),
    ] {
        store.close_run(&run).await.unwrap();
    }
    assert_eq!(
        store
            .last_whole_run("integrity", "app")
            .await
            .unwrap()
            .map(|run| run.id),
        Some(whole.id)
    );
    assert_eq!(told(0, 2_500).await, ["new a", "new b"]);
    assert_eq!(told(0, 4_500).await, ["new a", "new b", "new c", "new d"]);
    assert_eq!(told(2_500, 6_000).await, ["new c", "open a", "open b"]);
    assert_eq!(
        told(4_500, 6_000).await,
        ["gone d", "open a", "open b", "open c"]
    );
    store.close_run(&with(7_000, None, &["b"])).await.unwrap();
    assert_eq!(told(6_000, 8_000).await, ["gone a", "gone c", "open b"]);
}

pub(super) async fn a_series_is_thinned_out(store: &dyn Store) {
    let measured = |metric: &str, object: &str, value| Measurement {
        metric: metric.into(),
        object: object.into(),
        value,
    };
    for (ms, value) in [
        (0, 1.0),
        (HOUR, 10.0),
        (HOUR + 60_000, 20.0),
        (2 * HOUR - 1, 30.0),
        (2 * HOUR, 99.0),
    ] {
        let both = [
            measured("table.bytes", "public.t", value),
            measured("table.bytes", "public.small", value / 10.0),
            measured("table.bytes", "public.Large", value * 10.0),
        ];
        store.add_measurements("app", at(ms), &both).await.unwrap();
    }
    // Outside the period there is nothing to show, whatever its value.
    let others = [
        measured("table.bytes", "public.gone", 1e9),
        measured("database.bytes", "", 7.0),
    ];
    store
        .add_measurements("app", at(HOUR - 1), &others)
        .await
        .unwrap();
    store
        .add_measurements("shop", at(HOUR + 5), &[measured("database.bytes", "", 5.0)])
        .await
        .unwrap();
    let sums = store.summaries();
    let targets = ["shop", "app", "other"].map(str::to_owned);
    let metrics = [("database.bytes", 1), ("table.bytes", 2), ("nothing", 9)];
    let series = sums.series(&targets, &metrics, &period(), 4).await.unwrap();
    let told: Vec<_> = series
        .iter()
        .map(|one| {
            (
                one.target.as_str(),
                one.object.as_str(),
                (one.first, one.last),
                &one.points[..],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("shop", "", (5.0, 5.0), &[(0, 5.0)][..]),
            (
                "app",
                "public.Large",
                (100.0, 300.0),
                &[(0, 150.0), (3, 300.0)]
            ),
            ("app", "public.t", (10.0, 30.0), &[(0, 15.0), (3, 30.0)]),
        ]
    );
    assert_eq!(sums.series(&[], &metrics, &period(), 4).await.unwrap(), []);
}
