//! Reading what hangs on tables: at once for all of them.

use super::super::facts::Table;
use super::super::leftover::Leftover;
use super::super::standing;
use super::{Tie, Ties};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{by_people, enforced, with_ancestors};
use crate::engines::postgres::compared::cast;
use crate::engines::postgres::publications::{Published, published, refusals};
use crate::engines::postgres::{Row, Session};
use crate::kinds::postgres::dependents;
use crate::plan::Reference;
use crate::values::unreadable;

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
        EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.pubdelete) AS published,
        ARRAY(SELECT r.rulename::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4'
            AND r.ev_enabled IN ('O', 'A') AND r.is_instead ORDER BY 1) AS instead,
        (SELECT coalesce(pg_catalog.hashtextextended(pg_catalog.string_agg(h.text, '/' ORDER BY h.text), 0)::text, '') FROM (
            SELECT pg_catalog.concat_ws(':', t.oid, t.tgenabled, t.tgtype, t.tgqual, t.tgargs, f.oid, f.prosrc, f.proconfig)
                FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
                WHERE t.tgrelid = c.oid AND t.tgtype & 8 <> 0 AND NOT t.tgisinternal
            UNION ALL SELECT pg_catalog.concat_ws(':', r.oid, r.ev_enabled, r.ev_qual, r.ev_action)
                FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4') AS h (text)) AS print,
        ARRAY(SELECT DISTINCT pg_catalog.quote_ident(coalesce(u.conname, k.conname)) || ' of ' || k.conrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint AND k.contype = 'f' AND k.confrelid = t.tgrelid
                LEFT JOIN pg_catalog.pg_constraint u ON u.oid = k.conparentid
            WHERE t.tgrelid = c.oid AND t.tgisinternal AND t.tgtype & 8 <> 0 AND t.tgenabled NOT IN ('O', 'A') ORDER BY 1) AS asleep
    FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)"
);

/// Which publications send deletes in each table on, and why a delete would be refused for one. Most databases publish
/// nothing, and to plan this costs the server more than to answer all of [`HANGING`].
const PUBLISHED: &str = "SELECT c.oid,
        ARRAY(SELECT p.pubname::text FROM pg_catalog.pg_publication p WHERE p.pubdelete AND {published} ORDER BY 1) AS publications,
        {refused} AS unpublishable
    FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)";

/// The foreign keys that point at each table, or at one that it is a partition of; and numbers for its columns,
/// and for what decides whether it may be dropped.
const STANDING: &str = "WITH own AS (
        SELECT m.oid AS member, above.relid AS relation FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid)
            CROSS JOIN LATERAL {with_ancestors} AS above
    ), keys AS (
        SELECT own.member, pg_catalog.array_agg(con.oid ORDER BY con.oid) AS keys
        FROM own JOIN pg_catalog.pg_constraint con ON con.confrelid = own.relation AND con.contype = 'f' GROUP BY own.member
    )
    SELECT m.oid AS member, coalesce(k.keys, '{}') AS keys, {columns} AS columns, {leaving} AS leaving
    FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid) LEFT JOIN keys k ON k.member = m.oid";

const REFERENCES: &str = "WITH own AS (
        SELECT m.oid AS member, above.relid AS relation FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid)
            CROSS JOIN LATERAL {with_ancestors} AS above)
    SELECT own.member, con.conname::text AS constraint_name, n.nspname::text AS child_schema, c.relname::text AS child_name, c.relkind = 'p' AS partitioned,
        EXISTS (SELECT FROM own o WHERE o.member = own.member AND o.relation = con.conrelid) AS own,
        compared.columns, compared.operators, compared.referenced,
        con.confdeltype NOT IN ('a', 'r') AS takes, con.confdeltype = 'c' AS cascades,
        CASE WHEN con.confdeltype = 'c' THEN {deleted} WHEN con.confdeltype IN ('n', 'd') THEN {updated} ELSE '{}' END AS unfollowed
    FROM own JOIN pg_catalog.pg_constraint con ON con.confrelid = own.relation
        JOIN pg_catalog.pg_class c ON c.oid = con.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (SELECT
                pg_catalog.array_agg(pg_catalog.quote_ident(near.attname) || {cast_child} ORDER BY k.ord) AS columns,
                pg_catalog.array_agg(pg_catalog.format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY k.ord) AS operators,
                pg_catalog.array_agg(pg_catalog.quote_ident(far.attname) || {cast_parent} ORDER BY k.ord) AS referenced
            FROM ROWS FROM (pg_catalog.unnest(con.conkey), pg_catalog.unnest(con.confkey), pg_catalog.unnest(con.conpfeqop))
                    WITH ORDINALITY AS k (near, far, op, ord)
                JOIN pg_catalog.pg_attribute near ON near.attrelid = con.conrelid AND near.attnum = k.near
                JOIN pg_catalog.pg_attribute far ON far.attrelid = con.confrelid AND far.attnum = k.far
                CROSS JOIN LATERAL (SELECT w.* FROM pg_catalog.pg_operator w WHERE w.oid = k.op OFFSET 0) AS o
                JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace) AS compared
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
        let mut publishes = false;
        for row in db.query(doing, HANGING, &[&oids]).await? {
            publishes |= row.named::<bool>("published")?;
            let tie = Tie {
                before: names(&row, "before")?,
                triggers: names(&row, "triggers")?,
                statement: names(&row, "statement")?,
                rules: names(&row, "rules")?,
                policies: row.named("policies")?,
                publications: Vec::new(),
                instead: names(&row, "instead")?,
                print: row.named("print")?,
                unpublishable: Vec::new(),
                asleep: names(&row, "asleep")?,
                dependents: Vec::new(),
            };
            ties.hanging.insert(row.named("oid")?, tie);
        }
        if publishes {
            let doing = "reading what is published";
            let sql = PUBLISHED
                .replace("{published}", &published(&db.server, "p", "c.oid"))
                .replace("{refused}", &refusals(&db.server, Published::Delete));
            for row in db.query(doing, &sql, &[&oids]).await? {
                let tie = ties.hanging.entry(row.named("oid")?).or_default();
                tie.publications = names(&row, "publications")?;
                tie.unpublishable = names(&row, "unpublishable")?;
            }
        }
        for (oid, dependents) in dependents::read(db, &oids).await? {
            ties.hanging.entry(oid).or_default().dependents = dependents;
        }
        let doing = "reading which foreign keys there are";
        let leaving = |oid: &str| standing::leaving(oid, &db.server);
        let standing = STANDING
            .replace("{with_ancestors}", &with_ancestors("m.oid"))
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
        if ties.keys.values().all(Vec::is_empty) {
            return Ok(ties);
        }
        let doing = "reading which rows others point at";
        let references = REFERENCES
            .replace("{with_ancestors}", &with_ancestors("m.oid"))
            .replace("{enforced}", &enforced(&db.server, "con"))
            .replace("{cast_child}", &cast("o.oprright", "near.atttypid"))
            .replace("{cast_parent}", &cast("o.oprleft", "far.atttypid"))
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
}
