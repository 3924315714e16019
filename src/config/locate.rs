//! Where the files are.

use std::path::{Path, PathBuf};

use crate::values::{Problem, Problems, describe};

const NAME: &str = "schedules.yaml";
const SYSTEM: &str = "/etc/maint/schedules.yaml";

/// The `schedules.yaml` to use: the one given (`--config`, a file or its folder), else
/// `MAINT_CONFIG`, else `./schedules.yaml`, else `/etc/maint/schedules.yaml`.
///
/// # Errors
///
/// One problem where none of the usual places has the file. A file that was asked for by name
/// is not looked at here: [`load`](fn@super::load) says what is wrong with it.
pub fn locate(
    explicit: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, Problems> {
    let variable = || {
        env("MAINT_CONFIG")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = explicit.map(Path::to_owned).or_else(variable) {
        return Ok(if path.is_dir() { path.join(NAME) } else { path });
    }
    [NAME, SYSTEM]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            // It is there, and cannot be read as a file: a folder, or links in a circle.
            let there = [NAME, SYSTEM].into_iter().map(Path::new);
            let mut there = there.filter(|path| path.symlink_metadata().is_ok());
            if let Some(path) = there.next() {
                let why = match std::fs::metadata(path) {
                    Ok(found) if found.is_dir() => "is a folder, and has to be a file".to_owned(),
                    Ok(_) => "is not a regular file".to_owned(),
                    Err(why) => format!("cannot be read: {}", describe(&why)),
                };
                return Problem::new(path, why).into();
            }
            Problem::new(NAME, format!("not found here, nor is there {SYSTEM}"))
                .hint("name it with --config or MAINT_CONFIG; `maint` alone says how to begin")
                .into()
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_wins() {
        let env = |name: &str| (name == "MAINT_CONFIG").then(|| "/from/env.yaml".to_owned());
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            locate(Some(folder.path()), &env),
            Ok(folder.path().join(NAME))
        );
        assert_eq!(locate(Some(Path::new("a.yaml")), &env), Ok("a.yaml".into()));
        assert_eq!(locate(None, &env), Ok("/from/env.yaml".into()));
    }
}
