//! Deleting many rows in small transactions: where a batch begins and ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Fate, Param, Query, Statement};

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
    /// What the table is called in the condition, quoted.
    pub alias: String,
    /// Which rows go: SQL with `$1`, `$2`, … for [`Walk::params`].
    pub condition: String,
    /// Values for the condition.
    pub params: Vec<Param>,
    /// What becomes of the rows.
    pub fate: Fate,
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

/// The part of a table that a batch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// From this block up to, and without, that one.
    Blocks(i64, i64),
    /// Behind this key, up to and with that one; all to the left or right
    /// where there is none.
    Keys(Option<Vec<String>>, Option<Vec<String>>),
}

impl Walk {
    /// The statement of one batch.
    pub fn delete(&self, range: &Range) -> Statement {
        let (within, params) = self.within(range);
        Statement::brief(self.sql(&within)).with(params)
    }

    /// Selects what [`Walk::delete`] with the same range deletes.
    pub fn select(&self, what: &str, range: &Range) -> Query {
        let (within, params) = self.within(range);
        Query::new(
            format!(
                "SELECT {what} FROM ONLY {} AS {} WHERE {within}({})",
                self.table, self.alias, self.condition
            ),
            params,
        )
    }

    fn sql(&self, within: &str) -> String {
        let delete = format!(
            "DELETE FROM ONLY {} AS {} WHERE {within}({})",
            self.table, self.alias, self.condition
        );
        match &self.fate {
            Fate::Delete | Fate::Export(_) | Fate::Send(_) => delete,
            Fate::Move { into, columns } => {
                let columns = columns.join(", ");
                format!(
                    "WITH moved AS ({delete} RETURNING {}.*) INSERT INTO {into} ({columns}) SELECT {columns} FROM moved",
                    self.alias
                )
            }
        }
    }

    /// Asks for the last key of a batch of `rows` rows; no answer where fewer are left.
    pub fn bound(&self, columns: &[KeyColumn], range: &Range, rows: i64) -> Query {
        let (within, mut params) = self.within(range);
        let of = |write: fn(&KeyColumn) -> String| {
            let all: Vec<String> = columns.iter().map(write).collect();
            all.join(", ")
        };
        params.push(Param::Int(rows.max(1) - 1));
        Query::new(
            format!(
                "SELECT {} FROM ONLY {} AS {} WHERE {within}({}) ORDER BY {} OFFSET ${} LIMIT 1",
                of(|c| format!("{}::text", c.name)),
                self.table,
                self.alias,
                self.condition,
                of(|c| c.name.clone()),
                params.len()
            ),
            params,
        )
    }

    /// One batch, as shown to people.
    pub fn text(&self) -> String {
        let within = match &self.path {
            Path::Blocks { .. } => "ctid >= … AND ctid < … AND ".to_owned(),
            Path::Key(columns) => {
                let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                let names = names.join(", ");
                format!("({names}) > … AND ({names}) <= … AND ")
            }
        };
        self.sql(&within)
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

impl Range {
    /// The place behind this range, to be remembered; `None` at the end.
    pub fn behind(&self) -> Option<Value> {
        match self {
            Range::Blocks(_, to) => Some(json!({ "block": to })),
            Range::Keys(_, until) => until.as_ref().map(|key| json!({ "key": key })),
        }
    }
}

/// The block that a remembered place names.
pub fn block_of(place: &Value) -> Option<i64> {
    place.get("block")?.as_i64()
}

/// The key that a remembered place names, if it has so many columns.
pub fn key_of(place: &Value, columns: usize) -> Option<Vec<String>> {
    let key: Option<Vec<String>> = place
        .get("key")?
        .as_array()?
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect();
    key.filter(|key| key.len() == columns)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn walk(path: Path) -> Walk {
        Walk {
            table: "public.t".to_owned(),
            alias: "t".to_owned(),
            condition: "at < $1::date".to_owned(),
            params: vec![Param::Text("2026-01-01".to_owned())],
            fate: Fate::Delete,
            path,
            goal_ms: 250,
            rows: None,
            snapshot: false,
            progress: "here".to_owned(),
            start: None,
        }
    }

    #[test]
    fn values_are_bound_and_numbered_on() {
        let blocks = walk(Path::Blocks {
            extent: Query::new("SELECT 1", []),
        });
        let statement = blocks.delete(&Range::Blocks(64, 128));
        assert_eq!(
            statement.sql,
            "DELETE FROM ONLY public.t AS t WHERE ctid >= $2::tid AND ctid < $3::tid AND (at < $1::date)"
        );
        assert_eq!(statement.params[1], Param::Text("(64,0)".to_owned()));

        let column = |name: &str, type_name: &str| KeyColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
        };
        let columns = vec![column("at", "date"), column("id", "uuid")];
        let keys = walk(Path::Key(columns.clone()));
        let key = |at: &str, id: &str| Some(vec![at.to_owned(), id.to_owned()]);
        let range = Range::Keys(key("a", "1"), key("b", "2"));
        assert_eq!(
            keys.delete(&range).sql,
            "DELETE FROM ONLY public.t AS t WHERE (at, id) > ($2::date, $3::uuid) \
             AND (at, id) <= ($4::date, $5::uuid) AND (at < $1::date)"
        );
        let first = Range::Keys(None, None);
        assert_eq!(
            keys.bound(&columns, &first, 500).sql,
            "SELECT at::text, id::text FROM ONLY public.t AS t WHERE (at < $1::date) ORDER BY at, id OFFSET $2 LIMIT 1"
        );
        assert_eq!(first.behind(), None);
        let place = range.behind().unwrap();
        assert_eq!(key_of(&place, 2), key("b", "2"));
        assert_eq!(key_of(&place, 1), None);
        assert_eq!(block_of(&Range::Blocks(0, 7).behind().unwrap()), Some(7));
    }
}
