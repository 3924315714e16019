//! What helps against an error of the history.

use std::path::Path;

use super::super::Place;
use super::HistoryError;
use crate::engines::postgres::Identifier;

impl HistoryError {
    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            HistoryError::NoFile { .. } => {
                "name a file, which need not be there yet: `history: sqlite:maint.db`".to_owned()
            }
            HistoryError::BadLocation { .. } => "write `history: sqlite:maint.db` or `history: postgres://user@host/database`".to_owned(),
            HistoryError::BadUrl(error) => error.hint(),
            HistoryError::CannotCopy => {
                "maint history copy --from sqlite:maint.db --to postgres://user@host/database".to_owned()
            }
            HistoryError::NoConnection { hint, .. } => hint.clone(),
            HistoryError::OutOfReach { .. } => {
                "see whether that server runs and answers; a pooler in statement mode cannot be used".to_owned()
            }
            HistoryError::NotAllowed { .. } => {
                "as the owner of that database: CREATE SCHEMA maint AUTHORIZATION ROLE, with the role of the history's URL; or grant it CREATE on the database once. Where the schema is there already: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA maint TO ROLE".to_owned()
            }
            HistoryError::Encoding { .. } => {
                "name another database in `history:`, made with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0; runs that are here already can be read as before, and pg_dump with psql brings them along".to_owned()
            }
            HistoryError::Published { .. } => {
                "name another database of that server in `history:`, or a file (`sqlite:maint.db`); a publication that lists its tables is no obstacle".to_owned()
            }
            HistoryError::NotOurs { owner, role, .. } => {
                let (owner, role) = (Identifier::new(&**owner), Identifier::new(&**role));
                format!("look at what it is; then ALTER … OWNER TO {role}, or connect as {owner}, or add options=-crole={owner} to the URL if {owner} is what maint is to be there; or DROP it, or name another database")
            }
            HistoryError::Missing { place: Place::File(_) } => {
                "nothing has run here yet, or `history:` names another file than the one `maint run` wrote".to_owned()
            }
            HistoryError::Missing { place: Place::Server(_) } => {
                "nothing has run here yet, or `history:` names another database than the one `maint run` wrote to".to_owned()
            }
            HistoryError::NoFolder { path } => {
                format!("mkdir -p {}", path.parent().unwrap_or(Path::new(".")).display())
            }
            HistoryError::ReadOnly { place: Place::Server(_), .. } => {
                "name the primary: a standby cannot be written".to_owned()
            }
            HistoryError::ReadOnly { place: Place::File(path), .. } => format!(
                "{} and its folder must be writable by this user: SQLite keeps two more files beside it",
                path.display()
            ),
            HistoryError::OlderSchema { place: Place::File(_) } => {
                "run any maint command once as a user who may write it".to_owned()
            }
            HistoryError::OlderSchema { place: Place::Server(_) } => {
                "run any maint command once, at the primary, as the role that owns the schema `maint`".to_owned()
            }
            HistoryError::Damaged { path, .. } => format!(
                "move it away to start a new one; `sqlite3 {} .recover` may save what it holds",
                path.display()
            ),
            HistoryError::NotADatabase { .. } => {
                "name another file in `history:`; if this was the history, put it back from a backup".to_owned()
            }
            HistoryError::NotAHistory { .. } => "name another file in `history:`".to_owned(),
            HistoryError::NewerSchema { place: Place::File(_), .. } => {
                "use the newer maint everywhere, or name another file in `history:`".to_owned()
            }
            HistoryError::NewerSchema { place: Place::Server(_), .. } => {
                "use the newer maint everywhere, or name another database in `history:`".to_owned()
            }
            HistoryError::DiskFull { place: Place::File(_), .. } => {
                "make room on that disk; nothing already recorded is lost".to_owned()
            }
            HistoryError::DiskFull { place: Place::Server(_), .. } => {
                "make room on the disk of that server; nothing already recorded is lost".to_owned()
            }
            HistoryError::Replaced { .. } => {
                "put the file back while maint is not at work; what an archive has stored lies beside its files, too".to_owned()
            }
            HistoryError::Busy { place: Place::File(_), .. } => {
                "see who holds it with `fuser` or `lsof`".to_owned()
            }
            HistoryError::Busy { place: Place::Server(_), .. } => {
                "see in pg_stat_activity and pg_locks who holds locks on tables of the schema `maint`, and how busy the server is".to_owned()
            }
            HistoryError::AmbiguousRun { .. } => "give more of the id".to_owned(),
            HistoryError::UnknownRun { .. } => "`maint history` lists the runs; `last` means the newest".to_owned(),
            HistoryError::CannotOpen { .. }
            | HistoryError::Stalled { .. }
            | HistoryError::Silent
            | HistoryError::Ended
            | HistoryError::NoRuns
            | HistoryError::NotOpened { .. }
            | HistoryError::Unreadable { .. }
            | HistoryError::Failed { .. } => return None,
        };
        Some(hint)
    }
}
