//! Databases and collections that the user may not look into.

use super::{Facts, Thing};
use crate::engines::EngineError;
use crate::engines::mongodb::MongoError;

/// Why something could not be looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closed {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Closed {
    /// What concerns one thing alone; else the error of everything.
    pub(super) fn of(error: EngineError) -> Result<Closed, EngineError> {
        match &error {
            EngineError::Mongo(of) if !of.is_unreachable() && !of.is_passing() => Ok(Closed {
                code: match of {
                    MongoError::Unauthorized { .. } => "privilege.missing",
                    _ => "cleanup.rule",
                },
                message: of.to_string(),
                hint: of.hint(),
            }),
            _ => Err(error),
        }
    }
}

impl Facts {
    /// Why a rule cannot be followed, where what it needs could not be looked at.
    pub(super) fn closed<'a>(
        &self,
        places: impl IntoIterator<Item = &'a (String, String)>,
        thing: Thing,
    ) -> Option<&Closed> {
        let of = |(database, name): &(String, String)| {
            let whole = self.closed.get(&Thing::Database(database.clone()));
            whole.or_else(|| {
                let thing = Thing::Collection(database.clone(), name.clone());
                self.closed.get(&thing)
            })
        };
        let mut found = places.into_iter().filter_map(of);
        found.next().or_else(|| self.closed.get(&thing))
    }
}
