, -- $2: the relations that would be touched.
edge AS MATERIALIZED (
    SELECT inhparent AS above, inhrelid AS below, 'child' AS way FROM pg_catalog.pg_inherits
    UNION ALL
    SELECT confrelid, conrelid, CASE WHEN confdeltype = 'c' THEN 'cascade' WHEN confdeltype IN ('n', 'd') THEN 'set' ELSE 'referencing' END
    FROM pg_catalog.pg_constraint WHERE contype = 'f'
    UNION ALL
    -- A row that is set to null or a default is updated, and from there it goes on as updates do.
    SELECT confrelid, conrelid, CASE WHEN confupdtype IN ('c', 'n', 'd') THEN 'set_too' ELSE 'asked_too' END
    FROM pg_catalog.pg_constraint WHERE contype = 'f'
    UNION ALL
    SELECT conrelid, confrelid, 'referenced' FROM pg_catalog.pg_constraint WHERE contype = 'f'
    UNION ALL
    -- A default that takes the place of a key may be one to another table, too.
    SELECT k.confrelid, o.confrelid, w.way FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_constraint o ON o.conrelid = k.conrelid AND o.oid <> k.oid AND o.contype = 'f' AND o.conkey && k.conkey
        CROSS JOIN LATERAL (VALUES ('referencing', k.confdeltype = 'd'), ('asked_too', k.confupdtype IN ('c', 'd'))) AS w (way, there)
    WHERE k.contype = 'f' AND w.there
    UNION ALL
    SELECT i.inhrelid, i.inhparent, 'parent'
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
    UNION
    -- What a view reads. Tables in it are asked for with its owner's rights; functions run with ours.
    SELECT w.ev_class, d.refobjid, 'query'
    FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class AND c.relkind = 'v'
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> w.ev_class
    WHERE w.oid >= 16384 AND w.ev_type = '1'
),
way(root, relid, via) AS (
    SELECT r, r, 'self' FROM pg_catalog.unnest($2::oid[]) AS r
    UNION
    SELECT way.root, edge.below, CASE edge.way
            WHEN 'parent' THEN 'above'
            WHEN 'child' THEN way.via
            WHEN 'set_too' THEN 'set'
            WHEN 'asked_too' THEN 'referencing'
            ELSE edge.way END
    FROM way JOIN edge ON edge.above = way.relid
    WHERE CASE edge.way
        WHEN 'parent' THEN way.via IN ('self', 'above')
        WHEN 'query' THEN way.via IN ('self', 'query')
        -- What the server asks for a foreign key, it asks as the owner of the table that is asked: who
        -- can leave behind there what runs at COMMIT, a deferred trigger or a cursor, with our rights.
        WHEN 'referenced' THEN way.via = 'self'
        WHEN 'child' THEN way.via <> 'above'
        WHEN 'set_too' THEN way.via = 'set'
        WHEN 'asked_too' THEN way.via = 'set'
        ELSE way.via IN ('self', 'cascade') END
),
-- Rows that change with others go the same way as rows that go with them.
reach AS MATERIALIZED (
    SELECT DISTINCT root, relid, CASE via WHEN 'set' THEN 'cascade' ELSE via END AS via FROM way
),
owner AS MATERIALIZED (
    SELECT o.oid, o.name, o.trusted FROM role o
    WHERE o.oid IN (SELECT c.relowner FROM reach JOIN pg_catalog.pg_class c ON c.oid = reach.relid)
        OR o.oid IN (SELECT DISTINCT proowner FROM pg_catalog.pg_proc)
        OR o.oid IN (SELECT DISTINCT typowner FROM pg_catalog.pg_type)
        OR o.oid IN (SELECT evtowner FROM pg_catalog.pg_event_trigger)
        OR o.oid IN (SELECT srvowner FROM pg_catalog.pg_foreign_server)
),
tab AS MATERIALIZED (
    SELECT DISTINCT c.oid, c.relkind, n.nspname::text AS schema, c.relname::text AS name,
        coalesce(o.name, c.relowner::text) AS owner, coalesce(o.trusted, false) AS trusted
    FROM reach JOIN pg_catalog.pg_class c ON c.oid = reach.relid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN owner o ON o.oid = c.relowner
),
-- What is evaluated, and where the catalog says what it uses.
expr(root, relid, via, hook, object, classid, objid, tree) AS MATERIALIZED (
    SELECT r.root, r.relid, r.via, 'index', c.relname::text, 'pg_catalog.pg_class'::pg_catalog.regclass::oid,
        i.indexrelid, pg_catalog.concat(i.indexprs::text, i.indpred::text)
    FROM reach r JOIN pg_catalog.pg_index i ON i.indrelid = r.relid
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    WHERE r.via <> 'above' AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
    UNION ALL
    SELECT r.root, r.relid, r.via, 'statistics', s.stxname::text,
        'pg_catalog.pg_statistic_ext'::pg_catalog.regclass::oid, s.oid, s.stxexprs::text
    FROM reach r JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = r.relid
    WHERE r.via <> 'above' AND s.stxexprs IS NOT NULL
    UNION ALL
    SELECT r.root, r.relid, r.via, 'check', k.conname::text,
        'pg_catalog.pg_constraint'::pg_catalog.regclass::oid, k.oid, k.conbin::text
    FROM reach r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.relid
    WHERE r.via <> 'above' AND k.contype = 'c'
    UNION ALL
    SELECT r.root, r.relid, r.via, CASE a.attgenerated WHEN '' THEN 'default' ELSE 'generated' END,
        a.attname::text, 'pg_catalog.pg_attrdef'::pg_catalog.regclass::oid, d.oid, d.adbin::text
    FROM reach r JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.relid
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE r.via <> 'above'
    UNION ALL
    SELECT r.root, r.relid, r.via, 'partition_key', c.relname::text,
        'pg_catalog.pg_class'::pg_catalog.regclass::oid, p.partrelid, p.partexprs::text
    FROM reach r JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = r.relid
        JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
    WHERE p.partexprs IS NOT NULL
    UNION ALL
    SELECT r.root, r.relid, r.via, 'policy', p.polname::text,
        'pg_catalog.pg_policy'::pg_catalog.regclass::oid, p.oid,
        pg_catalog.concat(p.polqual::text, p.polwithcheck::text)
    FROM reach r JOIN pg_catalog.pg_policy p ON p.polrelid = r.relid
    -- Policies of what a view reads are those for the view's owner; none is in force for a foreign key.
    WHERE r.via NOT IN ('above', 'referencing', 'referenced') AND (pg_catalog.row_security_active(r.relid)
        OR (r.via = 'query' AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = r.relid AND c.relrowsecurity)))
    UNION ALL
    SELECT r.root, r.relid, r.via, 'rule', w.rulename::text,
        'pg_catalog.pg_rewrite'::pg_catalog.regclass::oid, w.oid,
        pg_catalog.concat(w.ev_qual::text, w.ev_action::text)
    FROM reach r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.relid
    WHERE r.via <> 'above' AND w.ev_type <> '1' AND w.ev_enabled <> 'D'
    UNION ALL
    SELECT r.root, r.relid, r.via, 'view', w.rulename::text,
        'pg_catalog.pg_rewrite'::pg_catalog.regclass::oid, w.oid, w.ev_action::text
    FROM reach r JOIN pg_catalog.pg_class c ON c.oid = r.relid AND c.relkind = 'v'
        JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.relid
    WHERE r.via <> 'above' AND w.ev_type = '1'
    UNION ALL
    SELECT r.root, r.relid, r.via, CASE WHEN t.tgdeferrable THEN 'deferrable_trigger' ELSE 'trigger' END,
        t.tgname::text, 'pg_catalog.pg_trigger'::pg_catalog.regclass::oid, t.oid, t.tgqual::text
    FROM reach r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.relid
    WHERE r.via <> 'above' AND t.tgenabled <> 'D'
        -- Before 15 what a partition has of its table's row triggers passes for the server's own.
        AND (NOT t.tgisinternal OR (t.tgparentid <> 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
            WHERE k.oid = t.tgconstraint AND k.contype = 'f')))
),
type_edge AS MATERIALIZED (
    SELECT t.oid AS above, t.typbasetype AS below FROM pg_catalog.pg_type t WHERE t.typbasetype >= 16384
    UNION ALL
    SELECT t.oid, t.typelem FROM pg_catalog.pg_type t WHERE t.typelem >= 16384
    UNION ALL
    SELECT t.oid, a.atttypid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
    UNION ALL
    SELECT g.rngtypid, g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngsubtype >= 16384
    UNION ALL
    SELECT g.rngmultitypid, g.rngtypid FROM pg_catalog.pg_range g WHERE g.rngmultitypid >= 16384
    UNION ALL
    SELECT k.contypid, d.refobjid FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = k.oid
    WHERE k.contypid <> 0 AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
        AND d.refobjid >= 16384 AND d.refobjid <> k.contypid
),
typ(root, relid, via, hook, object, oid) AS (
    SELECT r.root, r.relid, r.via, 'domain', a.attname::text, a.atttypid
    FROM reach r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.relid
    WHERE r.via <> 'above' AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
    UNION
    SELECT e.root, e.relid, e.via, e.hook, e.object, d.refobjid
    FROM expr e JOIN pg_catalog.pg_depend d ON d.classid = e.classid AND d.objid = e.objid
    WHERE d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
    UNION
    -- Not every type that a value is made of is a dependency: what JSON_VALUE is to return is none.
    SELECT e.root, e.relid, e.via, e.hook, e.object, n.number::oid
    FROM expr e CROSS JOIN LATERAL pg_catalog.regexp_matches(e.tree,
        ':(?:resulttype|typid|coltypes|funccoltypes|row_typeid|array_typeid|element_typeid|consttype|funcresulttype) (?:\(o )?([\d ]+)',
        'g') AS m(found)
        CROSS JOIN LATERAL pg_catalog.string_to_table(pg_catalog.btrim(m.found[1]), ' ') AS n(number)
    WHERE n.number::int8 >= 16384
    UNION
    SELECT t.root, t.relid, t.via, t.hook, t.object, e.below FROM typ t JOIN type_edge e ON e.above = t.oid
),
evaluated AS MATERIALIZED (
    SELECT root, relid, via, hook, object, classid, objid, tree FROM expr
    UNION ALL
    SELECT t.root, t.relid, t.via, t.hook, t.object,
        'pg_catalog.pg_constraint'::pg_catalog.regclass::oid, k.oid, k.conbin::text
    FROM typ t JOIN pg_catalog.pg_constraint k ON k.contypid = t.oid
    WHERE k.conbin IS NOT NULL
    UNION ALL
    SELECT t.root, t.relid, t.via, t.hook, t.object,
        'pg_catalog.pg_type'::pg_catalog.regclass::oid, p.oid, p.typdefaultbin::text
    FROM typ t JOIN pg_catalog.pg_type p ON p.oid = t.oid
    WHERE p.typtype = 'd' AND p.typdefaultbin IS NOT NULL
),
-- Functions, by how they come to be called. `by`: 'table' where it is the table's owner who hung
-- it there, 'type' where only the owner of the function matters.
used(root, relid, via, hook, object, by, fn) AS MATERIALIZED (
    SELECT e.root, e.relid, e.via, e.hook, e.object, 'table', m.found[1]::oid
    FROM evaluated e CROSS JOIN LATERAL pg_catalog.regexp_matches(e.tree,
        ':(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid|negfuncid|equalfuncid) (\d+)', 'g') AS m(found)
    UNION
    SELECT e.root, e.relid, e.via, e.hook, e.object, 'table', o.oprcode::oid
    FROM evaluated e CROSS JOIN LATERAL pg_catalog.regexp_matches(e.tree,
        ':(?:opno|opnos) (?:\(o )?([\d ]+)', 'g') AS m(found)
        CROSS JOIN LATERAL pg_catalog.string_to_table(pg_catalog.btrim(m.found[1]), ' ') AS n(number)
        JOIN pg_catalog.pg_operator o ON o.oid = nullif(n.number, '')::oid
    UNION
    SELECT e.root, e.relid, e.via, e.hook, e.object, 'table',
        CASE d.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE o.oprcode::oid END
    FROM evaluated e JOIN pg_catalog.pg_depend d ON d.classid = e.classid AND d.objid = e.objid
        LEFT JOIN pg_catalog.pg_operator o
            ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid
    WHERE e.hook NOT IN ('trigger', 'deferrable_trigger')
        AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
    UNION
    SELECT e.root, e.relid, e.via, e.hook, e.object, 'trigger', t.tgfoid
    FROM expr e JOIN pg_catalog.pg_trigger t ON t.oid = e.objid
    WHERE e.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
    UNION
    SELECT t.root, t.relid, t.via, 'type', t.object, 'type', f.fn
    FROM typ t JOIN pg_catalog.pg_type p ON p.oid = t.oid
        CROSS JOIN LATERAL (
            SELECT pg_catalog.unnest(ARRAY[p.typinput::oid, p.typoutput::oid, p.typreceive::oid, p.typsend::oid,
                p.typmodin::oid, p.typmodout::oid, p.typsubscript::oid]) AS fn
            UNION ALL SELECT pg_catalog.unnest(ARRAY[g.rngcanonical::oid, g.rngsubdiff::oid])
                FROM pg_catalog.pg_range g WHERE g.rngtypid = p.oid
            UNION ALL SELECT k.castfunc FROM pg_catalog.pg_cast k WHERE k.castsource = p.oid OR k.casttarget = p.oid
        ) f
    UNION
    SELECT r.root, r.relid, r.via, 'operator_class', c.opcname::text, 'type', f.fn
    FROM reach r JOIN pg_catalog.pg_index i ON i.indrelid = r.relid
        CROSS JOIN LATERAL pg_catalog.unnest(i.indclass::oid[]) AS u(opclass)
        JOIN pg_catalog.pg_opclass c ON c.oid = u.opclass
        CROSS JOIN LATERAL (
            SELECT p.amproc::oid AS fn FROM pg_catalog.pg_amproc p WHERE p.amprocfamily = c.opcfamily
            UNION ALL SELECT o.oprcode::oid FROM pg_catalog.pg_amop a
                JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr WHERE a.amopfamily = c.opcfamily
        ) f
    WHERE r.via <> 'above' AND c.oid >= 16384
    UNION
    SELECT r.root, r.relid, r.via, 'partition_key', c.opcname::text, 'type', f.fn
    FROM reach r JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = r.relid
        CROSS JOIN LATERAL pg_catalog.unnest(t.partclass::oid[]) AS u(opclass)
        JOIN pg_catalog.pg_opclass c ON c.oid = u.opclass
        CROSS JOIN LATERAL (
            SELECT p.amproc::oid AS fn FROM pg_catalog.pg_amproc p WHERE p.amprocfamily = c.opcfamily
            UNION ALL SELECT o.oprcode::oid FROM pg_catalog.pg_amop a
                JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr WHERE a.amopfamily = c.opcfamily
        ) f
    WHERE c.oid >= 16384
),
event AS (
    SELECT e.evtname::text AS name, e.evtevent::text AS event, e.evtfoid AS fn,
        coalesce(o.trusted, false) AS trusted, coalesce(o.name, e.evtowner::text) AS owner
    FROM pg_catalog.pg_event_trigger e LEFT JOIN owner o ON o.oid = e.evtowner
    WHERE e.evtenabled <> 'D'
),
-- Types whose values call nothing but the server's own functions, and name nothing that does.
plain AS MATERIALIZED (
    SELECT t.oid, t.typname::text AS name FROM pg_catalog.pg_type t
    WHERE t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.oid < 16384 AND t.typtype IN ('b', 'r', 'm')
        AND (t.typname::text IN ('regconfig', 'regdictionary') OR t.typname::text !~
            '^_?(?:oid|oidvector|oid8|reg.*|refcursor|aclitem|gtsvector|pg_node_tree|pg_ndistinct|pg_dependencies|pg_mcv_list|pg_brin.*|pg_ddl.*)$')
),
known AS MATERIALIZED (
    SELECT p.oid, pg_catalog.format('%I.%I', n.nspname, p.proname) AS name,
        coalesce(o.trusted, false) AS trusted, coalesce(o.name, p.proowner::text) AS owner,
        p.proname::text AS called, p.provolatile AS volatile, l.lanname::text AS language, x.extname::text AS extension,
        p.oid < 16384 AND n.nspname = 'pg_catalog' AS own, p.prorettype::pg_catalog.regtype::text AS gives,
        -- Somebody's code may be called for a value of any type; for one of these it is not.
        (p.prorettype = ANY (ARRAY(SELECT plain.oid FROM plain)) OR r.extension = d.refobjid)
            AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proargtypes::oid[]) AS g(oid)
                WHERE g.oid <> ALL (ARRAY(SELECT plain.oid FROM plain))
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                        AND e.objid IN (g.oid, (SELECT t.typelem FROM pg_catalog.pg_type t WHERE t.oid = g.oid))
                        AND e.deptype = 'e' AND e.refobjid = d.refobjid)) AS plain,
        EXISTS (SELECT FROM pg_catalog.unnest(p.proargtypes::oid[]) AS g(oid) JOIN plain ON plain.oid = g.oid
            WHERE plain.name ~ '^_?(?:text|name|varchar|bpchar|xml)$') AS named,
        EXISTS (SELECT FROM pg_catalog.unnest(p.proargtypes::oid[] || p.prorettype) AS g(oid)
            WHERE g.oid IN ('cstring'::pg_catalog.regtype, 'internal'::pg_catalog.regtype)) AS raw
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        LEFT JOIN owner o ON o.oid = p.proowner
        LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND d.objid = p.oid AND d.deptype = 'e'
        LEFT JOIN (pg_catalog.pg_extension x JOIN pg_catalog.pg_roles xo ON xo.oid = x.extowner AND xo.rolsuper)
            ON x.oid = d.refobjid
        LEFT JOIN LATERAL (SELECT e.refobjid AS extension FROM pg_catalog.pg_depend e
            WHERE e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND e.objid = p.prorettype AND e.deptype = 'e') r ON true
    WHERE p.oid IN (SELECT fn FROM used UNION SELECT fn FROM event)
),
-- What may be called by anybody with anybody's arguments: it runs no SQL, calls no code of others, and
-- changes nothing beyond a sequence. Of functions that take types, relations or functions by name or
-- number, or a value of any type, only those that are known.
fn AS MATERIALIZED (
    SELECT k.oid, k.name, k.trusted, k.owner,
        CASE WHEN k.own THEN NOT k.raw AND (
                (k.plain AND (k.volatile = 'i' OR (k.volatile = 's' AND NOT k.named)))
                OR k.called IN ('nextval', 'currval', 'lastval', 'random', 'gen_random_uuid', 'uuidv4', 'uuidv7',
                    'clock_timestamp', 'timeofday', 'random_normal', 'suppress_redundant_updates_trigger',
                    'tsvector_update_trigger', 'tsvector_update_trigger_column', 'regclass', 'to_char', 'to_date',
                    'to_number', 'to_timestamp', 'date_part', 'date_trunc', 'date_add', 'date_subtract', 'extract',
                    'timezone', 'make_timestamptz', 'generate_series', 'overlaps', 'convert', 'convert_from', 'convert_to',
                    'length', 'current_setting', 'to_tsvector', 'to_tsquery', 'plainto_tsquery', 'phraseto_tsquery',
                    'websearch_to_tsquery', 'ts_headline', 'ts_match_tq', 'ts_match_tt', 'xml', 'xml_is_well_formed',
                    'pg_has_role', 'format', 'concat', 'concat_ws', 'num_nulls', 'num_nonnulls', 'pg_typeof',
                    'pg_column_size', 'pg_collation_for', 'count', 'min', 'max', 'any_value', 'mode', 'percentile_disc',
                    'rank', 'dense_rank', 'percent_rank', 'cume_dist', 'first_value', 'last_value', 'nth_value', 'lag',
                    'lead', 'cardinality', 'unnest', 'generate_subscripts', 'trim_array', 'width_bucket', 'isempty',
                    'lower', 'upper', 'lower_inc', 'upper_inc', 'lower_inf', 'upper_inf', 'error_on_null', 'int8')
                OR k.called ~ '^has_[a-z_]+_privilege$'
                OR k.called ~ '^(?:bt|hash)?oid(?:vector|8)?(?:eq|ne|lt|le|gt|ge|larger|smaller|cmp|extended)?$'
                OR (k.called ~ '^(?:bt|hash_?)?(?:array|enum|range|multirange|record|arraycontain|arrayoverlap|elem_contained_by)[a-z_]*$'
                    AND k.called !~ '_json'))
            ELSE k.extension IS NOT NULL AND NOT k.raw
                AND (k.plain OR (k.extension = 'moddatetime' AND k.gives = 'trigger'))
                AND (k.language IN ('c', 'internal') OR k.extension = 'citext')
                AND (k.volatile = 'i' OR k.extension IN ('uuid-ossp', 'pgcrypto', 'unaccent', 'citext', 'pg_trgm', 'hstore',
                    'ltree', 'intarray', 'btree_gin', 'btree_gist', 'isn', 'cube', 'seg', 'fuzzystrmatch', 'moddatetime',
                    'pg_uuidv7', 'vector'))
        END AS harmless,
        -- These look for a cast of the type that they get, which its owner may have made a moment ago.
        k.own AND k.called IN ('to_json', 'to_jsonb', 'row_to_json', 'array_to_json', 'json_agg', 'json_agg_strict', 'jsonb_agg',
            'jsonb_agg_strict', 'json_build_array', 'json_build_object', 'jsonb_build_array', 'jsonb_build_object',
            'json_object_agg', 'json_object_agg_strict', 'json_object_agg_unique', 'json_object_agg_unique_strict',
            'jsonb_object_agg', 'jsonb_object_agg_strict', 'jsonb_object_agg_unique', 'jsonb_object_agg_unique_strict',
            'quote_literal', 'quote_nullable', 'textanycat', 'anytextcat') AS casts
    FROM known k
),
-- Expressions with values of types whose owners are not trusted.
strange AS MATERIALIZED (
    SELECT DISTINCT e.root, e.relid, e.hook, e.object
    FROM evaluated e CROSS JOIN LATERAL pg_catalog.regexp_matches(e.tree,
        ':\w*[tT]yp(?:e|es|eid|eId|id)? (?:\(o )?([\d ]+)', 'g') AS m(found)
        CROSS JOIN LATERAL pg_catalog.string_to_table(pg_catalog.btrim(m.found[1]), ' ') AS n(number)
        JOIN pg_catalog.pg_type t ON t.oid = n.number::oid
        LEFT JOIN owner o ON o.oid = t.typowner
    WHERE n.number::int8 >= 16384 AND NOT coalesce(o.trusted, false)
),
-- What an expression is made of besides functions: of some of it, whose types decide; of some, nobody here knows.
made AS (
    SELECT DISTINCT e.root, e.relid, e.via, e.hook, e.object, m.found[1] AS node
    FROM evaluated e JOIN tab ON tab.oid = e.relid AND NOT tab.trusted
        CROSS JOIN LATERAL pg_catalog.regexp_matches(e.tree, '(?<!\\)\{([A-Z_]+)', 'g') AS m(found)
    WHERE e.hook NOT IN ('rule', 'view') AND m.found[1] NOT IN ('VAR', 'CONST', 'PARAM', 'FUNCEXPR', 'NAMEDARGEXPR', 'OPEXPR',
        'DISTINCTEXPR', 'NULLIFEXPR', 'SCALARARRAYOPEXPR', 'BOOLEXPR', 'FIELDSELECT', 'FIELDSTORE', 'RELABELTYPE',
        'COERCEVIAIO', 'ARRAYCOERCEEXPR', 'CONVERTROWTYPEEXPR', 'COLLATE', 'COLLATEEXPR', 'CASE', 'CASEEXPR', 'WHEN', 'CASEWHEN',
        'CASETESTEXPR', 'ARRAY', 'ARRAYEXPR', 'ROW', 'ROWEXPR', 'ROWCOMPARE', 'ROWCOMPAREEXPR', 'COALESCE', 'COALESCEEXPR',
        'MINMAX', 'MINMAXEXPR', 'SQLVALUEFUNCTION', 'XMLEXPR', 'NULLTEST', 'BOOLEANTEST', 'COERCETODOMAIN', 'COERCETODOMAINVALUE',
        'NEXTVALUEEXPR', 'SUBSCRIPTINGREF', 'JSONFORMAT', 'JSONRETURNING', 'JSONVALUEEXPR', 'JSONISPREDICATE', 'JSONBEHAVIOR')
)
SELECT DISTINCT u.root, u.relid, tab.schema, tab.name, u.via, u.hook, u.object, fn.name AS function,
    CASE WHEN fn.trusted THEN tab.owner ELSE fn.owner END AS owner
FROM used u JOIN fn ON fn.oid = u.fn JOIN tab ON tab.oid = u.relid
WHERE NOT fn.trusted OR (u.by <> 'type' AND NOT tab.trusted AND NOT fn.harmless
    AND NOT (fn.casts AND NOT EXISTS (SELECT FROM strange s
        WHERE (s.root, s.relid, s.hook, s.object) = (u.root, u.relid, u.hook, u.object))))
UNION ALL
SELECT DISTINCT e.root, e.relid, tab.schema, tab.name, e.via, e.hook, e.object, NULL::text, tab.owner
FROM made e JOIN tab ON tab.oid = e.relid
WHERE e.node NOT IN ('JSONEXPR', 'JSONCONSTRUCTOREXPR') OR EXISTS (SELECT FROM strange s
    WHERE (s.root, s.relid, s.hook, s.object) = (e.root, e.relid, e.hook, e.object))
UNION ALL
-- A rule is code whatever it calls, and a view is another one whenever its owner likes.
SELECT DISTINCT e.root, e.relid, tab.schema, tab.name, e.via, e.hook, e.object, NULL::text, tab.owner
FROM expr e JOIN tab ON tab.oid = e.relid WHERE e.hook IN ('rule', 'view') AND NOT tab.trusted
UNION ALL
-- The owner of a domain may change its CHECK without a lock on any table.
SELECT DISTINCT t.root, t.relid, tab.schema, tab.name, t.via, t.hook, t.object, NULL::text,
    coalesce(o.name, d.typowner::text)
FROM typ t JOIN pg_catalog.pg_type d ON d.oid = t.oid AND d.typtype = 'd' JOIN tab ON tab.oid = t.relid
    LEFT JOIN owner o ON o.oid = d.typowner
WHERE NOT coalesce(o.trusted, false)
UNION ALL
-- One that runs when a session begins has run by now, whatever that session does.
SELECT 0::oid, 0::oid, '', '', 'self', CASE event.event WHEN 'login' THEN 'login_trigger' ELSE 'event_trigger' END, event.name, fn.name,
    CASE WHEN fn.trusted THEN event.owner ELSE fn.owner END
FROM event JOIN fn ON fn.oid = event.fn WHERE NOT (event.trusted AND fn.trusted)
UNION ALL
-- What a foreign table reads is for its owner and that of its server to say. It may be a view on this very
-- server, read by a session that is as powerful as ours: of a superuser, no password is asked.
SELECT DISTINCT r.root, r.relid, tab.schema, tab.name, r.via, 'foreign', s.srvname::text, NULL::text,
    CASE WHEN NOT tab.trusted THEN tab.owner ELSE coalesce(o.name, s.srvowner::text) END
FROM reach r JOIN tab ON tab.oid = r.relid JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = r.relid
    JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver LEFT JOIN owner o ON o.oid = s.srvowner
WHERE r.via <> 'above' AND NOT (tab.trusted AND coalesce(o.trusted, false))
UNION ALL
SELECT DISTINCT r.root, r.relid, tab.schema, tab.name, r.via, 'owner', tab.relkind::text, NULL::text, tab.owner
FROM reach r JOIN tab ON tab.oid = r.relid WHERE NOT tab.trusted
ORDER BY root, schema, name, hook, object, function
