//! Statements of one's own, under the same gate as everything else.

mod reading;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engines::EngineError;
use crate::engines::postgres::{Session, meaning};
use crate::plan::postgres::Under;
use crate::plan::{Kind, Moment, Param, Part, Plan, Query, Site, Statement, Step, Unfit};
use crate::values::Engine;
use reading::{Nature, Pieces};

/// A value for a placeholder. It travels as text, and the server reads it as
/// the type that the statement wants.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Anything else, written as SQL would have it between quotes.
    Text(String),
}

impl Value {
    fn bound(&self) -> Param {
        Param::Text(match self {
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Number(value) => value.to_string(),
            Value::Text(value) => value.clone(),
        })
    }
}

/// One statement.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// What it is called in plans and records, such as `close abandoned carts`.
    name: String,
    /// One SQL statement. The `search_path` holds only what is the server's own: write
    /// `schema.table`. Time zone, date style and the like are the role's and database's.
    /// `$1`, `$2`, … stand for the values named under `with`.
    sql: String,
    /// Names of parameters, in the order of `$1`, `$2`, …
    #[serde(default)]
    with: Vec<String>,
    /// A query that answers `true` where there is something to do; otherwise
    /// the statement is skipped. It takes the same values.
    #[serde(default)]
    only_if: Option<String>,
}

/// Options of `kind: sql`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sql {
    /// The statements, in order. One that fails ends the task.
    statements: Vec<Entry>,
    /// All statements in one transaction: all or nothing. Otherwise each is
    /// committed by itself.
    #[serde(default)]
    transaction: bool,
    /// Values for the statements. They are bound, never pasted into the SQL;
    /// `--set parameters.NAME=VALUE` changes one.
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
}

/// What the decision is made from, besides what the options say.
#[derive(Debug)]
pub(crate) struct Facts {
    /// How the statements are read, all in one, and each by itself.
    all: Under,
    each: Vec<Under>,
}

/// First words that would end or open transactions behind the gate's back.
const TRANSACTION_CONTROL: [&str; 9] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE",
];

/// The lane and, in one transaction, the name of the step.
const ALL: &str = "all statements";

impl Kind for Sql {
    const NAME: &'static str = "sql";
    const SUMMARY: &'static str = "runs statements of your own under the same guards";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        if self.statements.is_empty() {
            let why = "`statements` is empty: name at least one";
            return Err(Unfit::at("statements", why));
        }
        let entries = self.statements.iter().enumerate();
        Unfit::each("statements", entries.map(|(n, entry)| {
            if self.statements[..n].iter().any(|e| e.name == entry.name) {
                let why = format!("two statements are called `{}`", entry.name);
                return Err(Unfit::at("name", why));
            }
            entry.check(&self.parameters)?;
            if self.transaction
                && let Nature::Concurrent(_) = entry.nature()
            {
                return Err(Unfit::at("sql", format!(
                    "`{}` works CONCURRENTLY, which the server refuses in a transaction: take it out of the statements with `transaction: true`",
                    entry.name
                )));
            }
            if self.transaction && entry.only_if.is_some() {
                return Err(Unfit::at("only_if", format!(
                    "`{}` has an `only_if`, but with `transaction: true` it is all or nothing",
                    entry.name
                )));
            }
            Ok(())
        }))?;
        let unused = |name: &&String| !self.statements.iter().any(|e| e.with.contains(*name));
        match self.parameters.keys().find(unused) {
            Some(name) => Err(Unfit::at(name, format!(
                "parameter `{name}` is used by no statement: list it under `with`, or take it out"
            ))
            .below(Part::Key("parameters".to_owned()))),
            None => Ok(()),
        }
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        // The server is the only one who can tell whether SQL is well-formed, and it reads
        // it as its settings say.
        let db = &site.primary;
        db.unpin().await?;
        for entry in &self.statements {
            let doing = format!("reading the SQL of `{}`", entry.name);
            db.check_syntax(&doing, &entry.sql, entry.with.len())
                .await?;
            if let Some(condition) = &entry.only_if {
                let doing = format!("reading the `only_if` of `{}`", entry.name);
                db.check_syntax(&doing, condition, entry.with.len()).await?;
            }
        }
        db.pin().await?;
        let mut each = Vec::new();
        let mut all = Under::default();
        for entry in &self.statements {
            let condition = entry.only_if.as_deref().unwrap_or_default();
            let meaning = meaning::of(db, &[&entry.sql, condition], &[]).await?;
            if let Some(why) = meaning.refused {
                return Err(EngineError::NotVisible {
                    what: format!("`{}` was not run: {why}", entry.name),
                });
            }
            let new = meaning.schemas.iter().filter(|s| !all.schemas.contains(s));
            let new: Vec<String> = new.cloned().collect();
            all.schemas.extend(new);
            each.push(Under {
                schemas: meaning.schemas,
                all_rows: false,
                // They run as the session of the user's would.
                their_time: false,
            });
        }
        Ok(Facts { all, each })
    }

    fn plan(&self, facts: Facts, _: &Moment) -> Plan {
        let mut plan = Plan {
            considered: self.statements.len(),
            ..Plan::default()
        };
        let statements = self.statements.iter().map(|entry| self.statement(entry));
        if self.transaction {
            let names: Vec<&str> = self.statements.iter().map(|e| e.name.as_str()).collect();
            let mut step = Step::new("sql", ALL, ALL)
                .because(format!("in one transaction: {}", names.join(", ")))
                .reading(facts.all)
                .together(statements.collect());
            step.details = self.statements.iter().map(|e| one_line(&e.sql)).collect();
            plan.steps.push(step);
            return plan.numbered(1);
        }
        let mut before: Option<&str> = None;
        for ((entry, statement), under) in self.statements.iter().zip(statements).zip(facts.each) {
            let mut step = Step::new("sql", &entry.name, ALL)
                .reading(under)
                .because(match before {
                    Some(before) => format!("follows `{before}`"),
                    None => "comes first".to_owned(),
                })
                .run(statement);
            if let Nature::Concurrent(leaves) = entry.nature() {
                step = step.leaving(leaves.query());
            }
            step.details.push(one_line(&entry.sql));
            if let Some(before) = before {
                step = step.after("sql", before);
            }
            before = Some(&entry.name);
            plan.steps.push(step);
        }
        plan.numbered(1)
    }
}

impl Sql {
    fn statement(&self, entry: &Entry) -> Statement {
        let values = |entry: &Entry| -> Vec<Param> {
            let value = |name: &String| self.parameters.get(name).map(Value::bound);
            entry.with.iter().filter_map(value).collect()
        };
        let sql = entry.sql.trim();
        let statement = match entry.nature() {
            Nature::Whole => Statement::brief(sql),
            // In one transaction it is all or nothing like everything else.
            Nature::InParts if self.transaction => Statement::brief(sql),
            Nature::InParts => Statement::brief(sql).begun_once(),
            Nature::Concurrent(_) => Statement::untried(sql).begun_once(),
        };
        let mut statement = statement.with(values(entry)).under_own_settings();
        if Pieces::of(&entry.sql).means_all_tables() {
            statement = statement.but_for_parts(Query::new("SELECT true", []));
        }
        match &entry.only_if {
            Some(condition) => statement.only_if(Query::new(condition.trim(), values(entry))),
            None => statement,
        }
    }
}

impl Entry {
    fn nature(&self) -> Nature {
        Pieces::of(&self.sql).nature()
    }

    fn check(&self, parameters: &BTreeMap<String, Value>) -> Result<(), Unfit> {
        let Entry { name, sql, .. } = self;
        if name.trim().is_empty() {
            return Err(Unfit::at("name", "a statement has an empty `name`"));
        }
        let pieces = Pieces::of(sql);
        let first = pieces.first();
        if first.is_empty() {
            let why = match sql.trim().is_empty() {
                true => format!("the `sql` of `{name}` is empty"),
                false => format!("the `sql` of `{name}` has no statement, only a comment"),
            };
            return Err(Unfit::at("sql", why));
        }
        if pieces.are_several() {
            return Err(Unfit::at(
                "sql",
                format!(
                    "`{name}` has several statements in its `sql`: give each an entry of its own, and `transaction: true` where they belong together"
                ),
            ));
        }
        if pieces.copies_through_client() {
            return Err(Unfit::at(
                "sql",
                format!(
                    "`{name}` copies through its client, which has no file here: use `psql` for it, `COPY … TO 'FILE'` on the server, or `kind: archive`"
                ),
            ));
        }
        if pieces.explains_by_changing() {
            return Err(Unfit::at(
                "sql",
                format!(
                    "`{name}` explains with ANALYZE what changes rows: the server carries it out, and tells nobody how many went; write the statement itself, or leave ANALYZE out"
                ),
            ));
        }
        if TRANSACTION_CONTROL.contains(&first.as_str()) {
            return Err(Unfit::at(
                "sql",
                format!(
                    "`{name}` begins with {first}, but transactions are maint's business: use `transaction: true`"
                ),
            ));
        }
        match self
            .with
            .iter()
            .find(|name| !parameters.contains_key(*name))
        {
            Some(parameter) => Err(Unfit::at(
                "with",
                format!(
                    "`{name}` names the parameter `{parameter}`, which `parameters` does not have"
                ),
            )),
            None => Ok(()),
        }
    }
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}
