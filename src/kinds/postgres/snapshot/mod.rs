//! The numbers that tell how a database is doing, into the history, and a
//! finding where one of them passes its threshold. Changes nothing.

mod autovacuum;
mod database;
mod indexes;
mod memory;
mod options;
mod replication;
mod server;
mod statements;
mod tables;
mod trend;
mod views;

pub(crate) use self::options::Snapshot;
use super::reindex::{self, IndexFacts};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::{Kind, Moment, Plan, Scope, Site, Unfit};
use crate::values::{Engine, NamePattern, SchemaPattern};

/// What the decision is made from.
#[derive(Default)]
pub(crate) struct Facts {
    role: String,
    database: database::Database,
    sizes: tables::Sizes,
    dead: Vec<tables::Dead>,
    autovacuum: autovacuum::Autovacuum,
    oldest: Option<tables::Oldest>,
    statements: statements::Statements,
    indexes: indexes::Indexes,
    /// The largest ones.
    largest: Vec<IndexFacts>,
    replication: replication::Replication,
    views: Vec<views::View>,
    server: server::Server,
    scope: Scope,
}

impl Kind for Snapshot {
    const NAME: &'static str = "snapshot";
    const SUMMARY: &'static str = "takes the numbers that tell how a database is doing";
    const ENGINE: Engine = Engine::Postgres;
    const READS_REPLICAS: bool = true;
    const ONLY_READS: bool = true;
    const LOOKS_AT_SERVER: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        self.sensible()
    }

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    fn schemas(&self) -> &[SchemaPattern] {
        &self.schemas
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let role = db.server.role.clone();
        if site.scope == Scope::Server {
            return Ok(Facts {
                role,
                database: database::read(db, self).await?,
                replication: replication::read(site).await?,
                server: server::read(db).await?,
                scope: site.scope,
                ..Facts::default()
            });
        }
        Ok(Facts {
            role,
            database: database::read(db, self).await?,
            sizes: tables::sizes(db, self.top).await?,
            dead: tables::dead(db, self).await?,
            autovacuum: autovacuum::read(db, self).await?,
            oldest: tables::oldest(db).await?,
            statements: statements::read(db, self.top).await?,
            indexes: indexes::read::read(site, self).await?,
            largest: reindex::largest(db, self.top).await?,
            replication: match site.scope.has_server() {
                true => replication::read(site).await?,
                false => replication::Replication::default(),
            },
            views: views::read(db).await?,
            server: server::Server::default(),
            scope: site.scope,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan {
            considered: facts.sizes.largest.len(),
            ..Plan::default()
        };
        if facts.scope.has_server() {
            facts.database.judge_server(&facts.role, self, &mut plan);
            facts.replication.judge(self, &mut plan);
            facts.server.judge(self, &mut plan);
        }
        if !facts.scope.has_database() {
            plan.considered = facts.server.databases();
            return plan;
        }
        facts.database.judge(self, at, &mut plan);
        if let Some(oldest) = &facts.oldest {
            tables::judge_oldest(oldest, self, &mut plan);
        }
        statements::judge(&facts.statements, self, at, &mut plan);
        tables::measure(&facts.sizes, &mut plan);
        indexes::measure_bloat(&facts.largest, at, &mut plan);
        trend::growth(facts.database.bytes, &facts.sizes, self, at, &mut plan);
        tables::judge_dead(&facts.dead, &facts.autovacuum, self, &mut plan);
        facts.autovacuum.judge(self, at, &mut plan);
        views::judge(&facts.views, self, at, &mut plan);
        facts.indexes.judge(self, at, &mut plan);
        plan
    }
}

/// Seconds for people: `42 s`, `3 min`, `5 h`, `3 days`.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// A count of transactions for people.
fn count(number: i64) -> String {
    super::common::rows(number as f64)
}
