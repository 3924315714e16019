//! What a new partition is made without, though its siblings have it: rows need it more than that. It is told.

use super::Subject;
use super::facts::{Facts, ITSELF, Node};
use super::make::Names;
use crate::engines::postgres::Identifier;
use crate::plan::{Finding, Plan, Severity};
use crate::values::unreadable;

/// Takes out the statements that a partition can do without, and that would
/// have to name what cannot be written: rows need it more than its comment.
pub(super) fn take_unnamed(sql: &mut Vec<String>) -> Vec<String> {
    const EXTRAS: [&str; 3] = ["COMMENT ON ", "GRANT ", "ALTER PUBLICATION "];
    let extra = |sql: &String| EXTRAS.iter().any(|extra| sql.starts_with(extra));
    let (unnamed, rest) = std::mem::take(sql)
        .into_iter()
        .partition(|sql: &String| unreadable::is_in(sql) && extra(sql));
    *sql = rest;
    unnamed
}

/// Tells what a partition is made without.
pub(super) fn without(partition: &str, unnamed: &[String]) -> Finding {
    let shown: Vec<_> = unnamed.iter().map(|sql| unreadable::escaped(sql)).collect();
    Finding {
        code: "name.unreadable".to_owned(),
        severity: Severity::Warning,
        object: partition.to_owned(),
        message: format!(
            "{partition} is made without what its siblings have, because bytes there are not valid UTF-8, shown as \\x..; with the encoding of the session set to theirs: {}",
            shown.join("; ")
        ),
        suggestion: None,
    }
}

/// What its siblings have, and it cannot be given: told, for it must not keep
/// rows from having a partition.
pub(super) fn not_had(
    subject: &Subject<'_>,
    template: Option<&Node>,
    names: &Names,
    rows: i64,
    facts: &Facts,
    plan: &mut Plan,
) {
    let root = facts.nodes.get(&subject.table.oid);
    let Some((name, like)) = names.front().zip(template.or(root)) else {
        return;
    };
    let mut told = |code: &str, message: String, suggestion: String| {
        plan.findings.push(Finding {
            code: code.to_owned(),
            severity: Severity::Warning,
            object: name.to_string(),
            message,
            suggestion: Some(suggestion).filter(|suggestion| !suggestion.is_empty()),
        });
    };
    if let Some(tablespace) = like.tablespace.as_ref().filter(|_| !like.may_tablespace) {
        let tablespace = Identifier::new(tablespace);
        told(
            "partitions.tablespace",
            format!(
                "{} in the tablespace {tablespace}, where {} may create nothing; it is in that of the database",
                match template {
                    Some(_) => "its siblings are".to_owned(),
                    None => format!("new partitions of {} are meant to be", subject.table.name),
                },
                Identifier::new(&facts.role)
            ),
            format!(
                "GRANT CREATE ON TABLESPACE {tablespace} TO {}",
                Identifier::new(&facts.role)
            ),
        );
    }
    let Some(template) = template else {
        return;
    };
    let besides = &template.attached.besides;
    if !besides.is_empty() {
        let what: Vec<&str> = besides.iter().map(|(what, _)| what.as_str()).collect();
        let sql: Vec<String> = besides
            .iter()
            .filter(|(_, sql)| !sql.is_empty())
            .map(|(_, sql)| sql.replace(ITSELF, &name.to_string()))
            .collect();
        told(
            "partitions.besides",
            format!(
                "{} has {} of its own, and {} has not; the new partition is made without",
                unreadable::escaped(&template.name.to_string()),
                unreadable::escaped(&what.join(", ")),
                subject.table.name
            ),
            sql.join("; "),
        );
    }
    if rows > 0 && template.replica_nullable {
        told(
            "partitions.besides",
            format!(
                "{name} gets rows of the default partition; where one of them is null in a column of the replica identity that its siblings have, the new partition is made without NOT NULL there and without that identity, and rows that are published can be neither updated nor deleted"
            ),
            format!(
                "look with \\d {name} whether it has a replica identity; if not, give these rows a value, then set NOT NULL and REPLICA IDENTITY as its siblings have them"
            ),
        );
    }
    for publication in &template.publications {
        let schema = &template.name.schema;
        let of_schema = format!(
            "has the tables of the schema {schema}, where its siblings are, and new partitions are made in {}",
            subject.table.name.schema
        );
        let why = match publication {
            p if p.by_schema => &*of_schema,
            // Nobody knows what it meant.
            p if p.some.is_some() => "has some rows or columns of its siblings",
            p if !p.may => "has its siblings, and belongs to another role",
            _ => continue,
        };
        let some = publication.some.as_deref().map(|some| format!(" {some}"));
        let publication = Identifier::new(&publication.name);
        told(
            "partitions.publication",
            format!("publication {publication} {why}; it was not given this partition"),
            format!(
                "ALTER PUBLICATION {publication} ADD TABLE ONLY {name}{}",
                some.unwrap_or_default()
            ),
        );
    }
}
