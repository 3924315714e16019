//! Commands that can be pasted into a shell as they are printed.

use std::env;
use std::path::Path;

/// How this program is called: by its name where the shell finds it there, else by its path.
pub(super) fn myself() -> String {
    let Ok(own) = env::current_exe() else {
        return "maint".to_owned();
    };
    let own = own.canonicalize().unwrap_or(own);
    let found = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|folder| folder.join("maint"))
            .find(|candidate| candidate.is_file())
    });
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if found == own => "maint".to_owned(),
        _ => word(&own),
    }
}

/// A path as one word of a shell.
pub(super) fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        for (path, expected) in [
            ("/srv/a-b_c.1/maint", "/srv/a-b_c.1/maint"),
            ("/srv/my demo", "'/srv/my demo'"),
            ("/srv/it's $HOME", r"'/srv/it'\''s $HOME'"),
            ("", "''"),
        ] {
            assert_eq!(word(Path::new(path)), expected);
        }
    }
}
