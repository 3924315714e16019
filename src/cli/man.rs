//! Manual pages, made from the same words as the help on the command line, so that neither can say
//! what the other does not.

use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};

use super::{Args, Failure};
use crate::values::describe;

/// Manual pages, made from the same words as `--help`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint man | man -l -\n  maint man run | man -l -\n  maint man archive restore | man -l -\n  maint man --out /usr/local/share/man/man1"
)]
pub(super) struct Man {
    /// The page of this command, such as `run` or `archive restore`; without it the page of `maint`
    #[arg(value_name = "COMMAND")]
    verb: Vec<String>,
    /// Writes all pages into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn call(&self) -> Result<u8, Failure> {
        let mut all = Args::command();
        all.build();
        if let Some(folder) = &self.out {
            let failed = |path: &std::path::Path, why: std::io::Error| {
                Failure::Other(format!(
                    "{} cannot be written: {}",
                    path.display(),
                    describe(&why)
                ))
            };
            std::fs::create_dir_all(folder).map_err(|why| failed(folder, why))?;
            let mut pages = vec![("maint".to_owned(), &all)];
            below("maint", &all, &mut pages);
            for (name, command) in pages {
                let path = folder.join(format!("{name}.1"));
                std::fs::write(&path, page(&name, command)).map_err(|why| failed(&path, why))?;
                errln!("wrote {}", path.display());
            }
            return Ok(0);
        }
        let (mut name, mut command) = ("maint".to_owned(), &all);
        // Also where both words are one, as who quotes them writes it.
        for word in self.verb.iter().flat_map(|word| word.split_whitespace()) {
            let Some(found) = command.find_subcommand(word) else {
                let known: Vec<String> = command
                    .get_subcommands()
                    .map(|one| one.get_name().to_owned())
                    .collect();
                return Err(super::context::unknown("command", word, known.iter()));
            };
            (name, command) = (format!("{name}-{}", found.get_name()), found);
        }
        out!("{}", page(&name, command));
        Ok(0)
    }
}

/// Every command below one, however deep, each with the name of its page.
fn below<'a>(before: &str, command: &'a Command, pages: &mut Vec<(String, &'a Command)>) {
    for verb in command.get_subcommands() {
        if verb.get_name() != "help" && !verb.is_hide_set() {
            let name = format!("{before}-{}", verb.get_name());
            pages.push((name.clone(), verb));
            below(&name, verb, pages);
        }
    }
}

/// One page in the language of `man`.
fn page(name: &str, command: &Command) -> String {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut text = format!(
        ".TH {} 1 \"\" \"maint {}\" \"maint\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase().replace('-', "\\-"),
        env!("CARGO_PKG_VERSION"),
        plain(name),
        plain(&about)
    );
    let mut command = command.clone();
    let usage = command.render_usage().to_string();
    text.push_str(&format!(
        ".SH SYNOPSIS\n{}\n",
        plain(usage.trim_start_matches("Usage: "))
    ));
    if let Some(long) = command.get_long_about() {
        text.push_str(&format!(".SH DESCRIPTION\n{}\n", plain(&long.to_string())));
    }
    let mut commands = String::new();
    entries(&mut commands, "", &command);
    if !commands.is_empty() {
        text.push_str(&format!(".SH COMMANDS\n{commands}"));
    }
    let mut options = String::new();
    for argument in command.get_arguments().filter(|one| !one.is_hide_set()) {
        let long = argument
            .get_long()
            .map(|long| format!("\\-\\-{}", plain(long)));
        let short = argument.get_short().map(|short| format!("\\-{short}"));
        let value = argument
            .get_value_names()
            .filter(|_| argument.get_action().takes_values())
            .and_then(|names| names.first())
            .map(|name| plain(name));
        let name = match (short, long) {
            (None, None) => value.clone().unwrap_or_default(),
            (short, long) => {
                let names: Vec<String> = short.into_iter().chain(long).collect();
                let names = names.join(", ");
                value.map_or(names.clone(), |value| format!("{names} {value}"))
            }
        };
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        options.push_str(&format!(
            ".TP\n.B {name}\n{}\n",
            plain(&format!("{help}{}", values_of(argument)))
        ));
    }
    if !options.is_empty() {
        text.push_str(&format!(".SH OPTIONS\n{options}"));
    }
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        let (examples, codes) = match after.split_once("Exit codes:") {
            Some((examples, codes)) => (examples.to_owned(), codes),
            None => (after, ""),
        };
        let examples = examples.trim_start_matches("Examples:").trim_matches('\n');
        text.push_str(&format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", plain(examples)));
        if !codes.is_empty() {
            let codes = codes.trim();
            text.push_str(&format!(".SH EXIT STATUS\n.nf\n{}\n.fi\n", plain(codes)));
        }
    }
    text
}

/// What an option may be, and what it is where nobody says it.
fn values_of(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let words = |values: Vec<String>| match values.is_empty() {
        true => None,
        false => Some(values.join(", ")),
    };
    let possible = argument.get_possible_values().into_iter();
    let possible = possible.filter(|value| !value.is_hide_set());
    let possible = words(possible.map(|value| value.get_name().to_owned()).collect());
    let default = argument.get_default_values().iter();
    let default = words(
        default
            .map(|value| value.to_string_lossy().into_owned())
            .collect(),
    );
    let parts = [("one of", possible), ("by default", default)];
    let parts = parts
        .into_iter()
        .filter_map(|(title, of)| Some(format!("{title}: {}", of?)));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!(" ({})", parts.join("; ")),
    }
}

/// The commands below, also those of commands.
fn entries(text: &mut String, before: &str, command: &Command) {
    for verb in command.get_subcommands() {
        if verb.get_name() == "help" || verb.is_hide_set() {
            continue;
        }
        let name = format!("{before}{}", verb.get_name());
        let about = verb
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        text.push_str(&format!(".TP\n.B {}\n{}\n", plain(&name), plain(&about)));
    }
}

/// Text in which nothing is a command of the language.
fn plain(text: &str) -> String {
    text.lines()
        .map(|line| {
            let line = line.replace('\\', "\\e").replace('-', "\\-");
            match line.starts_with(['.', '\'']) {
                true => format!("\\&{line}"),
                false => line,
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}
