//! What is told of an error of the server: what happened and to what, and never what rows contain. This is
//! the one place that decides it; the record, findings, logs and mails take it from here.

use tokio_postgres::error::{DbError, ErrorPosition};

use super::{Identifier, Origin, RelationName};

/// Where settings and options of tables are read: what they refuse is no value of a row.
const SETTINGS: [&str; 4] = ["guc.c", "guc_funcs.c", "variable.c", "reloptions.c"];

/// Data exceptions whose messages hold no value: string_data_right_truncation, null_value_not_allowed,
/// division_by_zero.
const WITHOUT: [&str; 3] = ["22001", "22004", "22012"];

/// Codes whose messages quote names: of what is missing, or cannot be read. As a rule they stand in a
/// statement, and may be values of rows where a function makes a name or a query of them
/// (`to_tsquery`, `current_setting`, casts to `regclass`).
const OF_NAMES: [&str; 10] = [
    "3D000", // invalid_catalog_name
    "3F000", // invalid_schema_name
    "42601", // syntax_error
    "42602", // invalid_name
    "42622", // name_too_long
    "42703", // undefined_column
    "42704", // undefined_object
    "42725", // ambiguous_function
    "42883", // undefined_function
    "42P01", // undefined_table
];

/// Where files are read and written for whoever names them; elsewhere an error names a file of the server's own.
const OF_FILES: [&str; 2] = ["genfile.c", "be-fsstubs.c"];

/// Where connections are made for whoever says in a text whereto, passwords with it.
const OF_CONNECTIONS: &str = "dblink.c";

/// What messages are quoted with, whatever language they are in.
const QUOTES: [char; 9] = ['"', '«', '»', '„', '“', '”', '「', '」', '`'];

/// The parts of an error, as far as they decide what is told.
struct Said<'a> {
    code: &'a str,
    message: &'a str,
    detail: Option<&'a str>,
    hint: Option<&'a str>,
    /// Whether it is about a place in the text of the statement.
    in_text: bool,
    /// What was asked, and what a function asked, as far as its author wrote that.
    asked: [Option<&'a str>; 2],
    origin: &'a Origin,
    table: Option<String>,
    column: Option<&'a str>,
    constraint: Option<&'a str>,
    datatype: Option<String>,
}

/// An error of the server in words that hold no values of rows.
pub(in crate::engines) fn told(error: &DbError, sql: &str, origin: &Origin) -> String {
    let qualified = |name: Option<&str>| {
        let name = name?;
        Some(match error.schema() {
            Some(schema) => RelationName::new(schema, name).to_string(),
            None => Identifier::new(name).to_string(),
        })
    };
    let within = match error.position() {
        Some(ErrorPosition::Internal { query, .. }) if !origin.is_made() => Some(query.as_str()),
        _ => None,
    };
    Said {
        asked: [Some(sql), within],
        code: error.code().code(),
        message: error.message(),
        detail: error.detail(),
        hint: error.hint(),
        in_text: matches!(error.position(), Some(ErrorPosition::Original(_))),
        origin,
        table: qualified(error.table()),
        column: error.column(),
        constraint: error.constraint(),
        datatype: qualified(error.datatype()),
    }
    .told()
}

impl Said<'_> {
    fn told(&self) -> String {
        let plain = !self.may_quote();
        let mut text = match plain {
            true => self.message.to_owned(),
            // untranslatable_character
            false if self.code == "22P05" => {
                "the encoding of the database has no such character; one whose encoding is UTF8 has, and files have"
                    .to_owned()
            }
            false if matches!(self.class(), "38" | "39") => {
                "a function failed; the server's log has its words".to_owned()
            }
            false if self.class() == "22" => {
                "a value does not fit; the server's log has its words".to_owned()
            }
            false => "a value was taken for a name or a query, and names nothing or cannot be read; the server's log has its words".to_owned(),
        };
        if let Some(detail) = self.detail.filter(|_| plain && !self.may_detail()) {
            text.push_str(". ");
            text.push_str(detail);
        }
        let class = self.class();
        if matches!(class, "22" | "23" | "44") {
            text.push_str(&self.names());
        }
        // A hint of an extension's may repeat what it could not read.
        let known = self.code != "XX000" || self.origin.is_raised();
        // DROP … CASCADE, which takes a foreign key or a view along: never as what to do next.
        let known = known && (self.code != "2BP01" || self.origin.is_raised());
        if let Some(hint) = self.hint.filter(|_| plain && known) {
            text.push_str(". Hint: ");
            text.push_str(hint);
        }
        text
    }

    fn class(&self) -> &str {
        self.code.get(..2).unwrap_or_default()
    }

    /// Whether the message may quote a value of a row: what could not be read as a number, a date, a
    /// document. What stands in the statement itself, in a setting, or what a function's author wrote, is none.
    fn may_quote(&self) -> bool {
        if self.is_authored() {
            return false;
        }
        let file = self.origin.file.as_deref().unwrap_or_default();
        // What a function's author took for a field of a record is no value.
        if OF_FILES.contains(&file) || (OF_NAMES.contains(&self.code) && !file.starts_with("pl_")) {
            return !self.in_text && !self.quotes_what_was_asked();
        }
        let setting = self.code == "22023" && SETTINGS.contains(&file);
        let plain = self.in_text || setting || WITHOUT.contains(&self.code);
        // Whatever a language other than the server's own says of what went wrong: a key that was not found, a value.
        matches!(self.class(), "22" | "38" | "39") && !plain
    }

    /// Whether all that the message quotes stands in what was asked, or is the name of a setting that
    /// applications make up.
    fn quotes_what_was_asked(&self) -> bool {
        let bare = |text: &str| text.replace('"', "");
        let asked: Vec<String> = self.asked.iter().flatten().map(|sql| bare(sql)).collect();
        // A quoted name within quotes begins and ends twice.
        let message = self.message.replace("\"\"", "\"");
        let mut quoted = message.split(QUOTES).skip(1).step_by(2);
        quoted.all(|text| {
            asked.iter().any(|sql| sql.contains(text)) || (self.code == "42704" && is_setting(text))
        })
    }

    /// Whether the detail may: keys and whole rows that break a constraint, the rows that a view would hold
    /// twice, arguments of a query that found none or many. What an extension adds to an internal error
    /// nobody knows.
    fn may_detail(&self) -> bool {
        match self.class() {
            "21" | "22" | "23" | "38" | "39" | "44" => true,
            // What stands in the text by which a function connects, and what a path of XML was to be.
            "08" => self.origin.file.as_deref() == Some(OF_CONNECTIONS),
            "10" => true,
            "P0" => !self.origin.is_raised(),
            _ => self.code == "XX000" && !self.origin.is_raised(),
        }
    }

    /// Whether it is the text of a `RAISE`, and not of an error that was passed on.
    fn is_authored(&self) -> bool {
        self.origin.is_raised() && self.origin.file.as_deref() == Some("pl_exec.c")
    }

    /// What it is about, where the message does not say so already.
    fn names(&self) -> String {
        let quoted = |name: Option<&str>| {
            let name = name.filter(|name| !self.message.contains(*name))?;
            Some(Identifier::new(name).to_string())
        };
        let all = [
            ("table", self.table.clone()),
            ("column", quoted(self.column)),
            ("constraint", quoted(self.constraint)),
            ("type", self.datatype.clone()),
        ];
        let named: Vec<String> = all
            .into_iter()
            .filter_map(|(what, name)| Some(format!("{what} {}", name?)))
            .collect();
        match named.is_empty() {
            true => String::new(),
            false => format!(" ({})", named.join(", ")),
        }
    }
}

/// Whether it is named as settings are that an application makes up: `app.tenant`.
fn is_setting(text: &str) -> bool {
    let word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !word.is_empty() && word.len() < 64 && word.chars().all(plain)
    };
    text.split_once('.')
        .is_some_and(|(class, name)| word(class) && word(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &'static str, message: &'static str, origin: &Origin, in_text: bool) -> String {
        Said {
            asked: [Some("DELETE FROM s.t WHERE app.f(v) > 'known'"), None],
            code,
            message,
            detail: Some("Key (id)=(geheim) geheim"),
            hint: None,
            in_text,
            origin,
            table: Some("s.t".to_owned()),
            column: None,
            constraint: Some("u"),
            datatype: None,
        }
        .told()
    }

    #[test]
    fn values_are_left_out_and_names_are_not() {
        let server = Origin::default();
        let raised = Origin {
            context: None,
            file: Some("pl_exec.c".to_owned()),
            routine: Some("exec_stmt_raise".to_owned()),
            ..Origin::default()
        };
        let python = Origin {
            file: Some("plpy_elog.c".to_owned()),
            ..Origin::default()
        };
        let of = |file: &str| Origin {
            file: Some(file.to_owned()),
            ..Origin::default()
        };
        let (dblink, files) = (of("dblink.c"), of("be-fsstubs.c"));
        let told = [
            (
                said("23505", "unique constraint \"u\"", &server, false),
                "unique constraint \"u\" (table s.t)",
            ),
            (
                said("23514", "no partition for row", &server, false),
                "no partition for row (table s.t, constraint u)",
            ),
            (
                said("22P02", "no integer: \"geheim\"", &server, false),
                "a value does not fit; the server's log has its words (table s.t, constraint u)",
            ),
            (
                said("22P02", "no integer: \"geheim\"", &python, false),
                "a value does not fit; the server's log has its words (table s.t, constraint u)",
            ),
            (
                said("22P02", "no integer: \"12x\"", &server, true),
                "no integer: \"12x\" (table s.t, constraint u)",
            ),
            (said("21000", "twice", &server, false), "twice"),
            (said("P0003", "many", &server, false), "many"),
            (
                said("22000", "held by legal", &raised, false),
                "held by legal (table s.t, constraint u)",
            ),
            // Names are told that stand in the statement, and settings of applications.
            (
                said("42P01", "relation \"s.t\" does not exist", &server, false),
                "relation \"s.t\" does not exist. Key (id)=(geheim) geheim",
            ),
            (
                said("42704", "no setting \"app.tenant\"", &server, false),
                "no setting \"app.tenant\". Key (id)=(geheim) geheim",
            ),
            (
                said("42704", "no setting \"geheim\"", &server, false),
                "a value was taken for a name or a query, and names nothing or cannot be read; the server's log has its words",
            ),
            (
                said("42601", "syntax error in »geheim und mehr«", &server, false),
                "a value was taken for a name or a query, and names nothing or cannot be read; the server's log has its words",
            ),
            (
                said("42601", "syntax error at »geheim«", &server, true),
                "syntax error at »geheim«. Key (id)=(geheim) geheim",
            ),
            // Functions that connect, open files, read paths, or are written in another language.
            (
                said("08001", "could not establish connection", &dblink, false),
                "could not establish connection",
            ),
            (
                said("08001", "could not connect to server \"s\"", &server, false),
                "could not connect to server \"s\". Key (id)=(geheim) geheim",
            ),
            (
                said(
                    "58P01",
                    "could not open server file \"geheim\"",
                    &files,
                    false,
                ),
                "a value was taken for a name or a query, and names nothing or cannot be read; the server's log has its words",
            ),
            (
                said("10608", "invalid XPath expression", &server, false),
                "invalid XPath expression",
            ),
            (
                said("38000", "KeyError: 'geheim'", &python, false),
                "a function failed; the server's log has its words",
            ),
            // What others depend on is told, and what an author says.
            (
                said("2BP01", "others depend on it", &server, false),
                "others depend on it. Key (id)=(geheim) geheim",
            ),
            (
                said("P0001", "held", &raised, false),
                "held. Key (id)=(geheim) geheim",
            ),
        ];
        for (told, wanted) in told {
            assert_eq!(told, wanted);
        }
    }
}
