use std::collections::HashMap;
use std::future::Future;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Baseline, KindInfo, Plan};
use crate::engines::EngineError;
use crate::values::Engine;

/// What a decision may depend on besides the facts of the target.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// 1 at first; 2 when the facts were read again because the first plan
    /// left objects [pending](Plan::pending). A second plan leaves none.
    pub round: u32,
    /// What earlier runs learned about the objects of this target, by object.
    pub baselines: HashMap<String, Baseline>,
}

/// A kind of maintenance. The type itself holds the task's options.
pub trait Kind: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The word written after `kind:`.
    const NAME: &'static str;
    /// One line for help texts.
    const SUMMARY: &'static str;
    /// The engine whose targets this kind works on.
    const ENGINE: Engine;
    /// How the engine is talked to.
    type Session: Send + Sync;
    /// What the decision is made from.
    type Facts: Send;

    /// Whether the options make sense together. Each alone has been checked.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Reads the facts. Changes nothing, and needs a number of queries that
    /// does not depend on the number of objects.
    fn inspect(
        &self,
        db: &Self::Session,
    ) -> impl Future<Output = Result<Self::Facts, EngineError>> + Send;

    /// Decides. Pure: the same facts at the same moment give the same plan.
    fn plan(&self, facts: Self::Facts, at: &Moment) -> Plan;
}

/// Any kind of one engine, its options filled in.
#[async_trait]
pub trait AnyKind<S>: Send + Sync {
    /// Reads the facts and decides.
    async fn propose(&self, db: &S, at: &Moment) -> Result<Plan, EngineError>;
}

#[async_trait]
impl<K: Kind> AnyKind<K::Session> for K {
    async fn propose(&self, db: &K::Session, at: &Moment) -> Result<Plan, EngineError> {
        let facts = self.inspect(db).await?;
        Ok(self.plan(facts, at))
    }
}

/// Fills in a kind's options; the message says what is wrong with them.
pub type Build<S> = fn(&Value) -> Result<Box<dyn AnyKind<S>>, String>;

/// One line of an engine's table of kinds.
pub struct Entry<S: 'static> {
    /// What configuration needs to know.
    pub info: KindInfo,
    /// Fills in the options.
    pub build: Build<S>,
}

impl<S: 'static> Entry<S> {
    /// The line for kind `K`.
    pub const fn of<K: Kind<Session = S>>() -> Self {
        Entry {
            info: KindInfo {
                name: K::NAME,
                engine: K::ENGINE,
                summary: K::SUMMARY,
                options_schema: || schema_for!(K),
                check_options: |options| parse::<K>(options).map(drop),
            },
            build: |options| Ok(Box::new(parse::<K>(options)?)),
        }
    }
}

fn parse<K: Kind>(options: &Value) -> Result<K, String> {
    let kind: K = serde_json::from_value(options.clone()).map_err(|e| e.to_string())?;
    kind.check()?;
    Ok(kind)
}
