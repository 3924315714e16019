//! Partitioned tables, their partitions, and everything that those carry.

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;

use super::calendar::Point;
use crate::engines::postgres::trust::Standing;
use crate::engines::postgres::{Identifier, RelationName};
use crate::values::TableName;

/// A table that the task names.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    /// `p` for a partitioned one, as the catalog has it.
    pub(super) kind: String,
    /// `r` for ranges; empty where it is not partitioned.
    pub(super) strategy: String,
    /// The only column of its key.
    pub(super) column: Option<Identifier>,
    /// Whether event triggers see tables be dropped, and may refuse it.
    pub(super) watched: bool,
    /// `FOR VALUES …` of itself and of the tables above it, where those are partitioned by the same column.
    pub(super) within: Vec<String>,
    /// The operators that order it, where they are not those of its type.
    pub(super) ordered_by: Option<String>,
    /// Name of the key's type below all domains.
    pub(super) key_type: String,
    pub(super) default: Option<u32>,
    /// The statements that let the role attach and detach partitions, where it may not; an empty
    /// one where none should.
    pub(super) lacks: Vec<String>,
    /// The statement that lets it create tables in the table's schema, where it may not.
    pub(super) may_not_create: Option<String>,
    /// Tables with foreign keys that point at it, or at a table above.
    pub(super) referenced_by: Vec<String>,
    /// Columns that are not computed, quoted.
    pub(super) columns: Vec<String>,
    /// Rows of the default partition by quarter of an hour of the axis.
    pub(super) strays: Vec<Strays>,
    /// Why those could not be counted.
    pub(super) unread: Option<Unread>,
    /// What would keep rows from leaving the default partition: rules and
    /// policies, for certain.
    pub(super) keeping: Vec<String>,
    /// Tables with foreign keys that point at the default partition itself, or
    /// at one below it.
    pub(super) referring: Vec<String>,
    /// Triggers that would take rows that leave the default partition for deleted.
    pub(super) fired: Vec<String>,
    /// The question that the four lists around this are the answer to, of the default partition
    /// `$1`: it is asked once more under the lock that the rows are moved under.
    pub(super) keeps: String,
    /// Publications that would tell of the leaving, or of the coming: the new table is in none of them as a partition
    /// yet, and may be in some of them by itself.
    pub(super) published: Vec<String>,
}

/// Why the rows of the default partition could not be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The role may not read it.
    Refused,
    /// Row-level security would hide some.
    Filtered,
}

/// Rows of the default partition that are close to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strays {
    /// Places of the first and of the last of them.
    pub(super) first: Point,
    pub(super) last: Point,
    pub(super) rows: i64,
}

/// What hangs on a table by name, in SQL that makes the same on another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Attached {
    /// `UNIQUE ` or nothing, and what stands after the table's name: `USING btree (id)`.
    pub(super) indexes: Vec<(bool, String)>,
    /// `PRIMARY KEY (id)`.
    pub(super) constraints: Vec<String>,
    pub(super) row_security: bool,
    pub(super) forced: bool,
    /// Name, and what stands after the table's name.
    pub(super) policies: Vec<(String, String)>,
    /// (role, privilege, column, with grant option); no role for everybody.
    pub(super) column_grants: Vec<(Option<String>, String, String, bool)>,
    /// What it has besides, which is not for us to repeat: what it is, and the
    /// statement that makes it, with [`ITSELF`] for the table; empty where it
    /// needs a name of its own.
    pub(super) besides: Vec<(String, String)>,
}

/// Stands for the name of a table in the statements of [`Attached::besides`].
pub(super) const ITSELF: &str = "{table}";

/// A partition, a partition of a partition, or the table itself.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) oid: u32,
    /// A number for who may see and do what with it.
    pub(super) rights: i64,
    pub(super) name: RelationName,
    /// `r`, `p`, `f`, as the catalog has it.
    pub(super) kind: String,
    /// As the server writes them in UTC; none for the table itself.
    pub(super) bounds: Option<String>,
    pub(super) detach_pending: bool,
    /// `LIST (region)`, where it is partitioned itself.
    pub(super) key: Option<String>,
    pub(super) owner: String,
    /// `fillfactor=70`, those of its TOAST table as `toast.…`.
    pub(super) options: Vec<String>,
    pub(super) tablespace: Option<String>,
    pub(super) unlogged: bool,
    /// Its table access method, where it is not the default.
    pub(super) access_method: Option<String>,
    pub(super) comment: Option<String>,
    /// `d`, `n`, `f` or `i`, as the catalog has it.
    pub(super) replica_identity: String,
    /// The columns of the index that identifies its rows.
    pub(super) replica_columns: Option<Vec<String>>,
    /// Whether some of them may be null in the table above, though not here.
    pub(super) replica_nullable: bool,
    /// The role may put tables there.
    pub(super) may_tablespace: bool,
    /// The statements that let the role give a new partition to its owner, where it may not.
    pub(super) unheritable: Vec<String>,
    /// What its parent does not give it.
    pub(super) attached: Attached,
    pub(super) bytes: i64,
    pub(super) children: Vec<u32>,
    /// (role, privilege, with grant option); no role for everybody.
    pub(super) grants: Vec<(Option<String>, String, bool)>,
    /// Privileges that its owner has given up.
    pub(super) given_up: Vec<String>,
    /// Publications that have it, by its name or its schema.
    pub(super) publications: Vec<Publication>,
}

/// A publication that has a partition.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) name: String,
    /// Which columns and rows of it, where it is not all: `(id, at) WHERE (id > 5)`.
    pub(super) some: Option<String>,
    /// The role may change it.
    pub(super) may: bool,
    /// It has the partition because of its schema, and no other that is made in that of the table.
    pub(super) by_schema: bool,
}

impl Publication {
    /// Whether a new partition is given to it as this one was.
    pub(super) fn is_given(&self) -> bool {
        self.may && self.some.is_none() && !self.by_schema
    }
}

/// A partition that was detached in order to be dropped later.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    /// The rest of its mark: the table it belonged to, and since when.
    pub(super) mark: String,
    pub(super) bytes: i64,
    pub(super) foreign: bool,
    /// A foreign table below it.
    pub(super) foreign_below: Option<String>,
    /// The table that it is part of by now, as somebody wanted it.
    pub(super) part_of: Option<String>,
    /// Whether a table of its owner is called what the mark says.
    pub(super) named: bool,
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(super) standing: Standing,
    pub(super) major: i32,
    pub(super) role: String,
    /// Whom `ALTER DEFAULT PRIVILEGES` gives rights on what our role creates;
    /// no role for everybody.
    pub(super) by_default: Vec<Option<String>>,
    /// By how much this machine's clock is ahead of the server's.
    pub(super) clock_ahead: TimeDelta,
    /// What is wrong with the clocks.
    pub(super) clock: Option<String>,
    /// The tables that are meant, in the order of the task.
    pub(super) names: Vec<TableName>,
    /// The names of all schemas, where the task means some and every one of them is to be found here.
    pub(super) of_all: Option<Vec<String>>,
    pub(super) tables: HashMap<TableName, Table>,
    /// Of names that no table goes by and that look like patterns: the partitioned tables that they
    /// would fit.
    pub(super) fitting: HashMap<TableName, Vec<String>>,
    pub(super) nodes: HashMap<u32, Node>,
    /// Names that are taken, by schema.
    pub(super) taken: HashSet<(String, String)>,
    pub(super) schemas: HashSet<String>,
    /// What has the name already that a partition, or an index of it, would have in the schema
    /// where partitions are kept; by partition.
    pub(super) kept_already: HashMap<u32, String>,
    pub(super) retired: Vec<Retired>,
    /// What keeps partitions, and those that were, from being dropped.
    pub(super) dependents: HashMap<u32, Vec<String>>,
    /// Publications that tell of rows by their partition, and take new ones in by themselves; by table.
    pub(super) publications: HashMap<u32, Vec<String>>,
    /// Of which tables and partitions not all could be read, and who holds them.
    pub(super) held: HashMap<u32, String>,
}

/// Marks what was detached in order to be dropped after a grace period.
pub(in crate::kinds::postgres) const MARK: &str = "maint: retired partition of ";

/// Which of a partition and all that are below it somebody holds.
pub(super) fn a_held(
    oid: u32,
    nodes: &HashMap<u32, Node>,
    held: &HashMap<u32, String>,
) -> Option<u32> {
    if held.contains_key(&oid) {
        return Some(oid);
    }
    let mut below = nodes.get(&oid)?.children.iter();
    below.find_map(|child| a_held(*child, nodes, held))
}

/// The size of a partition with all that are below it.
pub(super) fn bytes(oid: u32, nodes: &HashMap<u32, Node>) -> i64 {
    nodes.get(&oid).map_or(0, |node| {
        let below = node.children.iter().map(|child| bytes(*child, nodes));
        node.bytes + below.sum::<i64>()
    })
}
