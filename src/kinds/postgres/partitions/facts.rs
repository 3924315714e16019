//! Partitioned tables, their partitions, and everything that those carry.

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;

use super::calendar::{Epoch, Key, Point};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{by_people, held, published, size_of, tree};
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::engines::postgres::{Identifier, RelationName, Row, Server, Session, each};
use crate::kinds::postgres::common::DROPS_WATCHED;
use crate::kinds::postgres::held::{AGAIN, LOOKS, holders};
use crate::kinds::postgres::{dependents, trust};
use crate::plan::Site;
use crate::values::{TableName, unreadable};

/// A table that the task names.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    /// `p` for a partitioned one, as the catalog has it.
    pub(super) kind: String,
    /// `r` for ranges; empty where it is not partitioned.
    pub(super) strategy: String,
    /// The only column of its key.
    pub(super) column: Option<Identifier>,
    /// Whether event triggers see tables be dropped, and may refuse it.
    pub(super) watched: bool,
    /// The operators that order it, where they are not those of its type.
    pub(super) ordered_by: Option<String>,
    /// Name of the key's type below all domains.
    pub(super) key_type: String,
    pub(super) default: Option<u32>,
    /// Whether the role may create and attach partitions.
    pub(super) may: bool,
    /// Tables with foreign keys that point at it, or at a table above.
    pub(super) referenced_by: Vec<String>,
    /// Columns that are not computed, quoted.
    pub(super) columns: Vec<String>,
    /// Rows of the default partition by quarter of an hour of the axis.
    pub(super) strays: Vec<Strays>,
    /// What would keep rows from leaving the default partition: rules and
    /// policies, for certain.
    pub(super) keeping: Vec<String>,
    /// Tables with foreign keys that point at the default partition itself, or
    /// at one below it.
    pub(super) referring: Vec<String>,
    /// Triggers that would take rows that leave the default partition for deleted.
    pub(super) fired: Vec<String>,
    /// The question that the four lists around this are the answer to, of the default partition
    /// `$1`: it is asked once more under the lock that the rows are moved under.
    pub(super) keeps: String,
    /// Publications that would tell of the leaving: the rows come back into a
    /// table that is in none of them yet.
    pub(super) published: Vec<String>,
}

/// Rows of the default partition that are close to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strays {
    /// Places of the first and of the last of them.
    pub(super) first: Point,
    pub(super) last: Point,
    pub(super) rows: i64,
}

/// What hangs on a table by name, in SQL that makes the same on another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Attached {
    /// `UNIQUE ` or nothing, and what stands after the table's name: `USING btree (id)`.
    pub(super) indexes: Vec<(bool, String)>,
    /// `PRIMARY KEY (id)`.
    pub(super) constraints: Vec<String>,
    pub(super) row_security: bool,
    pub(super) forced: bool,
    /// Name, and what stands after the table's name.
    pub(super) policies: Vec<(String, String)>,
    /// (role, privilege, column, with grant option); no role for everybody.
    pub(super) column_grants: Vec<(Option<String>, String, String, bool)>,
    /// What it has besides, which is not for us to repeat: what it is, and the
    /// statement that makes it, with [`ITSELF`] for the table; empty where it
    /// needs a name of its own.
    pub(super) besides: Vec<(String, String)>,
}

/// Stands for the name of a table in the statements of [`Attached::besides`].
pub(super) const ITSELF: &str = "{table}";

/// A partition, a partition of a partition, or the table itself.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: RelationName,
    /// `r`, `p`, `f`, as the catalog has it.
    pub(super) kind: String,
    /// As the server writes them in UTC; none for the table itself.
    pub(super) bounds: Option<String>,
    pub(super) detach_pending: bool,
    /// `LIST (region)`, where it is partitioned itself.
    pub(super) key: Option<String>,
    pub(super) owner: String,
    /// `fillfactor=70`, those of its TOAST table as `toast.…`.
    pub(super) options: Vec<String>,
    pub(super) tablespace: Option<String>,
    pub(super) unlogged: bool,
    /// Its table access method, where it is not the default.
    pub(super) access_method: Option<String>,
    pub(super) comment: Option<String>,
    /// `d`, `n`, `f` or `i`, as the catalog has it.
    pub(super) replica_identity: String,
    /// The columns of the index that identifies its rows.
    pub(super) replica_columns: Option<Vec<String>>,
    /// The role may put tables there.
    pub(super) may_tablespace: bool,
    /// What its parent does not give it.
    pub(super) attached: Attached,
    pub(super) bytes: i64,
    pub(super) children: Vec<u32>,
    /// (role, privilege, with grant option); no role for everybody.
    pub(super) grants: Vec<(Option<String>, String, bool)>,
    /// Privileges that its owner has given up.
    pub(super) given_up: Vec<String>,
    /// Publications that name it.
    pub(super) publications: Vec<Publication>,
}

/// A publication that names a partition.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) name: String,
    /// Which columns and rows of it, where it is not all: `(id, at) WHERE (id > 5)`.
    pub(super) some: Option<String>,
    /// The role may change it.
    pub(super) may: bool,
}

/// A partition that was detached in order to be dropped later.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    /// The rest of its mark: the table it belonged to, and since when.
    pub(super) mark: String,
    pub(super) bytes: i64,
    pub(super) foreign: bool,
    /// The table that it is part of by now, as somebody wanted it.
    pub(super) part_of: Option<String>,
    /// Whether a table of its owner is called what the mark says.
    pub(super) named: bool,
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(super) standing: Standing,
    pub(super) major: i32,
    pub(super) role: String,
    /// Whom `ALTER DEFAULT PRIVILEGES` gives rights on what our role creates;
    /// no role for everybody.
    pub(super) by_default: Vec<Option<String>>,
    /// By how much this machine's clock is ahead of the server's.
    pub(super) clock_ahead: TimeDelta,
    /// What is wrong with the clocks.
    pub(super) clock: Option<String>,
    pub(super) tables: HashMap<TableName, Table>,
    pub(super) nodes: HashMap<u32, Node>,
    /// Only while the partitions are read.
    children: HashMap<u32, Vec<u32>>,
    /// Names that are taken, by schema.
    pub(super) taken: HashSet<(String, String)>,
    pub(super) schemas: HashSet<String>,
    pub(super) retired: Vec<Retired>,
    /// What keeps partitions, and those that were, from being dropped.
    pub(super) dependents: HashMap<u32, Vec<String>>,
    /// Of which tables and partitions not all could be read, and who holds them.
    pub(super) held: HashMap<u32, String>,
}

/// Marks what was detached in order to be dropped after a grace period.
pub(in crate::kinds::postgres) const MARK: &str = "maint: retired partition of ";

const TABLES: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
        coalesce(p.partstrat::text, ''),
        (SELECT a.attname::text FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND p.partnatts = 1 AND p.partattrs[0] > 0),
        -- Domains may be over domains.
        coalesce((WITH RECURSIVE base (oid, below) AS (
                SELECT t.oid, t.typbasetype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                    WHERE a.attrelid = c.oid AND a.attnum = p.partattrs[0]
                UNION ALL SELECT t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below)
            SELECT t.typname::text FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE b.below = 0), ''),
        nullif(p.partdefid, 0),
        pg_catalog.pg_has_role(c.relowner, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
        ARRAY(SELECT DISTINCT f.conrelid::pg_catalog.regclass::text FROM pg_catalog.pg_constraint f
            WHERE f.confrelid IN (SELECT c.oid UNION SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid))
                AND f.contype = 'f' AND f.conparentid = 0 ORDER BY 1),
        ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            ORDER BY a.attnum),
        (SELECT pg_catalog.format('%I.%I', m.nspname, o.opcname) FROM pg_catalog.pg_opclass o
                JOIN pg_catalog.pg_namespace m ON m.oid = o.opcnamespace
            WHERE o.oid = p.partclass[0] AND NOT o.opcdefault),
        {watched}
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS want (schema, relation)
        JOIN pg_catalog.pg_namespace n ON n.nspname = want.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = want.relation
        LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

// Bounds have no columns: written down without their table, they wait for nobody who holds it.
const NODES: &str = "WITH RECURSIVE tree AS (
        SELECT r.oid, NULL::pg_catalog.oid AS parent, false AS pending
            FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS r (oid)
        UNION ALL
        SELECT i.inhrelid, i.inhparent, i.inhdetachpending
            FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid)
    SELECT DISTINCT ON (tree.oid) tree.oid, tree.parent, tree.pending, n.nspname::text, c.relname::text, c.relkind::text,
        pg_catalog.pg_get_expr(c.relpartbound, 0),
        CASE WHEN c.relkind = 'p' AND NOT {held} THEN pg_catalog.pg_get_partkeydef(c.oid) END,
        pg_catalog.pg_get_userbyid(c.relowner)::text,
        coalesce(c.reloptions, '{}') || ARRAY(SELECT 'toast.' || o FROM pg_catalog.unnest(t.reloptions) o),
        s.spcname::text, c.relpersistence = 'u',
        CASE WHEN am.amname <> pg_catalog.current_setting('default_table_access_method') THEN am.amname::text END,
        pg_catalog.obj_description(c.oid, 'pg_class'), c.relreplident::text,
        (SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place) FROM pg_catalog.pg_index x
            CROSS JOIN LATERAL pg_catalog.unnest(x.indkey) WITH ORDINALITY u (att, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.att
            WHERE x.indrelid = c.oid AND x.indisreplident AND u.place <= x.indnkeyatts),
        {size}, c.relrowsecurity, c.relforcerowsecurity,
        coalesce(pg_catalog.has_tablespace_privilege(s.oid, 'CREATE'), true), {held}
    FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
        LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
        LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam AND c.relkind IN ('r', 'p')
    ORDER BY tree.oid, tree.parent NULLS LAST";

/// What is granted beyond what owners have anyway.
const GRANTS: &str =
    "SELECT c.oid, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END,
        a.privilege_type::text, a.is_grantable
    FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
    WHERE c.oid = ANY ($1) AND a.grantee <> c.relowner ORDER BY 1, 2 NULLS FIRST, 3";

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
    "SELECT t.attrelid, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END,
        a.privilege_type::text, t.attname::text, a.is_grantable
    FROM pg_catalog.pg_attribute t JOIN pg_catalog.pg_class c ON c.oid = t.attrelid
        CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a
    WHERE t.attrelid = ANY ($1) AND NOT t.attisdropped AND a.grantee <> c.relowner ORDER BY 1, 2 NULLS FIRST, 3, 4";

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
/// columns that may not be null, have other defaults, or are kept in another way.
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
            pg_catalog.rtrim(pg_catalog.replace(pg_catalog.pg_get_ruledef(r.oid), ' TO ' || o.name || ' ', ' TO {table} '), ';')
        FROM pg_catalog.pg_rewrite r WHERE r.ev_class = o.oid AND r.ev_type <> '1'
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
        UNION ALL SELECT 'the extended statistics ' || pg_catalog.quote_ident(s.stxname),
            ''
        FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = o.oid) h
    ORDER BY 1, 2";

/// How ALTER TABLE says what a trigger is.
const STATE: &str = "CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END";

const PUBLICATIONS: &str =
    "SELECT r.prrelid, p.pubname::text, {some}, pg_catalog.pg_has_role(p.pubowner, 'USAGE')
    FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
    WHERE r.prrelid = ANY ($1) ORDER BY 1, 2";

const TAKEN: &str = "SELECT n.nspname::text, c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1)
    -- A table is a type, too. Types of arrays make way by themselves.
    UNION SELECT n.nspname::text, t.typname::text
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = ANY ($1) AND t.typcategory <> 'A'";

const RETIRED: &str = "SELECT c.oid, n.nspname::text, c.relname::text,
        pg_catalog.substr(d.description, pg_catalog.length($1::text) + 1),
        c.relpages::int8 * pg_catalog.current_setting('block_size')::int8, c.relkind = 'f',
        (SELECT pg_catalog.min(i.inhparent::pg_catalog.regclass::text) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
        -- Anybody can write a comment: a table of another owner was no partition.
        EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.relkind = 'p' AND r.relowner = c.relowner
            AND pg_catalog.starts_with(d.description, $1::text || CASE WHEN r.oid::pg_catalog.regclass::text ~ E'[\\n\\r]'
                THEN pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(r.oid::pg_catalog.regclass::text, E'\\\\', E'\\\\\\\\'), E'\\n', E'\\\\n'), E'\\r', E'\\\\r')
                ELSE r.oid::pg_catalog.regclass::text END || ' since '))
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
        AND c.relkind IN ('r', 'p', 'f')
        AND pg_catalog.starts_with(d.description, $1::text)
        AND pg_catalog.pg_has_role(c.relowner, 'USAGE')";

/// More quarters of an hour than this are not told apart; it is ten years of them.
const MOST_STRAYS: i64 = 350_000;

/// Reads everything about the tables with these names.
pub(super) async fn read(
    site: &Site<Session>,
    names: &[TableName],
    epoch: Option<Epoch>,
    max_default_bytes: i64,
) -> Result<Facts, EngineError> {
    let db = &site.primary;
    let mut facts = Facts {
        clock: db.server.clock_differs(),
        standing: Standing::default(),
        major: db.server.major(),
        role: db.server.role.clone(),
        by_default: Vec::new(),
        clock_ahead: TimeDelta::milliseconds(db.server.clock_ahead_ms),
        tables: HashMap::new(),
        nodes: HashMap::new(),
        children: HashMap::new(),
        taken: HashSet::new(),
        schemas: HashSet::new(),
        retired: Vec::new(),
        dependents: HashMap::new(),
        held: HashMap::new(),
    };
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|name| name.table.as_str()).collect();
    let doing = "reading the partitioned tables";
    let sql = TABLES.replace("{watched}", DROPS_WATCHED);
    for row in db.query(doing, &sql, &[&schemas, &relations]).await? {
        let (schema, table): (String, String) = (row.get(1)?, row.get(2)?);
        let name = TableName {
            schema: schema.clone(),
            table: table.clone(),
        };
        let found = Table {
            oid: row.get(0)?,
            name: RelationName::new(schema, table),
            kind: row.get(3)?,
            strategy: row.get(4)?,
            column: row.get::<Option<String>>(5)?.map(Identifier::new),
            key_type: row.get(6)?,
            default: row.get(7)?,
            may: row.get(8)?,
            referenced_by: row.get(9)?,
            columns: row.get(10)?,
            ordered_by: row.get(11)?,
            watched: row.get(12)?,
            strays: Vec::new(),
            keeping: Vec::new(),
            referring: Vec::new(),
            fired: Vec::new(),
            published: Vec::new(),
            keeps: keeping_sql(&db.server),
        };
        facts.tables.insert(name, found);
    }
    let roots: Vec<u32> = facts.tables.values().map(|table| table.oid).collect();
    nodes(db, &roots, &mut facts).await?;
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
    for row in db.query(doing, RETIRED, &[&MARK]).await? {
        facts.retired.push(Retired {
            oid: row.get(0)?,
            name: RelationName::new(row.get::<String>(1)?, row.get::<String>(2)?),
            mark: row.get(3)?,
            bytes: row.get(4)?,
            foreign: row.get(5)?,
            part_of: row
                .get::<Option<String>>(6)?
                .map(|name| unreadable::escaped(&name).into_owned()),
            named: row.get(7)?,
        });
    }
    let nodes = roots.iter().filter_map(|root| facts.nodes.get(root));
    let droppable: Vec<u32> = nodes
        .flat_map(|root| root.children.iter().copied())
        .chain(facts.retired.iter().map(|retired| retired.oid))
        .collect();
    facts.dependents = dependents::read(db, &droppable).await?;
    facts.standing = trust::read(site, roots).await?;
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
            if !strays(db, table, &facts.nodes, epoch, &facts.standing).await?
                && let Some(default) = table.default
            {
                facts.held.extend(holders(db, &[default]).await?);
            }
            keeping(db, table).await?;
        }
    }
    Ok(facts)
}

/// Which of a partition and all that are below it somebody holds.
pub(super) fn a_held(
    oid: u32,
    nodes: &HashMap<u32, Node>,
    held: &HashMap<u32, String>,
) -> Option<u32> {
    if held.contains_key(&oid) {
        return Some(oid);
    }
    let mut below = nodes.get(&oid)?.children.iter();
    below.find_map(|child| a_held(*child, nodes, held))
}

/// The size of a partition with all that are below it.
pub(super) fn bytes(oid: u32, nodes: &HashMap<u32, Node>) -> i64 {
    nodes.get(&oid).map_or(0, |node| {
        let below = node.children.iter().map(|child| bytes(*child, nodes));
        node.bytes + below.sum::<i64>()
    })
}

/// Reads the partitions, and looks again while somebody holds one of them.
async fn rows_of_nodes(db: &Session, roots: &[u32]) -> Result<Vec<Row>, EngineError> {
    let sql = NODES
        .replace("{held}", &held("c.oid"))
        .replace("{size}", &size_of("c"));
    let mut look = 1;
    loop {
        let rows = db.query("reading the partitions", &sql, &[&roots]).await?;
        let mut any = false;
        for row in &rows {
            any |= row.get::<bool>(20)?;
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

async fn nodes(db: &Session, roots: &[u32], facts: &mut Facts) -> Result<(), EngineError> {
    let mut held = Vec::new();
    for row in rows_of_nodes(db, roots).await? {
        if row.get(20)? {
            held.push(row.get(0)?);
        }
        let node = Node {
            detach_pending: row.get(2)?,
            name: RelationName::new(row.get::<String>(3)?, row.get::<String>(4)?),
            kind: row.get(5)?,
            bounds: row.get(6)?,
            key: row.get(7)?,
            owner: row.get(8)?,
            options: row.get(9)?,
            tablespace: row.get(10)?,
            unlogged: row.get(11)?,
            access_method: row.get(12)?,
            comment: row.get(13)?,
            replica_identity: row.get(14)?,
            replica_columns: row.get(15)?,
            bytes: row.get(16)?,
            may_tablespace: row.get(19)?,
            attached: Attached {
                row_security: row.get(17)?,
                forced: row.get(18)?,
                ..Attached::default()
            },
            children: Vec::new(),
            grants: Vec::new(),
            given_up: Vec::new(),
            publications: Vec::new(),
        };
        let (oid, parent): (u32, Option<u32>) = (row.get(0)?, row.get(1)?);
        let children = facts.nodes.insert(oid, node).map(|n| n.children);
        debug_assert!(children.is_none(), "one row per relation");
        if let Some(parent) = parent {
            facts.children.entry(parent).or_default().push(oid);
        }
    }
    for (parent, children) in std::mem::take(&mut facts.children) {
        if let Some(node) = facts.nodes.get_mut(&parent) {
            node.children = children;
        }
    }
    facts.held = holders(db, &held).await?;
    let mut all = Vec::new();
    free(roots, facts, &mut all);
    let doing = "reading what is granted on partitions";
    for row in db.query(doing, GRANTS, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            node.grants.push((row.get(1)?, row.get(2)?, row.get(3)?));
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
    let sql = PUBLICATIONS.replace("{some}", some);
    for row in db.query(doing, &sql, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            node.publications.push(Publication {
                name: row.get(1)?,
                some: row.get(2)?,
                may: row.get(3)?,
            });
        }
    }
    let doing = "reading what partitions have of their own";
    for row in db.query(doing, COLUMN_GRANTS, &[&all]).await? {
        if let Some(node) = facts.nodes.get_mut(&row.get::<u32>(0)?) {
            let grant = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
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

/// What keeps rows in the default partition `$1` from leaving it, and what would be misled: one
/// row of four lists.
const KEEPING: &str = concat!(
    "SELECT ARRAY(SELECT 'rule ' || pg_catalog.quote_ident(r.rulename) || ' of ' || r.ev_class::pg_catalog.regclass::text
            FROM pg_catalog.pg_rewrite r WHERE r.ev_class = $1::pg_catalog.oid AND r.ev_type = '4' AND r.ev_enabled IN ('O', 'A')
        UNION ALL SELECT 'row-level security of ' || $1::pg_catalog.oid::pg_catalog.regclass::text
            WHERE pg_catalog.row_security_active($1::pg_catalog.oid)),
        ARRAY(SELECT 'trigger ' || pg_catalog.quote_ident(t.tgname) || ' of ' || t.tgrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN {tree} AND ",
    by_people!("t"),
    " AND t.tgenabled IN ('O', 'A') AND t.tgtype & 8 <> 0 ORDER BY 1),
        ARRAY(SELECT 'publication ' || pg_catalog.quote_ident(p.pubname)
            FROM pg_catalog.pg_publication p WHERE p.pubdelete AND EXISTS (SELECT FROM {tree} l WHERE {published}) ORDER BY 1),
        ARRAY(SELECT DISTINCT f.conrelid::pg_catalog.regclass::text FROM pg_catalog.pg_constraint f
            WHERE f.confrelid IN {tree} AND f.contype = 'f' AND f.conparentid = 0 ORDER BY 1)"
);

/// SQL for [`KEEPING`].
fn keeping_sql(server: &Server) -> String {
    KEEPING
        .replace("{tree}", &tree("$1"))
        .replace("{published}", &published(server, "p", "l.relid"))
}

/// Looks what may keep rows from leaving the default partition, and whom it would mislead.
async fn keeping(db: &Session, table: &mut Table) -> Result<(), EngineError> {
    let Some(default) = table.default.filter(|_| !table.strays.is_empty()) else {
        return Ok(());
    };
    let doing = "reading what keeps rows in the default partition";
    for row in db.query(doing, &table.keeps, &[&default]).await? {
        let names = |n| {
            let names: Vec<String> = row.get(n)?;
            let shown = names
                .iter()
                .map(|name| unreadable::escaped(name).into_owned());
            Ok::<_, EngineError>(shown.collect())
        };
        (table.keeping, table.fired) = (names(0)?, names(1)?);
        (table.published, table.referring) = (names(2)?, names(3)?);
    }
    Ok(())
}

/// Counts the rows of the default partition; `false` where somebody holds it.
async fn strays(
    db: &Session,
    table: &mut Table,
    nodes: &HashMap<u32, Node>,
    epoch: Option<Epoch>,
    standing: &Standing,
) -> Result<bool, EngineError> {
    let (Some(default), Some(column)) = (table.default.and_then(|d| nodes.get(&d)), &table.column)
    else {
        return Ok(true);
    };
    let Ok(key) = Key::of(&table.key_type, epoch) else {
        return Ok(true);
    };
    if default.kind == "f" {
        // Its rows are somewhere else, and nobody moves them from here.
        return Ok(true);
    }
    let column = column.to_string();
    let sql = format!(
        "SELECT {}, {}, s.rows FROM (SELECT min({ordered}) AS first, max({ordered}) AS last, count(*) AS rows
            FROM {} WHERE {} GROUP BY {} ORDER BY 1 LIMIT {MOST_STRAYS}) s",
        key.place("s.first"),
        key.place("s.last"),
        default.name,
        key.finite(&column),
        key.bucket(&column),
        ordered = key.ordered(&column),
    );
    let doing = format!("counting the rows of {}", default.name);
    let guard = standing.guard(&[Touch::new(table.oid, Use::Read)]);
    db.execute("beginning to count", "BEGIN READ ONLY").await?;
    let counted = async {
        if let Some(guard) = &guard {
            guard.take(db).await?;
        }
        db.query(&doing, &sql, &[]).await
    };
    let counted = counted.await;
    db.execute("ending the count", "ROLLBACK").await?;
    table.strays = match counted {
        Ok(rows) => {
            let mut strays = Vec::new();
            for row in &rows {
                let place = |n| {
                    let text: Option<String> = row.get(n)?;
                    Ok::<_, EngineError>(text.and_then(|text| key.read_place(&text)))
                };
                if let (Some(first), Some(last)) = (place(0)?, place(1)?) {
                    let rows = row.get(2)?;
                    strays.push(Strays { first, last, rows });
                }
            }
            strays
        }
        // insufficient_privilege, or it vanished: then nobody can move its rows either.
        Err(error) if matches!(error.sqlstate(), Some("42501" | "42P01")) => Vec::new(),
        Err(error) if error.sqlstate() == Some("55P03") => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(true)
}
