//! MongoDB: a real set of three members with TLS and passwords.

mod apart;
mod archive;
mod budget;
mod cleanup;
mod clocks;
mod connecting;
mod counted;
mod crowded;
mod cut_off;
mod disk;
mod doctor;
mod equal;
mod expiring;
mod failover;
mod files;
mod fleet;
mod halfway;
mod destinations;
mod kinds;
mod large_ids;
mod locked;
mod marks;
mod meanwhile;
mod misspelt;
mod never;
mod numbers;
mod orphans;
mod others;
mod recovering;
mod restored;
mod results;
mod rights;
mod saved_plan;
mod seldom;
mod sharded;
mod stalled;
mod throttle;
mod unreadable;
mod vanished;
mod whole_walks;
mod wholeness;

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

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

/// Runs a task, lets `meanwhile` happen once its plan is made and before anything
/// is done, and gives its run. The task has to be held up by `held`, a file in the workspace.
async fn run_with(workspace: &Workspace, task: &str, meanwhile: impl Future<Output = ()>) -> Value {
    workspace.file("held", "");
    let mut process = workspace.process(["run", task, "--now"]);
    let mut child = process
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (told, waits) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut seen = String::new();
        for line in lines.map_while(Result::ok) {
            if line.contains("paused: ") {
                let _ = told.send(());
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        seen
    });
    let held = waits.recv_timeout(Duration::from_secs(60));
    meanwhile.await;
    std::fs::remove_file(workspace.path().join("held")).unwrap();
    child.wait().unwrap();
    let seen = reader.join().unwrap();
    held.unwrap_or_else(|_| panic!("waited in vain until it is held up: {seen}"));
    workspace
        .run(["show", "last", "--output", "json"])
        .expect(0)
        .json()["runs"][0]
        .clone()
}
