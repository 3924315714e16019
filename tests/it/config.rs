//! The files: what is built from good ones, and what is said about bad ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes helpers of tests for production code"
)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use maint::config::{Config, load, schema_for_schedules, schema_for_task};
use maint::plan::{KindInfo, Unfit};
use maint::values::{Bytes, Engine, NamePattern, Percent, Problems};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Stand-ins for the real kinds, so that a new option does not change these tests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code, reason = "only read by serde and the schema")]
struct ReindexOptions {
    include: Vec<NamePattern>,
    exclude: Vec<NamePattern>,
    min_size: Option<Bytes>,
    min_bloat: Option<Percent>,
    method: Method,
    access_methods: Vec<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// From statistics.
    #[default]
    Estimate,
    /// By reading the index.
    Exact,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only read by serde and the schema")]
struct CompactOptions {
    collection: String,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "only read by serde and the schema")]
struct VacuumOptions {
    min_dead: Option<Percent>,
    min_dead_rows: Option<u32>,
}

fn check<T: DeserializeOwned>(options: &serde_json::Value) -> Result<(), Unfit> {
    serde_json::from_value::<T>(options.clone())
        .map(drop)
        .map_err(|why| why.to_string().into())
}

fn check_reindex(options: &serde_json::Value) -> Result<(), Unfit> {
    check::<ReindexOptions>(options)?;
    match options.get("include").zip(options.get("exclude")) {
        Some((include, exclude)) if include == exclude => {
            Err("`include` and `exclude` are the same, so nothing is left".into())
        }
        _ => Ok(()),
    }
}

const KINDS: &[KindInfo] = &[
    KindInfo {
        name: "reindex",
        engine: Engine::Postgres,
        summary: "rebuilds indexes",
        removes_rows: false,
        ages: |_| Vec::new(),
        replaces: |_| Vec::new(),
        goes_on_with: |_, _, _| false,
        looks_at_server: false,
        needs_history: false,
        options_schema: || schema_for!(ReindexOptions),
        check_options: check_reindex,
    },
    KindInfo {
        name: "vacuum",
        engine: Engine::Postgres,
        summary: "removes dead rows",
        removes_rows: false,
        ages: |_| Vec::new(),
        replaces: |_| Vec::new(),
        goes_on_with: |_, _, _| false,
        looks_at_server: false,
        needs_history: false,
        options_schema: || schema_for!(VacuumOptions),
        check_options: check::<VacuumOptions>,
    },
    KindInfo {
        name: "compact",
        engine: Engine::Mongodb,
        summary: "gives space back",
        removes_rows: false,
        ages: |_| Vec::new(),
        replaces: |_| Vec::new(),
        goes_on_with: |_, _, _| false,
        looks_at_server: false,
        needs_history: false,
        options_schema: || schema_for!(CompactOptions),
        check_options: check::<CompactOptions>,
    },
];

/// The environment of every test here.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "DATABASE_URL" => "postgres://maint:hunter2@db/app",
        "SECRET_WORD" => "hunter2",
        "EMPTY" => "",
        "JOBS" => "4",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Loads files that are written to a folder of their own.
fn load_files(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Config, Problems>) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tasks")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let config = load(&folder.path().join("schedules.yaml"), KINDS, &env);
    (folder, config)
}

fn loaded(files: &[(&str, &str)]) -> Config {
    load_files(files)
        .1
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// `MAINT_UPDATE_EXPECTED=1 cargo test broken` writes what is said now; read the difference.
#[test]
fn broken_configurations_are_explained() {
    let mut folders: Vec<PathBuf> = fs::read_dir("tests/broken")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 12);
    let update = std::env::var_os("MAINT_UPDATE_EXPECTED").is_some();
    let mut different = Vec::new();
    for folder in folders {
        let problems = load(&folder.join("schedules.yaml"), KINDS, &env)
            .err()
            .unwrap_or_else(|| panic!("{} loads", folder.display()));
        let shown = format!("{problems}\n");
        assert!(!shown.contains("hunter2"), "a secret is shown:\n{shown}");
        let json = serde_json::to_string(&problems).unwrap();
        assert!(!json.contains("hunter2"), "a secret is shown:\n{json}");
        let path = folder.join("expected.txt");
        if update {
            fs::write(&path, &shown).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != shown {
            different.push(format!("--- {}\n{shown}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

const SCHEDULES: &str = r#"
timezone: Europe/Berlin
targets:
  app:     { engine: postgres, url: "${DATABASE_URL}", replicas: ["${REPLICA_URL:-}"] }
  local:   { engine: postgres }
  content: { engine: mongodb, url: "${MONGODB_URL:-}" }
groups:
  all: [some, app]
  some: [local]
schedules:
  weekly: { cron: "0 1 * * SUN", tasks: [reindex], window: "Sun 01:00-05:00", jitter: 5min }
reports:
  weekly: { cron: "0 8 * * MON", period: 7d, email: { to: [dba@example.com] } }
smtp: { url: "${SMTP_URL:-}", from: "maint <maint@example.com>" }
notify: { on: [failed, critical], ping: { url: "https://ping.example/abc" } }
"#;

const REINDEX: &str = r#"
kind: reindex
target: all
options: { min_size: 10MB, min_bloat: "${BLOAT:-30%}", exclude: ["audit.*"] }
limits: { jobs: "${JOBS}", budget: 3h }
throttle:
window: "${WINDOW:-}"
"#;

#[test]
fn a_good_configuration_is_built() {
    let (folder, config) = load_files(&[
        ("schedules.yaml", SCHEDULES),
        ("tasks/reindex.yaml", REINDEX),
        (
            "tasks/compact.yaml",
            "kind: compact\ntarget: content\noptions: { collection: a }\n",
        ),
        ("tasks/README.md", "not a task"),
    ]);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.timezone.name(), "Europe/Berlin");
    assert_eq!(
        config.history.expose(),
        format!("sqlite:{}", folder.path().join("maint.db").display())
    );

    let app = &config.targets["app"];
    assert_eq!(
        app.url.as_ref().unwrap().expose(),
        "postgres://maint:hunter2@db/app"
    );
    assert!(app.configured && app.replicas.is_empty());
    assert!(config.targets["local"].configured && config.targets["local"].url.is_none());
    assert!(!config.targets["content"].configured);
    assert_eq!(config.groups["all"], ["local", "app"]);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.smtp.is_none());

    let task = &config.tasks["reindex"];
    assert_eq!(task.targets, ["local", "app"]);
    assert_eq!(
        (task.kind.as_str(), task.engine, task.enabled),
        ("reindex", Engine::Postgres, true)
    );
    assert_eq!(
        task.options,
        serde_json::json!({ "min_size": "10MB", "min_bloat": "30%", "exclude": ["audit.*"] })
    );
    assert_eq!(task.limits.jobs, 4);
    assert_eq!(task.limits.lock_timeout.to_string(), "3s");
    assert!(task.window.is_none());
    assert_eq!(config.tasks["compact"].targets, ["content"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_secret_can_be_in_a_file() {
    let (folder, config) = load_files(&[
        (
            "schedules.yaml",
            "targets: { app: { engine: postgres, url: 'file:url' } }",
        ),
        ("url", "postgres://u:hunter2@h/d\n"),
    ]);
    // As everybody may read it, it is refused.
    let problems = config.unwrap_err().to_string();
    assert!(
        problems.contains("the secret `file:url` can be read by others: its mode is 0644"),
        "{problems}"
    );
    assert!(!problems.contains("hunter2"), "{problems}");
    let mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(folder.path().join("url"), permissions).unwrap();
    };
    mode(0o600);
    let config = load(&folder.path().join("schedules.yaml"), KINDS, &env);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let url = config.targets["app"].url.as_ref().unwrap();
    assert_eq!(url.expose(), "postgres://u:hunter2@h/d");
    // What editors and shells leave around it is no part of it.
    let write = |text: &str| fs::write(folder.path().join("url"), text).unwrap();
    write("\u{feff}  postgres://u:hunter2@h/e \r\n\n");
    let config = load(&folder.path().join("schedules.yaml"), KINDS, &env);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let url = config.targets["app"].url.as_ref().unwrap();
    assert_eq!(url.expose(), "postgres://u:hunter2@h/e");
    write("postgres://u:hunter2@h/d\nhunter2\n");
    let problems = load(&folder.path().join("schedules.yaml"), KINDS, &env).unwrap_err();
    let problems = problems.to_string();
    assert!(
        problems.contains("the secret `file:url` has 2 lines, and is one value")
            && !problems.contains("hunter2"),
        "{problems}"
    );
    fs::remove_file(folder.path().join("url")).unwrap();
    let problems = load(&folder.path().join("schedules.yaml"), KINDS, &env).unwrap_err();
    assert!(
        problems
            .to_string()
            .contains("the secret `file:url` cannot be read: it does not exist")
    );
}

#[test]
fn a_variable_brings_no_yaml_along() {
    let text = "targets: { app: { engine: postgres, description: \"${INJECTED}\" } }";
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tasks")).unwrap();
    fs::write(folder.path().join("schedules.yaml"), text).unwrap();
    let injected = "x\", url: \"postgres://evil/\" }\nfoo: bar";
    let env = |name: &str| (name == "INJECTED").then(|| injected.to_owned());
    let config = load(&folder.path().join("schedules.yaml"), KINDS, &env).unwrap();
    assert_eq!(config.targets["app"].description.as_deref(), Some(injected));
    assert!(config.targets["app"].url.is_none());
}

/// What a filter means is never guessed: words that many take for something else are asked about,
/// and a list that came out empty keeps something, or is no list.
#[test]
fn words_of_a_filter_mean_one_thing() {
    let checked = |filter: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("schedules.yaml");
        fs::write(
            &file,
            "targets: { content: { engine: mongodb, url: 'mongodb://h/d' } }\n",
        )
        .unwrap();
        fs::create_dir(folder.path().join("tasks")).unwrap();
        let task = format!(
            "kind: cleanup\ntarget: content\noptions:\n  rules:\n    - {{ collection: c, field: at, older_than: 1y, {filter} }}\n"
        );
        fs::write(folder.path().join("tasks/old.yaml"), task).unwrap();
        load(&file, &maint::kinds::catalog(), &|_| None).map_err(|problems| problems.to_string())
    };
    for (filter, told) in [
        (
            "keep: [{ pinned: yes }]",
            "`options.rules.keep.pinned` is `yes`, which is text here",
        ),
        (
            "keep: [{ d: { $lt: 2020-01-01 } }]",
            "`options.rules.keep.d.$lt` is `2020-01-01`, which is text here, and no date",
        ),
        (
            "keep: [{ o: 6b0a084ae1b0a7e3fc0d3a03 }]",
            "which is text here, and no id",
        ),
        (
            "keep: [{ zip: { $in: [1, 01234] } }]",
            "`options.rules.keep.zip.$in` is `01234`, which is a number without its leading zeros",
        ),
        (
            "where: { on: off }",
            "write `false`, or put it in quotes where text is meant: `\"off\"`",
        ),
        ("keep:", "`options.rules.keep` has no value"),
    ] {
        let said = checked(filter).unwrap_err();
        assert!(
            said.contains(told) && said.contains("old.yaml:5:"),
            "{filter}: {said}"
        );
    }
    for filter in [
        "keep: [{ pinned: true, zip: \"01234\", d: { $lt: { $date: \"2020-01-01T00:00:00Z\" } }, o: { $oid: \"6b0a084ae1b0a7e3fc0d3a03\" } }]",
        "keep: []",
    ] {
        checked(filter).unwrap();
    }
}

/// One problem for each way to get a name or a connection wrong, by a part of its text.
#[test]
fn names_and_connections_are_checked() {
    let head = "targets: { app: { engine: postgres }, content: { engine: mongodb, url: 'mongodb://h/d' } }\n";
    for (schedules, task, expected) in [
        (
            "groups: { app: [app] }",
            "",
            "`app` names both a target and a group",
        ),
        (
            "groups: { g: [app, content] }",
            "",
            "have different engines: `app` is postgres, `content` is mongodb",
        ),
        ("groups: { g: [] }", "kind: vacuum\ntarget: g\n", ""),
        (
            "",
            "kind: compact\ntarget: app\n",
            "kind `compact` is for mongodb, but target `app` is postgres",
        ),
        (
            "",
            "kind: compact\ntarget: content\n",
            "missing option `collection` for kind `compact`",
        ),
        ("", "kind: vacuum\n", "missing key `target`"),
        (
            "",
            "kind: reindex\ntarget: app\noptions: { include: [a], exclude: [a] }\n",
            "options of kind `reindex`: `include` and",
        ),
        (
            "",
            "kind: reindex\ntarget: app\noptions: { method: exakt }\n",
            "did you mean `exact`?",
        ),
        (
            "",
            "kind: vacuum\ntarget: app\nenabled: 'yes'\n",
            "`enabled` must be `true` or `false`, not text",
        ),
        (
            "",
            "kind: vacuum\ntarget: app\nlimits: { jobs: 0 }\n",
            "`limits.jobs` must be at least 1",
        ),
        (
            "",
            "kind: vacuum\ntarget: app\nlimits: [1]\n",
            "`limits` must be a mapping, not a list",
        ),
        (
            "",
            "kind: vacuum\ntarget: app\ndescription: 5\n",
            "put it in quotes: `\"5\"`",
        ),
        (
            "",
            "kind: vacuum\ntarget: app\nwindow:\n",
            "`window` has no value",
        ),
        (
            "smtp: { url: 'imap://u:hunter2@h', from: a@b.c }",
            "",
            "`smtp.url` is not a URL that fits",
        ),
        (
            "smtp: { url: 'smtp://h', from: nobody }",
            "",
            "`nobody` is not a mail address",
        ),
        (
            "notify: { webhook: { url: 'ftp://h/hunter2' } }",
            "",
            "`notify.webhook.url` is not a URL that fits",
        ),
        (
            "notify: { on: [failure] }",
            "",
            "`failure` is not a value for `notify.on`",
        ),
        (
            "notify: { email: { to: [a@b.c] } }",
            "",
            "`notify.email` needs a mail server",
        ),
        (
            "history: 'jdbc:postgresql://u:hunter2@h/d'",
            "",
            "drop `jdbc:`: it begins with `postgresql://`",
        ),
        (
            "history: 'postgres+asyncpg://u:hunter2@h/d'",
            "",
            "drop `+asyncpg`: it begins with `postgres://`",
        ),
        (
            "schedules: { a: { cron: '0 1 * * SUNDAY', tasks: [t] } }",
            "",
            "did you mean `SUN`?",
        ),
        (
            "schedules: { a: { cron: '0 1 1 january,Sept *', tasks: [t] } }",
            "",
            "did you mean `JAN,SEP`?",
        ),
        (
            "history: mysql://u:hunter2@h",
            "",
            "`history` is not a URL that fits",
        ),
        (
            "schedules: { a: { cron: '@daily', tasks: [t], after: [b] } }",
            "",
            "unknown schedule `b`",
        ),
        (
            "schedules: { a: { cron: '@daily', tasks: [t], after: [a] } }",
            "",
            "schedule `a` would wait for itself",
        ),
        (
            "schedules: { a: { cron: '@daily', tasks: t } }",
            "",
            "write `[t]`",
        ),
        (
            "schedules: { a: { cron: '@daily', tasks: [] } }",
            "",
            "`schedules.a.tasks` must not be empty",
        ),
        (
            "schedules: { a: { cron: \"${EMPTY:-}\", tasks: [t] } }",
            "",
            "`schedules.a.cron` is empty: `${EMPTY:-}` holds nothing",
        ),
    ] {
        let schedules = format!("{head}{schedules}\n");
        let task = if task.is_empty() {
            "kind: vacuum\ntarget: app\n"
        } else {
            task
        };
        let (_, config) = load_files(&[("schedules.yaml", &schedules), ("tasks/t.yaml", task)]);
        let shown = config
            .err()
            .map(|problems| problems.to_string())
            .unwrap_or_default();
        assert!(
            shown.contains(expected),
            "expected: {expected}\nshown: {shown}"
        );
        assert_eq!(expected.is_empty(), shown.is_empty(), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn words_that_no_run_could_heed_are_refused() {
    let throttles = [
        ("query: \";\"", "`throttle.query` has no query"),
        ("query: \"\"", "`throttle.query` has no query"),
        ("abort_query: \" \"", "`throttle.abort_query` has no query"),
        (
            "abort_query: \"-- SELECT true\"",
            "`throttle.abort_query` has no query",
        ),
        ("pause_file: \"\"", "`throttle.pause_file` names no file"),
        ("http: x", "`throttle.http` is not a URL that fits"),
        (
            "http: \"ftp://x\"",
            "`throttle.http` is not a URL that fits",
        ),
        ("http: \"\"", "`throttle.http` is not a URL that fits"),
    ];
    let head = "targets: { app: { engine: postgres } }\n";
    let schedules = |more: &str| format!("{head}{more}\n");
    let good = "kind: reindex\ntarget: app\n";
    let mut cases: Vec<(String, String, &str)> = Vec::new();
    for (word, expected) in throttles {
        cases.push((
            head.to_owned(),
            format!("{good}throttle: {{ {word} }}\n"),
            expected,
        ));
    }
    for (more, expected) in [
        (
            "notify: { webhook: { url: \"\" } }",
            "`notify.webhook.url` is empty",
        ),
        (
            "notify: { ping: { url: \"\" } }",
            "`notify.ping.url` is empty",
        ),
        (
            "schedules: { \"\": { cron: \"0 2 * * *\", tasks: [work] } }",
            "\"\" is no name for a schedule: it is empty",
        ),
        (
            "schedules: { \"a \": { cron: \"0 2 * * *\", tasks: [work] } }",
            "\"a \" is no name for a schedule: it begins or ends with a blank",
        ),
        (
            "schedules: { \"report:x\": { cron: \"0 2 * * *\", tasks: [work] } }",
            "`report:x` is no name for a schedule: the occurrences of reports are called so",
        ),
    ] {
        cases.push((schedules(more), good.to_owned(), expected));
    }
    let replica = "targets: { app: { engine: postgres, replicas: [\"\"] } }\n";
    cases.push((
        replica.to_owned(),
        good.to_owned(),
        "is empty, and would silently count for nothing",
    ));
    for (schedules, task, expected) in cases {
        let files = [("schedules.yaml", &*schedules), ("tasks/work.yaml", &*task)];
        let problems = load_files(&files).1.err().map(|said| said.to_string());
        let said = problems.unwrap_or_else(|| panic!("{schedules}{task} loads"));
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains("struct"), "{said}");
    }
    // An empty variable is a way to leave it out.
    let config = loaded(&[
        (
            "schedules.yaml",
            &schedules("notify: { webhook: { url: \"${EMPTY:-}\" } }"),
        ),
        (
            "tasks/work.yaml",
            &format!("{good}throttle: {{ query: \"${{EMPTY:-}}\" }}\n"),
        ),
    ]);
    let mut task = config.tasks["work"].clone();
    assert_eq!(task.throttle.query, None);
    let said = task
        .set("throttle.query", "\";\"", KINDS)
        .unwrap_err()
        .to_string();
    assert!(said.contains("`throttle.query` has no query"), "{said}");
    assert_eq!(task.throttle.query, None);
}

#[test]
fn a_group_of_nothing_is_refused_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tasks")).unwrap();
    let file = folder.path().join("schedules.yaml");
    for (groups, expected) in [
        ("{ g: [] }", vec!["group `g` has no members"]),
        (
            "{ g: [h], h: [] }",
            vec!["group `g` has no members", "group `h` has no members"],
        ),
        ("{ g: [app] }", vec![]),
    ] {
        let text = format!("targets: {{ app: {{ engine: postgres }} }}\ngroups: {groups}\n");
        fs::write(&file, text).unwrap();
        fs::write(
            folder.path().join("tasks/a.yaml"),
            "kind: vacuum\ntarget: g\n",
        )
        .unwrap();
        let checked = maint::config::load_for_check(&file, KINDS, &env);
        let said = checked
            .err()
            .map(|said| said.to_string())
            .unwrap_or_default();
        assert_eq!(
            said.matches("has no members").count(),
            expected.len(),
            "{said}"
        );
        assert!(expected.iter().all(|one| said.contains(one)), "{said}");
    }
}

#[test]
fn values_that_nobody_can_have_meant_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tasks")).unwrap();
    let file = folder.path().join("schedules.yaml");
    let report =
        |period: &str| format!("reports: {{ r: {{ cron: \"0 8 * * MON\", period: {period} }} }}\n");
    for (text, expected) in [
        (
            "history_retention: 0d\n".to_owned(),
            "`history_retention` is 0",
        ),
        (
            "history_retention: 23h\n".to_owned(),
            "`history_retention` is 23h",
        ),
        ("history_retention: 1d\n".to_owned(), ""),
        (
            "environment: \"a\\nb\"\n".to_owned(),
            "`environment` has characters that nobody sees",
        ),
        ("environment: production\n".to_owned(), ""),
        (
            report("0d"),
            "report `r` would look back for no time at all",
        ),
        (report("1d"), ""),
        (
            "schedules: { \"${X}\": { cron: \"0 4 * * *\", tasks: [] } }\n".to_owned(),
            "is no name for a schedule: variables are filled into values only",
        ),
        ("- targets: {}\n".to_owned(), "the file must be a mapping"),
    ] {
        let targets = if text.starts_with('-') {
            ""
        } else {
            "targets: { app: { engine: postgres } }\n"
        };
        fs::write(&file, format!("{targets}{text}")).unwrap();
        let said = load(&file, KINDS, &env).err();
        let said = said.map(|said| said.to_string()).unwrap_or_default();
        assert_eq!(said.is_empty(), expected.is_empty(), "{text}{said}");
        assert!(
            said.contains(expected) && !said.contains("``"),
            "{text}{said}"
        );
    }
}

#[test]
fn set_changes_one_value_with_the_checks_of_a_file() {
    let config = loaded(&[
        ("schedules.yaml", SCHEDULES),
        ("tasks/reindex.yaml", REINDEX),
    ]);
    let mut task = config.tasks["reindex"].clone();
    for (key, value) in [
        ("min_size", "1MB"),
        ("options.method", "exact"),
        ("access_methods", "[gin, gist]"),
        ("limits.jobs", "2"),
        ("throttle.max_replica_lag", "10s"),
        ("retries.max", "3"),
        ("window", "02:00-05:00"),
        ("enabled", "false"),
    ] {
        task.set(key, value, KINDS)
            .unwrap_or_else(|problems| panic!("{problems}"));
    }
    assert_eq!(
        task.options,
        serde_json::json!({
            "min_size": "1MB", "min_bloat": "30%", "exclude": ["audit.*"],
            "method": "exact", "access_methods": ["gin", "gist"],
        })
    );
    assert_eq!(
        (task.limits.jobs, task.retries.max, task.enabled),
        (2, 3, false)
    );
    assert_eq!(task.limits.budget.unwrap().to_string(), "3h");
    assert_eq!(task.window.as_ref().unwrap().to_string(), "02:00-05:00");

    let mut refused = |key: &str, value: &str| task.set(key, value, KINDS).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            refused("min_bloat_pct", "30%"),
            refused("min_size", "1"),
            refused("limits.jbos", "1"),
            refused("limits.jobs", "many"),
            refused("access_methods", "[gin"),
            refused("min_size", ""),
            refused("target", "app"),
            refused("limits", "{}"),
        ]
        .join("\n"),
        @"
        error: --set:1:1: unknown option `min_bloat_pct` for kind `reindex`
          1 | min_bloat_pct=30%
            | ^^^^^^^^^^^^^
          known: access_methods, exclude, include, method, min_bloat, min_size
          hint: did you mean `min_bloat`?
        error: --set:1:10: `1` is not a size; expected a number and a unit, such as `10MB`
          1 | min_size=1
            |          ^
          hint: add the unit, as in `1MB` or `1kB`
        error: --set:1:8: unknown key `jbos` in `limits`
          1 | limits.jbos=1
            |        ^^^^
          known: budget, grace, jobs, lock_retries, lock_timeout, max_block, max_transaction_age, max_xid_age, parallel_targets, step_timeout, transaction_wait
          hint: did you mean `jobs`?
        error: --set:1:13: `limits.jobs` must be a whole number, not text
          1 | limits.jobs=many
            |             ^^^^
        error: --set:1:16: not valid YAML: unclosed bracket '['
          1 | access_methods=[gin
        error: --set:1:1: `min_size` has no value
          1 | min_size=
            | ^^^^^^^^
        error: --set: `target` cannot be set
          hint: choose targets with --target
        error: --set: `limits` cannot be set
          hint: set one of its keys: `limits.NAME=VALUE`
        "
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Whatever is in a file, it is read or explained.
    #[test]
    fn no_text_is_too_strange(
        strange in "(\\PC|\n| |[:{}\\[\\]\"'&*$#-]){0,40}",
        at in 0..300_usize,
    ) {
        let mut text = SCHEDULES.to_owned();
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert_str(at, &strange);
        let (_, config) = load_files(&[("schedules.yaml", &text), ("tasks/reindex.yaml", &strange)]);
        if let Err(problems) = config {
            proptest::prop_assert!(!problems.to_string().contains("hunter2"));
        }
    }
}

#[test]
fn the_shipped_files_are_right() {
    let config = load(
        Path::new("schedules.yaml"),
        &maint::kinds::catalog(),
        &|name| (name == "DATABASE_URL").then(|| "postgres://localhost/app".to_owned()),
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    // Whatever is shipped is on the calendar, too.
    for task in config.tasks.keys() {
        let planned = |tasks: &[String]| tasks.contains(task);
        assert!(
            config.schedules.values().any(|s| planned(&s.tasks)),
            "{task} is in no schedule"
        );
    }
}

#[test]
fn editors_get_schemas_that_know_the_options_of_a_kind() {
    let task = schema_for_task(KINDS).to_value();
    let rule = |name: &str| {
        let rules = task["allOf"].as_array().unwrap();
        rules
            .iter()
            .find(|rule| rule["if"]["properties"]["kind"]["const"] == name)
            .unwrap()
    };
    let options = &rule("reindex")["then"]["properties"]["options"];
    assert_eq!(
        options["properties"]["min_bloat"]["format"],
        "maint-percent"
    );
    assert_eq!(rule("compact")["then"]["required"][0], "options");
    let kinds: HashMap<&str, &str> = task["properties"]["kind"]["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| {
            (
                kind["const"].as_str().unwrap(),
                kind["description"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(kinds["vacuum"], "removes dead rows");

    // Every reference leads somewhere.
    for schema in [task, schema_for_schedules().to_value()] {
        let text = schema.to_string();
        for target in text
            .split("\"$ref\":\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(schema.pointer(target).is_some(), "{target}");
        }
    }
}

/// A URL of MongoDB has to name a database that there can be, unless those of the whole server are
/// meant.
#[test]
fn a_mongodb_url_names_its_database() {
    for (target, expected) in [
        ("url: \"mongodb://h\"", "does not say which database"),
        (
            "url: \"mongodb://h/?replicaSet=a\"",
            "does not say which database",
        ),
        ("url: \"mongodb://h/x.y\"", "`x.y` has a character"),
        ("url: \"mongodb://h/shop\"", ""),
        ("url: \"mongodb://h\", databases: [\"*\"]", ""),
    ] {
        let schedules = format!("targets: {{ app: {{ engine: mongodb, {target} }} }}\n");
        let workspace = crate::support::workspace::Workspace::new(&schedules)
            .task("snapshot", "kind: snapshot\ntarget: app\n");
        let said = workspace
            .run(["check"])
            .expect(if expected.is_empty() { 0 } else { 2 });
        assert!(said.stderr.contains(expected), "{target}: {said:?}");
    }
}
