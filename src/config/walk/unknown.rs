//! Entries that nobody knows, and where they may belong.

use serde_json::{Map, Value};

use super::super::node::{Entry, Meaning, meaning};
use super::super::shape::{Shape, is_secret, shape};
use super::{Walk, Wording, has};
use crate::values::closest;

impl Walk<'_> {
    pub(super) fn unknown(&mut self, entry: &Entry, properties: &Map<String, Value>, path: &str) {
        let Wording {
            noun,
            whose,
            path: top,
        } = self.wording;
        let name = &entry.key;
        if self.file.is_full() {
            self.file.hide_all(&entry.value);
            self.file
                .report(self.file.problem(entry.key_span, "unknown"));
            return;
        }
        let message = if path == top {
            format!("unknown {noun} `{name}`{whose}")
        } else {
            format!("unknown key `{name}` in `{path}`")
        };
        let mut known: Vec<&str> = properties.keys().map(String::as_str).collect();
        known.sort_unstable();
        let meant = closest(name, known.iter().copied());
        // What was meant for a secret key is a secret, too; so may be what nobody can guess.
        if properties.iter().any(|(key, schema)| {
            meant.is_none_or(|meant| meant == key) && is_secret(schema, self.root)
        }) {
            self.file.hide_all(&entry.value);
        }
        let mut problem = self
            .file
            .problem(entry.key_span, message)
            .known(known.iter().copied());
        let beside = (path == "options" && OF_TASKS.contains(&name.as_str())).then(|| {
            format!("it stands beside `options:`, not in it: `{name}: …` at the left margin")
        });
        if let Some(hint) = beside
            .or_else(|| elsewhere(name, properties))
            .or_else(|| self.of_items(name, properties))
        {
            problem = problem.hint(hint);
        } else if let Some(meant) = meant {
            problem = problem.hint(format!("did you mean `{meant}`?"));
        }
        self.file.report(problem);
    }

    /// Where a key belongs that the elements of a list beside it have.
    fn of_items(&self, name: &str, properties: &Map<String, Value>) -> Option<String> {
        let list = properties.iter().find(|(_, schema)| {
            let items = match shape(schema, self.root) {
                Shape::Typed("array", fields) => fields.get("items"),
                _ => None,
            };
            items.is_some_and(|items| {
                matches!(shape(items, self.root), Shape::Typed("object", fields) if has(fields, name))
            })
        });
        let (list, _) = list?;
        Some(format!(
            "it belongs to an element of `{list}`: `{list}: [{{ {name}: … }}]`"
        ))
    }
}

/// What tasks of every kind have beside their options.
const OF_TASKS: [&str; 11] = [
    "commands",
    "description",
    "enabled",
    "kind",
    "limits",
    "options",
    "retries",
    "target",
    "throttle",
    "trust_owners",
    "window",
];

/// Where a key belongs that is well known, only not here.
fn elsewhere(name: &str, properties: &Map<String, Value>) -> Option<String> {
    let of_task = properties.contains_key("kind") && properties.contains_key("limits");
    match name {
        "cron" | "schedule" | "schedules" if of_task => Some(
            "when a task runs is said in schedules.yaml: `schedules: { nightly: { cron: \"0 2 * * *\", tasks: [this-task] } }`"
                .to_owned(),
        ),
        "lock_timeout" | "step_timeout" | "jobs" | "budget" | "lock_retries" | "grace"
        | "parallel_targets" | "max_block" | "max_transaction_age" | "max_xid_age"
            if !properties.contains_key(name) =>
        {
            Some(format!("it is one of the limits: `limits: {{ {name}: … }}`, or `--set limits.{name}=…`"))
        }
        "max_replica_lag" | "max_active_sessions" | "min_free_disk" | "pause_file" if !properties.contains_key(name) => {
            Some(format!("it belongs to the throttle: `throttle: {{ {name}: … }}`"))
        }
        "schemas" if ["table", "tables"].iter().any(|key| properties.contains_key(*key)) => Some(
            "a pattern of schemas is for rules of `cleanup`, and for kinds that find their tables themselves; here each tenant has a table, or a task, of its own, so that what is one's never meets another's"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Whether a list is a program with its arguments.
pub(super) fn is_command(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or_default();
    ["run", "command"].contains(&key)
}

/// A command line as the words of a list; what only a shell understands is left to one.
pub(super) fn words_of(line: &str) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let for_shell = |c: char| "|&;<>()$`\\\"'*?[]{}~#!\n".contains(c);
    if line.contains(for_shell) {
        return format!("sh, -c, {}", quoted(line));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+@".contains(c);
    let words = line.split_whitespace().map(|word| {
        let is_text = meaning(word) == Meaning::Text && word.len() > 1;
        match is_text && word.chars().all(plain) {
            true => word.to_owned(),
            false => quoted(word),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}
