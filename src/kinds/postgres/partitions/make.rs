//! A new table that has everything another one has.

use super::facts::{Facts, Node};
use crate::engines::postgres::{Identifier, RelationName, literal};

/// The longest name the server keeps, in bytes.
pub(super) const LONGEST_NAME: usize = 63;

/// As much of a name as fits into so many bytes.
pub(super) fn cut(name: &str, room: usize) -> &str {
    let end = (0..=room.min(name.len()))
        .rev()
        .find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

/// Why partitions like this one cannot be made.
pub(super) fn not_to_be_copied(node: &Node, facts: &Facts) -> Option<String> {
    if node
        .key
        .as_ref()
        .is_some_and(|key| key.starts_with("RANGE"))
    {
        return Some(format!(
            "{} is itself partitioned by range: list it under `tables` of a task of its own; maint does not guess its bounds",
            node.name
        ));
    }
    node.children
        .iter()
        .filter_map(|oid| facts.nodes.get(oid))
        .find_map(|child| not_to_be_copied(child, facts))
}

/// Creates a table like `template`, with its partitions if it has some.
pub(super) fn make(
    name: &RelationName,
    what: &str,
    template: Option<&Node>,
    facts: &Facts,
    sql: &mut Vec<String>,
) {
    let Some(like) = template else {
        sql.push(format!("CREATE TABLE {name} {what}"));
        return;
    };
    let unlogged = if like.unlogged && like.key.is_none() {
        "UNLOGGED "
    } else {
        ""
    };
    let mut text = format!("CREATE {unlogged}TABLE {name} {what}");
    if let Some(key) = &like.key {
        text.push_str(&format!(" PARTITION BY {key}"));
    } else {
        if let Some(method) = &like.access_method {
            text.push_str(&format!(" USING {}", Identifier::new(method)));
        }
        if !like.options.is_empty() {
            text.push_str(&format!(" WITH ({})", options(&like.options)));
        }
    }
    if let Some(tablespace) = &like.tablespace {
        text.push_str(&format!(" TABLESPACE {}", Identifier::new(tablespace)));
    }
    sql.push(text);
    for child in like.children.iter().filter_map(|oid| facts.nodes.get(oid)) {
        // `events_2026_eu` of `events_2026` becomes `events_2027_eu` of `events_2027`.
        let (own, above) = (child.name.relation.raw(), like.name.relation.raw());
        let end = own.strip_prefix(above).unwrap_or(own);
        let room = LONGEST_NAME.saturating_sub(end.len());
        let stem = cut(name.relation.raw(), room);
        let child_name = RelationName::new(name.schema.raw(), format!("{stem}{end}"));
        let bounds = child.bounds.as_deref().unwrap_or("DEFAULT");
        let what = format!("PARTITION OF {name} {bounds}");
        make(&child_name, &what, Some(child), facts, sql);
        afterwards(&child_name, Some(child), sql);
    }
    for (role, privilege, grantable) in &like.grants {
        let role = role
            .as_ref()
            .map_or_else(|| "PUBLIC".to_owned(), |r| Identifier::new(r).to_string());
        let grantable = if *grantable { " WITH GRANT OPTION" } else { "" };
        sql.push(format!(
            "GRANT {privilege} ON TABLE {name} TO {role}{grantable}"
        ));
    }
    if let Some(comment) = &like.comment {
        sql.push(format!("COMMENT ON TABLE {name} IS {}", literal(comment)));
    }
    if like.owner != facts.role {
        sql.push(format!(
            "ALTER TABLE {name} OWNER TO {}",
            Identifier::new(&like.owner)
        ));
    }
}

/// `fillfactor = '70', toast.autovacuum_enabled = 'off'`.
fn options(options: &[String]) -> String {
    let one = |option: &String| {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        let quoted: Vec<String> = name
            .split('.')
            .map(|part| Identifier::new(part).to_string())
            .collect();
        format!("{} = {}", quoted.join("."), literal(value))
    };
    options.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What can only be said once the indexes are there.
pub(super) fn afterwards(name: &RelationName, template: Option<&Node>, sql: &mut Vec<String>) {
    let Some(like) = template.filter(|like| like.key.is_none()) else {
        return;
    };
    match (like.replica_identity.as_str(), like.replica_index) {
        ("f", _) => sql.push(format!("ALTER TABLE {name} REPLICA IDENTITY FULL")),
        ("n", _) => sql.push(format!("ALTER TABLE {name} REPLICA IDENTITY NOTHING")),
        // The server chooses the name of the index when the partition is attached.
        ("i", Some(index)) => {
            let body = format!(
                "DECLARE chosen text; BEGIN
                    SELECT c.relname INTO STRICT chosen FROM pg_catalog.pg_inherits i
                        JOIN pg_catalog.pg_index x ON x.indexrelid = i.inhrelid
                        JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
                        WHERE i.inhparent = {index} AND x.indrelid = {}::pg_catalog.regclass;
                    EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', {}, chosen);
                END",
                literal(&name.to_string()), literal(&name.to_string())
            );
            sql.push(format!("DO {}", literal(&body)));
        }
        _ => {}
    }
    for (publication, _) in like.publications.iter().filter(|(_, some)| !some) {
        let publication = Identifier::new(publication);
        sql.push(format!(
            "ALTER PUBLICATION {publication} ADD TABLE ONLY {name}"
        ));
    }
}
