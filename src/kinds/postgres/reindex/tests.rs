//! Versions of PostgreSQL that corrupt indexes are refused: tested by the decision alone, since no
//! server of these versions can be had any more.

use std::collections::HashMap;

use super::*;
use crate::plan::Severity;

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
