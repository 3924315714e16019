//! How several databases share the time of one task: whose steps are chosen, and in which order.

use super::*;
use crate::plan::postgres::Body;

/// A step that takes so many seconds and wins so many megabytes.
fn step(object: &str, seconds: i64, wins: i64) -> Step<Body> {
    let mut step = Step::new("reindex", object, object).expecting(wins * 1_000_000, Some(0));
    step.predicted_ms = Some(seconds * 1_000);
    step
}

/// One of which nobody knows what it wins.
fn unknown(object: &str, seconds: i64) -> Step<Body> {
    let mut step = Step::new("analyze", object, object);
    step.predicted_ms = Some(seconds * 1_000);
    step
}

fn waiting(mut step: Step<Body>, runs: u32, untouched: u32) -> Step<Body> {
    step.waited = Waited { runs, untouched };
    step
}

/// What is chosen in each plan, and in which order the plans come.
fn shared(seconds: u64, at_once: u32, plans: Vec<Vec<Step<Body>>>) -> String {
    let plans: Vec<Plan<Body>> = plans
        .into_iter()
        .map(|steps| Plan {
            steps,
            ..Plan::default()
        })
        .collect();
    let plans: Vec<&Plan<Body>> = plans.iter().collect();
    let shares = share_out(&plans, Duration::from_secs(seconds), at_once);
    let mut text = format!("{:?}", shares.order);
    for chosen in &shares.chosen {
        let mut names: Vec<&str> = chosen.keys().map(|need| need.object.as_str()).collect();
        names.sort_unstable();
        text.push_str(&format!(" | {}", names.join(" ")));
    }
    text
}

#[test]
fn time_goes_to_what_wins_most_for_it_wherever_that_is() {
    // 10, 1 and 5 megabytes a second; in all 30 seconds of 20.
    let plans = || {
        vec![
            vec![step("a", 10, 10)],
            vec![step("b", 10, 100), step("c", 10, 50)],
        ]
    };
    assert_eq!(shared(20, 1, plans()), "[1, 0] |  | b c");
    assert_eq!(shared(20, 2, plans()), "[1, 0] | a | b c");
    // What does not fit makes room for what does.
    let plans = vec![
        vec![step("large", 30, 900)],
        vec![step("b", 10, 10)],
        vec![],
    ];
    assert_eq!(shared(20, 1, plans), "[0, 1, 2] |  | b | ");
}

#[test]
fn what_was_left_comes_first_and_what_was_not_begun_before_what_was() {
    let plans = vec![
        vec![waiting(step("a", 10, 1), 1, 1)],
        vec![step("b", 10, 900)],
        vec![waiting(step("c", 10, 1), 2, 0)],
        vec![waiting(step("d", 10, 1), 2, 2)],
    ];
    assert_eq!(shared(30, 1, plans), "[3, 2, 0, 1] | a |  | c | d");
    let plans = vec![
        vec![waiting(step("a", 10, 1), 9, 9)],
        vec![step("b", 10, 1).urgently(true)],
    ];
    assert_eq!(shared(10, 1, plans), "[1, 0] |  | b");
}

#[test]
fn where_nothing_is_known_each_has_its_first_before_any_has_its_second() {
    let plans = vec![
        vec![unknown("a1", 10), unknown("a2", 10)],
        vec![unknown("b1", 10), unknown("b2", 10)],
    ];
    assert_eq!(shared(30, 1, plans), "[0, 1] | a1 a2 | b1");
}

#[test]
fn what_is_needed_is_chosen_with_what_needs_it() {
    let plans = || {
        vec![
            vec![
                step("first", 10, 1),
                step("then", 10, 900).after("reindex", "first"),
            ],
            vec![step("b", 10, 300)],
        ]
    };
    assert_eq!(shared(20, 1, plans()), "[0, 1] | first then | ");
    assert_eq!(shared(30, 1, plans()), "[0, 1] | first then | b");
    assert_eq!(shared(10, 1, plans()), "[0, 1] |  | b");
}

#[test]
fn what_keeps_what_it_did_takes_what_is_left() {
    let walk = |object: &str, seconds: i64| {
        let mut step = unknown(object, seconds);
        step.keeps = true;
        step
    };
    let plans = vec![
        vec![walk("a", 15)],
        vec![walk("b", 15)],
        vec![walk("c", 15)],
    ];
    assert_eq!(shared(20, 1, plans), "[0, 1, 2] | a | b | ");
}
