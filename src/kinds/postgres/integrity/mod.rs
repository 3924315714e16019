//! Is the data still what the schema says it is? Looks, and reports; changes
//! nothing unless asked to validate constraints.

mod amcheck;
mod columns;
mod constraints;
mod counters;
mod domains;
mod facts;
mod foreign_keys;
mod identity;
mod options;
mod order;
mod pages;
mod replicas;
mod rows;
mod server;
mod spread;
mod unlooked;

use std::collections::HashMap;

use self::amcheck::Amcheck;
use self::counters::{Key, Sequence, Unseen};
use self::domains::DomainCheck;
use self::facts::{Constraint, Index, Relation};
use self::foreign_keys::ForeignKey;
use self::identity::Identities;
pub(crate) use self::options::Integrity;
use self::options::{Level, OwnQuery};
use self::order::{Candidate, Class};
use self::rows::unreadable_finding;
use self::server::ChangedCollation;
use self::spread::Spread;
use self::unlooked::Unlooked;
use super::common::Selection;
use super::{held, trust};
use crate::engines::EngineError;
use crate::engines::postgres::meaning::{self, Meaning};
use crate::engines::postgres::trust::Standing;
use crate::engines::postgres::{Session, unhidden};
use crate::plan::Scope as Part;
use crate::plan::postgres::Under;
use crate::plan::{Check, Finding, Kind, Moment, Place, Plan, Query, Severity, Site, Step, Unfit};
use crate::values::{Engine, NamePattern, SchemaPattern};

/// What a look at an object needs.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// The role can read all its rows.
    readable: bool,
    /// A standby has nothing of it.
    unlogged: bool,
}

/// What the decision is made from.
#[derive(Default)]
pub(crate) struct Facts {
    role: String,
    /// How each of `queries` is read.
    meanings: Vec<Meaning>,
    standing: Standing,
    database: String,
    foreign_keys: Vec<ForeignKey>,
    constraints: Vec<Constraint>,
    domains: Vec<DomainCheck>,
    unlooked: Vec<Unlooked>,
    /// What tables are made of that are on other servers in part, by their oids.
    spread: HashMap<u32, Spread>,
    /// Tables whose constraints could not be read, and who holds them.
    unread: Vec<Relation>,
    holders: HashMap<u32, String>,
    tables: Vec<Relation>,
    indexes: Vec<Index>,
    identities: Identities,
    amcheck: Amcheck,
    sequences: Vec<Sequence>,
    keys: Vec<Key>,
    /// Tables with integer keys of which cannot be seen how far they are.
    unseen: Vec<Unseen>,
    collations: Vec<ChangedCollation>,
    /// The replicas that can be read.
    replicas: Vec<usize>,
    /// The one whose turn it is; the plan says which.
    replica: Option<usize>,
    /// The target is a standby itself.
    in_recovery: bool,
    /// There should be a replica, and it could not be reached.
    replica_missing: bool,
    findings: Vec<Finding>,
    /// What of the server is looked at.
    part: Part,
}

impl Kind for Integrity {
    const NAME: &'static str = "integrity";
    const SUMMARY: &'static str = "looks for orphans, violated constraints and damaged files";
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
        let mut findings = Vec::new();
        findings.extend(server::checksum_failures(db, "", site.scope).await?);
        let mut usable = Vec::new();
        for (n, session) in &site.replicas {
            if let Some(finding) = replicas::not_a_copy(db, session, *n).await? {
                findings.push(finding);
                continue;
            }
            if let Some(finding) = replicas::held_back(db, session, *n).await? {
                findings.push(finding);
                continue;
            }
            usable.push(*n);
            let there = format!(" (seen on replica {})", n + 1);
            findings.extend(server::checksum_failures(session, &there, site.scope).await?);
        }
        if site.scope == Part::Server {
            return Ok(Facts {
                findings,
                part: site.scope,
                ..Facts::default()
            });
        }
        let replica_missing =
            usable.is_empty() && !(site.replicas.is_empty() && site.findings.is_empty());
        let mut meanings = Vec::new();
        for query in &self.queries {
            let mut meaning = meaning::of(db, &[&query.sql], &[]).await?;
            if meaning.refused.is_none() {
                meaning.refused = unhidden::hides(db, &[&query.sql]).await?;
            }
            meanings.push(meaning);
        }
        let foreign_keys = foreign_keys::read(db).await?;
        let (constraints, unread) = facts::constraints(db).await?;
        let oids: Vec<u32> = unread.iter().map(|table| table.oid).collect();
        let holders = held::holders(db, &oids).await?;
        let indexes = facts::indexes(db, self.amcheck == Level::Full).await?;
        let ends = foreign_keys
            .iter()
            .flat_map(|k| [k.table.oid, k.referenced.oid]);
        let checked = constraints.iter().map(|c| c.table.oid);
        let unique = indexes
            .iter()
            .filter(|i| i.unique_keys.is_some())
            .map(|i| i.table_oid);
        let standing = trust::read(site, ends.chain(checked).chain(unique)).await?;
        Ok(Facts {
            role: db.server.role.clone(),
            standing,
            meanings,
            database: db.server.database.clone(),
            foreign_keys,
            constraints,
            domains: domains::read(db).await?,
            unlooked: unlooked::read(db).await?,
            spread: spread::read(db).await?,
            unread,
            holders,
            tables: facts::tables(db).await?,
            indexes,
            identities: identity::read(db).await?,
            amcheck: amcheck::read(db).await?,
            sequences: counters::sequences(db, self.near_end.share()).await?,
            keys: counters::keys(db, self.near_end.share()).await?,
            unseen: counters::unseen(db).await?,
            collations: server::changed_collations(db).await?,
            replicas: usable,
            replica: None,
            in_recovery: db.server.in_recovery,
            replica_missing,
            findings,
            part: site.scope,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan {
            // What was not looked at for longest comes first, by its own rule.
            fixed_order: true,
            findings: facts.findings.clone(),
            ..Plan::default()
        };
        if facts.part == Part::Server {
            plan.considered = 1;
            return plan;
        }
        let replica = replicas::next_replica(&facts.replicas, at, &mut plan);
        let facts = Facts { replica, ..facts };
        let mut candidates = Vec::new();
        let mut unreadable = Vec::new();
        if self.constraints {
            self.held(&facts, &mut plan);
            self.rows(&facts, &mut candidates, &mut unreadable, &mut plan);
        }
        if self.amcheck > Level::Off {
            self.pages(&facts, &mut candidates, &mut plan);
        }
        self.invalid(&facts, &mut plan);
        if facts.in_recovery {
            self.not_on_a_standby(&facts, &mut plan);
        }
        let near_end = counters::near_end(
            self,
            &facts.sequences,
            &facts.keys,
            (&facts.unseen, &facts.role),
        );
        plan.findings.extend(near_end);
        let changed = facts.collations.iter();
        plan.findings
            .extend(changed.map(|c| c.finding(&facts.database)));
        for (query, meaning) in self.queries.iter().zip(&facts.meanings) {
            let name = format!("query {}", query.name);
            if let Some(why) = &meaning.refused {
                plan.undone(Finding {
                    code: "query.refused".to_owned(),
                    severity: Severity::Warning,
                    object: query.name.clone(),
                    message: format!("`{}` was not asked: {why}", query.name),
                    suggestion: None,
                });
                continue;
            }
            let step = Step::new("check_query", &query.name, &name)
                .reading(Under {
                    schemas: meaning.schemas.clone(),
                    all_rows: true,
                    their_time: true,
                })
                .checking(own(query));
            candidates.push(Candidate::new(
                Class::Query,
                step,
                facts.identities.of_text(&query.sql),
                0,
                "your query".to_owned(),
            ));
        }
        plan.considered = candidates.len();
        if let Some(finding) = unreadable_finding(&facts.role, &unreadable) {
            // A run that could not look at them has not found all well.
            plan.undone(finding);
        }
        order::arrange(
            candidates,
            self.recheck_after,
            self.cover_within,
            at,
            &mut plan,
        );
        trust::heed(&mut plan, &facts.standing);
        plan.numbered(1)
    }
}

impl Integrity {
    /// What is asked for, and only a primary can do.
    fn not_on_a_standby(&self, facts: &Facts, plan: &mut Plan) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        if self.validate {
            plan.skip("validate", "the target is a standby, which changes nothing");
        }
        if self.parent_check {
            plan.skip(
                "parent_check",
                "it takes a lock that a standby cannot give; the levels of indexes are compared on the primary only",
            );
        }
        for table in &facts.tables {
            if table.unlogged && selection.covers(&table.name) {
                plan.skip(
                    table.name.to_string(),
                    "it is unlogged, so a standby has nothing of it",
                );
            }
        }
    }

    /// Where it is read: on a replica if that has it.
    fn place(&self, facts: &Facts, primary_only: bool) -> Place {
        match facts.replica {
            Some(n) if !primary_only => Place::Replica(n),
            _ => Place::Primary,
        }
    }
}

/// The step with its check; what is found on a replica says so, because that
/// has files of its own.
fn located(step: Step, check: Check, place: Place) -> Step {
    let check = match place {
        Place::Primary => check,
        Place::Replica(n) => check.at(format!("seen on replica {}", n + 1)),
    };
    step.checking(check).at(place)
}

fn own(query: &OwnQuery) -> Check {
    let sql = query.sql.trim().trim_end_matches(';');
    Check::new().counting(
        // The line break ends a comment that the query may end with.
        Query::new(format!("SELECT count(*) FROM ({sql}\n) AS own"), []),
        vec![Finding {
            code: "query.rows".to_owned(),
            severity: Severity::Critical,
            object: query.name.clone(),
            message: format!("`{}` returned {{rows}}, and should return none", query.name),
            suggestion: Some(sql.to_owned()),
        }],
    )
}
