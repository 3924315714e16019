//! Whether the files of the configuration have changed.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::values::read_regular;

type Sum = [u8; 32];

/// What the files held when they were last taken.
///
/// Contents are compared, not times: a mounted ConfigMap changes by swapping
/// a symbolic link, and not every file system tells anybody.
pub(super) struct Seen {
    path: PathBuf,
    /// Files that targets were read from, besides.
    inventories: Vec<PathBuf>,
    taken: Sum,
    /// What was found last time, if it is not what was taken.
    waiting: Option<Sum>,
}

impl Seen {
    pub(super) fn new(path: PathBuf) -> Seen {
        let taken = sum(&path, &[]);
        Seen {
            path,
            inventories: Vec::new(),
            taken,
            waiting: None,
        }
    }

    /// Looks at these files, too, from what they hold now on. Those of a configuration that has
    /// just been read.
    pub(super) fn with(&mut self, inventories: &[PathBuf]) {
        if self.inventories != inventories {
            inventories.clone_into(&mut self.inventories);
            self.taken = sum(&self.path, &self.inventories);
        }
    }

    /// The files are taken as they are now.
    pub(super) fn take(&mut self) {
        self.taken = sum(&self.path, &self.inventories);
        self.waiting = None;
    }

    /// Whether they differ from what was taken, and have not changed since
    /// the last look. Then they count as taken.
    pub(super) fn changed(&mut self) -> bool {
        let now = sum(&self.path, &self.inventories);
        if now == self.taken {
            self.waiting = None;
            return false;
        }
        if self.waiting != Some(now) {
            self.waiting = Some(now);
            return false;
        }
        self.taken = now;
        self.waiting = None;
        true
    }
}

/// The sum of `schedules.yaml`, `tasks/`, `templates/` and inventories, names and contents.
fn sum(path: &Path, inventories: &[PathBuf]) -> Sum {
    let mut hash = Sha256::new();
    add(&mut hash, path);
    inventories.iter().for_each(|file| add(&mut hash, file));
    let folder = path.parent().unwrap_or(Path::new(""));
    for name in ["tasks", "templates"] {
        let entries = std::fs::read_dir(folder.join(name));
        let mut files: Vec<PathBuf> = entries
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            add(&mut hash, file);
        }
    }
    hash.finalize().into()
}

/// More of a file is not read: nobody writes so much.
const LARGEST: u64 = 16 << 20;

fn add(hash: &mut Sha256, file: &Path) {
    hash.update(file.as_os_str().as_encoded_bytes());
    match read_regular(file, LARGEST) {
        Ok(content) => {
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
        Err(_) => hash.update([0xff]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schedules.yaml");
        std::fs::create_dir(folder.path().join("tasks")).unwrap();
        std::fs::write(&path, "a").unwrap();
        let mut seen = Seen::new(path.clone());
        assert!(!seen.changed());
        std::fs::write(&path, "b").unwrap();
        assert!(!seen.changed(), "it may be half written");
        std::fs::write(&path, "bc").unwrap();
        assert!(!seen.changed(), "and it was");
        assert!(seen.changed());
        assert!(!seen.changed(), "once");
        let task = folder.path().join("tasks/t.yaml");
        std::fs::write(&task, "t").unwrap();
        assert!(!seen.changed());
        std::fs::remove_file(&task).unwrap();
        assert!(!seen.changed(), "gone again");
        assert!(!seen.changed());
        let inventory = folder.path().join("inventory.json");
        std::fs::write(&inventory, "{}").unwrap();
        seen.with(std::slice::from_ref(&inventory));
        assert!(!seen.changed());
        std::fs::write(&inventory, "{ }").unwrap();
        assert!(!seen.changed() && seen.changed(), "an inventory");
        std::fs::remove_file(&path).unwrap();
        assert!(!seen.changed() && seen.changed(), "a file that is gone");
    }
}
