//! Targets that stand for many databases of one server, and what those are called.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::types::{Config, Database, Target, Task};
use crate::plan::Scope;
use crate::values::{DatabasePattern, Engine, natural};

/// Stands between the name of a target and that of a database.
const BETWEEN: char = '/';

/// What a database is called as a target: `server/tenant_a`. Letters and digits, `_`, `-`, and a
/// dot that is not the first character, stand for themselves; every other byte is written as in
/// an address, `%20`: so that the name fits a command line, an address, and a file name behind
/// the `/`, and can be read back.
pub(super) fn target_name(server: &str, database: &str) -> String {
    let mut name = format!("{server}{BETWEEN}");
    for (n, c) in database.chars().enumerate() {
        if c.is_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && n > 0) {
            name.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The server and the database that such a name stands for; `None` for any other, also for one
/// that [`target_name`] would write in another way.
fn read_name(name: &str) -> Option<(&str, String)> {
    let (server, written) = name.split_once(BETWEEN)?;
    let mut bytes = Vec::new();
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    let database = String::from_utf8(bytes).ok().filter(|d| !d.is_empty())?;
    (target_name(server, &database) == name).then_some((server, database))
}

impl Target {
    /// Whether it stands for many databases, which are to be looked up.
    pub fn is_many(&self) -> bool {
        self.databases.is_some() && self.scope != Scope::Server
    }

    /// Whether the database is one of those that are meant.
    pub fn means(&self, database: &str) -> bool {
        let patterns = self.databases.as_deref();
        patterns.is_some_and(|patterns| DatabasePattern::choose(patterns, database))
    }

    /// One of its databases, as a target.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Target {
        Target {
            name: target_name(&self.name, database),
            databases: None,
            database: Some(Database {
                server: self.name.clone(),
                name: database.to_owned(),
            }),
            scope: Scope::Database,
            ..self.clone()
        }
    }

    /// Its server alone, as a target.
    #[must_use]
    pub fn of_server(&self) -> Target {
        Target {
            scope: Scope::Server,
            ..self.clone()
        }
    }

    /// The target that it is a database of, or itself.
    pub fn server(&self) -> &str {
        self.database.as_ref().map_or(&self.name, |one| &one.server)
    }
}

impl Config {
    /// A target by its name: one of the file, or a database of one that stands for many, whether
    /// or not there is such a database.
    pub fn target(&self, name: &str) -> Option<Cow<'_, Target>> {
        if let Some(target) = self.targets.get(name) {
            return Some(Cow::Borrowed(target));
        }
        let (server, database) = read_name(name)?;
        let server = self.targets.get(server)?;
        server
            .means(&database)
            .then(|| Cow::Owned(server.of_database(&database)))
    }

    /// What a recorded run on this target has worked on. Of a target that is not configured any more
    /// nobody knows; the first engine is taken.
    pub fn engine_of(&self, target: &str) -> Engine {
        self.target(target)
            .map_or(Engine::Postgres, |target| target.engine)
    }

    /// Whether the task is for this target: for one of the databases of a target of the task, as
    /// far as is known which there are, or for the server that has them.
    pub fn covers(&self, task: &Task, target: &str) -> bool {
        let named = |name: &str| task.targets.iter().any(|one| one == name);
        let of = |server: &str, one: &String| read_name(one).is_some_and(|(s, _)| s == server);
        let known = |server: &str| self.targets.keys().any(|one| of(server, one));
        named(target)
            || task.targets.iter().any(|one| of(target, one))
            || self.target(target).is_some_and(|found| {
                found.database.is_some() && named(found.server()) && !known(found.server())
            })
    }

    /// Whether it is a database that is not there any more, as far as is known which there are:
    /// of a configuration [with databases](Config::with_databases).
    pub fn is_gone(&self, target: &str) -> bool {
        let known = |server: &str| {
            let of = |one: &String| read_name(one).is_some_and(|(other, _)| other == server);
            self.targets.keys().any(of)
        };
        !self.targets.contains_key(target)
            && self.target(target).is_some_and(|one| known(one.server()))
    }

    /// Whether any target stands for many databases.
    pub fn has_servers(&self) -> bool {
        self.targets.values().any(|one| one.databases.is_some())
    }

    /// The same with the databases that are known, by target, in place of the targets that stand
    /// for them: for who looks at what was recorded, and asks no server. A target of which no
    /// database is known stays as it is.
    #[must_use]
    pub fn with_databases(&self, known: &BTreeMap<String, Vec<String>>) -> Config {
        let mut config = self.clone();
        let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (server, databases) in known {
            let Some(target) = self.targets.get(server).filter(|one| one.is_many()) else {
                continue;
            };
            let mut databases: Vec<&String> =
                databases.iter().filter(|one| target.means(one)).collect();
            databases.sort_by(|a, b| natural(a, b));
            let found = databases.into_iter().map(|one| target.of_database(one));
            let found: Vec<Target> = found.collect();
            if found.is_empty() {
                continue;
            }
            let all = found.iter().map(|one| one.name.clone()).collect();
            names.insert(target.name.as_str(), all);
            let named = found.into_iter().map(|one| (one.name.clone(), one));
            config.targets.extend(named);
        }
        let spread = |targets: &[String], with_server: bool| -> Vec<String> {
            let mut all = Vec::new();
            for target in targets {
                match names.get(target.as_str()) {
                    None => all.push(target.clone()),
                    Some(databases) => {
                        all.extend(with_server.then(|| target.clone()));
                        all.extend(databases.iter().cloned());
                    }
                }
            }
            // Where they were known before, they are there twice now.
            let mut seen = HashSet::new();
            all.retain(|name| seen.insert(name.clone()));
            all
        };
        for task in config.tasks.values_mut() {
            task.targets = spread(&task.targets, task.looks_at_server);
        }
        for members in config.groups.values_mut() {
            *members = spread(members, false);
        }
        let elsewhere = Arc::new(config.targets.clone());
        for task in config.tasks.values_mut() {
            task.elsewhere = Arc::clone(&elsewhere);
        }
        config
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_read_back() {
        for (database, name) in [
            ("tenant_a", "s/tenant_a"),
            ("Größe-2.x", "s/Größe-2.x"),
            ("two words", "s/two%20words"),
            ("a/b", "s/a%2Fb"),
            ("..", "s/%2E."),
            ("100%", "s/100%25"),
            ("\u{1F600}", "s/%F0%9F%98%80"),
            ("$(rm)'\"\n", "s/%24%28rm%29%27%22%0A"),
        ] {
            assert_eq!(target_name("s", database), name);
            assert_eq!(read_name(name), Some(("s", database.to_owned())));
        }
    }

    #[test]
    fn what_would_be_written_otherwise_is_no_name() {
        for name in [
            "s", "s/", "s/a b", "s/a/b", "s/%2e.", "s/%61", "s/%", "s/%FF", "s/%+1",
        ] {
            assert_eq!(read_name(name), None, "{name}");
        }
    }
}
