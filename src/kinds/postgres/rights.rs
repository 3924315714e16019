//! What the role may not do or see, and what is said of that: with the statements that help, where any should.

use std::collections::BTreeSet;

use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::plan::{Finding, Plan, Severity};

/// More objects than this are nothing to paste.
const MOST_GRANTED: usize = 50;

/// What decides which rights may be advised.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    /// Owners whose members can do more than work on their tables: to be a
    /// member of a superuser is to be one.
    mighty: BTreeSet<String>,
    /// Schemas that the role may use.
    open: BTreeSet<String>,
}

/// A role that can become a mighty one is mighty, too. Only owners matter.
const RIGHTS: &str = "SELECT 'mighty', r.rolname::text FROM pg_catalog.pg_roles r
    WHERE r.oid IN (SELECT DISTINCT c.relowner FROM pg_catalog.pg_class c)
        AND EXISTS (SELECT FROM pg_catalog.pg_roles m
            WHERE (m.rolsuper OR m.rolcreaterole OR m.rolreplication OR m.rolbypassrls
                    OR m.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))
                AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER'))
    UNION ALL SELECT 'open', n.nspname::text FROM pg_catalog.pg_namespace n
    WHERE pg_catalog.has_schema_privilege(n.oid, 'USAGE')";

impl Rights {
    /// Reads them.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub(super) async fn read(db: &Session) -> Result<Rights, EngineError> {
        let mut rights = Rights::default();
        let doing = "reading which rights may be granted";
        for row in db.query(doing, RIGHTS, &[]).await? {
            let set = match row.get::<String>(0)?.as_str() {
                "mighty" => &mut rights.mighty,
                _ => &mut rights.open,
            };
            set.insert(row.get(1)?);
        }
        Ok(rights)
    }

    /// What lets the role reach these by name; nothing where it does already.
    fn usage(&self, objects: &[&RelationName], role: &Identifier) -> String {
        let schemas: BTreeSet<&Identifier> = objects.iter().map(|name| &name.schema).collect();
        let closed = schemas.iter().filter(|s| !self.open.contains(s.raw()));
        let closed: Vec<String> = closed.map(ToString::to_string).collect();
        match closed.is_empty() {
            true => String::new(),
            false => format!("GRANT USAGE ON SCHEMA {} TO {role}; ", closed.join(", ")),
        }
    }
}

/// The statements that let the role do `privilege` on these objects, and
/// reach them by name. `what` is empty for tables.
pub(super) fn grant(
    privilege: &str,
    what: &str,
    objects: &[&RelationName],
    role: &Identifier,
) -> String {
    let schemas: BTreeSet<&Identifier> = objects.iter().map(|name| &name.schema).collect();
    let list = |names: Vec<String>| names.join(", ");
    let schemas = list(schemas.iter().map(ToString::to_string).collect());
    let objects = objects.iter().take(MOST_GRANTED);
    let objects = list(objects.map(ToString::to_string).collect());
    format!(
        "GRANT USAGE ON SCHEMA {schemas} TO {role}; GRANT {privilege} ON {what}{objects} TO {role}"
    )
}

/// Something that asks for work, and is not the role's to work on.
#[derive(Clone, Debug)]
pub(super) struct Forbidden {
    /// What would be worked on.
    object: String,
    /// The table that it belongs to, or is.
    table: RelationName,
    /// Whose that is.
    owner: String,
}

impl Forbidden {
    /// A table or a view.
    pub(super) fn table(name: &RelationName, owner: &str) -> Self {
        Forbidden::part(name.to_string(), name, owner)
    }

    /// Part of a table.
    pub(super) fn part(object: String, table: &RelationName, owner: &str) -> Self {
        Forbidden {
            object,
            table: table.clone(),
            owner: owner.to_owned(),
        }
    }
}

/// Notes what asks for work but is not the role's to work on: one finding for
/// all. Where that is everything, the task has not done its work.
pub(super) fn forbid(
    plan: &mut Plan,
    action: &str,
    (role, major): (&str, i32),
    rights: &Rights,
    objects: &[Forbidden],
) {
    // From 17 on a right on the table is enough, whoever owns it.
    let mighty = |object: &&Forbidden| major < 17 && rights.mighty.contains(&object.owner);
    for of_mighty in [false, true] {
        let these = objects.iter().filter(|o| mighty(o) == of_mighty);
        let these: Vec<&Forbidden> = these.collect();
        forbid_these(plan, action, (role, major), rights, &these, of_mighty);
    }
}

fn forbid_these(
    plan: &mut Plan,
    action: &str,
    (role, major): (&str, i32),
    rights: &Rights,
    objects: &[&Forbidden],
    of_mighty: bool,
) {
    let Some(first) = objects.first() else {
        return;
    };
    let others = match objects.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let role = Identifier::new(role);
    let tables: BTreeSet<&RelationName> = objects.iter().map(|o| &o.table).collect();
    let tables: Vec<&RelationName> = tables.into_iter().collect();
    let owners: BTreeSet<Identifier> = objects.iter().map(|o| Identifier::new(&*o.owner)).collect();
    let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
    let owners = owners.join(", ");
    let usage = rights.usage(&tables, &role);
    let (needs, suggestion) = if major >= 17 {
        let names = tables.iter().take(MOST_GRANTED).map(ToString::to_string);
        let names: Vec<String> = names.collect();
        (
            "neither owns the table nor has MAINTAIN on it, or may not use its schema".to_owned(),
            Some(format!(
                "{usage}GRANT MAINTAIN ON {} TO {role}",
                names.join(", ")
            )),
        )
    } else if of_mighty {
        (
            format!(
                "is not a member of the owner's role, and should not become one, as whoever is a member of {owners} can do far more than that: leave it to {owners} (`exclude`), or give the table to a role without such rights of which {role} is a member (ALTER TABLE {} OWNER TO …)",
                first.table
            ),
            None,
        )
    } else {
        (
            "is not a member of the owner's role, or may not use its schema".to_owned(),
            Some(format!("{usage}GRANT {owners} TO {role}")),
        )
    };
    let message = format!(
        "{}{others} should be worked on ({action}), but {role} {needs}; left alone",
        first.object
    );
    plan.undone(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: first.object.clone(),
        message,
        suggestion,
    });
}

/// Tables whose statistics the role may not see.
#[derive(Debug, Default)]
pub(super) struct Unseen<'a> {
    /// It may not read them.
    unread: BTreeSet<&'a RelationName>,
    /// Row-level security is in force for it: that hides the statistics, too.
    filtered: BTreeSet<&'a RelationName>,
}

impl<'a> Unseen<'a> {
    pub(super) fn add(&mut self, table: &'a RelationName, (unread, filtered): (bool, bool)) {
        if unread {
            self.unread.insert(table);
        }
        if filtered {
            self.filtered.insert(table);
        }
    }

    /// One finding for all of a kind. `what` is not known of them, and what helps without a right, where something does.
    pub(super) fn findings(
        &self,
        (what, otherwise): (&str, &str),
        role: &str,
        rights: &Rights,
    ) -> Vec<Finding> {
        let role = Identifier::new(role);
        let unread = (
            &self.unread,
            "may not read the tables, and so sees no statistics of theirs (pg_maintain does not include that)",
        );
        let filtered = (
            &self.filtered,
            "is subject to row-level security there, which hides the statistics of the columns, too: for a role with BYPASSRLS, or the owner of a table without FORCE ROW LEVEL SECURITY, it is not in force",
        );
        let mut findings = Vec::new();
        for (n, (tables, why)) in [unread, filtered].into_iter().enumerate() {
            let tables: Vec<&RelationName> = tables.iter().copied().collect();
            let Some(first) = tables.first() else {
                continue;
            };
            let names = |tables: &[&RelationName]| {
                let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
                names.join(", ")
            };
            let otherwise = if n == 0 { "" } else { otherwise };
            let suggestion = if n == 0 {
                let usage = rights.usage(&tables, &role);
                let some = &tables[..tables.len().min(MOST_GRANTED)];
                format!("{usage}GRANT SELECT ON {} TO {role}", names(some))
            } else {
                format!("ALTER ROLE {role} BYPASSRLS")
            };
            findings.push(Finding {
                code: "privilege.missing".to_owned(),
                severity: Severity::Warning,
                object: first.to_string(),
                message: format!(
                    "{what} {} is not known: {role} {why}{otherwise}",
                    names(&tables)
                ),
                suggestion: Some(suggestion),
            });
        }
        findings
    }
}
