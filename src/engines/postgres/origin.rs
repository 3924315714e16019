//! Where in the server an error was raised.

/// Where in the server an error was raised.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// In which functions, innermost first, where it was in any.
    pub context: Option<String>,
    /// The source file.
    pub file: Option<String>,
    /// The function in it.
    pub routine: Option<String>,
    /// What a row was measured by, where one was: a constraint by its name, or a column that takes no NULL.
    pub rule: Option<String>,
}

impl Origin {
    /// Whether a function made the statement at its run (`EXECUTE`), of whatever values.
    pub fn is_made(&self) -> bool {
        let context = self.context.as_deref().unwrap_or_default();
        context
            .lines()
            .any(|line| line.starts_with("PL/pgSQL") && line.contains("EXECUTE"))
    }

    /// Whether the code of a function said so on purpose, with a code of its
    /// own choice: then the code says nothing about the server.
    pub fn is_raised(&self) -> bool {
        match (self.file.as_deref(), self.routine.as_deref()) {
            (Some("pl_exec.c"), Some(routine)) => routine == "exec_stmt_raise",
            (Some("plperl.c" | "plpy_elog.c" | "plpy_plpymodule.c" | "pltcl.c"), _) => true,
            _ => false,
        }
    }
}
