//! The schedules and their configuration as manifests for Kubernetes, where the cluster keeps the
//! calendar or the service does.

mod cluster;

use std::path::Path;

use serde_json::{Value, json};

use self::cluster::Cluster;
use super::fields::Fields;
use super::ports::reached;
use super::{ExportError, Exported, File, enabled, reports, variables};
use crate::config::{Config, FileUse, Schedule, named_files, written_secrets};
use crate::values::wall_clock;

/// Where the configuration is mounted.
const CONFIG_FOLDER: &str = "/etc/maint";
/// Where a history in a file is mounted, and what has to be written while a history elsewhere is away.
const HISTORY_FOLDER: &str = "/var/lib/maint";
/// A name of a CronJob may have so many characters; the rest is for its Jobs.
const LONGEST_NAME: usize = 52;
/// So many bytes a ConfigMap may have.
const LARGEST_MAP: usize = 1 << 20;
/// The user of the image.
const USER: u32 = 65532;
/// A Job knows no exit code but 0 that is no failure.
const NOT_STARTED_OK: &str = "--not-started-ok";
/// Where `maint serve` answers probes.
const PORT: u16 = 8288;

/// How maint is to run on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A CronJob for each schedule: the cluster is the scheduler.
    CronJobs,
    /// One CronJob, every five minutes, that does everything due.
    Due,
    /// A Deployment of `maint serve`.
    Serve,
}

/// What the cluster wants to know besides the configuration.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// How maint is to run.
    pub mode: Mode,
    /// The image.
    pub image: String,
    /// The namespace; left out of the manifests where there is none.
    pub namespace: Option<String>,
    /// Name of the Secret whose entries become the environment.
    pub secret: String,
    /// How many instances of `maint serve`.
    pub replicas: u32,
    /// Whether a volume is claimed that outlives the pods, also where nothing else needs one.
    pub volume: bool,
    /// The files of the configuration: path below its folder, and text.
    pub files: Vec<(String, String)>,
    /// Templates of one's own, in the same way.
    pub templates: Vec<(String, String)>,
}

/// Manifests for Kubernetes; `env` looks up variables, which say where everything listens.
///
/// # Errors
/// Where a schedule cannot be said in the cluster's words, or something would
/// be lost or become known on the way.
pub fn kubernetes(
    config: &Config,
    options: &Kubernetes,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Exported, ExportError> {
    refuse_passwords(options)?;
    let claims_volume = claims_volume(config)? | claims_files(config)? | options.volume;
    if options.mode == Mode::Serve && options.replicas > 1 && claims_volume {
        return Err(ExportError::Replicas {
            replicas: options.replicas,
        });
    }
    let cluster = Cluster {
        config,
        options,
        claims_volume,
    };
    let reached = reached(config, env);
    let mut documents = vec![cluster.config_map(), cluster.network_policy(&reached.ports)];
    if claims_volume {
        documents.push(cluster.volume_claim());
    }
    let mut notes = Vec::new();
    match options.mode {
        Mode::CronJobs => {
            let mut taken = Vec::new();
            let of_reports = reports(config);
            for schedule in enabled(config).chain(&of_reports) {
                documents.push(cluster.cron_job_of(schedule, &mut taken)?);
            }
        }
        Mode::Due => documents.push(cluster.cron_job(
            "maint-due",
            "*/5 * * * *",
            "Etc/UTC",
            240,
            json!(["run", "--due", NOT_STARTED_OK]),
            &config.tasks.keys().map(String::as_str).collect::<Vec<_>>(),
        )),
        Mode::Serve => {
            documents.push(cluster.deployment());
            documents.push(cluster.service());
        }
    }
    let (needed, optional) = variables(options.files.iter().map(|(_, text)| text.as_str()));
    let literals: Vec<String> = needed
        .iter()
        .map(|name| format!(" --from-literal={name}=…"))
        .collect();
    notes.push(format!(
        "the Secret `{}` is yours to make; its entries become the environment: kubectl create secret generic {}{}",
        options.secret,
        options.secret,
        literals.concat()
    ));
    if !optional.is_empty() {
        let unset = |name: &&String| env(name.as_str()).is_none_or(|value| value.is_empty());
        let unset: Vec<&str> = optional.iter().filter(unset).map(String::as_str).collect();
        let mut note = format!(
            "it may also hold what has a default in the files: {}",
            optional.join(", ")
        );
        if !unset.is_empty() {
            note.push_str(&format!(
                "; not set here: {}, so that the NetworkPolicy knows the ports of the defaults only",
                unset.join(", ")
            ));
        }
        notes.push(note);
    }
    notes.extend(reached.notes);
    notes.extend(outside(options, claims_volume));
    let texts = options.files.iter().chain(&options.templates);
    let bytes: usize = texts.map(|(_, text)| text.len()).sum();
    if bytes > LARGEST_MAP {
        notes.push(format!(
            "the files have {bytes} bytes, and Kubernetes takes no ConfigMap of more than {LARGEST_MAP}: leave templates out that are as they were built in, or put them into the image"
        ));
    }
    let files = documents
        .iter()
        .map(|document| File {
            name: format!(
                "{}-{}.yaml",
                document["metadata"]["name"].as_str().unwrap_or("maint"),
                document["kind"].as_str().unwrap_or_default().to_lowercase()
            ),
            text: yaml(document),
        })
        .collect();
    Ok(Exported { files, notes })
}

fn yaml(document: &Value) -> String {
    // A tree of strings and numbers has nothing that could not be written.
    serde_saphyr::to_string(document).unwrap_or_default()
}

/// A ConfigMap is read by everybody: no secret may be written out in the files, nor be the
/// default of a variable.
fn refuse_passwords(options: &Kubernetes) -> Result<(), ExportError> {
    for (file, text) in &options.files {
        if let Some(key) = written_secrets(text).into_iter().next() {
            return Err(ExportError::Password {
                file: file.clone(),
                key,
                secret: options.secret.clone(),
            });
        }
    }
    Ok(())
}

/// Whether the history is a file for which a volume is needed.
fn claims_volume(config: &Config) -> Result<bool, ExportError> {
    let Some(path) = config.history.expose().strip_prefix("sqlite:") else {
        return Ok(false);
    };
    let path = Path::new(path.strip_prefix("//").unwrap_or(path));
    if path.parent() == Some(Path::new(HISTORY_FOLDER)) {
        return Ok(true);
    }
    Err(ExportError::History {
        history: config.history.expose().to_owned(),
        folder: HISTORY_FOLDER,
    })
}

/// Whether a task keeps files on the disk of the pod, for which a volume is needed.
fn claims_files(config: &Config) -> Result<bool, ExportError> {
    let mut claims = false;
    for task in config.tasks.values() {
        let files = task.options.pointer("/destination/files");
        let Some(folder) = files
            .and_then(Value::as_str)
            .and_then(|url| url.strip_prefix("file://"))
        else {
            continue;
        };
        let below = Path::new(folder);
        let outside = !below.starts_with(HISTORY_FOLDER)
            || below.components().any(|part| part.as_os_str() == "..");
        if outside {
            return Err(ExportError::Files {
                task: task.name.clone(),
                folder: folder.to_owned(),
                volume: HISTORY_FOLDER,
            });
        }
        claims = true;
    }
    Ok(claims)
}

/// Files that the configuration names and no pod has, or can write to.
fn outside(options: &Kubernetes, claims_volume: bool) -> Vec<String> {
    let below = |file: &str, folder: &str| Path::new(file).starts_with(folder);
    let mut notes = Vec::new();
    for (name, text) in &options.files {
        for one in named_files(text) {
            let (key, file) = (&one.key, &one.file);
            let kept = claims_volume && below(file, HISTORY_FOLDER);
            let note = match one.used {
                FileUse::Written if kept => continue,
                FileUse::Written => format!(
                    "`{key}` in {name} is a file that no pod can write to and keep: {file}; take one below {HISTORY_FOLDER}, for which a volume is needed (as with a history there), or leave it out"
                ),
                FileUse::Read => format!(
                    "`{key}` in {name} names what no pod has: {file}; put it into a volume or the image, or take what is in it from the Secret `{}` by `${{NAME}}`",
                    options.secret
                ),
                FileUse::Run => format!(
                    "`{key}` in {name} runs a program that the image of maint does not have: {file}; build an image with it, and name that by `--image`"
                ),
            };
            notes.push(note);
        }
    }
    notes
}

/// The expression as the cluster understands it: no `L`, and Sunday is 0.
fn cron(schedule: &Schedule) -> Result<String, ExportError> {
    let text = schedule.cron.to_string();
    let refused = |part: String| ExportError::Cron {
        schedule: schedule.name.clone(),
        cron: text.clone(),
        scheduler: "Kubernetes",
        why: format!("{part} is not known there; use `--mode due` or `--mode serve`"),
    };
    let fields = Fields::of(&text).map_err(refused)?;
    if fields.last_day {
        return Err(refused("`L`".to_owned()));
    }
    // Minutes and hours stay as they are written where they mean the same to everybody; what days
    // a `7`, a name, `?` or a step before the star stand for, each cron knows for itself.
    let five = fields.five();
    let numbers: Vec<&str> = five.split(' ').collect();
    let written: Vec<&str> = text.split_whitespace().collect();
    let plain = |field: &str| {
        field
            .chars()
            .all(|c| c.is_ascii_digit() || "*,-/".contains(c))
    };
    let said = numbers
        .iter()
        .enumerate()
        .map(|(n, number)| match written.get(n) {
            Some(field) if written.len() == 5 && n < 2 && plain(field) => *field,
            _ => *number,
        });
    Ok(said.collect::<Vec<_>>().join(" "))
}

/// How late a Job may still start: as long as the schedule is made up for,
/// otherwise as long as its window is open, otherwise an hour.
fn starting_deadline(schedule: &Schedule, zone: chrono_tz::Tz) -> u64 {
    let until_closing = || {
        let at = schedule.cron.next_after(wall_clock(), zone)?;
        let closes = schedule.window.as_ref()?.closes_at(at, zone)?;
        u64::try_from((closes - at).num_seconds()).ok()
    };
    schedule
        .catch_up
        .map(|catch_up| catch_up.get().as_secs())
        .or_else(until_closing)
        .unwrap_or(3600)
        .clamp(60, 86_400)
}
