//! Reads `postgres://` URLs and `key=value` strings, as libpq does.
//!
//! Passwords that were not percent-encoded are the usual accident here.
//! Whenever the text looks like one, errors stop quoting it.

use super::dial_error::DialError;

const ENCODE: &str =
    "percent-encode @ : / ? # and % in names and passwords (@ is %40, / is %2F, % is %25)";
const FORMS: &str = "write `postgres://role:password@host:5432/database?sslmode=verify-full` \
     or `host=… dbname=… user=…`";

const DRIVER: &str =
    "leave out the name of the driver: `postgresql+asyncpg://…` is `postgresql://…` here";
const JDBC: &str = "drop the prefix `jdbc:`, and put role and password before the host: \
     `postgresql://role:password@host:5432/database`";

/// The pairs of a URL in the order of precedence, lowest first.
pub(super) struct Parsed {
    pub(super) pairs: Vec<(String, String)>,
    /// The text may hold pieces of a password in unexpected places.
    pub(super) discreet: bool,
}

/// Reads either form.
pub(super) fn parse(text: &str) -> Result<Parsed, DialError> {
    let text = text.trim();
    for scheme in ["postgres://", "postgresql://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return parse_url(rest);
        }
    }
    if let Some((scheme, _)) = text.split_once("://")
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        let hint = if scheme.starts_with("postgres") {
            DRIVER
        } else {
            FORMS
        };
        return Err(malformed(
            "does not start with `postgres://` or `postgresql://`",
            hint,
        ));
    }
    if text.starts_with("jdbc:") {
        return Err(malformed(
            "does not start with `postgres://` or `postgresql://`",
            JDBC,
        ));
    }
    if let Some((name, _)) = text.split_once('=')
        && is_name(name.trim())
    {
        return parse_keywords(text);
    }
    // Nothing of it is quoted: it may be a URL with a slip in its first characters, and then the
    // password is anywhere.
    let looks_like_a_url = text.contains('/') || text.contains('@');
    Err(match looks_like_a_url {
        true => malformed(
            "does not start with `postgres://` or `postgresql://`",
            FORMS,
        ),
        false => malformed("is neither a URL nor a list of `key=value` pairs", FORMS),
    })
}

/// Whether it may be the name of a parameter, and so be shown.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && text.len() <= 40
}

fn parse_url(rest: &str) -> Result<Parsed, DialError> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (path, query) = match tail.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (tail, None),
    };
    let (userinfo, hosts) = match authority.split_once('@') {
        Some((userinfo, hosts)) => (Some(userinfo), hosts),
        None => (None, authority),
    };
    // `postgres://role:pa@ss@host` and `postgres://role:pa/ss@host`.
    if hosts.contains('@') || path.contains('@') {
        return Err(malformed("has an `@` in its host or database", ENCODE));
    }
    // `postgres://role:pa?ss@host`: legal if `ss@host` is a parameter. A parameter that is called
    // like nothing else is no parameter.
    let discreet = query.is_some_and(|query| {
        let names = query
            .split('&')
            .map(|pair| pair.split('=').next().unwrap_or_default());
        (userinfo.is_none() && query.contains('@')) || !names.into_iter().all(is_name)
    });

    let mut pairs = Vec::new();
    if let Some(userinfo) = userinfo {
        let (role, password) = match userinfo.split_once(':') {
            Some((role, password)) => (role, Some(password)),
            None => (userinfo, None),
        };
        pairs.push(("user".to_owned(), decode(role)?));
        if let Some(password) = password {
            pairs.push(("password".to_owned(), decode(password)?));
        }
    }
    parse_hosts(hosts, &mut pairs)?;
    pairs.push((
        "dbname".to_owned(),
        decode(path.strip_prefix('/').unwrap_or(path))?,
    ));
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(malformed("has a parameter without `=`", FORMS));
        };
        let (name, value) = (decode(name)?, decode(value)?);
        // JDBC's spelling, which libpq accepts too.
        if name == "ssl" && value == "true" {
            pairs.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            pairs.push((name, value));
        }
    }
    Ok(Parsed { pairs, discreet })
}

fn parse_hosts(text: &str, pairs: &mut Vec<(String, String)>) -> Result<(), DialError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in text.split(',') {
        let (host, port) = if let Some(rest) = part.strip_prefix('[') {
            let Some((host, port)) = rest.split_once(']') else {
                return Err(malformed(
                    "opens an IPv6 address with `[` and does not close it",
                    FORMS,
                ));
            };
            match port.strip_prefix(':') {
                Some(port) => (host, port),
                None if port.is_empty() => (host, ""),
                None => return Err(malformed("has something between `]` and the port", FORMS)),
            }
        } else {
            part.split_once(':').unwrap_or((part, ""))
        };
        let host = decode(host)?;
        let port = decode(port)?;
        // The text is not quoted: it is a password if the host was forgotten.
        if !port.is_empty() && port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(malformed(
                "has a port that is not a number from 1 to 65535",
                ENCODE,
            ));
        }
        hosts.push(host);
        ports.push(port);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        pairs.push(("host".to_owned(), hosts.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".to_owned(), ports.join(",")));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, DialError> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = text
                .get(at + 1..at + 3)
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(0) => return Err(malformed("has a `%00`, which no name can hold", ENCODE)),
                Some(byte) => decoded.push(byte),
                None => {
                    return Err(malformed(
                        "has a `%` without two hexadecimal digits",
                        ENCODE,
                    ));
                }
            }
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).map_err(|_| malformed("is not UTF-8 once decoded", ENCODE))
}

fn parse_keywords(text: &str) -> Result<Parsed, DialError> {
    const QUOTE: &str =
        "put values with blanks into single quotes, and write \\' and \\\\ for ' and \\ inside";
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            // `password=my secret=x`: the name of the next one may be half of it.
            let password = pairs
                .iter()
                .position(|(name, _): &(String, String)| name == "password");
            let discreet = password.is_some_and(|at| at + 1 < pairs.len())
                || !pairs.iter().all(|(name, _)| is_name(name));
            return Ok(Parsed { pairs, discreet });
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            name.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            // The word is not quoted: it is usually the second half of a
            // password with a blank.
            let after = match pairs.last() {
                Some((name, _)) => format!("has a word without `=` after `{name}`"),
                None => "starts with a word without `=`".to_owned(),
            };
            return Err(DialError::Malformed {
                problem: after,
                hint: QUOTE,
            });
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => {
                    return Err(malformed(
                        "opens a single quote and does not close it",
                        QUOTE,
                    ));
                }
                None => break,
            }
        }
        pairs.push((name, value));
    }
}

fn malformed(problem: &str, hint: &'static str) -> DialError {
    DialError::Malformed {
        problem: problem.to_owned(),
        hint,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .map(|parsed| parsed.pairs)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn both_forms_are_read_as_libpq_reads_them() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("postgres://", &[("dbname", "")]),
            ("postgresql://h", &[("host", "h"), ("dbname", "")]),
            (
                "postgres://u:p%40ss%2Fw%C3%B6rd@h:6000/db",
                &[
                    ("user", "u"),
                    ("password", "p@ss/wörd"),
                    ("host", "h"),
                    ("port", "6000"),
                    ("dbname", "db"),
                ],
            ),
            (
                "postgres://a:1,b,[::1]:3/d",
                &[("host", "a,b,::1"), ("port", "1,,3"), ("dbname", "d")],
            ),
            (
                "postgres://%2Fvar%2Frun/d",
                &[("host", "/var/run"), ("dbname", "d")],
            ),
            (
                "postgres:///d?host=/tmp&port=7",
                &[("dbname", "d"), ("host", "/tmp"), ("port", "7")],
            ),
            (
                "postgres://h?sslmode=require",
                &[("host", "h"), ("dbname", ""), ("sslmode", "require")],
            ),
            (
                "postgres://h/d?ssl=true",
                &[("host", "h"), ("dbname", "d"), ("sslmode", "require")],
            ),
            (
                "postgres://h/d?user=a@b",
                &[("host", "h"), ("dbname", "d"), ("user", "a@b")],
            ),
            (
                "postgres://u:a:b@h/d",
                &[
                    ("user", "u"),
                    ("password", "a:b"),
                    ("host", "h"),
                    ("dbname", "d"),
                ],
            ),
            (
                " host = a  dbname='x y' user=o\\'k ",
                &[("host", "a"), ("dbname", "x y"), ("user", "o'k")],
            ),
            ("password='' host=h", &[("password", ""), ("host", "h")]),
            (r"password='a\'b\\c'", &[("password", r"a'b\c")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn broken_ones_say_what_is_wrong_and_quote_nothing() {
        let cases = [
            ("mysql://h/d", "does not start with"),
            ("justaword", "neither a URL"),
            (
                "postgres//app:secret@db/app?sslmode=require",
                "does not start with",
            ),
            ("postgres:/app:secret@db/app?a=b", "does not start with"),
            ("app:secret@db/app?sslmode=require", "does not start with"),
            (
                "jdbc:postgresql://h/d?password=secret",
                "does not start with",
            ),
            ("postgres+asyncpg://u:secret@h/d", "does not start with"),
            ("postgres://u:pa@ss@h/d", "has an `@`"),
            ("postgres://u:12/ss@h/d", "has an `@`"),
            ("postgres://u:secret/d", "a port that is not a number"),
            ("postgres://u:secret?x@h/d", "a port that is not a number"),
            ("postgres://h:0/d", "a port that is not a number"),
            (
                "postgres://u:10%secret@h/d",
                "without two hexadecimal digits",
            ),
            ("postgres://u:%ff@h/d", "not UTF-8"),
            ("postgres://u%00:x@h/d", "%00"),
            ("postgres://[::1/d", "does not close it"),
            ("postgres://h/d?sslmode", "without `=`"),
            (
                "password=my secret host=h",
                "has a word without `=` after `password`",
            ),
            ("password='my secret", "does not close it"),
        ];
        for (text, expected) in cases {
            let error = parse(text)
                .err()
                .unwrap_or_else(|| panic!("{text} was read"));
            let shown = format!("{error} {error:?} {}", error.hint());
            assert!(shown.contains(expected), "{text}: {shown}");
            assert!(!shown.contains("secret"), "{text}: {shown}");
        }
    }
}
