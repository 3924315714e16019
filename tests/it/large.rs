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

/// A value of 100,000 characters is told by its beginning and its end, and a long line by what is
/// around the place, with the caret under what is wrong.
#[test]
fn what_is_too_long_is_told_in_short() {
    let long = "x".repeat(100_000);
    let line = format!(
        "  s: {{ cron: \"0 1 * * *\", tasks: [], note: \"{}\", wrong_key: \"{}\" }}",
        "d".repeat(900),
        "v".repeat(900)
    );
    for (what, text, place) in [
        ("a long key", format!("{long}: 1"), ":4:1: "),
        ("a zone", format!("timezone: {long}"), ":4:11: "),
        (
            "a cron",
            format!("schedules:\n  s: {{ cron: \"{long} * * *\", tasks: [a] }}"),
            ":5:14: ",
        ),
        (
            "a task",
            format!("schedules:\n  s: {{ cron: \"0 1 * * *\", tasks: [{long}, {long}y] }}"),
            ":5:35: ",
        ),
        ("no YAML", format!("{long}: ["), ":4:1: "),
        ("a long line", format!("schedules:\n{line}"), ":5:948: "),
    ] {
        let workspace = Workspace::new(&format!("{HEAD}{text}\n"));
        let said = workspace.run(["check"]).expect(2).stderr;
        assert!(said.len() < 4_000, "{what}: {} bytes", said.len());
        let place = format!("schedules.yaml{place}");
        assert!(said.contains(&place), "{what}: {said}");
        let json = workspace.run(["check", "--output", "json"]).expect(2);
        let bytes = json.stdout.len() + json.stderr.len();
        assert!(bytes < 12_000, "{what}: {bytes} bytes");
        if what != "a long line" {
            continue;
        }
        let lines: Vec<&str> = said.lines().collect();
        let at = lines.iter().position(|l| l.contains("wrong_key: "));
        let at = at.unwrap_or_else(|| panic!("{said}"));
        let (shown, carets) = (lines[at], lines[at + 1]);
        let before = |line: &str, what: &str| line.split(what).next().map(|l| l.chars().count());
        assert_eq!(before(carets, "^"), before(shown, "wrong_key"), "{said}");
        let marked = carets.chars().filter(|c| *c == '^').count();
        assert_eq!(marked, "wrong_key".len(), "{said}");
        assert!(shown.chars().count() < 260, "{said}");
    }
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
    assert!(
        said.contains("tasks/big.yaml: is larger than the 1 MB that are read"),
        "{said}"
    );

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
