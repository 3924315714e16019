//! A new table that has everything another one has.

use std::collections::VecDeque;

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
    if node.kind == "f" {
        return Some(format!(
            "{} is a foreign table: maint does not make tables on other servers",
            node.name
        ));
    }
    node.children
        .iter()
        .filter_map(|oid| facts.nodes.get(oid))
        .find_map(|child| not_to_be_copied(child, facts))
}

/// The names of a table and of its partitions to be, in the order in which
/// [`make`] makes them.
pub(super) type Names = VecDeque<RelationName>;

/// What the names of partitions below a new partition end in, in the order in
/// which [`make`] makes them: `events_2026_eu` of `events_2026` gives `_eu`.
pub(super) fn ends_below(node: &Node, facts: &Facts) -> Vec<String> {
    let mut ends = Vec::new();
    let children = node.children.iter().filter_map(|oid| facts.nodes.get(oid));
    for (n, child) in children.enumerate() {
        let (own, above) = (child.name.relation.raw(), node.name.relation.raw());
        let end = match own.strip_prefix(above).filter(|end| !end.is_empty()) {
            Some(end) => end.to_owned(),
            None => format!("_{}", n + 1),
        };
        let below = ends_below(child, facts);
        ends.push(end.clone());
        ends.extend(below.into_iter().map(|below| format!("{end}{below}")));
    }
    ends
}

/// Where a partition is stored that is to be like no other: where its table says.
pub(super) fn stored(root: &Node) -> String {
    let mut text = String::new();
    if let Some(method) = &root.access_method {
        text.push_str(&format!(" USING {}", Identifier::new(method)));
    }
    if let Some(tablespace) = root.tablespace.as_ref().filter(|_| root.may_tablespace) {
        text.push_str(&format!(" TABLESPACE {}", Identifier::new(tablespace)));
    }
    text
}

/// Creates a table like `template`, with its partitions if it has some.
pub(super) fn make(
    name: &RelationName,
    what: &str,
    template: Option<&Node>,
    facts: &Facts,
    names_below: &mut Names,
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
    if let Some(tablespace) = like.tablespace.as_ref().filter(|_| like.may_tablespace) {
        text.push_str(&format!(" TABLESPACE {}", Identifier::new(tablespace)));
    }
    sql.push(text);
    for child in like.children.iter().filter_map(|oid| facts.nodes.get(oid)) {
        let Some(child_name) = names_below.pop_front() else {
            continue;
        };
        let bounds = child.bounds.as_deref().unwrap_or("DEFAULT");
        let what = format!("PARTITION OF {name} {bounds}");
        make(&child_name, &what, Some(child), facts, names_below, sql);
        afterwards(&child_name, Some(child), sql);
    }
    let own = &like.attached;
    sql.extend(
        own.constraints
            .iter()
            .map(|what| format!("ALTER TABLE {name} ADD {what}")),
    );
    for (unique, what) in &own.indexes {
        let unique = if *unique { "UNIQUE " } else { "" };
        sql.push(format!("CREATE {unique}INDEX ON {name} {what}"));
    }
    secure(name, like, facts, sql);
    if let Some(comment) = &like.comment {
        sql.push(format!("COMMENT ON TABLE {name} IS {}", literal(comment)));
    }
    owned(name, like, facts, sql);
}

/// Who may see and do what: before any row is in it, or anybody can look.
pub(super) fn secure(name: &RelationName, like: &Node, facts: &Facts, sql: &mut Vec<String>) {
    let own = &like.attached;
    if own.row_security {
        sql.push(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"));
    }
    if own.forced {
        sql.push(format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY"));
    }
    // Where a policy names its table, it means the new one.
    let (old, new) = (
        format!("{}.", like.name.relation),
        format!("{}.", name.relation),
    );
    for (policy, what) in &own.policies {
        sql.push(format!(
            "CREATE POLICY {} ON {name} {}",
            Identifier::new(policy),
            renamed(what, &old, &new)
        ));
    }
    let option = |grantable: bool| if grantable { " WITH GRANT OPTION" } else { "" };
    own_default(name, like, facts, sql);
    for (role, privilege, grantable) in &like.grants {
        sql.push(format!(
            "GRANT {privilege} ON TABLE {name} TO {}{}",
            whom(role),
            option(*grantable)
        ));
    }
    for (role, privilege, column, grantable) in &own.column_grants {
        sql.push(format!(
            "GRANT {privilege} ({}) ON TABLE {name} TO {}{}",
            Identifier::new(column),
            whom(role),
            option(*grantable)
        ));
    }
}

/// Takes back what our role's default privileges gave: it is not ours to give, and what they
/// take from us the owner would lack.
pub(super) fn own_default(name: &RelationName, like: &Node, facts: &Facts, sql: &mut Vec<String>) {
    let me = Some(&facts.role);
    for role in &facts.by_default {
        match role.as_ref() == me {
            true => sql.push(format!("GRANT ALL ON TABLE {name} TO {}", whom(role))),
            false => sql.push(format!("REVOKE ALL ON TABLE {name} FROM {}", whom(role))),
        }
    }
    if !facts.by_default.is_empty() && !facts.by_default.contains(&me.cloned()) {
        sql.push(format!(
            "GRANT ALL ON TABLE {name} TO {}",
            whom(&me.cloned())
        ));
    }
    for privilege in &like.given_up {
        sql.push(format!(
            "REVOKE {privilege} ON TABLE {name} FROM {}",
            whom(&me.cloned())
        ));
    }
}

/// Takes back what the owner's default privileges gave to whom the table above gives nothing, or shows
/// some rows only.
pub(super) fn not_wider(name: &RelationName, above: &Node, facts: &Facts, sql: &mut Vec<String>) {
    let others = facts.by_default.iter().filter(|role| {
        let granted = above.grants.iter().any(|(to, ..)| to == *role);
        role.as_ref() != Some(&facts.role) && (!granted || above.attached.row_security)
    });
    sql.extend(others.map(|role| format!("REVOKE ALL ON TABLE {name} FROM {}", whom(role))));
}

fn whom(role: &Option<String>) -> String {
    role.as_ref()
        .map_or_else(|| "PUBLIC".to_owned(), |r| Identifier::new(r).to_string())
}

/// `text` with `old` as `new` where it stands as a word of its own.
fn renamed(text: &str, old: &str, new: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(old) {
        let before = &rest[..at];
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '"');
        out.push_str(before);
        out.push_str(if before.ends_with(word) { old } else { new });
        rest = &rest[at + old.len()..];
    }
    out + rest
}

/// Gives it to the owner of what it is like: who else could alter it together
/// with its siblings?
pub(super) fn owned(name: &RelationName, like: &Node, facts: &Facts, sql: &mut Vec<String>) {
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
    // Of the table itself it is no template, but its identity of rows is meant for all.
    let Some(like) = template.filter(|like| like.key.is_none() || like.bounds.is_none()) else {
        return;
    };
    match (like.replica_identity.as_str(), &like.replica_columns) {
        ("f", _) => sql.push(format!("ALTER TABLE {name} REPLICA IDENTITY FULL")),
        ("n", _) => sql.push(format!("ALTER TABLE {name} REPLICA IDENTITY NOTHING")),
        // The server chooses the name of the index when the partition is attached.
        ("i", Some(columns)) => {
            // Its table may leave open what the identity of a partition's rows must have.
            let not_null = columns
                .iter()
                .map(|column| format!("ALTER COLUMN {} SET NOT NULL", Identifier::new(column)))
                .collect::<Vec<_>>()
                .join(", ");
            let not_null = match like.replica_nullable {
                true => format!("ALTER TABLE {name} {not_null};"),
                false => String::new(),
            };
            let columns: Vec<String> = columns.iter().map(|column| literal(column)).collect();
            let table = literal(&name.to_string());
            let body = format!(
                "DECLARE chosen text; BEGIN
                    SELECT c.relname INTO chosen FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
                        WHERE x.indrelid = {table}::pg_catalog.regclass AND x.indisunique AND x.indimmediate AND x.indisvalid
                            AND x.indpred IS NULL AND x.indexprs IS NULL
                            AND ARRAY[{}]::text[] = (SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place)
                                FROM pg_catalog.unnest(x.indkey) WITH ORDINALITY u (att, place)
                                JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.att WHERE u.place <= x.indnkeyatts)
                        ORDER BY c.relname LIMIT 1;
                    IF chosen IS NULL THEN RETURN; END IF;
                    {not_null}
                    EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', {table}, chosen);
                -- Rows need a partition more than an identity.
                EXCEPTION WHEN not_null_violation THEN NULL;
                END",
                columns.join(", ")
            );
            sql.push(format!("DO {}", literal(&body)));
        }
        _ => {}
    }
    if like.bounds.is_none() {
        return;
    }
    for publication in like.publications.iter().filter(|p| p.is_given()) {
        let publication = Identifier::new(&publication.name);
        sql.push(format!(
            "ALTER PUBLICATION {publication} ADD TABLE ONLY {name}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_the_new_table() {
        for (text, expected) in [
            ("USING (x = 1)", "USING (x = 1)"),
            ("(e_1.id = t.id)", "(e_2.id = t.id)"),
            ("(more_e_1.id = e_1.id)", "(more_e_1.id = e_2.id)"),
            ("app.e_1.id", "app.e_1.id"),
        ] {
            assert_eq!(renamed(text, "e_1.", "e_2."), expected);
        }
    }
}
