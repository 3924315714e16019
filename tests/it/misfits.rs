//! What is wrong with an element of a list is told where that element stands, each by itself.

use crate::support::workspace::Workspace;

/// The places of a file that `maint check` complains about, with the beginning of what it says.
fn places(engine: &str, task: &str) -> Vec<(u64, String)> {
    let url = match engine {
        "postgres" => "postgres://localhost/app",
        _ => "mongodb://localhost/app",
    };
    let schedules = format!("targets: {{ app: {{ engine: {engine}, url: '{url}' }} }}\n");
    let workspace = Workspace::new(&schedules).task("it", task);
    let said = workspace.run(["check", "--output", "json"]).expect(2);
    let document = said.json();
    let problems = document["problems"].as_array().unwrap();
    problems
        .iter()
        .map(|one| {
            assert!(
                one["file"].as_str().unwrap().ends_with("tasks/it.yaml"),
                "{one}"
            );
            let message = one["message"].as_str().unwrap();
            let line = one["line"].as_u64().unwrap();
            let (_, what) = message.split_once("`: ").unwrap();
            (line, what.split(": ").next().unwrap().to_owned())
        })
        .collect()
}

fn expected(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter()
        .map(|(line, way)| (*line, (*way).to_owned()))
        .collect()
}

#[test]
fn statements_are_told_where_they_stand() {
    let task = "kind: sql\ntarget: app\noptions:\n  statements:\n    - name: fine\n      sql: SELECT 1\n    - name: two\n      sql: |\n        SELECT 1;\n        SELECT 2\n    - { name: fine, sql: SELECT 3 }\n    - name: open\n      with: [days]\n      sql: SELECT 4\n";
    let told = places("postgres", task);
    assert_eq!(
        told,
        expected(&[
            (8, "statements[1].sql"),
            (11, "statements[2].name"),
            (13, "statements[3].with")
        ])
    );
    let unused = "kind: sql\ntarget: app\noptions:\n  statements:\n    - { name: a, sql: SELECT 1 }\n  parameters:\n    days: 3\n";
    assert_eq!(
        places("postgres", unused),
        expected(&[(7, "parameters.days")])
    );
}

#[test]
fn rules_are_told_where_they_stand() {
    let task = "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { table: a, column: at, older_than: 9d }\n    - table: b\n    - table: c\n      column: at\n    - table: d\n      keep: ['x) or (true']\n      where: 'true'\n";
    assert_eq!(
        places("postgres", task),
        expected(&[
            (6, "rules[1]"),
            (8, "rules[2].column"),
            (10, "rules[3].keep")
        ])
    );
    let task = "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: a, field: at, older_than: 9d }\n    - collection: b\n    - collection: c\n      where: {}\n";
    assert_eq!(
        places("mongodb", task),
        expected(&[(6, "rules[1]"), (8, "rules[2].where")])
    );
    let task = "kind: cleanup\ntarget: app\noptions:\n  ttl:\n    - { collection: a, field: at, expire_after: 9d }\n    - collection: b\n      field: _id\n      expire_after: 1d\n";
    assert_eq!(places("mongodb", task), expected(&[(7, "ttl[1].field")]));
    let task = "kind: refresh\ntarget: app\noptions:\n  aggregations:\n    - collection: a\n      pipeline:\n        - { $match: {} }\n        - { match: {} }\n        - { $out: b }\n";
    assert_eq!(
        places("mongodb", task),
        expected(&[(8, "aggregations[0].pipeline[1]")])
    );
    let task = "kind: archive\ntarget: app\noptions:\n  table: t\n  column: at\n  destination:\n    table: old\n";
    assert_eq!(places("postgres", task), expected(&[(5, "column")]));
    let task = "kind: integrity\ntarget: app\noptions:\n  queries:\n    - { name: a, sql: SELECT 1 }\n    - name: a\n      sql: SELECT 2\n";
    assert_eq!(places("postgres", task), expected(&[(6, "queries[1]")]));
}

#[test]
fn what_is_set_for_once_is_told_in_its_own_words() {
    let schedules = "targets: { app: { engine: postgres, url: 'postgres://localhost/app' } }\n";
    let task = "kind: sql\ntarget: app\noptions: { statements: [{ name: a, sql: SELECT 1 }] }\n";
    let workspace = Workspace::new(schedules).task("it", task);
    let set = "statements=[{name: a, sql: SELECT 1}, {name: b, sql: BEGIN}]";
    let said = workspace.run(["plan", "it", "--set", set]).expect(2).stderr;
    assert!(said.contains("statements[1].sql"), "{said}");
    assert!(said.contains("begins with BEGIN"), "{said}");
}

#[test]
fn places_for_files_that_name_nothing_are_refused() {
    let archive = |files: &str| {
        format!(
            "kind: archive\ntarget: app\noptions:\n  table: a\n  column: at\n  older_than: 9d\n  destination: {{ files: \"{files}\" }}\n"
        )
    };
    for (files, why) in [
        ("s3:///x", "it names no bucket"),
        ("s3://", "it names no bucket"),
        ("file:///", "it is the root of all folders"),
        ("file:////./", "it is the root of all folders"),
        ("file://srv", "the path is not absolute"),
        ("ftp://srv/x", "its scheme is unknown"),
        ("s3://b?y=1", "no bucket has `?`"),
        ("s3://b/x?region=eu", "nothing is set in it"),
        ("s3://b/a/../x", "`.` and `..` in it"),
        ("file:///srv/../etc", "`.` and `..` in it"),
    ] {
        for engine in ["postgres", "mongodb"] {
            let task = match engine {
                "postgres" => archive(files),
                _ => format!(
                    "kind: archive\ntarget: app\noptions:\n  rules:\n    - {{ collection: a, field: at, older_than: 9d }}\n  destination: {{ files: \"{files}\" }}\n"
                ),
            };
            let schedules = format!(
                "targets: {{ app: {{ engine: {engine}, url: '{engine}://localhost/app' }} }}\n"
            );
            let workspace = Workspace::new(&schedules).task("it", &task);
            let said = workspace.run(["check"]).expect(2);
            let all = format!("{}{}", said.stdout, said.stderr);
            assert!(
                all.contains(&format!("`{files}` is no place for files: {why}")),
                "{engine} {files}: {said:#?}"
            );
        }
    }
    let schedules = "targets: { app: { engine: postgres, url: 'postgres://localhost/app' } }\n";
    let workspace = Workspace::new(schedules).task("it", &archive("s3://key:geheim@b/x"));
    let said = workspace.run(["check"]).expect(2);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(all.contains("AWS_SECRET_ACCESS_KEY"), "{all}");
    let before = all.split("destination:").next().unwrap();
    assert!(!before.contains("geheim"), "{all}");
    for files in ["s3://b", "file:///srv"] {
        let workspace = Workspace::new(schedules).task("it", &archive(files));
        workspace.run(["check"]).expect(0);
    }
}

/// What is one click away is said, as it is to be written.
#[test]
fn what_was_meant_is_said() {
    let hints = |schedules: &str, task: &str| {
        let workspace = Workspace::new(schedules).task("it", task);
        let said = workspace
            .run(["check", "--output", "json"])
            .expect(2)
            .json();
        said["problems"].to_string()
    };
    let app = "targets: { app: { engine: postgres, url: 'postgres://localhost/app' } }\n";
    for (task, hint) in [
        (
            "kind: cleanup\ntarget: app\noptions: { table: a, column: at, older_than: 1y }\n",
            "`rules: [{ table: … }]`",
        ),
        (
            "kind: cleanup\ntarget: app\noptions: { rules: [{ table: a, column: at, older_than: 1M }] }\n",
            "write `1mo` for months",
        ),
        (
            "kind: cleanup\ntarget: app\noptions: { rules: [{ table: a, column: at, older_than: 1 year }] }\n",
            "write `1y`",
        ),
        (
            "kind: analyze\ntarget: app\nlimits: { lock_timeout: '3000' }\n",
            "`3000ms` or `3000s`",
        ),
        (
            "kind: archive\ntarget: app\noptions: { table: a, column: at, older_than: 1y, destination: 'file:///tmp/x' }\n",
            "{ files: \\\"file:///tmp/x\\\" }",
        ),
        (
            "kind: archive\ntarget: app\noptions: { table: a, column: at, older_than: 1y, destination: { files: /tmp/x } }\n",
            "it is a path; write `file://` before it",
        ),
    ] {
        let said = hints(app, task);
        assert!(said.contains(hint), "{hint}: {said}");
    }
    let said = hints(
        "targets: { app: { engine: postgres, url: 'me:pw@host/db' } }\n",
        "kind: analyze\ntarget: app\n",
    );
    assert!(
        said.contains("it has to begin with `postgres://`") && !said.contains("pw@"),
        "{said}"
    );
    let said = hints(
        "history: mysql:maint\ntargets: { app: { engine: postgres, url: 'postgres://h/d' } }\n",
        "kind: analyze\ntarget: app\n",
    );
    assert!(
        said.contains("it has to begin with `sqlite:` or `postgres://`"),
        "{said}"
    );
}

/// Where there is no history yet, there is no such run: nothing is out of reach.
#[test]
fn without_a_history_there_is_no_such_run() {
    let workspace =
        Workspace::new("targets: { app: { engine: postgres, url: 'postgres://localhost/app' } }\n");
    for args in [
        ["show", "nope"].as_slice(),
        &["cancel", "nope"],
        &["archive", "restore", "nope"],
    ] {
        workspace.run(args.iter().copied()).expect(2);
    }
}
