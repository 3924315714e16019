//! Who follows a table by logical replication: it has to be told of each new partition there.

use std::collections::HashMap;

use super::Subject;
use super::facts::{Facts, Node};
use crate::engines::EngineError;
use crate::engines::postgres::publications::published;
use crate::engines::postgres::{Identifier, Session};
use crate::plan::{Finding, Severity};
use crate::values::several;

/// Publications that tell of rows by the partition they are in, and take new partitions in by themselves.
const OF: &str = "SELECT c.oid, ARRAY(SELECT p.pubname::text FROM pg_catalog.pg_publication p
        WHERE NOT p.pubviaroot AND {published} ORDER BY 1) AS publications
    FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1) AND c.relkind = 'p'";

/// Reads them, by table.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn publications(
    db: &Session,
    tables: &[u32],
) -> Result<HashMap<u32, Vec<String>>, EngineError> {
    let sql = OF.replace("{published}", &published(&db.server, "p", "c.oid"));
    let doing = "reading which publications tell of partitions";
    let rows = db.query(doing, &sql, &[&tables]).await?;
    rows.iter()
        .map(|row| Ok((row.named("oid")?, row.named("publications")?)))
        .collect()
}

/// What has to be done where the table is followed, once there are `made` new partitions.
pub(super) fn to_be_told(
    subject: &Subject<'_>,
    template: Option<&Node>,
    facts: &Facts,
    made: usize,
) -> Option<Finding> {
    let table = &subject.table.name;
    let by_table = facts.publications.get(&subject.table.oid);
    let given = template.into_iter().flat_map(|node| &node.publications);
    let given = given.filter(|p| p.is_given()).map(|p| &p.name);
    let mut names: Vec<String> = by_table
        .into_iter()
        .flatten()
        .chain(given)
        .map(|name| Identifier::new(&**name).to_string())
        .collect();
    names.sort_unstable();
    names.dedup();
    let publications = match names.as_slice() {
        [] => return None,
        [one] => format!("the publication {one}"),
        _ => format!("the publications {}", names.join(", ")),
    };
    Some(Finding {
        code: "partitions.subscribers".to_owned(),
        severity: Severity::Warning,
        object: table.to_string(),
        message: format!(
            "the first row that comes into {} of {table} stops the replication of all tables at who subscribes to {publications} and has no table of that name: its subscription fails again and again, and meanwhile the log is kept here. Make these tables there before rows come, then run ALTER SUBSCRIPTION … REFRESH PUBLICATION there: until that, it takes none of their rows and says nothing",
            several(i64::try_from(made).unwrap_or(i64::MAX), "new partition")
        ),
        suggestion: None,
    })
}
