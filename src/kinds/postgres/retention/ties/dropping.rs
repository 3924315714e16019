//! What would be passed by if a partition were dropped, and what keeps it from being dropped.

use super::super::facts::{Member, Table};
use super::Ties;
use crate::engines::postgres::RelationName;

impl Ties {
    /// What happens when rows of a member are deleted, and would not happen
    /// if it were dropped.
    pub(in crate::kinds::postgres::retention) fn bypassed(
        &self,
        table: &Table,
        member: &Member,
    ) -> Vec<String> {
        self.passed_by(table, (member.oid, &member.name))
    }

    fn passed_by(&self, table: &Table, member: (u32, &RelationName)) -> Vec<String> {
        let mut all = Vec::new();
        for (oid, name) in [(table.oid, &table.name), member] {
            let Some(tie) = self.hanging.get(&oid) else {
                continue;
            };
            let triggers = tie.before.iter().chain(&tie.triggers);
            all.extend(triggers.map(|t| format!("trigger {t} of {name}")));
            all.extend(tie.rules.iter().map(|r| format!("rule {r} of {name}")));
            if tie.policies {
                all.push(format!("row-level security of {name}"));
            }
            let published = tie.publications.iter();
            all.extend(published.map(|p| format!("publication {p}")));
            if oid == table.oid && table.oid == member.0 {
                break;
            }
        }
        all.sort();
        all.dedup();
        all
    }

    /// What keeps a member from being dropped.
    pub(in crate::kinds::postgres) fn dependents(&self, member: u32) -> &[String] {
        self.hanging
            .get(&member)
            .map_or(&[], |tie| tie.dependents.as_slice())
    }

    /// Why an expired partition is not dropped as a whole; none where it is.
    pub(in crate::kinds::postgres) fn by_rows(
        &self,
        table: &Table,
        member: &Member,
        drop_partitions: Option<bool>,
    ) -> Option<String> {
        let dependents = self.dependents(member.oid);
        if !dependents.is_empty() {
            return Some(format!(
                "it is not dropped: {} depends on it",
                dependents.join(", ")
            ));
        }
        self.kept_from_dropping(table, (member.oid, &member.name), drop_partitions)
    }

    /// The same for what is no partition any more, whatever depends on it.
    pub(in crate::kinds::postgres) fn kept_from_dropping(
        &self,
        table: &Table,
        member: (u32, &RelationName),
        drop_partitions: Option<bool>,
    ) -> Option<String> {
        let bypassed = self.passed_by(table, member);
        match drop_partitions {
            Some(true) => None,
            Some(false) => Some("it is not dropped: `drop_partitions: false`".to_owned()),
            None if bypassed.is_empty() => None,
            None => Some(format!(
                "it is not dropped, because that would pass by {}; `drop_partitions: true` drops it all the same",
                bypassed.join(", ")
            )),
        }
    }
}
