//! The question for what partitions have and their parents have not.

/// What partitions have that their parents have not, and that means code or
/// rows of others: triggers, rules, constraints on single rows (but those over
/// the key, which mostly repeat the bounds), foreign keys, extended statistics,
/// columns that may not be null, have other defaults, or are kept in another way; and what
/// people wrote on columns and indexes, or set for these.
pub(super) const BESIDES: &str = "WITH one AS (
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
pub(super) const STATE: &str = "CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END";
