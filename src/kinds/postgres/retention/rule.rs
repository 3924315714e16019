//! Which rows a rule means, as SQL.

mod age;
mod condition;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(in crate::kinds::postgres) use self::age::AgeType;
use self::condition::{mentions, one_condition};
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Ageing, Gone, Param, Unfit};
use crate::values::{CalendarSpan, Epoch, NamedTable, Percent, SchemaPattern, TimeZone};

/// Stands for the parent's table in a comparison. No name has such a character.
pub(super) const PARENT: &str = "\0p";
/// Stands for the child's.
pub(super) const CHILD: &str = "\0c";

/// Rows of one table that are to go.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The table; of a partitioned one, all partitions.
    pub(in crate::kinds::postgres) table: NamedTable,
    /// In each schema that one of these patterns names and none with a `!` does, the table of this
    /// name, which is then said without a schema. So is a `parent` that is in the same schema.
    #[serde(default)]
    pub(in crate::kinds::postgres) schemas: Vec<SchemaPattern>,
    /// The column that tells how old a row is: a timestamp, a date, a UUIDv7, or an integer with
    /// `epoch`. A row without a value there stays.
    #[serde(default)]
    pub(in crate::kinds::postgres) column: Option<String>,
    /// Rows older than this go. `0d` for columns that say when a row expires.
    #[serde(default)]
    pub(in crate::kinds::postgres) older_than: Option<CalendarSpan>,
    /// What an integer `column` counts since 1970.
    #[serde(default)]
    pub(in crate::kinds::postgres) epoch: Option<Epoch>,
    /// On whose clocks a `timestamp without time zone` or a `date` was written.
    #[serde(default)]
    pub(in crate::kinds::postgres) time_zone: Option<TimeZone>,
    /// Only rows that meet this SQL condition. Names in it other than the table's columns are
    /// written with their schema.
    #[serde(default, rename = "where")]
    pub(in crate::kinds::postgres) only: Option<String>,
    /// Only rows whose parent is gone.
    #[serde(default)]
    pub(in crate::kinds::postgres) orphaned: Option<Orphaned>,
    /// No rows that meet one of these SQL conditions.
    #[serde(default)]
    pub(in crate::kinds::postgres) keep: Vec<String>,
    /// How to go through the table; by default what the statistics recommend.
    #[serde(default)]
    pub(in crate::kinds::postgres) walk: Way,
    /// Where more rows than this would go, none does.
    #[serde(default)]
    pub(in crate::kinds::postgres) max_rows: Option<u64>,
    /// Where a larger share of the rows would go, none does. Orphans may be half of the rows, and
    /// none where the parent is empty, unless this says otherwise.
    #[serde(default)]
    pub(in crate::kinds::postgres) max_share: Option<Percent>,
}

/// How to go through a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// As the statistics recommend.
    #[default]
    Auto,
    /// Range by range of its blocks.
    Blocks,
    /// Along an index: that of `column`, or else the primary key.
    Key,
}

/// Children whose parent is gone.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Orphaned {
    /// The columns that point at the parent. Rows with a null in one of them have none.
    pub(super) columns: Vec<String>,
    /// The parent table.
    pub(in crate::kinds::postgres) parent: NamedTable,
    /// The columns pointed at, in the same order.
    #[serde(default = "id")]
    pub(super) parent_columns: Vec<String>,
    /// How each pair of columns is compared, with [`PARENT`] and [`CHILD`]
    /// for the tables: what the server says of their types.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) equal: Vec<String>,
    /// The numbers of the parent's columns, in the same order.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) numbers: Vec<i16>,
}

fn id() -> Vec<String> {
    vec!["id".to_owned()]
}

impl Rule {
    /// Whether the rule makes sense by itself.
    pub(in crate::kinds::postgres) fn check(&self) -> Result<(), Unfit> {
        let table = match self.schemas.is_empty() {
            true => self.table.to_string(),
            false => self.table.table.clone(),
        };
        if !self.schemas.is_empty() && self.table.has_schema() {
            return Err(Unfit::at(
                "schemas",
                format!(
                    "the rule names the table {} and `schemas` besides; write `table: {table}`, or leave `schemas` out",
                    self.table
                ),
            ));
        }
        if !self.schemas.is_empty() && self.schemas.iter().all(SchemaPattern::excludes) {
            return Err(Unfit::at(
                "schemas",
                "`schemas` leaves schemas out, and names none that are meant; add \"*\" for all others",
            ));
        }
        if self.column.is_none() && self.only.is_none() && self.orphaned.is_none() {
            return Err(format!(
                "the rule for `{table}` has neither an age nor a condition and would empty the table; give it `column` and `older_than`, `where`, or `orphaned`"
            ).into());
        }
        match (&self.column, self.older_than) {
            (Some(_), None) => {
                return Err(Unfit::at(
                    "column",
                    format!("the rule for `{table}` names a `column` but no `older_than`"),
                ));
            }
            (None, Some(_)) => {
                return Err(Unfit::at(
                    "older_than",
                    format!(
                        "the rule for `{table}` says `older_than` but not which `column` tells the age"
                    ),
                ));
            }
            _ => {}
        }
        for (key, text) in self
            .only
            .iter()
            .map(|text| ("where", text))
            .chain(self.keep.iter().map(|text| ("keep", text)))
        {
            one_condition(text).map_err(|why| {
                Unfit::at(
                    key,
                    format!("`{key}` in the rule for `{table}` {why}; expected one SQL condition"),
                )
            })?;
        }
        if let Some(orphaned) = &self.orphaned
            && (orphaned.columns.is_empty()
                || orphaned.columns.len() != orphaned.parent_columns.len())
        {
            return Err(Unfit::at(
                "orphaned",
                format!(
                    "`orphaned` in the rule for `{table}` has {} `columns` for {} `parent_columns`; each column needs the one it points at",
                    orphaned.columns.len(),
                    orphaned.parent_columns.len()
                ),
            ));
        }
        Ok(())
    }

    /// The same for the table in one schema, and the parent beside it.
    pub(in crate::kinds::postgres) fn of_schema(&self, schema: &str) -> Rule {
        let mut rule = self.clone();
        rule.table = self.table.in_schema(schema);
        if let Some(orphaned) = &mut rule.orphaned
            && !orphaned.parent.has_schema()
        {
            orphaned.parent = orphaned.parent.in_schema(schema);
        }
        rule
    }

    /// Whether rows are chosen by their age alone, so that a partition that
    /// is old enough has no other rows.
    pub(in crate::kinds::postgres) fn by_age_alone(&self) -> bool {
        self.column.is_some()
            && self.only.is_none()
            && self.orphaned.is_none()
            && self.keep.is_empty()
    }

    /// The conditions as the user wrote them.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.only.iter().chain(&self.keep).map(String::as_str)
    }

    /// The columns that the rule names as such.
    pub(super) fn named_columns(&self) -> impl Iterator<Item = &str> {
        let of_child = self.orphaned.iter().flat_map(|o| &o.columns);
        self.column.iter().chain(of_child).map(String::as_str)
    }

    /// Whether the rule names a column, or seems to: a word of a condition may be something else.
    pub(super) fn names(&self, column: &str) -> bool {
        self.named_columns().any(|one| one == column)
            || self.texts().any(|text| mentions(text, column))
    }

    /// Whether nothing but the row itself decides: no other table, and no
    /// function, which may look at one.
    pub(super) fn looks_at_its_rows_only(&self) -> bool {
        let calls = |text: &str| text.contains('(') || text.to_lowercase().contains("select");
        self.orphaned.is_none() && !self.texts().any(calls)
    }

    /// Whether the rows that would go have to be counted before.
    pub(super) fn is_bounded(&self) -> bool {
        self.max_rows.is_some() || self.max_share.is_some() || self.orphaned.is_some()
    }

    /// Whether the condition may look at other tables.
    pub(super) fn looks_elsewhere(&self) -> bool {
        self.orphaned.is_some() || self.only.is_some() || !self.keep.is_empty()
    }

    /// What it takes by age, where its age tells.
    pub(in crate::kinds::postgres) fn ages(&self, fate: Gone) -> Option<Ageing> {
        let all = self.only.is_none() && self.keep.is_empty() && self.orphaned.is_none();
        let patterns = self.schemas.iter().map(|pattern| format!("{pattern} "));
        Some(Ageing {
            object: format!("{}{}", patterns.collect::<String>(), *self.table),
            after: self.older_than.filter(|_| all || fate == Gone::Kept)?,
            fate,
        })
    }

    /// The moment before which rows are too old.
    pub(super) fn cut_off(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(self.older_than?.before(now))
    }

    /// The condition with its values. `age` is the type of `column`.
    /// SQL: whether a row is older than the rule's age, whatever else the rule says.
    pub(in crate::kinds::postgres) fn older(
        &self,
        age: Option<AgeType>,
        now: DateTime<Utc>,
    ) -> Option<(String, Param)> {
        let (column, age, cut) = (self.column.as_ref()?, age?, self.cut_off(now)?);
        let column = Identifier::new(column.as_str());
        let (value, cast) = age.bound(cut, self.epoch, self.time_zone.as_ref());
        Some((format!("{column} < $1::{cast}"), value))
    }

    pub(super) fn condition(
        &self,
        age: Option<AgeType>,
        now: DateTime<Utc>,
    ) -> (String, Vec<Param>) {
        let mut parts = Vec::new();
        let mut params = Vec::new();
        if let (Some(column), Some(age), Some(cut)) = (&self.column, age, self.cut_off(now)) {
            let column = Identifier::new(column.as_str());
            let (value, cast) = age.bound(cut, self.epoch, self.time_zone.as_ref());
            params.push(value);
            parts.push(format!("{column} < $1::{cast}"));
            if let Some(earliest) = age.earliest(cut) {
                parts.push(format!("{column} >= '{earliest}'::{cast}"));
            }
            if let (AgeType::Integer, Some(epoch)) = (age, self.epoch) {
                parts.push(format!("{column} >= {}", epoch.earliest()));
            }
            if age == AgeType::Uuid {
                // Only version 7 of RFC 9562's variant begins with the time.
                parts.push(format!(
                    "pg_catalog.get_byte(pg_catalog.uuid_send({column}), 6) >> 4 = 7
                        AND pg_catalog.get_byte(pg_catalog.uuid_send({column}), 8) >> 6 = 2"
                ));
            }
        }
        if let Some(orphaned) = &self.orphaned {
            parts.push(self.orphans(orphaned));
        }
        // A comment at the end of a condition must not swallow the bracket.
        parts.extend(self.only.iter().map(|text| format!("({text}\n)")));
        parts.extend(
            self.keep
                .iter()
                .map(|text| format!("({text}\n) IS NOT TRUE")),
        );
        (parts.join(" AND "), params)
    }

    fn orphans(&self, orphaned: &Orphaned) -> String {
        let parent = RelationName::new(&*orphaned.parent.schema, &*orphaned.parent.table);
        let alias = if self.table.table == "parent" {
            "parent_row"
        } else {
            "parent"
        };
        let own = self.alias();
        let present: Vec<String> = orphaned
            .columns
            .iter()
            .map(|column| format!("{own}.{} IS NOT NULL", Identifier::new(column.as_str())))
            .collect();
        let own_name = own.to_string();
        let same: Vec<String> = orphaned
            .equal
            .iter()
            .map(|equal| equal.replace(PARENT, alias).replace(CHILD, &own_name))
            .collect();
        format!(
            "{} AND NOT EXISTS (SELECT FROM {parent} AS {alias} WHERE {})",
            present.join(" AND "),
            same.join(" AND ")
        )
    }

    /// What conditions call the table, whichever partition is being looked at.
    pub(super) fn alias(&self) -> Identifier {
        Identifier::new(&*self.table.table)
    }

    /// For a sentence: what makes the rows of this rule go.
    pub(in crate::kinds::postgres) fn why(&self, now: DateTime<Utc>) -> String {
        let mut parts = Vec::new();
        if let (Some(column), Some(span), Some(cut)) =
            (&self.column, self.older_than, self.cut_off(now))
        {
            parts.push(format!(
                "{column} before {} ({span})",
                cut.format("%Y-%m-%d %H:%M UTC")
            ));
        }
        if let Some(orphaned) = &self.orphaned {
            parts.push(format!("no parent in {}", orphaned.parent));
        }
        if let Some(text) = &self.only {
            parts.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let kept = match self.keep.len() {
            0 => String::new(),
            1 => ", but for 1 exception".to_owned(),
            n => format!(", but for {n} exceptions"),
        };
        format!("{}{kept}", parts.join(", "))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn rule(yaml: serde_json::Value) -> Rule {
        serde_json::from_value(yaml).unwrap()
    }

    #[test]
    fn a_rule_needs_an_age_or_a_condition() {
        let refused = |yaml| rule(yaml).check().unwrap_err().to_string();
        let whole = serde_json::json!({ "table": "t", "keep": ["false"] });
        assert!(refused(whole).contains("would empty the table"));
        let half = serde_json::json!({ "table": "t", "column": "at" });
        assert!(refused(half).contains("no `older_than`"));
        let half = serde_json::json!({ "table": "t", "older_than": "1d", "where": "true" });
        assert!(refused(half).contains("which `column`"));
        let escaping = serde_json::json!({ "table": "t", "where": "x) or (true" });
        assert!(refused(escaping).contains("closes a bracket too many"));
        let uneven = serde_json::json!({ "table": "t", "orphaned": { "columns": ["a", "b"], "parent": "p" } });
        assert!(refused(uneven).contains("2 `columns` for 1"));
    }
}
