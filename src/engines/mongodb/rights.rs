//! What our user may do, as the server says it.

use mongodb::bson::{Bson, Document, doc};

use super::{Limit, MongoError, Session};

/// Something that has to be allowed. Without a collection it is about all of a database, and without
/// that about the server as such.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// What, in the words of the server.
    pub action: &'static str,
    /// In which database.
    pub database: String,
    /// On which of its collections.
    pub collection: String,
}

/// What letting another member be primary takes.
pub const STEP_DOWN: &str = "replSetStateChange";

impl Right {
    /// Each of these on one collection.
    pub fn each(database: &str, collection: &str, actions: &[&'static str]) -> Vec<Right> {
        let one = |action: &&'static str| Right {
            action,
            database: database.to_owned(),
            collection: collection.to_owned(),
        };
        actions.iter().map(one).collect()
    }
}

/// What our user may do.
pub struct Rights {
    privileges: Vec<Document>,
}

impl Rights {
    /// Asks for them; none where nobody logs in, and everybody may do everything.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn of(session: &Session) -> Result<Option<Rights>, MongoError> {
        let ask = doc! { "connectionStatus": 1, "showPrivileges": true };
        let answer = session
            .command("asking for privileges", "admin", ask, Limit::ASIDE)
            .await?;
        let info = answer.get_document("authInfo").cloned().unwrap_or_default();
        if info
            .get_array("authenticatedUsers")
            .map_or(true, Vec::is_empty)
        {
            return Ok(None);
        }
        let privileges = info
            .get_array("authenticatedUserPrivileges")
            .into_iter()
            .flatten();
        let privileges = privileges.filter_map(Bson::as_document).cloned().collect();
        Ok(Some(Rights { privileges }))
    }

    /// Whether an action is allowed on a collection; without its name, on each of the database.
    pub fn has(&self, action: &str, database: &str, collection: &str) -> bool {
        self.allow(action, |resource| {
            on_collection(resource, database, collection)
        })
    }

    /// Whether an action on the server as such is allowed.
    pub fn has_on_cluster(&self, action: &str) -> bool {
        let is = |resource: &Document, what| resource.get_bool(what).unwrap_or(false);
        self.allow(action, |on| is(on, "anyResource") || is(on, "cluster"))
    }

    /// Those of these that are missing, each once.
    pub fn missing(&self, needed: &[Right]) -> Vec<Right> {
        let mut missing: Vec<Right> = needed
            .iter()
            .filter(|right| match right.database.as_str() {
                "" => !self.has_on_cluster(right.action),
                database => !self.has(right.action, database, &right.collection),
            })
            .cloned()
            .collect();
        missing.sort();
        missing.dedup();
        missing
    }

    fn allow(&self, action: &str, on: impl Fn(&Document) -> bool) -> bool {
        self.privileges.iter().any(|privilege| {
            let allowed = privilege.get_array("actions").into_iter().flatten();
            let mut allowed = allowed.filter_map(Bson::as_str);
            privilege.get_document("resource").is_ok_and(&on) && allowed.any(|one| one == action)
        })
    }
}

/// An empty name stands for all of them.
fn on_collection(resource: &Document, database: &str, collection: &str) -> bool {
    let on = |what, name: &str| {
        let on = resource.get_str(what);
        on.is_ok_and(|on| on.is_empty() || on == name)
    };
    resource.get_bool("anyResource").unwrap_or(false)
        || (on("db", database) && on("collection", collection))
}

impl Session {
    /// The server's refusal with the right that is missing: it says only which command it was, and
    /// one command may take rights on several collections.
    pub(crate) async fn denied(&self, error: MongoError, needed: &[Right]) -> MongoError {
        let MongoError::Unauthorized {
            doing,
            command,
            namespace,
            lives_in,
        } = error
        else {
            return error;
        };
        let rights = Rights::of(self).await.ok().flatten();
        let missing = rights.and_then(|rights| rights.missing(needed).into_iter().next());
        match missing {
            Some(right) => MongoError::Unauthorized {
                doing,
                command: right.action.to_owned(),
                namespace: super::namespace(&right.database, &right.collection),
                lives_in,
            },
            None => MongoError::Unauthorized {
                doing,
                command,
                namespace,
                lives_in,
            },
        }
    }

    /// Whether documents of a collection may be removed, which nothing is tried on.
    ///
    /// # Errors
    /// When they may not.
    pub(crate) async fn may_remove(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<(), MongoError> {
        // What is in no list is no document.
        let none = doc! { "q": { "_id": { "$in": [] } }, "limit": 0 };
        let command = doc! { "delete": collection, "deletes": [none] };
        let doing = "asking whether its documents may be removed";
        let asked = self.command(doing, database, command, Limit::ASIDE).await;
        match asked {
            Err(MongoError::Unauthorized {
                doing,
                namespace,
                lives_in,
                ..
            }) => Err(MongoError::Unauthorized {
                doing,
                command: "remove".to_owned(),
                namespace,
                lives_in,
            }),
            // Whatever else is in the way, as with a view, is told by who looks at that.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_found_wherever_it_was_granted() {
        let privilege = |resource: Document, actions: &[&str]| doc! { "resource": resource, "actions": actions };
        let rights = Rights {
            privileges: vec![
                privilege(doc! { "db": "app", "collection": "" }, &["find"]),
                privilege(doc! { "db": "app", "collection": "a" }, &["remove"]),
                privilege(doc! { "db": "", "collection": "" }, &["collStats"]),
                privilege(doc! { "cluster": true }, &["serverStatus"]),
            ],
        };
        assert!(rights.has("find", "app", "a") && rights.has("find", "app", ""));
        assert!(rights.has("remove", "app", "a") && !rights.has("remove", "app", ""));
        assert!(rights.has("collStats", "other", "x") && !rights.has("find", "other", "x"));
        assert!(rights.has_on_cluster("serverStatus") && !rights.has_on_cluster("find"));
        let mut needed = Right::each("app", "b", &["find", "remove", "insert"]);
        needed.extend(Right::each("app", "a", &["remove"]));
        let missing = rights.missing(&needed);
        let missing: Vec<&str> = missing.iter().map(|right| right.action).collect();
        assert_eq!(missing, ["insert", "remove"]);
        let on_server = Right::each("", "", &["serverStatus", "replSetStateChange"]);
        let missing = rights.missing(&on_server);
        assert_eq!(missing, on_server[1..]);
        let all = Rights {
            privileges: vec![privilege(doc! { "anyResource": true }, &["find", "remove"])],
        };
        assert!(all.has("remove", "any", "thing") && all.has_on_cluster("find"));
    }
}
