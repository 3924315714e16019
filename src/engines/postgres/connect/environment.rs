//! What the machine says when the URL says nothing: home folder, user,
//! socket directories.

use std::path::{Path, PathBuf};

use super::dial_error::DialError;

/// Where distributions put the server's socket, in the order tried.
const SOCKET_DIRECTORIES: &[&str] = &["/var/run/postgresql", "/tmp"];

/// Looks up variables; the lookup is passed in, so that tests need not
/// change the environment of the process.
pub(super) struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Environment { lookup }
    }

    /// A variable; an empty one counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// A file in the home folder, if there is a home folder.
    pub(super) fn home_file(&self, relative: &str) -> Option<PathBuf> {
        let home = self.get("HOME").map(PathBuf::from).or_else(|| {
            nix::unistd::User::from_uid(nix::unistd::geteuid())
                .ok()
                .flatten()
                .map(|user| user.dir)
        })?;
        Some(home.join(relative))
    }
}

/// The name of the operating system user, libpq's default role.
pub(super) fn operating_system_user() -> Result<String, DialError> {
    let id = nix::unistd::geteuid();
    let uid = id.as_raw();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err(DialError::NoRole { uid }),
        Err(errno) => Err(DialError::UserNotRead {
            uid,
            source: errno.into(),
        }),
    }
}

/// The file a server listens on in `directory`.
pub(super) fn socket_file(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// Where to connect when nobody named a host.
///
/// libpq has one directory compiled in. A static binary meets several
/// distributions, so it takes the first one where a server listens, and
/// the loopback address if there is none (a container has no socket).
pub(super) fn default_host(port: u16) -> String {
    SOCKET_DIRECTORIES
        .iter()
        .find(|directory| socket_file(Path::new(directory), port).exists())
        .map_or_else(
            || "localhost".to_owned(),
            |directory| (*directory).to_owned(),
        )
}
