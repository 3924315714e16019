//! What ends a throwaway server whose owner is gone.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::DemoError;

/// Starts `script` with the server's folder as `$1`. Its standard input is ours: it ends when we
/// do, however that comes about.
pub(super) fn spawn(script: &str, folder: &Path) -> Result<Child, DemoError> {
    let shell = PathBuf::from("/bin/sh");
    Command::new(&shell)
        .args(["-c", script, "maint-demo-watcher"])
        .arg(folder)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| DemoError::Spawn {
            program: shell,
            source,
        })
}
