//! What a collection is, as far as it matters to documents that are put into it.

use mongodb::bson::{Document, doc};

use super::{Limit, MongoError, Session};

/// What is known of a collection that documents go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its identity: no other collection has it, whatever the name it is reached by.
    pub uuid: Option<String>,
    /// Why documents do not stay there as they are; none where they do.
    pub unfit: Option<String>,
}

impl Session {
    /// The identity of a collection; none where it does not exist, or is a view.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn identity(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<Option<String>, MongoError> {
        let listed = self.listed(database, collection).await?;
        Ok(listed.as_ref().and_then(uuid))
    }

    /// Looks at a collection that documents are to be put into; none where it does not exist.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn held(&self, database: &str, collection: &str) -> Result<Option<Held>, MongoError> {
        let Some(listed) = self.listed(database, collection).await? else {
            return Ok(None);
        };
        let options = listed.get_document("options").cloned().unwrap_or_default();
        let unfit = match listed.get_str("type").ok() {
            Some("view") => Some("it is a view".to_owned()),
            Some("timeseries") => Some(
                "it is a time-series collection, which stores documents in another shape"
                    .to_owned(),
            ),
            _ if options.get_bool("capped").unwrap_or(false) => {
                Some("it is capped: the server removes the oldest documents itself".to_owned())
            }
            // Clustered collections expire by their `_id`.
            _ if options.contains_key("expireAfterSeconds") => {
                Some("it is made with expireAfterSeconds: documents expire there".to_owned())
            }
            _ => match self.spreads(database).await?.of(collection).why_not() {
                Some(why) => Some(why.to_owned()),
                None => self.expiring(database, collection).await?,
            },
        };
        Ok(Some(Held {
            uuid: uuid(&listed),
            unfit,
        }))
    }

    async fn listed(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<Option<Document>, MongoError> {
        let command = doc! { "listCollections": 1, "filter": { "name": collection } };
        let doing = "looking at the collection";
        let found = self.all(doing, database, command, Limit::ASIDE).await?;
        Ok(found.into_iter().next())
    }

    async fn expiring(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<Option<String>, MongoError> {
        let command = doc! { "listIndexes": collection };
        let doing = "looking for TTL indexes";
        let indexes = match self.all(doing, database, command, Limit::ASIDE).await {
            Err(error) if error.is_vanished() => return Ok(None),
            indexes => indexes?,
        };
        let expiring = indexes
            .iter()
            .find(|index| index.contains_key("expireAfterSeconds"));
        Ok(expiring.map(|index| {
            format!(
                "documents expire there by its TTL index `{}`",
                index.get_str("name").unwrap_or_default()
            )
        }))
    }
}

fn uuid(listed: &Document) -> Option<String> {
    let info = listed.get_document("info").ok()?;
    info.get("uuid").map(ToString::to_string)
}
