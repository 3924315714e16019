//! Rows of a table's last blocks move into free space at its front, so that
//! the end is empty and a vacuum can give it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::walk::array;
use super::{Param, Query, Statement};

/// Rewrites the rows of the last blocks with the values they have, batch by
/// batch, each committed by itself, always towards the front. The server puts
/// a new version where there is room; what is not in front of the batch yet is
/// rewritten again, until its own block is full and it has to leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shrink {
    /// The table, quoted and qualified. Tables that inherit from it, and its
    /// partitions, are not touched.
    pub table: String,
    /// Its id.
    pub oid: u32,
    /// The column that is written with its own value, quoted.
    pub column: String,
    /// Whether triggers and foreign keys are kept from firing. The role may
    /// say so; otherwise there are none that would.
    pub quiet: bool,
    /// Answers why no row can be moved by now, as a trigger that has come since would fire: null where
    /// one can, and no row where the table is gone. Asked in each batch, under its lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by_now: Option<Query>,
    /// Options of the vacuums before and after.
    pub vacuum: Vec<String>,
    /// The table, as the vacuums name it.
    pub vacuumed: String,
    /// How many blocks are expected to remain.
    pub goal_blocks: i64,
    /// How long a batch should take, in milliseconds; its size follows.
    pub goal_ms: u64,
    /// Answers with everybody who may still see what died before transaction
    /// `$1::xid`, worst first: (who text, end text, elsewhere bool).
    pub holders: Query,
}

impl Shrink {
    /// Removes dead rows, learns where there is room, and gives back what is
    /// empty at the end, unless somebody waits for the table. `all` reads also
    /// what the visibility map says holds nothing dead.
    pub fn vacuum(&self, all: bool) -> Statement {
        let mut options = self.vacuum.clone();
        if all {
            options.push("DISABLE_PAGE_SKIPPING".to_owned());
        }
        Statement::brief(format!("VACUUM ({}) {}", options.join(", "), self.vacuumed))
    }

    /// Counts the rows anew: to the server, each that has moved is one that has
    /// changed.
    pub fn analyze(&self) -> Statement {
        Statement::brief(format!("ANALYZE {}", self.vacuumed))
    }

    /// Keeps triggers and rules from coming until the end of the transaction, and lets others read and write.
    pub fn settle(&self) -> Statement {
        Statement::brief(format!(
            "LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE",
            self.table
        ))
    }

    /// Locks the rows of a range of blocks that nobody else has locked, and
    /// answers with their places. Nobody is waited for, so nobody can be kept
    /// waiting in a circle.
    pub fn lock(&self, from: i64, to: i64) -> Query {
        Query::new(
            format!(
                "SELECT ctid::text FROM ONLY {} WHERE ctid >= $1::tid AND ctid < $2::tid FOR NO KEY UPDATE SKIP LOCKED",
                self.table
            ),
            [
                Param::Text(format!("({from},0)")),
                Param::Text(format!("({to},0)")),
            ],
        )
    }

    /// Writes the rows at these places anew, and answers with where they are now.
    pub fn rewrite(&self, places: &[String]) -> Query {
        Query::new(
            format!(
                "{} WHERE ctid = ANY ($1::tid[]) RETURNING ctid::text",
                self.update()
            ),
            [Param::Text(array(places))],
        )
    }

    /// Whether any row is at this block or behind.
    pub fn occupied(&self, from: i64) -> Query {
        Query::new(
            format!(
                "SELECT EXISTS (SELECT FROM ONLY {} WHERE ctid >= $1::tid)",
                self.table
            ),
            [Param::Text(format!("({from},0)"))],
        )
    }

    fn update(&self) -> String {
        let (table, column) = (&self.table, &self.column);
        format!("UPDATE ONLY {table} SET {column} = {column}")
    }

    /// Who may still see what died before `mark`.
    pub fn held_by(&self, mark: &str) -> Query {
        let mut query = self.holders.clone();
        query.params.push(Param::Text(mark.to_owned()));
        query
    }

    /// As shown to people.
    pub fn text(&self) -> String {
        let vacuum = self.vacuum(false).sql;
        let quiet = if self.quiet {
            format!("{QUIET}; ")
        } else {
            String::new()
        };
        format!(
            "{vacuum}; BEGIN; {quiet}{} WHERE ctid >= … AND ctid < …; COMMIT; {vacuum}; {}",
            self.update(),
            self.analyze().sql
        )
    }
}

/// Keeps triggers and foreign keys from firing in the transaction that is open.
pub const QUIET: &str = "SET LOCAL session_replication_role = replica";

/// The block of a place `(block,item)`.
pub fn block_of_place(place: &str) -> Option<i64> {
    let (block, _) = place.strip_prefix('(')?.split_once(',')?;
    block.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bound() {
        let shrink = Shrink {
            table: "public.\"T\"".to_owned(),
            oid: 7,
            column: "\"order\"".to_owned(),
            quiet: true,
            held_by_now: None,
            vacuum: vec!["SKIP_LOCKED".to_owned()],
            vacuumed: "public.\"T\"".to_owned(),
            goal_blocks: 1,
            goal_ms: 250,
            holders: Query::new("SELECT $1", []),
        };
        let places = ["(1,2)".to_owned(), "(3,4)".to_owned()];
        let rewrite = shrink.rewrite(&places);
        assert_eq!(
            rewrite.sql,
            "UPDATE ONLY public.\"T\" SET \"order\" = \"order\" WHERE ctid = ANY ($1::tid[]) RETURNING ctid::text"
        );
        assert_eq!(
            rewrite.params,
            [Param::Text("{\"(1,2)\",\"(3,4)\"}".to_owned())]
        );
        assert_eq!(
            shrink.lock(8, 16).params[1],
            Param::Text("(16,0)".to_owned())
        );
        assert_eq!(block_of_place("(4294967294,17)"), Some(4_294_967_294));
        assert_eq!(block_of_place("4,17"), None);
    }
}
