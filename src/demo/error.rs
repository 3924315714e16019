//! Why a throwaway server or its data could not be had.

use std::path::PathBuf;

/// Why the throwaway cluster or its data could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No usable server programs on this machine.
    #[error(
        "No PostgreSQL {oldest} to {newest} server was found; looked in {}. Install one \
         (Debian: apt install postgresql) or set MAINT_PG_BIN to the folder that holds \
         `initdb` and `postgres`.",
        .looked_in.join(", ")
    )]
    NoServer {
        /// Oldest major version that would have done.
        oldest: u32,
        /// Newest major version that would have done.
        newest: u32,
        /// The places that were searched, in that order.
        looked_in: Vec<String>,
    },
    /// A folder that was named explicitly does not hold a usable server.
    #[error("The folder {} does not hold a usable PostgreSQL server: {reason}.", .folder.display())]
    BadBinaries {
        /// The folder named.
        folder: PathBuf,
        /// What is missing there.
        reason: String,
    },
    /// PostgreSQL refuses to run as root and there is nobody else to run it as.
    #[error(
        "PostgreSQL does not run as root, and neither a `postgres` nor a `nobody` user exists to \
         run it as. Start this as an ordinary user."
    )]
    NoUser,
    /// A file or folder of the cluster could not be made, read or handed over.
    #[error("Could not {doing} {}.", .path.display())]
    File {
        /// What was tried, e.g. `write`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program of the cluster could not be started at all.
    #[error("Could not start {}.", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `initdb` ended with an error.
    #[error("initdb could not create the database cluster. It said:\n{said}")]
    Initdb {
        /// Its last lines.
        said: String,
    },
    /// The server ended while starting, or did not answer in time.
    #[error("The PostgreSQL server {what}. The last lines of its log:\n{log}")]
    Start {
        /// `ended while it was starting` or `did not answer within …`.
        what: String,
        /// The end of the server's log.
        log: String,
    },
    /// The server ignored every request to stop.
    #[error("The PostgreSQL server with process id {pid} does not stop.")]
    Stop {
        /// Its process id.
        pid: u32,
    },
    /// A statement of the demo's own SQL failed.
    #[error("The demo's data could not be made; it failed at: {doing}.")]
    Sql {
        /// The step, as shown in the progress.
        doing: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// `MAINT_MONGOD` does not name a usable server.
    #[error("MAINT_MONGOD={} is no usable MongoDB server: {reason}. Name another one, or `none` to do without.", .program.display())]
    BadMongod {
        /// What it names.
        program: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// MongoDB's server ended while starting, or did not answer in time.
    #[error("The MongoDB server {what}. The last lines of its log:\n{log}")]
    StartMongod {
        /// What it did instead.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// MongoDB refused a command of the demo's own.
    #[error("The demo's MongoDB could not be prepared; it failed at: {doing}.")]
    Mongodb {
        /// What was being done.
        doing: String,
        /// What the driver said.
        source: Box<mongodb::error::Error>,
    },
}

impl DemoError {
    pub(super) fn file(
        doing: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| DemoError::File {
            doing,
            path,
            source,
        }
    }
}
