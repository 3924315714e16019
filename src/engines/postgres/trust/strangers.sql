, owns (oid) AS (
    SELECT relowner FROM pg_catalog.pg_class UNION SELECT proowner FROM pg_catalog.pg_proc
    UNION SELECT typowner FROM pg_catalog.pg_type UNION SELECT evtowner FROM pg_catalog.pg_event_trigger
    UNION SELECT srvowner FROM pg_catalog.pg_foreign_server
)
SELECT EXISTS (SELECT FROM owns LEFT JOIN role ON role.oid = owns.oid WHERE NOT coalesce(role.trusted, false))
