//! One table by its name, as files say it and the catalog has it.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use super::NamePattern;
use super::dotted;
use super::text::{Invalid, written_as_text};

/// One table by its name: `orders`, `sales.orders`.
///
/// The name is as the catalog has it, upper and lower case told apart. Without a dot the schema
/// is `public`. A name that itself contains a dot or a quote is put in double quotes, quotes in
/// it doubled: `"my.schema".orders`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, unquoted.
    pub schema: String,
    /// The table, unquoted.
    pub table: String,
}

written_as_text!(
    TableName,
    ToString::to_string,
    "maint-table-name",
    "A table: `schema.table`; without a dot, in the schema `public`.",
    ["orders", "sales.orders"]
);

impl TableName {
    /// What it would stand for as a pattern; none where it has nothing of one.
    pub fn as_pattern(&self) -> Option<NamePattern> {
        let is_one = [&self.schema, &self.table]
            .iter()
            .any(|part| part.contains(['*', '?']));
        is_one.then(|| self.to_string().parse().ok()).flatten()
    }
}

impl FromStr for TableName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse::<NamedTable>().map(|named| named.name)
    }
}

/// A table as a file names it, which knows whether the file says its schema: without one it is
/// in the schema `public`, or in the schemas that are said beside it.
#[derive(Clone, Debug)]
pub struct NamedTable {
    name: TableName,
    has_schema: bool,
}

written_as_text!(
    NamedTable,
    ToString::to_string,
    "maint-table-name",
    "A table: `schema.table`; without a dot, in the schema `public`.",
    ["orders", "sales.orders"]
);

impl NamedTable {
    /// Whether its schema was said.
    pub fn has_schema(&self) -> bool {
        self.has_schema
    }

    /// The table of this name in another schema.
    #[must_use]
    pub fn in_schema(&self, schema: &str) -> NamedTable {
        TableName {
            schema: schema.to_owned(),
            table: self.name.table.clone(),
        }
        .into()
    }
}

/// However it was said.
impl PartialEq for NamedTable {
    fn eq(&self, other: &NamedTable) -> bool {
        self.name == other.name
    }
}

impl From<TableName> for NamedTable {
    fn from(name: TableName) -> Self {
        NamedTable {
            name,
            has_schema: true,
        }
    }
}

impl Deref for NamedTable {
    type Target = TableName;

    fn deref(&self) -> &TableName {
        &self.name
    }
}

impl fmt::Display for NamedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl FromStr for NamedTable {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (schema, table) = dotted::split(text, "a table such as `orders` or `sales.orders`")?;
        let has_schema = schema.is_some();
        let schema = schema.unwrap_or_else(|| "public".to_owned());
        if let Some(long) = [&schema, &table].into_iter().find(|part| part.len() > 63) {
            return Err(Invalid::new(format!(
                "`{text}` has a name of {} bytes, and none may have more than 63",
                long.len()
            )));
        }
        Ok(NamedTable {
            name: TableName { schema, table },
            has_schema,
        })
    }
}

/// As it can be read back.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str| {
            let plain = !name.contains(['.', '"']) && name.trim() == name;
            if plain {
                name.to_owned()
            } else {
                format!("\"{}\"", name.replace('"', "\"\""))
            }
        };
        write!(f, "{}.{}", part(&self.schema), part(&self.table))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_table_knows_whether_its_schema_was_said() {
        let named = |text: &str| text.parse::<NamedTable>().unwrap();
        assert!(named("public.orders").has_schema() && !named("orders").has_schema());
        assert!(!named("\"a.b\"").has_schema());
        assert_eq!(*named("orders"), "public.orders".parse().unwrap());
        assert_eq!(named("orders"), named("public.orders"));
        let there = named("orders").in_schema("te.n\"ant");
        assert_eq!(there.to_string(), "\"te.n\"\"ant\".orders");
        assert!(there.has_schema());
    }

    #[test]
    fn reads_names_as_the_catalog_has_them() {
        for (text, schema, table) in [
            ("orders", "public", "orders"),
            ("sales.Orders", "sales", "Orders"),
            ("\"my.schema\".x", "my.schema", "x"),
            (
                "select.\"weird \"\"name; DROP TABLE x\"",
                "select",
                "weird \"name; DROP TABLE x",
            ),
        ] {
            let name: TableName = text.parse().unwrap();
            assert_eq!((name.schema.as_str(), name.table.as_str()), (schema, table));
            assert_eq!(name.to_string().parse::<TableName>().unwrap(), name);
        }
        for text in ["", "a.", ".b", "a.b.c", "\"a", &"x".repeat(64)] {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }
}
