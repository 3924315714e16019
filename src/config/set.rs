//! `--set key=value`: one value of a task, checked like one in its file.

use std::path::Path;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::files::File;
use super::model::TaskFile;
use super::narrowed::is_narrower;
use super::node::{Content, Entry, Node, Span};
use super::options::place_of;
use super::reading::plain_words;
use super::throttle;
use super::types::Task;
use super::walk::{Walk, Wording};
use super::yaml;
use crate::plan::KindInfo;
use crate::values::{Problem, Problems};

impl Task {
    /// Changes one value: an option (`min_size`, or `options.min_size`, or one entry of an
    /// option that is a map, `parameters.days`) or a key of the file
    /// (`window`, `enabled`, `description`, `limits.jobs`, `throttle.pause_file`,
    /// `retries.max`). The value is YAML: a scalar, or a list such as `[gin, gist]`.
    ///
    /// # Errors
    ///
    /// The same problems as in a file, with `--set` in place of its name. The task is then
    /// unchanged.
    pub fn set(&mut self, key: &str, value: &str, kinds: &[KindInfo]) -> Result<(), Problems> {
        let (section, name) = match key.split_once('.') {
            Some((section @ ("limits" | "throttle" | "retries" | "options"), name)) => {
                (section, name)
            }
            Some(_) => ("options", key),
            None if matches!(key, "window" | "enabled" | "description") => ("", key),
            None => ("options", key),
        };
        if matches!(
            key,
            "kind" | "target" | "limits" | "throttle" | "retries" | "options"
        ) {
            let problem = Problem::new("--set", format!("`{key}` cannot be set"));
            return Err(match key {
                "target" => problem.hint("choose targets with --target"),
                "kind" => problem.hint("write a task file of that kind"),
                _ => problem.hint(format!("set one of its keys: `{key}.NAME=VALUE`")),
            }
            .into());
        }
        let mut setting = Setting::read(key, name, value)?;
        let wording = Wording::FILE;
        match section {
            "limits" => self.limits = setting.change(&self.limits, "limits", wording)?,
            "throttle" => {
                let changed = setting.change(&self.throttle, "throttle", wording)?;
                if let Some((key, why)) = throttle::unusable(&changed).into_iter().next() {
                    let message = format!("`throttle.{key}` {why}");
                    return Err(Problem::new("--set", message).into());
                }
                self.throttle = changed;
            }
            "retries" => self.retries = setting.change(&self.retries, "retries", wording)?,
            "options" => {
                let options = setting.options(self, kinds)?;
                let option = name.split('.').next().unwrap_or(name);
                let of = |options: &Value| {
                    options
                        .get(option)
                        .cloned()
                        .or_else(|| usual(self, option, kinds))
                };
                let (before, after) = (of(&self.options), of(&options));
                if is_narrower(option, before.as_ref(), after.as_ref()) {
                    let begins = format!("{name}=");
                    self.changed.retain(|one| !one.starts_with(&begins));
                    self.changed.push(format!("{begins}{value}"));
                }
                self.options = options;
            }
            _ => {
                let schema = SchemaGenerator::default()
                    .into_root_schema_for::<TaskFile>()
                    .to_value();
                let mut given = Map::new();
                given.insert("kind".into(), "".into());
                given.insert("target".into(), "".into());
                let typed: TaskFile = setting.build(given, &schema, "", wording)?;
                match name {
                    "window" => self.window = typed.window,
                    "enabled" => self.enabled = typed.enabled,
                    _ => self.description = typed.description,
                }
            }
        }
        Ok(())
    }
}

/// What an option is where nobody has said.
fn usual(task: &Task, option: &str, kinds: &[KindInfo]) -> Option<Value> {
    let kind = kinds
        .iter()
        .find(|kind| kind.name == task.kind && kind.engine == task.engine)?;
    let schema = (kind.options_schema)().to_value();
    schema
        .get("properties")?
        .get(option)?
        .get("default")
        .cloned()
}

/// One `key=value` as a small file of its own.
struct Setting {
    file: File,
    entry: Entry,
}

impl Setting {
    fn read(key: &str, name: &str, value: &str) -> Result<Self, Problems> {
        let mut file = File::new("--set", value);
        let node = yaml::parse(&mut file);
        let shift = key.chars().count() + 1;
        let line = format!("{key}={value}");
        let Some(mut node) = node else {
            let problems = file.into_problems().into_iter().map(|mut problem| {
                (problem.line, problem.column) = (1, problem.column + shift);
                problem.source(&line)
            });
            return Err(Problems::new(problems.collect()));
        };
        if value.trim().is_empty() {
            let problem = Problem::new("--set", format!("`{key}` has no value"));
            return Err(problem.at(1, 1, key.chars().count()).source(&line).into());
        }
        move_right(&mut node, shift);
        let mut whole = File::new("--set", line);
        whole.parsed = true;
        if file.has_problems() {
            let problems = file.into_problems().into_iter().map(|mut problem| {
                problem.column += shift;
                problem.source(&whole.text)
            });
            return Err(Problems::new(problems.collect()));
        }
        let key_span = Span {
            line: 1,
            column: shift - name.chars().count(),
            width: name.chars().count(),
            end_line: 1,
        };
        let entry = |key: &str, value| Entry {
            key: key.to_owned(),
            key_span,
            value,
        };
        let entry = match name.split_once('.') {
            None => entry(name, node),
            // One entry of an option that is a map: `parameters.days`.
            Some((option, inner)) => {
                let content = Content::Map(vec![entry(inner, node)].into());
                let span = key_span;
                entry(option, Node { span, content })
            }
        };
        Ok(Self { file: whole, entry })
    }

    /// `current` with the new value.
    fn change<T>(&mut self, current: &T, path: &str, wording: Wording<'_>) -> Result<T, Problems>
    where
        T: Serialize + DeserializeOwned + JsonSchema,
    {
        let schema = SchemaGenerator::default()
            .into_root_schema_for::<T>()
            .to_value();
        let current = serde_json::to_value(current).ok();
        let given = current
            .and_then(|value| value.as_object().cloned())
            .unwrap_or_default();
        self.build(given, &schema, path, wording)
    }

    fn options(&mut self, task: &Task, kinds: &[KindInfo]) -> Result<Value, Problems> {
        let kind = kinds
            .iter()
            .find(|kind| kind.name == task.kind && kind.engine == task.engine);
        let Some(kind) = kind else {
            return Err(Problem::new("--set", format!("unknown kind `{}`", task.kind)).into());
        };
        let schema = (kind.options_schema)().to_value();
        let whose = format!(" for kind `{}`", task.kind);
        let wording = Wording {
            noun: "option",
            whose: &whose,
            path: "options",
        };
        let given = task.options.as_object().cloned().unwrap_or_default();
        let options: Value = self.build(given, &schema, "options", wording)?;
        (kind.check_options)(&options).map_err(|unfit| {
            let given = Node {
                span: self.entry.key_span,
                content: Content::Map(vec![self.entry.clone()].into()),
            };
            let problems = unfit.0.iter().map(|misfit| {
                let place = place_of(&given, &misfit.path).unwrap_or(self.entry.key_span);
                let message = format!("options of kind `{}`: {misfit}", task.kind);
                self.file.problem(place, message).source(&self.file.text)
            });
            Problems::new(problems.collect())
        })?;
        Ok(options)
    }

    /// `given` with the new value, checked by the schema of the whole.
    fn build<T: DeserializeOwned>(
        &mut self,
        mut given: Map<String, Value>,
        schema: &Value,
        path: &str,
        wording: Wording<'_>,
    ) -> Result<T, Problems> {
        let mut schema = schema.clone();
        if let Some(fields) = schema.as_object_mut() {
            // What is required is there already; only the new value is looked at.
            fields.shift_remove("required");
        }
        let node = Node {
            span: self.entry.key_span,
            content: Content::Map(vec![self.entry.clone()].into()),
        };
        let file = &mut self.file;
        let mut walk = Walk {
            root: &schema,
            file,
            wording,
            folder: Path::new(""),
            targets: None,
        };
        let value = walk.value(&node, &schema, path);
        if let Some(Value::Object(changed)) = value.filter(|_| !self.file.has_problems()) {
            for (key, value) in changed {
                match (given.get_mut(&key), value) {
                    (Some(Value::Object(map)), Value::Object(more)) => map.extend(more),
                    (_, value) => drop(given.insert(key, value)),
                }
            }
            match serde_json::from_value(Value::Object(given)) {
                Ok(typed) => return Ok(typed),
                Err(why) => {
                    let problem = self
                        .file
                        .problem(self.entry.key_span, plain_words(&why.to_string()));
                    self.file.report(problem);
                }
            }
        }
        Err(Problems::new(
            std::mem::take(&mut self.file).into_problems(),
        ))
    }
}

fn move_right(node: &mut Node, by: usize) {
    node.span.column += by;
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| move_right(item, by)),
        Content::Map(entries) => {
            for entry in entries.iter_mut() {
                entry.key_span.column += by;
                move_right(&mut entry.value, by);
            }
        }
        Content::Scalar(_) | Content::Broken => {}
    }
}
