//! Data flows one way: a room uses only rooms above it, an engine is named only where its name
//! stands over the door, files do not use each other in circles, and columns are read by name.

mod circles;
mod columns;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in their order, as `src/lib.rs` lists them, and which others each may use: exactly
/// those that it does use, so that a new arrow between rooms is a decision, and one that has gone
/// is not kept open.
const ROOMS: [(&str, &[&str]); 16] = [
    ("values", &[]),
    ("engines", &["values"]),
    ("plan", &["values", "engines"]),
    ("kinds", &["values", "engines", "plan"]),
    ("config", &["values", "engines", "plan"]),
    ("export", &["values", "engines", "config"]),
    ("history", &["values", "engines", "plan", "config"]),
    (
        "execute",
        &["values", "engines", "plan", "config", "history"],
    ),
    ("report", &["values", "plan", "kinds", "config", "history"]),
    (
        "notify",
        &["values", "plan", "config", "history", "execute", "report"],
    ),
    (
        "pipeline",
        &[
            "values", "engines", "plan", "kinds", "config", "history", "execute", "report",
            "notify",
        ],
    ),
    (
        "scheduler",
        &[
            "values", "plan", "config", "history", "execute", "report", "notify", "pipeline",
        ],
    ),
    (
        "web",
        &[
            "values",
            "plan",
            "kinds",
            "config",
            "history",
            "execute",
            "report",
            "notify",
            "pipeline",
            "scheduler",
        ],
    ),
    ("init", &["values", "engines", "kinds", "report"]),
    ("demo", &[]),
    (
        "cli",
        &[
            "values",
            "engines",
            "plan",
            "kinds",
            "config",
            "export",
            "history",
            "execute",
            "report",
            "notify",
            "pipeline",
            "scheduler",
            "web",
            "init",
            "demo",
        ],
    ),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of the program, by its path below `src`, without comments and unit tests.
fn files() -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = source();
    let mut found = Vec::new();
    walk(&root, &mut found);
    let mut files = BTreeMap::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        if !name.ends_with("tests.rs") {
            let text = paths::without_tests(&fs::read_to_string(&path).unwrap());
            files.insert(name.to_owned(), text);
        }
    }
    files
}

#[test]
fn a_room_uses_only_the_rooms_that_it_may() {
    let rank = |room: &str| ROOMS.iter().position(|(name, _)| *name == room);
    let mut used: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, text) in files() {
        let first = name.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(own) = rank(first) else { continue };
        let (own, may) = ROOMS[own];
        for path in text.split("crate::").skip(1) {
            let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let room: String = path.chars().take_while(word).collect();
            if rank(&room).is_none() || room == own {
                continue;
            }
            if !may.contains(&room.as_str()) {
                wrong.push(format!("{name} uses {room}"));
            }
            used.insert((own, room));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (n, (room, may)) in ROOMS.iter().enumerate() {
        for other in *may {
            assert!(
                rank(other) < Some(n),
                "{room} stands above {other} in src/lib.rs"
            );
            assert!(
                used.contains(&(*room, (*other).to_owned())),
                "{room} does not use {other} any more: take it out of the table"
            );
        }
    }
}

#[test]
fn lib_lists_the_rooms_in_order() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let listed = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert!(listed.eq(ROOMS.iter().map(|(name, _)| *name)));
}

/// What names an engine's room outside of a folder with its name, and why it may.
const EXCEPTIONS: [(&str, &[&str], &str); 10] = [
    (
        "config/check/addresses.rs",
        &["postgres", "mongodb"],
        "`maint check` takes the addresses of targets apart as their engines do",
    ),
    (
        "history/mod.rs",
        &["postgres"],
        "a history may be kept in PostgreSQL, and its address is one of PostgreSQL's",
    ),
    (
        "history/error.rs",
        &["postgres"],
        "the same: why such a history cannot be reached is said by who connects",
    ),
    (
        "history/error/helps.rs",
        &["postgres"],
        "what helps with such a history is statements, with names as PostgreSQL quotes them",
    ),
    (
        "cli/archive/documents.rs",
        &["mongodb"],
        "brings back documents, which no other engine has",
    ),
    (
        "cli/archive/former.rs",
        &["postgres"],
        "compares the server that rows came from with the one that is there",
    ),
    (
        "cli/archive/archived.rs",
        &["postgres"],
        "tables are chosen by names as PostgreSQL quotes them",
    ),
    (
        "cli/archive/rows.rs",
        &["postgres"],
        "brings back rows, which no other engine has",
    ),
    (
        "cli/init.rs",
        &["postgres"],
        "opens the session that a draft for a PostgreSQL database is made from",
    ),
    (
        "cli/rehearse.rs",
        &["postgres"],
        "says whose code a task would run, as PostgreSQL judges it",
    ),
];

#[test]
fn an_engine_is_named_only_in_folders_of_its_own() {
    let mut wrong = Vec::new();
    let mut excepted: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut own = 0;
    for (name, text) in files() {
        for engine in ["postgres", "mongodb"] {
            if !text.contains(&format!("engines::{engine}")) {
                continue;
            }
            let folder = Path::new(&name).parent().unwrap();
            if folder.components().any(|part| part.as_os_str() == engine) {
                own += 1;
                continue;
            }
            let exception = EXCEPTIONS
                .iter()
                .find(|(file, engines, _)| *file == name && engines.contains(&engine));
            match exception {
                Some((file, _, _)) => drop(excepted.insert((file, engine))),
                None => wrong.push(format!("{name} names engines::{engine}")),
            }
        }
    }
    assert!(
        own > 5,
        "the test no longer finds the engines' own folders: {own}"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (file, engines, why) in EXCEPTIONS {
        assert!(!why.is_empty(), "{file} has no reason");
        for engine in engines {
            assert!(
                excepted.contains(&(file, *engine)),
                "{file} names engines::{engine} no more: take the exception out"
            );
        }
    }
}

/// Files of rooms that decide which ask what time it is, and why they may: they look at a database,
/// and hand the time on with what they saw.
const CLOCKS: &[(&str, &str)] = &[
    (
        "kinds/mongodb/cleanup/mod.rs",
        "notes when the collections were looked at",
    ),
    (
        "kinds/mongodb/snapshot/facts.rs",
        "compares the clock of a member with this machine's",
    ),
    (
        "kinds/mongodb/snapshot/mod.rs",
        "counts the documents that have expired by now",
    ),
    (
        "kinds/postgres/archive/facts.rs",
        "estimates what would go now",
    ),
    (
        "kinds/postgres/cleanup/look.rs",
        "estimates what would go now",
    ),
    (
        "kinds/postgres/retention/estimate/free.rs",
        "asks the server for a row that would go now",
    ),
];

/// A decision is a function of facts: nothing that decides, says or reports asks for the time.
#[test]
fn what_decides_is_handed_the_time() {
    let asking: BTreeSet<String> = files()
        .into_iter()
        .filter(|(name, _)| {
            ["kinds/", "plan/", "report/"]
                .iter()
                .any(|room| name.starts_with(room))
        })
        .filter(|(name, text)| {
            !name.ends_with("tests.rs") && paths::without_tests(text).contains("wall_clock()")
        })
        .map(|(name, _)| name)
        .collect();
    let listed: BTreeSet<String> = CLOCKS.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(asking, listed);
    assert!(CLOCKS.iter().all(|(_, why)| !why.is_empty()));
}
