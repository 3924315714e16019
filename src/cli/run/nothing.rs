//! Why there is nothing to run, and what to do about it.

use crate::cli::Failure;
use crate::config::Config;

/// What to do where there are no tasks at all.
pub(super) fn no_tasks(config: &Config) -> String {
    let folder = config.folder().join("tasks");
    format!(
        "there are no tasks in {}\n  hint: a task is a file such as tasks/analyze.yaml with `kind: analyze` and \
         `target: {}`; `maint schema` describes them",
        folder.display(),
        config.targets.keys().next().map_or("app", String::as_str)
    )
}

/// Why there is nothing to run, though tasks were asked for.
pub(in crate::cli) fn nothing_to_run(config: &Config, code: u8) -> Failure {
    if config.tasks.is_empty() {
        return Failure::Usage(no_tasks(config));
    }
    match code {
        0 => Failure::Usage(
            "nothing to run: no task is enabled on a target whose `url` is set".to_owned(),
        ),
        _ => Failure::NotStarted("no schedule has any of the tasks".to_owned()),
    }
}
