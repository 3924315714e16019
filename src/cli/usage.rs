//! Words on the command line that cannot be read: what was probably meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::{Args, failed};
use crate::values::{closest, redact};

/// Reads the command line; the error is the exit code, after everything has
/// been said.
pub(super) fn parse() -> Result<Args, u8> {
    let parsed = Args::try_parse().and_then(|mut args| {
        if args
            .config
            .as_ref()
            .is_some_and(|file| file.as_os_str().is_empty())
        {
            // A variable that is empty says nothing; an option does.
            if std::env::args().any(|word| word == "--config" || word == "--config=") {
                let why = "`--config` names no file";
                return Err(Args::command().error(ErrorKind::InvalidValue, why));
            }
            args.config = None;
        }
        Ok(args)
    });
    parsed.map_err(|error| {
        if !error.use_stderr() {
            // Help and version were asked for.
            let styled = error.render();
            match console::colors_enabled() {
                true => out!("{}", styled.ansi()),
                false => out!("{styled}"),
            }
            return 0;
        }
        // A slip may have put a URL with its password where it does not belong.
        let said = redact(explain(&error).trim_end());
        match wants_json(std::env::args().skip(1)) {
            true => failed::tell_usage(&said),
            false => errln!("{said}"),
        }
        2
    })
}

/// Whether a document is asked for, as far as that can be seen in words that make no sense together.
fn wants_json(words: impl Iterator<Item = String>) -> bool {
    let mut before = String::new();
    let mut wants = false;
    for word in words {
        if word == "--" {
            break;
        }
        let value = match before.as_str() {
            "--output" => Some(word.as_str()),
            _ => word.strip_prefix("--output="),
        };
        if let Some(value) = value {
            wants = value == "json";
        }
        before = word;
    }
    wants
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

fn explain(error: &clap::Error) -> String {
    let all = Args::command();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let Some(word) = text(error, ContextKind::InvalidSubcommand) else {
                return error.to_string();
            };
            let within = command_of(&all, &words);
            let verbs = within.get_subcommands().filter(|verb| !verb.is_hide_set());
            let verbs: Vec<&str> = verbs.map(Command::get_name).collect();
            let meant = closest(word, verbs.iter().copied());
            format!(
                "error: there is no command `{word}`\n{}  known: {}",
                hint(meant),
                verbs.join(", ")
            )
        }
        ErrorKind::UnknownArgument => {
            let Some(word) = text(error, ContextKind::InvalidArg) else {
                return error.to_string();
            };
            let within = command_of(&all, &words);
            if !word.starts_with("--") {
                return format!(
                    "error: `{word}` is not expected here\n{}",
                    usage(&all, &words)
                );
            }
            let options: Vec<String> = all
                .get_arguments()
                .chain(within.get_arguments())
                .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
                .collect();
            let meant = match word {
                "--json" => Some("--output json"),
                "--force" if within.get_name() == "run" => Some("--now"),
                _ => closest(word, options.iter().map(String::as_str)),
            };
            format!(
                "error: there is no option `{word}`\n{}{}",
                hint(meant),
                usage(&all, &words)
            )
        }
        _ => error.to_string(),
    }
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| {
        format!("  hint: did you mean `{meant}`?\n")
    })
}

/// The innermost command that the words name.
fn command_of<'c>(all: &'c Command, words: &[String]) -> &'c Command {
    let mut within = all;
    for word in words {
        if let Some(inner) = within.find_subcommand(word) {
            within = inner;
        }
    }
    within
}

/// How to see what a command has, with all its words: `maint export kubernetes --help`.
fn usage(all: &Command, words: &[String]) -> String {
    let mut within = all;
    let mut named = all.get_name().to_owned();
    for word in words {
        if let Some(inner) = within.find_subcommand(word) {
            within = inner;
            named = format!("{named} {}", inner.get_name());
        }
    }
    format!("  `{named} --help` shows what there is")
}

/// How many.
pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "not a whole number such as 20".to_owned())
}

/// How many; to be told none would look as if there were none.
pub(super) fn some(text: &str) -> Result<u32, String> {
    count(text)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "not a whole number from 1 on, such as 20".to_owned())
}

/// More of each schedule than this nobody reads, and the calendar is computed one by one.
const MOST_OF_EACH: usize = 10_000;

/// How many of each; to be told none would look as if there were none.
pub(super) fn size(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|size| (1..=MOST_OF_EACH).contains(size))
        .ok_or_else(|| format!("not a whole number from 1 to {MOST_OF_EACH}, such as 5"))
}

/// Where to listen.
pub(super) fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| {
        "not an address and a port such as 127.0.0.1:8288, or 0.0.0.0:8288 for every address of this machine"
            .to_owned()
    })
}

/// A share of something.
pub(super) fn scale(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|scale: &f64| scale.is_finite() && *scale > 0.0)
        .ok_or_else(|| "not a number above 0, such as 0.1 or 1".to_owned())
}
