//! What `maint check` found, as continuous integration wants to read it.

use serde_json::{Value, json};

use super::Output;
use crate::values::{Problem, shown};

/// What was found, at its place where it has one.
pub(super) struct Found {
    pub(super) level: Level,
    /// What kind of thing it is; the id of a rule in SARIF.
    pub(super) rule: &'static str,
    /// As the user would name it.
    pub(super) file: String,
    /// From 1; 0 where the file as a whole is meant.
    pub(super) line: usize,
    /// From 1, in characters; 0 where the line as a whole is meant.
    pub(super) column: usize,
    pub(super) width: usize,
    pub(super) message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
    Note,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        }
    }
}

/// A rule and what it stands for.
const RULES: [(&str, &str); 4] = [
    ("configuration", "The configuration is wrong at this place"),
    (
        "connection",
        "A target, the history or the mail server cannot be used",
    ),
    (
        "warning",
        "The configuration is right, and may not be what is meant",
    ),
    (
        "untrusted-code",
        "A task will leave tables alone because of the code of others",
    ),
];

impl From<&Problem> for Found {
    fn from(problem: &Problem) -> Found {
        let mut message = shown(&problem.message).into_owned();
        if !problem.known.is_empty() {
            message.push_str(&format!("\nknown: {}", shown(&problem.known.join(", "))));
        }
        if let Some(hint) = &problem.hint {
            message.push_str(&format!("\nhint: {}", shown(hint)));
        }
        Found {
            level: Level::Error,
            rule: "configuration",
            file: problem.file.display().to_string(),
            line: problem.line,
            column: problem.column,
            width: problem.width,
            message,
        }
    }
}

/// The whole answer, without the last line's end.
pub(super) fn written(format: Output, found: &[Found]) -> String {
    match format {
        Output::Junit => junit(found),
        Output::Sarif => sarif(found).to_string(),
        _ => github(found),
    }
}

/// [Workflow commands](https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
fn github(found: &[Found]) -> String {
    let text = |text: &str| {
        // What is said in lines stays so; nothing in a line steers the terminal that shows it.
        let lines: Vec<_> = text.split('\n').map(shown).collect();
        lines.join("\n").replace('%', "%25").replace('\n', "%0A")
    };
    let property = |value: &str| text(value).replace(':', "%3A").replace(',', "%2C");
    let line = |one: &Found| {
        let level = match one.level {
            Level::Note => "notice",
            other => other.word(),
        };
        let mut place = format!("file={}", property(&shown(&one.file)));
        if one.line > 0 {
            place.push_str(&format!(",line={}", one.line));
        }
        if one.line > 0 && one.column > 0 {
            place.push_str(&format!(",col={}", one.column));
        }
        format!(
            "::{level} {place},title=maint check::{}",
            text(&one.message)
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One case for each finding; only errors fail. Where nothing was found, one that passed.
fn junit(found: &[Found]) -> String {
    let text = |text: &str| {
        // XML has no way to write most control characters, and two others (its production `Char`).
        let kept = text.chars().filter(|c| match c {
            '\n' | '\t' => true,
            '\u{FFFE}' | '\u{FFFF}' => false,
            other => !other.is_control(),
        });
        let mut out = String::new();
        for c in kept {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\n' => out.push_str("&#10;"),
                other => out.push(other),
            }
        }
        out
    };
    let failures = found.iter().filter(|one| one.level == Level::Error).count();
    let mut cases = String::new();
    for one in found {
        let name = match one.line {
            0 => one.file.clone(),
            line => format!("{}:{line}:{}", one.file, one.column),
        };
        let first = one.message.lines().next().unwrap_or_default();
        let inside = match one.level {
            Level::Error => format!(
                "<failure message=\"{}\" type=\"{}\">{}</failure>",
                text(first),
                one.rule,
                text(&one.message)
            ),
            _ => format!("<system-out>{}</system-out>", text(&one.message)),
        };
        cases.push_str(&format!(
            "\n    <testcase classname=\"maint check\" name=\"{}\">{inside}</testcase>",
            text(&name)
        ));
    }
    if found.is_empty() {
        cases.push_str("\n    <testcase classname=\"maint check\" name=\"configuration\"/>");
    }
    let tests = found.len().max(1);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{tests}\" failures=\"{failures}\">\n  \
         <testsuite name=\"maint check\" tests=\"{tests}\" failures=\"{failures}\">{cases}\n  </testsuite>\n</testsuites>"
    )
}

/// [SARIF 2.1.0](https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html).
fn sarif(found: &[Found]) -> Value {
    let result = |one: &Found| {
        let mut place = json!({ "artifactLocation": { "uri": uri(&one.file) } });
        if one.line > 0 {
            let mut region = json!({ "startLine": one.line });
            if one.column > 0 {
                region["startColumn"] = json!(one.column);
                region["endColumn"] = json!(one.column + one.width.max(1));
            }
            place["region"] = region;
        }
        json!({
            "ruleId": one.rule, "level": one.level.word(), "message": { "text": one.message },
            "locations": [{ "physicalLocation": place }],
        })
    };
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(id, says)| json!({ "id": id, "shortDescription": { "text": says } }))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "maint", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": found.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

/// A path as a reference to it.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if path.starts_with('/') {
        return format!("file://{out}");
    }
    out
}
