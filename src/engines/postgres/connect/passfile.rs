//! `.pgpass`: passwords by host, port, database and role.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::values::with_causes;
use secrecy::SecretString;

/// What a password file had to say.
pub(super) enum Found {
    Password(SecretString),
    /// Why there is none, as the end of a sentence about the file.
    Nothing(&'static str),
}

/// The connection a password is wanted for.
pub(super) struct Wanted<'a> {
    /// The names this host goes by; a socket directory is `localhost` too.
    pub(super) hosts: &'a [&'a str],
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) role: &'a str,
}

/// Looks for a password in `file`.
///
/// Never an error: as in libpq, a file that cannot be used is reported and
/// the server decides whether a password was needed at all.
pub(super) fn look_up(file: &Path, wanted: &Wanted<'_>) -> Found {
    match std::fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Found::Nothing("does not exist");
        }
        Err(error) => {
            tracing::warn!(file = %file.display(), error = %with_causes(&error), "password file ignored");
            return Found::Nothing("cannot be read");
        }
        Ok(metadata) if !metadata.is_file() => {
            tracing::warn!(file = %file.display(), "password file ignored: it is not a plain file");
            return Found::Nothing("is not a plain file");
        }
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            tracing::warn!(
                file = %file.display(),
                "password file ignored: others can read it; set its permissions to 0600"
            );
            return Found::Nothing("is ignored because others can read it (chmod 0600)");
        }
        Ok(_) => {}
    }
    match std::fs::read_to_string(file) {
        Ok(text) => match find(&text, wanted) {
            Some(password) => Found::Password(password.into()),
            None => Found::Nothing("has no line for this host, port, database and role"),
        },
        Err(error) => {
            tracing::warn!(file = %file.display(), error = %with_causes(&error), "password file ignored");
            Found::Nothing("cannot be read")
        }
    }
}

/// The password of the first line that matches; an empty one counts as none.
fn find(text: &str, wanted: &Wanted<'_>) -> Option<String> {
    let port = wanted.port.to_string();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(fields)
        .find(|[host, fields_port, database, role, _]| {
            wanted.hosts.iter().any(|name| matches(host, name))
                && matches(fields_port, &port)
                && matches(database, wanted.database)
                && matches(role, wanted.role)
        })
        .map(|[.., password]| password.text)
        .filter(|password| !password.is_empty())
}

struct Field {
    text: String,
    /// `\*` is a star, `*` is everything.
    wildcard: bool,
}

fn matches(field: &Field, name: &str) -> bool {
    field.wildcard || field.text == name
}

/// Splits at the colons that no backslash protects; anything after the
/// password is ignored.
fn fields(line: &str) -> Option<[Field; 5]> {
    let mut fields = Vec::with_capacity(5);
    let mut text = String::new();
    let mut escaped = false;
    let mut chars = line.chars();
    loop {
        match chars.next() {
            Some('\\') => {
                escaped = true;
                text.push(chars.next().unwrap_or('\\'));
            }
            Some(c) if c != ':' => text.push(c),
            end => {
                let wildcard = !escaped && text == "*";
                fields.push(Field {
                    text: std::mem::take(&mut text),
                    wildcard,
                });
                escaped = false;
                if end.is_none() || fields.len() == 5 {
                    return fields.try_into().ok();
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    fn wanted<'a>(hosts: &'a [&'a str]) -> Wanted<'a> {
        Wanted {
            hosts,
            port: 5432,
            database: "app",
            role: "maint",
        }
    }

    #[test]
    fn lines_match_as_in_libpq() {
        let cases = [
            ("db:5432:app:maint:right", Some("right")),
            ("*:*:*:*:right", Some("right")),
            (
                "db:5433:app:maint:wrong\ndb:5432:app:maint:right\n*:*:*:*:wrong",
                Some("right"),
            ),
            ("#db:5432:app:maint:wrong\n*:*:*:maint:right", Some("right")),
            (r"db:5432:app:maint:a\:b\\c", Some(r"a:b\c")),
            ("db:5432:app:maint:cut:off", Some("cut")),
            ("db:5432:app:maint:right\r\n", Some("right")),
            (r"\*:5432:app:maint:wrong", None),
            ("db:5432:app:other:wrong", None),
            ("db:5432:ap*:maint:wrong", None),
            ("db:5432:app:maint", None),
            ("db:5432:app:maint:", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(find(text, &wanted(&["db"])).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn escaped_colons_and_sockets() {
        let text = r"fe80\:\:1:5432:app:maint:six
/var/run/postgresql:5432:app:maint:path
localhost:5432:app:maint:local";
        assert_eq!(find(text, &wanted(&["fe80::1"])).as_deref(), Some("six"));
        assert_eq!(
            find(text, &wanted(&["/var/run/postgresql", "localhost"])).as_deref(),
            Some("path")
        );
        assert_eq!(
            find(text, &wanted(&["/tmp", "localhost"])).as_deref(),
            Some("local")
        );
    }

    #[test]
    fn a_file_others_can_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "*:*:*:*:right").unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            match look_up(file.path(), &wanted(&["db"])) {
                Found::Password(password) => {
                    assert!(usable, "{mode:o}");
                    assert_eq!(password.expose_secret(), "right");
                }
                Found::Nothing(reason) => {
                    assert!(!usable, "{mode:o}");
                    assert!(reason.contains("others can read it"));
                }
            }
        }
        assert!(matches!(
            look_up(Path::new("/nonexistent/.pgpass"), &wanted(&["db"])),
            Found::Nothing("does not exist")
        ));
    }
}
