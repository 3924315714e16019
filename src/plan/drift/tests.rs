//! What a saved plan is refused for, and in which words, from two plans alone.

use serde_json::json;

use super::*;
use crate::plan::doing::Doing;
use crate::plan::{Plan, Skip, Step};

fn step(object: &str, statement: &str, identity: Value) -> Step<Doing> {
    let mut step = Step::new("reindex", object, "lane").because("60% bloat");
    step.body = Doing(statement.to_owned(), identity);
    step
}

fn plan(steps: &[(&str, &str, u32)]) -> SavedPlan {
    let steps = steps
        .iter()
        .map(|(object, statement, id)| step(object, statement, json!(id)));
    of(steps.collect(), &[])
}

fn of(steps: Vec<Step<Doing>>, rows: &[i64]) -> SavedPlan {
    let plan = Plan {
        steps,
        ..Plan::default()
    };
    SavedPlan::of(
        ("weekly", "reindex", "app"),
        "7/app",
        (
            &json!({ "min_size": "10MB" }),
            &crate::values::Filled::default(),
        ),
        &plan.numbered(1),
        &(1..).zip(rows.iter().copied()).collect(),
    )
}

#[test]
fn what_a_step_relies_on_is_told_by_name() {
    let then = of(
        vec![step(
            "a",
            "x",
            json!({ "the index": "i", "the id of a": 1 }),
        )],
        &[10],
    );
    let now = of(vec![step("a", "x", json!({ "the id of a": 2 }))], &[120]);
    assert_eq!(
        then.drift(&now),
        [
            "reindex a: the id of a is 2, and was 1: another object has taken the name",
            "reindex a: the index is none, and was i"
        ]
    );
    let many = of(
        vec![step(
            "a",
            "x",
            json!({ "the index": "i", "the id of a": 1 }),
        )],
        &[121],
    );
    assert_eq!(
        then.drift(&many),
        [
            "reindex a: 121 would go, and 10 were to go when the plan was made: more than twice as many"
        ]
    );
}

/// Of what goes as a whole nobody counts the rows; what only becomes smaller may have grown.
#[test]
fn what_goes_as_a_whole_is_held_to_its_size() {
    let sized = |bytes, after| {
        let step = step("a", "x", json!(1)).expecting(bytes, after);
        of(vec![step], &[])
    };
    let then = sized(1 << 20, Some(0));
    assert_eq!(then.drift(&sized(3 << 20, Some(0))), [""; 0]);
    assert_eq!(
        then.drift(&sized(4 << 20, Some(0))),
        [
            "reindex a: 4 MB would go, and 1 MB were to go when the plan was made: more than twice as much"
        ]
    );
    assert_eq!(
        sized(1 << 20, Some(8)).drift(&sized(9 << 20, Some(8))),
        [""; 0]
    );
}

#[test]
fn what_is_not_done_any_more_is_told_with_its_reason() {
    let then = of(vec![step("app.t_1", "x", json!(1))], &[]);
    let left = |object: &str, reason: &str| Skip {
        object: object.to_owned(),
        reason: reason.to_owned(),
    };
    let told = |left: Vec<Skip>, steps: Vec<Step<Doing>>| {
        let now = SavedPlan {
            left,
            ..of(steps, &[])
        };
        then.drift(&now).join("\n")
    };
    let begins = "reindex app.t_1: would not be done any more";
    let ends = " (it was to be done because of: 60% bloat)";
    assert_eq!(told(vec![], vec![]), format!("{begins}{ends}"));
    assert_eq!(
        told(vec![left("app.t_1", "it is held")], vec![]),
        format!("{begins}: it is held{ends}")
    );
    assert_eq!(
        told(
            vec![left("app.t", "app.t_1 is in the way of app.t_10")],
            vec![]
        ),
        format!("{begins}: app.t: app.t_1 is in the way of app.t_10{ends}")
    );
    assert_eq!(
        told(vec![left("app.t", "app.t_10 is in the way")], vec![]),
        format!("{begins}{ends}")
    );
    let mut other = step("app.t_1", "x", json!(1));
    other.action = "cleanup".to_owned();
    other.details = vec!["it is not dropped: view v depends on it".to_owned()];
    assert_eq!(
        told(vec![], vec![other]),
        format!(
            "{begins}: instead cleanup: 60% bloat; it is not dropped: view v depends on it{ends}"
        )
    );
}

#[test]
fn changed_options_are_told_by_their_place() {
    let then = json!({ "rules": [{ "field": "at", "older_than": "90d" }], "x": 1 });
    let now = json!({ "rules": [{ "field": "at", "older_than": "30d" }, { "field": "b" }] });
    let mut changes = Vec::new();
    changed("", &then, &now, &mut changes);
    assert_eq!(
        changes,
        [
            "rules[0].older_than is 30d, and was 90d",
            r#"rules[1] is {"field":"b"}, and was not set"#,
            "x is not set, and was 1"
        ]
    );
}

#[test]
fn what_matters_is_told_and_nothing_else() {
    let saved = plan(&[("a", "REINDEX a", 1), ("b", "REINDEX b", 2)]);
    assert!(saved.differences(&saved).is_empty());
    let grown = plan(&[
        ("a", "REINDEX a", 1),
        ("b", "REINDEX b", 2),
        ("c", "REINDEX c", 3),
    ]);
    assert!(saved.drift(&grown).is_empty());
    assert_eq!(
        saved.differences(&grown),
        ["reindex c: new, because of: 60% bloat"]
    );
    let other = plan(&[("a", "REINDEX TABLE a", 9)]);
    assert_eq!(
        saved.drift(&other),
        [
            "reindex a: another object has taken the name (id 9 was 1)",
            "reindex a: would run `REINDEX TABLE a` instead of `REINDEX a`",
            "reindex b: would not be done any more (it was to be done because of: 60% bloat)",
        ]
    );
    let elsewhere = SavedPlan {
        system: "8/app".to_owned(),
        ..saved.clone()
    };
    assert_eq!(
        saved.drift(&elsewhere),
        ["target `app` is another database: the plan was made for 7/app, this is 8/app"]
    );
    let options = SavedPlan {
        options: json!({}),
        ..saved.clone()
    };
    assert_eq!(saved.drift(&options).len(), 1);
}
