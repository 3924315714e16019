//! What is foretold from earlier runs: how long a step takes, which steps a run has time for, and
//! what comes first.

use super::fits::fit;
use super::*;
use crate::plan::Plan;
use crate::plan::postgres::Body as Postgres;

fn past(object: &str, end: PastEnd, seconds: i64, megabytes: i64) -> Past {
    Past {
        kept_by: None,
        task: "nightly".to_owned(),
        action: "reindex".to_owned(),
        object: object.to_owned(),
        end,
        duration_ms: seconds * 1_000,
        bytes: (megabytes > 0).then_some(megabytes * 1_000_000),
        rows: None,
        predicted_ms: None,
    }
}

fn step(object: &str, megabytes: i64) -> Step<Postgres> {
    let step = Step::new("reindex", object, object);
    match megabytes {
        0 => step,
        _ => step.expecting(megabytes * 1_000_000, Some(0)),
    }
}

fn told(by: &Predictor, object: &str, megabytes: i64) -> String {
    let prediction = by.predict(&step(object, megabytes));
    format!("{} {:?}", human(prediction.ms), prediction.basis)
}

/// What a run with so many seconds makes of these steps, `jobs` at once.
fn forecast(by: &Predictor, seconds: u64, jobs: u32, steps: &[(&str, i64)]) -> String {
    let plan = Plan {
        steps: steps.iter().map(|(o, mb)| step(o, *mb)).collect(),
        ..Plan::default()
    };
    let plan = plan.arranged(by);
    let order: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
    let whole = (seconds > 0).then(|| Duration::from_secs(seconds));
    let forecast = plan.forecast(by, whole, jobs);
    let mut text = format!("{} in {}", order.join(" "), human(forecast.predicted_ms));
    for skip in forecast.will_not_fit {
        text.push_str(&format!("\n{}: {}", skip.object, skip.reason));
    }
    text
}

#[test]
fn the_object_itself_counts_most_then_its_likes_then_the_rule() {
    use PastEnd::{CutOff, Done};
    let nothing = Predictor::default();
    assert_eq!(told(&nothing, "a", 500), "51 s Nothing");
    assert_eq!(told(&nothing, "a", 0), "1 min 0 s Nothing");

    let mut all: Vec<Past> = [(10, 100), (12, 100), (11, 100), (90, 100)]
        .map(|(seconds, mb)| past("a", Done, seconds, mb))
        .to_vec();
    let by = Predictor::of(&all, "nightly");
    // The slowest of the last three, in proportion.
    assert_eq!(told(&by, "a", 100), "12 s Itself");
    assert_eq!(told(&by, "a", 200), "24 s Itself");
    // Another one: not faster for being smaller.
    assert_eq!(told(&by, "b", 50), "10 s Others");
    assert_eq!(told(&by, "b", 400), "40 s Others");
    assert_eq!(told(&by, "b", 0), "10 s Others");

    // Cut off since: at least a quarter longer. What came before is no news.
    all.insert(0, past("a", CutOff, 100, 100));
    all.push(past("a", CutOff, 5_000, 100));
    let by = Predictor::of(&all, "nightly");
    assert_eq!(told(&by, "a", 100), "2 min 5 s Itself");
}

#[test]
fn those_nearest_in_size_tell_of_others() {
    let mut all: Vec<Past> = (1..=9)
        .map(|n| past(&format!("small {n}"), PastEnd::Done, 1, 1))
        .collect();
    all.push(past("large", PastEnd::Done, 600, 10_000));
    let by = Predictor::of(&all, "nightly");
    assert_eq!(told(&by, "new", 1), "1.0 s Others");
    // A rate learned from what is small alone would be a thousand times too high.
    assert_eq!(told(&by, "new", 20_000), "20 min 0 s Others");
}

#[test]
fn rows_tell_more_than_bytes() {
    let mut before = past("a", PastEnd::Done, 100, 1_000);
    before.rows = Some(1_000);
    let by = Predictor::of(&[before], "nightly");
    let now = step("a", 1_000).expecting_rows(Some(10));
    assert_eq!(by.predict(&now).ms, 1_000);
}

#[test]
fn what_was_left_comes_first_and_what_never_fits_is_told() {
    use PastEnd::{CutOff, Done, Left, Otherwise};
    let night = |last: PastEnd| {
        [
            past("big", last, 900, 0),
            past("a", Left, 0, 0),
            past("b", Done, 60, 0),
            past("big", last, 800, 0),
            past("a", Left, 0, 0),
            past("c", Left, 0, 0),
            past("b", Otherwise, 0, 0),
        ]
    };
    let by = Predictor::of(&night(CutOff), "nightly");
    let steps = [("b", 0), ("big", 0), ("a", 0), ("c", 0)];
    // `b` was done; `a` and `big` were left twice, `c` once.
    assert_eq!(
        forecast(&by, 1_000, 1, &steps),
        "big a c b in 21 min 45 s
big: takes about 18 min 45 s (it was not done when it was cut off after 15 min 0 s), more than the 16 min 40 s that a whole run has"
    );
    // Another night of the same length has time for it.
    assert_eq!(
        forecast(&by, 1_150, 1, &steps),
        "big a c b in 21 min 45 s
a: takes about 1 min 0 s (judged by others of its size), more than the 25 s that are left
c: takes about 1 min 0 s (judged by others of its size), more than the 25 s that are left
b: takes about 1 min 0 s (as long as it took before), more than the 25 s that are left"
    );
    assert_eq!(forecast(&by, 1_150, 2, &steps), "big a c b in 10 min 52 s");
    assert_eq!(forecast(&by, 0, 1, &steps), "big a c b in 21 min 45 s");
    // Work that another task left is not this one's.
    let by = Predictor::of(&night(CutOff), "another");
    assert!(forecast(&by, 0, 1, &steps).starts_with("b big a c in"));
}

#[test]
fn what_nobody_knows_is_tried_once() {
    let by = Predictor::of(&[past("a", PastEnd::Left, 0, 0)], "nightly");
    // Left once: it has its turn although the guess is longer than the run.
    let seen = forecast(&by, 10, 1, &[("b", 9_000), ("a", 9_000)]);
    assert!(seen.starts_with("a b in"), "{seen}");
    assert!(!seen.contains("\na:"), "{seen}");
    assert!(
        seen.contains("\nb: takes about 15 min 1 s (nothing is known of it yet)"),
        "{seen}"
    );
    // Nothing was left: the shortest guess is tried.
    let by = Predictor::default();
    let seen = forecast(&by, 10, 1, &[("a", 9_000), ("b", 800)]);
    assert!(seen.contains("\na:") && !seen.contains("\nb:"), "{seen}");
}

#[test]
fn lanes_keep_their_order_and_what_is_urgent_its_place() {
    use PastEnd::Left;
    let by = Predictor::of(&[past("b2", Left, 0, 0), past("c", Left, 0, 0)], "nightly");
    let of_lane = |object: &str, lane: &str| Step::<Postgres>::new("reindex", object, lane);
    let mut plan = Plan::default();
    let steps = [
        of_lane("old", "1").urgently(true),
        of_lane("a", "2"),
        of_lane("b1", "3"),
        of_lane("b2", "3"),
        of_lane("c", "4"),
    ];
    plan.steps.extend(steps);
    let order =
        |plan: &Plan| -> Vec<String> { plan.steps.iter().map(|s| s.object.clone()).collect() };
    let arranged = plan.clone().arranged(&by);
    assert_eq!(order(&arranged), ["old", "b1", "c", "a", "b2"]);
    plan.fixed_order = true;
    assert_eq!(order(&plan.clone().arranged(&by)), order(&plan));
}

#[test]
fn earlier_predictions_are_compared_with_what_came() {
    let predicted = |ms: i64, seconds: i64| Past {
        kept_by: None,
        predicted_ms: Some(ms),
        ..past("a", PastEnd::Done, seconds, 0)
    };
    let all = [
        predicted(9_000, 10),
        predicted(15_000, 10),
        predicted(10_000, 10),
    ];
    let error = Predictor::of(&all, "nightly").error();
    assert_eq!(error.map(|e| (e.predictions, e.median)), Some((3, 0.1)));
    assert_eq!(Predictor::of(&[], "nightly").error(), None);
}

/// In as many runs as it takes: a portion fits into whatever time there is.
#[test]
fn what_keeps_what_it_did_fits_as_long_as_there_is_time() {
    let prediction = Prediction {
        ms: 5_000,
        basis: Basis::Itself,
        cut_off_ms: None,
    };
    let time = |left: u64| Time {
        left: Duration::from_millis(left),
        whole: Some(Duration::from_secs(1)),
        begun: false,
    };
    assert_eq!(fit(prediction, 3, true, time(1)), Fit::Yes);
    assert_eq!(fit(prediction, 3, true, time(0)), Fit::NotNow);
    assert_eq!(fit(prediction, 3, false, time(1_000)), Fit::Never);
}

#[test]
fn how_far_predictions_were_off_is_told_as_a_factor_where_enough_is_known() {
    let said = |predictions, median, factor| {
        let error = PastError {
            predictions,
            median,
            factor,
        };
        error.said()
    };
    assert_eq!(said(4, 350.72, 0.003), None);
    assert_eq!(
        said(9, 350.72, 1.0 / 351.72).as_deref(),
        Some("earlier ones were usually predicted 352 times as long as they took (of 9)")
    );
    assert_eq!(
        said(5, 0.997, 350.0).as_deref(),
        Some("earlier ones usually took 350 times as long as predicted (of 5)")
    );
    assert_eq!(
        said(5, 0.6, 2.5).as_deref(),
        Some("earlier ones usually took 2.5 times as long as predicted (of 5)")
    );
    assert_eq!(
        said(12, 0.125, 1.1).as_deref(),
        Some("earlier predictions were off by 12 % (median of 12)")
    );
}
