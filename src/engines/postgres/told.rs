//! What is told of an error of the server: what happened and to what, and never what rows contain. This is
//! the one place that decides it; the record, findings, logs and mails take it from here.

use tokio_postgres::error::{DbError, ErrorPosition};

use super::{Identifier, Origin, RelationName};

/// Where settings and options of tables are read: what they refuse is no value of a row.
const SETTINGS: [&str; 4] = ["guc.c", "guc_funcs.c", "variable.c", "reloptions.c"];

/// Data exceptions whose messages hold no value: string_data_right_truncation, null_value_not_allowed,
/// division_by_zero.
const WITHOUT: [&str; 3] = ["22001", "22004", "22012"];

/// The parts of an error, as far as they decide what is told.
struct Said<'a> {
    code: &'a str,
    message: &'a str,
    detail: Option<&'a str>,
    hint: Option<&'a str>,
    /// Whether it is about a place in the text of the statement.
    in_text: bool,
    origin: &'a Origin,
    table: Option<String>,
    column: Option<&'a str>,
    constraint: Option<&'a str>,
    datatype: Option<String>,
}

/// An error of the server in words that hold no values of rows.
pub(in crate::engines) fn told(error: &DbError, origin: &Origin) -> String {
    let qualified = |name: Option<&str>| {
        let name = name?;
        Some(match error.schema() {
            Some(schema) => RelationName::new(schema, name).to_string(),
            None => Identifier::new(name).to_string(),
        })
    };
    Said {
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
            false => "a value does not fit; the server's log has its words".to_owned(),
        };
        if let Some(detail) = self.detail.filter(|_| !self.may_detail()) {
            text.push_str(". ");
            text.push_str(detail);
        }
        let class = self.class();
        if matches!(class, "22" | "23" | "44") {
            text.push_str(&self.names());
        }
        // A hint of an extension's may repeat what it could not read.
        let known = self.code != "XX000" || self.origin.is_raised();
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
        let setting = self.code == "22023"
            && self
                .origin
                .file
                .as_deref()
                .is_some_and(|file| SETTINGS.contains(&file));
        let plain = self.in_text || setting || WITHOUT.contains(&self.code);
        self.class() == "22" && !plain && !self.is_authored()
    }

    /// Whether the detail may: keys and whole rows that break a constraint, the rows that a view would hold
    /// twice, arguments of a query that found none or many. What an extension adds to an internal error
    /// nobody knows.
    fn may_detail(&self) -> bool {
        match self.class() {
            "21" | "22" | "23" | "44" => true,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &'static str, message: &'static str, origin: &Origin, in_text: bool) -> String {
        Said {
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
