//! Where the token of the status page comes from: never from a command line.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Failure;
use crate::values::Secret;

/// More is not a token.
const LONGEST: u64 = 4096;

/// From the file, else from `MAINT_TOKEN`.
pub(super) fn read(on_command_line: bool, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    if on_command_line {
        return Err(Failure::Usage(
            "whoever lists the processes of this machine could read a token on a command line: \
             use --token-file FILE or the variable MAINT_TOKEN"
                .to_owned(),
        ));
    }
    match file.filter(|file| !file.as_os_str().is_empty()) {
        Some(file) => from_file(file).map(Some),
        None => Ok(std::env::var("MAINT_TOKEN").ok().map(Secret::new)),
    }
}

fn from_file(path: &Path) -> Result<Secret, Failure> {
    let failed = |what: &str| {
        let path = path.display();
        Failure::Usage(format!("the token of --token-file {path} {what}"))
    };
    let cannot = |error: std::io::Error| failed(&format!("cannot be read: {error}"));
    // A pipe would wait for a writer for ever.
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if !meta.is_file() {
        return Err(failed("cannot be read: it is not a regular file"));
    }
    if meta.mode() & 0o007 != 0 {
        return Err(failed(&format!(
            "can be read by everybody on this machine (mode {:04o}); take their rights away \
             (`chmod o= FILE`; `defaultMode: 0440` in a Kubernetes volume)",
            meta.mode() & 0o7777
        )));
    }
    let mut text = String::new();
    let opened = File::open(path).map_err(cannot)?;
    opened
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(failed("is empty"));
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let told = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(false, Some(&path)).map(|token| token.unwrap().expose().to_owned())
        };
        assert_eq!(told("a-long-secret\r\n", 0o600).unwrap(), "a-long-secret");
        assert_eq!(told("with a space ", 0o440).unwrap(), "with a space ");
        for mode in [0o644, 0o604, 0o602] {
            let refused = told("a-long-secret", mode).unwrap_err();
            assert!(refused.to_string().contains("chmod"), "{refused}");
        }
        assert!(told("\n", 0o600).unwrap_err().to_string().contains("empty"));
        let missing = read(false, Some(&folder.path().join("none"))).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
        assert!(read(false, Some(folder.path())).is_err());
        let shown = read(true, None).unwrap_err().to_string();
        assert!(shown.contains("--token-file"), "{shown}");
    }
}
