//! No row is lost, doubled, or quietly left.

mod aftermath;
mod alone;
mod asleep;
mod back;
mod collide;
mod deferred;
mod doubled;
mod home;
mod itself;
mod large_objects;
mod leave;
mod many;
mod meanwhile;
mod proved;
mod published;
mod soft;
mod spared;
mod stay;
mod untold;
mod vanished;

use serde_json::{Value, json};

use crate::support::servers::TestDatabase;
use crate::support::workspace::Workspace;

/// A workspace with a task of this kind, and a second target `there`.
fn workspace(db: &TestDatabase, there: &TestDatabase, kind: &str, options: &Value) -> Workspace {
    let workspace = Workspace::for_target(&db.url).task(
        kind,
        &format!(
            "kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ lock_timeout: 5s, lock_retries: 2 }}\n"
        ),
    );
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  there: {{ engine: postgres, url: \"{}\" }}\n",
            db.url, there.url
        ),
    );
    workspace
}

fn cleanup(db: &TestDatabase, rules: &Value) -> Workspace {
    workspace(
        db,
        db,
        "cleanup",
        &json!({ "rules": rules, "batch_goal": "50ms" }),
    )
}

fn run(workspace: &Workspace, kind: &str, code: i32) -> Value {
    let output = workspace.run(["run", kind, "--now", "--output", "json"]);
    output.expect(code).json()["runs"][0].clone()
}

/// Runs it, however that ends.
fn attempt(workspace: &Workspace, kind: &str) -> Value {
    let output = workspace.run(["run", kind, "--now", "--output", "json"]);
    output.json()["runs"][0].clone()
}

fn finding<'a>(run: &'a Value, code: &str) -> &'a str {
    run["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap_or_else(|| panic!("no {code} in {run:#}"))["message"]
        .as_str()
        .unwrap()
}
