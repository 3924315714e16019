//! `maint run` without `--now`: inside the window, once per occurrence.

use chrono::{TimeDelta, Timelike, Utc};

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// A window around now, or one that opens in an hour.
fn window(open: bool) -> String {
    let now = Utc::now();
    let (from, to) = if open {
        (now - TimeDelta::minutes(30), now + TimeDelta::minutes(90))
    } else {
        (now + TimeDelta::minutes(60), now + TimeDelta::minutes(120))
    };
    format!(
        "{:02}:{:02}-{:02}:{:02}",
        from.hour(),
        from.minute(),
        to.hour(),
        to.minute()
    )
}

fn workspace(url: &str, schedule: &str, task: &str) -> Workspace {
    Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n\
         schedules:\n  yearly: {{ cron: \"0 0 1 1 *\", tasks: [analyze], window: \"{schedule}\" }}\n"
    ))
    .task("analyze", &format!("kind: analyze\ntarget: app\nwindow: \"{task}\"\n"))
}

#[tokio::test]
async fn an_occurrence_runs_once_and_only_inside_both_windows() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    for (schedule, task) in [(false, true), (true, false)] {
        let outside = workspace(&db.url, &window(schedule), &window(task))
            .run(["run", "analyze"])
            .expect(4);
        assert!(
            outside
                .stderr
                .contains("analyze: not started: outside its window"),
            "{outside:#?}"
        );
        assert!(
            outside.stderr.contains("which opens next at"),
            "{outside:#?}"
        );
        assert!(
            outside.stderr.contains("`--now` runs it at once"),
            "{outside:#?}"
        );
    }
    let inside = workspace(&db.url, &window(true), &window(true));
    let first = inside
        .run(["run", "analyze", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(first["runs"][0]["steps"][0]["object"], "public.t");
    assert!(
        first["runs"][0]["scheduled_for"]
            .as_str()
            .unwrap()
            .ends_with("-01-01T00:00:00Z")
    );
    let second = inside.run(["run", "analyze"]).expect(0);
    assert!(second.stderr.contains("the occurrence of"), "{second:#?}");
    assert!(
        second.stderr.contains("ran already: succeeded"),
        "{second:#?}"
    );
    // Whoever says so runs it again, whatever the schedule says.
    inside.run(["run", "analyze", "--now"]).expect(0);
    let runs = inside.run(["history", "--output", "json"]).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_target_out_of_reach_is_told_and_recorded() {
    let workspace = Workspace::for_target("postgres://app:geheim@127.0.0.1:1/app?sslmode=disable")
        .task("analyze", "kind: analyze\ntarget: app\n");
    let ran = workspace.run(["run", "analyze", "--now"]).expect(3);
    assert!(ran.stdout.contains("127.0.0.1:1"), "{ran:#?}");
    assert!(
        !ran.stdout.contains("geheim") && !ran.stderr.contains("geheim"),
        "{ran:#?}"
    );
    let runs = workspace.run(["history", "--output", "json"]).json();
    assert_eq!(runs["runs"][0]["status"], "failed");
}
