//! Messages into a file, a line each, for whoever reads such files.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::Outcome;

/// Appends a document as one line, for whoever reads such files.
pub(super) fn append(path: &Path, body: &Value) -> Outcome {
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| {
            // One call, so that lines of several processes do not mix.
            file.write_all(format!("{body}\n").as_bytes())?;
            file.sync_data()
        });
    match written {
        Ok(()) => Outcome::Sent,
        Err(why) => Outcome::Later(format!("{} cannot be written: {why}", path.display())),
    }
}
