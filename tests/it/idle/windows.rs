//! What is due waits for its window: that is no neglect, and is not forgotten.

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use super::{NOWHERE, told};
use crate::support::workspace::Workspace;

/// A schedule that was due so long ago, with a window between these offsets from now; known for a day.
async fn due(ago: TimeDelta, from: TimeDelta, to: TimeDelta) -> (Workspace, DateTime<Utc>) {
    let now = Utc::now();
    let at = (now - ago)
        .with_second(0)
        .unwrap()
        .with_nanosecond(0)
        .unwrap();
    let clock = |offset: TimeDelta| (now + offset).format("%H:%M");
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{NOWHERE}\" }}\n\
         schedules:\n  win: {{ cron: \"{} {} * * *\", tasks: [analyze], window: \"{}-{}\" }}\n",
        at.minute(),
        at.hour(),
        clock(from),
        clock(to)
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    workspace.known_since(now - TimeDelta::days(1)).await;
    (workspace, at)
}

#[tokio::test]
async fn what_waits_for_its_window_is_ahead_and_not_overdue() {
    let hours = TimeDelta::hours;
    let (workspace, at) = due(TimeDelta::minutes(30), hours(2), hours(3)).await;
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["overdue"].as_array().unwrap().len(), 0, "{next:#}");
    let first = &next["next"][0];
    assert_eq!(first["schedule"], "win", "{next:#}");
    let time =
        |value: &serde_json::Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(time(&first["at"]), at, "{next:#}");
    let waits = time(&first["waits_until"]) - Utc::now();
    assert!(waits > hours(1) && waits < hours(3), "{next:#}");
    let shown = workspace.run(["next"]).expect(0).stdout;
    assert_eq!(
        shown.matches("waits for its window until").count(),
        2,
        "{shown}"
    );
    let (status, ..) = told(&workspace);
    assert!(!status.contains("win"), "{status}");
}

#[tokio::test]
async fn a_window_that_nobody_used_is_told_as_that() {
    let minutes = TimeDelta::minutes;
    let (workspace, at) = due(minutes(120), minutes(-121), minutes(-60)).await;
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["overdue"][0]["schedule"], "win", "{next:#}");
    let (status, report, _) = told(&workspace);
    let text =
        "schedule win was due, nobody began it while its window was open, and it waits until";
    assert!(
        status.contains(text) && report.contains(text),
        "{status}\n{report}"
    );
    assert!(!status.contains("nobody has looked"), "{status}");
    let shown = workspace.run(["next"]).expect(0).stdout;
    assert!(
        shown.contains("not begun while its window was open"),
        "{at} {shown}"
    );
}
