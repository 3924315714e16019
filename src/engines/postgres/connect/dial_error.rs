//! What can be wrong with the words that describe a connection.

use std::path::PathBuf;
use std::{fmt, io};

/// A URL, a variable or a service file that does not describe a connection.
///
/// No variant holds a password or a piece of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The URL or keyword string cannot be read.
    #[error("the connection URL {problem}")]
    Malformed {
        /// What is wrong, as the end of a sentence.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// A parameter that libpq does not know either.
    #[error("{origin} sets `{name}`, which is not a connection parameter")]
    UnknownParameter {
        /// The name as written.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// A known name that looks like it.
        nearest: Option<&'static str>,
        /// All names that are known.
        known: Vec<&'static str>,
    },
    /// A value outside of what the parameter allows.
    #[error("{origin} gives `{name}` {value}; it must be {expected}")]
    InvalidValue {
        /// The parameter.
        name: &'static str,
        /// Where it was written.
        origin: Origin,
        /// The value in words.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A parameter of libpq that maint cannot honour.
    #[error("{origin} sets `{name}`, which maint does not support: {reason}")]
    Unsupported {
        /// The parameter.
        name: &'static str,
        /// Where it was written.
        origin: Origin,
        /// Why not.
        reason: &'static str,
    },
    /// Lists of hosts, addresses and ports that do not belong together.
    #[error("{problem}")]
    Mismatch {
        /// The numbers, as a sentence.
        problem: String,
    },
    /// A line of a service file that cannot be read.
    #[error("line {line} of {} {problem}", file.display())]
    ServiceFile {
        /// The file.
        file: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong, as the end of a sentence.
        problem: &'static str,
    },
    /// A service that no file defines.
    #[error("the service `{name}` is defined in none of {}", list(files))]
    UnknownService {
        /// The service.
        name: String,
        /// The files that were looked at.
        files: Vec<PathBuf>,
    },
    /// A file that exists and cannot be read.
    #[error("the file {} cannot be read", file.display())]
    UnreadableFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No role, and no operating system user to take its name from.
    #[error("no role is given, and the operating system has no name for user id {uid}")]
    NoRole {
        /// The user id of the process.
        uid: u32,
    },
    /// No role, and the users of the operating system cannot be read.
    #[error("no role is given, and the name of user id {uid} cannot be looked up")]
    UserNotRead {
        /// The user id of the process.
        uid: u32,
        /// Why not.
        source: io::Error,
    },
}

impl DialError {
    /// Whether it is so on this machine, and may not be on another.
    pub fn is_of_this_machine(&self) -> bool {
        match self {
            DialError::ServiceFile { .. }
            | DialError::UnknownService { .. }
            | DialError::UnreadableFile { .. }
            | DialError::NoRole { .. }
            | DialError::UserNotRead { .. } => true,
            DialError::Malformed { .. }
            | DialError::UnknownParameter { .. }
            | DialError::InvalidValue { .. }
            | DialError::Unsupported { .. }
            | DialError::Mismatch { .. } => false,
        }
    }

    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            DialError::Malformed { hint, .. } => (*hint).to_owned(),
            DialError::UnknownParameter { name, .. } if OF_ORMS.contains(&name.as_str()) => {
                format!("it belongs to an ORM: leave `{name}` out here; maint looks at all schemas")
            }
            DialError::UnknownParameter { nearest, known, .. } => {
                let known = known.join(", ");
                match nearest {
                    Some(nearest) => format!("did you mean `{nearest}`? known: {known}"),
                    None => format!("known: {known}"),
                }
            }
            DialError::InvalidValue { name, expected, .. } => {
                format!("set `{name}` to {expected}")
            }
            DialError::Unsupported { name, .. } => format!("remove `{name}`"),
            DialError::Mismatch { .. } => {
                "give one port for all hosts, or one per host, and as many addresses as hosts"
                    .to_owned()
            }
            DialError::ServiceFile { .. } => {
                "a service is a line `[name]` followed by lines `parameter=value`".to_owned()
            }
            DialError::UnknownService { name, .. } => {
                format!("add a section `[{name}]`, or point PGSERVICEFILE at the file that has it")
            }
            DialError::UnreadableFile { .. } => {
                "check the permissions of the file and of its folders".to_owned()
            }
            DialError::NoRole { .. } | DialError::UserNotRead { .. } => {
                "name the role in the URL (`postgres://role@host/database`) or in PGUSER".to_owned()
            }
        }
    }
}

/// What ORMs and drivers write into URLs, and the server never sees.
const OF_ORMS: [&str; 11] = [
    "schema",
    "currentSchema",
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "pool",
    "pool_size",
    "statement_cache_size",
    "prepareThreshold",
    "prepared_statements",
    "sslaccept",
];

fn list(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|file| file.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Where a setting was found; error messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The URL or keyword string.
    Url,
    /// A line of a service file.
    Service {
        /// The file.
        file: PathBuf,
        /// The line, counted from one.
        line: usize,
    },
    /// An environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Url => f.write_str("the connection URL"),
            Origin::Service { file, line } => write!(f, "line {line} of {}", file.display()),
            Origin::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}
