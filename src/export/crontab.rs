//! The schedules as lines for cron; a cron expression that it has no words for is an error, never
//! another time.

use super::fields::{Field, Fields};
use super::{ExportError, Exported, File, enabled, reports, variables};
use crate::config::Config;

/// Lines for `crontab`; `files` are those of the configuration, by name.
///
/// # Errors
/// Where a cron expression says more than cron understands.
pub fn crontab(
    config: &Config,
    program: &str,
    files: &[(String, String)],
) -> Result<Exported, ExportError> {
    let mut text = String::from(
        "# Written by `maint export crontab`. Whether an occurrence has run already, and whether\n\
         # its window is open, is decided by maint, so that a line that fires twice does no harm.\n\
         # CRON_TZ is understood by cronie; for other crons set the clock of the machine to it.\n",
    );
    let mut notes = Vec::new();
    let (needed, optional) = variables(files.iter().map(|(_, text)| text.as_str()));
    if !needed.is_empty() {
        text.push_str(&format!(
            "#\n# Cron knows none of the variables of your shell, and without them each line ends with an\n\
             # error. Write NAME=value for each here, or begin the commands with\n\
             # `set -a; . FILE; set +a;`, with a FILE that only its user may read. Needed:\n# {}\n",
            needed.join(" ")
        ));
        notes.push(format!(
            "cron knows no variables of yours: {} must be set in the crontab, or in a file that the commands read (the comment at its top says how)",
            needed.join(", ")
        ));
    }
    if !optional.is_empty() {
        notes.push(format!(
            "what has a default in the files may be set there, too: {}",
            optional.join(", ")
        ));
    }
    let of_reports = reports(config);
    for schedule in enabled(config).chain(&of_reports) {
        let zone = schedule.timezone.unwrap_or(config.timezone);
        let fields = Fields::of(&schedule.cron.to_string()).map_err(|part| ExportError::Cron {
            schedule: schedule.name.clone(),
            cron: schedule.cron.to_string(),
            scheduler: "cron",
            why: format!("{part} is not known there, nor to systemd timers; use `maint serve`"),
        })?;
        let command = format!(
            "{program} --config {} --color never run --due --schedule {}",
            quoted(&config.path.display().to_string()),
            quoted(&schedule.name)
        );
        text.push_str(&format!("\n# {}\nCRON_TZ={zone}\n", schedule.name));
        let line = |days: &str, weekdays: &str, condition: &str| {
            format!(
                "{} {} {days} {} {weekdays} {}\n",
                fields.minutes.cron(),
                fields.hours.cron(),
                fields.months.cron(),
                // To cron a `%` is the end of the line, wherever it stands.
                format!("{condition}{command}").replace('%', "\\%")
            )
        };
        if fields.days != Field::List(Vec::new()) || !fields.last_day {
            text.push_str(&line(&fields.days.cron(), &fields.weekdays.cron(), ""));
        }
        if fields.last_day {
            // The last day is the one before a first, there and not where the machine is: CRON_TZ
            // is for the time of the line alone. Every clock shows noon.
            let condition = format!("[ \"$(TZ={zone} date -d 'tomorrow 12:00' +%d)\" = 01 ] && ");
            text.push_str(&line("28-31", "*", &condition));
            if !fields.weekdays.is_any() && fields.days == Field::List(Vec::new()) {
                // Either restricted day is enough.
                return Err(ExportError::Cron {
                    schedule: schedule.name.clone(),
                    cron: schedule.cron.to_string(),
                    scheduler: "cron",
                    why: "`L` together with weekdays takes two schedules".to_owned(),
                });
            }
        }
    }
    Ok(Exported {
        files: vec![File {
            name: "crontab".to_owned(),
            text,
        }],
        notes,
    })
}

/// Quoted for a shell where needed.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
