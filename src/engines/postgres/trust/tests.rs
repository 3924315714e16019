use super::*;

fn code(via: &str, hook: &str) -> Code {
    Code {
        root: 1,
        table: RelationName::new("app", "t"),
        via: via.to_owned(),
        hook: hook.to_owned(),
        object: "x".to_owned(),
        function: Some("app.f".to_owned()),
        owner: "mallory".to_owned(),
    }
}

#[test]
fn what_runs_when() {
    let all = [
        Use::Read,
        Use::Delete,
        Use::Insert,
        Use::Define,
        Use::Command,
    ];
    for (via, hook, runs) in [
        ("self", "index", [true, true, true, true, false]),
        ("self", "statistics", [true, true, true, true, false]),
        ("self", "check", [true, true, true, true, false]),
        ("self", "policy", [true, true, true, true, false]),
        ("self", "trigger", [false, true, true, true, false]),
        (
            "self",
            "deferrable_trigger",
            [false, true, true, true, false],
        ),
        ("self", "rule", [false, true, true, true, false]),
        ("self", "default", [false, false, true, true, false]),
        ("self", "generated", [false, false, true, true, false]),
        ("self", "domain", [false, false, true, true, false]),
        ("cascade", "default", [false, true, false, true, false]),
        ("cascade", "index", [false, true, false, true, false]),
        ("above", "partition_key", [true, true, true, true, false]),
        ("self", "view", [true, true, true, true, false]),
        ("query", "index", [true, true, true, true, false]),
        ("query", "trigger", [false, false, false, false, false]),
        ("self", "event_trigger", [false, false, false, true, true]),
        ("self", "login_trigger", [false; 5]),
        ("self", "foreign", [true, true, true, true, false]),
        ("query", "foreign", [true, true, true, true, false]),
        ("referencing", "index", [false, true, false, false, false]),
        ("referenced", "index", [false, false, true, false, false]),
        ("referenced", "trigger", [false; 5]),
    ] {
        assert_eq!(
            all.map(|how| code(via, hook).runs(how)),
            runs,
            "{via} {hook}"
        );
    }
}

#[test]
fn each_is_told_once_with_its_function() {
    let mut nameless = code("self", "rule");
    nameless.function = None;
    let standing = Standing {
        codes: vec![nameless.clone(), code("self", "rule"), nameless],
        ..Standing::default()
    };
    let told = standing.code(Touch::new(1, Use::Delete));
    let told: Vec<String> = told.into_iter().map(Code::text).collect();
    assert_eq!(told, ["rule x of app.t calls app.f (code of mallory)"]);
    assert!(standing.code(Touch::new(2, Use::Delete)).is_empty());
}

#[test]
fn only_tables_of_strangers_are_guarded() {
    let stranger = |relation, via: &str, kind: &str| Stranger {
        root: 1,
        relation,
        table: RelationName::new("app", format!("t{relation}")),
        via: via.to_owned(),
        kind: kind.to_owned(),
        owner: "mallory".to_owned(),
    };
    let standing = Standing {
        strangers: vec![
            stranger(7, "cascade", "r"),
            stranger(1, "self", "p"),
            stranger(8, "self", "f"),
            stranger(9, "above", "p"),
            stranger(10, "referencing", "r"),
            stranger(11, "referenced", "r"),
        ],
        ..Standing::default()
    };
    let locked = |how| -> Vec<u32> {
        let guard = standing.guard(&[Touch::new(1, how)]);
        guard
            .iter()
            .flat_map(|g| &g.locks)
            .map(|l| l.relation)
            .collect()
    };
    assert_eq!(locked(Use::Read), [1]);
    assert_eq!(locked(Use::Delete), [1, 7, 10]);
    assert_eq!(locked(Use::Insert), [1, 11]);
    assert_eq!(locked(Use::Rewrite), [1]);
    assert!(locked(Use::Command).is_empty());
    assert!(standing.guard(&[Touch::new(2, Use::Delete)]).is_none());
}
