//! `pg_service.conf`: named sets of connection parameters.

use std::io;
use std::path::PathBuf;

use super::dial_error::{DialError, Origin};
use super::environment::Environment;
use super::parameters::{Setting, Settings};
use crate::values::regular;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Adds what the service `name` says to `settings`.
pub(super) fn accept(
    settings: &mut Settings,
    name: &str,
    environment: &Environment<'_>,
) -> Result<(), DialError> {
    let own = settings
        .value("servicefile")
        .map(PathBuf::from)
        .or_else(|| environment.get("PGSERVICEFILE").map(PathBuf::from))
        .or_else(|| environment.home_file(".pg_service.conf"));
    let system = environment
        .get("PGSYSCONFDIR")
        .map(|folder| PathBuf::from(folder).join("pg_service.conf"));
    let files: Vec<PathBuf> = own.into_iter().chain(system).collect();
    for file in &files {
        match regular(file, LARGEST).and_then(|()| std::fs::read_to_string(file)) {
            Ok(text) => {
                if accept_text(settings, name, file, &text)? {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(DialError::UnreadableFile {
                    file: file.clone(),
                    source,
                });
            }
        }
    }
    Err(DialError::UnknownService {
        name: name.to_owned(),
        files,
    })
}

/// Reads one file; true if it defines the service.
///
/// Only the wanted section is checked: the file is shared with other
/// programs, and their mistakes are not ours to report.
fn accept_text(
    settings: &mut Settings,
    name: &str,
    file: &std::path::Path,
    text: &str,
) -> Result<bool, DialError> {
    let wrong = |line, problem| DialError::ServiceFile {
        file: file.to_path_buf(),
        line,
        problem,
    };
    let mut found = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            // Like libpq, the first section of that name is the one.
            if found {
                return Ok(true);
            }
            found = section.strip_suffix(']') == Some(name);
            continue;
        }
        if !found {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(wrong(
                number,
                "is neither `[service]` nor `parameter=value`",
            ));
        };
        if matches!(key, "service" | "servicefile") {
            return Err(wrong(
                number,
                "names another service, which libpq does not allow",
            ));
        }
        let origin = Origin::Service {
            file: file.to_path_buf(),
            line: number,
        };
        settings.accept(
            key,
            Setting {
                value: value.to_owned(),
                origin,
                discreet: false,
            },
        )?;
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::path::Path;

    const FILE: &str = "# shared\n[other]\nnonsense without equals\n\n[app]\nhost=db.example\nport=6000\npassword=se=cret\nhost=second\n[app]\nuser=late\n";

    fn read(name: &str, text: &str) -> Result<(bool, Settings), DialError> {
        let mut settings = Settings::default();
        let found = accept_text(&mut settings, name, Path::new("/s.conf"), text)?;
        Ok((found, settings))
    }

    #[test]
    fn the_first_section_and_the_first_word_win() {
        let (found, settings) = read("app", FILE).unwrap();
        assert!(found);
        assert_eq!(settings.value("host"), Some("db.example"));
        assert_eq!(settings.value("password"), Some("se=cret"));
        assert_eq!(settings.value("user"), None);
        assert!(!read("absent", FILE).unwrap().0);
    }

    #[test]
    fn mistakes_name_file_and_line_and_quote_no_value() {
        let cases = [
            ("[a]\nhost=x\nsecret", "line 3 of /s.conf is neither"),
            ("[a]\nhots=secret", "line 2 of /s.conf sets `hots`"),
            (
                "[a]\nservice=secret",
                "line 2 of /s.conf names another service",
            ),
            (
                "[a]\nsslpassword=secret",
                "line 2 of /s.conf sets `sslpassword`, which maint does not",
            ),
        ];
        for (text, expected) in cases {
            let error = read("a", text)
                .err()
                .unwrap_or_else(|| panic!("{text} was read"));
            let shown = format!("{error} {}", error.hint());
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
