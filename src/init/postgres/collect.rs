//! Commands and their times, one by one, into a draft.

use super::command::Place;
use super::hidden::hidden;
use super::work::Work;
use crate::init::{Draft, DraftSchedule, DraftTarget, DraftTask, Left};
use crate::report::text::shown;
use crate::values::{Cron, Engine, redact};

/// A command with its times.
pub(super) struct Line<'a> {
    /// `line 4`, `job 12`.
    pub(super) place: String,
    pub(super) cron: &'a str,
    pub(super) zone: Option<String>,
    /// As it was written.
    pub(super) text: &'a str,
    pub(super) active: bool,
}

/// What has been translated so far.
#[derive(Default)]
pub(super) struct Collected {
    draft: Draft,
    /// The database of each task.
    places: Vec<Place>,
    /// The times of each task.
    times: Vec<(String, Option<String>)>,
}

/// What of a command is shown, without secrets.
pub(super) fn told(text: &str) -> String {
    let text = hidden(&redact(text.trim()));
    let short: String = text.chars().take(120).collect();
    match short.len() < text.len() {
        true => format!("{short}…"),
        false => short,
    }
}

impl Collected {
    /// What a person should know.
    pub(super) fn note(&mut self, text: String) {
        self.draft.notes.push(text);
    }

    pub(super) fn leave(&mut self, place: &str, text: &str, reason: impl Into<String>) {
        self.draft.left.push(Left {
            place: place.to_owned(),
            text: told(text),
            reason: reason.into(),
        });
    }

    /// Adds what a command does, unless its times cannot be kept.
    pub(super) fn add(&mut self, line: &Line<'_>, place: &Place, works: Vec<Work>) {
        let cron = match both_days(line.cron) {
            Ok(cron) => cron,
            Err(why) => return self.leave(&line.place, line.text, why),
        };
        if let Err(wrong) = cron.parse::<Cron>() {
            return self.leave(&line.place, line.text, wrong.to_string());
        }
        for work in works {
            let mut task = DraftTask::new(
                self.draft.free_name(&work.name),
                work.kind,
                format!("From {}: {}", line.place, told(line.text)),
            )
            .within(&work.limits);
            task.origin = Some((line.place.clone(), told(line.text)));
            task.why.push(work.differs);
            task.options = work.options;
            task.enabled = work.enabled && line.active;
            if !line.active {
                task.why
                    .push("Not enabled: it was not active there.".to_owned());
            }
            self.draft.tasks.push(task);
            self.places.push(place.clone());
            self.times.push((cron.clone(), line.zone.clone()));
        }
    }

    /// The draft: a target for each database, a schedule for each time. `variable` is for the URL
    /// of the only database, if that is the one `here`.
    pub(super) fn draft(
        mut self,
        about: String,
        zone: (String, String),
        variable: &str,
        here: Option<&str>,
    ) -> Draft {
        let mut draft = std::mem::take(&mut self.draft);
        draft.about.push(about);
        let mut places = self.places.clone();
        places.sort();
        places.dedup();
        let is_here = |place: &Place, here: &str| {
            here == place.name() && place.host.is_empty() && place.port.is_empty()
        };
        let alone =
            |place: &Place| places.len() == 1 && here.is_none_or(|here| is_here(place, here));
        for place in &places {
            let wanted = Draft::default().free_name(match place.name() {
                "" => "app",
                name => name,
            });
            // YAML would take it for a number.
            let wanted = match wanted.starts_with(|c: char| c.is_ascii_digit()) {
                true => format!("db-{wanted}"),
                false => wanted,
            };
            let taken = draft
                .targets
                .iter()
                .filter(|t| t.name.starts_with(&wanted))
                .count();
            let name = match taken {
                0 => wanted,
                n => format!("{wanted}-{}", n + 1),
            };
            let variable = match alone(place) {
                true => variable.to_owned(),
                false => format!("{}_URL", name.to_uppercase().replace('-', "_")),
            };
            let whole = match place.host.as_str() {
                "" => told(&place.database),
                host => format!("{} on {host}", told(&place.database)),
            };
            draft.targets.push(DraftTarget {
                name: name.clone(),
                engine: Engine::Postgres,
                variable,
                about: match whole.is_empty() {
                    true => "The database that the commands leave to the environment.".to_owned(),
                    false => format!("In the commands: {whole}."),
                },
            });
            for (task, own) in draft.tasks.iter_mut().zip(&self.places) {
                if own == place {
                    task.target.clone_from(&name);
                }
            }
        }
        for (task, (cron, own)) in draft.tasks.iter().zip(&self.times) {
            let own = own.clone().filter(|own| *own != zone.0);
            let known = draft
                .schedules
                .iter_mut()
                .find(|schedule| schedule.cron == *cron && schedule.zone == own);
            match known {
                Some(schedule) => schedule.tasks.push(task.name.clone()),
                None => {
                    let word = cadence(cron);
                    let same = |schedule: &&DraftSchedule| {
                        schedule.name == word || schedule.name.starts_with(&format!("{word}-"))
                    };
                    let name = match draft.schedules.iter().filter(same).count() {
                        0 => word.to_owned(),
                        n => format!("{word}-{}", n + 1),
                    };
                    draft.schedules.push(DraftSchedule {
                        name,
                        cron: cron.clone(),
                        tasks: vec![task.name.clone()],
                        window: None,
                        zone: own,
                        why:
                            "The times are as they were; a `window:` would end what takes too long."
                                .to_owned(),
                    });
                }
            }
        }
        draft.zone = zone;
        draft
    }
}

/// The times as they are meant there. To cron a day has to fit the day of the month *and* the
/// weekday as soon as one of the two begins with `*`, steps included; here it has to fit either.
fn both_days<'a>(cron: &'a str) -> Result<String, String> {
    let fields: Vec<&'a str> = cron.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Ok(cron.to_owned());
    };
    let every = |field: &str| field == "*" || field == "*/1";
    if !day.starts_with('*') && !weekday.starts_with('*') {
        return Ok(cron.to_owned());
    }
    if every(day) || every(weekday) {
        let plain = |field: &'a str| if every(field) { "*" } else { field };
        let fields = [*minute, *hour, plain(day), *month, plain(weekday)];
        return Ok(fields.join(" "));
    }
    Err(format!(
        "to cron, `{day}` and `{weekday}` have to fit the same day, since one of them begins with `*`; a schedule here fires when either does, so its times cannot be kept: give it days by numbers, or a weekday alone"
    ))
}

/// Whether a field of a schedule says more than one number.
fn several(field: &str) -> bool {
    field.contains(['*', '/', ',', '-'])
}

/// A word for how often something comes.
fn cadence(cron: &str) -> &'static str {
    let cron = shown(cron);
    let fields: Vec<&str> = cron.split_whitespace().collect();
    match fields.as_slice() {
        [word] => match *word {
            "@hourly" => "hourly",
            "@weekly" => "weekly",
            "@monthly" => "monthly",
            "@yearly" | "@annually" => "yearly",
            _ => "daily",
        },
        [minute, hour, ..] if several(minute) && (*hour == "*" || several(hour)) => "frequent",
        [_, "*", ..] => "hourly",
        [_, hour, ..] if several(hour) => "intraday",
        [_, _, "*", "*", "*"] => "daily",
        [_, _, "*", "*", _] => "weekly",
        [_, _, _, "*", _] => "monthly",
        _ => "yearly",
    }
}
