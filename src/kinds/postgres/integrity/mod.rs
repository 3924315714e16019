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
mod server;
mod spread;

use std::collections::HashMap;

use self::amcheck::Amcheck;
use self::counters::{Key, Sequence};
use self::domains::DomainCheck;
use self::facts::{Constraint, Hidden, Index, Relation};
use self::foreign_keys::ForeignKey;
use self::identity::Identities;
pub(crate) use self::options::Integrity;
use self::options::{Level, OwnQuery};
use self::order::{Candidate, Class};
use self::server::ChangedCollation;
use self::spread::Spread;
use super::common::{Selection, grant, still_there};
use super::{held, trust};
use crate::engines::EngineError;
use crate::engines::postgres::meaning::{self, Meaning};
use crate::engines::postgres::trust::{Standing, Use};
use crate::engines::postgres::{Identifier, RelationName, Session, unhidden};
use crate::kinds::postgres::half_built;
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
        let mut replicas = Vec::new();
        for (n, session) in &site.replicas {
            if let Some(finding) = order::not_a_copy(db, session, *n).await? {
                findings.push(finding);
                continue;
            }
            replicas.push(*n);
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
            replicas.is_empty() && !(site.replicas.is_empty() && site.findings.is_empty());
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
            spread: spread::read(db).await?,
            unread,
            holders,
            tables: facts::tables(db).await?,
            indexes,
            identities: identity::read(db).await?,
            amcheck: amcheck::read(db).await?,
            sequences: counters::sequences(db, self.near_end.share()).await?,
            keys: counters::keys(db, self.near_end.share()).await?,
            collations: server::changed_collations(db).await?,
            replicas,
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
        let replica = order::next_replica(&facts.replicas, at, &mut plan);
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
        let near_end = counters::near_end(self, &facts.sequences, &facts.keys, &facts.role);
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
    /// Tables whose check constraints only those know who hold them.
    fn held(&self, facts: &Facts, plan: &mut Plan) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        for table in facts.unread.iter().filter(|t| selection.covers(&t.name)) {
            let who = facts.holders.get(&table.oid).map_or("", String::as_str);
            let left_out = "its check constraints could not be read, and were not checked";
            plan.undone(held::finding(&table.name, who, left_out));
        }
    }

    /// What rows say: foreign keys and check constraints.
    fn rows(
        &self,
        facts: &Facts,
        candidates: &mut Vec<Candidate>,
        unreadable: &mut Vec<(RelationName, Hidden)>,
        plan: &mut Plan,
    ) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        let keys: Vec<&ForeignKey> = facts
            .foreign_keys
            .iter()
            .filter(|k| k.covered(&selection))
            .collect();
        let constraints: Vec<&Constraint> = facts
            .constraints
            .iter()
            .filter(|c| selection.covers(&c.table.name))
            .collect();
        plan.findings
            .extend(constraints::not_valid(&keys, &constraints, self.validate));
        plan.findings
            .extend(domains::not_valid(&facts.domains, &selection));
        for key in keys {
            let scope = key.scope();
            for relation in [&key.table, &key.referenced] {
                if let Some(why) = relation.hidden {
                    unreadable.push((relation.name.clone(), why));
                }
            }
            // A standby has nothing of unlogged tables.
            if !scope.readable || (scope.unlogged && facts.in_recovery) {
                continue;
            }
            let mut check = key.check();
            let validate = self.validate && !facts.in_recovery && !key.validated && key.table.owned;
            if validate {
                check = check.then(constraints::validation(&key.table, &key.name));
            }
            let step = Step::new(
                "check_foreign_key",
                key.object(),
                format!("table {}", key.table.oid),
            )
            .touching(key.table.oid, touched(validate))
            .touching(key.referenced.oid, Use::Read)
            .only_if(
                still_there(key.table.oid, &key.table.name),
                "the table has vanished",
            );
            let place = self.place(facts, scope.unlogged || validate);
            let what = if key.validated {
                "orphans in spite of a valid foreign key"
            } else {
                "a foreign key that was never validated"
            };
            candidates.push(Candidate::new(
                Class::ForeignKey,
                located(step, check, place),
                facts
                    .identities
                    .of(&[key.table.oid, key.referenced.oid], &[key.oid]),
                key.table.bytes + key.referenced.bytes,
                what.to_owned(),
            ));
        }
        let (readable, not): (Vec<_>, Vec<_>) = constraints
            .into_iter()
            .filter(|c| !(c.table.unlogged && facts.in_recovery))
            .partition(|c| c.table.hidden.is_none());
        let hidden = not.into_iter().map(|c| &c.table);
        unreadable.extend(hidden.filter_map(|t| Some((t.name.clone(), t.hidden?))));
        for batch in constraints::batches(
            &readable,
            self.validate && !facts.in_recovery,
            &facts.spread,
        ) {
            let table = batch.table;
            let place = self.place(facts, table.unlogged || !batch.check.when_clean.is_empty());
            let mut step = Step::new(
                "check_constraints",
                batch.object,
                format!("table {}", table.oid),
            )
            .touching(table.oid, touched(!batch.check.when_clean.is_empty()))
            .only_if(
                spread::all_there(table, &batch.parts),
                match batch.parts.as_slice() {
                    [] => "the table has vanished",
                    _ => "the table, or a table below it, has vanished",
                },
            );
            step.body.away = batch.away;
            candidates.push(Candidate::new(
                Class::Constraints,
                located(step, batch.check, place),
                facts.identities.of(&[table.oid], &batch.constraints),
                table.bytes,
                "rows that violate a check constraint".to_owned(),
            ));
        }
    }

    /// What pages say: amcheck.
    fn pages(&self, facts: &Facts, candidates: &mut Vec<Candidate>, plan: &mut Plan) {
        plan.findings.extend(facts.amcheck.missing(&facts.role));
        if !facts.amcheck.usable() {
            return;
        }
        let mut level = self.amcheck;
        if level == Level::Full && facts.replica_missing {
            level = Level::Light;
            plan.findings.push(Finding {
                code: "integrity.no_replica".to_owned(),
                severity: Severity::Info,
                object: "amcheck".to_owned(),
                message: "no replica could be used: `amcheck: full` would burden the primary, so it looks only as closely as `light`".to_owned(),
                suggestion: None,
            });
        }
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        // On the primary alone where a replica would do, heavy work is left out.
        let level_at = |place: Place| match place {
            Place::Primary if facts.replica.is_some() => level.min(Level::Light),
            _ => level,
        };
        let tables = facts.tables.iter().filter(|t| {
            selection.covers(&t.name)
                && t.filled
                && !(t.unlogged && facts.in_recovery)
                && facts.amcheck.may("verify_heapam")
        });
        for table in tables {
            let place = self.place(facts, table.unlogged);
            let step = Step::new(
                "check_table",
                table.name.to_string(),
                format!("pages {}", table.oid),
            )
            .while_there(table.oid, &table.name, "the table has vanished");
            let at_level = level_at(place);
            let check = facts.amcheck.table(table, at_level);
            candidates.push(
                Candidate::new(
                    Class::Table,
                    located(step, check, place),
                    facts.identities.of(&[table.oid], &[]),
                    table.bytes,
                    "damaged pages".to_owned(),
                )
                .at(at_level),
            );
        }
        for index in &facts.indexes {
            // A view that was never filled has nothing to look at.
            if !index.filled
                || (index.unlogged && facts.in_recovery)
                || !selection.covers_any(&[&index.name, &index.table])
            {
                continue;
            }
            let mut parts = vec![(false, self.place(facts, index.unlogged))];
            // That takes a lock that only a primary can give.
            if self.parent_check && !facts.in_recovery && index.method == "btree" {
                parts.push((true, Place::Primary));
            }
            for (parent, place) in parts {
                let at_level = level_at(place);
                let Some(check) = facts.amcheck.index(index, at_level, parent) else {
                    continue;
                };
                let action = if parent {
                    "check_index_levels"
                } else {
                    "check_index"
                };
                let step = Step::new(
                    action,
                    index.name.to_string(),
                    format!("pages {}", index.oid),
                )
                .locking(index.table_oid)
                .while_there(index.oid, &index.name, "the index has vanished");
                // amcheck itself works as the owner; the keys are counted as we are.
                let step = match index.unique_keys {
                    Some(_) => step.touching(index.table_oid, Use::Read),
                    None => step,
                };
                candidates.push(
                    Candidate::new(
                        Class::Index,
                        located(step, check, place),
                        facts.identities.of(&[index.oid], &[index.table_oid]),
                        index.bytes,
                        "damaged pages".to_owned(),
                    )
                    .at(at_level),
                );
            }
        }
        if self.catalogs {
            for (object, check) in facts.amcheck.catalogs() {
                let step = Step::new("check_catalogs", object, object);
                let place = self.place(facts, false);
                candidates.push(Candidate::new(
                    Class::Catalog,
                    located(step, check, place),
                    facts.identities.of_text(object),
                    0,
                    "damaged pages".to_owned(),
                ));
            }
        }
    }

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

    fn invalid(&self, facts: &Facts, plan: &mut Plan) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        for index in &facts.indexes {
            if index.valid
                || index.in_progress
                || !selection.covers_any(&[&index.name, &index.table])
            {
                continue;
            }
            let (message, suggestion) = match &index.parts {
                // Rebuilt, it would be a second index like the one it was to replace.
                None if index.half_built => (
                    "is invalid: a concurrent rebuild that failed left it. It costs every write and helps no query; `maint run reindex` removes it, too"
                        .to_owned(),
                    Some(format!("DROP INDEX CONCURRENTLY {}", index.name)),
                ),
                None if index.twin.is_some() => (
                    format!(
                        "is invalid: it costs every write and helps no query. {}",
                        half_built::redundant(index.twin.as_deref().unwrap_or_default())
                    ),
                    Some(format!("DROP INDEX CONCURRENTLY {}", index.name)),
                ),
                None if index.unique => (
                    format!(
                        "is invalid: a build of it failed. It costs every write, keeps no keys apart and helps no query. {}",
                        half_built::TWICE
                    ),
                    None,
                ),
                None => (
                    "is invalid: a build of it failed. It costs every write and helps no query"
                        .to_owned(),
                    Some(format!("REINDEX INDEX CONCURRENTLY {}", index.name)),
                ),
                Some(parts) => parts.mended(&index.name),
            };
            plan.findings.push(Finding {
                code: "index.invalid".to_owned(),
                severity: Severity::Warning,
                object: index.name.to_string(),
                message: format!("{} on {} {message}", index.name, index.table),
                suggestion,
            });
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

/// Validating changes the definition, and so sets off event triggers.
fn touched(validate: bool) -> Use {
    if validate { Use::Define } else { Use::Read }
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
            message: format!(
                "`{}` returned {{n}} rows, and should return none",
                query.name
            ),
            suggestion: Some(sql.to_owned()),
        }],
    )
}

/// One finding for all tables that the role cannot read whole.
fn unreadable_finding(role: &str, tables: &[(RelationName, Hidden)]) -> Option<Finding> {
    let mut tables: Vec<&(RelationName, Hidden)> = tables.iter().collect();
    tables.sort();
    tables.dedup();
    let (first, _) = tables.first()?;
    let others = match tables.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let role = Identifier::new(role);
    let of = |why: Hidden| {
        let these = tables.iter().filter(move |(_, hidden)| *hidden == why);
        these.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let (closed, by_policies) = (of(Hidden::Closed), of(Hidden::ByPolicies));
    let mut help = Vec::new();
    if !closed.is_empty() {
        help.push(grant("SELECT", "", &closed, &role));
    }
    if !by_policies.is_empty() {
        help.push(format!("ALTER ROLE {role} BYPASSRLS"));
    }
    Some(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: first.to_string(),
        message: format!(
            "{role} cannot read all rows of {first}{others}: the privilege is missing, or row security hides some. Constraints there were not checked"
        ),
        suggestion: Some(help.join("; ")),
    })
}
