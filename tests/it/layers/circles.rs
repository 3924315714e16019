//! No files use each other in a circle: each folder can be read from the bottom to the top.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{arrows, module};

/// What a file uses, by file.
type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Leaves out what a file takes from the module that it stands in (`a/b.rs` from `a/mod.rs`, or
/// from `a.rs`): a folder's own file has what its children share, and brings them together, so the
/// two are one. What a file outside of the folder takes counts, and so does what the folder's own
/// file takes from its children: a circle through others is one.
fn without_own_folder(mut uses: Uses) -> Uses {
    for (file, used) in &mut uses {
        let own = module(file);
        used.retain(|other, _| {
            let other = module(other);
            other.len() >= own.len() || own[..other.len()] != other
        });
    }
    uses
}

/// Every file that can be reached from one.
fn reached<'u>(from: &'u str, uses: &'u Uses) -> BTreeSet<&'u str> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(file) = waiting.pop() {
        for next in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next.as_str()) {
                waiting.push(next);
            }
        }
    }
    found
}

/// The largest sets of files in which each can be reached from each.
fn circles(uses: &Uses) -> BTreeSet<Vec<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses
        .keys()
        .map(|file| (file.as_str(), reached(file, uses)))
        .collect();
    let circle = |file: &str| -> Vec<&str> {
        let others = reached[file].iter().copied();
        others
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(file)))
            .collect()
    };
    let all = reached.keys().map(|file| circle(file));
    all.filter(|circle| !circle.is_empty()).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let uses = without_own_folder(arrows(&super::files()));
    let count: usize = uses.values().map(BTreeMap::len).sum();
    assert!(
        count > 1000,
        "the test no longer finds what files use: {count}"
    );
    let mut told = String::new();
    for circle in circles(&uses) {
        for file in &circle {
            for (other, items) in &uses[*file] {
                if circle.contains(&other.as_str()) {
                    told.push_str(&format!("\n  {file} takes {items:?} from {other}"));
                }
            }
        }
    }
    assert!(
        told.is_empty(),
        "these files use each other in a circle:{told}\nmove what two share into a file of its own"
    );
}

#[test]
fn a_circle_is_found_through_what_others_hand_on() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let straight = [
        file("lib.rs", "pub mod a;\npub mod c;\n"),
        file(
            "a/mod.rs",
            "mod b;\npub use b::{B, C as D};\npub(super) fn f() { b::g() }\n",
        ),
        file(
            "a/b.rs",
            "use super::f;\nuse std::fmt;\npub struct B;\npub struct C;\npub fn g() { f() }\n",
        ),
        file(
            "c.rs",
            "use crate::a::{self,\n    D};\nfn h() { a::f(); let _ = D; }\n",
        ),
    ];
    let found = |files: &[(String, String)]| -> Vec<Vec<String>> {
        let files = files.iter().cloned().collect();
        let uses = without_own_folder(arrows(&files));
        let circles = circles(&uses);
        circles
            .into_iter()
            .map(|circle| circle.into_iter().map(str::to_owned).collect())
            .collect()
    };
    assert!(
        found(&straight).is_empty(),
        "a folder and its own file are one"
    );
    let mut round = straight;
    round[2].1.push_str("fn i() { crate::c::h() }\n");
    assert_eq!(found(&round), [["a/b.rs", "a/mod.rs", "c.rs"]]);
    round[1].1 = "mod b;\npub use b::{B, C as D};\n".to_owned();
    round[3].1 = "use crate::a::D;\nfn h(_: D) {}\n".to_owned();
    assert_eq!(
        found(&round),
        [["a/b.rs", "c.rs"]],
        "handing on is not using"
    );
}
