//! What every history promises. A new implementation is one more caller of
//! [`conforms`].

use std::sync::Arc;

use chrono::{DateTime, Utc};
use maint::history::{
    Alert, Baseline, HistoryError, Letter, Notice, RunFilter, RunRecord, RunStatus, StepRecord,
    StepStatus, Store, open,
};
use maint::plan::{Measurement, Memory, PastEnd, Severity};
use serde_json::json;

use super::summaries::{
    a_finding_is_there_since_it_was_seen_again, a_part_of_a_task_hides_no_finding_of_the_rest,
    a_series_is_thinned_out, findings_are_new_open_or_gone, gains_and_troubles_are_found,
    runs_are_summed_up_by_period,
};
use super::{at, clocks, finding, id, occurrences, run, step};
use crate::support::pooler::Pooler;
use crate::support::servers::fresh_database;

#[tokio::test]
async fn memory_conforms() {
    for check in CHECKS {
        check.call(open("sqlite::memory:").await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    for (n, check) in CHECKS.iter().enumerate() {
        let path = folder.path().join(format!("{n}.db"));
        check
            .call(open(&format!("sqlite:{}", path.display())).await.unwrap())
            .await;
    }
}

for_oldest_and_newest! {
    async fn postgres_conforms(major: u32) {
        let db = fresh_database(major).await;
        for check in CHECKS {
            check.call(open(&db.url).await.unwrap()).await;
            db.execute("DROP SCHEMA maint CASCADE").await;
        }
    }
}

/// Sessions that change hands after every transaction, and few of them. The
/// pooler stays the same whatever the server's version.
#[tokio::test]
async fn postgres_behind_a_pooler_conforms() {
    let db = fresh_database(17).await;
    let pooler = Pooler::start(&db, "transaction");
    for check in CHECKS {
        check.call(open(&pooler.url).await.unwrap()).await;
        db.execute("DROP SCHEMA maint CASCADE").await;
    }
}

enum Check {
    Round,
    Steps,
    Repeats,
    Unopened,
    InterruptTask,
    InterruptHost,
    Lookup,
    List,
    Occurrences,
    Last,
    Baselines,
    Past,
    Memories,
    Measurements,
    Outbox,
    Alerts,
    Sums,
    Troubles,
    Findings,
    Parts,
    Since,
    Series,
    Claims,
    Orphans,
    Recorded,
    Schedules,
    Ahead,
    Pauses,
    Cancel,
    Forget,
}

const CHECKS: &[Check] = &[
    Check::Round,
    Check::Steps,
    Check::Repeats,
    Check::Unopened,
    Check::InterruptTask,
    Check::InterruptHost,
    Check::Lookup,
    Check::List,
    Check::Occurrences,
    Check::Last,
    Check::Baselines,
    Check::Past,
    Check::Memories,
    Check::Measurements,
    Check::Outbox,
    Check::Alerts,
    Check::Sums,
    Check::Troubles,
    Check::Findings,
    Check::Parts,
    Check::Since,
    Check::Series,
    Check::Claims,
    Check::Orphans,
    Check::Recorded,
    Check::Schedules,
    Check::Ahead,
    Check::Pauses,
    Check::Cancel,
    Check::Forget,
];

impl Check {
    /// Each check is given an empty history of its own.
    async fn call(&self, store: Arc<dyn Store>) {
        let store = &*store;
        match self {
            Check::Round => a_run_comes_back_as_it_went(store).await,
            Check::Steps => steps_open_and_close(store).await,
            Check::Repeats => every_write_may_be_repeated(store).await,
            Check::Unopened => parts_of_an_unknown_run_are_refused(store).await,
            Check::InterruptTask => runs_of_a_dead_holder_are_interrupted(store).await,
            Check::InterruptHost => runs_of_dead_processes_are_interrupted(store).await,
            Check::Lookup => a_run_is_found_by_the_beginning_of_its_id(store).await,
            Check::List => runs_are_listed_newest_first(store).await,
            Check::Occurrences => an_occurrence_ran_only_if_it_got_to_work(store).await,
            Check::Last => the_last_run_is_no_skipped_one(store).await,
            Check::Baselines => baselines_only_improve(store).await,
            Check::Past => steps_of_the_latest_runs_tell_how_long_they_took(store).await,
            Check::Memories => memories_are_replaced_by_key(store).await,
            Check::Measurements => measurements_are_read_by_object_and_time(store).await,
            Check::Outbox => letters_go_once_and_notices_are_told_once(store).await,
            Check::Alerts => alerts_keep_their_beginning(store).await,
            Check::Sums => runs_are_summed_up_by_period(store).await,
            Check::Troubles => gains_and_troubles_are_found(store).await,
            Check::Findings => findings_are_new_open_or_gone(store).await,
            Check::Parts => a_part_of_a_task_hides_no_finding_of_the_rest(store).await,
            Check::Since => a_finding_is_there_since_it_was_seen_again(store).await,
            Check::Series => a_series_is_thinned_out(store).await,
            Check::Claims => occurrences::one_gets_the_claim(store).await,
            Check::Orphans => occurrences::a_dead_owner_is_followed(store).await,
            Check::Recorded => occurrences::what_did_not_run_is_recorded_once(store).await,
            Check::Schedules => occurrences::a_changed_schedule_is_known_anew(store).await,
            Check::Ahead => clocks::times_ahead_are_set_back(store).await,
            Check::Pauses => occurrences::pauses_last_until_resumed(store).await,
            Check::Cancel => occurrences::only_what_runs_is_cancelled(store).await,
            Check::Forget => occurrences::old_things_are_forgotten_in_batches(store).await,
        }
        store.close().await;
    }
}

fn finished(mut run: RunRecord, status: RunStatus) -> RunRecord {
    run.status = status;
    run.finished_at = Some(run.started_at + chrono::TimeDelta::milliseconds(2_500));
    run.duration_ms = 2_500;
    run
}

async fn put(store: &dyn Store, run: RunRecord) -> RunRecord {
    store.close_run(&run).await.unwrap();
    run
}

async fn a_run_comes_back_as_it_went(store: &dyn Store) {
    let mut run = run("reindex", 0);
    store.open_run(&run).await.unwrap();
    assert_eq!(store.run("last").await.unwrap(), run);

    run = finished(run, RunStatus::Partial);
    run.rows = i64::MAX;
    run.bytes_before = 3000;
    run.bytes_after = -1;
    run.error = Some("línea 1\n\u{1b}[31m行".into());
    run.steps = vec![step(1, StepStatus::Succeeded), step(2, StepStatus::Failed)];
    run.steps[1].error = Some("lock timeout".into());
    run.steps[1].rows = None;
    run.steps[1].started_at = None;
    run.findings = vec![
        finding(Severity::Critical, "a"),
        finding(Severity::Info, "b"),
    ];
    store.close_run(&run).await.unwrap();
    assert_eq!(store.run("last").await.unwrap(), run);
}

async fn steps_open_and_close(store: &dyn Store) {
    let run = run("reindex", 0);
    store.open_run(&run).await.unwrap();
    let opened = StepRecord {
        bytes_after: None,
        ..step(1, StepStatus::Running)
    };
    store.open_step(run.id, &opened).await.unwrap();
    assert_eq!(store.run("last").await.unwrap().steps, [opened]);
    let closed = step(1, StepStatus::Succeeded);
    store.close_step(run.id, &closed).await.unwrap();
    let never_opened = step(2, StepStatus::Deferred);
    store.close_step(run.id, &never_opened).await.unwrap();
    assert_eq!(
        store.run("last").await.unwrap().steps,
        [closed, never_opened]
    );
}

async fn every_write_may_be_repeated(store: &dyn Store) {
    let opened = run("reindex", 0);
    let mut closed = finished(opened.clone(), RunStatus::Succeeded);
    closed.steps = vec![step(1, StepStatus::Succeeded)];
    closed.findings = vec![finding(Severity::Info, "a"), finding(Severity::Info, "b")];
    for _ in 0..2 {
        store.open_run(&opened).await.unwrap();
        store
            .open_step(opened.id, &step(1, StepStatus::Running))
            .await
            .unwrap();
        store
            .close_step(opened.id, &step(1, StepStatus::Succeeded))
            .await
            .unwrap();
        store
            .add_findings(opened.id, &closed.findings)
            .await
            .unwrap();
        store.close_run(&closed).await.unwrap();
        assert_eq!(store.run("last").await.unwrap(), closed);
    }
}

async fn parts_of_an_unknown_run_are_refused(store: &dyn Store) {
    let unknown = id(0, 9);
    let step = step(1, StepStatus::Running);
    for refused in [
        store.open_step(unknown, &step).await,
        store.close_step(unknown, &step).await,
        store
            .add_findings(unknown, &[finding(Severity::Info, "a")])
            .await,
        store.add_findings(unknown, &[]).await,
    ] {
        assert!(
            matches!(refused, Err(HistoryError::NotOpened { run }) if run == unknown),
            "{refused:?}"
        );
    }
}

async fn runs_of_a_dead_holder_are_interrupted(store: &dyn Store) {
    let dead = run("reindex", 0);
    store.open_run(&dead).await.unwrap();
    store
        .close_step(dead.id, &step(1, StepStatus::Succeeded))
        .await
        .unwrap();
    let unmeasured = StepRecord {
        bytes_after: None,
        rows: None,
        ..step(2, StepStatus::Running)
    };
    store.open_step(dead.id, &unmeasured).await.unwrap();
    let counted = StepRecord {
        seq: 3,
        rows: Some(5),
        ..unmeasured.clone()
    };
    store.open_step(dead.id, &counted).await.unwrap();
    let other_task = run("vacuum", 1);
    store.open_run(&other_task).await.unwrap();
    let other_target = RunRecord {
        target: "other".into(),
        ..run("reindex", 2)
    };
    store.open_run(&other_target).await.unwrap();
    let over = put(store, finished(run("reindex", 3), RunStatus::Succeeded)).await;

    let closed = store
        .interrupt_running("reindex", "app", at(90_000_000))
        .await
        .unwrap();
    assert_eq!(closed.len(), 1);
    let closed = &closed[0];
    assert_eq!(
        (closed.id, closed.status),
        (dead.id, RunStatus::Interrupted)
    );
    assert_eq!(closed.finished_at, Some(at(90_000_000)));
    assert_eq!(
        closed.duration_ms, 2_500,
        "the last sign of life is the second step"
    );
    assert_eq!(
        (closed.rows, closed.bytes_before, closed.bytes_after),
        (6, 1000, 400)
    );
    assert_eq!(closed.error.as_deref(), Some("the process died"));
    assert_eq!(closed.steps[0], step(1, StepStatus::Succeeded));
    assert_eq!(closed.steps[1].status, StepStatus::Cancelled);
    assert_eq!(closed.steps[1].error.as_deref(), Some("the process died"));
    let why = closed.steps[2].error.as_deref().unwrap();
    assert!(why.ends_with("and there may be more"), "{why}");
    assert_eq!(&store.run(&dead.id.to_string()).await.unwrap(), closed);

    for untouched in [other_task, other_target, over] {
        assert_eq!(
            store.run(&untouched.id.to_string()).await.unwrap(),
            untouched
        );
    }
    assert_eq!(
        store
            .interrupt_running("reindex", "app", at(0))
            .await
            .unwrap(),
        []
    );
}

async fn runs_of_dead_processes_are_interrupted(store: &dyn Store) {
    let alive = |run: &RunRecord| match run.pid {
        1 => Some(true),
        2 => Some(false),
        _ => None,
    };
    let of = |pid: i64, n: i64| RunRecord {
        pid,
        process: Some(format!("process {pid}")),
        ..run("reindex", n)
    };
    let (ours, dead, unknown) = (of(1, 0), of(2, 1), of(3, 2));
    for run in [&ours, &dead, &unknown] {
        store.open_run(run).await.unwrap();
    }
    let told = store.dead(&alive).await.unwrap();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0]
            .error
            .as_deref()
            .unwrap()
            .contains("process is gone")
    );
    let closed = store.interrupt_dead(&alive, at(5_000)).await.unwrap();
    assert_eq!(
        closed.iter().map(|run| run.id).collect::<Vec<_>>(),
        [dead.id]
    );
    assert_eq!(closed[0].error.as_deref(), Some("the process died"));
    assert_eq!(
        closed[0].duration_ms, 12,
        "only the inspection is known to have run"
    );
    // Whoever says it is believed for a while: nobody else is asked.
    store.believe(&[unknown.id, dead.id]).await.unwrap();
    assert_eq!(store.dead(&alive).await.unwrap(), []);
    for untouched in [ours, unknown] {
        assert_eq!(
            store.run(&untouched.id.to_string()).await.unwrap(),
            untouched
        );
    }
}

async fn a_run_is_found_by_the_beginning_of_its_id(store: &dyn Store) {
    assert!(matches!(store.run("last").await, Err(HistoryError::NoRuns)));
    let unknown = store.run("0123").await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "no run has an id beginning with `0123`"
    );

    let first = put(store, finished(run("reindex", 0), RunStatus::Succeeded)).await;
    let twin = RunRecord {
        id: id(0, 2),
        ..finished(run("vacuum", 0), RunStatus::Failed)
    };
    let twin = put(store, twin).await;
    let later = put(
        store,
        finished(run("analyze", 70_000), RunStatus::Succeeded),
    )
    .await;

    assert_eq!(store.run("last").await.unwrap(), later);
    for spelled in [
        first.id.to_string(),
        first.id.simple().to_string(),
        first.id.to_string().to_uppercase(),
    ] {
        assert_eq!(store.run(&spelled).await.unwrap(), first, "{spelled}");
    }
    assert_eq!(store.run(&later.id.to_string()[..13]).await.unwrap(), later);

    let ambiguous = store
        .run(&first.id.simple().to_string()[..12])
        .await
        .unwrap_err();
    let HistoryError::AmbiguousRun { candidates, .. } = &ambiguous else {
        panic!("{ambiguous:?}")
    };
    assert_eq!(
        candidates.iter().map(|one| one.id).collect::<Vec<_>>(),
        [twin.id, first.id]
    );
    let listed = format!(
        "  {}  2026-03-01 03:00:00 UTC  vacuum on app  failed",
        twin.id
    );
    assert_eq!(ambiguous.to_string().lines().nth(1), Some(listed.as_str()));
    for nonsense in ["ffff", "", "lust", "%", "'; DROP TABLE runs"] {
        let error = store.run(nonsense).await.unwrap_err();
        let HistoryError::UnknownRun { latest, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(latest[0].id, later.id);
    }
    let listed = store.runs(&RunFilter::default()).await.unwrap();
    for summary in listed {
        assert_eq!(
            store.run(&summary.short_id).await.unwrap().id,
            summary.id,
            "{}",
            summary.short_id
        );
        assert!(summary.short_id.len() >= 13);
    }
}

async fn runs_are_listed_newest_first(store: &dyn Store) {
    let first = put(store, finished(run("reindex", 0), RunStatus::Succeeded)).await;
    let mut second = finished(run("vacuum", 1_000), RunStatus::Partial);
    second.steps = vec![
        step(1, StepStatus::Succeeded),
        step(2, StepStatus::Failed),
        step(3, StepStatus::Failed),
        step(4, StepStatus::Deferred),
    ];
    second.findings = vec![
        finding(Severity::Critical, "a"),
        finding(Severity::Info, "b"),
        finding(Severity::Info, "c"),
    ];
    let second = put(store, second).await;
    let third = put(
        store,
        RunRecord {
            target: "other".into(),
            ..finished(run("reindex", 2_000), RunStatus::Failed)
        },
    )
    .await;

    let all = store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(
        all.iter().map(|run| run.id).collect::<Vec<_>>(),
        [third.id, second.id, first.id]
    );
    let summary = &all[1];
    assert_eq!(
        (summary.steps, summary.succeeded, summary.failed),
        (4, 1, 2)
    );
    assert_eq!(
        (
            summary.findings.critical,
            summary.findings.warning,
            summary.findings.info
        ),
        (1, 0, 2)
    );
    assert_eq!(
        (summary.task.as_str(), summary.duration_ms, summary.status),
        ("vacuum", 2_500, RunStatus::Partial)
    );

    let task = |task: &str| RunFilter {
        task: Some(task.into()),
        ..RunFilter::default()
    };
    for (filter, expected) in [
        (task("reindex"), vec![third.id, first.id]),
        (task("nope"), vec![]),
        (
            RunFilter {
                after: Some((third.started_at, third.id)),
                limit: Some(1),
                ..RunFilter::default()
            },
            vec![second.id],
        ),
        (
            RunFilter {
                target: Some("app".into()),
                ..task("reindex")
            },
            vec![first.id],
        ),
        (
            RunFilter {
                target: Some("other".into()),
                ..RunFilter::default()
            },
            vec![third.id],
        ),
        (
            RunFilter {
                statuses: vec![RunStatus::Failed, RunStatus::Partial],
                ..RunFilter::default()
            },
            vec![third.id, second.id],
        ),
        (
            RunFilter {
                since: Some(at(1_000)),
                until: Some(at(2_000)),
                ..RunFilter::default()
            },
            vec![second.id],
        ),
        (
            RunFilter {
                limit: Some(2),
                ..RunFilter::default()
            },
            vec![third.id, second.id],
        ),
        (
            RunFilter {
                limit: Some(0),
                ..RunFilter::default()
            },
            vec![],
        ),
    ] {
        let found = store.runs(&filter).await.unwrap();
        assert_eq!(
            found.iter().map(|run| run.id).collect::<Vec<_>>(),
            expected,
            "{filter:?}"
        );
    }
}

async fn an_occurrence_ran_only_if_it_got_to_work(store: &dyn Store) {
    let ask = async || {
        store
            .occurrence("reindex", "app", at(0), None)
            .await
            .unwrap()
            .map(|run| run.id)
    };
    assert_eq!(ask().await, None);
    put(store, finished(run("reindex", 1), RunStatus::Skipped)).await;
    put(store, finished(run("reindex", 2), RunStatus::Failed)).await;
    put(
        store,
        RunRecord {
            scheduled_for: None,
            ..finished(run("reindex", 3), RunStatus::Succeeded)
        },
    )
    .await;
    put(
        store,
        RunRecord {
            scheduled_for: Some(at(1)),
            ..finished(run("reindex", 4), RunStatus::Succeeded)
        },
    )
    .await;
    put(store, finished(run("vacuum", 5), RunStatus::Succeeded)).await;
    assert_eq!(ask().await, None);

    let tried = RunRecord {
        steps: vec![step(1, StepStatus::Failed)],
        ..finished(run("reindex", 6), RunStatus::Failed)
    };
    put(store, tried.clone()).await;
    assert_eq!(ask().await, Some(tried.id));
    for (ms, status) in [
        (7, RunStatus::Interrupted),
        (8, RunStatus::Succeeded),
        (9, RunStatus::Running),
    ] {
        let newer = put(
            store,
            RunRecord {
                status,
                ..run("reindex", ms)
            },
        )
        .await;
        assert_eq!(ask().await, Some(newer.id));
    }
    // Of several schedules that have it at that time, each has a run of its own.
    let of_one = RunRecord {
        schedule: Some("one".into()),
        ..finished(run("analyze", 10), RunStatus::Succeeded)
    };
    put(store, of_one.clone()).await;
    let of = async |schedule: Option<&'static str>| {
        let found = store.occurrence("analyze", "app", at(0), schedule).await;
        found.unwrap().map(|run| run.id)
    };
    assert_eq!(of(Some("one")).await, Some(of_one.id));
    assert_eq!(of(None).await, Some(of_one.id));
    assert_eq!(of(Some("another")).await, None);
}

async fn the_last_run_is_no_skipped_one(store: &dyn Store) {
    assert_eq!(store.last_run("reindex", "app").await.unwrap(), None);
    assert_eq!(store.last_run_id("reindex", "app").await.unwrap(), None);
    let mut expected = finished(run("reindex", 0), RunStatus::Incomplete);
    expected.steps = vec![step(1, StepStatus::Deferred)];
    put(store, expected.clone()).await;
    put(store, finished(run("reindex", 1), RunStatus::Skipped)).await;
    put(store, finished(run("vacuum", 2), RunStatus::Succeeded)).await;
    let id = store.last_run_id("reindex", "app").await.unwrap();
    assert_eq!(id, Some(expected.id));
    assert_eq!(
        store.last_run("reindex", "app").await.unwrap(),
        Some(expected)
    );
}

async fn steps_of_the_latest_runs_tell_how_long_they_took(store: &dyn Store) {
    for (n, kind, target) in [
        (1, "reindex", "app"),
        (2, "vacuum", "app"),
        (3, "reindex", "other"),
        (4, "reindex", "app"),
    ] {
        let mut of = run("nightly", n * 1_000);
        (of.kind, of.target) = (kind.into(), target.into());
        of.steps = vec![
            step(1, StepStatus::Succeeded),
            step(2, StepStatus::Deferred),
            StepRecord {
                cut_off: false,
                planned_bytes: None,
                ..step(3, StepStatus::Deferred)
            },
            step(4, StepStatus::Failed),
        ];
        of.steps[0].duration_ms = n;
        put(store, of).await;
    }
    let past = store.past_steps("app", "reindex").await.unwrap();
    let ends: Vec<PastEnd> = past.iter().map(|one| one.end).collect();
    let one = [
        PastEnd::Done,
        PastEnd::CutOff,
        PastEnd::Left,
        PastEnd::CutOff,
    ];
    assert_eq!(ends, [one, one].concat());
    assert_eq!(
        (past[0].duration_ms, past[4].duration_ms),
        (4, 1),
        "newest first"
    );
    assert_eq!(past[0].predicted_ms, Some(4_000));
    assert_eq!((past[0].bytes, past[2].bytes), (Some(1_001), Some(1_000)));
    assert_eq!(past[0].rows, Some(1));
    assert_eq!(
        (past[0].task.as_str(), past[0].action.as_str()),
        ("nightly", "reindex")
    );
}

async fn baselines_only_improve(store: &dyn Store) {
    let seen = |bytes, tuples, rebuilt| Baseline {
        object: "public.i".into(),
        bytes,
        tuples,
        learned_at: at(bytes),
        rebuilt,
        made_as: None,
    };
    let known = async || store.baselines("app").await.unwrap().remove("public.i");
    assert_eq!(known().await, None);
    let steps = [
        (
            seen(8192, 0.0, false),
            true,
            "the first is better than none",
        ),
        (seen(2000, 100.0, false), true, "an empty one gives way"),
        (seen(2100, 100.0, false), false, "observed and worse"),
        (seen(2000, 100.0, false), false, "observed and equal"),
        (
            seen(3000, 200.0, false),
            true,
            "observed and better, though larger",
        ),
        (seen(9000, 100.0, true), true, "rebuilt, though worse"),
        (
            seen(8000, 100.0, false),
            true,
            "observed and better than rebuilt",
        ),
        (seen(1, f64::NAN, true), false, "no count"),
        (seen(1, -1.0, true), false, "unknown to the server"),
    ];
    let mut expected = None;
    for (offered, taken, why) in steps {
        store.learn("app", &offered).await.unwrap();
        if taken {
            expected = Some(offered);
        }
        assert_eq!(known().await, expected, "{why}");
    }
    store.learn("other", &seen(5, 5.0, true)).await.unwrap();
    assert_eq!(known().await, expected, "targets do not mix");
    let made = |bytes, made_as: &str| Baseline {
        made_as: Some(made_as.into()),
        ..seen(bytes, 100.0, false)
    };
    for (offered, taken, why) in [
        (made(9500, "a"), false, "worse than what nobody knows of"),
        (made(7000, "a"), true, "better"),
        (made(7500, "a"), false, "worse than the same one"),
        (
            made(9900, "b"),
            true,
            "another object of its name, though worse",
        ),
    ] {
        store.learn("app", &offered).await.unwrap();
        if taken {
            expected = Some(offered);
        }
        assert_eq!(known().await, expected, "{why}");
    }
}

async fn memories_are_replaced_by_key(store: &dyn Store) {
    let memory = |key: &str, value| Memory {
        key: key.into(),
        value,
    };
    assert_eq!(store.memories("app", "vacuum").await.unwrap().len(), 0);
    let odd = json!({ "z": 1, "a": ["\u{0}", "é", null, 1.5] });
    let first = [memory("a", json!(1)), memory("b", odd.clone())];
    store
        .remember("app", "vacuum", at(0), &first)
        .await
        .unwrap();
    store
        .remember("app", "vacuum", at(1), &[memory("a", json!("two"))])
        .await
        .unwrap();
    store
        .remember("app", "reindex", at(1), &[memory("a", json!(3))])
        .await
        .unwrap();
    let known = store.memories("app", "vacuum").await.unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!((&known["a"], &known["b"]), (&json!("two"), &odd));
    assert_eq!(store.memories("other", "vacuum").await.unwrap().len(), 0);
    store
        .remember("b", "vacuum", at(1), &[memory("a", json!(1))])
        .await
        .unwrap();
    assert_eq!(store.remembered("vacuum").await.unwrap(), ["app", "b"]);
    assert!(store.remembered("cleanup").await.unwrap().is_empty());
}

async fn measurements_are_read_by_object_and_time(store: &dyn Store) {
    let one = |metric: &str, object: &str, value| Measurement {
        metric: metric.into(),
        object: object.into(),
        value,
    };
    for (ms, value) in [(0, 1.0), (1_000, 2.0), (2_000, 3.5)] {
        let values = [
            one("size", "public.b", value),
            one("size", "public.a", -value),
            one("size", "public.c", f64::NAN),
            one("rows", "public.a", 7.0),
        ];
        store
            .add_measurements("app", at(ms), &values)
            .await
            .unwrap();
        // Once more: the same moment is the same measurement.
        store
            .add_measurements("app", at(ms), &values)
            .await
            .unwrap();
    }
    let read = store.measurements("app", "size", at(1_000)).await.unwrap();
    let read: Vec<(&str, DateTime<Utc>, f64)> = read
        .iter()
        .map(|one| {
            (
                one.measurement.object.as_str(),
                one.at,
                one.measurement.value,
            )
        })
        .collect();
    assert_eq!(
        read,
        [
            ("public.a", at(1_000), -2.0),
            ("public.a", at(2_000), -3.5),
            ("public.b", at(1_000), 2.0),
            ("public.b", at(2_000), 3.5),
        ]
    );
    assert_eq!(store.measurements("x", "size", at(0)).await.unwrap(), []);
}

async fn letters_go_once_and_notices_are_told_once(store: &dyn Store) {
    let notice = |ms: i64| Notice {
        id: id(ms, 1),
        at: at(ms),
        event: "failed".into(),
        task: "reindex".into(),
        target: "app".into(),
        schedule: (ms > 0).then(|| "nightly".into()),
        run: (ms > 0).then(|| id(0, 7)),
        text: "línea 行".into(),
    };
    let notices = [notice(0), notice(5)];
    for _ in 0..2 {
        store.add_notices(&notices).await.unwrap();
    }
    assert_eq!(store.pending_notices().await.unwrap(), notices);
    let letter = |n: u64, ms: i64| Letter {
        id: id(ms, n),
        created_at: at(ms),
        channel: "webhook".into(),
        body: json!({ "z": 1, "a": "é" }),
        attempts: 0,
        next_attempt_at: at(ms),
        last_error: None,
    };
    let letters = [letter(1, 10), letter(2, 20), letter(3, 30)];
    let told = [notices[0].id, notices[1].id];
    assert!(store.post(&told, &letters).await.unwrap());
    assert!(
        !store.post(&told[1..], &[letter(9, 40)]).await.unwrap(),
        "somebody was faster"
    );
    assert_eq!(store.pending_notices().await.unwrap(), []);
    assert_eq!(store.letters_since("webhook", at(20)).await.unwrap(), 2);
    assert_eq!(store.letters_since("email", at(0)).await.unwrap(), 0);

    let claim = async |now, until| store.claim_letter(at(now), at(until)).await.unwrap();
    assert_eq!(claim(5, 100).await, None, "none is due");
    let first = claim(25, 100).await.unwrap();
    assert_eq!(
        first,
        Letter {
            attempts: 1,
            next_attempt_at: at(100),
            ..letters[0].clone()
        }
    );
    let second = claim(25, 100).await.unwrap();
    assert_eq!(second.id, letters[1].id);
    assert_eq!(claim(25, 100).await, None, "both are taken");
    store.letter_sent(first.id, at(26)).await.unwrap();
    store
        .letter_later(second.id, at(50), "try again")
        .await
        .unwrap();
    let third = claim(50, 200).await.unwrap();
    assert_eq!(third.id, letters[2].id);
    store
        .letter_given_up(third.id, at(51), "no such address")
        .await
        .unwrap();
    let again = claim(60, 200).await.unwrap();
    assert_eq!(
        (again.id, again.attempts, again.last_error.as_deref()),
        (letters[1].id, 2, Some("try again"))
    );
    assert_eq!(claim(150, 200).await, None);
}

async fn alerts_keep_their_beginning(store: &dyn Store) {
    let alert = |task: &str, ms| Alert {
        task: task.into(),
        target: "app".into(),
        since: at(ms),
        escalated_at: None,
    };
    store.put_alert(&alert("b", 5)).await.unwrap();
    store.put_alert(&alert("a", 9)).await.unwrap();
    let escalated = Alert {
        escalated_at: Some(at(50)),
        ..alert("b", 40)
    };
    store.put_alert(&escalated).await.unwrap();
    let kept = Alert {
        since: at(5),
        ..escalated
    };
    assert_eq!(store.alerts().await.unwrap(), [kept, alert("a", 9)]);
    assert!(store.clear_alert("b", "app").await.unwrap());
    assert!(!store.clear_alert("b", "app").await.unwrap());
    assert_eq!(store.alerts().await.unwrap(), [alert("a", 9)]);
}
