//! The places of files that tasks put rows into, each tried once: a small file is written, read back,
//! and removed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Config, Task};
use crate::engines::storage::Storage;
use crate::values::with_causes;

/// How long a place may take for one small file.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of trying a place.
pub(super) struct Tried<'a> {
    /// A task that puts files there.
    pub(super) task: &'a Task,
    /// Where that task takes them from.
    pub(super) target: &'a str,
    /// Whether it exists; if not, the first run makes it.
    pub(super) is_there: bool,
    /// What is to be said of it, or why no file can be kept there.
    pub(super) tried: Result<String, String>,
}

/// Tries each place once, of tasks that are enabled on targets that are configured.
pub(super) async fn of_files(config: &Config) -> Vec<Tried<'_>> {
    let mut places: BTreeMap<&str, (&Task, &str)> = BTreeMap::new();
    for task in config.tasks.values().filter(|task| task.enabled) {
        let is_looked_after = |name: &&String| {
            let target = config.targets.get(*name);
            target.is_some_and(|target| target.configured)
        };
        let url = task.options.pointer("/destination/files");
        if let Some(url) = url.and_then(|url| url.as_str())
            && let Some(target) = task.targets.iter().find(is_looked_after)
        {
            places.entry(url).or_insert((task, target));
        }
    }
    let mut all = Vec::new();
    for (url, (task, target)) in places {
        let tried = match Storage::open(url) {
            Ok(storage) => match tokio::time::timeout(PATIENCE, storage.try_out()).await {
                Ok(tried) => tried.map_err(|error| with_causes(&error)),
                Err(_) => Err(format!("{url} does not answer")),
            },
            Err(error) => Err(with_causes(&error)),
        };
        all.push(Tried {
            task,
            target,
            is_there: tried != Ok(false),
            tried: tried.map(|is_there| match is_there {
                true => format!("{url} takes files and gives them back"),
                false => format!("{url} does not exist yet: the first run makes it"),
            }),
        });
    }
    all
}
