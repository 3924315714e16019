//! What every kind of task answers: what to read, and what to do about it. Deciding is pure; it is
//! given its time and whatever earlier runs have learned.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Ageing, Replacing, Unfit};
use super::{Baseline, Body, Finding, KindInfo, Plan, unmet, unnamed};
use crate::engines::EngineError;
use crate::values::{Engine, NamePattern, SchemaPattern};

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
    /// What this kind asked to remember about this target, by key.
    pub memories: HashMap<String, Value>,
    /// The same about targets that the configuration has not any more, by name, for kinds that
    /// [rest on it](Kind::NEEDS_HISTORY): this target may have had another name.
    pub former: BTreeMap<String, HashMap<String, Value>>,
    /// The time zone of the configuration: where days and months begin.
    pub zone: Tz,
}

impl Moment {
    /// What was learned of an object, if it is still what it was: one that was dropped and made
    /// otherwise under its name is another.
    pub fn baseline(&self, object: &str, made_as: &str) -> Option<&Baseline> {
        let known = self.baselines.get(object)?;
        let same = known.made_as.as_ref().is_none_or(|then| then == made_as);
        same.then_some(known)
    }
}

/// A session of one engine, and what the steps of that engine are made of.
#[async_trait]
pub trait Speaks: Send + Sync + 'static {
    /// What is done in a step, and what is asked around it.
    type Body: Body;
    /// Something that the user of a target has to be allowed.
    type Right: Send;

    /// Which of these patterns no object goes by, from 0. Only kinds that say which objects
    /// they [include](Kind::includes) or [exclude](Kind::excludes) have it asked.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    async fn meeting_nothing(&self, _patterns: &[NamePattern]) -> Result<Vec<usize>, EngineError> {
        Ok(Vec::new())
    }

    /// The names of all schemas, where the engine has any. Only kinds that are told which
    /// [schemas](Kind::schemas) are meant have it asked.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    async fn schemas(&self) -> Result<Vec<String>, EngineError> {
        Ok(Vec::new())
    }

    /// What is to be told where the database has nothing that anybody could look after. Only asked where a
    /// task has nothing to do.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    async fn emptiness(&self) -> Result<Option<Finding>, EngineError> {
        Ok(None)
    }

    /// What is to be told of the session itself, whatever the kind: what happened before
    /// anything could be asked. Roles whose code may run are trusted.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    async fn of_itself(&self, _trust_owners: &[String]) -> Result<Vec<Finding>, EngineError> {
        Ok(Vec::new())
    }
}

/// What of a server a run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// A database, and what belongs to its server.
    #[default]
    Whole,
    /// One of many databases of a server that has a run of its own.
    Database,
    /// The server of many databases, as seen from one of them.
    Server,
}

impl Scope {
    /// Whether it is about what belongs to a database.
    pub fn has_database(self) -> bool {
        self != Scope::Server
    }

    /// Whether it is about what belongs to the server.
    pub fn has_server(self) -> bool {
        self != Scope::Database
    }
}

/// The sessions of one target.
pub struct Site<S> {
    /// The target itself.
    pub primary: S,
    /// Its replicas that could be reached, each with its place in the
    /// configuration. Empty unless the kind [reads them](Kind::READS_REPLICAS).
    pub replicas: Vec<(usize, S)>,
    /// What is to be told of replicas that could not be reached.
    pub findings: Vec<Finding>,
    /// Roles whose code may run with our rights, as configured.
    pub trust_owners: Vec<String>,
    /// What of the server is to be looked at.
    pub scope: Scope,
}

/// A kind of maintenance. The type itself holds the task's options.
pub trait Kind: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The word written after `kind:`.
    const NAME: &'static str;
    /// One line for help texts.
    const SUMMARY: &'static str;
    /// The engine whose targets this kind works on.
    const ENGINE: Engine;
    /// Whether it wants the replicas, too.
    const READS_REPLICAS: bool = false;
    /// Whether it never changes a target, and so works on a standby, too.
    const ONLY_READS: bool = false;
    /// Whether its work rests on what the history remembers, as proof: it does
    /// not run while the history is out of reach. Every other kind goes on.
    const NEEDS_HISTORY: bool = false;
    /// Whether the rows that its steps count are gone afterwards: reports and
    /// metrics sum them up.
    const REMOVES_ROWS: bool = false;
    /// Whether part of what it looks at belongs to the whole server: of many databases of one
    /// server it is then asked once for the [server](Scope::Server) alone.
    const LOOKS_AT_SERVER: bool = false;
    /// How the engine is talked to.
    type Session: Speaks;
    /// What the decision is made from.
    type Facts: Send;

    /// What it takes by its age alone, whatever becomes of it.
    fn ages(&self) -> Vec<Ageing> {
        Vec::new()
    }

    /// What its runs put in the place of what is there, or write to a place where others may.
    fn replaces(&self) -> Vec<Replacing> {
        Vec::new()
    }

    /// Whether runs go on with what others of this kind have taken out of this table of a schema, and not brought to an
    /// end.
    fn goes_on_with(&self, _schema: &str, _table: &str) -> bool {
        false
    }

    /// What [`Kind::NEEDS_HISTORY`] says, of these very options.
    fn rests_on_history(&self) -> bool {
        Self::NEEDS_HISTORY
    }

    /// Which objects the options choose, all where it is none: a pattern that meets nothing is
    /// told, because it may be misspelt.
    fn includes(&self) -> &[NamePattern] {
        &[]
    }

    /// Which objects the options leave out: a pattern that meets nothing is told, because what it
    /// was to spare is worked on.
    fn excludes(&self) -> &[NamePattern] {
        &[]
    }

    /// In which schemas it works, in all where it is none: a pattern that meets nothing is told.
    fn schemas(&self) -> &[SchemaPattern] {
        &[]
    }

    /// Whether the options make sense together. Each alone has been checked.
    fn check(&self) -> Result<(), Unfit> {
        Ok(())
    }

    /// What the user has to be allowed for these options, as far as the task file tells; `own` is
    /// the database of the target.
    fn rights(&self, _own: &str) -> Vec<<Self::Session as Speaks>::Right> {
        Vec::new()
    }

    /// Reads the facts. Changes nothing, and needs a number of queries that
    /// does not depend on the number of objects.
    fn inspect(
        &self,
        site: &Site<Self::Session>,
    ) -> impl Future<Output = Result<Self::Facts, EngineError>> + Send;

    /// Decides. Pure: the same facts at the same moment give the same plan.
    fn plan(&self, facts: Self::Facts, at: &Moment) -> Plan<<Self::Session as Speaks>::Body>;
}

/// Any kind of one engine, its options filled in.
#[async_trait]
pub trait AnyKind<S: Speaks>: Send + Sync {
    /// Whether it wants the replicas, too.
    fn reads_replicas(&self) -> bool;

    /// Whether it works on a standby, too.
    fn only_reads(&self) -> bool;

    /// Whether it does not run while the history is out of reach.
    fn needs_history(&self) -> bool;

    /// What the user has to be allowed, as far as the task file tells.
    fn rights(&self, own: &str) -> Vec<S::Right>;

    /// Reads the facts and decides.
    async fn propose(&self, site: &Site<S>, at: &Moment) -> Result<Plan<S::Body>, EngineError>;
}

#[async_trait]
impl<K: Kind> AnyKind<K::Session> for K {
    fn reads_replicas(&self) -> bool {
        K::READS_REPLICAS
    }

    fn only_reads(&self) -> bool {
        K::ONLY_READS
    }

    fn needs_history(&self) -> bool {
        self.rests_on_history()
    }

    fn rights(&self, own: &str) -> Vec<<K::Session as Speaks>::Right> {
        Kind::rights(self, own)
    }

    async fn propose(
        &self,
        site: &Site<K::Session>,
        at: &Moment,
    ) -> Result<Plan<<K::Session as Speaks>::Body>, EngineError> {
        let facts = self.inspect(site).await?;
        let mut plan = self.plan(facts, at);
        // The run on the server has told of its members already.
        if !K::LOOKS_AT_SERVER || site.scope.has_server() {
            plan.findings.extend(site.findings.iter().cloned());
        }
        if at.round == 1 {
            let told = site.primary.of_itself(&site.trust_owners).await?;
            plan.findings.extend(told);
        }
        // Of many databases of a server not every one has everything.
        let nothing = plan.steps.is_empty() && plan.pending.is_empty() && plan.refused.is_empty();
        if nothing
            && at.round == 1
            && site.scope == Scope::Whole
            && let Some(told) = site.primary.emptiness().await?
        {
            plan.undone(told);
        }
        let (includes, excludes) = (self.includes(), self.excludes());
        if !(includes.is_empty() && excludes.is_empty()) && site.scope == Scope::Whole {
            let all: Vec<NamePattern> = includes.iter().chain(excludes).cloned().collect();
            let misses = site.primary.meeting_nothing(&all).await?;
            unmet::tell(includes, excludes, &misses, &mut plan);
        }
        if !self.schemas().is_empty() && site.scope == Scope::Whole {
            unmet::tell_schemas(self.schemas(), &site.primary.schemas().await?, &mut plan);
        }
        unnamed::leave(&mut plan);
        Ok(plan)
    }
}

/// Fills in a kind's options; the message says what is wrong with them.
pub type Build<S> = fn(&Value) -> Result<Box<dyn AnyKind<S>>, String>;

/// One line of an engine's table of kinds.
pub struct Entry<S: Speaks> {
    /// What configuration needs to know.
    pub info: KindInfo,
    /// Fills in the options.
    pub build: Build<S>,
}

impl<S: Speaks> Entry<S> {
    /// The line for kind `K`.
    pub const fn of<K: Kind<Session = S>>() -> Self {
        Entry {
            info: KindInfo {
                name: K::NAME,
                engine: K::ENGINE,
                summary: K::SUMMARY,
                removes_rows: K::REMOVES_ROWS,
                needs_history: K::NEEDS_HISTORY,
                looks_at_server: K::LOOKS_AT_SERVER,
                ages: |options| {
                    parse::<K>(options)
                        .map(|kind| kind.ages())
                        .unwrap_or_default()
                },
                replaces: |options| {
                    parse::<K>(options)
                        .map(|kind| kind.replaces())
                        .unwrap_or_default()
                },
                goes_on_with: |options, schema, table| {
                    parse::<K>(options).is_ok_and(|kind| kind.goes_on_with(schema, table))
                },
                options_schema: || schema_for!(K),
                check_options: |options| parse::<K>(options).map(drop),
            },
            build: |options| {
                Ok(Box::new(
                    parse::<K>(options).map_err(|unfit| unfit.to_string())?,
                ))
            },
        }
    }
}

fn parse<K: Kind>(options: &Value) -> Result<K, Unfit> {
    let kind: K = serde_json::from_value(options.clone()).map_err(|e| e.to_string())?;
    let schemas = kind.schemas();
    if !schemas.is_empty() && schemas.iter().all(SchemaPattern::excludes) {
        let why =
            "`schemas` leaves schemas out, and names none that are meant; add \"*\" for all others";
        return Err(Unfit::at("schemas", why));
    }
    kind.check()?;
    Ok(kind)
}
