//! Configurations nobody writes by hand: read, or refused, in no time.

use std::time::{Duration, Instant};

use crate::support::workspace::Workspace;

const HEAD: &str =
    "history: sqlite:maint.db\ntargets:\n  app: { engine: postgres, url: \"postgres://h/d\" }\n";

/// Runs `check` under a limit of memory, and says what it printed.
fn check(workspace: &Workspace, what: &str) -> String {
    let command = workspace.process(["check"]);
    let mut shell = std::process::Command::new("bash");
    // Threads reserve address space that they never use: data is what counts.
    shell.arg("-c").arg("ulimit -d 400000; exec \"$0\" \"$@\"");
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(workspace.path()).env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    let began = Instant::now();
    let output = shell.output().unwrap();
    let took = began.elapsed();
    let said = String::from_utf8(output.stderr).unwrap();
    let start: String = said.chars().take(400).collect();
    assert_eq!(output.status.code(), Some(2), "{what}: {start}");
    // Built without optimisation, and beside other tests; quadratic would be minutes.
    assert!(took < Duration::from_secs(60), "{what}: {took:?}");
    assert!(said.len() < 200_000, "{what}: {} bytes", said.len());
    said
}

#[test]
fn a_megabyte_of_mistakes_is_told_at_once() {
    let lines = |line: &dyn Fn(usize) -> String| -> String {
        let mut text = String::from(HEAD);
        for n in 0.. {
            let next = line(n);
            if text.len() + next.len() > 1_000_000 {
                break;
            }
            text.push_str(&next);
        }
        text
    };
    for (what, text) in [
        ("unknown keys", lines(&|n| format!("unknown_{n}: {n}\n"))),
        (
            "unknown secrets",
            lines(&|n| format!("u{n}: {{ url: \"postgres://u:geheim@h/d{n}\" }}\n")),
        ),
        ("the same key", lines(&|_| "same: 1\n".to_owned())),
        (
            "missing variables",
            lines(&|n| format!("m{n}: \"${{MISSING_{n}}}\"\n")),
        ),
        (
            "schedules",
            lines(&|n| match n {
                0 => "schedules:\n".to_owned(),
                n => format!(
                    "  s{n}: {{ cron: \"0 1 * * *\", tasks: [nope{n}], after: [s{}] }}\n",
                    n + 1
                ),
            }),
        ),
        (
            "targets",
            lines(&|n| match n {
                0 => "groups:\n".to_owned(),
                n => format!("  g{n}: [t{n}, g{}]\n", n + 1),
            }),
        ),
        (
            "one line",
            format!("{HEAD}x: [{}]\n", "{a: 1}, ".repeat(100_000)),
        ),
    ] {
        let workspace = Workspace::new(&text);
        let said = check(&workspace, what);
        assert!(!said.contains("geheim"), "{what}");
    }
    let workspace = Workspace::new(&lines(&|n| format!("unknown_{n}: {n}\n")));
    let said = check(&workspace, "unknown keys");
    assert!(
        said.contains("schedules.yaml:4:1: unknown key `unknown_0`"),
        "{said}"
    );
    assert!(
        said.contains("more problems, which are not told one by one"),
        "{said}"
    );
}

#[test]
fn what_is_no_file_of_a_size_to_read_is_refused() {
    let big = format!("{HEAD}{}", "# padding\n".repeat(4_000_000));
    let said = check(&Workspace::new(&big), "forty megabytes");
    assert!(
        said.contains("is 38 MB large; at most 1 MB are read"),
        "{said}"
    );

    let workspace = Workspace::new(HEAD);
    workspace.file("tasks/big.yaml", &"a: 1\n".repeat(300_000));
    let said = check(&workspace, "a large task");
    assert!(said.contains("tasks/big.yaml: is 1 MB large"), "{said}");

    let workspace = Workspace::new(HEAD);
    workspace.file(
        "tasks/nested.yaml/inner.yaml",
        "kind: analyze\ntarget: app\n",
    );
    let said = check(&workspace, "a folder in the place of a task");
    assert!(
        said.contains("tasks/nested.yaml: is a folder: a task is a file"),
        "{said}"
    );

    for (url, why) in [
        ("file:/dev/zero", "not a regular file"),
        ("file:/dev/stdin", "not a regular file"),
        ("file:pipe", "not a regular file"),
        ("file:tasks", "a folder"),
        ("file:large", "is 1 MB large"),
    ] {
        let workspace = Workspace::new(&HEAD.replace("postgres://h/d", url));
        nix::unistd::mkfifo(
            &workspace.path().join("pipe"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        workspace.file("large", &"x".repeat(1 << 20));
        let said = check(&workspace, url);
        assert!(said.contains(why), "{url}: {said}");
    }
    let workspace = Workspace::new(HEAD).env("MAINT_CONFIG", "schedules.yaml");
    std::fs::remove_file(workspace.path().join("schedules.yaml")).unwrap();
    nix::unistd::mkfifo(
        &workspace.path().join("schedules.yaml"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let said = check(&workspace, "a pipe in place of the file");
    assert!(said.contains("not a regular file"), "{said}");
}

/// Where a secret stands in the place of a mapping, or under a wrong name, it is one all the same.
#[test]
fn a_secret_in_the_wrong_shape_is_not_shown() {
    for text in [
        "notify: { on: [failed], webhook: \"https://hooks.example/T0/geheim\" }\n",
        "notify: { on: [failed], webhook: [\"https://hooks.example/T0/geheim\"] }\n",
        "notify: { on: [failed], ping: https://hc.example/geheim }\n",
        "notify: { on: [failed], webhook: { url: { a: \"https://h/geheim\" } } }\n",
        "notify: { on: [failed], webhook: { url: \"htps://hooks.example/geheim\" } }\n",
        "notify: { on: [failed], webhook: { uri: \"https://hooks.example/geheim\" } }\n",
        "smtp: \"smtp://u:x@h/geheim\"\n",
        "groups: {}\nreplicas: \"https://h/geheim\"\n",
    ] {
        let workspace = Workspace::new(&format!("{HEAD}{text}"));
        for args in [&["check"][..], &["check", "--output", "json"]] {
            let said = workspace.run(args).expect(2);
            assert!(!format!("{said:?}").contains("geheim"), "{text}: {said:#?}");
        }
    }
    let workspace =
        Workspace::new(&HEAD.replace("app: {", "app: { replicas: \"https://h/geheim\","));
    let said = workspace.run(["check"]).expect(2);
    assert!(!format!("{said:?}").contains("geheim"), "{said:#?}");
}
