//! What every history promises about occurrences, pauses and requests to stop.

use std::time::Duration;

use maint::history::{
    Claim, Ended, Notice, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause, RunFilter,
    RunRecord, RunStatus, StepStatus, Store,
};
use maint::plan::Measurement;

use super::{at, id, run, step};
use crate::support::patience::Patience;

const HOUR: Duration = Duration::from_secs(3600);

fn claim(schedule: &str, ms: i64, owner: &str, lease: Duration) -> Claim {
    Claim {
        schedule: schedule.into(),
        scheduled_for: at(ms),
        catch_up: false,
        owner: owner.into(),
        lease,
        now: at(60_000),
    }
}

fn ended(status: OccurrenceStatus) -> Ended {
    Ended {
        status,
        succeeded: Some(true),
        reason: None,
        runs: vec![id(1, 1), id(2, 2)],
    }
}

fn missed(schedule: &str, ms: i64) -> Occurrence {
    Occurrence {
        schedule: schedule.into(),
        scheduled_for: at(ms),
        status: OccurrenceStatus::Missed,
        catch_up: false,
        claimed_by: None,
        lease_until: None,
        claims: 0,
        recorded_at: at(50_000),
        finished_at: Some(at(50_000)),
        succeeded: None,
        reason: Some("nobody was there".into()),
        runs: vec![],
    }
}

async fn all(store: &dyn Store) -> Vec<Occurrence> {
    store
        .occurrences(&OccurrenceFilter::default())
        .await
        .unwrap()
}

pub(super) async fn one_gets_the_claim(store: &dyn Store) {
    let wishes: Vec<Claim> = (0..8)
        .map(|n| claim("nightly", 0, &format!("owner {n}"), HOUR))
        .collect();
    let claimed =
        futures_util::future::join_all(wishes.iter().map(|wish| store.claim_occurrence(wish)))
            .await
            .into_iter()
            .filter_map(Result::unwrap)
            .collect::<Vec<_>>();
    assert_eq!(claimed.len(), 1);
    let won = wishes
        .iter()
        .find(|wish| Some(&wish.owner) == claimed[0].claimed_by.as_ref())
        .unwrap();
    let lost = wishes.iter().find(|wish| wish.owner != won.owner).unwrap();
    assert_eq!(claimed[0].status, OccurrenceStatus::Running);
    assert_eq!((claimed[0].claims, claimed[0].scheduled_for), (1, at(0)));
    assert_eq!(store.orphaned_occurrences().await.unwrap(), []);

    assert!(store.renew_occurrence(won).await.unwrap());
    assert!(!store.renew_occurrence(lost).await.unwrap());
    store.release_occurrence(lost).await.unwrap();
    let ending = ended(OccurrenceStatus::Ran);
    assert!(!store.finish_occurrence(lost, &ending).await.unwrap());
    assert!(store.finish_occurrence(won, &ending).await.unwrap());
    assert!(!store.finish_occurrence(won, &ending).await.unwrap());
    assert!(!store.renew_occurrence(won).await.unwrap());
    assert_eq!(store.claim_occurrence(lost).await.unwrap(), None, "over");
    let known = all(store).await;
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].status, known[0].succeeded, &known[0].runs),
        (OccurrenceStatus::Ran, Some(true), &ending.runs)
    );
    assert!(known[0].finished_at.is_some() && known[0].lease_until.is_none());

    let back = claim("nightly", 1_000, "owner 1", HOUR);
    assert!(store.claim_occurrence(&back).await.unwrap().is_some());
    store.release_occurrence(&back).await.unwrap();
    let other = claim("nightly", 1_000, "owner 2", HOUR);
    let again = store.claim_occurrence(&other).await.unwrap().unwrap();
    assert_eq!(again.claims, 1);
}

pub(super) async fn a_dead_owner_is_followed(store: &dyn Store) {
    let dead = claim("nightly", 0, "dead", Duration::from_millis(1));
    let first = store.claim_occurrence(&dead).await.unwrap().unwrap();
    let heir = claim("nightly", 0, "heir", HOUR);
    let patience = Patience::until("the lease to run out");
    let taken = loop {
        // Until the lease has run out, however slow or fast the clock is.
        if let Some(taken) = store.claim_occurrence(&heir).await.unwrap() {
            break taken;
        }
        patience.pause().await;
    };
    assert_eq!(
        (taken.claims, taken.claimed_by.as_deref(), taken.recorded_at),
        (2, Some("heir"), first.recorded_at)
    );
    assert!(!store.renew_occurrence(&dead).await.unwrap());
    let ending = ended(OccurrenceStatus::Ran);
    assert!(!store.finish_occurrence(&dead, &ending).await.unwrap());
    let short = claim("other", 5, "short", Duration::from_millis(1));
    store.claim_occurrence(&short).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let orphaned = store.orphaned_occurrences().await.unwrap();
    assert_eq!(orphaned.len(), 1);
    assert_eq!(orphaned[0].schedule, "other");
}

pub(super) async fn what_did_not_run_is_recorded_once(store: &dyn Store) {
    store
        .claim_occurrence(&claim("a", 2_000, "me", HOUR))
        .await
        .unwrap();
    let rows = [missed("a", 1_000), missed("a", 2_000), missed("b", 1_000)];
    let new = store.record_occurrences(&rows).await.unwrap();
    assert_eq!(new, [rows[0].clone(), rows[2].clone()], "one is claimed");
    assert_eq!(store.record_occurrences(&rows).await.unwrap(), []);
    let known = all(store).await;
    assert_eq!(
        known
            .iter()
            .map(|one| (one.schedule.as_str(), one.scheduled_for))
            .collect::<Vec<_>>(),
        [("a", at(2_000)), ("a", at(1_000)), ("b", at(1_000))]
    );
    assert_eq!(known[1], rows[0]);
    let filter = OccurrenceFilter {
        schedule: Some("a".into()),
        statuses: vec![OccurrenceStatus::Missed, OccurrenceStatus::Ran],
        since: Some(at(1_000)),
        until: Some(at(1_999)),
        limit: Some(5),
    };
    assert_eq!(store.occurrences(&filter).await.unwrap(), [rows[0].clone()]);
    let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let newest = store
        .newest_occurrences(&names, at(1_999), at(60_000))
        .await
        .unwrap();
    assert_eq!(newest.len(), 2);
    assert_eq!(newest["a"], rows[0]);
    let newest = store
        .newest_occurrences(&names, at(2_000), at(9_000_000_000_000))
        .await
        .unwrap();
    assert_eq!(newest["a"].scheduled_for, at(2_000));
    assert_eq!(newest["b"], rows[2]);

    // Recorded by a clock that was ahead, it is recorded anew, once.
    let anew = Occurrence {
        recorded_at: at(40_000),
        finished_at: Some(at(40_000)),
        status: OccurrenceStatus::Skipped,
        ..missed("b", 1_000)
    };
    let told = store.record_occurrences(std::slice::from_ref(&anew));
    assert_eq!(told.await.unwrap(), std::slice::from_ref(&anew));
    let told = store.record_occurrences(std::slice::from_ref(&anew));
    assert_eq!(told.await.unwrap(), []);
    assert_eq!(all(store).await[2], anew);

    // Recorded by a clock that was ahead: it neither counts nor stands in the way.
    let before = store
        .newest_occurrences(&names, at(2_000), at(39_999))
        .await
        .unwrap();
    assert_eq!(before.get("b"), None);
    let early = Claim {
        now: at(1_000),
        ..claim("b", 1_000, "me", HOUR)
    };
    let late = claim("b", 1_000, "me", HOUR);
    assert_eq!(store.claim_occurrence(&late).await.unwrap(), None);
    let claimed = store.claim_occurrence(&early).await.unwrap().unwrap();
    assert_eq!(claimed.status, OccurrenceStatus::Running);
}

pub(super) async fn a_changed_schedule_is_known_anew(store: &dyn Store) {
    let one = |definition: &str| ("nightly".to_owned(), definition.to_owned());
    let know = async |definition: &str, ms| {
        store
            .know_schedules(&[one(definition), ("z".into(), "z".into())], at(ms))
            .await
            .unwrap()
    };
    assert_eq!(know("0 2 * * *", 0).await["nightly"], at(0));
    assert_eq!(know("0 2 * * *", 5).await["nightly"], at(0));
    let changed = know("0 3 * * *", 9).await;
    assert_eq!((changed["nightly"], changed["z"]), (at(9), at(0)));
    assert_eq!(store.know_schedules(&[], at(10)).await.unwrap().len(), 0);
}

pub(super) async fn pauses_last_until_resumed(store: &dyn Store) {
    let mut pause = Pause {
        schedule: "nightly".into(),
        since: at(0),
        until: None,
        by: "dba".into(),
    };
    store.pause_schedule(&pause).await.unwrap();
    assert_eq!(store.pauses().await.unwrap(), [pause.clone()]);
    pause.until = Some(at(7));
    store.pause_schedule(&pause).await.unwrap();
    assert_eq!(store.pauses().await.unwrap(), [pause]);
    assert!(store.resume_schedule("nightly").await.unwrap());
    assert!(!store.resume_schedule("nightly").await.unwrap());
    assert_eq!(store.pauses().await.unwrap(), []);
}

pub(super) async fn only_what_runs_is_cancelled(store: &dyn Store) {
    let running = run("reindex", 0);
    store.open_run(&running).await.unwrap();
    assert_eq!(store.cancel_asked(running.id).await.unwrap(), None);
    for by in ["dba", "somebody else"] {
        assert!(store.ask_to_cancel(running.id, by, at(1)).await.unwrap());
        let asked = store.cancel_asked(running.id).await.unwrap();
        assert_eq!(asked.as_deref(), Some("dba"), "the first one");
    }
    let over = RunRecord {
        status: RunStatus::Succeeded,
        finished_at: Some(at(9)),
        ..running
    };
    store.close_run(&over).await.unwrap();
    assert!(!store.ask_to_cancel(over.id, "dba", at(10)).await.unwrap());
    assert!(!store.ask_to_cancel(id(5, 5), "dba", at(1)).await.unwrap());
    assert_eq!(store.cancel_asked(id(5, 5)).await.unwrap(), None);
    assert_eq!(
        store.last_successes().await.unwrap(),
        [("reindex".to_owned(), "app".to_owned(), at(9))]
    );
}

pub(super) async fn old_things_are_forgotten_in_batches(store: &dyn Store) {
    for ms in 0..5 {
        let over = RunRecord {
            status: RunStatus::Failed,
            finished_at: Some(at(ms)),
            steps: vec![step(1, StepStatus::Failed)],
            ..run("reindex", ms)
        };
        store.close_run(&over).await.unwrap();
        store
            .record_occurrences(&[missed("nightly", ms)])
            .await
            .unwrap();
        let size = Measurement {
            metric: "size".into(),
            object: "t".into(),
            value: 1.0,
        };
        store
            .add_measurements("app", at(ms), &[size])
            .await
            .unwrap();
    }
    let running = RunRecord {
        id: id(0, 77),
        ..run("vacuum", 0)
    };
    store.open_run(&running).await.unwrap();
    let notice = Notice {
        id: id(0, 1),
        at: at(0),
        event: "failed".into(),
        task: "reindex".into(),
        target: "app".into(),
        schedule: None,
        run: None,
        text: "not told yet".into(),
    };
    store
        .add_notices(std::slice::from_ref(&notice))
        .await
        .unwrap();

    let mut calls = Vec::new();
    loop {
        let removed = store.forget(at(4), 2).await.unwrap();
        calls.push(removed);
        if removed == 0 {
            break;
        }
    }
    assert_eq!(calls, [6, 6, 0], "four of each of three sorts");
    let left = store.runs(&RunFilter::default()).await.unwrap();
    let left: Vec<_> = left.iter().map(|run| run.id).collect();
    assert_eq!(left, [id(4, 1), running.id]);
    assert_eq!(all(store).await, [missed("nightly", 4)]);
    let sizes = store.measurements("app", "size", at(0)).await.unwrap();
    assert_eq!(sizes.len(), 1);
    assert_eq!(store.pending_notices().await.unwrap(), [notice]);
}
