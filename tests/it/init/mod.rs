//! `maint init`: what it sees, what it writes, and what it leaves alone.

mod from;
mod mongodb;
mod postgres;

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use crate::support::workspace::{Output, maint};

/// An empty folder in which `maint` is run, with variables of its own.
struct Folder {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Folder {
    fn new() -> Folder {
        Folder {
            folder: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    fn env(mut self, name: &str, value: &str) -> Folder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: &str) -> Output {
        let mut command = maint();
        command.current_dir(self.path()).env("HOME", self.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.args(args).write_stdin(input).output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Every file below it, by its path.
    fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(text) = std::fs::read_to_string(&path) {
                    let name = path.strip_prefix(self.path()).unwrap();
                    found.insert(name.to_str().unwrap().to_owned(), text);
                }
            }
        }
        found
    }

    fn text(&self, path: &str) -> String {
        let path = self.path().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    }
}

/// The lines of a file without those that are only comments.
fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}
