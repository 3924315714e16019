//! What may leave the machine: never what rows contain.

/// An error as it may be told to others. A server repeats values of rows in
/// the messages of some classes; the record has them, a mail does not.
pub fn error_text(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let Some((message, rest)) = line.rsplit_once(" (SQLSTATE ") else {
        return line.to_owned();
    };
    let told = match rest.get(..2) {
        // Data exceptions quote the value after the colon.
        Some("22") => message.split(['"', '\'', ':']).next().unwrap_or_default(),
        // Integrity: the message names a constraint, the detail has the row.
        Some("23") => message.split(". ").next().unwrap_or_default(),
        // Whatever a function of the application wanted to say.
        Some("P0") => "a function raised an error",
        _ => message,
    };
    format!("{} (SQLSTATE {rest}", told.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_rows_are_left_out() {
        for (error, told) in [
            (
                "duplicate key value violates unique constraint \"u\". Key (email)=(a@b.c) already exists. (SQLSTATE 23505, while copying)",
                "duplicate key value violates unique constraint \"u\" (SQLSTATE 23505, while copying)",
            ),
            (
                "invalid input syntax for type integer: \"geheim\" (SQLSTATE 22P02, while deleting)",
                "invalid input syntax for type integer (SQLSTATE 22P02, while deleting)",
            ),
            (
                "user a@b.c must not go (SQLSTATE P0001, while deleting)",
                "a function raised an error (SQLSTATE P0001, while deleting)",
            ),
            (
                "canceling statement due to lock timeout (SQLSTATE 55P03, while reindexing)",
                "canceling statement due to lock timeout (SQLSTATE 55P03, while reindexing)",
            ),
            ("the process died\nsecond line", "the process died"),
        ] {
            assert_eq!(error_text(error), told);
        }
    }
}
