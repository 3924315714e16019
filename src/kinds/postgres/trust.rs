//! Leaves alone what would run code of others with our rights, and says whose
//! it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{self, Code, Standing, Touch};
use crate::plan::{Finding, Place, Plan, Severity, Site, Step};

/// More pieces of code than this are counted, not told one by one.
const MOST_TOLD: usize = 5;
/// So many tables with the same code are told one by one; more, such as
/// partitions, together.
const MOST_ALONE: usize = 10;

/// Asks about the relations of a task, in one question.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn read(
    site: &Site<Session>,
    relations: impl IntoIterator<Item = u32>,
) -> Result<Standing, EngineError> {
    let relations: BTreeSet<u32> = relations.into_iter().collect();
    let relations: Vec<u32> = relations.into_iter().collect();
    trust::read(&site.primary, &relations, &site.trust_owners).await
}

/// What is left alone because of the same code.
#[derive(Default)]
struct Refused {
    /// The objects, each with the code.
    objects: BTreeMap<String, Vec<String>>,
    owners: BTreeSet<String>,
}

/// Takes the steps out of the plan that would run code which is not trusted,
/// with those that need them, and tells so. What stays and touches tables of
/// owners who are not trusted is guarded.
pub(super) fn heed(plan: &mut Plan, standing: &Standing) {
    let mut refused: BTreeMap<String, Refused> = BTreeMap::new();
    let mut gone: BTreeSet<(String, String)> = BTreeSet::new();
    let mut kept = Vec::new();
    let mut so = Vec::new();
    for mut step in std::mem::take(&mut plan.steps) {
        let codes = standing.codes(&step.body.touches);
        if codes.is_empty() {
            guard(&mut step, standing);
            kept.push(step);
            continue;
        }
        note(&mut refused, step.object.clone(), &codes);
        so.extend(step.until_done);
        gone.insert((step.action, step.object));
    }
    while let Some(n) = kept.iter().position(|step: &Step| {
        let mut needs = step.needs.iter();
        needs.any(|need| gone.contains(&(need.action.clone(), need.object.clone())))
    }) {
        let step = kept.remove(n);
        so.extend(step.until_done);
        gone.insert((step.action, step.object));
    }
    plan.steps = kept;
    for finding in so {
        plan.undone(finding);
    }
    tell(plan, refused, standing);
}

/// Tells of tables that are left alone, before any step is planned for them.
/// Whether `relation` is one of them.
pub(super) fn refuses(
    plan: &mut Plan,
    standing: &Standing,
    touches: &[Touch],
    object: &str,
) -> bool {
    let codes = standing.codes(touches);
    if codes.is_empty() {
        return false;
    }
    let mut refused = BTreeMap::new();
    note(&mut refused, object.to_owned(), &codes);
    tell(plan, refused, standing);
    true
}

fn guard(step: &mut Step, standing: &Standing) {
    step.body.guard = standing.guard_with(&step.body.touches, &step.body.named);
    if step.body.guard.is_some() && step.place != Place::Primary {
        // A standby cannot keep the primary from changing a definition.
        step.place = Place::Primary;
        if let crate::plan::Work::Check(check) = &mut step.body.work {
            check.whereabouts.clear();
        }
    }
}

/// Partitions have copies of the same triggers and indexes: those are told together.
fn note(refused: &mut BTreeMap<String, Refused>, object: String, codes: &[&Code]) {
    let key: BTreeSet<String> = codes
        .iter()
        .map(|c| format!("{} {:?} {}", c.hook, c.function, c.owner))
        .collect();
    let key = key.into_iter().collect::<Vec<_>>().join(", ");
    let group = refused.entry(key).or_default();
    group.owners.extend(codes.iter().map(|c| c.owner.clone()));
    let codes = codes.iter().map(|c| c.text()).collect();
    group.objects.entry(object).or_insert(codes);
}

fn tell(plan: &mut Plan, refused: BTreeMap<String, Refused>, standing: &Standing) {
    for group in refused.into_values() {
        for object in group.objects.keys() {
            plan.refuse(
                object.clone(),
                "code of others would run with our rights; see the finding role.untrusted_code",
            );
        }
        if group.objects.len() > MOST_ALONE {
            if let Some((first, codes)) = group.objects.first_key_value() {
                let whom = format!("{first} and {} more left alone", group.objects.len() - 1);
                plan.findings
                    .push(finding((&whom, first), codes, &group.owners, standing));
            }
            continue;
        }
        // Of a table that is looked at in parts it is told once.
        let mut alike: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (object, codes) in group.objects {
            alike.entry(codes).or_default().push(object);
        }
        for (codes, objects) in alike {
            let Some((first, others)) = objects.split_first() else {
                continue;
            };
            let mut whom = format!("{first} left alone");
            if !others.is_empty() {
                whom.push_str(&format!(", with {}", others.join(", ")));
            }
            plan.findings
                .push(finding((&whom, first), &codes, &group.owners, standing));
        }
    }
}

/// One finding, of the first of the objects that it says are left alone.
fn finding(
    (whom, first): (&str, &str),
    all: &[String],
    owners: &BTreeSet<String>,
    standing: &Standing,
) -> Finding {
    let mut codes: Vec<&str> = all.iter().map(String::as_str).take(MOST_TOLD).collect();
    let more = format!("{} more", all.len().saturating_sub(MOST_TOLD));
    if all.len() > MOST_TOLD {
        codes.push(&more);
    }
    let role = if standing.superuser {
        format!("{}, a superuser", standing.role)
    } else {
        standing.role.clone()
    };
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    let owners = owners.join(", ");
    Finding {
        code: trust::FINDING.to_owned(),
        severity: Severity::Warning,
        object: first.to_owned(),
        message: format!(
            "{whom}: code of {owners} would run with the rights of {role}: {}. Two ways out: a task on a target whose URL connects as {owners}, or `trust_owners: [{owners}]` on the target, which lets {owners} do whatever {} may",
            codes.join("; "),
            standing.role
        ),
        suggestion: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::RelationName;
    use crate::engines::postgres::trust::Use;

    fn trigger(root: u32) -> Code {
        Code {
            root,
            table: RelationName::new("app", format!("t{root}")),
            via: "self".to_owned(),
            hook: "trigger".to_owned(),
            object: "hook".to_owned(),
            function: Some("app.f".to_owned()),
            owner: "mallory".to_owned(),
        }
    }

    #[test]
    fn refused_steps_take_with_them_what_needs_them() {
        let standing = Standing::with(vec![trigger(1), trigger(2)]);
        let step = |action: &str, n: u32| {
            Step::new(action, format!("app.t{n}"), "").touching(n, Use::Delete)
        };
        let mut plan = Plan {
            steps: vec![
                step("delete", 1),
                step("delete", 2),
                step("delete", 3),
                Step::new("drop", "app.t1", "").after("delete", "app.t1"),
                Step::new("tidy", "app.t1", "").after("drop", "app.t1"),
            ],
            ..Plan::default()
        };
        heed(&mut plan, &standing);
        let left: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
        assert_eq!(left, ["app.t3"]);
        assert_eq!(plan.refused.len(), 2);
        assert_eq!(plan.findings.len(), 2);
        let finding = &plan.findings[0];
        assert_eq!(finding.code, "role.untrusted_code");
        assert_eq!(
            finding.message,
            "app.t1 left alone: code of mallory would run with the rights of postgres, a superuser: \
             trigger hook of app.t1 calls app.f (code of mallory). Two ways out: a task on a target whose URL \
             connects as mallory, or `trust_owners: [mallory]` on the target, which lets mallory do whatever postgres may"
        );
    }

    #[test]
    fn what_is_looked_at_in_parts_is_told_once() {
        let standing = Standing::with(vec![trigger(1), trigger(2)]);
        let step = |object: &str, n| Step::new("delete", object, "").touching(n, Use::Delete);
        let mut plan = Plan {
            steps: vec![
                step("app.t1", 1),
                step("app.t1 (app.t1_far)", 1),
                step("app.t2", 2),
            ],
            ..Plan::default()
        };
        heed(&mut plan, &standing);
        let told: Vec<_> = plan
            .findings
            .iter()
            .map(|f| {
                (
                    f.object.as_str(),
                    f.message.split_once(':').map_or("", |m| m.0),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("app.t1", "app.t1 left alone, with app.t1 (app.t1_far)"),
                ("app.t2", "app.t2 left alone")
            ]
        );
        assert_eq!(plan.refused.len(), 3);
    }

    #[test]
    fn many_with_the_same_code_are_told_once() {
        let standing = Standing::with((1..=20).map(trigger).collect());
        let mut plan = Plan {
            steps: (1..=20)
                .map(|n| Step::new("delete", format!("app.t{n}"), "").touching(n, Use::Delete))
                .collect(),
            ..Plan::default()
        };
        heed(&mut plan, &standing);
        assert_eq!((plan.findings.len(), plan.refused.len()), (1, 20));
        assert!(
            plan.findings[0]
                .message
                .starts_with("app.t1 and 19 more left alone")
        );
    }

    #[test]
    fn reading_does_not_fire_triggers() {
        let standing = Standing::with(vec![trigger(1)]);
        let mut plan = Plan {
            steps: vec![Step::new("check", "app.t1", "").touching(1, Use::Read)],
            ..Plan::default()
        };
        heed(&mut plan, &standing);
        assert_eq!(plan.steps.len(), 1);
        assert!(plan.findings.is_empty());
    }
}
