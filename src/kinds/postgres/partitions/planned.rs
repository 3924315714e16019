//! What has to be so when a partition is made: nobody was quicker, its names are free, and what it is made like
//! is as the statements repeat it.

use super::Subject;
use super::facts::{Facts, Node};
use super::make::Names;
use crate::engines::postgres::{RelationName, rights};
use crate::plan::{Param, Query, Required};

/// Whether the table goes by its name, and has no partition that is called so.
pub(super) fn still_wanted(subject: &Subject<'_>, name: &RelationName) -> Query {
    let table = &subject.table.name;
    Query::new(
        "SELECT (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, $1::pg_catalog.oid, 0)).identity
                = pg_catalog.format('%I.%I', $2::text, $3::text)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE i.inhparent = $1::pg_catalog.oid AND n.nspname::text = $4::text AND c.relname::text = $5::text)",
        [
            Param::Oid(subject.table.oid),
            Param::Text(table.schema.raw().to_owned()),
            Param::Text(table.relation.raw().to_owned()),
            Param::Text(name.schema.raw().to_owned()),
            Param::Text(name.relation.raw().to_owned()),
        ],
    )
}

/// Whether nothing bears the names, and whoever may see and do what with the tables that the partition is made
/// like is as the statements repeat it. A table that is gone has no rights that could have changed.
pub(super) fn as_planned(
    subject: &Subject<'_>,
    facts: &Facts,
    template: Option<&Node>,
    names: &Names,
) -> Required {
    let root = facts.nodes.get(&subject.table.oid);
    let alike = match template {
        Some(template) => with_all_below(template, facts),
        None => root.into_iter().chain(subject.default).collect(),
    };
    let known: Vec<(u32, i64)> = alike.iter().map(|node| (node.oid, node.rights)).collect();
    let sql = format!(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname::text = $1::text AND c.relname::text = ANY (pg_catalog.string_to_array($2::text, E'\\n')))
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                WHERE n.nspname::text = $1::text AND t.typcategory <> 'A'
                    AND t.typname::text = ANY (pg_catalog.string_to_array($2::text, E'\\n')))
            AND {}",
        rights::same(&known)
    );
    let schema = names.front().map_or("", |name| name.schema.raw());
    let bare: Vec<&str> = names.iter().map(|name| name.relation.raw()).collect();
    let params = [Param::Text(schema.to_owned()), Param::Text(bare.join("\n"))];
    let like = match template {
        Some(template) => &template.name,
        None => &subject.table.name,
    };
    let otherwise = format!(
        "something else bears its name by now, or who may see and do what with {like}, or with what our role makes, has changed since the plan; the next run makes it under a free name, with the rights that hold then"
    );
    Required::new(Query::new(sql, params), otherwise).or_next_time()
}

/// A partition, and all partitions of it.
fn with_all_below<'a>(node: &'a Node, facts: &'a Facts) -> Vec<&'a Node> {
    let mut all = vec![node];
    for child in node.children.iter().filter_map(|oid| facts.nodes.get(oid)) {
        all.extend(with_all_below(child, facts));
    }
    all
}
