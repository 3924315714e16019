//! How the target of a task is reached.

use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::mongodb::{Dial, MongoError, Session};
use crate::values::Secret;

/// Takes the URL of a target apart.
pub(crate) fn dial(target: &Target) -> Result<Dial, EngineError> {
    let none = Secret::new(String::new());
    let url = target.url.as_ref().unwrap_or(&none);
    Ok(match (&target.database, &target.databases) {
        (Some(database), _) => Dial::to_database(url, &database.name)?,
        // Whoever asks which databases there are needs none of them.
        (None, Some(_)) => Dial::to_database(url, "admin")?,
        (None, None) => Dial::resolve(url)?,
    })
}

/// A session on another target that documents are archived to; what keeps us out says which.
pub(super) async fn elsewhere(
    name: &str,
    target: &Target,
    called: &str,
) -> Result<Session, EngineError> {
    let opened = Session::open(&dial(target)?, called).await;
    Ok(opened.map_err(|error| match error {
        MongoError::Connect { server, refusal } => MongoError::Connect {
            server: format!("target `{name}`, which documents are archived to, {server}"),
            refusal,
        },
        other => other,
    })?)
}
