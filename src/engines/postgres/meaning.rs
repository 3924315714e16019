//! What the operators in a condition of the user's mean.
//!
//! With only the server's own schema in the search path, `name = 'root'` on a
//! column of type citext compares text: a row that was to be kept goes. So the
//! schemas of such types follow `pg_catalog` in the path of whoever evaluates
//! the condition, if nobody untrusted can put operators there; otherwise the
//! condition is refused.

use super::{Identifier, Session};
use crate::engines::EngineError;

/// The schemas whose operators a condition needs, or why it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Quoted, in order.
    pub schemas: Vec<String>,
    /// Why the condition cannot be evaluated as it is meant.
    pub refused: Option<String>,
}

/// Types with operators of their own that the texts may meet: in a column of a
/// relation, or in the result of a function, whose name is in them, or by
/// their own name; also inside other types: below a domain, in an array, a
/// range, a composite type or the row of a table. A name that is there by
/// accident only makes the path longer. Without operators made for them, those
/// of enums, arrays, ranges, rows and domains are the server's own. What users
/// make has numbers from 16384 on.
const TYPES: &str = "WITH RECURSIVE own AS (
        SELECT t.oid, t.typname FROM pg_catalog.pg_type t
        WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
            AND t.oid IN (SELECT o.oprleft FROM pg_catalog.pg_operator o WHERE o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace
                UNION SELECT o.oprright FROM pg_catalog.pg_operator o WHERE o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace)
    ), around (inside, oid) AS (
        SELECT t.typbasetype, t.oid FROM pg_catalog.pg_type t WHERE t.typbasetype >= 16384
        UNION ALL SELECT t.typelem, t.oid FROM pg_catalog.pg_type t WHERE t.typelem >= 16384
        UNION ALL SELECT r.rngsubtype, r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngsubtype >= 16384
        UNION ALL SELECT r.rngtypid, r.rngmultitypid FROM pg_catalog.pg_range r WHERE r.rngtypid >= 16384
        UNION ALL SELECT a.atttypid, c.reltype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            WHERE a.atttypid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0
                AND EXISTS (SELECT FROM own)
    ), over(oid, base, typname) AS (
        SELECT o.oid, o.oid, o.typname FROM own o
        UNION SELECT t.oid, v.base, t.typname FROM over v JOIN around a ON a.inside = v.oid JOIN pg_catalog.pg_type t ON t.oid = a.oid
    ), met AS (
        SELECT v.base FROM over v WHERE pg_catalog.lower(v.typname::text) = ANY ($1::text[])
        UNION SELECT v.base FROM over v JOIN pg_catalog.pg_attribute a ON a.atttypid = v.oid AND NOT a.attisdropped AND a.attnum > 0
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            WHERE (c.oid = ANY ($2::oid[]) OR pg_catalog.lower(c.relname::text) = ANY ($1::text[]))
                AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        UNION SELECT v.base FROM over v JOIN pg_catalog.pg_proc p ON p.prorettype = v.oid OR v.oid = ANY (p.proallargtypes)
            WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
                AND pg_catalog.lower(p.proname::text) = ANY ($1::text[])
                -- Casts and operators of the type itself call its functions without naming them.
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_operator o WHERE o.oprcode = p.oid)
    ), place AS (
        SELECT DISTINCT o.oprnamespace AS oid, m.base FROM met m
            JOIN pg_catalog.pg_operator o ON m.base IN (o.oprleft, o.oprright)
        WHERE o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace
    )
    SELECT n.nspname::text AS schema,
        pg_catalog.string_agg(DISTINCT p.base::pg_catalog.regtype::text, ', ') AS types,
        {owner}::pg_catalog.regrole::text AS owner,
        {trusted} AS owner_trusted,
        (SELECT pg_catalog.min(CASE WHEN g.grantee = 0 THEN 'everybody (PUBLIC)' ELSE 'role ' || g.grantee::pg_catalog.regrole::text END)
            FROM pg_catalog.aclexplode(n.nspacl) g
            WHERE g.privilege_type = 'CREATE' AND g.grantee <> n.nspowner
                AND (g.grantee = 0 OR NOT {grantee_trusted})) AS others
    FROM place p JOIN pg_catalog.pg_namespace n ON n.oid = p.oid
    GROUP BY n.oid, n.nspname, n.nspowner, n.nspacl
    ORDER BY schema";

/// SQL: whether what `role` makes may be called. A superuser counts as a member
/// of every role, which says nothing about how far those can be trusted.
fn trusted(role: &str) -> String {
    format!(
        "(SELECT r.rolsuper OR r.rolname = current_user
            OR (NOT me.rolsuper AND (pg_catalog.pg_has_role(r.oid, 'USAGE')
                OR r.oid = (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())))
        FROM pg_catalog.pg_roles r, pg_catalog.pg_roles me WHERE r.oid = {role} AND me.rolname = current_user)"
    )
}

/// Looks which schemas these texts need, beside what the columns of `tables` need.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn of(db: &Session, texts: &[&str], tables: &[u32]) -> Result<Meaning, EngineError> {
    let mut meaning = Meaning::default();
    let words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    if words.is_empty() {
        return Ok(meaning);
    }
    // The schema `public` of newer servers belongs to whoever owns the database.
    let owner = "(CASE WHEN n.nspowner = 'pg_database_owner'::pg_catalog.regrole
        THEN (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
        ELSE n.nspowner END)";
    let grantee = trusted(
        "(CASE WHEN g.grantee = 'pg_database_owner'::pg_catalog.regrole
        THEN (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
        ELSE g.grantee END)",
    );
    let sql = TYPES
        .replace("{owner}", owner)
        .replace("{trusted}", &trusted(owner))
        .replace("{grantee_trusted}", &grantee);
    let doing = "looking what the operators of a condition mean";
    for row in db.query(doing, &sql, &[&words, &tables]).await? {
        let schema: String = row.named("schema")?;
        let types: String = row.named("types")?;
        let owner: String = row.named("owner")?;
        let owner_trusted: Option<bool> = row.named("owner_trusted")?;
        let others: Option<String> = row.named("others")?;
        let schema = Identifier::new(schema);
        let who = match (owner_trusted, others) {
            (Some(true), None) => {
                meaning.schemas.push(schema.to_string());
                continue;
            }
            (Some(true), Some(others)) => format!("{others} may create operators there"),
            _ => format!("it belongs to {owner}"),
        };
        meaning.refused = Some(format!(
            "it may compare values of {types}, whose operators are in the schema {schema}, and {who}: REVOKE CREATE ON SCHEMA {schema} from whoever is not trusted, or move the extension into a schema of its own (ALTER EXTENSION … SET SCHEMA)"
        ));
    }
    Ok(meaning)
}

/// Everything in a text that may be a name, in lower case: words, and what is between double quotes.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let plain = lower.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$'));
    let unquoted = lower.replace("\"\"", "\u{1}");
    let quoted = unquoted.split('"').skip(1).step_by(2);
    let quoted: Vec<String> = quoted.map(|name| name.replace('\u{1}', "\"")).collect();
    let mut words: Vec<String> = plain.map(str::to_owned).chain(quoted).collect();
    words.retain(|word| !word.is_empty());
    words.sort();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn names_are_found_however_they_are_written() {
        let found = words(r#"EXISTS (SELECT FROM App.holds h WHERE "odd ""name" = 'x')"#);
        for name in ["app", "holds", "h", "odd \"name"] {
            assert!(found.iter().any(|word| word == name), "{name} in {found:?}");
        }
        assert!(words("  ").is_empty());
    }
}
