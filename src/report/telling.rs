//! What may leave the machine: never what rows contain.

/// Between the server's words and its code, as `EngineError` writes them.
const CODE: &str = " (SQLSTATE ";

/// An error as it may be told to others. A server repeats values of rows in its messages, details
/// and hints, and a function of the application may raise any text under any code. So none of its
/// words are told, unless they are exactly the server's own that hold nothing of anybody; the
/// record on this machine has them all.
pub fn error_text(error: &str) -> String {
    told(error, "")
}

/// The code of the server's in an error, as the record of a step or a run has it.
pub(super) fn sqlstate(error: &str) -> Option<&str> {
    let (_, rest) = error.rsplit_once(CODE)?;
    let code = rest.get(..5)?;
    let is_one = code
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    is_one.then_some(code)
}

/// A finding's message as it may be told to others. What stands before the first `: ` is ours.
pub fn finding_text(message: &str) -> String {
    if !message.contains(CODE) {
        return message.to_owned();
    }
    // What a program of the user's has repeated is not what became of the program.
    if let Some((ours, _)) = message.split_once("; it said: ")
        && !ours.contains(CODE)
    {
        return format!("{ours}; what it said is in the record of the run");
    }
    let ours = message.split_once(": ").map(|(ours, _)| ours);
    let ours = ours.filter(|ours| !ours.contains(CODE) && !ours.contains(char::is_control));
    told(
        message,
        &ours.map_or_else(String::new, |ours| format!("{ours}: ")),
    )
}

fn told(text: &str, ours: &str) -> String {
    let Some((message, rest)) = text.rsplit_once(CODE) else {
        return text.lines().next().unwrap_or_default().to_owned();
    };
    let (code, doing) = rest.split_at_checked(5).unwrap_or((rest, ""));
    let message = message.strip_prefix(ours).unwrap_or(message);
    let words = match SAFE.contains(&message) {
        true => message,
        false => words(code),
    };
    let doing = doing.split(')').next().unwrap_or_default();
    format!("{ours}{words} (SQLSTATE {code}{doing})")
}

/// Messages of the server's own in which nothing is filled in.
const SAFE: [&str; 14] = [
    "canceling statement due to lock timeout",
    "canceling statement due to statement timeout",
    "canceling statement due to user request",
    "canceling statement due to conflict with recovery",
    "terminating connection due to administrator command",
    "terminating connection due to idle-session timeout",
    "terminating connection due to idle-in-transaction timeout",
    "the database system is shutting down",
    "the database system is starting up",
    "deadlock detected",
    "could not serialize access due to concurrent update",
    "could not serialize access due to concurrent delete",
    "cannot execute in a read-only transaction",
    "out of shared memory",
];

/// What a code means, in our words: of the code, else of its class.
fn words(code: &str) -> &'static str {
    match code {
        "23502" => "a NOT NULL constraint is violated",
        "23503" => "a foreign key is violated",
        "23505" => "a unique constraint is violated",
        "23514" => "a check constraint is violated",
        "25006" => "the transaction is read-only",
        "40001" => "a concurrent change came in between",
        "40P01" => "a deadlock",
        "42501" => "the role may not do it",
        "42P01" => "a table or view does not exist",
        "42703" => "a column does not exist",
        "42704" => "an object does not exist",
        "42883" => "a function or operator does not exist",
        "3F000" => "a schema does not exist",
        "22P05" => "the encoding of the database has no such character",
        "53100" => "the disk is full",
        "53200" => "out of memory",
        "53300" => "too many connections",
        "55006" => "the object is in use",
        "55P03" => "a lock could not be had in time",
        "57014" => "the statement was cancelled",
        "57P01" | "57P02" | "57P03" => "the server is going down or coming up",
        "P0001" => "a function raised an error",
        "XX001" | "XX002" => "data is corrupted",
        _ => match code.get(..2) {
            Some("08") => "the connection failed",
            Some("0A") => "the server cannot do that",
            Some("22") => "a value does not fit",
            Some("23") => "a constraint is violated",
            Some("25") => "the state of the transaction does not allow it",
            Some("28") => "the server does not let the role in",
            Some("42") => "the statement does not fit the database",
            Some("53") => "the server is out of resources",
            Some("54") => "a limit of the server is reached",
            Some("55") => "the object is not in a state that allows it",
            Some("57") => "an operator intervened",
            Some("58") => "the server's system failed",
            Some("P0") => "a function failed",
            Some("XX") => "the server reports an internal error",
            _ => "the server reports an error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_servers_own() {
        for (error, code) in [
            (
                "keine Berechtigung (SQLSTATE 42501, while counting)",
                Some("42501"),
            ),
            (
                "a (SQLSTATE 42501) b (SQLSTATE 23505, while copying)",
                Some("23505"),
            ),
            (
                "refused the session: zu viele (SQLSTATE 53300)",
                Some("53300"),
            ),
            ("permission denied", None),
            ("cut off (SQLSTATE 42", None),
            ("cut off (SQLSTATE é501, while", None),
        ] {
            assert_eq!(sqlstate(error), code, "{error}");
        }
    }

    #[test]
    fn values_of_rows_are_left_out() {
        for (error, told) in [
            (
                "duplicate key value violates unique constraint \"u\". Key (email)=(a@b.c) already exists. (SQLSTATE 23505, while copying)",
                "a unique constraint is violated (SQLSTATE 23505, while copying)",
            ),
            (
                "new row for relation \"t\" violates check constraint \"c\". Failing row contains (1, geheim). (SQLSTATE 23514, while moving)",
                "a check constraint is violated (SQLSTATE 23514, while moving)",
            ),
            (
                "invalid input syntax for type integer: \"geheim\" (SQLSTATE 22P02, while deleting)",
                "a value does not fit (SQLSTATE 22P02, while deleting)",
            ),
            (
                "could not establish connection. missing \"=\" after \"geheim\" in connection info string (SQLSTATE 08001, while deleting)",
                "the connection failed (SQLSTATE 08001, while deleting)",
            ),
            (
                "KeyError: 'geheim' (SQLSTATE 38000, while deleting)",
                "the server reports an error (SQLSTATE 38000, while deleting)",
            ),
            (
                "user a@b.c must not go (SQLSTATE P0001, while deleting)",
                "a function raised an error (SQLSTATE P0001, while deleting)",
            ),
            // Raised by a function under a code of the server's, over several lines.
            (
                "geheim\nand more. Hint: geheim (SQLSTATE 55P03, while deleting)",
                "a lock could not be had in time (SQLSTATE 55P03, while deleting)",
            ),
            (
                "canceling statement due to lock timeout: geheim (SQLSTATE 55P03, while deleting)",
                "a lock could not be had in time (SQLSTATE 55P03, while deleting)",
            ),
            (
                "geheim (SQLSTATE 00000, while x) (SQLSTATE ZZ123, while deleting)",
                "the server reports an error (SQLSTATE ZZ123, while deleting)",
            ),
            (
                "canceling statement due to lock timeout (SQLSTATE 55P03, while reindexing)",
                "canceling statement due to lock timeout (SQLSTATE 55P03, while reindexing)",
            ),
            ("the process died\nsecond line", "the process died"),
        ] {
            assert_eq!(error_text(error), told);
        }
        assert_eq!(
            finding_text(
                "the server refuses its condition: geheim: 1 (SQLSTATE 42501, while counting)"
            ),
            "the server refuses its condition: the role may not do it (SQLSTATE 42501, while counting)"
        );
        assert_eq!(
            finding_text(
                "`commands.on_error`: /bin/sh ended with the exit code 3; it said: MAINT_ERROR=geheim (SQLSTATE 42P01, while running it)"
            ),
            "`commands.on_error`: /bin/sh ended with the exit code 3; what it said is in the record of the run"
        );
        assert_eq!(
            finding_text("85 % bloat: rebuild it"),
            "85 % bloat: rebuild it"
        );
    }
}
