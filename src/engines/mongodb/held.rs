//! What a collection is, as far as it matters to documents that are put into it.

use mongodb::bson::{Bson, Document, doc};

use super::names::{CLAIMS, LONGEST_NAMESPACE};
use super::{Limit, MongoError, Refusal, Session, namespace};

/// What is known of a collection that documents go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its identity: no other collection has it, whatever the name it is reached by.
    pub uuid: Option<String>,
    /// Why documents do not stay there as they are; none where they do.
    pub unfit: Option<String>,
}

/// What has become of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It is called so now, in the same database.
    Renamed(String),
    /// Another one has its name.
    Replaced,
    /// There is none of its name.
    Dropped,
}

impl Became {
    /// In words that go on from its name.
    pub fn said(&self, database: &str) -> String {
        match self {
            Became::Renamed(name) => {
                format!("was renamed to {} meanwhile", namespace(database, name))
            }
            Became::Replaced => {
                "was dropped or renamed meanwhile, and another collection has its name".to_owned()
            }
            Became::Dropped => "was dropped meanwhile, or moved to another database".to_owned(),
        }
    }
}

impl Session {
    /// Why a collection that is not there cannot be made by this name, if so.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn unnameable(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<Option<String>, MongoError> {
        let whole = namespace(database, collection).len();
        if whole > LONGEST_NAMESPACE {
            return Ok(Some(format!(
                "database and name have {whole} bytes together, and the server takes {LONGEST_NAMESPACE}: give it a shorter name"
            )));
        }
        let all = match self.databases().await {
            Err(MongoError::Unauthorized { .. }) => return Ok(None),
            all => all?,
        };
        let same = |name: &&String| name.eq_ignore_ascii_case(database);
        if all.iter().any(|name| name == database) {
            return Ok(None);
        }
        Ok(all.iter().find(same).map(|other| {
            format!(
                "there is a database `{other}`, and the server makes none whose name differs in upper and lower case only: write `{other}`, or choose another name"
            )
        }))
    }

    /// Whether tasks can do anything on this target at all.
    ///
    /// # Errors
    /// When we talk to a member that takes no writes, or when there is no database by the name in the URL and none
    /// can be made.
    pub async fn can_be_worked_on(&self) -> Result<(), MongoError> {
        if !self.server.writable {
            return Err(MongoError::Connect {
                server: self.describe().to_owned(),
                refusal: match self.is_direct() {
                    true => Refusal::NotPrimary,
                    false => Refusal::NoPrimary,
                },
            });
        }
        let database = self.database();
        // Where that is not told, nothing is known against it.
        match self.unnameable(database, CLAIMS).await {
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(why)) => Err(MongoError::Unnameable {
                database: database.to_owned(),
                why,
            }),
        }
    }

    /// What has become of the collection that had this identity by this name; none where it still
    /// has.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn became(
        &self,
        database: &str,
        collection: &str,
        was: &str,
    ) -> Result<Option<Became>, MongoError> {
        let listed = self.listed(database, collection).await?;
        let now = listed.as_ref().and_then(identity_of);
        if now.as_deref() == Some(was) {
            return Ok(None);
        }
        let command = doc! { "listCollections": 1 };
        let doing = "looking what has become of the collection";
        let mut renamed = None;
        self.each(doing, database, command, Limit::ASIDE, |one| {
            let info = one.get_document("info").ok();
            let info = info.and_then(|info| Document::try_from(info).ok());
            let is_it = info
                .is_some_and(|info| identity_of(&doc! { "info": info }).as_deref() == Some(was));
            if is_it {
                renamed = one.get_str("name").ok().map(str::to_owned);
            }
            !is_it
        })
        .await?;
        Ok(Some(match (renamed, listed) {
            (Some(renamed), _) => Became::Renamed(renamed),
            (None, Some(_)) => Became::Replaced,
            (None, None) => Became::Dropped,
        }))
    }

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

    /// The same, and why documents cannot be kept there: of one that does not exist, why it cannot be
    /// made.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn to_keep(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<(Option<Held>, Option<String>), MongoError> {
        let held = self.held(database, collection).await?;
        let why = match &held {
            Some(held) => held.unfit.clone(),
            None => match self.unmakeable() {
                Some(why) => Some(why),
                None => self.unnameable(database, collection).await?,
            },
        };
        Ok((held, why))
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

/// The same as plans have it.
pub(crate) fn identity_of(listed: &Document) -> Option<String> {
    let uuid = listed.get_document("info").ok()?.get("uuid")?;
    Some(match uuid {
        Bson::Binary(binary) => match uuid::Uuid::from_slice(&binary.bytes) {
            Ok(uuid) => uuid.to_string(),
            Err(_) => format!("{binary:?}"),
        },
        other => other.to_string(),
    })
}

fn uuid(listed: &Document) -> Option<String> {
    let info = listed.get_document("info").ok()?;
    info.get("uuid").map(ToString::to_string)
}
