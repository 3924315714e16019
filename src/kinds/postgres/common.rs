//! What every kind for PostgreSQL says the same way.

use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Finding, Param, Query, Severity, There};
use crate::values::{NamePattern, SchemaPattern};

/// `include`, `exclude` and `schemas` of a task.
pub(super) struct Selection<'a> {
    include: &'a [NamePattern],
    exclude: &'a [NamePattern],
    schemas: &'a [SchemaPattern],
}

impl<'a> Selection<'a> {
    pub(super) fn new(
        include: &'a [NamePattern],
        exclude: &'a [NamePattern],
        schemas: &'a [SchemaPattern],
    ) -> Self {
        Selection {
            include,
            exclude,
            schemas,
        }
    }

    /// Whether the task is for this schema.
    fn in_schema(&self, schema: &str) -> bool {
        self.schemas.is_empty() || SchemaPattern::choose(self.schemas, schema)
    }

    /// Whether the task covers this relation.
    pub(super) fn covers(&self, name: &RelationName) -> bool {
        self.covers_any(&[name])
    }

    /// Whether the task covers something that goes by several names, such as
    /// an index, which is also meant when its table is.
    pub(super) fn covers_any(&self, names: &[&RelationName]) -> bool {
        let hit = |patterns: &[NamePattern]| {
            patterns.iter().any(|pattern| {
                names
                    .iter()
                    .any(|name| pattern.matches(name.schema.raw(), name.relation.raw()))
            })
        };
        names.iter().any(|name| self.in_schema(name.schema.raw()))
            && (self.include.is_empty() || hit(self.include))
            && !hit(self.exclude)
    }

    /// Whether the task wants to have nothing to do with this relation.
    pub(super) fn excludes(&self, name: &RelationName) -> bool {
        let (schema, relation) = (name.schema.raw(), name.relation.raw());
        let hit = |pattern: &NamePattern| pattern.matches(schema, relation);
        !self.in_schema(schema) || self.exclude.iter().any(hit)
    }
}

/// Whether the relation still goes by the name that the statements use.
pub(super) fn still_there(oid: u32, name: &RelationName) -> Query {
    let there = There {
        oid,
        name: name.clone(),
    };
    there.query()
}

/// Whether a table goes by this name, and its rows are rows of that table.
const IS_BELOW: &str = "WITH RECURSIVE above (oid) AS (
        SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = $1::oid AND NOT i.inhdetachpending
        UNION SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid AND NOT i.inhdetachpending)
    SELECT (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, $1::oid, 0)).identity
        = pg_catalog.format('%I.%I', $2::text, $3::text) AND EXISTS (SELECT FROM above a WHERE a.oid = $4::oid)";

/// Whether the relation still goes by the name that the statements use, and
/// its rows are rows of that table.
pub(super) fn still_below(oid: u32, name: &RelationName, of: u32) -> Query {
    let mut query = still_there(oid, name);
    IS_BELOW.clone_into(&mut query.sql);
    query.params.push(Param::Oid(of));
    query
}

/// A count of rows as people read it: `950`, `12.3 k`, `4.5 M`.
pub(super) fn rows(count: f64) -> String {
    match count {
        c if c < 10_000.0 => format!("{c:.0}"),
        c if c < 999_950.0 => format!("{:.1} k", c / 1e3),
        c if c < 999_950_000.0 => format!("{:.1} M", c / 1e6),
        c => format!("{:.1} G", c / 1e9),
    }
}

/// The same with the word: `1 row`, `12.3 k rows`.
pub(super) fn of_rows(count: f64) -> String {
    match rows(count).as_str() {
        "1" => "1 row".to_owned(),
        many => format!("{many} rows"),
    }
}

/// Why pages could not be read with pgstattuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmeasured {
    /// The extension is not installed in the database.
    NotInstalled,
    /// The role may not call its functions.
    Forbidden,
}

/// Bloat that was to be measured could only be estimated.
pub(super) fn estimated(why: Unmeasured, role: &str) -> Finding {
    let (code, reason, remedy) = match why {
        Unmeasured::NotInstalled => (
            "extension.missing",
            "the extension pgstattuple is not installed in this database",
            "CREATE EXTENSION pgstattuple".to_owned(),
        ),
        Unmeasured::Forbidden => (
            "privilege.missing",
            "the role may not call the functions of the extension pgstattuple",
            format!("GRANT pg_stat_scan_tables TO {}", Identifier::new(role)),
        ),
    };
    Finding {
        code: code.to_owned(),
        severity: Severity::Info,
        object: "pgstattuple".to_owned(),
        message: format!("bloat could not be measured exactly, so it was estimated: {reason}"),
        suggestion: Some(remedy),
    }
}
