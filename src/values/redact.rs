//! Secrets are masked in texts of whoever wrote them: rather too much than too little.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What is shown in place of a secret.
pub(super) const MASK: &str = "***";

/// What a secret is called.
const SECRETS: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "apikey",
    "accesskey",
];

/// The same as words in front of `=`.
const IN_TWO_WORDS: [&str; 2] = ["access_key", "api_key"];

/// What else options and headers are called that hold a secret.
const OF_HEADERS: [&str; 2] = ["credential", "authorization"];

/// The text with every password in it replaced by `***`.
///
/// Covers `scheme://user:password@host`, `password=…` in connection strings and in the query of
/// a URL, `password: …`, SQL's `PASSWORD '…'`, and what HTTP and SMTP log in with (`Basic dTpwdw==`). A password that
/// contains `/` or `@` unescaped is masked whole, at the price of some of what follows.
pub fn redact(text: &str) -> String {
    redact_headers(&redact_assignments(&redact_userinfo(&redact_urls(text))))
}

/// The same of what a program says, which may repeat how it was called, or what it asked a server: also
/// `--password x`, `-u user:x`, `X-Token: x`, `{"token": "x"}`.
pub fn redact_output(text: &str) -> String {
    let shown = masked(text, next_named, |value| {
        let schemes = ["bearer ", "basic ", "token ", "digest "];
        let begins = |scheme: &&&str| {
            let begin = value.get(..scheme.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        };
        schemes.iter().find(begins).map_or(0, |scheme| scheme.len())
    });
    redact(&shown)
}

/// Where the value begins that the next name of a secret is given.
fn next_named(text: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut at = 0;
    while let Some(start) = text[at..].find(is_part).map(|n| at + n) {
        let end = text[start..]
            .find(|c| !is_part(c))
            .map_or(text.len(), |n| start + n);
        at = end;
        let name = text[start..end].to_ascii_lowercase();
        let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let behind = text[end..].trim_start_matches(['"', '\'']);
        let user = matches!(name.as_str(), "-u" | "--user") && behind.starts_with([' ', '=']);
        if user {
            let value = behind.trim_start_matches([' ', '=']);
            let word = &value[..value.find(char::is_whitespace).unwrap_or(value.len())];
            if let Some(colon) = word.find(':') {
                return Some(text.len() - value.len() + colon + 1);
            }
        }
        // `--no-password`, and `--token-file`: not what it is, but where.
        let is_none =
            name.starts_with("--no-") || plain.ends_with("file") || plain.ends_with("path");
        let mut names = SECRETS.iter().chain(&OF_HEADERS);
        if is_none || (plain != "pass" && !names.any(|word| plain.contains(word))) {
            continue;
        }
        let sign = behind.trim_start_matches(' ');
        let value = match sign.strip_prefix([':', '=']) {
            Some(value) => value,
            None if name.starts_with("--")
                && sign.len() < behind.len()
                && !sign.starts_with('-') =>
            {
                sign
            }
            None => continue,
        };
        return Some(text.len() - value.trim_start_matches(' ').len());
    }
    None
}

/// What HTTP and SMTP write credentials as, behind the word for how they are written.
fn redact_headers(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/-_.~=\\".contains(c);
    // ASCII only, so that places stay the same.
    while let Some((word, at)) = next_scheme(&rest.to_ascii_lowercase()) {
        let (before, behind) = rest.split_at(at);
        shown.push_str(before);
        let length = behind.find(|c| !is_part(c)).unwrap_or(behind.len());
        let (value, behind) = behind.split_at(length);
        shown.push_str(if is_credential(word, value) {
            MASK
        } else {
            value
        });
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// The next word behind which credentials may stand, and where they would begin.
fn next_scheme(lower: &str) -> Option<(&'static str, usize)> {
    let words = ["basic ", "bearer ", "auth plain ", "auth xoauth2 "];
    let found = words
        .iter()
        .filter_map(|word| Some((*word, lower.find(word)? + word.len())));
    found.min_by_key(|(_, at)| *at)
}

/// Whether a word is what it would be behind another: "basic knowledge" is no secret.
fn is_credential(scheme: &str, value: &str) -> bool {
    if scheme == "bearer " {
        return value.len() >= 16 && value.contains(|c: char| c.is_ascii_digit());
    }
    let value = value.replace('\\', "");
    let pair = STANDARD_NO_PAD.decode(value.trim_end_matches('='));
    pair.is_ok_and(|pair| pair.iter().any(|byte| matches!(byte, b':' | 0 | 1)))
}

/// `user:password@host` in a URL that is none: a colon or a slash forgotten.
fn redact_userinfo(text: &str) -> String {
    let between =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | ',' | '(' | ')');
    let mut shown = String::with_capacity(text.len());
    for token in text.split_inclusive(between) {
        // Behind the scheme, where there is one: `postgres:/u:p@h`.
        let at = token.rfind('@');
        let colon = at.and_then(|at| {
            let user = token[..at].rfind('/').map_or(0, |slash| slash + 1);
            let scheme = ["postgres:", "postgresql:", "mongodb:", "smtp:", "mailto:"];
            let behind = scheme.iter().find(|s| token[user..].starts_with(**s));
            let user = user + behind.map_or(0, |scheme| scheme.len());
            token[user..at].find(':').map(|colon| user + colon)
        });
        match (colon, at) {
            (Some(colon), Some(at)) if colon + 1 < at => {
                shown.push_str(&token[..=colon]);
                shown.push_str(MASK);
                shown.push_str(&token[at..]);
            }
            _ => shown.push_str(token),
        }
    }
    shown
}

fn redact_urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'))
            .unwrap_or(after.len());
        let url = &after[..end];
        match (url.find(':'), url.rfind('@')) {
            (Some(colon), Some(at)) if colon + 1 < at => {
                shown.push_str(&url[..=colon]);
                shown.push_str(MASK);
                shown.push_str(&url[at..]);
            }
            _ => shown.push_str(url),
        }
        rest = &after[end..];
    }
    shown.push_str(rest);
    shown
}

fn redact_assignments(text: &str) -> String {
    masked(text, next_secret_value, |_| 0)
}

/// The text with every value masked that begins where `next` finds one, the word before it that says how it is
/// written, such as `Basic`, with it.
fn masked(
    text: &str,
    next: impl Fn(&str) -> Option<usize>,
    scheme: impl Fn(&str) -> usize,
) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = next(rest) {
        let (before, value) = rest.split_at(at);
        shown.push_str(before);
        let scheme = scheme(value);
        let length = scheme + value_length(&value[scheme..]);
        if length > scheme {
            shown.push_str(MASK);
        }
        rest = &value[length..];
    }
    shown.push_str(rest);
    shown
}

/// Where the value behind the next secret word begins.
fn next_secret_value(text: &str) -> Option<usize> {
    // ASCII only, so that places stay the same.
    let lower = text.to_ascii_lowercase();
    SECRETS
        .iter()
        .chain(&IN_TWO_WORDS)
        .flat_map(|word| {
            let lower = lower.as_str();
            lower.match_indices(word).filter_map(move |(at, _)| {
                let behind = &lower[at + word.len()..];
                // As SQL sets it: `ALTER ROLE … PASSWORD '…'`, or a constant with a prefix.
                let said = behind.trim_start();
                let constant = ["'", "e'", "u&'", "$"]
                    .iter()
                    .any(|begin| said.starts_with(begin));
                if *word == "password" && said.len() < behind.len() && constant {
                    return Some(text.len() - said.len());
                }
                let sign = behind.trim_start_matches(['"', '\'', ' ']);
                let colon_counts = !matches!(*word, "token" | "secret");
                let signed = sign.starts_with('=') || (colon_counts && sign.starts_with(':'));
                let value = sign.get(1..)?.trim_start_matches(' ');
                signed.then_some(text.len() - value.len())
            })
        })
        .min()
}

/// How long the value at the start of a text is; quoted values may hold blanks and `\'`.
fn value_length(text: &str) -> usize {
    let prefix = ["e'", "E'", "u&'", "U&'"];
    let prefix = prefix.iter().find(|begin| text.starts_with(**begin));
    let prefix = prefix.map_or(0, |begin| begin.len() - 1);
    let text = &text[prefix..];
    prefix + quoted_length(text)
}

fn quoted_length(text: &str) -> usize {
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, quote @ ('\'' | '"'))) => {
            let mut escaped = false;
            for (at, c) in chars {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    _ if c == quote => return at + 1,
                    _ => {}
                }
            }
            text.len()
        }
        _ => text
            .find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',' | '"' | '\'' | '`'))
            .unwrap_or(text.len()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_programs_say_has_no_secret() {
        for (said, shown) in [
            ("Authorization: Bearer hunter2; x", "Authorization: ***; x"),
            ("X-Vault-Token: hunter2", "X-Vault-Token: ***"),
            (r#"{"token":"hunter2","n":1}"#, r#"{"token":***,"n":1}"#),
            (
                "./list --password hunter2 --all",
                "./list --password *** --all",
            ),
            ("--api-key=hunter2 x", "--api-key=*** x"),
            (
                "curl -u admin:hunter2 https://h",
                "curl -u admin:*** https://h",
            ),
            ("pass=hunter2", "pass=***"),
            ("password=a; token=b", "password=***; token=***"),
            ("postgres://u:pw@h/d", "postgres://u:***@h/d"),
            (
                "password authentication failed for user u",
                "password authentication failed for user u",
            ),
            ("no such token", "no such token"),
            (
                "psql --no-password --token-file /run/x --password -c y",
                "psql --no-password --token-file /run/x --password -c y",
            ),
            ("tokens-file --token", "tokens-file --token"),
            ("compass: north", "compass: north"),
        ] {
            assert_eq!(redact_output(said), shown);
        }
    }

    #[test]
    fn masks_passwords_only() {
        for (text, shown) in [
            ("postgres://u:pw@h/db", "postgres://u:***@h/db"),
            ("postgres://u@h:5432/db", "postgres://u@h:5432/db"),
            (
                "at postgres://u:p@ss/w@h/db, and more",
                "at postgres://u:***@h/db, and more",
            ),
            ("mongodb://u:p@a,b/db?x=1", "mongodb://u:***@a,b/db?x=1"),
            ("host=h password=pw user=u", "host=h password=*** user=u"),
            ("password = 'p w\\'x' user=u", "password = *** user=u"),
            (
                "postgres://h/db?password=pw&x=1",
                "postgres://h/db?password=***&x=1",
            ),
            ("PGPASSWORD=pw", "PGPASSWORD=***"),
            ("  password: pw", "  password: ***"),
            ("https://x/?token=abc", "https://x/?token=***"),
            (
                "password authentication failed",
                "password authentication failed",
            ),
            ("syntax error at token: x", "syntax error at token: x"),
            ("a://u:p@h b://u:p@h", "a://u:***@h b://u:***@h"),
            ("password=", "password="),
            (
                "s3://b/p?secret_access_key=k3y&x=1 api_key: k3y",
                "s3://b/p?secret_access_key=***&x=1 api_key: ***",
            ),
            ("access_key_id=AKIA", "access_key_id=AKIA"),
            (
                "ALTER ROLE x PASSWORD 'S3c ret' LOGIN; alter role y password E'a\\'b'; PASSWORD  $$x$$",
                "ALTER ROLE x PASSWORD *** LOGIN; alter role y password ***; PASSWORD  ***",
            ),
            ("ALTER ROLE x PASSWORD NULL", "ALTER ROLE x PASSWORD NULL"),
            ("postgres//u:pw@h/d?a=b", "postgres//u:***@h/d?a=b"),
            ("is `postgres:/u:pw@h/d`", "is `postgres:/u:***@h/d`"),
            ("postgres:u:pw@h", "postgres:u:***@h"),
            ("u:pw@h:5432/d", "u:***@h:5432/d"),
            ("u@h:5432/d", "u@h:5432/d"),
            (
                "Authorization: Basic dTpwdw==!",
                "Authorization: Basic ***!",
            ),
            ("{\"a\":\"Basic dT9+Oj8\\/fg==\"}", "{\"a\":\"Basic ***\"}"),
            (
                "no command: AUTH PLAIN AHUAcHc=",
                "no command: AUTH PLAIN ***",
            ),
            ("bearer eyJhbGciOiJI.eyJ1-_zEy.x", "bearer ***"),
            (
                "basic knowledge, Basic auth, bearer token",
                "basic knowledge, Basic auth, bearer token",
            ),
            (
                "tasks/a.yaml:3:1: mailto:dba@example.com",
                "tasks/a.yaml:3:1: mailto:dba@example.com",
            ),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    proptest! {
        #[test]
        fn a_password_in_a_url_never_remains(password in "[a-zA-Z0-9@:/?#!$%^*()_+=-]{4,30}") {
            let marked = format!("q9z{password}z9q");
            let shown = redact(&format!("postgres://user:{marked}@host/db"));
            prop_assert!(!shown.contains("q9z") && !shown.contains("z9q"), "{}", shown);
        }

        #[test]
        fn any_text_survives(text in "\\PC*") {
            let once = redact(&text);
            prop_assert_eq!(redact(&once).len(), once.len());
        }
    }
}
