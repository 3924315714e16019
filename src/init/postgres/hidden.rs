//! Secrets in the commands of others, beyond those that stand in URLs and connection strings.

/// What is shown in place of a secret.
const MASK: &str = "***";

/// Parts of the names of variables whose values nobody is to see.
const NAMES: [&str; 9] = [
    "PASS", "PWD", "TOKEN", "SECRET", "KEY", "AUTH", "CRED", "COOKIE", "WEBHOOK",
];

/// Options that are followed by a secret.
const OPTIONS: [&str; 9] = [
    "--password",
    "--passphrase",
    "--token",
    "--secret",
    "--api-key",
    "--apikey",
    "--user",
    "--proxy-user",
    "--auth",
];

/// Programs to which `-p` is the password; to `psql` it is the port.
const SHORT: [&str; 4] = ["mongo", "mysql", "maria", "sshpass"];

/// A command with its secrets masked. It masks rather too much than too little.
pub(super) fn hidden(command: &str) -> String {
    let mut shown = String::with_capacity(command.len());
    let mut program = String::new();
    // What the next word is.
    let mut secret = false;
    for word in words(command) {
        let plain = word.trim_matches(['"', '\'', '(', ')']);
        if plain.is_empty() || word.trim().is_empty() {
            shown.push_str(word);
            continue;
        }
        // `password = …` keeps its sign.
        if secret && plain == "=" {
            shown.push_str(word);
            continue;
        }
        if std::mem::take(&mut secret) {
            shown.push_str(MASK);
            continue;
        }
        let lower = plain.to_ascii_lowercase();
        let short = SHORT.iter().any(|name| program.starts_with(name));
        secret = OPTIONS.contains(&lower.as_str())
            || (short && plain == "-p")
            || (program.starts_with("curl") && matches!(plain, "-u" | "-U"))
            || matches!(
                lower.as_str(),
                "password" | "bearer" | "basic" | "identified"
            );
        let file = plain.rsplit('/').next().unwrap_or_default();
        if PROGRAMS.iter().any(|name| file.starts_with(name)) {
            program = file.to_owned();
        }
        shown.push_str(&masked(word, short));
    }
    shown
}

/// Programs whose options are known here.
const PROGRAMS: [&str; 6] = ["mongo", "mysql", "maria", "sshpass", "curl", "psql"];

/// A word with what is secret in itself masked: `NAME=value`, `--token=value`, the path of a URL.
fn masked(word: &str, short: bool) -> String {
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
    {
        let upper = name.to_ascii_uppercase();
        if NAMES.iter().any(|part| upper.contains(part)) {
            return format!("{name}={MASK}");
        }
    }
    if short && word.len() > 2 && word.starts_with("-p") {
        return format!("-p{MASK}");
    }
    // Addresses of watchdogs and of chats are secrets from their path on.
    for scheme in ["https://", "http://"] {
        if let Some(at) = word.find(scheme) {
            let behind = at + scheme.len();
            let host = word[behind..].find(['/', '?']).map(|end| behind + end + 1);
            if let Some(end) = host.filter(|end| *end < word.trim_end_matches(['"', '\'']).len()) {
                return format!("{}{MASK}", &word[..end]);
            }
        }
    }
    word.to_owned()
}

/// The words of a command with the blanks between them; what is quoted is one word only where
/// nothing stands before its quote but `NAME=`.
fn words(command: &str) -> Vec<&str> {
    let (mut words, mut begin) = (Vec::new(), 0);
    let mut quote = None;
    let mut blank: Option<bool> = None;
    let mut assigned = false;
    for (at, c) in command.char_indices() {
        if let Some(open) = quote {
            if c == open {
                quote = None;
            }
            continue;
        }
        let is_blank = c.is_whitespace();
        if blank.is_some_and(|before| before != is_blank) {
            words.push(&command[begin..at]);
            begin = at;
            assigned = false;
        }
        blank = Some(is_blank);
        if matches!(c, '"' | '\'') && assigned {
            quote = Some(c);
        }
        assigned |= c == '=';
    }
    words.push(&command[begin..]);
    words
}

#[cfg(test)]
mod tests {
    use super::hidden;
    use crate::values::redact;

    #[test]
    fn no_secret_of_a_command_is_shown() {
        for (command, shown) in [
            (
                "mongodump --password s3cret --db x",
                "mongodump --password *** --db x",
            ),
            ("mongodump -p s3cret --db x", "mongodump -p *** --db x"),
            ("mysqldump -ps3cret x", "mysqldump -p*** x"),
            ("psql -p 5433 x", "psql -p 5433 x"),
            ("MYPASS=s3cret psql -f x", "MYPASS=*** psql -f x"),
            ("API_KEY='s3 cret' ./x.sh", "API_KEY=*** ./x.sh"),
            ("./x.sh --token=s3cret", "./x.sh --token=***"),
            (
                "curl -H \"Authorization: Bearer s3cret\" https://x/s3cret",
                "curl -H \"Authorization: Bearer *** https://x/***",
            ),
            ("curl -u anna:s3cret https://x", "curl -u *** https://x"),
            (
                "psql -c \"ALTER ROLE x PASSWORD 's3cret'\"",
                "psql -c \"ALTER ROLE x PASSWORD ***",
            ),
            ("psql -d shop -c VACUUM", "psql -d shop -c VACUUM"),
        ] {
            let said = hidden(&redact(command));
            assert_eq!(said, shown);
            assert!(
                !said.contains("s3cret") && !said.contains("s3 cret"),
                "{said}"
            );
        }
    }
}
