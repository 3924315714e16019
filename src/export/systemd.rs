//! A service and a timer for each schedule, with a process that may do no more than its tasks need.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::fields::{Field, Fields};
use super::{ExportError, Exported, File, enabled, plain_name, reports};
use crate::config::{Config, Task, named_files};

/// What the process may not do; `systemd-analyze security` counts it.
const HARDENING: &str = "UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
DevicePolicy=closed
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectProc=invisible
ProcSubset=pid
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
";

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// A service and a timer for each schedule.
///
/// Relative paths of the configuration begin at `base`, the folder that the process is in; `texts` are the names and
/// the texts of its files, whose other places are not hidden from the process.
///
/// # Errors
/// Where a cron expression has no `OnCalendar=`.
pub fn systemd(
    config: &Config,
    program: &str,
    base: &Path,
    texts: &[(String, String)],
) -> Result<Exported, ExportError> {
    let named = texts.iter().flat_map(|(_, text)| named_files(text));
    let named: BTreeSet<PathBuf> = named
        .filter(|one| one.file.starts_with('/'))
        .map(|one| absolute(base, Path::new(&one.file)))
        .collect();
    let mut files = Vec::new();
    let mut taken = Vec::new();
    let of_reports = reports(config);
    for schedule in enabled(config).chain(&of_reports) {
        let name = format!("maint-{}", plain_name(&schedule.name, 100, &mut taken));
        let zone = schedule.timezone.unwrap_or(config.timezone);
        let fields = Fields::of(&schedule.cron.to_string()).map_err(|part| ExportError::Cron {
            schedule: schedule.name.clone(),
            cron: schedule.cron.to_string(),
            scheduler: "systemd",
            why: format!("{part} is not known there; use `maint serve`"),
        })?;
        let calendars: String = calendars(&fields, &zone.to_string())
            .iter()
            .map(|calendar| format!("OnCalendar={calendar}\n"))
            .collect();
        let jitter = schedule.jitter.map_or_else(String::new, |jitter| {
            format!("RandomizedDelaySec={}\n", jitter.get().as_secs())
        });
        files.push(File {
            name: format!("{name}.timer"),
            text: format!(
                "[Unit]\nDescription=When maint runs the schedule {}\n\n[Timer]\n{calendars}{jitter}# After downtime; maint itself decides whether the occurrence is still worth it.\nPersistent=true\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n",
                escaped(&schedule.name)
            ),
        });
        let grace = schedule
            .tasks
            .iter()
            .filter_map(|task| config.tasks.get(task))
            .map(|task| task.limits.grace.get().as_secs())
            .max()
            .unwrap_or(25);
        let tasks = schedule
            .tasks
            .iter()
            .filter_map(|name| config.tasks.get(name));
        let written = written(config, tasks, base);
        let hardening = hardening(config, &written, &named, base);
        let beside = match written.is_empty() {
            true => String::new(),
            false => written.iter().fold(
                "# Folders that maint writes to: they must be there, and belong to its user.\n"
                    .to_owned(),
                |text, folder| {
                    let folder = argument(&folder.display().to_string());
                    format!("{text}ReadWritePaths={folder}\n")
                },
            ),
        };
        files.push(File {
            name: format!("{name}.service"),
            text: format!(
                "[Unit]\nDescription=maint: the schedule {}\nWants=network-online.target\nAfter=network-online.target\n\n\
                 [Service]\nType=oneshot\nUser=maint\n# DATABASE_URL and other secrets, readable by root only.\nEnvironmentFile=-/etc/maint/environment\n\
                 ExecStart={program} --config {} --color never run --due --schedule {}\nWorkingDirectory=/var/lib/maint\nStateDirectory=maint\n{beside}\
                 # Time to cancel what is running and to clear away what it left.\nTimeoutStopSec={}\n\
                 # Not started: already at work elsewhere, or outside its window.\nSuccessExitStatus=4\n\
                 {hardening}",
                escaped(&schedule.name),
                argument(&absolute(base, &config.path).display().to_string()),
                argument(&schedule.name),
                grace + 10,
            ),
        });
    }
    Ok(Exported {
        files,
        notes: Vec::new(),
    })
}

/// The folders outside of `/var/lib/maint` that some tasks write to, and every run: that of a
/// history in a file, with what is kept beside it, that of `notify.file`, and archives.
fn written<'t>(
    config: &Config,
    tasks: impl Iterator<Item = &'t Task>,
    base: &Path,
) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut parent = |file: &Path| {
        let file = absolute(base, file);
        folders.insert(file.parent().unwrap_or(Path::new("/")).to_owned());
    };
    let history = config.history.expose();
    match history.strip_prefix("sqlite:") {
        Some(":memory:") => {}
        Some(file) => parent(Path::new(file.strip_prefix("//").unwrap_or(file))),
        // While it is out of reach, records are kept in the folder that systemd makes; who may write beside the
        // configuration may say what the next run does.
        None => {}
    }
    if let Some(file) = config.notify.as_ref().and_then(|one| one.file.as_ref()) {
        parent(file);
    }
    for task in tasks {
        let files = task.options.pointer("/destination/files");
        let files = files.and_then(Value::as_str);
        if let Some(folder) = files.and_then(|url| url.strip_prefix("file://")) {
            folders.insert(absolute(base, Path::new(folder)));
        }
    }
    folders.retain(|folder| !folder.starts_with(STATE));
    folders
}

/// The folder that systemd makes for maint.
const STATE: &str = "/var/lib/maint";

/// As the program resolves it, without `.` and `..`.
fn absolute(base: &Path, path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            other => whole.push(other),
        }
    }
    whole
}

/// The hardening, without what would hide a place that is needed.
fn hardening(
    config: &Config,
    written: &BTreeSet<PathBuf>,
    named: &BTreeSet<PathBuf>,
    base: &Path,
) -> String {
    let path = absolute(base, &config.path);
    let below = |folders: &[&str]| {
        let mut all = written.iter().chain(named).chain([&path]);
        all.any(|place| folders.iter().any(|folder| place.starts_with(folder)))
    };
    let mut text = HARDENING.to_owned();
    if below(&["/home", "/root", "/run/user"]) {
        text = text.replace("ProtectHome=yes", "ProtectHome=read-only");
    }
    if below(&["/tmp", "/var/tmp"]) {
        text = text.replace("PrivateTmp=yes", "PrivateTmp=no");
    }
    text
}

/// cron fires when either restricted day matches; systemd wants both, so
/// there is one line for each.
fn calendars(fields: &Fields, zone: &str) -> Vec<String> {
    let two = |field: &Field| field.written(|n| format!("{n:02}"));
    let (months, time) = (
        two(&fields.months),
        format!("{}:{}:00", two(&fields.hours), two(&fields.minutes)),
    );
    let weekdays = fields.weekdays.written(|n| {
        WEEKDAYS
            .get(n as usize)
            .copied()
            .unwrap_or("Sun")
            .to_owned()
    });
    let mut lines = Vec::new();
    let days_restricted = !fields.days.is_any() || fields.last_day;
    if days_restricted && fields.days != Field::List(Vec::new()) {
        lines.push(format!("*-{months}-{} {time} {zone}", two(&fields.days)));
    }
    if fields.last_day {
        lines.push(format!("*-{months}~01 {time} {zone}"));
    }
    if !fields.weekdays.is_any() {
        lines.push(format!("{weekdays} *-{months}-* {time} {zone}"));
    }
    if lines.is_empty() {
        lines.push(format!("*-{months}-* {time} {zone}"));
    }
    lines
}

/// `%` begins a specifier.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

fn argument(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let inner = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped(&inner).replace('$', "$$"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn either_day_is_enough() {
        let lines = |cron| calendars(&Fields::of(cron).unwrap(), "Europe/Berlin");
        assert_eq!(lines("0 2 * * *"), ["*-*-* 02:00:00 Europe/Berlin"]);
        assert_eq!(
            lines("*/30 1 * * SUN"),
            ["Sun *-*-* 01:00,30:00 Europe/Berlin"]
        );
        assert_eq!(
            lines("0 3 L,15 6 5"),
            [
                "*-06-15 03:00:00 Europe/Berlin",
                "*-06~01 03:00:00 Europe/Berlin",
                "Fri *-06-* 03:00:00 Europe/Berlin"
            ]
        );
    }
}
