//! What a role lacks for a text of the user's.

use super::meaning::words;
use super::{Identifier, RelationName, Session};
use crate::engines::EngineError;

/// Relations and functions that the texts may name, and that the role may not reach or use.
/// A name that is there by accident is one that the role has no rights on, so that hardly
/// more is offered than is needed; the server names only the first that it meets.
const LACKING: &str = "SELECT n.nspname::text, c.relname::text, NULL::text,
        NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
        NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.lower(c.relname::text) = ANY ($1::text[])
        AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
    UNION ALL
    SELECT n.nspname::text, p.proname::text, pg_catalog.pg_get_function_identity_arguments(p.oid),
        NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
        NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE pg_catalog.lower(p.proname::text) = ANY ($1::text[])
        AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
    ORDER BY 1, 3 NULLS FIRST, 2";

/// The statements that let the session's role read what these texts name; none where nothing
/// is missing that can be seen from outside.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn missing(db: &Session, texts: &[&str]) -> Result<Option<String>, EngineError> {
    let words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    let doing = "looking which rights are missing";
    let role = db
        .query(doing, "SELECT current_user::text", &[])
        .await?
        .first()
        .map(|row| row.get::<String>(0))
        .transpose()?
        .unwrap_or_default();
    let role = Identifier::new(role);
    let mut grants: Vec<String> = Vec::new();
    for row in db.query(doing, LACKING, &[&words]).await? {
        let schema: String = row.get(0)?;
        let name: String = row.get(1)?;
        let arguments: Option<String> = row.get(2)?;
        let (unreached, unusable): (bool, bool) = (row.get(3)?, row.get(4)?);
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
    Ok((!grants.is_empty()).then(|| grants.join("; ")))
}
