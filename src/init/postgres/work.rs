//! Tasks that do what commands and statements did.

use crate::init::yaml::quoted;

/// A task that does what a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) kind: &'static str,
    /// What its file could be called.
    pub(super) name: String,
    /// Lines of YAML below `options:`.
    pub(super) options: Vec<String>,
    pub(super) limits: String,
    pub(super) enabled: bool,
    /// What differs from the command.
    pub(super) differs: String,
}

impl Work {
    pub(super) fn new(kind: &'static str, name: impl Into<String>, differs: &str) -> Work {
        Work {
            kind,
            name: name.into(),
            options: Vec::new(),
            limits: String::new(),
            enabled: true,
            differs: differs.to_owned(),
        }
    }

    pub(super) fn including(mut self, patterns: &[String]) -> Work {
        if !patterns.is_empty() {
            let list: Vec<String> = patterns.iter().map(|name| quoted(name)).collect();
            self.options.push(format!("include: [{}]", list.join(", ")));
        }
        self
    }
}

/// Tells those that delete that they came behind others: what has to be done first, and done well.
pub(super) fn in_order(works: &mut [Work]) {
    let kinds: Vec<&'static str> = works.iter().map(|work| work.kind).collect();
    for (n, work) in works.iter_mut().enumerate().skip(1) {
        if work.kind == "cleanup" {
            work.differs.push_str(&format!(
                " It came behind other statements ({}), and a task does not wait for another to succeed: where one of them keeps a copy of what this deletes, take `kind: archive`, which deletes nothing that it has not kept.",
                kinds[..n].join(", ")
            ));
        }
    }
}

/// A name as a pattern: without a schema, in any.
pub(super) fn pattern(schema: Option<&str>, name: &str) -> String {
    let part = |name: &str| match name.contains(['.', '"']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    };
    match schema {
        Some(schema) => format!("{}.{}", part(schema), part(name)),
        None => part(name),
    }
}
