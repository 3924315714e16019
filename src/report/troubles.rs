//! What failed or had to wait, each cause once. Pure.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::model::TroubleLine;
use super::telling::{error_text, sqlstate};
use super::text::{counted, shell_word, shown};
use crate::history::Trouble;
use crate::values::natural;

/// What happened on several targets in the same way is told once.
pub(super) fn lines(troubles: Vec<Trouble>) -> Vec<TroubleLine> {
    let mut lines: Vec<TroubleLine> = Vec::new();
    for line in troubles.into_iter().map(trouble_line) {
        let same = lines.iter_mut().find(|known| {
            let (a, b) = (&known.trouble, &line.trouble);
            // Without a cause nobody knows whether it is the same.
            a.error.is_some()
                && (&a.task, &a.action, &a.object, &a.error, a.failed)
                    == (&b.task, &b.action, &b.object, &b.error, b.failed)
                && a.blocker.is_none()
                && b.blocker.is_none()
                && a.target != b.target
        });
        match same {
            Some(known) => known.also_on.push(line.trouble.target),
            None => lines.push(line),
        }
    }
    for line in &mut lines {
        line.also_on.sort_by(|a, b| natural(a, b));
        line.also_on.dedup();
    }
    of_one_cause(lines)
}

/// What happened to several objects for the same cause is told once: nine tables behind one lock.
fn of_one_cause(lines: Vec<TroubleLine>) -> Vec<TroubleLine> {
    let mut told: Vec<TroubleLine> = Vec::new();
    let mut known: HashMap<Cause, usize> = HashMap::new();
    for line in lines {
        let Some(cause) = cause(&line) else {
            told.push(line);
            continue;
        };
        match known.get(&cause).and_then(|at| told.get_mut(*at)) {
            Some(first) => {
                first.trouble.times = first.trouble.times.max(line.trouble.times);
                // A second try at the same object is no other one.
                let object = line.trouble.object;
                if first.trouble.object != object && !first.also_objects.contains(&object) {
                    first.also_objects.push(object);
                }
            }
            None => {
                known.insert(cause, told.len());
                told.push(line);
            }
        }
    }
    for line in &mut told {
        line.also_objects.sort_by(|a, b| natural(a, b));
    }
    told
}

/// What makes two troubles the same but for the object: task, targets, action, how it ended, and
/// who was in the way, or else what the server said.
type Cause = (String, Vec<String>, String, (bool, bool), String);

fn cause(line: &TroubleLine) -> Option<Cause> {
    let trouble = &line.trouble;
    if trouble.object.is_empty() {
        return None;
    }
    let why = match (&trouble.blocker, &trouble.error) {
        (Some(wait), _) => format!(
            "pid {} {} {} {} {}",
            wait.blocker_pid,
            wait.blocker_user,
            wait.blocker_application,
            wait.blocker_state,
            wait.stepped_back
        ),
        // The same words about another object.
        (None, Some(error)) => without_name(error, &trouble.object),
        // Without a cause nobody knows whether it is the same.
        (None, None) => return None,
    };
    let mut targets = vec![trouble.target.clone()];
    targets.extend(line.also_on.iter().cloned());
    // Whoever is in the way is in the way of whatever is done there.
    let action = match trouble.blocker {
        Some(_) => String::new(),
        None => trouble.action.clone(),
    };
    Some((
        trouble.task.clone(),
        targets,
        action,
        (trouble.failed, trouble.left),
        why,
    ))
}

/// A message without the name of the object that it is about, with its schema or without.
fn without_name(error: &str, object: &str) -> String {
    let alone = object.rsplit('.').next().unwrap_or(object);
    let bare = alone.trim_matches('"');
    let mut text = error.replace(object, "…");
    for name in [format!("\"{bare}\""), format!("`{bare}`")] {
        text = text.replace(&name, "…");
    }
    text
}

fn trouble_line(mut trouble: Trouble) -> TroubleLine {
    let advice = advice(&trouble);
    trouble.error = trouble.error.as_deref().map(error_text);
    let command = format!(
        "maint run {} --target {} --now",
        shell_word(&trouble.task),
        shell_word(&trouble.target)
    );
    TroubleLine {
        trouble,
        also_on: Vec::new(),
        also_objects: Vec::new(),
        advice,
        command,
    }
}

fn advice(trouble: &Trouble) -> String {
    let error = trouble.error.as_deref().unwrap_or_default();
    match &trouble.blocker {
        Some(wait) if wait.blocker_state.starts_with("idle in transaction") => format!(
            "role {} ({}) held its lock without working: see why that transaction stays open, \
             or set idle_in_transaction_session_timeout",
            shown(&wait.blocker_user),
            application(&wait.blocker_application)
        ),
        Some(wait) => format!(
            "role {} ({}) was at work there: another hour may suit better",
            shown(&wait.blocker_user),
            application(&wait.blocker_application)
        ),
        // insufficient_privilege, whatever the language of the server.
        None if sqlstate(error) == Some("42501") => {
            "`maint doctor` says which privilege is missing".to_owned()
        }
        None if trouble.object.is_empty() => {
            format!("`maint show {}` has the details", short(trouble))
        }
        None => "remove the cause: the next run tries it again".to_owned(),
    }
}

fn application(name: &str) -> String {
    if name.is_empty() {
        "no application name".to_owned()
    } else {
        format!("application {}", shown(name))
    }
}

fn short(trouble: &Trouble) -> String {
    trouble.run.to_string().chars().take(13).collect()
}

/// What a run that succeeded has left undone, because somebody was in the way.
pub(super) fn left_behind(run: Uuid, troubles: &[TroubleLine]) -> Option<String> {
    let of_run = troubles
        .iter()
        .filter(|one| one.trouble.run == run && one.trouble.left);
    let mut objects: BTreeSet<&str> = BTreeSet::new();
    let mut who: Vec<String> = Vec::new();
    for line in of_run {
        objects.insert(&line.trouble.object);
        objects.extend(line.also_objects.iter().map(String::as_str));
        if let Some(wait) = &line.trouble.blocker {
            let (user, name) = (&wait.blocker_user, &wait.blocker_application);
            who.push(format!("role {} ({})", shown(user), application(name)));
        }
    }
    who.dedup();
    let who = match who.as_slice() {
        [] => "somebody".to_owned(),
        [one] => one.clone(),
        [one, others @ ..] => format!("{one} and {} more", others.len()),
    };
    (!objects.is_empty()).then(|| {
        format!(
            " left {} undone: {who} was in the way",
            counted(objects.len(), "object")
        )
    })
}
