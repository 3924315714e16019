//! Who may see and do what with a table, as a number that the server works out again later: whoever makes a
//! table like it repeats what was found, and no more than is so by then.

use super::{Session, first};
use crate::engines::EngineError;

/// Its owner, privileges, those on columns, row security and policies; and what the default privileges of our
/// role give on what it makes.
const RIGHTS: &str = "pg_catalog.hashtextextended(pg_catalog.concat_ws('/',
        (SELECT pg_catalog.concat_ws(':', t.relowner, t.relacl::text, t.relrowsecurity, t.relforcerowsecurity)
            FROM pg_catalog.pg_class t WHERE t.oid = {oid}),
        'a', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.attnum, a.attacl::text), ' ' ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = {oid} AND a.attacl IS NOT NULL),
        'p', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', p.polname, p.polcmd, p.polpermissive, p.polroles::text, p.polqual, p.polwithcheck),
                ' ' ORDER BY p.polname)
            FROM pg_catalog.pg_policy p WHERE p.polrelid = {oid}),
        'd', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', d.defaclnamespace, d.defaclacl::text), ' ' ORDER BY d.oid)
            FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole
            WHERE r.rolname = current_user AND d.defaclobjtype = 'r')), 0)";

/// SQL: a number for who may see and do what with the table that `oid`, an expression, is the id of.
pub fn number(oid: &str) -> String {
    RIGHTS.replace("{oid}", oid)
}

/// SQL: whether that is as it was for all of these tables, by their ids, that are there; `true` for none.
pub fn same(known: &[(u32, i64)]) -> String {
    let known: Vec<String> = known
        .iter()
        .map(|(oid, number)| format!("({oid}::pg_catalog.oid, '{number}'::pg_catalog.int8)"))
        .collect();
    match known.is_empty() {
        true => "true".to_owned(),
        false => format!(
            "NOT EXISTS (SELECT FROM (VALUES {}) AS k (oid, known) JOIN pg_catalog.pg_class c ON c.oid = k.oid WHERE k.known <> {})",
            known.join(", "),
            number("c.oid")
        ),
    }
}

/// That number for one table; none where it is gone.
///
/// # Errors
/// When the server cannot be asked.
pub async fn of(db: &Session, table: u32) -> Result<Option<i64>, EngineError> {
    let sql = format!(
        "SELECT {} FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid",
        number("c.oid")
    );
    let doing = "reading who may do what with the table";
    first(&db.query(doing, &sql, &[&table]).await?, 0)
}
