//! What conditions that people wrote read and call, so that a plan can tell later whether it is the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Session;
use super::meaning::words;
use crate::engines::EngineError;

/// What texts may name, each with a number for its definition: another object of the name has another, and so
/// has one that was replaced. Relations, functions and operators, collations and text search
/// configurations; what views among them, and policies of a table that are for us, are made of; of enums of a table
/// the labels that the texts may mean; columns of a table, and of relations that are named, with their
/// types, collations and what computes them; and the settings of role and database that conditions are
/// read with. With the table that only it is for, or 0. A name that is there by accident costs nothing as long as
/// what it stands for stays.
const NAMED: &str = "WITH RECURSIVE named (class, oid) AS (
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384::oid
            AND pg_catalog.lower(c.relname::text) = ANY ($1::text[])
            AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
        UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE p.oid >= 16384::oid AND pg_catalog.lower(p.proname::text) = ANY ($1::text[])
            AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
        UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, o.oprcode
        FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE o.oid >= 16384::oid AND o.oprcode <> 0 AND pg_catalog.lower(n.nspname::text) = ANY ($1::text[])
            AND pg_catalog.strpos($3::text, o.oprname::text) > 0
        UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass::oid, e.enumtypid
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_enum e ON e.enumtypid = a.atttypid
        WHERE a.attrelid = ANY ($2::oid[]) AND a.attnum > 0 AND pg_catalog.lower(e.enumlabel::text) = ANY ($1::text[])
        UNION SELECT 'pg_catalog.pg_collation'::pg_catalog.regclass::oid, k.oid
        FROM pg_catalog.pg_collation k WHERE k.oid >= 16384::oid AND pg_catalog.lower(k.collname::text) = ANY ($1::text[])
        UNION SELECT 'pg_catalog.pg_ts_config'::pg_catalog.regclass::oid, g.oid
        FROM pg_catalog.pg_ts_config g WHERE pg_catalog.lower(g.cfgname::text) = ANY ($1::text[])
        UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, k.castfunc
        FROM pg_catalog.pg_cast k WHERE k.castfunc >= 16384::oid AND {cast}
        -- What views are made of, and what bodies call that the server has parsed.
        UNION SELECT CASE WHEN e.oprcode IS NULL THEN d.class ELSE 'pg_catalog.pg_proc'::pg_catalog.regclass::oid END, coalesce(e.oprcode::oid, d.oid)
        FROM named v CROSS JOIN LATERAL (
                SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d
                    ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
                WHERE v.class = 'pg_catalog.pg_class'::pg_catalog.regclass::oid AND w.ev_class = v.oid
                UNION ALL SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
                WHERE v.class = 'pg_catalog.pg_proc'::pg_catalog.regclass::oid AND d.classid = v.class AND d.objid = v.oid AND d.deptype = 'n') AS d (class, oid)
            LEFT JOIN pg_catalog.pg_operator e ON d.class = 'pg_catalog.pg_operator'::pg_catalog.regclass::oid AND e.oid = d.oid
        WHERE d.class IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
            AND d.oid >= 16384::oid),
    read (class, oid) AS (
        SELECT class, oid FROM named
        UNION SELECT d.refclassid, d.refobjid
        FROM pg_catalog.pg_policy y JOIN pg_catalog.pg_depend d
            ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = y.oid
                AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= 16384::oid
        WHERE y.polrelid = ANY ($2::oid[]) AND pg_catalog.row_security_active(y.polrelid))
    SELECT CASE o.class WHEN 'pg_catalog.pg_class'::pg_catalog.regclass::oid THEN o.oid::pg_catalog.regclass::text
            WHEN 'pg_catalog.pg_type'::pg_catalog.regclass::oid THEN o.oid::pg_catalog.regtype::text
            WHEN 'pg_catalog.pg_collation'::pg_catalog.regclass::oid THEN pg_catalog.concat('collation ', o.oid::pg_catalog.regcollation)
            WHEN 'pg_catalog.pg_ts_config'::pg_catalog.regclass::oid THEN pg_catalog.concat('text search configuration ', o.oid::pg_catalog.regconfig)
            ELSE o.oid::pg_catalog.regprocedure::text END AS name,
        pg_catalog.hashtextextended(pg_catalog.concat_ws('/', o.oid::text,
            (SELECT pg_catalog.string_agg(w.ev_action::text, '/' ORDER BY w.rulename) FROM pg_catalog.pg_rewrite w
                WHERE o.class = 'pg_catalog.pg_class'::pg_catalog.regclass::oid AND w.ev_class = o.oid),
            (SELECT pg_catalog.string_agg(e.oid::text || e.enumlabel::text, '/' ORDER BY e.oid) FROM pg_catalog.pg_enum e
                WHERE o.class = 'pg_catalog.pg_type'::pg_catalog.regclass::oid AND e.enumtypid = o.oid
                    AND pg_catalog.lower(e.enumlabel::text) = ANY ($1::text[])),
            (SELECT pg_catalog.to_jsonb(k)::text FROM pg_catalog.pg_collation k
                WHERE o.class = 'pg_catalog.pg_collation'::pg_catalog.regclass::oid AND k.oid = o.oid),
            (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', m.maptokentype, m.mapseqno, m.mapdict, t.dictinitoption), ' ' ORDER BY m.maptokentype, m.mapseqno)
                FROM pg_catalog.pg_ts_config_map m JOIN pg_catalog.pg_ts_dict t ON t.oid = m.mapdict
                WHERE o.class = 'pg_catalog.pg_ts_config'::pg_catalog.regclass::oid AND m.mapcfg = o.oid),
            (SELECT {function} FROM pg_catalog.pg_proc p
                WHERE o.class = 'pg_catalog.pg_proc'::pg_catalog.regclass::oid AND p.oid = o.oid)), 0) AS definition,
        0::pg_catalog.oid AS only_of, b.body, b.hides
    FROM read o LEFT JOIN LATERAL (
        SELECT pg_catalog.concat_ws(' ', CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN p.prosrc END, pg_catalog.array_to_string(p.proconfig, ' ')) AS body,
            l.lanname NOT IN ('sql', 'plpgsql', 'c', 'internal') OR l.lanname = 'plpgsql' AND p.prosrc ~* '\\mexecute\\M' AS hides
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE o.class = 'pg_catalog.pg_proc'::pg_catalog.regclass::oid AND p.oid = o.oid) AS b ON true
    UNION ALL SELECT pg_catalog.concat('cast from ', k.castsource::pg_catalog.regtype, ' to ', k.casttarget::pg_catalog.regtype),
        pg_catalog.hashtextextended(pg_catalog.concat_ws('/', k.oid, k.castfunc, k.castcontext, k.castmethod), 0), 0::pg_catalog.oid, NULL, NULL
    FROM pg_catalog.pg_cast k WHERE {cast}
    UNION ALL SELECT pg_catalog.concat('column ', pg_catalog.quote_ident(a.attname), ' of ', a.attrelid::pg_catalog.regclass),
        pg_catalog.hashtextextended(pg_catalog.concat_ws('/', a.atttypid, a.atttypmod, pg_catalog.to_jsonb(k)::text, a.attgenerated,
            CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END), 0),
        CASE WHEN a.attrelid = ANY ($2::oid[]) THEN a.attrelid ELSE 0::pg_catalog.oid END, NULL, NULL
    FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND pg_catalog.lower(a.attname::text) = ANY ($1::text[])
        AND (a.attrelid = ANY ($2::oid[]) OR a.attrelid IN (SELECT n.oid FROM named n WHERE n.class = 'pg_catalog.pg_class'::pg_catalog.regclass::oid))
    UNION ALL SELECT pg_catalog.concat('row-level security of ', y.polrelid::pg_catalog.regclass),
        pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws(':', y.oid, y.polcmd, y.polpermissive, y.polroles, y.polqual), ' ' ORDER BY y.oid), 0),
        y.polrelid, NULL, NULL
    FROM pg_catalog.pg_policy y WHERE y.polrelid = ANY ($2::oid[]) AND pg_catalog.row_security_active(y.polrelid) GROUP BY y.polrelid
    UNION ALL SELECT pg_catalog.concat('the setting ', s.name), pg_catalog.hashtextextended(s.reset_val, 0), 0::pg_catalog.oid, NULL, NULL
    FROM pg_catalog.pg_settings s WHERE s.name IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'lc_numeric', 'lc_time',
        'default_text_search_config', 'timezone_abbreviations')";

/// SQL: whether the cast `k` is somebody's, and of a type that is named, or of a column that is; or between two of the
/// server's own types.
const CAST: &str = "k.oid >= 16384::oid AND (k.castsource < 16384::oid AND k.casttarget < 16384::oid
        OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid IN (k.castsource, k.casttarget) AND t.oid >= 16384::oid
            AND (pg_catalog.lower(t.typname::text) = ANY ($1::text[]) OR t.oid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = ANY ($2::oid[]) AND a.attnum > 0 AND pg_catalog.lower(a.attname::text) = ANY ($1::text[])))))";

/// So deep is followed what bodies of functions name.
const MOST_DEEP: usize = 8;

/// SQL for a text that tells the function `p` from another one of its name, and from what it was before it was
/// replaced or changed.
pub const FUNCTION: &str = "pg_catalog.concat_ws('/', p.oid, p.prosrc, p.probin, p.prosqlbody::text, p.prolang, p.provolatile,
        p.prosecdef, p.proisstrict, p.proowner, p.proconfig)";

/// The definitions, as numbers, of what texts about rows may name, by name.
#[derive(Default)]
pub struct Named {
    everywhere: BTreeMap<String, i64>,
    /// What is only for one table.
    own: HashMap<u32, BTreeMap<String, i64>>,
    /// Functions among them of which nobody can tell what they call.
    hiding: BTreeSet<String>,
}

impl Named {
    /// Functions that call what only their run tells: names that are put together, or bodies in a language that is
    /// not read.
    pub fn hiding(&self) -> Vec<String> {
        self.hiding.iter().cloned().collect()
    }

    /// Those that count for a table.
    pub fn of(&self, table: u32) -> BTreeMap<String, i64> {
        let own = self.own.get(&table).into_iter().flatten();
        let all = self.everywhere.iter().chain(own);
        all.map(|(name, number)| (name.clone(), *number)).collect()
    }
}

/// The definitions of what these texts, and these names of columns, about rows of tables may name.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn named(
    db: &Session,
    texts: &[&str],
    columns: &[&str],
    tables: &[u32],
) -> Result<Named, EngineError> {
    let mut words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    words.extend(columns.iter().map(|column| column.to_lowercase()));
    if words.is_empty() {
        return Ok(Named::default());
    }
    let doing = "looking what conditions read and call";
    let sql = NAMED
        .replace("{function}", FUNCTION)
        .replace("{cast}", CAST);
    // What bodies of functions name is looked for like what the texts do.
    let (mut all, mut bodies) = (texts.join(" "), BTreeSet::new());
    let mut deep = 0;
    loop {
        let rows = db.query(doing, &sql, &[&words, &tables, &all]).await?;
        let mut named = Named::default();
        let mut new = Vec::new();
        for row in &rows {
            let only_of: u32 = row.named("only_of")?;
            let into = match only_of {
                0 => &mut named.everywhere,
                table => named.own.entry(table).or_default(),
            };
            let name: String = row.named("name")?;
            let body: Option<String> = row.named("body")?;
            if let Some(body) = body.filter(|body| !body.is_empty())
                && bodies.insert(name.clone())
            {
                // Deeper than anybody writes.
                if deep == MOST_DEEP {
                    named.hiding.insert(name.clone());
                }
                new.push(body);
            }
            if row.named::<Option<bool>>("hides")? == Some(true) {
                named.hiding.insert(name.clone());
            }
            into.insert(name, row.named("definition")?);
        }
        if new.is_empty() || deep == MOST_DEEP {
            return Ok(named);
        }
        for body in new {
            words.extend(self::words(&body));
            all.push(' ');
            all.push_str(&body);
        }
        words.sort();
        words.dedup();
        deep += 1;
    }
}
