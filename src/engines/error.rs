//! What can go wrong between maint and a server of any engine, and what to do about it.

use super::mongodb::MongoError;
use super::postgres::Origin;
use super::postgres::connect::{ConnectError, DialError};
use super::postgres::told::told;

/// What can go wrong between maint and a server. Texts name the operation
/// and the server; causes are in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The connection settings make no sense.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server could not be reached, or did not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server is older than maint knows.
    #[error("{server} runs PostgreSQL {version}; maint needs 14 or newer")]
    TooOld {
        /// Which server.
        server: String,
        /// What it runs.
        version: String,
    },
    /// The server is a standby.
    #[error(
        "{server} is a standby (in recovery), where nothing can be changed; of the kinds only integrity and snapshot run there"
    )]
    InRecovery {
        /// Which server.
        server: String,
    },
    /// Another copy of the database answers than the one that is meant, as far as can be told.
    #[error("{message}")]
    OtherCopy {
        /// Where, and which.
        message: String,
    },
    /// A pooler hands the same server session to several clients.
    #[error(
        "{server} is reached through a pooler in transaction mode, where session locks and settings do not hold"
    )]
    Pooler {
        /// Which server.
        server: String,
    },
    /// A setting of the session would spoil the work, and only a superuser may change it.
    #[error("sessions on {server} begin with {setting}, and the role may not change it: {why}")]
    Setting {
        /// Which server.
        server: String,
        /// The setting with its value.
        setting: String,
        /// What it would spoil.
        why: &'static str,
        /// The statements that would help.
        mend: String,
    },
    /// The connection ended.
    #[error("the connection to {server} was lost while {doing}")]
    Lost {
        /// What was being done.
        doing: String,
        /// Which server.
        server: String,
        /// What the driver saw.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
    /// The server takes what it is sent, and answers nothing.
    #[error(
        "{server} says nothing: the answer to {what} is overdue, and it takes no new connection either"
    )]
    NoAnswer {
        /// Which server, or target.
        server: String,
        /// What was being waited for.
        what: String,
    },
    /// The server answers others, and not this session.
    #[error(
        "the session on {server} says nothing any more, long after its time was up, nor that it was asked to cancel"
    )]
    Stuck {
        /// Which server.
        server: String,
    },
    /// The server reported an error.
    #[error("{message} (SQLSTATE {sqlstate}, while {doing})")]
    Statement {
        /// What was being done.
        doing: String,
        /// The server's code.
        sqlstate: String,
        /// The server's message, with detail and hint where it gave them, without what rows contain.
        message: String,
        /// Where it was raised.
        origin: Box<Origin>,
    },
    /// What commits as it goes has not come to its end.
    #[error(
        "it may have done part of its work, and is not begun again by this run; look at what it has done before the next run begins it once more. What ended it"
    )]
    InPart {
        /// What ended it.
        source: Box<EngineError>,
    },
    /// A statement wants more or fewer values than it is given.
    #[error("{placeholders} placeholders ($1, …), but {values} values, while {doing}")]
    Placeholders {
        /// What was being done.
        doing: String,
        /// How many the statement has.
        placeholders: usize,
        /// How many it is given.
        values: usize,
    },
    /// The role may not see what has to be known.
    #[error("{what}")]
    NotVisible {
        /// What, and how to let it.
        what: String,
    },
    /// Code of others would run with the rights of our role.
    #[error("code that is not trusted would run with our rights: {what}; left alone")]
    UntrustedCode {
        /// Which, and whose.
        what: String,
    },
    /// Files could not be written, read or proved.
    #[error("{message}")]
    Files {
        /// What happened, and what it means for the rows.
        message: String,
    },
    /// Rows of a batch that was stored elsewhere did not go, without an error.
    #[error("{message}")]
    Stayed {
        /// How many, and what it means for the batch.
        message: String,
    },
    /// A table that is to be made would be published at once, to subscribers that have none like it.
    #[error("{message}")]
    Published {
        /// By which publications, and what helps.
        message: String,
    },
    /// Code that hangs on a table has undone what was done to it, or what is relied upon.
    #[error("{message}")]
    Aftermath {
        /// What it has done, and what helps.
        message: String,
    },
    /// A value of a row cannot be kept in a file as it is.
    #[error("{message}")]
    NotKept {
        /// Which column, why, and what keeps it.
        message: String,
    },
    /// Anything with MongoDB.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// The driver could not make sense of an exchange.
    #[error("an unexpected answer while {doing}")]
    Driver {
        /// What was being done.
        doing: String,
        /// What the driver saw.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
}

impl EngineError {
    /// Dresses up a driver error; `doing` completes "while …", and `sql` is what was asked.
    pub fn statement(doing: &str, sql: &str, cause: tokio_postgres::Error) -> Self {
        let Some(db) = cause.as_db_error() else {
            return EngineError::Driver {
                doing: doing.to_owned(),
                source: Box::new(cause),
            };
        };
        let origin = Origin {
            context: db.where_().map(str::to_owned),
            file: db.file().map(str::to_owned),
            routine: db.routine().map(str::to_owned),
            rule: match (db.constraint(), db.code().code(), db.column()) {
                (Some(constraint), ..) => Some(constraint.to_owned()),
                (None, "23502", Some(column)) => Some(format!("NOT NULL of {column}")),
                _ => None,
            },
        };
        EngineError::Statement {
            doing: doing.to_owned(),
            sqlstate: db.code().code().to_owned(),
            message: told(db, sql, &origin),
            origin: Box::new(origin),
        }
    }

    /// The server's code, where the server reported the error.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            EngineError::Statement { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// What the server reported, in other words; any other error as it is.
    #[must_use]
    pub fn reworded(self, words: impl FnOnce(String) -> String) -> EngineError {
        match self {
            EngineError::Statement {
                doing,
                sqlstate,
                message,
                origin,
            } => EngineError::Statement {
                message: words(message),
                doing,
                sqlstate,
                origin,
            },
            other => other,
        }
    }

    /// Whether the server refused a statement since the role may not do or read that.
    pub fn is_forbidden(&self) -> bool {
        // insufficient_privilege
        self.sqlstate() == Some("42501")
    }

    /// Whether the server is up, and has no connection free.
    pub fn is_full(&self) -> bool {
        matches!(self, EngineError::Connect(error) if error.is_full())
    }

    /// Whether the server is up, and has no database of that name.
    pub fn has_no_such_database(&self) -> bool {
        matches!(self, EngineError::Connect(error) if error.has_no_such_database())
    }

    /// Whether what is in between let wait for a connection until it gave up: whoever asks again waits
    /// as long.
    pub fn has_waited(&self) -> bool {
        matches!(self, EngineError::Connect(error) if error.has_waited())
    }

    /// Whether the address itself is wrong, so that nobody was asked: exit code 2.
    pub fn is_address(&self) -> bool {
        match self {
            EngineError::Dial(_) => true,
            EngineError::Mongo(error) => error.is_address(),
            _ => false,
        }
    }

    /// Whether the server could not be reached, or was lost: exit code 3.
    pub fn is_unreachable(&self) -> bool {
        match self {
            EngineError::Dial(_)
            | EngineError::Connect(_)
            | EngineError::TooOld { .. }
            | EngineError::InRecovery { .. }
            | EngineError::OtherCopy { .. }
            | EngineError::Pooler { .. }
            | EngineError::Setting { .. }
            | EngineError::NoAnswer { .. }
            | EngineError::Stuck { .. }
            | EngineError::Lost { .. } => true,
            EngineError::Mongo(error) => error.is_unreachable(),
            EngineError::InPart { source } => source.is_unreachable(),
            EngineError::Statement { .. }
            | EngineError::Placeholders { .. }
            | EngineError::Driver { .. }
            | EngineError::Files { .. }
            | EngineError::Stayed { .. }
            | EngineError::Published { .. }
            | EngineError::Aftermath { .. }
            | EngineError::NotKept { .. }
            | EngineError::NotVisible { .. }
            | EngineError::UntrustedCode { .. } => false,
        }
    }

    /// What to do next, where there is something better to say than the error itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::Connect(error) => Some(error.hint()),
            EngineError::Mongo(error) => error.hint(),
            EngineError::InRecovery { .. } => {
                Some("point the target's `url` at the primary, or list both hosts and add target_session_attrs=read-write".to_owned())
            }
            EngineError::OtherCopy { .. } => {
                Some("stop the server that was the primary before, and make a standby of it (pg_rewind); or name only the right host in the target's `url`".to_owned())
            }
            EngineError::Pooler { .. } => {
                Some("point the target's `url` at PostgreSQL itself, or at a pool in session mode".to_owned())
            }
            EngineError::Setting { mend, .. } => Some(format!("as a superuser: {mend}")),
            // untranslatable_character
            EngineError::Statement { sqlstate, .. } if sqlstate == "22P05" => Some(
                "the encoding of one of the databases has no such character: rows that hold it go to files, or to a database whose encoding is UTF8".to_owned(),
            ),
            // character_not_in_repertoire
            EngineError::Statement { sqlstate, .. } if sqlstate == "22021" => Some(
                "a name or a text there is not valid in UTF-8, which a database with the encoding SQL_ASCII lets in; \
                 find the name with: SET client_encoding = 'SQL_ASCII'; SELECT oid, relname FROM pg_catalog.pg_class WHERE relname ~ '[^ -~]'; and rename it".to_owned(),
            ),
            // duplicate_table
            EngineError::Statement { sqlstate, .. } if sqlstate == "42P07" => {
                Some("somebody has made it since the plan was made; run the task again, and it looks at what there is now".to_owned())
            }
            EngineError::UntrustedCode { .. } => {
                Some("name its owner under `trust_owners` of the target, or connect as the owner; see docs/security.md".to_owned())
            }
            EngineError::TooOld { .. } => Some("upgrade the server".to_owned()),
            EngineError::NoAnswer { .. } | EngineError::Stuck { .. } => Some(
                "look whether the server, its disks, and any proxy or firewall before it still work; the next run ends what is left at work there, and clears away what it left".to_owned(),
            ),
            EngineError::Lost { .. } => {
                Some("look into the server's log for a crash, a restart or a terminated session; then run the task again".to_owned())
            }
            _ => None,
        }
    }
}
