//! Targets that a command or a query lists.

use crate::support::patience::Patience;
use crate::support::servers::fresh_database;
use crate::support::workspace::{Output, Workspace};

const SECRET: &str = "hunter2-of-the-command";

const ANALYZED: &str =
    "SELECT count(DISTINCT tablename) FROM pg_catalog.pg_stats WHERE schemaname = 'public'";

/// Targets from there, a group of them, and a task on it.
fn from(source: &str) -> Workspace {
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  cmdb: {{ engine: postgres, url: \"${{CMDB}}\" }}\n\
         targets_from:\n  - {{ {source} }}\ngroups: {{ shards: [\"shard_*\"] }}\n"
    ))
    .task("statistics", "kind: analyze\ntarget: shards\n")
    .env("CMDB", "postgres://127.0.0.1:1/cmdb")
}

/// A program that is `sh` with this script.
fn command(script: &str) -> Workspace {
    let workspace =
        from("command: [sh, list.sh, \"$(touch hacked)\"], engine: postgres, time_limit: 20s");
    workspace.file("list.sh", script);
    workspace
}

fn ran(said: &Output) -> Vec<String> {
    let runs = said.json()["runs"].clone();
    let of = |run: &serde_json::Value| {
        assert_eq!(run["status"], "succeeded", "{run:#}");
        run["target"].as_str().unwrap().to_owned()
    };
    runs.as_array().unwrap().iter().map(of).collect()
}

const RUN: [&str; 5] = ["run", "statistics", "--now", "--output", "json"];

#[tokio::test]
async fn what_a_command_lists_is_worked_on() {
    let (one, two) = (fresh_database(17).await, fresh_database(17).await);
    for db in [&one, &two] {
        db.execute("CREATE TABLE t AS SELECT n FROM pg_catalog.generate_series(1, 1000) n")
            .await;
    }
    let first = format!(
        "echo '[{{\"name\": \"shard_1\", \"url\": \"{}\"}}'",
        one.url
    );
    let workspace =
        command(&format!("{first}']'\necho not of the answer >&2\n")).env("SHARD_2", &two.url);
    assert_eq!(ran(&workspace.run(RUN).expect(0)), ["shard_1"]);
    assert_eq!(
        (one.number(ANALYZED).await, two.number(ANALYZED).await),
        (1, 0)
    );
    assert!(
        !workspace.path().join("hacked").exists(),
        "a shell has read the arguments"
    );
    let script =
        format!("{first}\necho ', {{\"name\": \"shard_2\", \"url\": \"${{SHARD_2}}\"}}]'\n");
    workspace.file("list.sh", &script);
    assert_eq!(ran(&workspace.run(RUN).expect(0)), ["shard_1", "shard_2"]);
    assert_eq!(two.number(ANALYZED).await, 1);
    // A program of one's own folder.
    let workspace = from("command: [./list], engine: postgres");
    workspace.file(
        "list",
        &format!("#!/bin/sh\necho 'shard_9: {{ url: \"{}\" }}'\n", one.url),
    );
    let program = workspace.path().join("list");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let config = workspace.path().join("schedules.yaml");
    let elsewhere = tempfile::tempdir().unwrap();
    let said = workspace
        .command([
            "run",
            "statistics",
            "--now",
            "--config",
            config.to_str().unwrap(),
        ])
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(
        String::from_utf8_lossy(&said.stdout).contains("shard_9"),
        "{said:?}"
    );
}

#[tokio::test]
async fn what_a_query_answers_is_worked_on() {
    let cmdb = fresh_database(17).await;
    let (one, two) = (fresh_database(14).await, fresh_database(17).await);
    for db in [&one, &two] {
        db.execute("CREATE TABLE t AS SELECT n FROM pg_catalog.generate_series(1, 1000) n")
            .await;
    }
    cmdb.execute(&format!(
        "CREATE SCHEMA fleet;
         CREATE TABLE fleet.servers (name text, url text, databases text[], max_connections int, gone bool);
         INSERT INTO fleet.servers VALUES
            ('shard_1', '{}', NULL, NULL, false), ('shard_2', '${{SHARD_2}}', NULL, NULL, false),
            ('shard_3', 'postgres://127.0.0.1:1/none', NULL, NULL, true),
            ('server', '{}', ARRAY['*', '!template*'], 20, false)",
        one.url, two.url
    ))
    .await;
    let query = "SELECT name, url, databases, max_connections FROM fleet.servers WHERE NOT gone ORDER BY name -- all";
    let workspace = from(&format!(
        "query: \"{query}\", target: cmdb, engine: postgres"
    ))
    .env("CMDB", &cmdb.url)
    .env("SHARD_2", &two.url);
    assert_eq!(ran(&workspace.run(RUN).expect(0)), ["shard_1", "shard_2"]);
    assert_eq!(
        (one.number(ANALYZED).await, two.number(ANALYZED).await),
        (1, 1)
    );
    let checked = workspace.run(["check", "--connect"]).expect(0);
    assert!(checked.stdout.contains("4 targets"), "{checked:?}");
    // It can only read.
    cmdb.execute(
        "CREATE FUNCTION fleet.forget() RETURNS text LANGUAGE sql AS 'DELETE FROM fleet.servers RETURNING name'",
    )
    .await;
    let writes = from("query: \"SELECT fleet.forget() AS name\", target: cmdb, engine: postgres")
        .env("CMDB", &cmdb.url);
    let refused = writes.run(RUN).expect(2);
    assert!(
        refused.stdout.contains("read-only transaction"),
        "{refused:?}"
    );
    assert_eq!(cmdb.number("SELECT count(*) FROM fleet.servers").await, 4);
    // A row without an address is no target, whatever database the environment names.
    let elsewhere: url::Url = one.url.parse().unwrap();
    let lost = from("query: \"SELECT name, NULL::text AS url FROM fleet.servers WHERE name = 'shard_1'\", target: cmdb, engine: postgres")
        .env("CMDB", &cmdb.url)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", &elsewhere.port().unwrap().to_string())
        .env("PGUSER", elsewhere.username())
        .env("PGDATABASE", &one.name);
    let said = lost.run(["run", "statistics", "--now"]).expect(2);
    let expected = "error: rows of the query on `cmdb`:1:";
    assert!(
        said.stderr.contains(expected) && said.stderr.contains("the target `shard_1` has no `url`"),
        "{}",
        said.stderr
    );
    // What is wrong is said with its row, and without what is in it.
    cmdb.execute(&format!(
        "ALTER TABLE fleet.servers ADD sise int;
         UPDATE fleet.servers SET sise = 3, url = 'postgres://u:{SECRET}@h/d' WHERE name = 'shard_2'"
    ))
    .await;
    let wrong = from("query: \"SELECT name, url, sise FROM fleet.servers WHERE name LIKE 'shard%' ORDER BY name\", target: cmdb, engine: postgres")
        .env("CMDB", &cmdb.url);
    let said = wrong.run(["run", "statistics", "--now"]).expect(2);
    assert!(
        said.stderr
            .contains("error: rows of the query on `cmdb`:2:")
            && said
                .stderr
                .contains("unknown key `sise` in `targets.shard_2`"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains(SECRET), "{}", said.stderr);
    let said = from("query: \"SELECT nam FROM fleet.servers;\", target: cmdb")
        .env("CMDB", &cmdb.url)
        .run(["check", "--connect"])
        .expect(2);
    assert!(
        said.stderr
            .contains("schedules.yaml:5:5: `targets_from`: the query on `cmdb`")
            && said.stderr.contains("\"nam\" does not exist"),
        "{}",
        said.stderr
    );
    // Out of reach is not the same as wrong.
    let said = from("query: \"SELECT 1\", target: cmdb").run(RUN).expect(3);
    assert!(said.stdout.contains("the query on `cmdb`"), "{said:?}");
    let slow = from("query: \"SELECT pg_sleep(100)\", target: cmdb, time_limit: 1s")
        .env("CMDB", &cmdb.url);
    let said = slow.run(["run", "statistics", "--now"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("the query on `cmdb`"), "{said:?}");
}

#[test]
fn a_command_that_does_not_answer_is_told_without_secrets() {
    let large = "i=0; while [ $i -lt 40000 ]; do echo 'shard_1: { description: aaaaaaaaaaaaaaaa }'; i=$((i+1)); done";
    let url = format!("postgres://maint:{SECRET}@db.example.com/x");
    for (script, expected) in [
        (
            format!("echo 'no access to {url}' >&2; exit 3"),
            "ended with the exit code 3; it said: no access to postgres://maint:***",
        ),
        (
            "kill -9 $$".to_owned(),
            "was ended by the signal 9, and said nothing",
        ),
        (
            "true".to_owned(),
            "it wrote nothing: expected targets, or `[]`",
        ),
        (
            large.to_owned(),
            "the answer is larger than the 1 MB that are read",
        ),
        (
            "printf '\\377\\376'".to_owned(),
            "its output is not UTF-8 text",
        ),
        (
            format!(
                "echo 'ok: {{ url: \"{url}\" }}'; echo 'shard_1: {{ url: \"{url}\", sise: 3 }}'"
            ),
            "error: output of the command `sh`:2:",
        ),
        (
            format!("echo '{{ \"shard_1\": {{ \"url\": \"{url}\"'"),
            "not valid YAML",
        ),
        (
            "echo 'shard_1: { url: \"${NOT_SET}\" }'".to_owned(),
            "the environment variable `NOT_SET` is not set",
        ),
        (
            "echo '[]'".to_owned(),
            "`shard_*` in group `shards` matches no target",
        ),
    ] {
        let said = command(&script).run(["check", "--connect"]).expect(2);
        assert!(said.stderr.contains(expected), "{script}\n{}", said.stderr);
        assert!(!said.stderr.contains(SECRET), "{}", said.stderr);
    }
    let none = from("command: [no-such-program-of-ours, \"--token=hunter2\"]");
    let said = none
        .run(["check", "--connect", "--output", "json"])
        .expect(2);
    let problem = &said.json()["problems"][0];
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .contains("the command `no-such-program-of-ours`: cannot be started: No such file"),
        "{said:?}"
    );
    assert_eq!(problem["line"], 5);
    assert!(!said.stdout.contains("hunter2"), "{said:?}");
}

/// However a command is written, and whatever it says or answers: no secret of it is shown, in no form of output.
#[test]
fn arguments_and_answers_are_not_shown() {
    for source in [
        "command: './list --token hunter2', engine: postgres",
        "command: [./list, null, --token, hunter2], engine: postgres",
        "command: { run: hunter2 }, engine: postgres",
        "command: [./list, --token, hunter2], engine: postgres, time_limit: never",
        "command: [./list, hunter2], file: x.yaml",
    ] {
        for output in ["human", "json", "github", "junit", "sarif"] {
            let said = from(source).run(["check", "--output", output]).expect(2);
            let said = format!("{}{}", said.stdout, said.stderr);
            assert!(!said.contains("hunter2"), "{source} {output}: {said}");
        }
    }
    for script in [
        "echo 'Authorization: Bearer hunter2' >&2; exit 1",
        "echo 'X-Vault-Token: hunter2' >&2; exit 1",
        "echo '{\"token\":\"hunter2\"}' >&2; exit 1",
        "echo 'list --password hunter2' >&2; exit 1",
        "echo 'curl -u admin:hunter2' >&2; exit 1",
        "echo 'hello hunter2 world: ['",
        "echo '{\"a\":{\"databases\":\"hunter2\"}}'",
        "echo 'shard_1: hunter2'",
        "echo '- hunter2'",
        "echo '<html>hunter2</html>'",
    ] {
        for output in ["human", "json"] {
            let said = command(script).run(["check", "--connect", "--output", output]);
            let said = said.expect(2);
            let said = format!("{}{}", said.stdout, said.stderr);
            assert!(!said.contains("hunter2"), "{script} {output}: {said}");
            // Names that nobody could read may be there.
            let unread = script.contains("world: [");
            assert!(!(unread && said.contains("matches no target")), "{said}");
        }
        // Who only looks at the history goes on.
        let looked = command(script).run(["history"]).expect(0);
        assert!(looked.stderr.contains("note: "), "{script}: {looked:?}");
        assert!(!looked.stderr.contains("hunter2"), "{script}: {looked:?}");
    }
}

#[test]
fn a_command_that_does_not_end_is_ended_with_all_it_started() {
    let workspace = from("command: [sh, list.sh], engine: postgres, time_limit: 1s");
    workspace.file("list.sh", "sleep 3600 & echo $! > pid\nwait\necho '[]'\n");
    let said = workspace.run(["check", "--connect"]).expect(2);
    assert!(
        said.stderr
            .contains("did not end within 1s (`time_limit`), and was ended"),
        "{}",
        said.stderr
    );
    let pid = std::fs::read_to_string(workspace.path().join("pid")).unwrap();
    let there = std::path::Path::new("/proc").join(pid.trim()).join("stat");
    let patience = Patience::until("the end of what the command had started");
    // Ended, and perhaps not yet taken note of.
    while std::fs::read_to_string(&there).is_ok_and(|stat| !stat.contains(") Z ")) {
        patience.wait();
    }
}

#[test]
fn nobody_is_asked_by_who_only_reads_the_files() {
    let workspace = command(
        "touch asked\necho '[{\"name\": \"shard_1\", \"url\": \"postgres://127.0.0.1:1/x\"}]'\n",
    )
    .task("named", "kind: reindex\ntarget: shard_7\n");
    let asked = || workspace.path().join("asked").exists();
    let said = workspace.run(["check"]).expect(0);
    assert!(
        said.stdout.contains(
            "note: `targets_from`: the command `sh` was not asked; its targets, and names that may be theirs were not looked at"
        ),
        "{said:?}"
    );
    assert!(!asked());
    workspace.file(
        "tasks/named.yaml",
        "kind: reindex\ntarget: shard_7\noptions: { min_sise: 3 }\n",
    );
    let said = workspace.run(["check"]).expect(2);
    assert!(
        said.stderr.contains("unknown option `min_sise`"),
        "{said:?}"
    );
    assert!(!asked());
    workspace.file("tasks/named.yaml", "kind: reindex\ntarget: shard_7\n");
    let said = workspace.run(["check", "--connect"]).expect(2);
    assert!(said.stderr.contains("unknown target `shard_7`"), "{said:?}");
    assert!(asked());
    std::fs::remove_file(workspace.path().join("tasks/named.yaml")).unwrap();
    // Who looks at the history is not kept from it.
    workspace.file("list.sh", "echo away >&2; exit 1\n");
    let said = workspace.run(["history"]).expect(0);
    assert!(
        said.stderr.contains(
            "note: `targets_from`: the command `sh`: ended with the exit code 1; it said: away"
        ),
        "{said:?}"
    );
    workspace.run(RUN).expect(2);
}

#[test]
fn an_entry_says_one_thing() {
    for (source, expected) in [
        (
            "engine: postgres",
            "needs one of `file`, `command` and `query`",
        ),
        (
            "file: a.yaml, command: [b]",
            "has one of `file`, `command` and `query`; this one has 2",
        ),
        ("command: [b], target: cmdb", "`target` is for a query"),
        (
            "file: a.yaml, time_limit: 3s",
            "`time_limit` is for a command or a query",
        ),
        ("query: SELECT 1", "missing key `target` in `targets_from`"),
        ("query: SELECT 1, target: cmbd", "did you mean `cmdb`?"),
        ("command: []", "`targets_from.command` must not be empty"),
        ("command: list.sh", "`targets_from.command` must be a list"),
        ("command: [b], time_limit: soon", "`soon` is not a duration"),
    ] {
        let said = from(source).run(["check"]).expect(2);
        assert!(said.stderr.contains(expected), "{source}\n{}", said.stderr);
        assert!(said.stderr.contains("schedules.yaml:5:"), "{}", said.stderr);
    }
}
