//! Data flows one way: a room uses only rooms above it.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in their order, as `src/lib.rs` lists them.
const ROOMS: [&str; 16] = [
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
    "cli",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|r| *r == room)
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let first = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let Some(own) = rank(first.trim_end_matches(".rs")) else {
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for used in text.split("crate::").skip(1) {
            let room: String = used
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if let Some(other) = rank(&room) {
                seen += 1;
                // No formula of a kind belongs into configuration, nor the other way round.
                if other > own {
                    wrong.push(format!("{} uses {room}", relative.display()));
                }
            }
        }
    }
    assert!(seen > 50, "the test no longer finds what rooms use: {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lib_lists_the_rooms_in_order() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let listed: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(listed, ROOMS);
}

/// Rooms that work for every engine.
const FOR_EVERY_ENGINE: [&str; 4] = ["plan", "execute", "pipeline", "scheduler"];

/// What may name an engine's room outside of a folder with its name. Empty;
/// whoever adds a line says why.
const EXCEPTIONS: [&str; 0] = [];

#[test]
fn an_engine_is_named_only_in_folders_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut own = 0;
    for engine in ["postgres", "mongodb"] {
        let room = format!("engines::{engine}");
        let mut files = Vec::new();
        for room in FOR_EVERY_ENGINE {
            sources(&root.join(room), &mut files);
        }
        for file in files {
            let relative = file.strip_prefix(&root).unwrap();
            if !fs::read_to_string(&file).unwrap().contains(&room) {
                continue;
            }
            let folder = relative.parent().unwrap();
            if folder.components().any(|part| part.as_os_str() == engine) {
                own += 1;
            } else if !EXCEPTIONS.contains(&relative.to_str().unwrap()) {
                wrong.push(format!("{} names {room}", relative.display()));
            }
        }
    }
    assert!(
        own > 5,
        "the test no longer finds the engines' own folders: {own}"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}
