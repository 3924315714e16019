//! Targets that come from a file of somebody else.

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

const SECRET: &str = "hunter2-of-the-inventory";

fn workspace(inventory: &str) -> Workspace {
    let workspace = Workspace::new(
        "history: sqlite:maint.db\ntargets:\n  app: { engine: postgres, url: \"${APP}\" }\n\
         targets_from:\n  - { file: inventory.json, engine: postgres }\n\
         groups: { shards: [\"shard_*\"], everything: [app, shards] }\n",
    )
    .task("statistics", "kind: analyze\ntarget: shards\n")
    .env("APP", "postgres://127.0.0.1:1/app")
    .env("SHARD_2", "postgres://127.0.0.1:1/two");
    workspace.file("inventory.json", inventory);
    workspace
}

#[tokio::test]
async fn targets_of_a_file_are_targets_like_any_other() {
    let (one, two) = (fresh_database(17).await, fresh_database(17).await);
    for db in [&one, &two] {
        db.execute("CREATE TABLE t AS SELECT n FROM pg_catalog.generate_series(1, 1000) n")
            .await;
    }
    let workspace = workspace(&format!(
        "[{{\"name\": \"shard_10\", \"url\": \"{}\"}},\n {{\"name\": \"shard_2\", \"url\": \"${{SHARD_2}}\"}},\n \
         {{\"name\": \"other\", \"engine\": \"mongodb\", \"url\": \"mongodb://127.0.0.1:1/x\"}}]\n",
        one.url
    ))
    .env("SHARD_2", &two.url);
    let checked = workspace.run(["check"]).expect(0);
    assert!(checked.stdout.contains("4 targets"), "{checked:?}");
    let said = workspace
        .run(["run", "statistics", "--now", "--output", "json"])
        .expect(0)
        .json();
    let ran: Vec<&str> = said["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["target"].as_str().unwrap())
        .collect();
    assert_eq!(ran, ["shard_2", "shard_10"]);
    let analyzed =
        "SELECT count(DISTINCT tablename) FROM pg_catalog.pg_stats WHERE schemaname = 'public'";
    assert_eq!(one.number(analyzed).await, 1);
    assert_eq!(two.number(analyzed).await, 1);
    // Whoever joins the inventory is in the group.
    workspace.file(
        "inventory.json",
        &format!(
            "shard_2:\n  url: \"{}\"\nshard_3: {{ url: \"{}\" }}\n",
            two.url, one.url
        ),
    );
    let said = workspace
        .run(["run", "statistics", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(said["runs"][1]["target"], "shard_3");
}

#[test]
fn what_is_wrong_is_said_at_its_place_and_no_secret_is_shown() {
    let url = format!("postgres://maint:{SECRET}@db.example.com/x");
    for (inventory, expected) in [
        (
            format!("shard_1: {{ url: \"{url}\", sise: 3 }}\n"),
            "inventory.json:1:",
        ),
        (
            format!("- {{ url: \"{url}\" }}\n"),
            "a target without a name",
        ),
        (
            format!(
                "- {{ name: shard_1, url: \"{url}\" }}\n- {{ name: shard_1, url: \"{url}\" }}\n"
            ),
            "inventory.json:2:11: the target `shard_1` is there twice",
        ),
        (
            format!("app: {{ url: \"{url}\" }}\nshard_1: {{ url: \"{url}\" }}\n"),
            "the target `app` is there twice",
        ),
        (
            format!("shard_1: \"{url}\"\n"),
            "`targets.shard_1` must be a mapping",
        ),
        (
            format!("shard_1: {{ url: \"http://maint:{SECRET}@x\" }}\n"),
            "`targets.shard_1.url` is not a URL that fits",
        ),
        (
            format!("\"{url}\"\n"),
            "expected a mapping of names to targets, or a list of targets",
        ),
        (
            "shard_1: { url: \"${NOT_SET}\" }\n".to_owned(),
            "the environment variable `NOT_SET` is not set",
        ),
        (
            "shard_1: { url: \"file:nowhere\" }\n".to_owned(),
            "inventory.json:1:",
        ),
        ("{ \"shard_1\": {\n".to_owned(), "not valid YAML"),
        (
            "\nshard_1: { max_connections: 9 }\n".to_owned(),
            "inventory.json:2:10: the target `shard_1` has no `url`",
        ),
        (
            "- { name: shard_1, databases: [\"*\"] }\n".to_owned(),
            "the target `shard_1` has no `url`",
        ),
        (
            String::new(),
            "inventory.json:1:1: there is nothing in it: expected targets, or `[]` for none",
        ),
        (
            "# being written\n".to_owned(),
            "there is nothing in it: expected targets, or `[]` for none",
        ),
        (
            "{}\n".to_owned(),
            "`shard_*` in group `shards` matches no target",
        ),
    ] {
        let said = workspace(&inventory).run(["check"]).expect(2);
        assert!(
            said.stderr.contains(expected),
            "{inventory}\n{}",
            said.stderr
        );
        assert!(!said.stderr.contains(SECRET), "{}", said.stderr);
    }
    let workspace = workspace("{}");
    std::fs::remove_file(workspace.path().join("inventory.json")).unwrap();
    let said = workspace.run(["check"]).expect(2);
    assert!(
        said.stderr
            .contains("inventory.json: cannot be read: it does not exist"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr
            .contains("`targets_from` in schedules.yaml names it"),
        "{}",
        said.stderr
    );
}

#[test]
fn an_inventory_goes_where_the_configuration_goes() {
    let schedules = |file: &str| {
        format!(
            "history: \"${{HISTORY}}\"\ntargets: {{}}\ntargets_from:\n  - {{ file: {file}, engine: postgres }}\n\
             groups: {{ shards: [\"shard_*\"] }}\nschedules:\n  nightly: {{ cron: \"0 2 * * *\", tasks: [statistics] }}\n"
        )
    };
    let workspace = Workspace::new(&schedules("lists/shards.yaml"))
        .task("statistics", "kind: analyze\ntarget: shards\n")
        .env("HISTORY", "postgres://db.example.com/history")
        .env("SHARD_1", "postgres://db.example.com/one");
    workspace.file("lists/shards.yaml", "shard_1: { url: \"${SHARD_1}\" }\n");
    let exported = workspace.run(["export", "kubernetes"]).expect(0);
    assert!(
        exported.stdout.contains("shard_1: { url:"),
        "{}",
        exported.stdout
    );
    assert!(
        exported.stdout.contains("lists/shards.yaml"),
        "{}",
        exported.stdout
    );
    assert!(
        !exported.stdout.contains("db.example.com/one"),
        "{}",
        exported.stdout
    );
    // A ConfigMap is no place for a password.
    let secret = format!("shard_1: {{ url: \"postgres://maint:{SECRET}@db.example.com/one\" }}\n");
    workspace.file("lists/shards.yaml", &secret);
    let refused = workspace.run(["export", "kubernetes"]).expect(2);
    assert!(
        refused
            .stderr
            .contains("lists/shards.yaml holds a password"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains(SECRET), "{}", refused.stderr);
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("shards.yaml");
    std::fs::write(&path, "shard_1: { url: \"${SHARD_1}\" }\n").unwrap();
    workspace.file("schedules.yaml", &schedules(path.to_str().unwrap()));
    workspace.run(["check"]).expect(0);
    let refused = workspace.run(["export", "kubernetes"]).expect(2);
    assert!(
        refused
            .stderr
            .contains("is not in the folder of schedules.yaml"),
        "{}",
        refused.stderr
    );
}
