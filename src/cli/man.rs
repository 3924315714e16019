use std::path::PathBuf;

use clap::{Command, CommandFactory};

use super::{Args, Failure};

/// Manual pages, made from the same words as `--help`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint man | man -l -\n  maint man run | man -l -\n  maint man --out /usr/local/share/man/man1"
)]
pub(super) struct Man {
    /// The page of this command; without it the page of `maint`
    verb: Option<String>,
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
                Failure::Other(format!("{} cannot be written: {why}", path.display()))
            };
            std::fs::create_dir_all(folder).map_err(|why| failed(folder, why))?;
            let verbs = all
                .get_subcommands()
                .filter(|verb| verb.get_name() != "help");
            for (name, command) in std::iter::once(("maint".to_owned(), &all))
                .chain(verbs.map(|verb| (format!("maint-{}", verb.get_name()), verb)))
            {
                let path = folder.join(format!("{name}.1"));
                std::fs::write(&path, page(&name, command)).map_err(|why| failed(&path, why))?;
                errln!("wrote {}", path.display());
            }
            return Ok(0);
        }
        match &self.verb {
            None => out!("{}", page("maint", &all)),
            Some(verb) => {
                let Some(command) = all.find_subcommand(verb) else {
                    let known: Vec<String> = all
                        .get_subcommands()
                        .map(|one| one.get_name().to_owned())
                        .collect();
                    return Err(super::context::unknown("command", verb, known.iter()));
                };
                out!(
                    "{}",
                    page(&format!("maint-{}", command.get_name()), command)
                );
            }
        }
        Ok(0)
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
        options.push_str(&format!(".TP\n.B {name}\n{}\n", plain(&help)));
    }
    if !options.is_empty() {
        text.push_str(&format!(".SH OPTIONS\n{options}"));
    }
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        let examples = after.trim_start_matches("Examples:").trim_matches('\n');
        text.push_str(&format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", plain(examples)));
    }
    text
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
