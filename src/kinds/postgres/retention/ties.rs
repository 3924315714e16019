//! What hangs on a table so that deleting its rows is more than that: foreign
//! keys that keep rows, triggers, rules, policies, publications, views.

use std::collections::HashMap;

use super::facts::{Member, Table};
use super::leftover::Leftover;
use super::standing;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{by_people, enforced};
use crate::engines::postgres::publications::{Published, published, refusals};
use crate::engines::postgres::{RelationName, Row, Session};
use crate::kinds::postgres::common::{still_below, still_there};
use crate::kinds::postgres::dependents;
use crate::plan::{Query, Reference};
use crate::values::unreadable;

/// What hangs on one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Tie {
    /// Triggers that see each row before it goes.
    before: Vec<String>,
    /// Other triggers that deletes fire.
    triggers: Vec<String>,
    /// Of all triggers, those that fire once for a statement.
    statement: Vec<String>,
    rules: Vec<String>,
    /// Of the rules, those that do something instead.
    instead: Vec<String>,
    /// Whether policies decide what the role sees and deletes.
    policies: bool,
    /// Publications that tell of deleted rows.
    publications: Vec<String>,
    /// Why they have the server refuse to delete any row.
    unpublishable: Vec<String>,
    /// Foreign keys that point here, and whose triggers are switched off.
    asleep: Vec<String>,
    /// What a `DROP TABLE` would be refused for.
    dependents: Vec<String>,
    /// Tells its triggers and rules, with what they do, from others of their names.
    print: String,
}

/// What hangs on tables and their members, by oid.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds::postgres) struct Ties {
    hanging: HashMap<u32, Tie>,
    references: HashMap<u32, Vec<Reference>>,
    /// Foreign keys that point at a member, by their ids.
    keys: HashMap<u32, Vec<u32>>,
    /// A number for the columns of a member.
    columns: HashMap<u32, i64>,
    /// SQL that is true while all that decides whether a member may be dropped is as it was.
    leaving: HashMap<u32, String>,
    /// Why the server refuses what foreign keys would do when rows of a member go.
    unfollowed: HashMap<u32, Vec<String>>,
}

const HANGING: &str = concat!(
    "SELECT c.oid,
        ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND ",
    by_people!("t"),
    "
            AND t.tgenabled IN ('O', 'A') AND t.tgtype & 8 <> 0 AND t.tgtype & 3 = 3 ORDER BY 1) AS before,
        ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND ",
    by_people!("t"),
    "
            AND t.tgenabled IN ('O', 'A') AND t.tgtype & 8 <> 0 AND t.tgtype & 3 <> 3 ORDER BY 1) AS triggers,
        ARRAY(SELECT t.tgname::text FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND ",
    by_people!("t"),
    "
            AND t.tgenabled IN ('O', 'A') AND t.tgtype & 8 <> 0 AND t.tgtype & 1 = 0 ORDER BY 1) AS statement,
        ARRAY(SELECT r.rulename::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4'
            AND r.ev_enabled IN ('O', 'A') ORDER BY 1) AS rules,
        pg_catalog.row_security_active(c.oid) AS policies,
        ARRAY(SELECT p.pubname::text FROM pg_catalog.pg_publication p WHERE p.pubdelete AND {published} ORDER BY 1) AS publications,
        ARRAY(SELECT r.rulename::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4'
            AND r.ev_enabled IN ('O', 'A') AND r.is_instead ORDER BY 1) AS instead,
        (SELECT coalesce(pg_catalog.hashtextextended(pg_catalog.string_agg(h.text, '/' ORDER BY h.text), 0)::text, '') FROM (
            SELECT pg_catalog.concat_ws(':', t.oid, t.tgenabled, t.tgtype, t.tgqual, f.oid, f.prosrc, f.proconfig)
                FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
                WHERE t.tgrelid = c.oid AND t.tgtype & 8 <> 0 AND NOT t.tgisinternal
            UNION ALL SELECT pg_catalog.concat_ws(':', r.oid, r.ev_enabled, r.ev_qual, r.ev_action)
                FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4') AS h (text)) AS print,
        {refused} AS unpublishable,
        ARRAY(SELECT DISTINCT pg_catalog.quote_ident(coalesce(u.conname, k.conname)) || ' of ' || k.conrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint AND k.contype = 'f' AND k.confrelid = t.tgrelid
                LEFT JOIN pg_catalog.pg_constraint u ON u.oid = k.conparentid
            WHERE t.tgrelid = c.oid AND t.tgisinternal AND t.tgtype & 8 <> 0 AND t.tgenabled NOT IN ('O', 'A') ORDER BY 1) AS asleep
    FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)"
);

/// The foreign keys that point at each table, or at one that it is a partition of; and numbers for its columns,
/// and for what decides whether it may be dropped.
const STANDING: &str = "WITH own AS (
        SELECT m.oid AS member, m.oid AS relation FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid)
        UNION SELECT m.oid, a.relid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid),
            pg_catalog.pg_partition_ancestors(m.oid) AS a (relid)
    ), keys AS (
        SELECT own.member, pg_catalog.array_agg(con.oid ORDER BY con.oid) AS keys
        FROM own JOIN pg_catalog.pg_constraint con ON con.confrelid = own.relation AND con.contype = 'f' GROUP BY own.member
    )
    SELECT m.oid AS member, coalesce(k.keys, '{}') AS keys, {columns} AS columns, {leaving} AS leaving
    FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid) LEFT JOIN keys k ON k.member = m.oid";

const REFERENCES: &str = "WITH own AS (
        SELECT m.oid AS member, m.oid AS relation FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid)
        UNION SELECT m.oid, a.relid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid),
            pg_catalog.pg_partition_ancestors(m.oid) AS a (relid))
    SELECT own.member, con.conname::text AS constraint_name, n.nspname::text AS child_schema, c.relname::text AS child_name, c.relkind = 'p' AS partitioned,
        EXISTS (SELECT FROM own o WHERE o.member = own.member AND o.relation = con.conrelid) AS own,
        ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.unnest(con.conkey) WITH ORDINALITY AS k (n, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.n ORDER BY k.ord) AS columns,
        ARRAY(SELECT pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname)
            FROM pg_catalog.unnest(con.conpfeqop) WITH ORDINALITY AS k (op, ord)
            JOIN pg_catalog.pg_operator o ON o.oid = k.op JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace ORDER BY k.ord) AS operators,
        ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.unnest(con.confkey) WITH ORDINALITY AS k (n, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.n ORDER BY k.ord) AS referenced,
        con.confdeltype NOT IN ('a', 'r') AS takes, con.confdeltype = 'c' AS cascades,
        CASE WHEN con.confdeltype = 'c' THEN {deleted} WHEN con.confdeltype IN ('n', 'd') THEN {updated} ELSE '{}' END AS unfollowed
    FROM own JOIN pg_catalog.pg_constraint con ON con.confrelid = own.relation
        JOIN pg_catalog.pg_class c ON c.oid = con.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE con.contype = 'f' AND con.conparentid = 0 AND {enforced}
    ORDER BY own.member, n.nspname, c.relname, con.conname";

/// Names that are only ever shown: one that cannot be read is no reason to
/// leave a step out.
fn names(row: &Row, column: &str) -> Result<Vec<String>, EngineError> {
    let names: Vec<String> = row.named(column)?;
    let shown = names
        .iter()
        .map(|name| unreadable::escaped(name).into_owned());
    Ok(shown.collect())
}

impl Ties {
    /// Reads what hangs on these tables and their members, and on what was
    /// detached from them.
    pub(in crate::kinds::postgres) async fn read(
        db: &Session,
        tables: impl Iterator<Item = &Table>,
        leftovers: &[Leftover],
    ) -> Result<Ties, EngineError> {
        let mut oids: Vec<u32> = tables
            .flat_map(|t| std::iter::once(t.oid).chain(t.members.iter().map(|m| m.oid)))
            .chain(leftovers.iter().map(|l| l.oid))
            .collect();
        oids.sort_unstable();
        oids.dedup();
        let mut ties = Ties::default();
        let doing = "reading what hangs on the tables";
        let hanging = HANGING
            .replace("{published}", &published(&db.server, "p", "c.oid"))
            .replace("{refused}", &refusals(&db.server, Published::Delete));
        for row in db.query(doing, &hanging, &[&oids]).await? {
            let tie = Tie {
                before: names(&row, "before")?,
                triggers: names(&row, "triggers")?,
                statement: names(&row, "statement")?,
                rules: names(&row, "rules")?,
                policies: row.named("policies")?,
                publications: names(&row, "publications")?,
                instead: names(&row, "instead")?,
                print: row.named("print")?,
                unpublishable: names(&row, "unpublishable")?,
                asleep: names(&row, "asleep")?,
                dependents: Vec::new(),
            };
            ties.hanging.insert(row.named("oid")?, tie);
        }
        for (oid, dependents) in dependents::read(db, &oids).await? {
            ties.hanging.entry(oid).or_default().dependents = dependents;
        }
        let doing = "reading which foreign keys there are";
        let leaving = |oid: &str| standing::leaving(oid, &db.server);
        let standing = STANDING
            .replace("{columns}", &standing::columns("m.oid"))
            .replace("{leaving}", &leaving("m.oid"));
        for row in db.query(doing, &standing, &[&oids]).await? {
            let member: u32 = row.named("member")?;
            ties.keys.insert(member, row.named("keys")?);
            ties.columns.insert(member, row.named("columns")?);
            let sql = leaving(&member.to_string());
            let known: i64 = row.named("leaving")?;
            let same = format!("({sql} = '{known}'::pg_catalog.int8)");
            ties.leaving.insert(member, same);
        }
        let doing = "reading which rows others point at";
        let references = REFERENCES
            .replace("{enforced}", &enforced(&db.server, "con"))
            .replace("{deleted}", &refusals(&db.server, Published::Delete))
            .replace("{updated}", &refusals(&db.server, Published::Update));
        for row in db.query(doing, &references, &[&oids]).await? {
            let text = |column: &str| row.named::<String>(column);
            let texts = |column: &str| row.named::<Vec<String>>(column);
            let columns = texts("columns")?
                .into_iter()
                .zip(texts("operators")?)
                .zip(texts("referenced")?);
            let reference = Reference {
                constraint: unreadable::escaped(&text("constraint_name")?).into_owned(),
                child: row.relation("child_schema", "child_name")?.to_string(),
                partitioned: row.named("partitioned")?,
                own: row.named("own")?,
                takes: row.named("takes")?,
                cascades: row.named("cascades")?,
                columns: columns.map(|((c, o), p)| (c, o, p)).collect(),
            };
            let member = row.named("member")?;
            let does = if reference.cascades {
                "deletes"
            } else {
                "changes"
            };
            let unfollowed = names(&row, "unfollowed")?.into_iter().map(|why| {
                let (key, child) = (&reference.constraint, &reference.child);
                format!("the foreign key {key} {does} rows of {child}: {why}")
            });
            let known: &mut Vec<String> = ties.unfollowed.entry(member).or_default();
            known.extend(unfollowed);
            ties.references.entry(member).or_default().push(reference);
        }
        Ok(ties)
    }

    /// Foreign keys that keep rows of a member; with `all`, also those that
    /// would rather take along, or change, the rows that point at it.
    pub(super) fn references(&self, member: u32, all: bool) -> Vec<Reference> {
        self.references_that(member, |r| all || !r.takes)
    }

    /// The same where rows of the table are said to stay, or how many may go: none of them is to go
    /// along with another.
    pub(super) fn sparing(&self, member: u32) -> Vec<Reference> {
        self.references_that(member, |r| !r.takes || (r.own && r.cascades))
    }

    fn references_that(&self, member: u32, which: impl Fn(&Reference) -> bool) -> Vec<Reference> {
        let found = self.references.get(&member).into_iter().flatten();
        found.filter(|r| which(r)).cloned().collect()
    }

    /// Why an expired partition goes row by row: who points at it, or at a table above it.
    pub(in crate::kinds::postgres) fn pointed_at(&self, member: u32) -> Option<String> {
        let mut all: Vec<String> = self
            .references
            .get(&member)
            .into_iter()
            .flatten()
            .map(|r| format!("{} of {}", r.constraint, r.child))
            .collect();
        all.sort();
        all.dedup();
        (!all.is_empty()).then(|| {
            format!(
                "it is not dropped, because foreign keys point at it, or at the whole table: {}",
                all.join(", ")
            )
        })
    }

    /// Whether rows of a member are reached through the table that the rule
    /// names: its policies are meant, and its triggers expected.
    pub(super) fn through(&self, table: &Table, member: &Member) -> bool {
        let root = self.hanging.get(&table.oid);
        member.oid != table.oid
            && !member.detached
            && root.is_some_and(|root| root.policies || !root.statement.is_empty())
    }

    /// What may keep rows of a member from going, without an error.
    pub(super) fn obstructed(&self, table: &Table, member: &Member) -> Vec<String> {
        let mut all = Vec::new();
        let through = self.through(table, member);
        if let Some(tie) = self.hanging.get(&member.oid) {
            all.extend(tie.before.iter().map(|name| format!("trigger {name}")));
            all.extend(tie.rules.iter().map(|name| format!("rule {name}")));
            if tie.policies && !through {
                all.push(format!("row-level security of {}", member.name));
            }
        }
        if let (true, Some(tie)) = (through, self.hanging.get(&table.oid)) {
            all.extend(tie.rules.iter().map(|name| format!("rule {name}")));
            if tie.policies {
                all.push(format!("row-level security of {}", table.name));
            }
        }
        all
    }

    /// What may keep rows of a member from going, with an error or without: only trying tells.
    pub(super) fn may_keep(&self, table: &Table, member: &Member) -> Vec<String> {
        let references = self.references.get(&member.oid).into_iter().flatten();
        let mut all: Vec<String> = references
            .map(|r| match r.takes {
                false => format!("rows of {} that point at them ({})", r.child, r.constraint),
                true => format!(
                    "rows of {} that go or change with them, and may be kept ({})",
                    r.child, r.constraint
                ),
            })
            .collect();
        all.extend(self.obstructed(table, member));
        let through = self.through(table, member).then_some(table.oid);
        let ties = [Some(member.oid), through].into_iter().flatten();
        for tie in ties.filter_map(|oid| self.hanging.get(&oid)) {
            all.extend(tie.triggers.iter().map(|name| format!("trigger {name}")));
        }
        let mut told = Vec::new();
        for one in all {
            if !told.contains(&one) {
                told.push(one);
            }
        }
        told
    }

    /// SQL: whether a member has the columns that it had when the plan was made.
    pub(in crate::kinds::postgres) fn same_columns(&self, member: &Member) -> String {
        let columns = standing::columns(&member.oid.to_string());
        let known = self.columns.get(&member.oid).copied().unwrap_or(0);
        format!("({columns} = '{known}'::pg_catalog.int8)")
    }

    /// The question before a member is dropped, or leaves to be dropped, with whether nothing has changed that
    /// decided so; and what is said where it has.
    pub(in crate::kinds::postgres) fn unchanged(
        &self,
        member: &Member,
        (mut query, otherwise): (Query, String),
    ) -> (Query, String) {
        let Some(same) = self.leaving.get(&member.oid) else {
            return (query, otherwise);
        };
        query.sql = format!("SELECT ({}) AND {same}", query.sql);
        let otherwise = format!(
            "{otherwise}; or its bounds, triggers, rules, policies or publications have changed since the plan was made, and the next run looks at it anew"
        );
        (query, otherwise)
    }

    /// Asks, while a lock keeps it so, whether a member goes by its name and is still a part of the table, and
    /// whether a foreign key has come since that takes rows along or changes them; where the values are
    /// `kept`, also whether its columns are the same.
    pub(in crate::kinds::postgres) fn stands(
        &self,
        table: &Table,
        member: &Member,
        kept: bool,
    ) -> Query {
        let known = self.keys.get(&member.oid).map_or(&[][..], Vec::as_slice);
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let part = match member.oid == table.oid || member.detached {
            true => still_there(member.oid, &member.name),
            false => still_below(member.oid, &member.name, table.oid),
        };
        let sql = format!(
            "SELECT coalesce(({}), false) AS is_named_so, coalesce(({}), false) AS is_a_part, {} AS has_its_columns,
                (SELECT pg_catalog.min(pg_catalog.format('%I of %s', con.conname, con.conrelid::pg_catalog.regclass)) FROM pg_catalog.pg_constraint con
                    WHERE con.contype = 'f' AND con.confdeltype IN ('c', 'n', 'd') AND con.oid <> ALL (ARRAY[{}]::pg_catalog.oid[])
                        AND con.confrelid IN (SELECT $1::oid UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors($1::oid) a)) AS takes_along",
            still_there(member.oid, &member.name).sql,
            part.sql,
            match kept {
                true => self.same_columns(member),
                false => "true".to_owned(),
            },
            known.join(", ")
        );
        Query::new(sql, part.params)
    }

    /// Foreign keys that point at rows of a member and would not be asked when they go.
    pub(super) fn asleep(&self, member: u32) -> &[String] {
        self.hanging.get(&member).map_or(&[], |tie| &tie.asleep)
    }

    /// Why the server refuses to delete any row of a member: publications that could not tell of it. Where
    /// rows are reached through the table, those of its other members have the same say.
    pub(super) fn unpublishable(&self, table: &Table, member: &Member) -> Vec<String> {
        let mut all = Vec::new();
        let through = self.through(table, member);
        let beside = table.members.iter().filter(|other| {
            through && other.kind == "r" && other.oid != member.oid && !other.detached
        });
        for one in std::iter::once(member).chain(beside) {
            let own = self.hanging.get(&one.oid);
            all.extend(
                own.into_iter()
                    .flat_map(|tie| &tie.unpublishable)
                    .map(|why| match one.oid == member.oid {
                        true => why.clone(),
                        false => {
                            format!("rows go through {}, and of {}: {why}", table.name, one.name)
                        }
                    }),
            );
        }
        all.extend(
            self.unfollowed
                .get(&member.oid)
                .into_iter()
                .flatten()
                .cloned(),
        );
        all
    }

    /// Tells the triggers and rules that deletes of a member's rows meet from others: another text
    /// where one of them was changed.
    pub(super) fn print(&self, table: &Table, member: &Member) -> String {
        let of = |oid: u32| self.hanging.get(&oid).map_or("", |tie| &*tie.print);
        format!("{}/{}", of(member.oid), of(table.oid))
    }

    /// Whether triggers or rules run when rows of a member are deleted, or may run because rows of
    /// others go along.
    pub(super) fn fires(&self, table: &Table, member: &Member) -> bool {
        if self.references(member.oid, true).iter().any(|r| r.takes) {
            return true;
        }
        let through = self.through(table, member).then_some(table.oid);
        [Some(member.oid), through]
            .into_iter()
            .flatten()
            .filter_map(|oid| self.hanging.get(&oid))
            .any(|tie| !(tie.before.is_empty() && tie.triggers.is_empty() && tie.rules.is_empty()))
    }

    /// A rule of the table that a member's rows are deleted from, with that table: any, or one that does
    /// something instead. What is deleted cannot be given back there.
    pub(in crate::kinds::postgres) fn rule<'a>(
        &'a self,
        table: &'a Table,
        member: &'a Member,
        any: bool,
    ) -> Option<(&'a str, &'a RelationName)> {
        let of = match self.through(table, member) {
            true => (table.oid, &table.name),
            false => (member.oid, &member.name),
        };
        let tie = self.hanging.get(&of.0)?;
        let rules = if any { &tie.rules } else { &tie.instead };
        Some((rules.first()?, of.1))
    }

    /// What happens when rows of a member are deleted, and would not happen
    /// if it were dropped.
    pub(super) fn bypassed(&self, table: &Table, member: &Member) -> Vec<String> {
        self.passed_by(table, (member.oid, &member.name))
    }

    fn passed_by(&self, table: &Table, member: (u32, &RelationName)) -> Vec<String> {
        let mut all = Vec::new();
        for (oid, name) in [(table.oid, &table.name), member] {
            let Some(tie) = self.hanging.get(&oid) else {
                continue;
            };
            let triggers = tie.before.iter().chain(&tie.triggers);
            all.extend(triggers.map(|t| format!("trigger {t} of {name}")));
            all.extend(tie.rules.iter().map(|r| format!("rule {r} of {name}")));
            if tie.policies {
                all.push(format!("row-level security of {name}"));
            }
            let published = tie.publications.iter();
            all.extend(published.map(|p| format!("publication {p}")));
            if oid == table.oid && table.oid == member.0 {
                break;
            }
        }
        all.sort();
        all.dedup();
        all
    }

    /// What keeps a member from being dropped.
    pub(in crate::kinds::postgres) fn dependents(&self, member: u32) -> &[String] {
        self.hanging
            .get(&member)
            .map_or(&[], |tie| tie.dependents.as_slice())
    }

    /// Why an expired partition is not dropped as a whole; none where it is.
    pub(in crate::kinds::postgres) fn by_rows(
        &self,
        table: &Table,
        member: &Member,
        drop_partitions: Option<bool>,
    ) -> Option<String> {
        let dependents = self.dependents(member.oid);
        if !dependents.is_empty() {
            return Some(format!(
                "it is not dropped: {} depends on it",
                dependents.join(", ")
            ));
        }
        self.kept_from_dropping(table, (member.oid, &member.name), drop_partitions)
    }

    /// The same for what is no partition any more, whatever depends on it.
    pub(in crate::kinds::postgres) fn kept_from_dropping(
        &self,
        table: &Table,
        member: (u32, &RelationName),
        drop_partitions: Option<bool>,
    ) -> Option<String> {
        let bypassed = self.passed_by(table, member);
        match drop_partitions {
            Some(true) => None,
            Some(false) => Some("it is not dropped: `drop_partitions: false`".to_owned()),
            None if bypassed.is_empty() => None,
            None => Some(format!(
                "it is not dropped, because that would pass by {}; `drop_partitions: true` drops it all the same",
                bypassed.join(", ")
            )),
        }
    }
}
