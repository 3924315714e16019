//! Options of command lines, with their values.

use super::super::work::Work;
use super::{Place, UNKNOWN};

/// An option as it is written.
fn dashed(name: &str) -> String {
    match name.chars().count() {
        1 => format!("-{name}"),
        _ => format!("--{name}"),
    }
}

/// Options with their values in order, and what is no option.
pub(super) struct Options {
    given: Vec<(String, String)>,
    pub(super) rest: Vec<String>,
}

impl Options {
    /// `valued`: letters of options that take a value; `long`: their long names, and the letter
    /// that each stands for.
    pub(super) fn read(arguments: &[String], valued: &str, long: &[(&str, char)]) -> Options {
        let mut options = Options {
            given: Vec::new(),
            rest: Vec::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if let Some(name) = word.strip_prefix("--") {
                let (name, value) = name
                    .split_once('=')
                    .map_or((name, None), |(name, value)| (name, Some(value.to_owned())));
                let known = long.iter().find(|(known, _)| *known == name);
                let lettered = known.filter(|(_, letter)| *letter != BY_NAME);
                let key =
                    lettered.map_or_else(|| name.to_owned(), |(_, letter)| letter.to_string());
                let takes =
                    known.is_some_and(|(_, letter)| *letter == BY_NAME || valued.contains(*letter));
                let value = match (value, takes) {
                    (Some(value), _) => value,
                    (None, true) => words.next().cloned().unwrap_or_default(),
                    (None, false) => String::new(),
                };
                options.given.push((key, value));
            } else if let Some(letters) = word.strip_prefix('-').filter(|l| !l.is_empty()) {
                for (at, letter) in letters.char_indices() {
                    if !valued.contains(letter) {
                        options.given.push((letter.to_string(), String::new()));
                        continue;
                    }
                    let attached = &letters[at + letter.len_utf8()..];
                    let value = match attached {
                        "" => words.next().cloned().unwrap_or_default(),
                        attached => attached.to_owned(),
                    };
                    options.given.push((letter.to_string(), value));
                    break;
                }
            } else {
                options.rest.push(word.clone());
            }
        }
        options
    }

    pub(super) fn all(&self, key: &str) -> Vec<String> {
        let given = self.given.iter().filter(|(name, _)| name == key);
        given.map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.given.iter().any(|(name, _)| name == key)
    }

    /// Refuses an option that is not known here: its value may stand where a database does.
    /// `letters` and `flags` are those without a value.
    pub(super) fn all_known(
        &self,
        program: &str,
        letters: &str,
        long: &[(&str, char)],
        flags: &[&str],
    ) -> Result<(), String> {
        let known = |name: &str| {
            let by_letter =
                |one: char| letters.contains(one) || long.iter().any(|(_, l)| *l == one);
            let mut chars = name.chars();
            match (chars.next(), chars.next()) {
                (Some(letter), None) => letter != BY_NAME && by_letter(letter),
                _ => flags.contains(&name) || long.iter().any(|(one, _)| *one == name),
            }
        };
        match self.given.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => Err(format!("`{}` of {program} {UNKNOWN}", dashed(name))),
            None => Ok(()),
        }
    }

    /// Says of these that nothing here does what they did.
    pub(super) fn leave_out(&self, names: &[&str], works: &mut [Work]) {
        for (name, value) in self
            .given
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
        {
            let value = match value.as_str() {
                "" => String::new(),
                value => format!(" {value}"),
            };
            for work in works.iter_mut() {
                work.differs
                    .push_str(&format!(" `{}{value}` is left out.", dashed(name)));
            }
        }
    }

    pub(super) fn place(&self) -> Place {
        let last = |key: &str| self.all(key).pop();
        Place {
            host: last("h").unwrap_or_default(),
            port: last("p").unwrap_or_default(),
            database: last("d")
                .or_else(|| self.rest.first().cloned())
                .unwrap_or_default(),
        }
    }
}

/// For an option with a value that has no letter.
pub(super) const BY_NAME: char = '-';

/// What the programs of one statement say of their output, and of a password.
pub(super) const FLAGS: [(&str, char); 5] = [
    ("echo", 'e'),
    ("no-password", 'w'),
    ("password", 'W'),
    ("quiet", 'q'),
    ("verbose", 'v'),
];

pub(super) const COMMON: [(&str, char); 4] = [
    ("dbname", 'd'),
    ("host", 'h'),
    ("port", 'p'),
    ("username", 'U'),
];
