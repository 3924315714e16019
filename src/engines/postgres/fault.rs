//! What an error of the server means. Judged by its SQLSTATE, and by where in
//! the server it was raised; never by its words, which are in the language of
//! the server and change with its version.

use super::connect::Notice;
use crate::engines::EngineError;

/// What went wrong, as far as it decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody holds its locks, or changed the same rows: nothing has
    /// changed, and later it may work.
    Locked,
    /// A name leads nowhere: the object is gone, or was never there, or
    /// cannot be found by who looks for it.
    Missing,
    /// The role may not.
    Forbidden,
    /// It was cancelled, by us, by a time limit or by somebody else.
    Cancelled,
    /// All replication slots are taken that the server has for it.
    NoSlot,
    /// The server says that data is damaged.
    Damaged(Damage),
    /// The server cannot be reached any more, or could not be.
    Lost,
    /// Anything else.
    Broken,
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The rows of a table.
    Data,
    /// An index.
    Index,
    /// A file is not there.
    File,
}

/// The part of the server that loads libraries.
const LOADER: &str = "dfmgr.c";

/// The part that has replication slots. Other limits that are reached have the same code.
const SLOTS: &str = "slot.c";

/// The part that applies policies of tables.
const POLICIES: &str = "rls.c";

/// `VACUUM` and `ANALYZE`.
const VACUUM: [&str; 2] = ["vacuum.c", "analyze.c"];

/// Where they leave out a table of somebody else's: 14 and
/// 15, and since 16.
const MAY_NOT_VACUUM: [&str; 2] = [
    "vacuum_is_relation_owner",
    "vacuum_is_permitted_for_relation",
];

impl Fault {
    /// What this error means.
    pub fn of(error: &EngineError) -> Fault {
        if error.is_unreachable() {
            return Fault::Lost;
        }
        let EngineError::Statement {
            sqlstate, origin, ..
        } = error
        else {
            return Fault::Broken;
        };
        // Code that raises errors chooses their codes freely. That somebody is to
        // try again later is the one thing it can mean as the server does.
        if origin.is_raised() && !matches!(sqlstate.as_str(), "55P03" | "40P01" | "40001") {
            return Fault::Broken;
        }
        match sqlstate.as_str() {
            // lock_not_available, deadlock_detected, serialization_failure; the
            // latter also on a standby, where what is read was removed on the primary
            "55P03" | "40P01" | "40001" => Fault::Locked,
            // undefined_table, undefined_object, invalid_schema_name,
            // undefined_function, undefined_column
            "42P01" | "42704" | "3F000" | "42883" | "42703" => Fault::Missing,
            // insufficient_privilege
            "42501" => Fault::Forbidden,
            // query_canceled
            "57014" => Fault::Cancelled,
            // configuration_limit_exceeded
            "53400" if origin.file.as_deref() == Some(SLOTS) => Fault::NoSlot,
            // data_corrupted
            "XX001" => Fault::Damaged(Damage::Data),
            // index_corrupted
            "XX002" => Fault::Damaged(Damage::Index),
            // undefined_file: of the table, or of the transaction log. A
            // missing library of an extension is another matter.
            "58P01" if origin.file.as_deref() != Some(LOADER) => Fault::Damaged(Damage::File),
            _ => Fault::Broken,
        }
    }

    /// Whether a policy would have hidden rows from who asked to see all of them.
    pub fn is_hidden(error: &EngineError) -> bool {
        let EngineError::Statement { origin, .. } = error else {
            return false;
        };
        Fault::of(error) == Fault::Forbidden && origin.file.as_deref() == Some(POLICIES)
    }

    /// Why a statement that says it is done has left out what it was to do;
    /// `None` where the notice says no such thing.
    pub fn of_notice(notice: &Notice) -> Option<Fault> {
        // A trigger may raise a warning with any code.
        if !VACUUM.contains(&notice.file.as_deref()?) {
            return None;
        }
        match (notice.code.as_str(), notice.routine.as_deref()?) {
            ("55P03", _) => Some(Fault::Locked),
            ("42P01", _) => Some(Fault::Missing),
            (_, routine) if MAY_NOT_VACUUM.contains(&routine) => Some(Fault::Forbidden),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Origin;

    #[test]
    fn judged_by_code_and_place_not_by_words() {
        let error = |sqlstate: &str, file: &str| EngineError::Statement {
            doing: "running it".to_owned(),
            sqlstate: sqlstate.to_owned(),
            message: "Zugriff verweigert: skipping $libdir".to_owned(),
            origin: Box::new(Origin {
                context: None,
                file: Some(file.to_owned()),
                routine: (file == "pl_exec.c").then(|| "exec_stmt_raise".to_owned()),
                rule: None,
            }),
        };
        let fault = |sqlstate, file| Fault::of(&error(sqlstate, file));
        assert_eq!(fault("40P01", "deadlock.c"), Fault::Locked);
        assert_eq!(fault("42883", "parse_func.c"), Fault::Missing);
        assert_eq!(fault("42501", "aclchk.c"), Fault::Forbidden);
        assert_eq!(fault("58P01", "md.c"), Fault::Damaged(Damage::File));
        assert_eq!(fault("58P01", "dfmgr.c"), Fault::Broken);
        assert_eq!(fault("22012", "int.c"), Fault::Broken);
        assert_eq!(fault("53400", "slot.c"), Fault::NoSlot);
        assert_eq!(fault("53400", "fd.c"), Fault::Broken);
        for code in ["42501", "42P01", "57014", "XX001", "58P01"] {
            assert_eq!(fault(code, "pl_exec.c"), Fault::Broken, "{code}");
        }
        assert_eq!(fault("40001", "pl_exec.c"), Fault::Locked);
        let hidden = |sqlstate, file| Fault::is_hidden(&error(sqlstate, file));
        assert!(hidden("42501", "rls.c") && !hidden("42501", "aclchk.c"));
        assert!(!hidden("XX000", "rls.c") && !hidden("42501", "pl_exec.c"));

        let notice = |code: &str, file: &str, routine: &str| {
            Fault::of_notice(&Notice {
                is_warning: true,
                file: Some(file.to_owned()),
                code: code.to_owned(),
                message: "überspringe".to_owned(),
                routine: Some(routine.to_owned()),
            })
        };
        let vacuum = |code, routine| notice(code, "vacuum.c", routine);
        assert_eq!(vacuum("55P03", "vacuum_open_relation"), Some(Fault::Locked));
        assert_eq!(
            vacuum("01000", "vacuum_is_permitted_for_relation"),
            Some(Fault::Forbidden)
        );
        assert_eq!(notice("55P03", "pl_exec.c", "exec_stmt_raise"), None);
    }
}
