//! Functions that switch row-level security on again, and views that ask who reads them.
//!
//! What is judged by other tables has to see all their rows, so it is asked with `row_security =
//! off`: where a policy would hide some, the server refuses. A function that carries `SET
//! row_security = on`, or sets it in its body, undoes that for itself: what it does not see would
//! count as gone.

use super::meaning::words;
use super::reach::below;
use super::{Identifier, RelationName, Session};
use crate::engines::EngineError;
use crate::values::unreadable;

/// Functions that the texts name, and what those call, and views. A name that is there by accident adds
/// a function, which only counts where it sets this. `reader` is whose policies are in force.
const CALLED: &str = "WITH RECURSIVE called (class, oid, reader) AS (
        SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid, CASE WHEN p.prosecdef THEN p.proowner ELSE me.oid END
            FROM pg_catalog.pg_proc p, pg_catalog.pg_roles me
            WHERE me.rolname = current_user AND p.oid >= 16384 AND pg_catalog.lower(p.proname::text) = ANY ($1::text[])
        UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid, me.oid FROM pg_catalog.pg_class c, pg_catalog.pg_roles me
            WHERE me.rolname = current_user AND c.oid >= 16384 AND c.relkind = 'v' AND pg_catalog.lower(c.relname::text) = ANY ($1::text[])
        UNION SELECT d.class, d.oid, CASE WHEN f.prosecdef THEN f.proowner ELSE c.reader END
            FROM called c CROSS JOIN LATERAL (
                {below}
            ) AS d (class, oid)
            LEFT JOIN pg_catalog.pg_proc f ON d.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND f.oid = d.oid
            WHERE d.oid >= 16384 AND d.class IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass)
    )
";

/// Of these, functions that switch it on.
const SETTING: &str = r"SELECT n.nspname::text AS schema, p.proname::text AS name, pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments, r.rolname::text AS role,
        EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS s (setting) WHERE pg_catalog.starts_with(pg_catalog.lower(s.setting), 'row_security=')) AS carries
    FROM called c JOIN pg_catalog.pg_proc p ON c.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = c.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles r ON r.oid = c.reader
    WHERE NOT (r.rolsuper OR r.rolbypassrls)
        AND (p.prosrc ~* '\mrow_security\M' OR EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS s (setting)
            WHERE pg_catalog.lower(s.setting) IN ('row_security=on', 'row_security=true', 'row_security=yes', 'row_security=1')))
        AND EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.relrowsecurity
            AND NOT (pg_catalog.pg_has_role(r.oid, t.relowner, 'USAGE') AND NOT t.relforcerowsecurity))
    ORDER BY schema, name, arguments, role LIMIT 1";

/// Of these, views whose rows depend on who asks, or with which settings: as far as that stands neither in
/// literals nor in names.
const BY_READER: &str = r#"SELECT n.nspname::text, v.relname::text
    FROM called c JOIN pg_catalog.pg_class v ON c.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND v.oid = c.oid AND v.relkind = 'v'
        JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
    WHERE pg_catalog.regexp_replace(pg_catalog.pg_get_viewdef(v.oid), '''([^'']|'''')*''|"[^"]*"', '', 'g')
        ~ '\m(CURRENT_USER|SESSION_USER|CURRENT_ROLE|USER|current_setting|pg_has_role|has_[a-z_]+_privilege|row_security_active)\M'
    ORDER BY 1, 2 LIMIT 1"#;

/// Why what these texts ask is not answered with all rows, as far as functions or views hide some on
/// their own; none where they do not.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn hides(db: &Session, texts: &[&str]) -> Result<Option<String>, EngineError> {
    let words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    if words.is_empty() {
        return Ok(None);
    }
    let called = CALLED.replace("{below}", &below("c", "'v'"));
    let doing = "looking for views that ask who reads them";
    let by_reader = format!("{called}{BY_READER}");
    if let Some(row) = db.query(doing, &by_reader, &[&words]).await?.first() {
        let view = RelationName::new(row.get::<String>(0)?, row.get::<String>(1)?);
        return Ok(Some(format!(
            "the view {view} shows rows by who asks, or by a setting, and what it does not show must not count as gone: name the table that the rows are in, or a view without that"
        )));
    }
    let doing = "looking for functions that switch row-level security on";
    let rows = db
        .query(doing, &format!("{called}{SETTING}"), &[&words])
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let name = row.relation("schema", "name")?;
    let arguments: String = row.named("arguments")?;
    let role = Identifier::new(row.named::<String>("role")?);
    let function = format!("{name}({})", unreadable::escaped(&arguments));
    let (how, help) = match row.named("carries")? {
        true => (
            "carries SET row_security",
            format!("ALTER FUNCTION {function} RESET row_security"),
        ),
        false => (
            "sets row_security in its body",
            "take that out of it".to_owned(),
        ),
    };
    Ok(Some(format!(
        "the function {function} {how}: it sees only what policies let {role} see, and what is only hidden must not count as gone: {help}, or ALTER ROLE {role} BYPASSRLS"
    )))
}
