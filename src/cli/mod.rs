//! One file per verb. This file parses, sets up logging, and turns errors
//! into text, JSON and exit codes.

#[macro_use]
mod say;

mod advise;
mod advised;
mod archive;
mod check;
mod check_formats;
mod complete;
mod context;
mod demo;
mod doctor;
mod documents;
mod due;
mod explain;
mod export;
mod failed;
mod history;
mod init;
mod man;
mod memory;
mod next;
mod notify;
mod paste;
mod pause;
mod places;
mod plan;
mod records;
mod rehearse;
mod report;
mod run;
mod saved;
mod schema;
mod screen;
mod serve;
mod signals;
mod status;
mod usage;
mod welcome;
mod written;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use self::failed::tell;
use crate::history::HistoryError;
use crate::pipeline::{NotAnswered, PipelineError};
use crate::values::Problems;

/// Looks after databases: cleans up, refreshes statistics, rebuilds bloated
/// indexes, vacuums; only what is needed, without blocking anyone, and with a
/// record of everything it did.
#[derive(Debug, Parser)]
#[command(
    name = "maint",
    version,
    after_help = "Examples:
  maint init                       a configuration that fits a database
  maint check                      is the configuration right?
  maint plan reindex               what would happen, and why?
  maint run reindex --now          do it, whatever the schedule says
  maint show last                  what came of it?
  maint status                     is all well, and since when not?

Exit codes: 0 succeeded or nothing to do, 1 failed or partly failed,
2 usage or configuration, 3 a target or the history is out of reach,
4 not started (already running, or outside its window),
5 `plan --check`: the plan differs,
130/143 stopped by a signal, after cleaning up."
)]
struct Args {
    /// Path of schedules.yaml, or of its folder
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_parser = clap::builder::TypedValueParser::map(clap::builder::OsStringValueParser::new(), PathBuf::from),
        env = "MAINT_CONFIG",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// Text for people, or one JSON document on stdout
    #[arg(long, global = true, value_enum, default_value_t = Output::Human, help_heading = "Global options")]
    output: Output,
    /// When to use colour; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, help_heading = "Global options")]
    color: Color,
    /// How log lines look; they go to stderr. RUST_LOG sets the level
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, help_heading = "Global options")]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Human,
    Json,
    /// Only for `maint status`
    Nagios,
    /// Only for `maint check`: annotations of GitHub
    Github,
    /// Only for `maint check`: a test report, as GitLab and Jenkins read it
    Junit,
    /// Only for `maint check`: for code scanning
    Sarif,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether what goes there is to be coloured.
    fn wanted(self, stream: &impl std::io::IsTerminal) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stream.is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Looks at a database and writes a configuration that fits it
    Init(init::Init),
    /// Validates all files: every problem at once
    Check(check::Check),
    /// Looks at the targets and prints what would happen and why; changes nothing
    Plan(plan::Plan),
    /// Runs tasks
    Run(run::Run),
    /// Runs the schedules until it is stopped, and answers on HTTP
    Serve(serve::Serve),
    /// Stops a schedule for a while
    Pause(pause::Pause),
    /// Lets a paused schedule go on
    Resume(pause::Resume),
    /// Asks a running run to stop
    Cancel(pause::Cancel),
    /// What ran
    History(history::History),
    /// What was archived into files: lists it, proves it, brings it back
    Archive(archive::Archive),
    /// One run with its steps and findings
    Show(history::Show),
    /// The report of a period: is all well, what was done, was it worth it?
    Report(report::Report),
    /// Sends a test by every way that is configured
    Notify(notify::Notify),
    /// Is all well, and since when not: one line, and an exit code
    Status(status::Status),
    /// Upcoming occurrences
    Next(next::Next),
    /// Versions, privileges, extensions; and what each missing thing costs
    Doctor(doctor::Doctor),
    /// What a finding's code or a status means, and what to do
    Explain(explain::Explain),
    /// All open advice as one SQL file, to be read before it is run
    Advise(advise::Advise),
    /// A throwaway PostgreSQL with an aged learning platform, maintained before your eyes
    Demo(demo::Demo),
    /// Manifests for Kubernetes, systemd or cron from the schedules
    Export(export::Export),
    /// JSON Schema of the configuration files
    Schema(schema::Schema),
    /// Manual pages
    Man(man::Man),
    /// Completions for a shell
    #[command(
        after_help = "Examples:\n  maint completions bash > /etc/bash_completion.d/maint\n  maint completions zsh > ~/.zfunc/_maint\n  maint completions fish > ~/.config/fish/completions/maint.fish"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The names that may come next: what completions ask
    #[command(hide = true)]
    Complete(complete::Complete),
}

/// Why a command ended early; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("{}", .0.problems)]
    NotAnswered(NotAnswered),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Demo(#[from] crate::demo::DemoError),
    #[error("{0}")]
    NotStarted(String),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::NotAnswered(failed) if failed.unreachable => 3,
            Failure::Problems(_) | Failure::NotAnswered(_) | Failure::Usage(_) => 2,
            Failure::NotStarted(_) => 4,
            Failure::Pipeline(PipelineError::Engine(error)) if error.is_address() => 2,
            Failure::Pipeline(PipelineError::Engine(error)) if error.is_unreachable() => 3,
            Failure::Pipeline(PipelineError::History(error) | PipelineError::NoProof(error))
            | Failure::History(error) => match error.is_usage() {
                true => 2,
                false => 3,
            },
            Failure::Pipeline(
                PipelineError::NotAvailable { .. }
                | PipelineError::Options { .. }
                | PipelineError::Drifted { .. }
                | PipelineError::NotConfigured { .. },
            ) => 2,
            Failure::Pipeline(PipelineError::Engine(_) | PipelineError::NoDatabase { .. })
            | Failure::Demo(_)
            | Failure::Other(_) => 1,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Failure::Pipeline(error) => error.hint(),
            Failure::History(error) => error.hint(),
            _ => None,
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    memory::give_back();
    let args = match usage::parse() {
        Ok(args) => args,
        Err(code) => return ExitCode::from(code),
    };
    // What we write is for who runs us: reports, archives, what was told.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    start_logging(&args);
    let code = run(&args);
    match say::ended() {
        Err(error) => {
            errln!("error: the output could not be written: {error}");
            ExitCode::from(code.max(1))
        }
        Ok(()) => ExitCode::from(code),
    }
}

/// One thread for what waits for servers: an answer then wakes nobody else, which is most of what a
/// small step costs us; what computes has threads of its own. Where people look on while several
/// things run, nobody is to wait for anybody.
fn runtime(args: &Args) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match args.verb {
        Some(Verb::Serve(_) | Verb::Demo(_)) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

fn run(args: &Args) -> u8 {
    let runtime = match runtime(args) {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("error: the asynchronous runtime did not start: {error}");
            return 1;
        }
    };
    let code = match runtime.block_on(call(args)) {
        Ok(code) => code,
        Err(failure) => {
            tell(&failure, args.output);
            // A monitoring system reads one line of standard output, and takes 2 for critical.
            if args.output == Output::Nagios && matches!(args.verb, Some(Verb::Status(_))) {
                let said = failure.to_string();
                let first = said.lines().next().unwrap_or_default();
                let first = first.strip_prefix("error: ").unwrap_or(first);
                outln!("MAINT UNKNOWN - {}", crate::values::shown(first));
                return 3;
            }
            failure.code()
        }
    };
    match &args.verb {
        Some(Verb::Run(run)) => run.ends_with(code),
        _ => code,
    }
}

async fn call(args: &Args) -> Result<u8, Failure> {
    let context = context::Context::new(args);
    let Some(verb) = &args.verb else {
        return welcome::call(&context);
    };
    if context.nagios() && !matches!(verb, Verb::Status(_)) {
        return Err(Failure::Usage(
            "`--output nagios` is for `maint status`".to_owned(),
        ));
    }
    if context.for_ci().is_some() && !matches!(verb, Verb::Check(_)) {
        return Err(Failure::Usage(
            "`--output github`, `junit` and `sarif` are for `maint check`".to_owned(),
        ));
    }
    match verb {
        Verb::Init(verb) => verb.call(&context).await,
        Verb::Check(verb) => verb.call(&context).await,
        Verb::Plan(verb) => verb.call(&context).await,
        Verb::Run(verb) => verb.call(&context).await,
        Verb::Serve(verb) => verb.call(&context).await,
        Verb::Pause(verb) => verb.call(&context).await,
        Verb::Resume(verb) => verb.call(&context).await,
        Verb::Cancel(verb) => verb.call(&context).await,
        Verb::History(verb) => verb.call(&context).await,
        Verb::Archive(verb) => verb.call(&context).await,
        Verb::Show(verb) => verb.call(&context).await,
        Verb::Report(verb) => verb.call(&context).await,
        Verb::Notify(verb) => verb.call(&context).await,
        Verb::Status(verb) => verb.call(&context).await,
        Verb::Explain(verb) => verb.call(&context),
        Verb::Advise(verb) => verb.call(&context).await,
        Verb::Man(verb) => verb.call(),
        Verb::Next(verb) => verb.call(&context).await,
        Verb::Doctor(verb) => verb.call(&context).await,
        Verb::Demo(verb) => verb.call(&context).await,
        Verb::Export(verb) => verb.call(&context).await,
        Verb::Schema(verb) => verb.call(),
        Verb::Completions { shell } => {
            out!("{}", complete::script(*shell));
            Ok(0)
        }
        Verb::Complete(verb) => verb.call(&context).await,
    }
}

fn start_logging(args: &Args) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,maint::web=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(args.color.wanted(&std::io::stderr()))
        .with_writer(|| say::Logs);
    match args.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
