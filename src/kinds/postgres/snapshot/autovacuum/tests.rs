use chrono::TimeZone;

use super::*;

fn table(live: i64, dead: i64, threshold: f64) -> Care {
    Care {
        name: RelationName::new("app", "t"),
        live,
        dead,
        threshold,
        enabled: true,
        cost_limit: 200,
        at_work: false,
        last: Some(Utc.with_ymd_and_hms(2026, 3, 1, 3, 30, 0).unwrap()),
        vacuumed: Some(Utc.with_ymd_and_hms(2026, 3, 1, 3, 30, 0).unwrap()),
        score: None,
    }
}

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap()
}

/// What is said of tables that were late already at six o'clock.
fn told(tables: Vec<Care>, workers: (i64, i64), holders: Vec<Holder>) -> Vec<(String, String)> {
    let mut plan = Plan::default();
    let all = Autovacuum {
        tables,
        workers,
        holders,
        off: false,
        naptime: 60,
    };
    let before = BTreeMap::from([("app.t".to_owned(), noon() - TimeDelta::hours(6))]);
    all.judged(
        &Snapshot::default(),
        noon(),
        &before,
        &mut BTreeMap::new(),
        &mut plan,
    );
    let said = plan.findings.into_iter();
    said.map(|f| (f.code, f.suggestion.unwrap())).collect()
}

#[test]
fn each_table_gets_the_setting_that_would_help_it() {
    let one = |table: Care, workers| told(vec![table], workers, Vec::new());
    let is = |code: &str, help: &str| vec![(code.to_owned(), help.to_owned())];
    assert_eq!(
        one(table(1_000_000, 150_000, 200_050.0), (0, 3)),
        is(
            "autovacuum.rare",
            "ALTER TABLE app.t SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000)"
        )
    );
    assert_eq!(
        one(table(90_000_000, 12_000_000, 18_000_050.0), (0, 3)),
        is(
            "autovacuum.rare",
            "ALTER TABLE app.t SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000)"
        )
    );
    // A thousand rows are all there are, or more than the table has now waits for.
    assert_eq!(
        one(table(810, 190, 250.0), (0, 3)),
        is(
            "autovacuum.rare",
            "ALTER TABLE app.t SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 50)"
        )
    );
    assert!(one(table(60, 20, 62.0), (0, 3)).is_empty());
    assert!(one(table(1_000, 110, 115.0), (0, 3)).len() == 1);
    assert!(one(table(700, 80, 85.0), (0, 3)).is_empty());
    assert_eq!(
        one(table(1_000_000, 500_000, 200_050.0), (1, 3)),
        is(
            "autovacuum.behind",
            "ALTER TABLE app.t SET (autovacuum_vacuum_cost_limit = 1000)"
        )
    );
    assert_eq!(
        one(table(1_000_000, 500_000, 200_050.0), (3, 3)),
        is(
            "autovacuum.behind",
            "ALTER SYSTEM SET autovacuum_max_workers = 6 -- and a restart before 18"
        )
    );
    let mut off = table(1_000_000, 0, 200_050.0);
    off.enabled = false;
    assert_eq!(
        one(off, (0, 3)),
        is(
            "autovacuum.disabled",
            "ALTER TABLE app.t RESET (autovacuum_enabled)"
        )
    );
    // On its way, or just past its threshold: nothing is wrong.
    assert!(one(table(1_000_000, 250_000, 200_050.0), (0, 3)).is_empty());
    let mut at_work = table(1_000_000, 500_000, 200_050.0);
    at_work.at_work = true;
    assert!(one(at_work, (1, 3)).is_empty());
}

/// Nothing that is set would help against somebody who still wants to see the rows.
#[test]
fn a_table_that_somebody_holds_back_gets_no_setting() {
    let holder = Holder {
        what: "session".to_owned(),
        id: "7".to_owned(),
        who: "report".to_owned(),
        age: 9_000,
        since: Some(Utc.with_ymd_and_hms(2026, 3, 1, 1, 0, 0).unwrap()),
        end: None,
        elsewhere: false,
        view: None,
    };
    let behind = table(1_000_000, 500_000, 200_050.0);
    assert_eq!(told(vec![behind.clone()], (0, 3), vec![holder.clone()]), []);
    // One who came later holds nothing back.
    let mut later = holder;
    later.since = Some(Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap());
    assert_eq!(told(vec![behind], (0, 3), vec![later]).len(), 1);
}

/// One moment does not show that autovacuum is late: it may be about to come.
#[test]
fn who_is_late_was_late_before() {
    let late = Autovacuum {
        tables: vec![table(1_000_000, 500_000, 200_050.0)],
        workers: (0, 3),
        naptime: 60,
        ..Autovacuum::default()
    };
    let mut before = BTreeMap::new();
    let mut look = |now: DateTime<Utc>| {
        let (mut plan, mut behind) = (Plan::default(), BTreeMap::new());
        late.judged(&Snapshot::default(), now, &before, &mut behind, &mut plan);
        before = behind;
        plan.findings.len()
    };
    assert_eq!(look(noon()), 0);
    assert_eq!(look(noon() + TimeDelta::seconds(59)), 0);
    assert_eq!(look(noon() + TimeDelta::seconds(60)), 1);
}

#[test]
fn a_few_are_named() {
    let many = vec![table(1_000_000, 150_000, 200_050.0); 9];
    assert_eq!(told(many, (0, 3), Vec::new()).len(), MOST);
}
