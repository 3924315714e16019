//! Rows that could go, as rules of a task.

use chrono_tz::Tz;

use super::super::growing;
use super::{Facts, MOST_NAMES, names, on_its_way_out, shown_name};
use crate::init::{Draft, DraftTask, Left};
use crate::values::wall_clock;

/// Rows that could go. Never enabled: whether they may is for people to say.
pub(super) fn cleanup(draft: &mut Draft, facts: &Facts, zone: Tz) -> bool {
    let now = wall_clock();
    let mut task = DraftTask::new(
        "cleanup",
        "cleanup",
        "Rows that nobody needs any more. Not enabled: whether they may go, and when, is yours to say. Take out what has to stay, set `older_than`, look at `maint run cleanup --dry-run`, then remove `enabled: false`.",
    )
    .within("budget: 1h");
    task.enabled = false;
    task.options.push("rules:".to_owned());
    let mut rules = 0;
    for table in facts.tables.iter().filter(|table| growing::grows(table)) {
        let name = shown_name(&table.name);
        if table.on_its_way_out {
            draft.left.push(on_its_way_out(name, "grows"));
            continue;
        }
        let Some(rule) = growing::rule(table, now) else {
            draft.left.push(Left {
                place: name,
                text: "grows".to_owned(),
                reason: "no column says when a row came to be".to_owned(),
            });
            continue;
        };
        if !table.referenced_by.is_empty() {
            draft.left.push(Left {
                place: name,
                text: "grows".to_owned(),
                reason: format!(
                    "foreign keys point at it, from {}: its rows go with a rule of your own",
                    names(&table.referenced_by)
                ),
            });
            continue;
        }
        rules += 1;
        if rules > MOST_NAMES {
            continue;
        }
        for line in crate::init::yaml::comment(
            2,
            &crate::report::text::shown(&format!("{name}: {}", rule.why)),
        )
        .lines()
        {
            task.options.push(line.to_owned());
        }
        task.options
            .push(format!("  {}", growing::line(table, &rule, zone.name())));
    }
    if rules > MOST_NAMES {
        task.why.push(format!(
            "The {MOST_NAMES} largest of {rules} tables that grow and have a column of time."
        ));
    }
    if rules > 0 {
        draft.tasks.push(task);
    }
    rules > 0
}
