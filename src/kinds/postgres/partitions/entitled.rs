//! What the role lacks to make partitions, or to retire them.

use super::create;
use super::facts::Facts;
use super::subject::Subject;
use crate::engines::postgres::Identifier;
use crate::plan::{Finding, Severity};

/// What the role lacks at a table; and where partitions are to be made, at its schema and at what is like its newest
/// partition.
pub(super) fn unentitled(subject: &Subject<'_>, facts: &Facts, makes: bool) -> Finding {
    let table = subject.table;
    let role = Identifier::new(&facts.role);
    let root = facts.nodes.get(&table.oid);
    let owner = root.map_or_else(String::new, |root| Identifier::new(&root.owner).to_string());
    let by_nobody = table.lacks.iter().any(String::is_empty);
    let why = match by_nobody {
        true => format!(
            "belongs to {owner}, of which {role} is no member and should not become one, as whoever is can do far more than that: give the table to a role without such rights of which {role} is a member (ALTER TABLE {} OWNER TO …)",
            table.name
        ),
        false => {
            let of_schema = |grant: &&String| grant.starts_with("GRANT USAGE ON SCHEMA ");
            let uses = table.lacks.iter().filter(of_schema).count();
            let creates = makes && table.may_not_create.is_some();
            let what = match (uses == table.lacks.len(), creates) {
                (true, _) => "may not use its schema",
                (false, true) => "neither owns it nor may create tables in its schema",
                (false, false) => "is no member of that role",
            };
            format!("belongs to {owner}, and {role} {what}")
        }
    };
    let mut grants = table.lacks.clone();
    if makes {
        for grant in create::to_make(subject, facts) {
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
    }
    Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Critical,
        object: table.name.to_string(),
        message: format!("no partitions can be made or retired: {} {why}", table.name),
        suggestion: (!by_nobody).then(|| grants.join("; ")),
    }
}
