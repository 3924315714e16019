//! What every kind for PostgreSQL says the same way.

use std::collections::BTreeSet;

use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::plan::{Finding, Param, Plan, Query, Required, Severity, Sweep, There};
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

/// More objects than this are nothing to paste.
const MOST_GRANTED: usize = 50;

/// What decides which rights may be advised.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    /// Owners whose members can do more than work on their tables: to be a
    /// member of a superuser is to be one.
    mighty: BTreeSet<String>,
    /// Schemas that the role may use.
    open: BTreeSet<String>,
}

/// A role that can become a mighty one is mighty, too. Only owners matter.
const RIGHTS: &str = "SELECT 'mighty', r.rolname::text FROM pg_catalog.pg_roles r
    WHERE r.oid IN (SELECT DISTINCT c.relowner FROM pg_catalog.pg_class c)
        AND EXISTS (SELECT FROM pg_catalog.pg_roles m
            WHERE (m.rolsuper OR m.rolcreaterole OR m.rolreplication OR m.rolbypassrls
                    OR m.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))
                AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER'))
    UNION ALL SELECT 'open', n.nspname::text FROM pg_catalog.pg_namespace n
    WHERE pg_catalog.has_schema_privilege(n.oid, 'USAGE')";

impl Rights {
    /// Reads them.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub(super) async fn read(db: &Session) -> Result<Rights, EngineError> {
        let mut rights = Rights::default();
        let doing = "reading which rights may be granted";
        for row in db.query(doing, RIGHTS, &[]).await? {
            let set = match row.get::<String>(0)?.as_str() {
                "mighty" => &mut rights.mighty,
                _ => &mut rights.open,
            };
            set.insert(row.get(1)?);
        }
        Ok(rights)
    }

    /// What lets the role reach these by name; nothing where it does already.
    fn usage(&self, objects: &[&RelationName], role: &Identifier) -> String {
        let schemas: BTreeSet<&Identifier> = objects.iter().map(|name| &name.schema).collect();
        let closed = schemas.iter().filter(|s| !self.open.contains(s.raw()));
        let closed: Vec<String> = closed.map(ToString::to_string).collect();
        match closed.is_empty() {
            true => String::new(),
            false => format!("GRANT USAGE ON SCHEMA {} TO {role}; ", closed.join(", ")),
        }
    }
}

/// The statements that let the role do `privilege` on these objects, and
/// reach them by name. `what` is empty for tables.
pub(super) fn grant(
    privilege: &str,
    what: &str,
    objects: &[&RelationName],
    role: &Identifier,
) -> String {
    let schemas: BTreeSet<&Identifier> = objects.iter().map(|name| &name.schema).collect();
    let list = |names: Vec<String>| names.join(", ");
    let schemas = list(schemas.iter().map(ToString::to_string).collect());
    let objects = objects.iter().take(MOST_GRANTED);
    let objects = list(objects.map(ToString::to_string).collect());
    format!(
        "GRANT USAGE ON SCHEMA {schemas} TO {role}; GRANT {privilege} ON {what}{objects} TO {role}"
    )
}

/// Something that asks for work, and is not the role's to work on.
#[derive(Clone, Debug)]
pub(super) struct Forbidden {
    /// What would be worked on.
    object: String,
    /// The table that it belongs to, or is.
    table: RelationName,
    /// Whose that is.
    owner: String,
}

impl Forbidden {
    /// A table or a view.
    pub(super) fn table(name: &RelationName, owner: &str) -> Self {
        Forbidden::part(name.to_string(), name, owner)
    }

    /// Part of a table.
    pub(super) fn part(object: String, table: &RelationName, owner: &str) -> Self {
        Forbidden {
            object,
            table: table.clone(),
            owner: owner.to_owned(),
        }
    }
}

/// Notes what asks for work but is not the role's to work on: one finding for
/// all. Where that is everything, the task has not done its work.
pub(super) fn forbid(
    plan: &mut Plan,
    action: &str,
    (role, major): (&str, i32),
    rights: &Rights,
    objects: &[Forbidden],
) {
    // From 17 on a right on the table is enough, whoever owns it.
    let mighty = |object: &&Forbidden| major < 17 && rights.mighty.contains(&object.owner);
    for of_mighty in [false, true] {
        let these = objects.iter().filter(|o| mighty(o) == of_mighty);
        let these: Vec<&Forbidden> = these.collect();
        forbid_these(plan, action, (role, major), rights, &these, of_mighty);
    }
}

fn forbid_these(
    plan: &mut Plan,
    action: &str,
    (role, major): (&str, i32),
    rights: &Rights,
    objects: &[&Forbidden],
    of_mighty: bool,
) {
    let Some(first) = objects.first() else {
        return;
    };
    let others = match objects.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let role = Identifier::new(role);
    let tables: BTreeSet<&RelationName> = objects.iter().map(|o| &o.table).collect();
    let tables: Vec<&RelationName> = tables.into_iter().collect();
    let owners: BTreeSet<Identifier> = objects.iter().map(|o| Identifier::new(&*o.owner)).collect();
    let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
    let owners = owners.join(", ");
    let usage = rights.usage(&tables, &role);
    let (needs, suggestion) = if major >= 17 {
        let names = tables.iter().take(MOST_GRANTED).map(ToString::to_string);
        let names: Vec<String> = names.collect();
        (
            "neither owns the table nor has MAINTAIN on it, or may not use its schema".to_owned(),
            Some(format!(
                "{usage}GRANT MAINTAIN ON {} TO {role}",
                names.join(", ")
            )),
        )
    } else if of_mighty {
        (
            format!(
                "is not a member of the owner's role, and should not become one, as whoever is a member of {owners} can do far more than that: leave it to {owners} (`exclude`), or give the table to a role without such rights of which {role} is a member (ALTER TABLE {} OWNER TO …)",
                first.table
            ),
            None,
        )
    } else {
        (
            "is not a member of the owner's role, or may not use its schema".to_owned(),
            Some(format!("{usage}GRANT {owners} TO {role}")),
        )
    };
    let message = format!(
        "{}{others} should be worked on ({action}), but {role} {needs}; left alone",
        first.object
    );
    plan.undone(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: first.object.clone(),
        message,
        suggestion,
    });
}

/// Tables whose statistics the role may not see.
#[derive(Debug, Default)]
pub(super) struct Unseen<'a> {
    /// It may not read them.
    unread: BTreeSet<&'a RelationName>,
    /// Row-level security is in force for it: that hides the statistics, too.
    filtered: BTreeSet<&'a RelationName>,
}

impl<'a> Unseen<'a> {
    pub(super) fn add(&mut self, table: &'a RelationName, (unread, filtered): (bool, bool)) {
        if unread {
            self.unread.insert(table);
        }
        if filtered {
            self.filtered.insert(table);
        }
    }

    /// One finding for all of a kind. `what` of them is judged.
    pub(super) fn findings(&self, what: &str, role: &str, rights: &Rights) -> Vec<Finding> {
        let role = Identifier::new(role);
        let unread = (
            &self.unread,
            "may not read the tables, and so sees no statistics of theirs (pg_maintain does not include that)",
        );
        let filtered = (
            &self.filtered,
            "is subject to row-level security there, which hides the statistics of the columns, too: for a role with BYPASSRLS, or the owner of a table without FORCE ROW LEVEL SECURITY, it is not in force; `method: exact` needs no statistics",
        );
        let mut findings = Vec::new();
        for (n, (tables, why)) in [unread, filtered].into_iter().enumerate() {
            let tables: Vec<&RelationName> = tables.iter().copied().collect();
            let Some(first) = tables.first() else {
                continue;
            };
            let names = |tables: &[&RelationName]| {
                let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
                names.join(", ")
            };
            let suggestion = if n == 0 {
                let usage = rights.usage(&tables, &role);
                let some = &tables[..tables.len().min(MOST_GRANTED)];
                format!("{usage}GRANT SELECT ON {} TO {role}", names(some))
            } else {
                format!("ALTER ROLE {role} BYPASSRLS")
            };
            findings.push(Finding {
                code: "privilege.missing".to_owned(),
                severity: Severity::Warning,
                object: first.to_string(),
                message: format!(
                    "whether there is bloat in {what}{} is not known: {role} {why}",
                    names(&tables)
                ),
                suggestion: Some(suggestion),
            });
        }
        findings
    }
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
