//! A table of the task, understood: what it is partitioned by, and which stretches of that have a partition.

use chrono_tz::Tz;

use super::calendar::{self, FIRST, Key, LAST, Point};
use super::coverage::{Stretch, missing};
use super::facts::{Facts, Node, Table};
use super::{DOCS, Partitions};
use crate::engines::postgres::Identifier;
use crate::plan::Moment;
use crate::values::{TableName, TimeZone};

/// A table of the task, understood.
pub(super) struct Subject<'a> {
    pub(super) table: &'a Table,
    pub(super) column: &'a Identifier,
    pub(super) key: Key,
    pub(super) zone: Tz,
    /// Its partitions in the order of the axis, but for the default one.
    pub(super) partitions: Vec<(Stretch, u32, &'a Node)>,
    /// Those that somebody began to detach: they take no rows any more.
    pub(super) pending: Vec<(Stretch, u32, &'a Node)>,
    pub(super) default: Option<&'a Node>,
}

/// So many tables are named that a name would fit.
const MOST_FITTING: usize = 20;

fn no_such_table(name: &TableName, facts: &Facts) -> String {
    let Some(fit) = facts.fitting.get(name) else {
        return "there is no such table".to_owned();
    };
    let some: Vec<&str> = fit.iter().take(MOST_FITTING).map(String::as_str).collect();
    let which = match fit.len() {
        0 => "no partitioned table would fit".to_owned(),
        n if n > some.len() => format!(
            "it would fit {} and {} more",
            some.join(", "),
            n - some.len()
        ),
        _ => format!("it would fit {}", some.join(", ")),
    };
    format!(
        "there is no such table: `tables` takes names, not patterns, so that no table is partitioned or loses partitions because of how it is called; name each ({which})"
    )
}

impl Partitions {
    /// What is known of a table of the task.
    ///
    /// # Errors
    /// Why the task can do nothing for it.
    pub(super) fn subject<'a>(
        &self,
        name: &TableName,
        facts: &'a Facts,
        at: &Moment,
    ) -> Result<Subject<'a>, String> {
        let table = facts
            .tables
            .get(name)
            .ok_or_else(|| no_such_table(name, facts))?;
        if table.kind != "p" {
            return Err(format!(
                "{} is not partitioned; a table becomes partitioned only when it is created, {DOCS}",
                table.name
            ));
        }
        if table.strategy != "r" {
            return Err(format!(
                "{} is not partitioned by range, {DOCS}",
                table.name
            ));
        }
        let column = table.column.as_ref().ok_or_else(|| {
            format!(
                "the partition key of {} is not a single plain column, {DOCS}",
                table.name
            )
        })?;
        if let Some(operators) = &table.ordered_by {
            return Err(format!(
                "{} is partitioned in the order of the operator class {operators}, which is not that of its key's type: nothing tells which of its partitions are old, {DOCS}",
                table.name
            ));
        }
        let key = Key::of(&table.key_type, self.epoch)?;
        let mut partitions = Vec::new();
        let root = facts.nodes.get(&table.oid);
        for oid in root.iter().flat_map(|root| &root.children) {
            let Some(node) = facts.nodes.get(oid).filter(|_| Some(*oid) != table.default) else {
                continue;
            };
            let bounds = node.bounds.as_deref().unwrap_or_default();
            let read = |literal: &str| -> Option<Point> { key.point(literal) };
            let stretch = calendar::range(bounds)
                .and_then(|(from, to)| Some((read(from)?, read(to)?)))
                .ok_or_else(|| format!("the bounds of {} cannot be read: {bounds}", node.name))?;
            partitions.push((stretch, *oid, node));
        }
        partitions.sort_by_key(|(stretch, ..)| *stretch);
        let begins = partitions.iter().map(|((from, _), ..)| *from);
        if let Some(newest) = begins.filter(|from| *from != FIRST).max()
            && let Some(why) = key.implausible(newest, at.now)
        {
            return Err(why);
        }
        let (pending, partitions) = partitions
            .into_iter()
            .partition(|(.., node): &(Stretch, u32, &Node)| node.detach_pending);
        Ok(Subject {
            table,
            column,
            key,
            zone: self.time_zone.map_or(at.zone, TimeZone::get),
            partitions,
            pending,
            default: table.default.and_then(|oid| facts.nodes.get(&oid)),
        })
    }
}

impl Subject<'_> {
    /// What the table itself takes, as a part of another.
    pub(super) fn within(&self) -> Stretch {
        let own = self.table.within.iter().filter_map(|bounds| {
            let (from, to) = calendar::range(bounds)?;
            Some((self.key.point(from)?, self.key.point(to)?))
        });
        own.fold((FIRST, LAST), |(low, high), (from, to)| {
            (low.max(from), high.min(to))
        })
    }

    pub(super) fn stretches(&self) -> Vec<Stretch> {
        self.partitions
            .iter()
            .map(|(stretch, ..)| *stretch)
            .collect()
    }

    /// A stretch as people read it.
    pub(super) fn shown(&self, (from, to): Stretch) -> String {
        format!(
            "from {} to {}",
            self.key.literal(from),
            self.key.literal(to)
        )
    }

    /// Stretches between existing partitions that none covers.
    pub(super) fn gaps(&self) -> Vec<Stretch> {
        let finite = |point: &Point| *point != FIRST && *point != LAST;
        let low = self
            .partitions
            .iter()
            .map(|((from, to), ..)| if finite(from) { *from } else { *to });
        let high = self
            .partitions
            .iter()
            .map(|((from, to), ..)| if finite(to) { *to } else { *from });
        match (low.min(), high.max()) {
            (Some(low), Some(high)) if low < high => missing((low, high), &self.stretches()),
            _ => Vec::new(),
        }
    }
}
