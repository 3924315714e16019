//! Where a history is kept, as it is named to people.

use std::fmt;
use std::path::PathBuf;

/// A file, or a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// PostgreSQL: `host:port/database`.
    Server(String),
}

/// Completes "the history …": a file is named, a server is where it is.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Server(place) => write!(f, "at {place}"),
        }
    }
}

impl Place {
    /// Without the words around it.
    pub fn name(&self) -> String {
        match self {
            Place::File(path) => path.display().to_string(),
            Place::Server(place) => place.clone(),
        }
    }
}
