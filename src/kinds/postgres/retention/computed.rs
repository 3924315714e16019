//! Conditions on columns that are computed when they are read (VIRTUAL, since 18). Rows are looked at where they are
//! stored, in a partition or a member of an inheritance, and there such a column may be computed in another way than
//! in the table that the rule names: it would be another value than the rule means.

use super::facts::Table;
use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Session, each};

const COMPUTED: &str = "SELECT a.attrelid AS oid, a.attname::text AS name, pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attgenerated = 'v' AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

/// Why a rule is not followed that goes by a virtual column, where that is computed in another way in a member of
/// the table.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn otherwise(
    db: &Session,
    rule: &Rule,
    table: &Table,
) -> Result<Option<String>, EngineError> {
    if db.server.major() < 18 || table.members.iter().all(|member| member.oid == table.oid) {
        return Ok(None);
    }
    let doing = "looking how virtual columns are computed";
    let rows = db.query(doing, COMPUTED, &[&table.relations()]).await?;
    let all: Vec<(u32, String, Option<String>)> = each(&rows, |row| {
        Ok((
            row.named("oid")?,
            row.named("name")?,
            row.named("expression")?,
        ))
    })?;
    let of = |oid: u32, column: &str| {
        let mut found = all
            .iter()
            .filter(|(of, name, _)| *of == oid && name == column);
        found
            .next()
            .and_then(|(_, _, expression)| expression.as_ref())
    };
    let own = all
        .iter()
        .filter(|(oid, name, _)| *oid == table.oid && rule.names(name));
    for (_, column, expression) in own {
        let mut members = table.members.iter();
        let other = members.find(|member| of(member.oid, column) != expression.as_ref());
        if let Some(member) = other {
            let column = Identifier::new(column.as_str());
            return Ok(Some(format!(
                "it goes by {column}, which is computed when it is read (VIRTUAL), in {} in another way than in {}, and rows are looked at where they are stored: give both the same expression, go by other columns, or make a rule for each of the two tables",
                member.name, table.name
            )));
        }
    }
    Ok(None)
}
