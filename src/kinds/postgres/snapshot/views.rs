//! Materialized views that no longer show what their sources hold.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::common::Selection;
use super::Snapshot;
use super::memory::{recall, remember};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, counting_as};
use crate::engines::postgres::{RelationName, Session, each};
use crate::plan::{Finding, Measurement, Moment, Plan, Severity};

/// One materialized view.
#[derive(Clone, Debug)]
pub(super) struct View {
    name: RelationName,
    populated: bool,
    /// Changes with every refresh.
    refreshed: String,
    /// What may tell that from other changes of its row in the catalog.
    signs: Signs,
    /// Changes with every change of a source.
    sources: String,
    concurrently: bool,
    /// Since when changes are counted.
    epoch: String,
}

/// What a refresh changes, and what it leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Signs {
    /// A refresh that blocks readers writes another file; so do VACUUM FULL, CLUSTER and SET
    /// TABLESPACE.
    file: u32,
    /// Rows written since counters began; a concurrent refresh writes what differs, any other
    /// all of them.
    written: i64,
    /// Rows that there are, as counted; a refresh that blocks readers begins at none.
    live: i64,
    /// How often it was read; a concurrent refresh compares all rows.
    read: i64,
    /// All else that its row in the catalog says: no refresh changes that, and a GRANT does.
    said: String,
}

impl Signs {
    /// Whether it was refreshed between `past` and now, where its row has changed. Counters of
    /// another time tell nothing.
    fn refreshed_since(&self, past: &Signs, same_epoch: bool) -> bool {
        let known = !past.said.is_empty();
        let counted = same_epoch && known;
        let written = counted && self.written != past.written;
        !known
            || written
            || self.file != past.file && !(counted && self.live > 0)
            || self.file == past.file
                && self.said == past.said
                && !(counted && self.read == past.read)
    }
}

/// What was seen before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Past {
    refreshed: String,
    signs: Signs,
    sources: String,
    /// Since when changes were counted then; of another time they tell nothing.
    epoch: Option<String>,
    /// When the sources were first seen to have changed since the refresh.
    changed: Option<DateTime<Utc>>,
    /// A file that was written without a word of the counters, which may only be late.
    rewritten: Option<u32>,
}

// Every refresh rewrites the view's row in pg_class, also one that changes
// nothing; the server keeps no time of it. So do a GRANT and a rename. A view over a view is followed to
// the tables below, a partitioned table to its partitions.
const VIEWS: &str = "WITH RECURSIVE reads (view, rel) AS (
        SELECT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class),
    sources (view, rel) AS (
        SELECT m.oid, e.rel FROM pg_catalog.pg_class m JOIN reads e ON e.view = m.oid WHERE m.relkind = 'm'
        UNION SELECT s.view, below.rel FROM sources s CROSS JOIN LATERAL (
            SELECT e.rel FROM pg_catalog.pg_class v JOIN reads e ON e.view = v.oid WHERE v.oid = s.rel AND v.relkind = 'v'
            UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = s.rel) below)
    SELECT n.nspname::text AS schema, m.relname::text AS name, m.relispopulated AS populated, pg_catalog.concat_ws('/', m.xmin, m.relfilenode) AS refreshed,
        (SELECT coalesce(sum(CASE WHEN c.relkind = 'm' THEN c.xmin::text::numeric ELSE
                coalesce(pg_catalog.pg_stat_get_tuples_inserted(c.oid), 0) + coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0)
                + coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) END), 0)::text
            FROM sources s JOIN pg_catalog.pg_class c ON c.oid = s.rel AND c.relkind IN ('r', 'm') WHERE s.view = m.oid) AS sources,
        EXISTS (SELECT 1 FROM pg_catalog.pg_index x WHERE x.indrelid = m.oid AND x.indisunique AND x.indisvalid
            AND x.indpred IS NULL AND x.indexprs IS NULL) AS concurrently,
        {counting_as} AS epoch, m.relfilenode AS filenode,
        coalesce(pg_catalog.pg_stat_get_tuples_inserted(m.oid), 0) + coalesce(pg_catalog.pg_stat_get_tuples_updated(m.oid), 0)
            + coalesce(pg_catalog.pg_stat_get_tuples_deleted(m.oid), 0) AS written,
        coalesce(pg_catalog.pg_stat_get_numscans(m.oid), 0) + (SELECT coalesce(sum(pg_catalog.pg_stat_get_numscans(x.indexrelid)), 0)::int8
            FROM pg_catalog.pg_index x WHERE x.indrelid = m.oid) AS scanned,
        -- VACUUM and ANALYZE write these.
        pg_catalog.md5((pg_catalog.to_jsonb(m) OPERATOR(pg_catalog.-) ARRAY['relfilenode', 'relpages', 'reltuples', 'relallvisible',
            'relallfrozen', 'relfrozenxid', 'relminmxid', 'relhasindex', 'reltablespace'])::text) AS said,
        coalesce(pg_catalog.pg_stat_get_live_tuples(m.oid), 0) AS live
    FROM pg_catalog.pg_class m JOIN pg_catalog.pg_namespace n ON n.oid = m.relnamespace
    WHERE m.relkind = 'm' AND {not_system} ORDER BY schema, name";

pub(super) async fn read(db: &Session) -> Result<Vec<View>, EngineError> {
    let sql = VIEWS
        .replace("{not_system}", NOT_SYSTEM_SCHEMA)
        .replace("{counting_as}", &counting_as());
    let found = db.query("reading materialized views", &sql, &[]).await?;
    each(&found, |row| {
        Ok(View {
            name: row.relation("schema", "name")?,
            populated: row.named("populated")?,
            refreshed: row.named("refreshed")?,
            sources: row.named("sources")?,
            concurrently: row.named("concurrently")?,
            epoch: row.named("epoch")?,
            signs: Signs {
                file: row.named("filenode")?,
                written: row.named("written")?,
                read: row.named("scanned")?,
                said: row.named("said")?,
                live: row.named("live")?,
            },
        })
    })
}

/// What is to be said about materialized views.
pub(super) fn judge(views: &[View], options: &Snapshot, at: &Moment, plan: &mut Plan) {
    let selection = Selection::new(&options.include, &options.exclude, &options.schemas);
    let known: BTreeMap<String, Past> = recall(at, "views");
    let limit = TimeDelta::from_std(options.view_fresh_within.get()).unwrap_or(TimeDelta::MAX);
    let mut now = BTreeMap::new();
    for view in views {
        let object = view.name.to_string();
        let mut past = known.get(&object).cloned().unwrap_or_default();
        let same_epoch = past.epoch.as_ref() == Some(&view.epoch);
        if past.refreshed != view.refreshed && view.signs.refreshed_since(&past.signs, same_epoch) {
            past = Past {
                refreshed: view.refreshed.clone(),
                signs: view.signs.clone(),
                sources: view.sources.clone(),
                epoch: Some(view.epoch.clone()),
                changed: None,
                rewritten: None,
            };
        } else if !same_epoch {
            // What was known stays known; whether more changed meanwhile is not.
            past.sources.clone_from(&view.sources);
            past.epoch = Some(view.epoch.clone());
        } else if past.sources != view.sources {
            past.changed = past.changed.or(Some(at.now));
        }
        // Whether that was a refresh, the next look knows.
        let late = same_epoch
            && !past.signs.said.is_empty()
            && past.signs.file != view.signs.file
            && past.rewritten.replace(view.signs.file) != Some(view.signs.file);
        if !late {
            past.refreshed.clone_from(&view.refreshed);
            past.signs = view.signs.clone();
        }
        let stale = past.changed.map(|since| at.now - since);
        now.insert(object.clone(), past);
        plan.measurements.push(Measurement {
            metric: "view.stale_ms".to_owned(),
            object: object.clone(),
            value: stale.map_or(0.0, |age| age.num_milliseconds() as f64),
        });
        if !selection.covers(&view.name) {
            continue;
        }
        let message = if !view.populated {
            format!("{object} was never filled: queries on it fail")
        } else if let Some(age) = stale.filter(|age| *age > limit) {
            format!(
                "{object} does not show changes of its sources from {} ago and later, longer than {}",
                super::seconds(age.num_seconds() as f64),
                options.view_fresh_within
            )
        } else {
            continue;
        };
        let how = if view.concurrently && view.populated {
            "CONCURRENTLY "
        } else {
            ""
        };
        plan.findings.push(Finding {
            code: "view.stale".to_owned(),
            severity: Severity::Warning,
            message,
            suggestion: Some(format!("REFRESH MATERIALIZED VIEW {how}{object}")),
            object,
        });
    }
    remember(plan, "views", &now);
}
