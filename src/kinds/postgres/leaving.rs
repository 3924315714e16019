//! A partition on its way out of its table: what has to be so before each step of that, and the mark that
//! says so meanwhile.

use super::dependents;
use crate::engines::postgres::RelationName;
use crate::plan::{Finding, Param, Query, Required, Severity, Sweep};

/// Whether a table goes by this name and is a partition of that table, with these bounds where it has any: one
/// that somebody begins to detach is theirs, unless a comment that begins with
/// `mark` says that it is maint who does.
const IS_PARTITION: &str = "SELECT (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, $1::oid, 0)).identity
        = pg_catalog.format('%I.%I', $2::text, $3::text)
    AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = $1::oid AND i.inhparent = $4::oid
        AND (NOT i.inhdetachpending
            OR pg_catalog.starts_with(pg_catalog.obj_description(i.inhrelid, 'pg_class'), $5::text)))
    AND ($6::text = '' OR $6::text = (SELECT pg_catalog.pg_get_expr(c.relpartbound, 0) FROM pg_catalog.pg_class c WHERE c.oid = $1::oid))
    AND (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, $4::oid, 0)).identity = pg_catalog.format('%I.%I', $7::text, $8::text)";

/// And whether no other partition is half out, and none is the default one, beside which none leaves concurrently.
const NO_OTHER: &str = "
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits o WHERE o.inhparent = $4::oid AND o.inhrelid <> $1::oid
        AND o.inhdetachpending)
    AND EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = $4::oid AND p.partdefid = 0)";

/// Whether a table is part of no other, and its comment still begins with `mark`.
const WAS_DETACHED: &str = "SELECT NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
        AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), $2::text)
    FROM pg_catalog.pg_class c WHERE c.oid = $1::oid";

/// Takes a mark from what maint has not detached.
const UNMARKED: &str = "SELECT c.oid::pg_catalog.regclass::text,
        pg_catalog.format('COMMENT ON %s %s IS %s', $3::text, c.oid::pg_catalog.regclass, $4::text)
    FROM pg_catalog.pg_class c WHERE c.oid = $1::oid
        AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), $2::text)";

/// A partition that is to leave its table, and the mark that says so.
pub(super) struct Leaving<'a> {
    pub(super) oid: u32,
    pub(super) name: &'a RelationName,
    pub(super) of: u32,
    pub(super) root: &'a RelationName,
    /// What its comment begins with.
    pub(super) mark: String,
    /// `TABLE`, or `FOREIGN TABLE`.
    pub(super) kind: &'a str,
    /// The comment that was there before, as a literal, or `NULL`.
    pub(super) before: String,
    /// `FOR VALUES …`, by which it was found to be over; none where it has none.
    pub(super) bounds: Option<&'a str>,
}

impl Leaving<'_> {
    /// Whether it is still that partition of the table.
    pub(super) fn attached(&self) -> Query {
        Query::new(
            IS_PARTITION,
            [
                Param::Oid(self.oid),
                Param::Text(self.name.schema.raw().to_owned()),
                Param::Text(self.name.relation.raw().to_owned()),
                Param::Oid(self.of),
                Param::Text(self.mark.clone()),
                Param::Text(self.bounds.unwrap_or_default().to_owned()),
                Param::Text(self.root.schema.raw().to_owned()),
                Param::Text(self.root.relation.raw().to_owned()),
            ],
        )
    }

    /// Why it does not leave.
    pub(super) fn otherwise(&self) -> String {
        let (root, other) = (self.root, ", or has other bounds than the plan saw");
        let other = if self.bounds.is_some() { other } else { "" };
        format!(
            "it is no partition of {root} any more{other}: somebody dropped, renamed or detached it, or renamed its table"
        )
    }

    /// Where it is none any more, the mark goes, too: what somebody detaches
    /// is theirs.
    pub(super) fn still_attached(&self) -> Required {
        let params = [
            Param::Oid(self.oid),
            Param::Text(self.mark.clone()),
            Param::Text(self.kind.to_owned()),
            Param::Text(self.before.clone()),
        ];
        Required::new(self.attached(), self.otherwise()).undone_by(Sweep {
            piles_up: false,
            query: Query::new(UNMARKED, params),
        })
    }

    /// The same, and that no other is half out: the server detaches one at a time.
    pub(super) fn free_to_leave(&self) -> Required {
        let mut required = self.still_attached();
        required.query.sql = format!("{IS_PARTITION}{NO_OTHER}");
        let root = self.root;
        required.otherwise = format!(
            "{}; or {root} has got a default partition, beside which the next run detaches in another way; or the detachment of another partition of {root} was begun and is not finished",
            required.otherwise
        );
        required
    }

    /// The same as `required`, and that nothing depends on it by now: what could not be dropped is not
    /// detached either.
    pub(super) fn droppable(&self, required: Required) -> Required {
        let finding = Finding {
            code: "partitions.depended_on".to_owned(),
            severity: Severity::Warning,
            object: self.name.to_string(),
            message: format!(
                "something depends on {} that did not when the plan was made, such as a view: it could not be dropped, so it is not detached; the next run names what it is",
                self.name
            ),
            suggestion: None,
        };
        required.and(&dependents::none(self.oid), finding)
    }

    /// Whether it is what was detached.
    pub(super) fn still_detached(&self) -> Required {
        Required::new(
            detached(self.oid, &self.mark),
            format!(
                "somebody attached it to {} again, or changed its comment, after it was detached",
                self.root
            ),
        )
    }
}

/// Answers whether a table is no partition, and is marked as one that was.
pub(super) fn detached(oid: u32, mark: &str) -> Query {
    Query::new(
        WAS_DETACHED,
        [Param::Oid(oid), Param::Text(mark.to_owned())],
    )
}

/// SQL: whether event triggers see tables be dropped: they may refuse it.
pub(super) const DROPS_WATCHED: &str =
    "EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled IN ('O', 'A')
            AND e.evtevent IN ('sql_drop', 'ddl_command_start', 'ddl_command_end'))";

/// What is tried before a partition is detached to be dropped, and rolled back: the lock that this begins with, and
/// where somebody watches, the drop. What could not be dropped would be missing from its table.
pub(super) fn try_to_drop(lock: String, part: &RelationName, kind: &str, watched: bool) -> String {
    match watched {
        true => format!("{lock}; DROP {kind} {part}"),
        false => lock,
    }
}

/// The line of a mark that names a table: a name may have line breaks.
pub(super) fn one_line(name: &RelationName) -> String {
    on_one_line(&name.to_string())
}

/// The same of a name that is written out.
pub(super) fn on_one_line(name: &str) -> String {
    if !name.contains(['\n', '\r']) {
        return name.to_owned();
    }
    name.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}
