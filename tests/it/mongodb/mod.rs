//! MongoDB: a real set of three members with TLS and passwords.

mod archive;
mod cleanup;
mod connecting;
mod failover;
mod kinds;

use serde_json::Value;

use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

fn workspace(url: &str) -> Workspace {
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{url}\" }}\n"
    ))
}

fn for_base(base: &TestBase) -> Workspace {
    workspace(&base.url())
}

/// Runs one task now, and gives its run.
#[track_caller]
fn run(workspace: &Workspace, task: &str, code: i32) -> Value {
    let output = workspace
        .run(["run", task, "--now", "--output", "json"])
        .expect(code);
    output.json()["runs"][0].clone()
}

/// Actions and objects of the steps with this status.
fn steps(run: &Value, status: &str) -> Vec<String> {
    run["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["status"] == status)
        .map(|s| {
            format!(
                "{} {}",
                s["action"].as_str().unwrap(),
                s["object"].as_str().unwrap()
            )
        })
        .collect()
}

/// Codes of the findings, sorted.
fn codes(run: &Value) -> Vec<String> {
    let mut codes: Vec<String> = run["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort();
    codes
}
