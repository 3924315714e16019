//! Many notices as one message.

use chrono::{DateTime, Utc};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use uuid::Uuid;

use super::text::{counted, shell_word};
use crate::history::Notice;

/// The event of a changed configuration that `maint serve` does not take: about no task, and about
/// a machine in place of a target.
pub const REFUSED: &str = "refused";

/// Targets of one group told one by one before they are only counted.
const MOST_LINES: usize = 10;

/// What happened, grouped: an outage of forty shards is one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// In one sentence.
    pub headline: String,
    /// On which machine it was noticed.
    pub host: String,
    /// When this was written.
    pub made_at: DateTime<Utc>,
    /// How many notices it tells.
    pub notices: usize,
    /// The same thing of the same task together.
    pub groups: Vec<Group>,
    /// Where people reach the status page, without a slash at the end, if that is known.
    pub page_url: Option<String>,
}

/// The same thing of the same task, on several targets or several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What happened, in the words of `notify: on:`.
    pub event: String,
    /// To which task.
    pub task: String,
    /// In one sentence.
    pub headline: String,
    /// How many notices.
    pub count: usize,
    /// Where, as many as are told one by one.
    pub lines: Vec<Line>,
    /// How many more there are.
    pub more: usize,
    /// The command that tries again, or says what is wrong; empty where there is none.
    pub command: String,
}

/// One notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// On which target.
    pub target: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Which run, if there was one.
    pub run: Option<Uuid>,
    /// What happened, in a sentence, or several.
    pub text: String,
    /// The same, one thing after the other: a line for each.
    pub texts: Vec<String>,
    /// The page of the run, where there is one and people can reach it.
    pub url: Option<String>,
}

impl Digest {
    /// Puts notices of the same event and task together.
    pub fn of(notices: &[Notice], host: &str, made_at: DateTime<Utc>) -> Digest {
        let mut groups: Vec<Group> = Vec::new();
        for (n, notice) in notices.iter().enumerate() {
            // Two processes with the same files notice the same.
            let same = |other: &Notice| {
                let of = |one: &Notice| (one.run, one.at);
                (of(other) == of(notice) || notice.event == REFUSED)
                    && (&other.event, &other.task, &other.target, &other.text)
                        == (&notice.event, &notice.task, &notice.target, &notice.text)
            };
            if notices.iter().take(n).any(same) {
                continue;
            }
            let line = Line {
                target: notice.target.clone(),
                at: notice.at,
                run: notice.run,
                text: notice.text.replace('\n', " "),
                texts: notice.text.split('\n').map(str::to_owned).collect(),
                url: None,
            };
            let same =
                |group: &&mut Group| group.event == notice.event && group.task == notice.task;
            let group = match groups.iter_mut().find(same) {
                Some(group) => group,
                None => {
                    groups.push(Group {
                        event: notice.event.clone(),
                        task: notice.task.clone(),
                        headline: String::new(),
                        count: 0,
                        lines: Vec::new(),
                        more: 0,
                        command: String::new(),
                    });
                    let Some(group) = groups.last_mut() else {
                        continue;
                    };
                    group
                }
            };
            group.count += 1;
            if group.lines.len() < MOST_LINES {
                group.lines.push(line);
            } else {
                group.more += 1;
            }
        }
        for group in &mut groups {
            let targets: std::collections::BTreeSet<&str> = notices
                .iter()
                .filter(|one| one.event == group.event && one.task == group.task)
                .map(|one| one.target.as_str())
                .collect();
            let place = match targets.first() {
                Some(only) if targets.len() == 1 => (*only).to_owned(),
                _ if group.event == REFUSED => counted(targets.len(), "machine"),
                _ => counted(targets.len(), "target"),
            };
            group.headline = match group.event.as_str() {
                REFUSED => format!("the changed configuration was refused on {place}"),
                event => format!("{} {} on {place}", group.task, said(event)),
            };
            if group.event == REFUSED {
                group.command = "maint check".to_owned();
            }
            if matches!(
                group.event.as_str(),
                "failed" | "partial" | "interrupted" | "escalated"
            ) {
                group.command = match targets.first() {
                    Some(only) if targets.len() == 1 => format!(
                        "maint run {} --target {} --now",
                        shell_word(&group.task),
                        shell_word(only)
                    ),
                    _ => format!("maint run {} --now", shell_word(&group.task)),
                };
            }
        }
        let headline = match &groups[..] {
            [] => String::new(),
            [only] => only.headline.clone(),
            [first, others @ ..] => {
                format!("{}, and {}", first.headline, more_things(others.len()))
            }
        };
        Digest {
            headline,
            host: host.to_owned(),
            made_at,
            notices: notices.len(),
            groups,
            page_url: None,
        }
    }

    /// With links to the runs, where it is known how people reach the status page.
    #[must_use]
    pub fn linked_to(mut self, page_url: Option<&str>) -> Digest {
        self.page_url = page_url.map(str::to_owned);
        for line in self.groups.iter_mut().flat_map(|group| &mut group.lines) {
            let run = page_url.zip(line.run);
            line.url = run.map(|(page, run)| format!("{page}/runs/{run}"));
        }
        self
    }

    pub(super) fn context(&self) -> Value {
        context! { digest => Value::from(Serde(self)) }
    }
}

fn more_things(n: usize) -> String {
    match n {
        1 => "one more thing".to_owned(),
        n => format!("{n} more things"),
    }
}

/// An event as the end of a sentence that begins with a task.
fn said(event: &str) -> &str {
    match event {
        "partial" => "failed in part",
        "incomplete" => "left work for the next run",
        "interrupted" => "was interrupted",
        "missed" => "did not run",
        "warning" => "found something",
        "critical" => "found something critical",
        "escalated" => "keeps failing",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(event: &str, target: &str) -> Notice {
        Notice {
            id: Uuid::nil(),
            at: DateTime::<Utc>::MIN_UTC,
            event: event.to_owned(),
            task: "analyze".to_owned(),
            target: target.to_owned(),
            schedule: None,
            run: None,
            text: "out of reach".to_owned(),
        }
    }

    #[test]
    fn a_refused_configuration_is_told_once_for_each_machine() {
        let mut notices = vec![notice(REFUSED, "a"), notice(REFUSED, "a")];
        for one in &mut notices {
            one.task.clear();
        }
        notices[1].at += chrono::TimeDelta::seconds(2);
        let digest = Digest::of(&notices, "h", DateTime::<Utc>::MIN_UTC);
        let expected = "the changed configuration was refused on a";
        assert_eq!(digest.headline, expected);
        assert_eq!((digest.groups.len(), digest.groups[0].count), (1, 1));
        assert_eq!(digest.groups[0].command, "maint check");
        notices[1].target = "b".to_owned();
        let digest = Digest::of(&notices, "h", DateTime::<Utc>::MIN_UTC);
        assert_eq!(digest.headline, expected.replace(" a", " 2 machines"));
        assert_eq!(digest.groups[0].count, 2);
    }

    #[test]
    fn forty_shards_are_one_group() {
        let mut notices: Vec<Notice> = (0..40)
            .map(|n| notice("failed", &format!("shard_{n}")))
            .collect();
        notices.push(notice("critical", "app"));
        let digest = Digest::of(&notices, "h", DateTime::<Utc>::MIN_UTC);
        assert_eq!(
            digest.headline,
            "analyze failed on 40 targets, and one more thing"
        );
        let [shards, app] = &digest.groups[..] else {
            unreachable!("{digest:?}");
        };
        assert_eq!(
            (shards.count, shards.lines.len(), shards.more),
            (40, 10, 30)
        );
        assert_eq!(shards.command, "maint run analyze --now");
        assert_eq!(app.headline, "analyze found something critical on app");
        assert_eq!(app.command, "");
    }
}
