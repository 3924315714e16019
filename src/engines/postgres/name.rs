//! Names as SQL needs them: the one place where they are quoted, so that no name can be taken for
//! anything else.

use std::fmt;

/// Key words that must be quoted to be names, over PostgreSQL 14 to 19: all
/// of `pg_get_keywords()` but the unreserved ones, as `quote_ident` does.
const KEY_WORDS: &str = " all analyse analyze and any array as asc asymmetric authorization between \
bigint binary bit boolean both case cast char character check coalesce collate collation column \
concurrently constraint create cross current_catalog current_date current_role current_schema \
current_time current_timestamp current_user dec decimal default deferrable desc distinct do else \
end except exists extract false fetch float for foreign freeze from full grant greatest group \
grouping having ilike in initially inner inout int integer intersect interval into is isnull join \
json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar \
json_serialize json_table json_value lateral leading least left like limit localtime \
localtimestamp merge_action national natural nchar none normalize not notnull null nullif numeric \
offset on only or order out outer overlaps overlay placing position precision primary real \
references returning right row select session_user setof similar smallint some substring symmetric \
system_user table tablesample then time timestamp to trailing treat trim true union unique user \
using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement \
xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable ";

/// One identifier. Its `Display` is the only way a name gets into SQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(String);

impl Identifier {
    /// Takes the name as the catalog has it, unquoted.
    pub fn new(raw: impl Into<String>) -> Self {
        Identifier(raw.into())
    }

    /// The name as the catalog has it.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars
            .next()
            .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !KEY_WORDS.contains(&format!(" {} ", self.0));
        if plain {
            f.write_str(&self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('"', "\"\""))
        }
    }
}

/// A relation with its schema. Displays as SQL needs it: quoted, qualified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelationName {
    /// The schema.
    pub schema: Identifier,
    /// The table, index or view.
    pub relation: Identifier,
}

impl RelationName {
    /// Takes both names as the catalog has them, unquoted.
    pub fn new(schema: impl Into<String>, relation: impl Into<String>) -> Self {
        RelationName {
            schema: Identifier::new(schema),
            relation: Identifier::new(relation),
        }
    }
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.relation)
    }
}

/// Text as a string constant, for utility statements, which take no bound
/// values. Right whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_end_where_they_should() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'; DROP"), r"E'\\''; DROP'");
    }

    #[test]
    fn quotes_what_needs_it_and_only_that() {
        for (raw, sql) in [
            ("orders", "orders"),
            ("_x9", "_x9"),
            ("Orders", "\"Orders\""),
            ("9lives", "\"9lives\""),
            ("select", "\"select\""),
            ("name", "name"),
            (
                "weird \"name; DROP TABLE x",
                "\"weird \"\"name; DROP TABLE x\"",
            ),
            ("größe", "\"größe\""),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("all analyse", "\"all analyse\""),
        ] {
            assert_eq!(Identifier::new(raw).to_string(), sql);
        }
    }
}
