//! Targets that a command lists, asked for again and again.

use super::{Served, TASK, wait_until};
use crate::support::workspace::Workspace;

#[test]
fn what_a_command_lists_is_asked_for_again_and_kept_where_it_fails() {
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let yaml = format!(
        "history: sqlite:{}\ntargets: {{}}\n\
         targets_from:\n  - {{ command: [sh, list.sh], engine: postgres, every: 1s }}\n\
         groups: {{ app: [\"shard_*\"] }}\nschedules: {{ daily: {{ cron: \"0 0 * * *\", tasks: [analyze] }} }}\n",
        workspace.history().display()
    );
    let shard = |n: u32| format!("echo 'shard_{n}: {{ url: \"postgres://127.0.0.1:1/none\" }}'\n");
    workspace.file("schedules.yaml", &yaml);
    workspace.file("list.sh", &shard(1));
    let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));
    let knows = |n: u32| {
        let of = format!("maint_task_period_seconds{{task=\"analyze\",target=\"shard_{n}\"}}");
        served.get("/metrics").1.contains(&of)
    };
    assert!(knows(1) && !knows(2));
    workspace.file("list.sh", &(shard(1) + &shard(2)));
    wait_until("the second one is known", || knows(2));
    workspace.file("list.sh", "echo x >> failed; echo away >&2; exit 1\n");
    wait_until("the command has failed twice", || {
        let failed = std::fs::read_to_string(workspace.path().join("failed"));
        failed.is_ok_and(|failed| failed.lines().count() > 1)
    });
    assert!(knows(1) && knows(2));
    assert_eq!(served.get("/healthz").0, 200);
    workspace.file("list.sh", &(shard(1) + &shard(3)));
    wait_until("the third one is known", || knows(3));
    assert!(!knows(2));
    let taken = served.metric("maint_configuration_reloads_total{outcome=\"taken\"}");
    assert_eq!(taken, 2.0, "an answer like the one before is no news");
    let (code, said) = served.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("the targets known so far are kept") && said.contains("it said: away"),
        "{said}"
    );
}
