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
