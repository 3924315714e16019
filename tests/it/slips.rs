//! Slips that YAML, folders and names make easy are told with what helps, and steer no terminal.

use std::os::unix::fs::symlink;

use crate::support::workspace::Workspace;

const SCHEDULES: &str = "timezone: UTC\nhistory: sqlite:maint.db\n\
     targets:\n  app: { engine: postgres, url: \"postgres://app@127.0.0.1:1/app?sslmode=disable\" }\n\
     schedules:\n  daily: { cron: \"0 2 * * *\", tasks: [analyze] }\n";

fn workspace() -> Workspace {
    Workspace::new(SCHEDULES).task("analyze", "kind: analyze\ntarget: app\n")
}

/// What `check` says of these files, which are wrong.
#[track_caller]
fn wrong(workspace: &Workspace) -> String {
    workspace.run(["check"]).expect(2).stderr
}

#[test]
fn slips_of_yaml_are_told_with_what_helps() {
    let unquoted = SCHEDULES.replace(
        "{ cron: \"0 2 * * *\", tasks: [analyze] }",
        "\n    cron: * 2 * * *\n    tasks: [analyze]",
    );
    let slipped = Workspace::new(&unquoted).task("analyze", "kind: analyze\ntarget: app\n");
    assert!(wrong(&slipped).contains("needs quotes: `cron: \"* 2 * * *\"`"));
    let daily = SCHEDULES.replace("\"0 2 * * *\"", "@daily");
    let slipped = Workspace::new(&daily).task("analyze", "kind: analyze\ntarget: app\n");
    assert!(wrong(&slipped).contains("needs quotes"));

    for (task, hint) in [
        (
            "kind: reindex\ntarget: app\nmin_size: 10MB\n",
            "it is an option of `reindex`: `options: { min_size: … }`",
        ),
        (
            "kind: cleanup\ntarget: app\nrules: []\n",
            "it is an option of `cleanup`: `options: { rules: … }`",
        ),
        (
            "kind: reindex\ntarget: app\noptions: { window: \"02:00-03:00\" }\n",
            "it stands beside `options:`, not in it",
        ),
        // What no kind has gets no such hint, and a slip the one that it had.
        (
            "kind: reindex\ntarget: app\nwindw: x\n",
            "did you mean `window`?",
        ),
    ] {
        let other = workspace().task("other", task);
        let said = wrong(&other);
        assert!(said.contains(hint), "{said}");
        assert_eq!(
            said.contains("an option of"),
            hint.contains("an option of"),
            "{said}"
        );
    }
}

#[test]
fn folders_and_links_are_told_as_what_they_are() {
    let empty = Workspace::new("");
    std::fs::remove_file(empty.path().join("schedules.yaml")).unwrap();
    let said = wrong(&empty);
    assert!(said.contains("not found here"), "{said}");
    std::fs::create_dir(empty.path().join("schedules.yaml")).unwrap();
    let said = wrong(&empty);
    assert!(
        said.contains("schedules.yaml: is a folder, and has to be a file"),
        "{said}"
    );
    std::fs::remove_dir(empty.path().join("schedules.yaml")).unwrap();
    symlink("schedules.yaml", empty.path().join("schedules.yaml")).unwrap();
    let said = wrong(&empty);
    assert!(
        said.contains("its symbolic links lead in a circle"),
        "{said}"
    );

    let linked = workspace();
    symlink("loop.yaml", linked.path().join("tasks/loop.yaml")).unwrap();
    let said = wrong(&linked);
    assert!(
        said.contains("loop.yaml: cannot be read: its symbolic links lead in a circle"),
        "{said}"
    );

    let folder = workspace();
    folder.file("tasks/notes/readme.md", "not for maint");
    let said = folder.run(["check"]).expect(0);
    assert!(!said.stdout.contains("note:"), "{said:#?}");
    folder.file("tasks/more/deep/x.yaml", "kind: vacuum\ntarget: app\n");
    let said = folder.run(["check"]).expect(0);
    assert!(
        said.stdout
            .contains("tasks/more is a folder in the folder of tasks: no task in it is read"),
        "{said:#?}"
    );
    assert!(!said.stdout.contains("notes"), "{said:#?}");

    let without = workspace();
    std::fs::remove_dir_all(without.path().join("tasks")).unwrap();
    let said = wrong(&without);
    assert!(said.contains("has a file for each task"), "{said}");
}

/// Whoever may name a file, or a target, steers nobody's terminal.
#[test]
fn no_name_steers_the_terminal() {
    let workspace = workspace();
    workspace.file(
        "tasks/a\u{1b}[31mb\nerror: c.yaml",
        "kind: analyze\ntarget: nope\n",
    );
    workspace.file(
        "tasks/d\u{9b}31m\u{202e}/e.yaml",
        "kind: analyze\ntarget: app\n",
    );
    let named = SCHEDULES.replace(
        "  app:",
        "  \"x\\u001b[31my\": { engine: postgres, url: \"postgres://h/d\" }\n  app:",
    );
    workspace.file("schedules.yaml", &named);
    for args in [
        vec!["check"],
        vec!["check", "--output", "github"],
        vec!["plan", "analyze"],
        vec!["history", "--color", "always"],
    ] {
        let said = workspace.run(&args).expect(2);
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(
            !all.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
            "{args:?}: {all}"
        );
        assert!(
            !all.lines().any(|line| line.starts_with("error: c")),
            "{args:?}: {all}"
        );
        assert!(all.contains("\\x1b[31mb"), "{args:?}: {all}");
    }
    // JSON has the very name.
    let said = workspace
        .run(["check", "--output", "json"])
        .expect(2)
        .json();
    let files = said["problems"].as_array().unwrap().iter();
    let files: Vec<&str> = files.filter_map(|one| one["file"].as_str()).collect();
    assert!(
        files
            .iter()
            .any(|file| file.contains("a\u{1b}[31mb\nerror: c.yaml")),
        "{files:?}"
    );

    let folder = Workspace::new(SCHEDULES).task("analyze", "kind: analyze\ntarget: app\n");
    folder.file(
        "tasks/d\u{9b}31m\u{202e}/e.yaml",
        "kind: analyze\ntarget: app\n",
    );
    let said = folder.run(["check"]).expect(0);
    assert!(
        said.stdout
            .contains("tasks/d\\u{9b}31m\\u{202e} is a folder"),
        "{said:#?}"
    );
}

/// What cannot be read on a command line is told with what could be, and no number of the system's.
#[test]
fn slips_on_the_command_line_are_told_with_an_example() {
    let workspace = workspace();
    for (args, words) in [
        (&["serve", "--listen", "80"][..], "such as 127.0.0.1:8288"),
        (&["demo", "--scale", "abc"], "not a number above 0"),
        (
            &["history", "--limit", "-1"],
            "not a whole number from 1 on",
        ),
        (
            &["next", "--count", "-1"],
            "not a whole number from 1 to 10000",
        ),
        (
            &["next", "--count", "1000000000"],
            "not a whole number from 1 to 10000",
        ),
        (
            &["plan", "--check", "schedules.yaml"],
            "is no saved plan: it is not JSON",
        ),
        (
            &["report", "--html", "."],
            "cannot be written: it is a folder",
        ),
        (
            &["report", "--html", "nowhere/x.html"],
            "cannot be written: the folder nowhere does not exist",
        ),
    ] {
        if args[0] == "report" {
            workspace.file("maint.db", "");
        }
        let said = workspace.run(args);
        assert_ne!(said.code, 0, "{said:#?}");
        assert!(said.stderr.contains(words), "{args:?}: {said:#?}");
        assert!(!said.stderr.contains("os error"), "{args:?}: {said:#?}");
    }
}

/// Where a document is asked for, a slip on the command line is one as any other failure is.
#[test]
fn slips_on_the_command_line_are_told_as_documents() {
    let workspace = workspace();
    for (args, error, hint) in [
        (
            &["--output", "json", "hsitory"][..],
            "there is no command `hsitory`",
            Some("did you mean `history`?"),
        ),
        (
            &["history", "--output=json", "--limmit", "5"],
            "there is no option `--limmit`",
            Some("did you mean `--limit`?"),
        ),
        (
            &["next", "--count", "0", "--output", "json"],
            "not a whole number from 1 to 10000",
            None,
        ),
        (&["show", "--output", "json"], "required", None),
        (
            &["check", "--output", "json", "--config="],
            "`--config` names no file",
            None,
        ),
    ] {
        let said = workspace.run(args).expect(2);
        assert_eq!(said.stderr, "", "{args:?}");
        let document = said.json();
        let told = document["error"].as_str().unwrap();
        assert!(
            told.contains(error) && !told.starts_with("error:"),
            "{args:?}: {document:#}"
        );
        if let Some(hint) = hint {
            assert!(
                document["hint"].as_str().unwrap().starts_with(hint),
                "{args:?}: {document:#}"
            );
        }
    }
    let said = workspace.run(["hsitory", "--output", "human"]).expect(2);
    assert!(said.stdout.is_empty() && said.stderr.starts_with("error: there is no command"));
}

/// A span beyond what a date can hold is told with its file, line, value and bound, on either engine.
#[test]
fn a_span_that_is_too_long_is_told_where_it_stands() {
    let schedules = "targets:\n  rows: { engine: postgres, url: \"postgres://app@127.0.0.1:1/app?sslmode=disable\" }\n  documents: { engine: mongodb, url: \"mongodb://127.0.0.1:1/app?tls=false\" }\n";
    for (target, rule) in [
        ("rows", "{ table: public.t, column: at, "),
        ("documents", "{ collection: t, field: at, "),
    ] {
        let task = format!(
            "kind: cleanup\ntarget: {target}\noptions:\n  rules:\n    - {rule}older_than: 9999999d }}\n"
        );
        let said = wrong(&Workspace::new(schedules).task("cleanup", &task));
        let wanted = "`9999999d` is too long; a calendar span may be at most 100y, or 36500d";
        assert!(said.contains(wanted), "{said}");
        assert!(said.contains("cleanup.yaml:5:"), "{said}");
    }
}

/// What begins as an option does could be named by no command.
#[test]
fn a_name_that_begins_with_a_dash_is_refused() {
    let why = "begins with `-`, and commands would take it for an option";
    let dashed = SCHEDULES.replace("  daily:", "  -daily:");
    let said = wrong(&Workspace::new(&dashed).task("analyze", "kind: analyze\ntarget: app\n"));
    assert!(
        said.contains("\"-daily\" is no name for a schedule"),
        "{said}"
    );
    assert!(said.contains(why), "{said}");
    let said = wrong(&workspace().task("-all", "kind: analyze\ntarget: app\n"));
    assert!(said.contains("`-all` is no name for a task"), "{said}");
    assert!(said.contains(why), "{said}");
}

/// A variable that is empty says nothing; an option that is empty says so.
#[test]
fn an_empty_variable_names_no_file() {
    let workspace = workspace();
    let empty = workspace
        .command(["next"])
        .env("MAINT_CONFIG", "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&empty.stderr);
    assert!(empty.status.success(), "{said}");
    let said = workspace.run(["next", "--config", ""]).expect(2).stderr;
    assert!(said.contains("`--config` names no file"), "{said}");
}

/// What one task deletes when it is younger than another keeps it, is never kept: told before it is gone.
#[test]
fn what_is_gone_before_its_archive_is_told() {
    let postgres = "postgres://u@127.0.0.1:1/db";
    let rule = "table: ev, column: at, older_than";
    let check = |others: &[(&str, &str)]| {
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{postgres}\" }}\n  other: {{ engine: postgres, url: \"{postgres}2\" }}\n  docs: {{ engine: mongodb, url: \"mongodb://127.0.0.1:1/db\" }}\n"
        ));
        let mut workspace = workspace
            .task("keeps", &format!("kind: archive\ntarget: app\noptions: {{ {rule}: 1y, destination: {{ table: kept }} }}\n"))
            .task("mongo", "kind: archive\ntarget: docs\noptions: { rules: [{ collection: ev, field: at, older_than: 90d }], destination: { collection: old } }\n");
        for (name, text) in others {
            workspace = workspace.task(name, text);
        }
        workspace.run(["check"]).expect(0).stdout
    };
    let cleanup = |target: &str, rule: &str| {
        format!("kind: cleanup\ntarget: {target}\noptions: {{ rules: [{{ {rule} }}] }}\n")
    };
    let partitions = |more: &str| {
        format!(
            "kind: partitions\ntarget: app\noptions: {{ tables: [public.ev], interval: month, {more} }}\n"
        )
    };
    let by = |task: &str, kind: &str, object: &str, after: &str, keeper: &str, kept: &str| {
        format!(
            "task `{task}` ({kind}) takes all of {object} that is older than {after}, and task `{keeper}` keeps it only when it is older than {kept}: by then nothing is left to keep."
        )
    };
    for (text, said) in [
        (cleanup("app", &format!("{rule}: 3mo")), Some(by("x", "cleanup", "public.ev", "3mo", "keeps", "1y"))),
        (cleanup("app", &format!("{rule}: 365d")), Some(by("x", "cleanup", "public.ev", "365d", "keeps", "1y"))),
        (partitions("keep: 6mo"), Some(by("x", "partitions", "public.ev", "6mo", "keeps", "1y"))),
        ("kind: cleanup\ntarget: docs\noptions: { ttl: [{ collection: ev, field: at, expire_after: 30d }] }\n".to_owned(), Some(by("x", "cleanup", "ev", "30d", "mongo", "90d"))),
        ("kind: cleanup\ntarget: docs\noptions: { rules: [{ collection: ev, field: at, older_than: 60d }] }\n".to_owned(), Some(by("x", "cleanup", "ev", "60d", "mongo", "90d"))),
        (cleanup("app", &format!("{rule}: 3y")), None),
        (cleanup("app", &format!("{rule}: 3mo, where: draft")), None),
        (cleanup("other", &format!("{rule}: 3mo")), None),
        (cleanup("app", "table: other.ev, column: at, older_than: 3mo"), None),
        (partitions("keep: 6mo, expired: archive"), None),
        (partitions("ahead: 2"), None),
        (format!("{}enabled: false\n", cleanup("app", &format!("{rule}: 3mo"))), None),
    ] {
        let output = check(&[("x", &text)]);
        match said {
            Some(said) => assert!(output.contains(&said), "{text}: {output}"),
            None => assert!(!output.contains("left to keep"), "{text}: {output}"),
        }
    }
}

/// What one task, or one database, makes and another replaces: each succeeds, and one result is left.
#[test]
fn results_that_replace_each_other_are_told() {
    let check = |tasks: &[(&str, &str)]| {
        let mut workspace = Workspace::new(
            "history: sqlite:maint.db\ntargets:\n  app: { engine: mongodb, url: \"mongodb://127.0.0.1:1/app\" }\n  fleet: { engine: mongodb, url: \"mongodb://127.0.0.1:1\", databases: [\"tenant_*\"] }\n  twin: { engine: mongodb, url: \"mongodb://127.0.0.1:2,127.0.0.1:1/app\" }\n  side: { engine: mongodb, url: \"mongodb://127.0.0.1:1/side\" }\n  far: { engine: mongodb, url: \"mongodb://127.0.0.1:9/app\" }\ngroups: { both: [app, side] }\n",
        );
        for (target, last) in tasks {
            let name = format!("t{}", last.len());
            let options = format!("aggregations: [{{ collection: ev, pipeline: [{last}] }}]");
            workspace = workspace.task(
                &name,
                &format!("kind: refresh\ntarget: {target}\noptions: {{ {options} }}\n"),
            );
        }
        workspace.run(["check"]).expect(0).stdout
    };
    let (out, anew) = ("{ $out: sums }", "{ $limit: 9 }, { $out: sums }");
    let elsewhere = "{ $out: { db: old, coll: sums } }";
    let replaces = "{ $merge: { into: { db: old, coll: sums }, whenMatched: replace } }";
    let again =
        "{ $limit: 9 }, { $merge: { into: { db: old, coll: sums }, whenMatched: replace } }";
    let adds = "{ $merge: { into: { db: old, coll: sums } } }";
    for (tasks, said) in [
        (
            vec![("app", out), ("app", anew)],
            "both put what they make into sums of target app",
        ),
        (
            vec![("app", elsewhere), ("app", adds)],
            "both put what they make into old.sums",
        ),
        (
            vec![("app", replaces), ("app", again)],
            "under the same key",
        ),
        (
            vec![("fleet", elsewhere)],
            "of every database of target fleet into old.sums",
        ),
        (
            vec![("fleet", replaces)],
            "of every database of target fleet into old.sums",
        ),
        // On one server, as their addresses say.
        (
            vec![("app", out), ("twin", anew)],
            "into app.sums of one server",
        ),
        (
            vec![("app", elsewhere), ("side", adds)],
            "into old.sums of one server",
        ),
        (
            vec![("side", replaces), ("fleet", again)],
            "into old.sums of one server",
        ),
        (
            vec![("both", elsewhere)],
            "of targets app and side into old.sums of one server",
        ),
        (vec![("app", out), ("side", anew)], ""),
        (vec![("both", out)], ""),
        (vec![("app", elsewhere), ("far", adds)], ""),
        (vec![("app", out), ("fleet", anew)], ""),
        (vec![("fleet", out)], ""),
        (vec![("fleet", adds)], ""),
        (vec![("app", replaces), ("app", adds)], ""),
        (vec![("app", elsewhere), ("app", out)], ""),
    ] {
        let output = check(&tasks);
        match said {
            "" => assert!(!output.contains("is left"), "{tasks:?}: {output}"),
            said => assert!(
                output.contains(said) && output.contains("is left"),
                "{tasks:?}: {output}"
            ),
        }
    }
}
