//! Secrets that are written out in a file, where a variable or another file should be named.

use super::files::File;
use super::node::Node;
use super::yaml;
use crate::values::{redact, redact_output};

/// The keys of a configuration file whose values give a secret away: passwords in URLs, and
/// addresses that are secrets as a whole. Values and defaults of variables count, variables
/// themselves and `file:` do not. A file that cannot be taken apart has none: it is refused
/// elsewhere. Comments are read by whoever reads the file, too.
pub fn written_secrets(text: &str) -> Vec<String> {
    let mut file = File::new("", text);
    let mut found = Vec::new();
    if let Some(root) = yaml::parse(&mut file) {
        root.each_text("", &mut |path, text, _| {
            let literal = without_variables(text);
            let address = ["webhook", "webhook.url", "ping", "ping.url"]
                .iter()
                .any(|key| path == *key || path.ends_with(&format!(".{key}")));
            let told = literal.contains("://") && address;
            if !literal.starts_with("file:") && (told || redact(&literal) != literal) {
                found.push(path.to_owned());
            }
        });
        arguments(&root, "", &mut found);
    }
    let comments = text.lines().zip(1..).filter_map(|(line, number)| {
        let comment = without_variables(&line[line.find('#')?..]);
        (redact(&comment) != comment).then(|| format!("the comment in line {number}"))
    });
    found.extend(comments);
    found
}

/// Finds secrets among the arguments of programs: `--token`, and what stands behind it.
fn arguments(node: &Node, path: &str, found: &mut Vec<String>) {
    for entry in node.entries() {
        let below = match path {
            "" => entry.key.clone(),
            path => format!("{path}.{}", entry.key),
        };
        arguments(&entry.value, &below, found);
    }
    let items = node.items();
    items.iter().for_each(|item| arguments(item, path, found));
    let is_program = ["run", "command"]
        .iter()
        .any(|key| path.rsplit('.').next() == Some(key));
    if !is_program {
        return;
    }
    let words: Vec<String> = items
        .iter()
        .map(|item| {
            item.scalar()
                .map_or_else(String::new, |one| without_variables(&one.text))
        })
        .collect();
    // Alone, or with what is its value: one that is a variable is none.
    let tells = |words: &[String]| {
        let last = words.last().is_some_and(|word| !word.is_empty());
        let said = words.join(" ");
        last && redact_output(&said) != said
    };
    let told = words.chunks(1).chain(words.windows(2)).any(tells);
    if told && !found.iter().any(|key| key == path) {
        found.push(path.to_owned());
    }
}

/// What is left where every variable is empty: the words around them, and their defaults.
pub(super) fn without_variables(text: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        left.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside.find('}').unwrap_or(inside.len());
        if let Some((_, default)) = inside[..end].split_once(":-") {
            left.push_str(default);
        }
        rest = inside.get(end + 1..).unwrap_or_default();
    }
    left.push_str(rest);
    left
}

#[cfg(test)]
mod tests {
    use super::written_secrets;

    #[test]
    fn what_gives_a_secret_away_is_found_by_its_key() {
        for (text, key) in [
            ("a: { url: \"postgres://u:pw@h/d\" }", Some("a.url")),
            ("a: { url: \"${X:-postgres://u:pw@h/d}\" }", Some("a.url")),
            ("a: [\"${X:-}\", \"host=h password=pw\"]", Some("a")),
            (
                "c: { before: { run: [/bin/x, --token, s3cr3t] } }",
                Some("c.before.run"),
            ),
            (
                "c: { before: { run: [/bin/x, --token=s3cr3t] } }",
                Some("c.before.run"),
            ),
            ("c: { run: [curl, -H, \"X-Token: s3cr3t\"] }", Some("c.run")),
            ("c: { run: [/bin/x, --token, \"${T}\", --all, x] }", None),
            (
                "c: { run: [/bin/x, --token-file, /run/x, --no-password, -w, x] }",
                None,
            ),
            ("a: { url: \"postgres//u:pw@h/d\" }", Some("a.url")),
            (
                "notify: { webhook: { url: \"https://h/T0/B0\" } }",
                Some("notify.webhook.url"),
            ),
            (
                "notify: { webhook: \"https://h/T0/B0\" }",
                Some("notify.webhook"),
            ),
            (
                "s: { ping: { url: \"${P:-https://hc/uuid}\" } }",
                Some("s.ping.url"),
            ),
            (
                "smtp: { url: \"smtp://${USER}:geheim@h\" }",
                Some("smtp.url"),
            ),
            ("a: { url: \"${X}\" }", None),
            ("a: { url: \"postgres://u@h/d\" }", None),
            ("a: { url: \"postgres://u:${PW}@h/d\" }", None),
            ("history: \"${H:-sqlite:/var/lib/maint/maint.db}\"", None),
            ("webhook: { url: \"${HOOK}\" }", None),
            ("webhook: { url: \"file:/run/secrets/hook\" }", None),
            (
                "a: 1\n# url: postgres://u:pw@h/d",
                Some("the comment in line 2"),
            ),
            ("a: 1 # was password=pw", Some("the comment in line 1")),
            ("# url: postgres://u:${PW}@h/d, or $PGPASSWORD\na: 1", None),
            (
                "statements: [{ name: n, sql: \"ALTER ROLE x PASSWORD 's3cr3t'\" }]",
                Some("statements.sql"),
            ),
        ] {
            let found = written_secrets(text);
            assert_eq!(found.first().map(String::as_str), key, "{text}");
        }
    }
}
