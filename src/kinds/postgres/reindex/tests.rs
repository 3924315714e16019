//! Versions of PostgreSQL that corrupt indexes are refused: tested by the decision alone, since no
//! server of these versions can be had any more.

use std::collections::HashMap;

use super::*;

/// No server of these versions can be had any more, so the decision is
/// tested alone.
#[test]
fn versions_that_corrupt_indexes_are_refused() {
    let at = Moment {
        now: crate::values::wall_clock(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    };
    let plan_on = |version_num: i32| {
        let bloated = IndexFacts {
            bytes: 1 << 30,
            tuples: 1_000.0,
            measured_ideal_bytes: Some(1e6),
            valid: true,
            twin: None,
            may: true,
            ..IndexFacts::default()
        };
        let facts = Facts {
            version_num,
            version: "14".to_owned(),
            role: "postgres".to_owned(),
            rights: Rights::default(),
            freeze_max_age: 200_000_000,
            indexes: vec![bloated],
            leftovers: Vec::new(),
            standing: crate::engines::postgres::trust::Standing::default(),
            not_exact: None,
            access_methods: None,
        };
        Reindex::default().plan(facts, &at)
    };
    for version_num in 140_000..140_004 {
        let plan = plan_on(version_num);
        assert!(plan.steps.is_empty());
        assert_eq!(plan.findings[0].code, "server.reindex_corrupts");
        assert_eq!(plan.findings[0].severity, Severity::Critical);
    }
    let plan = plan_on(140_004);
    assert_eq!((plan.steps.len(), plan.findings.len()), (1, 0));
}

/// `0%` is once for each index, and again where it has grown, or lost entries: not every night.
#[test]
fn whatever_the_bloat_is_not_every_night() {
    let built = crate::plan::Baseline {
        object: "app.i".to_owned(),
        bytes: 1 << 20,
        tuples: 100_000.0,
        learned_at: crate::values::wall_clock(),
        rebuilt: true,
        made_as: None,
    };
    let due = |bytes, tuples, access_method: &str, counted| {
        let index = IndexFacts {
            bytes,
            tuples,
            access_method: access_method.to_owned(),
            counted,
            valid: true,
            ..IndexFacts::default()
        };
        match verdict::judge(&index, Some(&built), 0.0, 1) {
            verdict::Verdict::Bloated { reason, .. } => reason,
            _ => String::new(),
        }
    };
    assert_eq!(due(1 << 20, 100_000.0, "btree", true), "");
    assert_eq!(due(1 << 20, 95_000.0, "btree", true), "");
    assert_eq!(
        due(1 << 20, 5_000.0, "btree", true),
        "has 5000 entries, and had 100.0 k after its last rebuild"
    );
    assert!(due(1 << 21, 100_000.0, "btree", true).starts_with("grew from "));
    // What GIN counts are rows at one time, and entries at another; and what was counted long ago is not known.
    assert_eq!(due(1 << 20, 5_000.0, "gin", true), "");
    assert_eq!(due(1 << 20, 5_000.0, "btree", false), "");
}

/// Methods that the server does not have are told; where there are no others, the task has not done its work.
#[test]
fn methods_that_nobody_knows_are_told() {
    let known = ["btree", "hash", "bloom"].map(str::to_owned);
    let told = |methods: &[&str]| {
        let reindex = Reindex {
            access_methods: methods.iter().map(|one| (*one).to_owned()).collect(),
            ..Reindex::default()
        };
        let mut plan = Plan::default();
        reindex.tell_unknown_methods(&known, &mut plan);
        let codes: Vec<String> = plan.findings.iter().map(|f| f.object.clone()).collect();
        (codes, plan.refused.len())
    };
    assert_eq!(told(&["btree", "bloom"]), (vec![], 0));
    assert_eq!(told(&["bteee", "hash"]), (vec!["bteee".to_owned()], 0));
    assert_eq!(told(&["bteee"]), (vec!["bteee".to_owned()], 1));
    let check = |method: &str| {
        Reindex {
            access_methods: vec![method.to_owned()],
            ..Reindex::default()
        }
        .check()
        .is_ok()
    };
    assert!(check("btree") && check("Rum") && !check("BTREE") && !check(""));
}

/// No statistics can be gathered of no rows: what is large then is rebuilt, and what is small is left, instead of an
/// ANALYZE in each run.
#[test]
fn an_index_of_no_rows_needs_no_statistics() {
    let empty = |method: &str, bytes: i64| IndexFacts {
        access_method: method.to_owned(),
        bytes,
        valid: true,
        counted: true,
        columns: vec![facts::ColumnFacts::default()],
        ..IndexFacts::default()
    };
    for method in ["gist", "gin", "spgist", "bloom"] {
        let judged = verdict::judge(&empty(method, 18 << 20), None, 0.3, 1);
        let Verdict::Bloated { ideal_bytes, .. } = judged else {
            unreachable!("{method}")
        };
        assert!(ideal_bytes <= 65_536, "{method}");
        let small = verdict::judge(&empty(method, 16 << 10), None, 0.3, 1);
        assert!(matches!(small, Verdict::Fine), "{method}");
        let mut filled = empty(method, 18 << 20);
        (filled.tuples, filled.table_rows) = (5.0, 5.0);
        let undecided = verdict::judge(&filled, None, 0.3, 1);
        assert!(matches!(undecided, Verdict::Undecided(_)), "{method}");
    }
}
