//! Completions: what shells are given, and the names that they ask for while somebody types.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::context::Context;
use super::{Args, Failure};
use crate::config::Config;
use crate::history::RunFilter;

/// So many runs are named, the newest first.
const MOST_RUNS: u32 = 30;
/// Whoever types does not wait longer for a history.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names take the place of what clap knows, and files stay where there are none: in all three.
const BASH: &str = r#"
_maint_names() {
    _maint "$@"
    local current="${COMP_WORDS[COMP_CWORD]}" name found=()
    [[ $current == -* ]] && return
    while IFS= read -r name; do
        [[ $name == "$current"* ]] && found+=("$name")
    done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
    (( ${#found[@]} )) && COMPREPLY=("${found[@]}")
}
complete -F _maint_names -o bashdefault -o default maint
"#;

const ZSH: &str = r#"
_maint_names() {
    local -a all names
    all=(${(z)LBUFFER})
    [[ $LBUFFER == *[[:space:]] ]] || all[-1]=()
    names=(${(f)"$(${(Q)all[1]} complete -- ${(Q)all[2,-1]} 2>/dev/null)"})
    if (( $#names )); then compadd -a names; else _default; fi
}
"#;

const FISH: &str = r#"
function __maint_names
    set -l words (commandline -opc)
    command $words[1] complete -- $words[2..-1] 2>/dev/null
end
complete -c maint -n "not __fish_maint_needs_command; and count (__maint_names) >/dev/null" -f -a "(__maint_names)"
"#;

/// What a name on the command line is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Tasks,
    Targets,
    Runs,
    Schedules,
    Reports,
}

/// The names that may come next on a command line
#[derive(Debug, clap::Args)]
pub(super) struct Complete {
    /// The words before it, without the program
    #[arg(last = true)]
    words: Vec<String>,
}

impl Complete {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let Some(named) = asked_for(&Args::command(), &self.words) else {
            return Ok(0);
        };
        let config = context.config_to_complete(config_of(&self.words))?;
        let names = match named {
            Named::Tasks => config.tasks.keys().cloned().collect(),
            Named::Targets => config.targets.keys().cloned().collect(),
            Named::Schedules => config.schedules.keys().cloned().collect(),
            Named::Reports => config.reports.keys().cloned().collect(),
            Named::Runs => tokio::time::timeout(PATIENCE, runs(&config))
                .await
                .unwrap_or_default(),
        };
        // What a shell would take apart is typed by hand.
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | '+');
        for name in names
            .iter()
            .filter(|name: &&String| name.chars().all(plain))
        {
            outln!("{name}");
        }
        Ok(0)
    }
}

/// The newest runs, as people write them.
async fn runs(config: &Config) -> Vec<String> {
    let Ok(store) = crate::history::open_existing(config.history.expose()).await else {
        return Vec::new();
    };
    let newest = RunFilter {
        limit: Some(MOST_RUNS),
        ..RunFilter::default()
    };
    let found = store.runs(&newest).await.unwrap_or_default();
    store.close().await;
    let last = (!found.is_empty()).then(|| "last".to_owned());
    last.into_iter()
        .chain(found.into_iter().map(|run| run.short_id))
        .collect()
}

/// The file that `--config` names.
fn config_of(words: &[String]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.find(|word| *word != "=").map(PathBuf::from);
        }
        if let Some(path) = word.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    None
}

/// What the next word is a name of, if of anything that is known here.
fn asked_for(all: &Command, words: &[String]) -> Option<Named> {
    // bash takes `--target=` apart.
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| *word != "=")
        .collect();
    let mut within = all;
    let mut path = Vec::new();
    let mut given = 0;
    let mut option: Option<&str> = None;
    for word in words {
        if option.take().is_some() {
            continue;
        }
        if let Some(name) = word.strip_prefix("--") {
            let name = name.trim_end_matches('=');
            let is_it = |arg: &&clap::Arg| arg.get_long() == Some(name);
            let arg = within
                .get_arguments()
                .chain(all.get_arguments())
                .find(is_it);
            option = arg
                .filter(|arg| arg.get_action().takes_values())
                .and_then(clap::Arg::get_long);
        } else if let Some(inner) = within.find_subcommand(word) {
            within = inner;
            path.push(inner.get_name());
        } else if !word.starts_with('-') {
            given += 1;
        }
    }
    match (option, path.as_slice(), given) {
        (Some("target" | "of"), _, _) => Some(Named::Targets),
        (Some("task"), _, _) => Some(Named::Tasks),
        (Some("schedule"), _, _) => Some(Named::Schedules),
        (Some("name"), ["report"], _) => Some(Named::Reports),
        (Some(_), _, _) => None,
        (None, ["run" | "plan"], _) => Some(Named::Tasks),
        (None, ["show" | "cancel"], 0) => Some(Named::Runs),
        (None, ["pause" | "resume"], 0) => Some(Named::Schedules),
        _ => None,
    }
}

/// What a shell is to load.
pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "maint", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Zsh => zsh(&script),
        Shell::Fish => fish(&script),
        _ => script.into_owned(),
    }
}

/// All of the command line but for what only scripts call.
fn shown() -> Command {
    let all = Args::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("maint")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments())
        .subcommands(verbs.cloned())
}

/// zsh asks where clap would offer files.
fn zsh(script: &str) -> String {
    let ask = |line: &str| {
        let asks = ["TARGET:", "TASK:", "SCHEDULE:", "NAME:"].iter();
        let mut asks = asks.map(|name| format!("]:{name}_default'"));
        let positional = ["'*::tasks --", "':run --", "':schedule --"];
        let is_name = asks.any(|end| line.contains(&end))
            || positional.iter().any(|begin| line.starts_with(begin));
        match is_name {
            true => line.replace(":_default'", ":_maint_names'"),
            false => line.to_owned(),
        }
    };
    let (first, rest) = script.split_once('\n').unwrap_or((script, ""));
    let rest: Vec<String> = rest.lines().map(ask).collect();
    format!("{first}\n{ZSH}{}\n", rest.join("\n"))
}

/// Behind an option fish offers what that option says alone.
fn fish(script: &str) -> String {
    let ask = |line: &str| {
        let options = ["-l target ", "-l task ", "-l schedule ", "-l of "];
        match options.iter().any(|option| line.contains(option)) && line.ends_with(" -r") {
            true => format!("{line} -f -a \"(__maint_names)\""),
            false => line.to_owned(),
        }
    };
    let lines: Vec<String> = script.lines().map(ask).collect();
    format!("{}\n{FISH}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_is_known_by_what_came_before() {
        let all = Args::command();
        for (line, named) in [
            ("run", Some(Named::Tasks)),
            ("run reindex --now", Some(Named::Tasks)),
            ("run reindex --set a=b", Some(Named::Tasks)),
            ("run --set", None),
            ("run --target", Some(Named::Targets)),
            ("run --target =", Some(Named::Targets)),
            ("--config x.yaml plan", Some(Named::Tasks)),
            ("history --task", Some(Named::Tasks)),
            ("show", Some(Named::Runs)),
            ("show last", None),
            ("cancel", Some(Named::Runs)),
            ("pause", Some(Named::Schedules)),
            ("report --name", Some(Named::Reports)),
            ("check", None),
            ("", None),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(asked_for(&all, &words), named, "{line}");
        }
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in [
            "--config a/b.yaml run",
            "run --config = a/b.yaml",
            "run --config=a/b.yaml",
        ] {
            assert_eq!(config_of(&words(line)), Some("a/b.yaml".into()), "{line}");
        }
    }
}
