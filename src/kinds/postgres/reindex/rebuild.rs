//! Steps that make an index anew.

use super::super::common::still_there;
use super::Facts;
use super::facts::IndexFacts;
use super::told::and_more;
use super::{facts, leftovers};
use crate::engines::postgres::trust::Use;
use crate::plan::{Finding, Param, Query, Severity, Statement, Step, Sweep};

/// Size and entries of the index that bears the name now: a rebuilt one has
/// a new id.
const MEASURE: &str = "SELECT pg_catalog.pg_relation_size(x.oid), {entries}
    FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_am am ON am.oid = x.relam
    WHERE n.nspname = $1::text AND x.relname = $2::text";

/// The same, where the server counts entries by itself: it is asked twice for each index, and the
/// shorter question is planned in a third of the time.
const MEASURE_COUNTED: &str = "SELECT pg_catalog.pg_relation_size(x.oid), x.reltuples::float8
    FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
    WHERE n.nspname = $1::text AND x.relname = $2::text";

/// Whether an expression index has lost its statistics, or never had any.
const LACKS_STATISTICS: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_stats s
    WHERE s.schemaname = $1::text AND s.tablename = $2::text)";

/// Whether another index bears the name now, whole, and the old one is gone: that is how a concurrent
/// rebuild ends, and each part of it is committed before an event trigger is asked.
const REBUILT: &str = "SELECT i.indisvalid AND i.indisready AND i.indislive
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_class old WHERE old.oid = $1::oid)
    FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid
    WHERE i.indrelid = $2::oid AND n.nspname = $3::text AND x.relname = $4::text";

/// Asked right before the rebuild of an index that something else may have made grow.
const HAS_GROWN: &str = "SELECT pg_catalog.pg_relation_size(c.oid) > $4::int8
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $1::oid AND n.nspname = $2::text AND c.relname = $3::text";

/// The rebuild of an index after a step of another kind, if that has made it grow by more than a
/// tenth; none where it cannot be rebuilt, or where the server could lose rows of it.
pub(in crate::kinds::postgres) fn rebuild_if_grown(
    index: &IndexFacts,
    version_num: i32,
) -> Option<Step> {
    let name = index.index.as_ref()?;
    let can = index.valid && index.may && !index.exclusion && !index.system && !index.toast;
    if !can || corrupts(version_num) {
        return None;
    }
    let grown = Query::new(
        HAS_GROWN,
        [
            Param::Oid(index.oid),
            Param::Text(name.schema.raw().to_owned()),
            Param::Text(name.relation.raw().to_owned()),
            Param::Int(index.bytes.saturating_add(index.bytes / 10)),
        ],
    );
    let mut step = rebuild(index, index.bytes).only_if(grown, "it has not grown by a tenth");
    // By how much it will have grown nobody knows yet.
    step.estimate.bytes_after = None;
    Some(step)
}

/// Whether concurrent builds of this version can leave rows out.
pub(super) fn corrupts(version_num: i32) -> bool {
    (140_000..140_004).contains(&version_num)
}

/// Why an index that should be rebuilt cannot be, now or ever.
pub(super) fn obstacle(index: &IndexFacts, facts: &Facts) -> Option<String> {
    if index.exclusion {
        return Some(
            "an index behind an exclusion constraint cannot be rebuilt concurrently; \
             REINDEX INDEX would block all writes to its table"
                .to_owned(),
        );
    }
    if index.system {
        return Some("indexes of system catalogs cannot be rebuilt concurrently".to_owned());
    }
    // A rebuild would hold off the very vacuum that the table waits for.
    (index.table_age >= facts.freeze_max_age).then(|| {
        format!(
            "its table first needs the vacuum that prevents transaction id wraparound \
             (age {}, limit {})",
            index.table_age, facts.freeze_max_age
        )
    })
}

pub(super) fn rebuild(index: &IndexFacts, ideal_bytes: i64) -> Step {
    let (name, table) = (index.name(), index.table_name());
    let named: Vec<Param> = index
        .index
        .iter()
        .flat_map(|n| [n.schema.raw(), n.relation.raw()])
        .map(|part| Param::Text(part.to_owned()))
        .collect();
    // A TOAST table cannot be locked by name; its rebuild has no probe of its own.
    let rebuild = format!("REINDEX INDEX CONCURRENTLY {name}");
    let statement = if index.toast {
        Statement::brief(rebuild)
    } else if index.materialized {
        // It cannot be locked by name either; who waits for the lock of a rebuild there
        // holds up other maintenance at most, never a reader.
        Statement::patient(rebuild, "SELECT 1")
    } else {
        let probe = format!("LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE");
        Statement::patient(rebuild, probe)
    };
    let measure = match facts::counts_entries(&index.access_method) {
        true => MEASURE_COUNTED.to_owned(),
        false => MEASURE.replace("{entries}", facts::ENTRIES),
    };
    let mut step = Step::new("reindex", &name, format!("table {}", index.table_oid))
        .locking(index.table_oid)
        .relying_on(index.oid, &name)
        .touching(index.table_oid, Use::Command)
        .run(statement)
        .measured_by(Query::new(measure, named.clone()))
        .expecting(index.bytes, Some(ideal_bytes));
    if let Some(name) = &index.index {
        step = step.while_there(
            index.oid,
            name,
            "the index has vanished, or has another name by now",
        );
    }
    if index.has_expressions && !index.toast {
        // Without statistics on its expressions the planner guesses, and a
        // guess can turn every query on the table into a sequential scan.
        step = step.run(
            Statement::brief(format!("ANALYZE {table}"))
                .only_if(Query::new(LACKS_STATISTICS, named)),
        );
    }
    step = step.learning(&index.made_as);
    step.body.done = index.index.as_ref().map(|name| {
        Query::new(
            REBUILT,
            [
                Param::Oid(index.oid),
                Param::Oid(index.table_oid),
                Param::Text(name.schema.raw().to_owned()),
                Param::Text(name.relation.raw().to_owned()),
            ],
        )
    });
    step.body.if_twice = index.unique.then(|| {
        twice(
            &name,
            &index.table_name(),
            &format!("the unique index {name}"),
        )
    });
    step.body.yields_to_wraparound_vacuum = true;
    step.body.on_abort = Some(Sweep {
        piles_up: true,
        query: leftovers::of_rebuild(index),
    });
    step
}

/// What is found where the server meets a key twice, in spite of the unique index that is meant by `index`.
pub(in crate::kinds::postgres) fn twice(object: &str, table: &str, index: &str) -> Finding {
    Finding {
        code: "index.duplicate_keys".to_owned(),
        severity: Severity::Critical,
        object: object.to_owned(),
        message: format!(
            "{table} has rows with the same key of {index}: the index is damaged, or its sort order has changed, and what is looked up by it may be missed. It cannot be built anew before all but one row of each key are gone; `kind: integrity` with `amcheck` lists the keys, and REINDEX by hand names the first"
        ),
        suggestion: None,
    }
}

/// The indexes of one table that cannot be judged, or used well, before an ANALYZE.
#[derive(Default)]
pub(super) struct Unanalyzed<'a> {
    pub(super) undecided: Vec<&'a IndexFacts>,
    pub(super) expressions: Vec<&'a IndexFacts>,
}

impl Unanalyzed<'_> {
    pub(super) fn step(&self) -> Option<Step> {
        let index = self.undecided.iter().chain(&self.expressions).next()?;
        let table = index.table_oid;
        let mut reasons = Vec::new();
        if !self.undecided.is_empty() {
            reasons.push(format!(
                "statistics are out of date, so it cannot be told whether {} is bloated",
                and_more(&self.undecided)
            ));
        }
        if !self.expressions.is_empty() {
            reasons.push(format!(
                "the planner has no statistics for the expressions of {}",
                and_more(&self.expressions)
            ));
        }
        let mut step = Step::new("analyze", index.table_name(), format!("table {table}"))
            .because(reasons.join("; "))
            .locking(table)
            .run(Statement::brief(format!("ANALYZE {}", index.table_name())));
        if let Some(name) = &index.table {
            step = step.only_if(
                still_there(table, name),
                "the table has vanished, or has another name by now",
            );
        }
        Some(step)
    }
}
