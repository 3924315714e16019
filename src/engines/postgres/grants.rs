//! What a role lacks for a text of the user's.

use super::meaning::words;
use super::{Identifier, RelationName, Session};
use crate::engines::EngineError;

/// Relations and functions that the texts may name, and that the role may not reach or use;
/// what a view reads has to be open to the owner of the view, unless the view works as
/// whoever asks. A name that is there by accident is one that the role has no rights on, so
/// that hardly more is offered than is needed; the server names only the first that it meets.
const LACKING: &str = "WITH RECURSIVE named AS (
        SELECT c.oid, c.relkind, r.oid AS reader, true AS direct
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_roles r ON r.rolname = current_user
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.lower(c.relname::text) = ANY ($1::text[])
            AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
    ), read(oid, relkind, reader, direct) AS (
        SELECT oid, relkind, reader, direct FROM named
        UNION
        SELECT u.oid, u.relkind,
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o
                    WHERE o.option_name = 'security_invoker' AND o.option_value::bool)
                THEN v.reader ELSE c.relowner END, false
        FROM read v JOIN pg_catalog.pg_class c ON c.oid = v.oid AND v.relkind = 'v'
            JOIN pg_catalog.pg_rewrite w ON w.ev_class = v.oid
            JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> v.oid
            JOIN pg_catalog.pg_class u ON u.oid = d.refobjid AND u.relkind IN ('r', 'p', 'v', 'm', 'f')
    )
    SELECT n.nspname::text AS schema, c.relname::text AS name, NULL::text AS arguments, o.rolname::text AS role,
        r.direct AND NOT pg_catalog.has_schema_privilege(r.reader, n.oid, 'USAGE') AS unreached,
        NOT pg_catalog.has_table_privilege(r.reader, c.oid, 'SELECT')
            AND NOT (NOT r.direct AND pg_catalog.has_any_column_privilege(r.reader, c.oid, 'SELECT')) AS unusable,
        (r.direct OR o.rolname = current_user) AND pg_catalog.row_security_active(c.oid) AS hidden
    FROM read r JOIN pg_catalog.pg_class c ON c.oid = r.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_roles o ON o.oid = r.reader
    UNION ALL
    SELECT n.nspname::text, p.proname::text, pg_catalog.pg_get_function_identity_arguments(p.oid), current_user::text,
        NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
        NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE'), false
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE pg_catalog.lower(p.proname::text) = ANY ($1::text[])
        AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
    ORDER BY schema, arguments NULLS FIRST, name, role";

/// The statements that let the session's role read what these texts name; none where nothing
/// is missing that can be seen from outside.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn missing(db: &Session, texts: &[&str]) -> Result<Option<String>, EngineError> {
    let words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    let doing = "looking which rights are missing";
    let mut grants: Vec<String> = Vec::new();
    let mut bypass = None;
    for row in db.query(doing, LACKING, &[&words]).await? {
        let schema: String = row.named("schema")?;
        let name: String = row.named("name")?;
        let arguments: Option<String> = row.named("arguments")?;
        let role = Identifier::new(row.named::<String>("role")?);
        let (unreached, unusable): (bool, bool) = (row.named("unreached")?, row.named("unusable")?);
        // What policies hide would be counted as gone.
        if row.named("hidden")? {
            bypass = Some(format!("ALTER ROLE {role} BYPASSRLS"));
        }
        let object = RelationName::new(schema, name);
        if unreached {
            grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", object.schema));
        }
        if unusable {
            grants.push(match arguments {
                Some(arguments) => {
                    format!("GRANT EXECUTE ON FUNCTION {object}({arguments}) TO {role}")
                }
                None => format!("GRANT SELECT ON {object} TO {role}"),
            });
        }
    }
    grants.dedup();
    grants.extend(bypass);
    Ok((!grants.is_empty()).then(|| grants.join("; ")))
}
