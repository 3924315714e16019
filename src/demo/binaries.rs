//! Where on this machine a PostgreSQL server can be had.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::DemoError;

const OLDEST: u32 = 14;
const NEWEST: u32 = 19;

/// The server programs of one PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// The first usable server: `MAINT_PG_BIN`, then `PATH`, then where the
    /// Linux distributions put them, newest first.
    ///
    /// A `MAINT_PG_BIN` that does not fit is an error, not a reason to look
    /// further: whoever set it wanted that one.
    pub fn find() -> Result<Self, DemoError> {
        if let Some(folder) = std::env::var_os("MAINT_PG_BIN").filter(|folder| !folder.is_empty()) {
            return Self::at(Path::new(&folder));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        for folder in std::env::split_paths(&path) {
            if folder.join("postgres").is_file()
                && let Ok(found) = Self::at(&folder)
            {
                return Ok(found);
            }
        }
        // Debian's packages, then those of postgresql.org for Red Hat.
        let debian = |major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        let red_hat = |major| PathBuf::from(format!("/usr/pgsql-{major}/bin"));
        for major in (OLDEST..=NEWEST).rev() {
            for folder in [debian(major), red_hat(major)] {
                if let Ok(found) = Self::at(&folder) {
                    return Ok(found);
                }
            }
        }
        let looked_in = [
            "MAINT_PG_BIN",
            "PATH",
            "/usr/lib/postgresql/*/bin",
            "/usr/pgsql-*/bin",
        ];
        Err(DemoError::NoServer {
            oldest: OLDEST,
            newest: NEWEST,
            looked_in: looked_in.map(str::to_owned).to_vec(),
        })
    }

    /// The server in this folder, if it is complete and of a version that
    /// maint looks after.
    pub fn at(folder: &Path) -> Result<Self, DemoError> {
        let bad = |reason: String| DemoError::BadBinaries {
            folder: folder.to_owned(),
            reason,
        };
        // The programs are started from another folder, so a relative path would miss.
        let folder = folder
            .canonicalize()
            .map_err(|error| bad(error.to_string()))?;
        for program in ["initdb", "postgres"] {
            if !folder.join(program).is_file() {
                return Err(bad(format!("there is no `{program}` in it")));
            }
        }
        let said = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| bad(format!("`postgres --version` does not run: {error}")))?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        match major_of(&said) {
            Some(major) if (OLDEST..=NEWEST).contains(&major) => Ok(Self { folder, major }),
            Some(_) => Err(bad(format!("{said} is not one of {OLDEST} to {NEWEST}"))),
            None => Err(bad(format!("`postgres --version` said {said:?}"))),
        }
    }

    /// The major version, e.g. 17.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder the programs are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `postgres (PostgreSQL) 17.5 (Debian 17.5-1)`, `postgres (PostgreSQL) 18beta1` → 17, 18.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn major_is_the_number_before_the_dot() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 17.5 (Debian 17.5-1.pgdg)"),
            Some(17)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(major_of("mysqld 8.0"), None);
    }
}
