//! Whose a table is that is made for the rows of another one, and who may read it.

use super::{Identifier, Session, each, first};
use crate::engines::EngineError;

/// What a table gets that is made for the rows of another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heirs {
    /// Whom it is given to, where that is not whoever makes it.
    pub owner: Option<Identifier>,
    /// Whom default privileges would give what they have not at the other, and what; `None` for everybody.
    closed_to: Vec<(Option<Identifier>, String)>,
}

/// An owner keeps what was theirs. A table of our own would be something that their code gains, so
/// that it could be trusted no more. A superuser has more to lose than that, and an owner that may
/// make nothing in the schema cannot be given anything there.
const OWNER: &str = "SELECT r.rolname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
    WHERE c.oid = ANY ($1::oid[]) AND r.rolname <> current_user
        AND NOT (SELECT u.rolsuper FROM pg_catalog.pg_roles u WHERE u.rolname = current_user)
        AND pg_catalog.pg_has_role(c.relowner, $3::text)
        AND coalesce((SELECT pg_catalog.has_schema_privilege(c.relowner, n.oid, 'CREATE')
            FROM pg_catalog.pg_namespace n WHERE n.nspname::text = $2::text), true)
    ORDER BY c.oid LIMIT 1";

/// Who reads some columns there, or some rows, is kept from the rest by row-level security; from what else default
/// privileges would let them do (TRUNCATE asks no policy), by nothing.
const CLOSED_TO: &str = "SELECT g.rolname::text, CASE WHEN pg_catalog.bool_or(s.closed) THEN 'ALL'
            ELSE pg_catalog.string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type) END
    FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole AND r.rolname = current_user
        CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a
        LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
        CROSS JOIN LATERAL (SELECT pg_catalog.bool_or(NOT CASE WHEN a.grantee = 0::oid THEN pg_catalog.has_any_column_privilege('public'::name, c.oid, 'SELECT')
                    ELSE pg_catalog.has_any_column_privilege(a.grantee, c.oid, 'SELECT') END) AS closed,
                pg_catalog.bool_or(NOT CASE WHEN a.grantee = 0::oid THEN pg_catalog.has_table_privilege('public'::name, c.oid, a.privilege_type)
                    ELSE pg_catalog.has_table_privilege(a.grantee, c.oid, a.privilege_type) END) AS lacks
            FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::oid[])) AS s
    WHERE d.defaclobjtype = 'r' AND a.grantee <> d.defaclrole
        AND (d.defaclnamespace = 0::oid OR d.defaclnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname::text = $2::text))
        AND (s.closed OR s.lacks AND a.privilege_type <> 'SELECT')
    GROUP BY 1 ORDER BY 1 NULLS FIRST";

impl Heirs {
    /// Those of a table in this schema for the rows of these.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn of(db: &Session, tables: &[u32], schema: &str) -> Result<Heirs, EngineError> {
        // Since 16 a member may have been kept from giving things to the role.
        let may = match db.server.major() {
            16.. => "SET",
            _ => "MEMBER",
        };
        let doing = "asking whose a new table is to be";
        let rows = db.query(doing, OWNER, &[&tables, &schema, &may]).await?;
        let owner: Option<String> = first(&rows, 0)?;
        let doing = "asking who may read a new table";
        let rows = db.query(doing, CLOSED_TO, &[&tables, &schema]).await?;
        let closed_to = each(&rows, |row| {
            let role: Option<String> = row.get(0)?;
            Ok((role.map(Identifier::new), row.get(1)?))
        })?;
        Ok(Heirs {
            owner: owner.map(Identifier::new),
            closed_to,
        })
    }

    /// What gives it to them, once it is made; each a statement.
    pub fn statements(&self, table: &str) -> Vec<String> {
        let closed = self.closed_to.iter().map(|(role, what)| {
            let whom = role
                .as_ref()
                .map_or_else(|| "PUBLIC".to_owned(), ToString::to_string);
            format!("REVOKE {what} ON TABLE {table} FROM {whom}")
        });
        let given = self
            .owner
            .iter()
            .map(|owner| format!("ALTER TABLE {table} OWNER TO {owner}"));
        closed.chain(given).collect()
    }
}
