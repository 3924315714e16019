//! Partitions, and everything that those carry.

mod besides;

use std::collections::HashMap;

use self::besides::{BESIDES, STATE};
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
