//! Which place the line of the configuration names: a file, the memory, or a database.

use std::path::PathBuf;

use super::HistoryError;
use crate::values::Secret;

/// Where a history lives, read from the `history:` line of the configuration.
#[derive(Debug)]
pub(super) enum Location {
    SqliteMemory,
    SqliteFile(PathBuf),
    /// A URL, as the rules of targets read it.
    Postgres(Secret),
}

impl Location {
    pub(super) fn parse(location: &str) -> Result<Location, HistoryError> {
        let (scheme, rest) = location.split_once(':').unwrap_or((location, ""));
        match scheme {
            "sqlite" if rest == ":memory:" => Ok(Location::SqliteMemory),
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(HistoryError::BadLocation {
                        scheme: scheme.to_owned(),
                    });
                }
                // Absolute from here on: neither a later change of folder nor a
                // name that SQLite would read as a `file:` URI can redirect it.
                std::path::absolute(path)
                    .map(Location::SqliteFile)
                    .map_err(|source| HistoryError::CannotOpen {
                        path: path.into(),
                        source: source.into(),
                    })
            }
            "postgres" | "postgresql" => Ok(Location::Postgres(Secret::new(location))),
            // Only a word before a colon is repeated: the rest may hold a password.
            _ => Err(HistoryError::BadLocation {
                scheme: if location.contains(':') {
                    scheme.to_owned()
                } else {
                    String::new()
                },
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn sqlite_locations_name_a_file_or_memory() {
        let here = std::env::current_dir().unwrap();
        for (text, expected) in [
            ("sqlite::memory:", Location::SqliteMemory),
            (
                "sqlite:maint.db",
                Location::SqliteFile(here.join("maint.db")),
            ),
            (
                "sqlite://maint.db",
                Location::SqliteFile(here.join("maint.db")),
            ),
            (
                "sqlite:var/maint.db",
                Location::SqliteFile(here.join("var/maint.db")),
            ),
            (
                "sqlite:/var/maint.db",
                Location::SqliteFile("/var/maint.db".into()),
            ),
            (
                "sqlite:///var/maint.db",
                Location::SqliteFile("/var/maint.db".into()),
            ),
            (
                "sqlite:file:odd?name.db",
                Location::SqliteFile(here.join("file:odd?name.db")),
            ),
        ] {
            let parsed = Location::parse(text).unwrap();
            assert_eq!(format!("{parsed:?}"), format!("{expected:?}"), "{text}");
        }
    }

    #[test]
    fn a_refused_location_never_repeats_its_password() {
        for text in ["mysql://u:s3cret@db/maint", "s3cret", "sqlite:", ""] {
            let error = Location::parse(text).unwrap_err();
            let said = format!("{error} {error:?} {:?}", error.hint());
            assert!(!said.contains("s3cret"), "{said}");
        }
        let said = format!(
            "{:?}",
            Location::parse("postgres://u:s3cret@db/maint").unwrap()
        );
        assert!(!said.contains("s3cret"), "{said}");
    }
}
