//! Names to choose and names to leave out, whatever they are names of.

use wildmatch::WildMatch;

use super::text::Invalid;

/// `tenant_*`, or `!tenant_test` for what is left out: `*` stands for any characters, `?` for one;
/// everything else is itself, upper and lower case told apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    /// As it was written.
    pub(super) text: String,
    pub(super) excludes: bool,
    name: WildMatch,
}

impl Choice {
    /// Reads one; `expected` says of what it chooses some, with examples.
    pub(super) fn read(text: &str, expected: &str) -> Result<Choice, Invalid> {
        let text = text.trim();
        let (excludes, name) = match text.strip_prefix('!') {
            Some(name) => (true, name.trim()),
            None => (false, text),
        };
        if name.is_empty() {
            return Err(Invalid::new(format!(
                "`{text}` names nothing; expected a name of {expected}"
            )));
        }
        Ok(Choice {
            text: text.to_owned(),
            excludes,
            name: WildMatch::new(name),
        })
    }

    /// Whether it names this one, be it to leave it out.
    pub(super) fn meets(&self, name: &str) -> bool {
        self.name.matches(name)
    }

    /// Whether the name is among those that all of them together mean: one names it, and none
    /// leaves it out, in whatever order they stand.
    pub(super) fn of_all<'a>(all: impl Iterator<Item = &'a Choice>, name: &str) -> bool {
        let mut hits = all.filter(|one| one.meets(name)).peekable();
        hits.peek().is_some() && hits.all(|one| !one.excludes)
    }
}
