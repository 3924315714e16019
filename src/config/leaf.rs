//! The leaves of the walk: words, numbers, texts and secrets.

use serde_json::{Map, Number, Value};

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::formats;
use super::node::{Content, Meaning, Node, Scalar, Span, meaning};
use super::walk::{Walk, is_place};
use crate::values::{closest, read_regular};

impl Walk<'_> {
    pub(super) fn word(&mut self, node: &Node, words: &[&str], path: &str) -> Option<Value> {
        let Some(scalar) = node.scalar().filter(|_| !node.is_nothing()) else {
            return self.wrong_type(node, "string", path);
        };
        if words.contains(&scalar.text.as_str()) {
            return Some(Value::String(scalar.text.clone()));
        }
        let message = format!("`{}` is not a value for `{path}`", scalar.shown());
        let mut problem = self
            .file
            .problem(node.span, message)
            .known(words.iter().copied());
        let guess = closest(&scalar.text, words.iter().copied());
        if let Some(meant) = guess.filter(|_| scalar.written.is_none()) {
            problem = problem.hint(format!("did you mean `{meant}`?"));
        }
        self.file.report(problem);
        None
    }

    pub(super) fn scalar(
        &mut self,
        span: Span,
        scalar: &Scalar,
        type_name: &str,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Option<Value> {
        let node = || Node {
            span,
            content: Content::Scalar(scalar.clone()),
        };
        // A variable is always text; it may stand for whatever is wanted here.
        let found = match (&scalar.written, type_name) {
            (Some(_), "string") => Meaning::Text,
            (Some(_), _) => meaning(&scalar.text),
            (None, _) => scalar.meaning(),
        };
        let number = match (type_name, found) {
            ("string", found) => return self.text(span, scalar, &found, fields, path),
            ("boolean", Meaning::Bool(value)) => return Some(Value::Bool(value)),
            ("integer" | "number", Meaning::Integer(value)) => Number::from(value),
            ("number", Meaning::Number(value)) => Number::from_f64(value)?,
            _ => return self.wrong_type(&node(), type_name, path),
        };
        let unsigned32 = fields.get("format").and_then(Value::as_str) == Some("uint32");
        let least = fields.get("minimum").and_then(Value::as_f64);
        let most = fields.get("maximum").and_then(Value::as_f64);
        let most = most.or(unsigned32.then_some(f64::from(u32::MAX)));
        let value = number.as_f64()?;
        if let Some(least) = least.filter(|least| value < *least) {
            self.report(span, format!("`{path}` must be at least {least}"));
            return None;
        }
        if let Some(most) = most.filter(|most| value > *most) {
            self.report(span, format!("`{path}` must be at most {most}"));
            return None;
        }
        Some(Value::Number(number))
    }

    fn text(
        &mut self,
        span: Span,
        scalar: &Scalar,
        found: &Meaning,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Option<Value> {
        let name = fields
            .get("format")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let format = formats::find(name);
        if name == formats::SECRET {
            return self.secret(span, scalar, path);
        }
        let Some(format) = format else {
            if *found != Meaning::Text {
                let node = Node {
                    span,
                    content: Content::Scalar(scalar.clone()),
                };
                return self.wrong_type(&node, "string", path);
            }
            if !is_place(scalar) {
                self.file.filled.join(&scalar.filled);
            }
            return Some(Value::String(scalar.text.clone()));
        };
        if let Err(why) = (format.check)(&scalar.text) {
            let problem = match &scalar.written {
                None => self.file.invalid(span, why),
                // The complaint would quote what the variable holds.
                Some(written) => self.file.problem(
                    span,
                    format!(
                        "`{path}` is `{written}`, which does not hold {}",
                        format.noun
                    ),
                ),
            };
            self.file.report(problem);
            return None;
        }
        if let (formats::TARGET, Some((names, engine))) = (name, self.targets) {
            let content = Content::Scalar(scalar.clone());
            names.check_target(&Node { span, content }, engine, self.file)?;
        }
        Some(Value::String(scalar.text.clone()))
    }

    /// A secret, from its file where it names one.
    fn secret(&mut self, span: Span, scalar: &Scalar, path: &str) -> Option<Value> {
        // `${NAME}` may be seen, and helps; a default that is written beside it may not.
        let harmless = scalar.written.as_deref().is_some_and(|w| {
            w.starts_with("${") && w.find('}') == Some(w.len() - 1) && !w.contains(":-")
        }) || scalar
            .written
            .as_deref()
            .is_some_and(|w| w.ends_with(":-}"));
        // A target whose `url` is empty is one that is not configured, and told so.
        let told = ["replicas", "webhook", "ping"];
        let untold = path.split(['.', '[']).any(|part| told.contains(&part));
        if scalar.text.is_empty() && scalar.written.is_none() && untold {
            let message = format!("`{path}` is empty, and would silently count for nothing");
            let hint = "leave it out, or write `\"${VARIABLE:-}\"` where a variable may be empty";
            self.report_with(span, message, Some(hint.to_owned()));
            return None;
        }
        let Some(file) = scalar.text.strip_prefix("file:") else {
            if !harmless {
                self.file.hide(span);
            }
            return Some(Value::String(scalar.text.clone()));
        };
        let file = file.strip_prefix("//").unwrap_or(file);
        match secret_file(&self.folder.join(file)) {
            Ok(text) if text.is_empty() => {
                let message = format!("the secret `{}` is empty", scalar.shown());
                self.report_with(span, message, None);
                None
            }
            Ok(text) => Some(Value::String(text)),
            Err((why, hint)) => {
                let message = format!("the secret `{}` {why}", scalar.shown());
                self.report_with(span, message, hint.map(str::to_owned));
                None
            }
        }
    }
}

/// The largest secret, in bytes: certificates and tokens are smaller.
const LARGEST_SECRET: u64 = 64 << 10;

/// The text of a file that holds a secret, which nobody else may read: the rule of `.pgpass`, and of
/// libpq for keys that belong to root, which a group may read. The error is the end of a sentence,
/// and what to do.
fn secret_file(path: &Path) -> Result<String, (String, Option<&'static str>)> {
    let bytes = read_regular(path, LARGEST_SECRET).map_err(|why| (why, None))?;
    if let Ok(found) = std::fs::metadata(path) {
        let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
        if found.mode() & forbidden != 0 {
            return Err((
                format!(
                    "can be read by others: its mode is {:04o}",
                    found.mode() & 0o7777
                ),
                Some(
                    "set its permissions to 0600; for a mounted Secret `defaultMode: 0440` and `fsGroup`",
                ),
            ));
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| ("is not UTF-8 text".to_owned(), None))?;
    // Editors and shells leave these around it; nothing that is secret begins or ends so.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.contains('\n') && !text.starts_with("-----BEGIN") {
        return Err((
            format!("has {} lines, and is one value", text.lines().count()),
            Some("leave only the secret in it, on one line"),
        ));
    }
    Ok(text.to_owned())
}
