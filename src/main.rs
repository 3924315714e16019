//! Parse, call, map to an exit code.

fn main() -> std::process::ExitCode {
    maint::cli::main()
}
