//! Reads the partitioned tables that are asked for, and what was taken out of them.

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;

use super::calendar::{Key, KeyEpoch};
use super::facts::{Facts, MARK, Retired, Table, a_held, bytes};
use super::{default, doubts, nodes, subscribers};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{size_of, tree, with_ancestors};
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::kinds::postgres::held::holders;
use crate::kinds::postgres::leaving::DROPS_WATCHED;
use crate::kinds::postgres::{dependents, trust};
use crate::plan::Site;
use crate::values::{TableName, unreadable};

const TABLES: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
        coalesce(p.partstrat::text, '') AS strategy,
        (SELECT a.attname::text FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND p.partnatts = 1 AND p.partattrs[0] > 0) AS column_name,
        -- Domains may be over domains.
        coalesce((WITH RECURSIVE base (oid, below) AS (
                SELECT t.oid, t.typbasetype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                    WHERE a.attrelid = c.oid AND a.attnum = p.partattrs[0]
                UNION ALL SELECT t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below)
            SELECT t.typname::text FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE b.below = 0), '') AS key_type,
        nullif(p.partdefid, 0) AS default_oid,
        {lacks} AS lacks, (SELECT {may_not_create}) AS may_not_create,
        ARRAY(SELECT DISTINCT f.conrelid::pg_catalog.regclass::text FROM pg_catalog.pg_constraint f
            WHERE f.confrelid IN {with_ancestors}
                AND f.contype = 'f' AND f.conparentid = 0 ORDER BY 1) AS referenced_by,
        ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            ORDER BY a.attnum) AS columns,
        (SELECT pg_catalog.format('%I.%I', m.nspname, o.opcname) FROM pg_catalog.pg_opclass o
                JOIN pg_catalog.pg_namespace m ON m.oid = o.opcnamespace
            WHERE o.oid = p.partclass[0] AND NOT o.opcdefault) AS ordered_by,
        {watched} AS watched,
        -- Where tables above are partitioned by the same column, their bounds are this one's, too.
        ARRAY(SELECT pg_catalog.pg_get_expr(b.relpartbound, 0) FROM {with_ancestors} AS above
            JOIN pg_catalog.pg_class b ON b.oid = above.relid AND b.relpartbound IS NOT NULL
            JOIN pg_catalog.pg_inherits h ON h.inhrelid = b.oid
            JOIN pg_catalog.pg_partitioned_table u ON u.partrelid = h.inhparent AND u.partstrat = 'r' AND u.partnatts = 1
            JOIN pg_catalog.pg_attribute ua ON ua.attrelid = u.partrelid AND ua.attnum = u.partattrs[0]
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND p.partnatts = 1 AND a.attname = ua.attname) AS within
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS want (schema, relation)
        JOIN pg_catalog.pg_namespace n ON n.nspname = want.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = want.relation
        LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// The statements that let the role attach and detach partitions; an empty one where no statement
/// should: a member of a superuser is one.
const LACKS: &str = "ARRAY(SELECT l.lack FROM (
            SELECT CASE WHEN pg_catalog.pg_has_role(o.oid, 'USAGE') THEN NULL
                WHEN EXISTS (SELECT FROM pg_catalog.pg_roles m WHERE (m.rolsuper OR m.rolcreaterole OR m.rolreplication OR m.rolbypassrls)
                    AND pg_catalog.pg_has_role(o.oid, m.oid, 'MEMBER')) THEN ''
                WHEN pg_catalog.pg_has_role(o.oid, 'MEMBER') THEN {inherit}
                ELSE pg_catalog.format('GRANT %I TO %I', o.rolname, current_user) END AS lack
            FROM pg_catalog.pg_roles o WHERE o.oid = c.relowner
            UNION ALL SELECT {may_not}) l
        WHERE l.lack IS NOT NULL)";

/// The statement that lets the role do this in the table's schema. What its owner may do there is a member's as well.
const MAY_NOT: &str = "pg_catalog.format('GRANT {right} ON SCHEMA %I TO %I', n.nspname, pg_catalog.pg_get_userbyid(c.relowner))
            WHERE NOT pg_catalog.has_schema_privilege(n.oid, '{right}') AND NOT pg_catalog.has_schema_privilege(c.relowner, n.oid, '{right}')";

/// What a member lacks that does not inherit, from 16 on said of the membership.
fn lacks(major: i32) -> String {
    let may_not = MAY_NOT.replace("{right}", "USAGE");
    LACKS.replace("{may_not}", &may_not).replace(
        "{inherit}",
        match major {
            16.. => {
                "pg_catalog.format('GRANT %I TO %I WITH INHERIT TRUE', o.rolname, current_user)"
            }
            _ => "pg_catalog.format('ALTER ROLE %I INHERIT', current_user)",
        },
    )
}

const TAKEN: &str = "SELECT n.nspname::text, c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1)
    -- A table is a type, too. Types of arrays make way by themselves.
    UNION SELECT n.nspname::text, t.typname::text
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = ANY ($1) AND t.typcategory <> 'A'";

/// Whatever goes along into another schema keeps its name: the table, its indexes, its sequences.
const KEPT: &str = "SELECT o.oid, min(pg_catalog.format('%I.%I', n.nspname, taken.name))
    FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS o (oid)
        JOIN pg_catalog.pg_class c ON c.oid = o.oid
        JOIN pg_catalog.pg_namespace n ON n.nspname = $2::text AND n.oid <> c.relnamespace
        CROSS JOIN LATERAL (SELECT c.relname AS name UNION SELECT x.relname FROM pg_catalog.pg_index i
                JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid
            UNION SELECT s.relname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid AND d.deptype IN ('a', 'i')) AS own
        CROSS JOIN LATERAL (SELECT t.relname AS name FROM pg_catalog.pg_class t WHERE t.relnamespace = n.oid AND t.relname = own.name
            UNION SELECT t.typname FROM pg_catalog.pg_type t
                WHERE t.typnamespace = n.oid AND t.typname = own.name AND own.name = c.relname AND t.typcategory <> 'A') AS taken
    GROUP BY o.oid";

const RETIRED: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
        pg_catalog.substr(d.description, pg_catalog.length($1::text) + 1) AS mark,
        (SELECT coalesce(pg_catalog.sum({size}), 0)::int8 FROM {below} b JOIN pg_catalog.pg_class l ON l.oid = b.relid AND l.relkind = 'r') AS bytes,
        c.relkind = 'f' AS is_foreign,
        (SELECT pg_catalog.min(pg_catalog.format('%I.%I', ns.nspname, l.relname)) FROM {below} b JOIN pg_catalog.pg_class l ON l.oid = b.relid AND l.relkind = 'f'
            JOIN pg_catalog.pg_namespace ns ON ns.oid = l.relnamespace WHERE l.oid <> c.oid) AS foreign_below,
        (SELECT pg_catalog.min(i.inhparent::pg_catalog.regclass::text) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS parent,
        -- Anybody can write a comment: a table of another owner was no partition.
        EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.relkind = 'p' AND r.relowner = c.relowner
            AND pg_catalog.starts_with(d.description, $1::text || CASE WHEN r.oid::pg_catalog.regclass::text ~ E'[\\n\\r]'
                THEN pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(r.oid::pg_catalog.regclass::text, E'\\\\', E'\\\\\\\\'), E'\\n', E'\\\\n'), E'\\r', E'\\\\r')
                ELSE r.oid::pg_catalog.regclass::text END || ' since ')) AS named
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
        AND c.relkind IN ('r', 'p', 'f')
        AND pg_catalog.starts_with(d.description, $1::text)
        AND pg_catalog.pg_has_role(c.relowner, 'USAGE')";

/// Reads everything about the tables with these names.
pub(super) async fn read(
    site: &Site<Session>,
    names: Vec<TableName>,
    epoch: Option<KeyEpoch>,
    max_default_bytes: i64,
    keep_in: Option<&str>,
) -> Result<Facts, EngineError> {
    let db = &site.primary;
    let mut facts = Facts {
        clock: db.server.clock_differs(),
        standing: Standing::default(),
        major: db.server.major(),
        role: db.server.role.clone(),
        by_default: Vec::new(),
        clock_ahead: TimeDelta::milliseconds(db.server.clock_ahead_ms),
        names: Vec::new(),
        of_all: None,
        tables: HashMap::new(),
        fitting: HashMap::new(),
        nodes: HashMap::new(),
        taken: HashSet::new(),
        schemas: HashSet::new(),
        kept_already: HashMap::new(),
        retired: Vec::new(),
        dependents: HashMap::new(),
        publications: HashMap::new(),
        held: HashMap::new(),
    };
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|name| name.table.as_str()).collect();
    let doing = "reading the partitioned tables";
    let sql = TABLES.replace("{watched}", DROPS_WATCHED);
    let sql = sql.replace("{with_ancestors}", &with_ancestors("c.oid"));
    let sql = sql
        .replace("{lacks}", &lacks(facts.major))
        .replace("{may_not_create}", &MAY_NOT.replace("{right}", "CREATE"));
    for row in db.query(doing, &sql, &[&schemas, &relations]).await? {
        let (schema, table): (String, String) = (row.named("schema")?, row.named("name")?);
        let name = TableName {
            schema: schema.clone(),
            table: table.clone(),
        };
        let found = Table {
            oid: row.named("oid")?,
            name: RelationName::new(schema, table),
            kind: row.named("kind")?,
            strategy: row.named("strategy")?,
            column: row
                .named::<Option<String>>("column_name")?
                .map(Identifier::new),
            key_type: row.named("key_type")?,
            default: row.named("default_oid")?,
            lacks: row.named("lacks")?,
            may_not_create: row.named("may_not_create")?,
            referenced_by: row.named("referenced_by")?,
            columns: row.named("columns")?,
            ordered_by: row.named("ordered_by")?,
            watched: row.named("watched")?,
            within: row.named("within")?,
            strays: Vec::new(),
            unread: None,
            keeping: Vec::new(),
            referring: Vec::new(),
            fired: Vec::new(),
            published: Vec::new(),
            keeps: default::keeping_sql(&db.server),
        };
        facts.tables.insert(name, found);
    }
    facts.fitting = fitting(db, &names, &facts.tables).await?;
    let roots: Vec<u32> = facts.tables.values().map(|table| table.oid).collect();
    nodes::read(db, &roots, &mut facts).await?;
    let doing = "reading which names are taken";
    for row in db.query(doing, TAKEN, &[&schemas]).await? {
        facts.taken.insert((row.get(0)?, row.get(1)?));
    }
    let sql = "SELECT nspname::text FROM pg_catalog.pg_namespace";
    for row in db
        .query("reading which schemas there are", sql, &[])
        .await?
    {
        facts.schemas.insert(row.get(0)?);
    }
    let doing = "reading which partitions wait to be dropped";
    let retired = RETIRED
        .replace("{size}", &size_of("l"))
        .replace("{below}", &tree("c.oid"));
    for row in db.query(doing, &retired, &[&MARK]).await? {
        facts.retired.push(Retired {
            oid: row.named("oid")?,
            name: row.relation("schema", "name")?,
            mark: row.named("mark")?,
            bytes: row.named("bytes")?,
            foreign: row.named("is_foreign")?,
            foreign_below: row.named("foreign_below")?,
            part_of: row
                .named::<Option<String>>("parent")?
                .map(|name| unreadable::escaped(&name).into_owned()),
            named: row.named("named")?,
        });
    }
    let nodes = roots.iter().filter_map(|root| facts.nodes.get(root));
    let droppable: Vec<u32> = nodes
        .flat_map(|root| root.children.iter().copied())
        .chain(facts.retired.iter().map(|retired| retired.oid))
        .collect();
    if let Some(schema) = keep_in {
        let doing = "reading which names are taken where partitions are kept";
        for row in db.query(doing, KEPT, &[&droppable, &schema]).await? {
            let name: String = row.get(1)?;
            let name = unreadable::escaped(&name).into_owned();
            facts.kept_already.insert(row.get(0)?, name);
        }
    }
    facts.dependents = dependents::read(db, &droppable).await?;
    facts.publications = subscribers::publications(db, &roots).await?;
    facts.standing = trust::read(site, roots.into_iter().chain(read_to_go(&facts, epoch))).await?;
    for table in facts.tables.values_mut() {
        // What is too large to be read while others wait is not read here either.
        let default = table.default.map_or(0, |oid| bytes(oid, &facts.nodes));
        let trusted = facts
            .standing
            .code(Touch::new(table.oid, Use::Define))
            .is_empty();
        let held = table
            .default
            .and_then(|oid| a_held(oid, &facts.nodes, &facts.held));
        if default <= max_default_bytes && trusted && held.is_none() {
            if !default::count(db, table, &facts.nodes, epoch, &facts.standing).await?
                && let Some(default) = table.default
            {
                facts.held.extend(holders(db, &[default]).await?);
            }
            default::keeping(db, table).await?;
        }
    }
    facts.names = names;
    Ok(facts)
}

/// What may be dropped only where its rows say so, apart from their table: they are read for that.
fn read_to_go(facts: &Facts, epoch: Option<KeyEpoch>) -> Vec<u32> {
    let doubted = facts.tables.values().flat_map(|table| {
        let key = Key::of(&table.key_type, epoch).ok();
        let root = facts.nodes.get(&table.oid).filter(|_| key.is_some());
        let children = root
            .into_iter()
            .flat_map(|root| root.children.iter().copied());
        children.filter(move |oid| {
            let bounds = facts.nodes.get(oid).and_then(|node| node.bounds.as_deref());
            key.is_some_and(|key| doubts::may_be_asked(key, bounds))
        })
    });
    doubted
        .chain(facts.retired.iter().map(|retired| retired.oid))
        .collect()
}

const PARTITIONED: &str = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'p' AND NOT c.relispartition ORDER BY 1, 2";

/// What names that are no table's would fit, if they were patterns.
async fn fitting(
    db: &Session,
    names: &[TableName],
    known: &HashMap<TableName, Table>,
) -> Result<HashMap<TableName, Vec<String>>, EngineError> {
    let patterns = names
        .iter()
        .filter(|name| !known.contains_key(name))
        .filter_map(|name| Some((name, name.as_pattern()?)));
    let patterns: Vec<_> = patterns.collect();
    let mut found = HashMap::new();
    if patterns.is_empty() {
        return Ok(found);
    }
    let doing = "looking for partitioned tables";
    let mut tables = Vec::new();
    for row in db.query(doing, PARTITIONED, &[]).await? {
        tables.push(TableName {
            schema: row.get(0)?,
            table: row.get(1)?,
        });
    }
    for (name, pattern) in patterns {
        let fit = tables
            .iter()
            .filter(|one| pattern.matches(&one.schema, &one.table));
        found.insert(name.clone(), fit.map(ToString::to_string).collect());
    }
    Ok(found)
}
