//! Tasks that several schedules have.

use chrono::{TimeDelta, Utc};

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Each schedule does what it has, in its order, at a time that is another's, too.
#[tokio::test]
async fn schedules_that_are_due_at_one_time_each_do_all_they_have() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE done (n int GENERATED ALWAYS AS IDENTITY, task text)")
        .await;
    let task = |name: &str| {
        format!(
            "kind: sql\ntarget: app\noptions: {{ statements: [{{ name: {name}, sql: \"INSERT INTO public.done (task) VALUES ('{name}')\" }}] }}\n"
        )
    };
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n\
         schedules:\n  daily: {{ cron: \"0 2 * * *\", tasks: [stats] }}\n  \
         weekly: {{ cron: \"0 2 * * *\", tasks: [fill, stats], after: [daily] }}\n",
        db.url
    ))
    .task("stats", &task("stats"))
    .task("fill", &task("fill"));
    workspace.known_since(Utc::now() - TimeDelta::days(1)).await;

    let due = workspace
        .run(["run", "--due", "--output", "json"])
        .expect(0)
        .json();
    let of: Vec<&str> = due["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["schedule"].as_str().unwrap())
        .collect();
    assert_eq!(of, ["daily", "weekly", "weekly"], "{due:#}");
    let done = "SELECT task FROM done ORDER BY n";
    assert_eq!(db.strings(done).await, ["stats", "fill", "stats"]);
    let again = workspace.run(["run", "--due"]).expect(0);
    assert_eq!(again.stdout, "nothing is due\n");
    // Whoever asks for one of them by its name is told that it ran.
    let plain = workspace.run(["run", "stats"]).expect(0);
    assert!(plain.stderr.contains("ran already"), "{plain:#?}");
    assert_eq!(db.strings(done).await.len(), 3);
}
