//! Deleting many rows in small transactions: where a batch begins and ends.

mod image;
mod range;
mod vain;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::image::Image;
pub(super) use self::range::array;
pub use self::range::{Range, block_of, key_of};
pub use self::vain::{InVain, Vain};
use super::found::Found;
use super::going::{Reference, Without, staying};
use super::{Fate, Manifest, Param, Query, Statement};

const EXTENT: &str = "SELECT (pg_catalog.pg_relation_size($1::oid)
    / pg_catalog.current_setting('block_size')::int8)::int8";

/// Deals with the rows of one table that meet a condition, batch by batch,
/// each committed by itself. A walk only ever goes forward: no batch reads again
/// what an earlier one has dealt with.
///
/// One that begins in the middle, because an earlier walk was interrupted
/// there, goes on to the end and then makes up for the part before. Every row
/// that met the condition when the walk began is dealt with either way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Walk {
    /// The table, quoted and qualified. Tables that inherit from it, and its
    /// partitions, are not touched.
    pub table: String,
    /// Its id.
    pub oid: u32,
    /// The table through which its rows are reached, quoted and qualified,
    /// where that table's policies or triggers decide what becomes of them.
    pub through: Option<String>,
    /// What the table is called in the condition, quoted.
    pub alias: String,
    /// Which rows go: SQL with `$1`, `$2`, … for [`Walk::params`].
    pub condition: String,
    /// Values for the condition.
    pub params: Vec<Param>,
    /// What becomes of the rows.
    pub fate: Fate,
    /// The newest batch that has left the table: looked at once more before the first row goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Box<Manifest>>,
    /// How a batch is cut out.
    pub path: Path,
    /// How long a batch should take, in milliseconds; its size follows.
    pub goal_ms: u64,
    /// Rows expected to go; unknown where nothing tells.
    pub rows: Option<i64>,
    /// Whether each batch sees one snapshot, and is tried again where somebody
    /// changed the same rows meanwhile. Needed where the condition looks at
    /// other tables: a changed row is otherwise judged by an old view of them.
    pub snapshot: bool,
    /// Under which key the place is remembered that the walk has come to.
    pub progress: String,
    /// Where an interrupted walk stopped, as remembered.
    pub start: Option<Value>,
    /// Whether the first batch is as small as can be: that of an earlier run was cut off with nothing done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub careful: bool,
    /// Foreign keys that keep rows which others point at.
    pub references: Vec<Reference>,
    /// Whether rows that others point at stay from the first batch on: those
    /// others would go with them, or be changed.
    pub guarded: bool,
    /// What may keep rows without an error: triggers, rules, policies, by name.
    pub obstructed: Vec<String>,
    /// What is to be remembered where nothing comes of the walk but changes that are given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vain: Option<Vain>,
    /// Whether triggers or rules run when rows go, of the table or of others whose rows go along.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fires: bool,
    /// Whether the rule says of rows that they stay, or how many may go: then none goes that is not
    /// of a batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spares: bool,
    /// Answers whether the table is still a part of what the rule is for, and which foreign key has come
    /// since that takes rows along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands: Option<Query>,
    /// How many rows may go, whatever came in since the plan was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Most>,
    /// Whether the rows are found by one question for all of them, and then
    /// deleted by their places, with the condition asked again: where telling
    /// them costs the same for few rows as for all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sought: bool,
    /// Whether they are found once, and no other goes: the condition reads the table that they go from,
    /// and means others as they go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What was found while the plan was made.
    #[serde(skip)]
    pub found: Found,
}

/// A bound of a rule, shared by all walks that follow it in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Most {
    /// By what the rule is known among others.
    pub rule: String,
    /// Rows that may go.
    pub rows: i64,
}

/// How batches are cut out of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Ranges of the table's blocks, read in their order on disk.
    Blocks {
        /// Answers with one bigint: how many blocks there are.
        extent: Query,
    },
    /// In the order of an index, from the last key of the batch before. No
    /// column of it may be null in a row that goes; equal keys go together.
    Key(Vec<KeyColumn>),
}

/// A column of a [`Path::Key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyColumn {
    /// The column, quoted.
    pub name: String,
    /// Its type, as a cast needs it.
    pub type_name: String,
}

impl Walk {
    /// A walk through a table on which nothing hangs: all of them go, and nothing of it is remembered.
    pub fn of_all(table: String, oid: u32, fate: Fate, path: Path, goal_ms: u64) -> Walk {
        Walk {
            alias: table.clone(),
            table,
            oid,
            through: None,
            condition: "true".to_owned(),
            params: Vec::new(),
            fate,
            newest: None,
            path,
            goal_ms,
            rows: None,
            snapshot: false,
            progress: String::new(),
            start: None,
            careful: false,
            references: Vec::new(),
            guarded: false,
            obstructed: Vec::new(),
            vain: None,
            fires: false,
            spares: false,
            stands: None,
            most: None,
            sought: false,
            once: false,
            found: Found::default(),
        }
    }

    /// Under which key it is remembered that the first batch of a walk with this `progress` was cut off.
    pub fn cut_off_under(progress: &str) -> String {
        format!("{progress} cut off")
    }

    /// The statement of one batch.
    pub fn delete(&self, range: &Range, without: &Without) -> Statement {
        let (which, params) = self.which(range, without);
        Statement::brief(self.sql(&which)).with(params)
    }

    /// Selects what [`Walk::delete`] with the same range deletes.
    pub fn select(&self, what: &str, range: &Range, without: &Without) -> Query {
        let (which, params) = self.which(range, without);
        Query::new(format!("SELECT {what} FROM {which}"), params)
    }

    /// The same delete, answering with the places of the rows that go.
    pub fn going(&self, range: &Range, without: &Without) -> Query {
        let (which, params) = self.which(range, without);
        Query::new(self.deleting(&which, &["ctid::text".to_owned()]), params)
    }

    /// Asks how many blocks a table has.
    pub fn extent(oid: u32) -> Query {
        Query::new(EXTENT, [Param::Oid(oid)])
    }

    /// Deletes one row, by its place `(block,item)`.
    pub fn only(&self, place: &str) -> Query {
        let mut params = self.params.clone();
        params.push(Param::Text(place.to_owned()));
        Query::new(
            format!(
                "DELETE FROM {}ctid = ${}::tid AND ({})",
                self.from(),
                params.len(),
                self.condition
            ),
            params,
        )
    }

    /// Moves a batch, and answers with what went and where it is now: first
    /// the number of rows and their checksums, then the places by table.
    pub fn moving(&self, range: &Range, without: &Without, image: &Image) -> Query {
        let (which, params) = self.which(range, without);
        let Fate::Move { into, columns } = &self.fate else {
            return self.select("count(*)", range, without);
        };
        let names = columns.join(", ");
        Query::new(
            format!(
                "WITH moved AS ({}), stored AS ({} RETURNING tableoid AS leaf, ctid AS place)
                SELECT NULL::text, NULL::text, NULL::text, {} FROM {}
                UNION ALL SELECT leaf::regclass::text, min(place)::text, max(place)::text, count(*), NULL, NULL FROM stored GROUP BY leaf",
                self.deleting(&which, columns),
                storing(into, &names, "moved"),
                image.sums(),
                image.hashed(&format!("SELECT {} FROM moved", image.row_of(columns))),
            ),
            params,
        )
    }

    /// Counts rows that meet the condition and that the transaction which is open has written:
    /// no older one, nor one that somebody else has.
    pub fn put_back(&self) -> Query {
        let sql = format!(
            "SELECT count(*) FROM {}({}) AND age({alias}.xmin) <= age(pg_current_xact_id()::xid)",
            self.from(),
            self.condition,
            alias = self.alias
        );
        Query::new(sql, self.params.clone())
    }

    fn deleting(&self, which: &str, columns: &[String]) -> String {
        let returned: Vec<String> = columns
            .iter()
            .map(|column| format!("{}.{column}", self.alias))
            .collect();
        format!("DELETE FROM {which} RETURNING {}", returned.join(", "))
    }

    fn sql(&self, which: &str) -> String {
        match &self.fate {
            Fate::Delete | Fate::Export(_) | Fate::Send(_) => format!("DELETE FROM {which}"),
            Fate::Move { into, columns } => {
                let names = columns.join(", ");
                format!(
                    "WITH moved AS ({}) {}",
                    self.deleting(which, columns),
                    storing(into, &names, "moved")
                )
            }
        }
    }

    /// The table, and all its rows that belong to a range.
    fn which(&self, range: &Range, without: &Without) -> (String, Vec<Param>) {
        let (within, mut params) = self.within(range);
        let batch = format!("{}{within}({})", self.from(), self.condition);
        let mut which = batch.clone();
        if without.referenced && !self.references.is_empty() {
            let stays = staying(&self.references, &self.alias, self.oid, &batch);
            which.push_str(&format!(" AND ctid NOT IN ({stays})"));
        }
        if !without.rows.is_empty() {
            params.push(Param::Text(array(&without.rows)));
            which.push_str(&format!(" AND ctid <> ALL (${}::tid[])", params.len()));
        }
        (which, params)
    }

    /// Keeps the table as it is until the transaction ends; who deletes rows takes the same lock.
    pub fn lock(&self) -> String {
        let table = self.through.as_ref().unwrap_or(&self.table);
        format!("LOCK TABLE ONLY {table} IN ROW EXCLUSIVE MODE")
    }

    fn from(&self) -> String {
        match &self.through {
            None => format!("ONLY {} AS {} WHERE ", self.table, self.alias),
            Some(root) => format!(
                "{root} AS {0} WHERE {0}.tableoid = {1}::oid AND ",
                self.alias, self.oid
            ),
        }
    }

    /// Asks for the last key of a batch of `rows` rows; no answer where fewer are left.
    pub fn bound(&self, columns: &[KeyColumn], range: &Range, rows: i64) -> Query {
        let (within, mut params) = self.within(range);
        // Qualified: to ORDER BY, a bare name is the text that is selected under
        // it, in whose order there is no index.
        let of = |cast: &str| {
            let all = columns.iter();
            let all: Vec<String> = all
                .map(|c| format!("{}.{}{cast}", self.alias, c.name))
                .collect();
            all.join(", ")
        };
        params.push(Param::Int(rows.max(1) - 1));
        Query::new(
            format!(
                "SELECT {} FROM {}{within}({}) ORDER BY {} OFFSET ${} LIMIT 1",
                of("::text"),
                self.from(),
                self.condition,
                of(""),
                params.len()
            ),
            params,
        )
    }

    /// One batch, as shown to people.
    pub fn text(&self) -> String {
        let within = match &self.path {
            _ if self.sought => "ctid = ANY (…) AND ".to_owned(),
            Path::Blocks { .. } => "ctid >= … AND ctid < … AND ".to_owned(),
            Path::Key(columns) => {
                let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                let names = names.join(", ");
                format!("({names}) > … AND ({names}) <= … AND ")
            }
        };
        self.sql(&format!("{}{within}({})", self.from(), self.condition))
    }

    /// The same, however it walks: that depends on what the statistics say at the moment.
    pub fn at_any_time(&self) -> String {
        self.sql(&format!("{}({})", self.from(), self.condition))
    }

    fn within(&self, range: &Range) -> (String, Vec<Param>) {
        let mut params = self.params.clone();
        let mut bind = |value: String| {
            params.push(Param::Text(value));
            format!("${}", params.len())
        };
        let sql = match (range, &self.path) {
            (Range::Blocks(from, to), _) => format!(
                "ctid >= {}::tid AND ctid < {}::tid AND ",
                bind(format!("({from},0)")),
                bind(format!("({to},0)"))
            ),
            (Range::Rows(places), _) => {
                format!("ctid = ANY ({}::tid[]) AND ", bind(array(places)))
            }
            (Range::Keys(after, until), Path::Key(columns)) => {
                let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                let mut sql = String::new();
                for (key, than) in [(after, ">"), (until, "<=")] {
                    if let Some(key) = key {
                        let values: Vec<String> = columns
                            .iter()
                            .zip(key)
                            .map(|(c, value)| format!("{}::{}", bind(value.clone()), c.type_name))
                            .collect();
                        sql.push_str(&format!(
                            "({}) {than} ({}) AND ",
                            names.join(", "),
                            values.join(", ")
                        ));
                    }
                }
                sql
            }
            (Range::Keys(..), Path::Blocks { .. }) => String::new(),
        };
        (sql, params)
    }
}

/// Ends a subquery that makes images of rows, or hashes of them: else the planner would have each made
/// anew wherever it is named, which costs more than all the rest.
const ONCE: &str = " OFFSET 0";

/// Stores rows with the values they have, also where the server would make its own.
pub fn storing(into: &str, columns: &str, from: &str) -> String {
    format!("INSERT INTO {into} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {from}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
