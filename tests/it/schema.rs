//! The JSON Schemas in `docs/schema` are those of this version.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::servers::fresh_database;
use crate::support::workspace::{Workspace, maint};

#[test]
fn the_published_schemas_are_current() {
    for name in [
        "schedules",
        "task",
        "run",
        "plan",
        "history",
        "show",
        "report",
        "next",
        "check",
        "doctor",
        "status",
        "advise",
        "archive-list",
        "error",
    ] {
        let output = maint().args(["schema", name]).output().unwrap();
        assert!(output.status.success());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
        if std::env::var_os("MAINT_UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &output.stdout).unwrap();
        }
        let published = std::fs::read(&path).unwrap_or_default();
        assert!(
            published == output.stdout,
            "{} is out of date: write it anew with MAINT_UPDATE_EXPECTED=1",
            path.display()
        );
    }
}

/// What commands print is what their schemas say, judged by a validator that is not ours.
#[tokio::test]
async fn documents_are_as_their_schemas_say() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2001-01-01');
         INSERT INTO t SELECT generate_series(1, 10); CREATE TABLE u AS SELECT * FROM t",
    )
    .await;
    let workspace = Workspace::for_target(&db.url)
        .task("analyze", "kind: analyze\ntarget: app\n")
        .task(
            "old",
            "kind: cleanup\ntarget: app\noptions: { rules: [{ table: t, column: at, older_than: 1y }] }\n",
        )
        .task("broken", "kind: sql\ntarget: app\noptions: { statements: [{ name: no, sql: SELECT 1/0 }] }\n");
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let away = format!(
        "kind: archive\ntarget: app\noptions: {{ table: u, column: at, older_than: 1y, destination: {{ files: \"{files}\" }} }}\n"
    );
    workspace.file("tasks/away.yaml", &away);
    let calls: [(&str, &[&str]); 20] = [
        ("plan", &["plan", "--all"]),
        ("plan", &["plan", "old", "--full"]),
        ("plan", &["plan", "old", "--save", "plan.json"]),
        ("plan", &["plan", "--check", "plan.json"]),
        ("run", &["run", "old", "--dry-run"]),
        ("run", &["run", "--all", "--now"]),
        ("run", &["run", "--due"]),
        ("history", &["history"]),
        ("show", &["show", "last"]),
        ("show", &["show", "last", "1"]),
        ("report", &["report"]),
        ("next", &["next"]),
        ("check", &["check", "--connect"]),
        ("doctor", &["doctor"]),
        ("status", &["status"]),
        ("advise", &["advise"]),
        ("archive-list", &["archive", "list"]),
        ("archive-list", &["archive", "list", "--from", "u"]),
        ("archive-list", &["archive", "list", "--files", &files]),
        ("error", &["show", "no-such-run"]),
    ];
    let mut pairs = Vec::new();
    for (name, call) in calls {
        let schema = maint().args(["schema", name]).output().unwrap().stdout;
        let schema: Value = serde_json::from_slice(&schema).unwrap();
        assert_eq!(schema["$id"], format!("urn:maint:schema:{name}"));
        assert!(schema["title"].is_string(), "{schema:#}");
        let printed = workspace
            .run(call.iter().chain(&["--output", "json"]))
            .json();
        pairs.push((call.join(" "), schema, printed));
    }
    // A document that lacks what its schema promises is not let through.
    let mut maimed = pairs[5].clone();
    assert!(
        maimed.2["runs"][0]
            .as_object_mut()
            .unwrap()
            .remove("status")
            .is_some()
    );
    assert_eq!(misfits(&[maimed]).len(), 1);
    assert_eq!(misfits(&pairs), Vec::<String>::new());
}

/// Which documents are not as their schemas say, and why.
fn misfits(pairs: &[(String, Value, Value)]) -> Vec<String> {
    const JUDGE: &str = "import json, sys, jsonschema
for name, schema, printed in json.load(sys.stdin):
    jsonschema.Draft202012Validator.check_schema(schema)
    for error in jsonschema.Draft202012Validator(schema).iter_errors(printed):
        print(name, error.json_path, error.message[:200].replace('\\n', ' '))
        break
";
    let tools = std::env::var("MAINT_TEST_TOOLS").expect("MAINT_TEST_TOOLS: run ./scripts/test");
    let mut judge = Command::new(Path::new(&tools).join("bin/python"))
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = serde_json::to_vec(pairs).unwrap();
    judge.stdin.take().unwrap().write_all(&given).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "the validator failed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The tables of options are made from the schema, so that neither can say what the other does not.
#[test]
fn the_tables_of_options_are_current() {
    let output = maint().args(["schema", "task"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut page = String::from(
        "# Every option of every kind\n\n\
         Made from the [schema](schema/task.json) that `maint check` uses. What every task may have \
         besides comes last.\n",
    );
    let mut kinds: Vec<(&str, &Value)> = schema["allOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let kind = rule["if"]["properties"]["kind"]["const"].as_str().unwrap();
            (kind, &rule["then"]["properties"]["options"])
        })
        .collect();
    kinds.sort_by_key(|(kind, _)| *kind);
    for (kind, options) in &kinds {
        page.push_str(&format!("\n## {kind}\n\n"));
        // Two engines have a kind of this name, each with options of its own.
        let Some(engines) = options["anyOf"].as_array() else {
            page.push_str(&table(options, &schema));
            continue;
        };
        for (n, (engine, options)) in ["PostgreSQL", "MongoDB"].iter().zip(engines).enumerate() {
            let gap = if n == 0 { "" } else { "\n" };
            page.push_str(&format!("{gap}### On {engine}\n\n"));
            page.push_str(&table(options, &schema));
        }
    }
    page.push_str("\n## Of every task\n");
    for (title, name) in [
        ("limits", "Limits"),
        ("throttle", "Throttle"),
        ("retries", "Retries"),
    ] {
        page.push_str(&format!("\n### {title}\n\n"));
        page.push_str(&table(&schema["$defs"][name], &schema));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    if std::env::var_os("MAINT_UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        kinds.len() >= 10 && page.contains("| `min_bloat` |"),
        "{page}"
    );
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "{} is out of date: write it anew with MAINT_UPDATE_EXPECTED=1",
        path.display()
    );
}

fn table(object: &Value, schema: &Value) -> String {
    let mut lines = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    let required: Vec<&str> = object["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (key, option) in object["properties"].as_object().unwrap() {
        let default = match &option["default"] {
            Value::Null if required.contains(&key.as_str()) => "must be given".to_owned(),
            Value::Null => String::new(),
            Value::Array(all) if all.is_empty() => "none".to_owned(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        let meaning = option["description"].as_str().unwrap_or_default();
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        lines.push_str(&format!(
            "| `{key}` | {} | {} | {} |\n",
            cell(&value(option, schema)),
            cell(&default),
            cell(meaning)
        ));
    }
    lines
}

/// What may be written there, in words.
fn value(option: &Value, schema: &Value) -> String {
    if let Some(name) = option["$ref"].as_str() {
        return value(
            &schema["$defs"][name.trim_start_matches("#/$defs/")],
            schema,
        );
    }
    let choices = option["anyOf"].as_array().or(option["oneOf"].as_array());
    if let Some(choices) = choices {
        let all: Vec<String> = choices
            .iter()
            .filter(|choice| choice["type"] != "null")
            .map(|choice| value(choice, schema))
            .collect();
        return all.join(", ");
    }
    if let Some(word) = option["const"].as_str() {
        return format!("`{word}`");
    }
    if let Some(words) = option["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        return words.join(", ");
    }
    let named = match &option["type"] {
        Value::Array(types) => types
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .unwrap_or("anything"),
        name => name.as_str().unwrap_or("anything"),
    };
    match named {
        "array" => format!("list: {}", value(&option["items"], schema)),
        "boolean" => "`true`, `false`".to_owned(),
        "integer" | "number" => "number".to_owned(),
        "object" => {
            let keys: Vec<String> = option["properties"]
                .as_object()
                .map(|all| all.keys().map(|key| format!("`{key}`")).collect())
                .unwrap_or_default();
            match keys.is_empty() {
                true => "keys and values".to_owned(),
                false => format!("{{ {} }}", keys.join(", ")),
            }
        }
        _ => match option["examples"][0].as_str() {
            Some(example) => format!("such as `{example}`"),
            None => "text".to_owned(),
        },
    }
}
