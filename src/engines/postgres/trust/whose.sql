-- $1: roles whose code may run. Reads catalogs only: nothing here evaluates what it looks at.
WITH RECURSIVE
-- Whose rights are at stake. `plain`: whatever the role can do, its memberships give it.
me AS MATERIALIZED (
    SELECT r.oid,
        NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_shdepend d
            WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
                AND NOT (d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND d.deptype = 'a'))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid AND m.admin_option)
            AS plain
    FROM pg_catalog.pg_roles r WHERE r.rolname IN (current_user, session_user)
),
held AS MATERIALIZED (
    SELECT me.oid AS me, r.oid FROM me CROSS JOIN pg_catalog.pg_roles r
    WHERE me.plain AND r.oid <> me.oid AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
),
-- Every role, and whether our rights may be lent to its code.
role AS NOT MATERIALIZED (
    SELECT o.oid, o.rolname::text AS name,
        o.rolsuper OR o.rolname::text = ANY ($1::text[])
        OR NOT EXISTS (SELECT FROM me
            WHERE NOT pg_catalog.pg_has_role(o.oid, me.oid, 'USAGE')
                AND NOT (me.plain AND NOT EXISTS (SELECT FROM held
                    WHERE held.me = me.oid AND NOT pg_catalog.pg_has_role(o.oid, held.oid, 'USAGE'))))
            AS trusted
    FROM pg_catalog.pg_roles o
)
