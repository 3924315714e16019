//! Partitions, and everything that those carry.

use std::collections::HashMap;

use super::facts::{Attached, Facts, Node, Publication};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{held, size_of};
use crate::engines::postgres::publications::published;
use crate::engines::postgres::{RelationName, Row, Session, each, rights};
use crate::kinds::postgres::held::{AGAIN, LOOKS, holders};

// Bounds have no columns: written down without their table, they wait for nobody who holds it.
const NODES: &str = "WITH RECURSIVE tree AS (
        SELECT r.oid, NULL::pg_catalog.oid AS parent, false AS pending, r.oid AS root
            FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS r (oid)
        UNION ALL
        SELECT i.inhrelid, i.inhparent, i.inhdetachpending, tree.root
            FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid)
    SELECT DISTINCT ON (tree.oid) tree.oid, tree.parent, tree.pending, n.nspname::text AS schema, c.relname::text AS name,
        c.relkind::text AS kind, pg_catalog.pg_get_expr(c.relpartbound, 0) AS bounds,
        CASE WHEN c.relkind = 'p' AND NOT {held} THEN pg_catalog.pg_get_partkeydef(c.oid) END AS key,
        pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
        coalesce(c.reloptions, '{}') || ARRAY(SELECT 'toast.' || o FROM pg_catalog.unnest(t.reloptions) o) AS options,
        s.spcname::text AS tablespace, c.relpersistence = 'u' AS unlogged,
        CASE WHEN am.amname <> pg_catalog.current_setting('default_table_access_method') THEN am.amname::text END AS access_method,
        pg_catalog.obj_description(c.oid, 'pg_class') AS comment, c.relreplident::text AS replica_identity,
        (SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place) FROM pg_catalog.pg_index x
            CROSS JOIN LATERAL pg_catalog.unnest(x.indkey) WITH ORDINALITY u (att, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.att
            WHERE x.indrelid = c.oid AND x.indisreplident AND u.place <= x.indnkeyatts) AS replica_columns,
        EXISTS (SELECT FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (x.indkey::int2[])
            JOIN pg_catalog.pg_attribute above ON above.attrelid = tree.parent AND above.attname = a.attname AND NOT above.attnotnull
            WHERE x.indrelid = c.oid AND x.indisreplident) AS replica_nullable,
        {size} AS bytes, {rights} AS rights, c.relrowsecurity AS row_security, c.relforcerowsecurity AS forced,
        coalesce(pg_catalog.has_tablespace_privilege(s.oid, 'CREATE'), true) AS may_tablespace,
        -- What is made lies in the schema of the table, and is to be this one's owner's.
        ARRAY(SELECT l.lack FROM (
            SELECT CASE WHEN NOT pg_catalog.pg_has_role(o.oid, '{set}') THEN pg_catalog.format('GRANT %I TO %I%s', o.rolname, current_user,
                    CASE WHEN pg_catalog.pg_has_role(o.oid, 'MEMBER') THEN ' WITH SET TRUE' ELSE '' END) END AS lack
            FROM pg_catalog.pg_roles o WHERE o.oid = c.relowner
            UNION ALL SELECT pg_catalog.format('GRANT CREATE ON SCHEMA %I TO %I', ns.nspname, o.rolname)
            FROM pg_catalog.pg_roles o, pg_catalog.pg_class root, pg_catalog.pg_namespace ns
            WHERE o.oid = c.relowner AND root.oid = tree.root AND ns.oid = root.relnamespace AND o.rolname <> current_user
                AND NOT (SELECT u.rolsuper FROM pg_catalog.pg_roles u WHERE u.rolname = current_user)
                AND NOT pg_catalog.has_schema_privilege(o.oid, ns.oid, 'CREATE')) l
            WHERE l.lack IS NOT NULL) AS unheritable,
        {held} AS held
    FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
        LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
        LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam AND c.relkind IN ('r', 'p')
    ORDER BY tree.oid, tree.parent NULLS LAST";

/// What is granted beyond what owners have anyway.
const GRANTS: &str =
    "SELECT c.oid, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END AS grantee,
        a.privilege_type::text AS privilege, a.is_grantable AS grantable
    FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
    WHERE c.oid = ANY ($1) AND a.grantee <> c.relowner ORDER BY oid, grantee NULLS FIRST, privilege";

/// What owners have taken from themselves.
const GIVEN_UP: &str = "SELECT c.oid, ARRAY(SELECT o.privilege_type::text FROM pg_catalog.aclexplode(pg_catalog.acldefault('r', c.relowner)) o
        WHERE o.privilege_type NOT IN (SELECT a.privilege_type FROM pg_catalog.aclexplode(c.relacl) a WHERE a.grantee = c.relowner)
        ORDER BY 1)
    FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1) AND c.relacl IS NOT NULL";

/// Whom default privileges give rights on new tables of the role, in any schema.
const BY_DEFAULT: &str = "SELECT DISTINCT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END
    FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole AND r.rolname = current_user
        CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a
    WHERE d.defaclobjtype = 'r' ORDER BY 1 NULLS FIRST";

/// Privileges on single columns.
const COLUMN_GRANTS: &str =
    "SELECT t.attrelid AS oid, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END AS grantee,
        a.privilege_type::text AS privilege, t.attname::text AS column_name, a.is_grantable AS grantable
    FROM pg_catalog.pg_attribute t JOIN pg_catalog.pg_class c ON c.oid = t.attrelid
        CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a
    WHERE t.attrelid = ANY ($1) AND NOT t.attisdropped AND a.grantee <> c.relowner ORDER BY oid, grantee NULLS FIRST, privilege, column_name";

// An expression names its table where it has to: in a subquery.
const POLICIES: &str = "SELECT p.polrelid, p.polname::text, pg_catalog.concat_ws(' ',
            'AS', CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
            'FOR', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
            'TO', (SELECT pg_catalog.string_agg(CASE WHEN r.oid = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.oid)) END, ', ')
                FROM pg_catalog.unnest(p.polroles) r (oid)),
            'USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
            'WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
    FROM pg_catalog.pg_policy p WHERE p.polrelid = ANY ($1) ORDER BY 1, 2";

/// Constraints over several rows that a partition has of its own. Those over
/// single rows are left out: they often say which rows are in that partition.
const OWN_CONSTRAINTS: &str = "SELECT k.conrelid, pg_catalog.pg_get_constraintdef(k.oid)
    FROM pg_catalog.pg_constraint k WHERE k.conrelid = ANY ($1) AND k.contype IN ('p', 'u', 'x') AND k.conparentid = 0 ORDER BY k.oid";

/// Indexes that a partition has of its own: neither the parent's nor a constraint's.
const OWN_INDEXES: &str = "SELECT x.indrelid, x.indisunique, pg_catalog.substr(d.text, pg_catalog.length(d.start) + 1)
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class c ON c.oid = x.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_indexdef(i.oid) AS text, pg_catalog.format('CREATE %sINDEX %I ON %I.%I ',
        CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, i.relname, n.nspname, c.relname) AS start) d
    WHERE x.indrelid = ANY ($1) AND x.indisvalid AND NOT i.relispartition AND i.relkind = 'i' AND c.relkind = 'r' AND c.relispartition
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))
        AND pg_catalog.starts_with(d.text, d.start)
    ORDER BY x.indexrelid";

/// What partitions have that their parents have not, and that means code or
/// rows of others: triggers, rules, constraints on single rows (but those over
/// the key, which mostly repeat the bounds), foreign keys, extended statistics,
/// columns that may not be null, have other defaults, or are kept in another way; and what
/// people wrote on columns and indexes, or set for these.
const BESIDES: &str = "WITH one AS (
        SELECT c.oid, i.inhparent, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
        WHERE c.oid = ANY ($1) AND c.relispartition)
    SELECT o.oid, h.what, h.sql FROM one o CROSS JOIN LATERAL (
        SELECT 'the trigger ' || pg_catalog.quote_ident(t.tgname) AS what,
            pg_catalog.replace(pg_catalog.pg_get_triggerdef(t.oid), ' ON ' || o.name || ' ', ' ON {table} ')
                || CASE t.tgenabled WHEN 'O' THEN '' ELSE pg_catalog.format('; ALTER TABLE {table} %s TRIGGER %I', {state}, t.tgname) END AS sql
        FROM pg_catalog.pg_trigger t WHERE t.tgrelid = o.oid AND NOT t.tgisinternal AND t.tgparentid = 0
        UNION ALL SELECT 'another state of the trigger ' || pg_catalog.quote_ident(t.tgname),
            pg_catalog.format('ALTER TABLE {table} %s TRIGGER %I', {state}, t.tgname)
        FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_trigger above ON above.oid = t.tgparentid
        WHERE t.tgrelid = o.oid AND NOT above.tgisinternal AND t.tgenabled <> 'O' AND t.tgenabled <> above.tgenabled
        UNION ALL SELECT 'the rule ' || pg_catalog.quote_ident(r.rulename),
            -- The first name after TO is the table's; a line ends behind it where there is a condition.
            pg_catalog.rtrim(pg_catalog.overlay(d.text, ' TO {table}', pg_catalog.strpos(d.text, ' TO ' || o.name),
                pg_catalog.length(' TO ' || o.name)), ';')
        FROM pg_catalog.pg_rewrite r CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_ruledef(r.oid) AS text) AS d
        WHERE r.ev_class = o.oid AND r.ev_type <> '1' AND pg_catalog.strpos(d.text, ' TO ' || o.name) > 0
        UNION ALL SELECT CASE k.contype WHEN 'f' THEN 'the foreign key ' ELSE 'the check ' END || pg_catalog.quote_ident(k.conname),
            pg_catalog.format('ALTER TABLE {table} ADD CONSTRAINT %I %s', k.conname, pg_catalog.pg_get_constraintdef(k.oid))
        FROM pg_catalog.pg_constraint k WHERE k.conrelid = o.oid AND k.contype IN ('c', 'f') AND k.conparentid = 0 AND k.coninhcount = 0
            AND (k.contype = 'f' OR NOT EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p
                JOIN pg_catalog.pg_attribute above ON above.attrelid = p.partrelid AND above.attnum = ANY (p.partattrs::int2[])
                JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid AND a.attname = above.attname
                WHERE p.partrelid = o.inhparent AND a.attnum = ANY (k.conkey)))
        UNION ALL SELECT 'NOT NULL of ' || pg_catalog.quote_ident(a.attname),
            pg_catalog.format('ALTER TABLE {table} ALTER COLUMN %I SET NOT NULL', a.attname)
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute above ON above.attrelid = o.inhparent AND above.attname = a.attname
        WHERE a.attrelid = o.oid AND a.attnum > 0 AND a.attnotnull AND NOT above.attnotnull
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = o.oid AND k.contype = 'p' AND a.attnum = ANY (k.conkey))
            -- A new partition is given what its identity of rows needs.
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = o.oid AND x.indisreplident AND a.attnum = ANY (x.indkey::int2[]))
        UNION ALL SELECT 'the default of ' || pg_catalog.quote_ident(a.attname),
            pg_catalog.format('ALTER TABLE {table} ALTER COLUMN %I SET DEFAULT %s', a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            JOIN pg_catalog.pg_attribute above ON above.attrelid = o.inhparent AND above.attname = a.attname
            LEFT JOIN pg_catalog.pg_attrdef their ON their.adrelid = above.attrelid AND their.adnum = above.attnum
        WHERE a.attrelid = o.oid AND a.attgenerated = ''
            AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) IS DISTINCT FROM pg_catalog.pg_get_expr(their.adbin, their.adrelid)
        UNION ALL SELECT k.what || pg_catalog.quote_ident(a.attname),
            pg_catalog.format('ALTER TABLE {table} ALTER COLUMN %I SET %s', a.attname, k.sql)
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute above ON above.attrelid = o.inhparent AND above.attname = a.attname
            -- Some servers keep notes of their own there (`pg_attver`, Debian's 15.20), which nobody can set.
            CROSS JOIN LATERAL (SELECT
                ARRAY(SELECT o FROM pg_catalog.unnest(a.attoptions) AS o WHERE NOT pg_catalog.starts_with(o, 'pg_')) AS its,
                ARRAY(SELECT o FROM pg_catalog.unnest(above.attoptions) AS o WHERE NOT pg_catalog.starts_with(o, 'pg_')) AS theirs) AS options
            CROSS JOIN LATERAL (VALUES
                (a.attstorage <> above.attstorage, 'the storage of ', 'STORAGE ' || CASE a.attstorage
                    WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END),
                (a.attcompression <> '' AND a.attcompression <> above.attcompression, 'the compression of ', 'COMPRESSION ' || CASE a.attcompression
                    WHEN 'p' THEN 'pglz' ELSE 'lz4' END),
                (options.its <> '{}' AND options.its <> options.theirs, 'the options of ',
                    '(' || pg_catalog.array_to_string(options.its, ', ') || ')'),
                (a.attstattarget >= 0 AND a.attstattarget IS DISTINCT FROM above.attstattarget, 'the statistics target of ',
                    'STATISTICS ' || a.attstattarget::text)) AS k (differs, what, sql)
        WHERE a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped AND k.differs
        UNION ALL SELECT 'the comment on the column ' || pg_catalog.quote_ident(a.attname),
            pg_catalog.format('COMMENT ON COLUMN {table}.%I IS %L', a.attname, d.description)
        FROM pg_catalog.pg_description d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND NOT a.attisdropped
        WHERE d.objoid = o.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid > 0
        UNION ALL SELECT c.what, CASE WHEN c.named THEN pg_catalog.format('COMMENT ON %s %I ON {table} IS %L', c.sort, c.name, d.description) ELSE '' END
        FROM (SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass AS class, p.oid, 'POLICY' AS sort, p.polname AS name, 'the comment on the policy ' || pg_catalog.quote_ident(p.polname) AS what, true AS named
                FROM pg_catalog.pg_policy p WHERE p.polrelid = o.oid
            UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, 'TRIGGER', t.tgname, 'the comment on the trigger ' || pg_catalog.quote_ident(t.tgname), true
                FROM pg_catalog.pg_trigger t WHERE t.tgrelid = o.oid AND NOT t.tgisinternal
            UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, 'RULE', r.rulename, 'the comment on the rule ' || pg_catalog.quote_ident(r.rulename), true
                FROM pg_catalog.pg_rewrite r WHERE r.ev_class = o.oid
            -- Which of them a new partition has, and what they are called there, is another matter.
            UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 'CONSTRAINT', k.conname, 'the comment on the constraint ' || pg_catalog.quote_ident(k.conname), false
                FROM pg_catalog.pg_constraint k WHERE k.conrelid = o.oid) AS c
            JOIN pg_catalog.pg_description d ON d.classoid = c.class AND d.objoid = c.oid AND d.objsubid = 0
        -- The server chooses what indexes of the new partition are called.
        UNION ALL SELECT k.what || pg_catalog.quote_ident(i.relname), ''
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
            LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.oid LEFT JOIN pg_catalog.pg_class parent ON parent.oid = h.inhparent
            CROSS JOIN LATERAL (VALUES
                (parent.reloptions IS DISTINCT FROM i.reloptions AND parent.oid IS NOT NULL, 'the options of the index '),
                (parent.reltablespace <> i.reltablespace, 'the tablespace of the index '),
                (x.indisclustered, 'the CLUSTER mark on '),
                (EXISTS (SELECT FROM pg_catalog.pg_description d WHERE d.objoid = i.oid AND d.objsubid = 0
                    AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass), 'the comment on the index '),
                (EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0), 'statistics targets of the index '))
                AS k (there, what)
        WHERE x.indrelid = o.oid AND k.there
        UNION ALL SELECT 'the extended statistics ' || pg_catalog.quote_ident(s.stxname),
            ''
        FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = o.oid) h
    -- What is commented on is made before.
    ORDER BY 1, pg_catalog.starts_with(h.sql, 'COMMENT '), 2";

/// How ALTER TABLE says what a trigger is.
const STATE: &str = "CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END";

const PUBLICATIONS: &str =
    "SELECT r.prrelid AS oid, p.pubname::text AS name, {some} AS some, pg_catalog.pg_has_role(p.pubowner, 'USAGE') AS may, false AS by_schema
    FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
    WHERE r.prrelid = ANY ($1){by_schema} ORDER BY oid, name";

/// Publications that have a partition because of its schema, and will not have those that are made in the schema of the
/// table.
const BY_SCHEMA: &str = "
    UNION ALL SELECT c.oid, p.pubname::text, NULL, pg_catalog.pg_has_role(p.pubowner, 'USAGE'), true
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_publication_namespace s ON s.pnnspid = c.relnamespace
        JOIN pg_catalog.pg_publication p ON p.oid = s.pnpubid JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    WHERE c.oid = ANY ($1) AND NOT {published}
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)";

/// Reads the partitions, and looks again while somebody holds one of them.
async fn rows_of_nodes(db: &Session, roots: &[u32]) -> Result<Vec<Row>, EngineError> {
    let sql = NODES
        .replace("{held}", &held("c.oid"))
        // Since 16 a member may have been kept from giving things to the role.
        .replace(
            "{set}",
            if db.server.major() >= 16 {
                "SET"
            } else {
                "MEMBER"
            },
        )
        .replace("{rights}", &rights::number("c.oid"))
        .replace("{size}", &size_of("c"));
    let mut look = 1;
    loop {
        let rows = db.query("reading the partitions", &sql, &[&roots]).await?;
        let mut any = false;
        for row in &rows {
            any |= row.named::<bool>("held")?;
        }
        if !any || look == LOOKS {
            return Ok(rows);
        }
        look += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

/// What is at or below these, and free to be looked at: what is held is not, nor what is below it.
fn free(oids: &[u32], facts: &Facts, found: &mut Vec<u32>) {
    for oid in oids.iter().filter(|oid| !facts.held.contains_key(oid)) {
        found.push(*oid);
        if let Some(node) = facts.nodes.get(oid) {
            free(&node.children, facts, found);
        }
    }
}

/// Reads the partitions of these tables.
pub(super) async fn read(
    db: &Session,
    roots: &[u32],
    facts: &mut Facts,
) -> Result<(), EngineError> {
    let mut held = Vec::new();
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    for row in rows_of_nodes(db, roots).await? {
        if row.named("held")? {
            held.push(row.named("oid")?);
        }
        let node = Node {
            oid: row.named("oid")?,
            rights: row.named("rights")?,
            detach_pending: row.named("pending")?,
            name: RelationName::new(row.named::<String>("schema")?, row.named::<String>("name")?),
            kind: row.named("kind")?,
            bounds: row.named("bounds")?,
            key: row.named("key")?,
            owner: row.named("owner")?,
            options: row.named("options")?,
            tablespace: row.named("tablespace")?,
            unlogged: row.named("unlogged")?,
            access_method: row.named("access_method")?,
            comment: row.named("comment")?,
            replica_identity: row.named("replica_identity")?,
            replica_columns: row.named("replica_columns")?,
            replica_nullable: row.named("replica_nullable")?,
            bytes: row.named("bytes")?,
            may_tablespace: row.named("may_tablespace")?,
            unheritable: row.named("unheritable")?,
            attached: Attached {
                row_security: row.named("row_security")?,
                forced: row.named("forced")?,
                ..Attached::default()
            },
            children: Vec::new(),
            grants: Vec::new(),
            given_up: Vec::new(),
            publications: Vec::new(),
        };
        let (oid, parent): (u32, Option<u32>) = (row.named("oid")?, row.named("parent")?);
        let children = facts.nodes.insert(oid, node).map(|n| n.children);
        debug_assert!(children.is_none(), "one row per relation");
        if let Some(parent) = parent {
            below.entry(parent).or_default().push(oid);
        }
    }
    for (parent, children) in below {
        if let Some(node) = facts.nodes.get_mut(&parent) {
            node.children = children;
        }
    }
    facts.held = holders(db, &held).await?;
    let mut all = Vec::new();
    free(roots, facts, &mut all);
    let doing = "reading what is granted on partitions";
    for row in db.query(doing, GRANTS, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.named::<u32>("oid")?) {
            node.grants.push((
                row.named("grantee")?,
                row.named("privilege")?,
                row.named("grantable")?,
            ));
        }
    }
    for row in db.query(doing, GIVEN_UP, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            node.given_up = row.get(1)?;
        }
    }
    let doing = "reading default privileges";
    let by_default = db.query(doing, BY_DEFAULT, &[]).await?;
    facts.by_default = each(&by_default, |row| row.get(0))?;
    let some = if facts.major >= 15 {
        "nullif(pg_catalog.concat_ws(' ',
            '(' || (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) || ')',
            'WHERE (' || pg_catalog.pg_get_expr(r.prqual, r.prrelid) || ')'), '')"
    } else {
        "NULL::text"
    };
    let doing = "reading which partitions are published";
    let by_schema = match facts.major >= 15 {
        true => BY_SCHEMA.replace("{published}", &published(&db.server, "p", "i.inhparent")),
        false => String::new(),
    };
    let sql = PUBLICATIONS
        .replace("{some}", some)
        .replace("{by_schema}", &by_schema);
    for row in db.query(doing, &sql, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.named::<u32>("oid")?) {
            node.publications.push(Publication {
                name: row.named("name")?,
                some: row.named("some")?,
                may: row.named("may")?,
                by_schema: row.named("by_schema")?,
            });
        }
    }
    let doing = "reading what partitions have of their own";
    for row in db.query(doing, COLUMN_GRANTS, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.named::<u32>("oid")?) {
            let grant = (
                row.named("grantee")?,
                row.named("privilege")?,
                row.named("column_name")?,
                row.named("grantable")?,
            );
            node.attached.column_grants.push(grant);
        }
    }
    for row in db.query(doing, POLICIES, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            node.attached.policies.push((row.get(1)?, row.get(2)?));
        }
    }
    for row in db
        .query(doing, &BESIDES.replace("{state}", STATE), &[&all])
        .await?
    {
        if let (Some(node), Some(sql)) = (
            facts.nodes.get_mut(&row.get::<u32>(0)?),
            row.get::<Option<String>>(2)?,
        ) {
            node.attached.besides.push((row.get(1)?, sql));
        }
    }
    for row in db.query(doing, OWN_CONSTRAINTS, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            node.attached
                .constraints
                .extend(row.get::<Option<String>>(1)?);
        }
    }
    for row in db.query(doing, OWN_INDEXES, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            node.attached.indexes.push((row.get(1)?, row.get(2)?));
        }
    }
    Ok(())
}
