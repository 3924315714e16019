//! Files outside of the configuration that it names: whoever takes it elsewhere has to take them along.

use super::files::File;
use super::written::without_variables;
use super::yaml;

/// What is done with a file that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileUse {
    /// It is read.
    Read,
    /// It is written to.
    Written,
    /// It is run.
    Run,
}

/// A file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The key that names it.
    pub key: String,
    /// The file, as it is written there.
    pub file: String,
    /// What is done with it.
    pub used: FileUse,
}

/// Parameters of URLs and connection strings whose value is a file, whatever it begins with. Of
/// others whatever begins with a slash is one.
const PARAMETERS: [&str; 10] = [
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcrldir",
    "passfile",
    "servicefile",
    "tlscafile",
    "tlscertificatekeyfile",
    "ca",
];

/// The files that a file of the configuration names.
pub fn named_files(text: &str) -> Vec<NamedFile> {
    let mut file = File::new("", text);
    let mut found = Vec::new();
    if let Some(root) = yaml::parse(&mut file) {
        root.each_text("", &mut |path, text, nth| match path.ends_with(".run") {
            // Of a program and its arguments, the program.
            true if nth == Some(0) => note(path, text, FileUse::Run, &mut found),
            true if nth.is_some() => {}
            _ => of_text(path, &without_variables(text), &mut found),
        });
    }
    found
}

fn of_text(path: &str, text: &str, found: &mut Vec<NamedFile>) {
    if path == "notify.file" {
        return note(path, text, FileUse::Written, found);
    }
    if path.ends_with(".pause_file") || path == "throttle.pause_file" {
        return note(path, text, FileUse::Read, found);
    }
    if let Some(file) = text.strip_prefix("file:") {
        // As a URL it is a place for archives.
        if !file.starts_with("//") {
            note(path, file, FileUse::Read, found);
        }
        return;
    }
    let parameters = text.split(|c: char| c == '?' || c == '&' || c.is_whitespace());
    for (name, value) in parameters.filter_map(|one| one.split_once('=')) {
        let value = value
            .trim_matches('\'')
            .replace("%2F", "/")
            .replace("%2f", "/");
        let name = name.to_lowercase();
        if name == "service" && !value.is_empty() {
            let file = format!("the file with the service {value}");
            note(path, &file, FileUse::Read, found);
        } else if (PARAMETERS.contains(&name.as_str()) && value != "system")
            || (value.starts_with('/') && is_address(path))
        {
            note(path, &value, FileUse::Read, found);
        }
    }
}

/// Whether a key holds a URL or a connection string.
fn is_address(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path);
    matches!(last, "url" | "replicas" | "history")
}

fn note(key: &str, file: &str, used: FileUse, found: &mut Vec<NamedFile>) {
    if !file.is_empty() {
        found.push(NamedFile {
            key: key.to_owned(),
            file: file.to_owned(),
            used,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{FileUse, named_files};

    #[test]
    fn files_are_found_by_their_keys() {
        for (text, key, file, used) in [
            (
                "a: { url: \"file:/srv/url\" }",
                "a.url",
                "/srv/url",
                FileUse::Read,
            ),
            (
                "a: { url: \"postgres://h/d?sslmode=verify-full&sslrootcert=%2Fsrv%2Fca.pem\" }",
                "a.url",
                "/srv/ca.pem",
                FileUse::Read,
            ),
            (
                "a: { url: \"host=h sslkey=client.key\" }",
                "a.url",
                "client.key",
                FileUse::Read,
            ),
            (
                "a: { url: \"service=prod\" }",
                "a.url",
                "the file with the service prod",
                FileUse::Read,
            ),
            (
                "a: { url: \"${X:-mongodb://h/d?tlsCAFile=/srv/ca.pem}\" }",
                "a.url",
                "/srv/ca.pem",
                FileUse::Read,
            ),
            (
                "smtp: { url: \"smtps://h?ca=/srv/ca.pem\" }",
                "smtp.url",
                "/srv/ca.pem",
                FileUse::Read,
            ),
            (
                "a: { replicas: [\"host=/run/postgresql dbname=d\"] }",
                "a.replicas",
                "/run/postgresql",
                FileUse::Read,
            ),
            (
                "notify: { file: told.jsonl }",
                "notify.file",
                "told.jsonl",
                FileUse::Written,
            ),
            (
                "throttle: { pause_file: /run/pause }",
                "throttle.pause_file",
                "/run/pause",
                FileUse::Read,
            ),
            (
                "commands: { before: { run: [/usr/local/bin/x, /srv/y] } }",
                "commands.before.run",
                "/usr/local/bin/x",
                FileUse::Run,
            ),
        ] {
            let found = named_files(text);
            let found = found
                .iter()
                .map(|one| (one.key.as_str(), one.file.as_str(), one.used));
            assert_eq!(found.collect::<Vec<_>>(), [(key, file, used)], "{text}");
        }
        for text in [
            "a: { url: \"postgres://h/d?sslrootcert=system\" }",
            "destination: { files: \"file:///var/lib/maint/a\" }",
            "options: { statements: [{ sql: \"UPDATE t SET a='/b'\" }] }",
            "a: { url: \"${URL}\" }",
        ] {
            assert_eq!(named_files(text), [], "{text}");
        }
    }
}
