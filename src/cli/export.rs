//! Manifests of the schedules for Kubernetes, systemd or cron: reads the files that belong in them,
//! and prints or writes what comes of it.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::Failure;
use super::context::Context;
use super::written;
use crate::export::{self, Exported, Kubernetes, Mode};
use crate::report::built_in_files;
use crate::values::{describe, read_text, wall_clock};

/// Manifests from the schedules, for who already has a scheduler.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint export kubernetes | kubectl apply -f -\n  maint export kubernetes --mode serve --out deploy/\n  maint export systemd --out /etc/systemd/system\n  maint export crontab | crontab -"
)]
pub(super) struct Export {
    #[command(subcommand)]
    format: Format,
    /// Write files into this folder instead of to the terminal
    #[arg(long, global = true, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// CronJobs, or a Deployment of `maint serve`, with their ConfigMaps
    #[command(
        after_help = "Examples:\n  maint export kubernetes | kubectl apply -f -\n  maint export kubernetes --mode serve --image registry.example.com/maint:1 --out manifests"
    )]
    Kubernetes {
        /// A CronJob per schedule, one for everything due, or a Deployment
        #[arg(long, value_enum, default_value_t = ModeArg::Cronjobs)]
        mode: ModeArg,
        /// The image to run
        #[arg(long, default_value = concat!("maint:", env!("CARGO_PKG_VERSION")))]
        image: String,
        /// The namespace
        #[arg(long, value_parser = label)]
        namespace: Option<String>,
        /// The Secret whose entries become the environment
        #[arg(long, default_value = "maint", value_parser = subdomain)]
        secret: String,
        /// How many instances with `--mode serve`
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        replicas: u32,
        /// Claim a volume also where the history is in PostgreSQL: what it does not take then
        /// outlives the pod
        #[arg(long)]
        volume: bool,
    },
    /// A service and a timer for each schedule
    #[command(
        after_help = "Examples:\n  maint export systemd --out units\n  maint export systemd --program /usr/bin/maint"
    )]
    Systemd {
        /// Where maint is installed
        #[arg(long, default_value = "/usr/local/bin/maint")]
        program: String,
    },
    /// Lines for cron
    #[command(
        after_help = "Examples:\n  maint export crontab\n  maint export crontab --program /usr/bin/maint"
    )]
    Crontab {
        /// Where maint is installed
        #[arg(long, default_value = "/usr/local/bin/maint")]
        program: String,
    },
}

/// A name as Kubernetes takes it for namespaces (RFC 1123).
fn label(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = name.chars().all(|c| plain(c) || c == '-');
    match inside && name.len() <= 63 && name.starts_with(plain) && name.ends_with(plain) {
        true => Ok(name.to_owned()),
        false => Err(
            "Kubernetes has no such name: expected lower-case letters, digits and `-`, 63 at most, \
             with a letter or digit at both ends"
                .to_owned(),
        ),
    }
}

/// The same for what may have dots in it, such as Secrets.
fn subdomain(name: &str) -> Result<String, String> {
    match name.len() <= 253 {
        true => name.split('.').try_for_each(|part| label(part).map(drop))?,
        false => return Err("Kubernetes takes 253 characters at most".to_owned()),
    }
    Ok(name.to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    Cronjobs,
    Due,
    Serve,
}

impl Export {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        // What no run could work with is not handed to anybody's calendar.
        let mut config = context.config_for_export().await?;
        config.path = std::path::absolute(&config.path).unwrap_or(config.path);
        let left_out = match &self.format {
            Format::Systemd { .. } => Some("systemd"),
            Format::Kubernetes {
                mode: ModeArg::Cronjobs,
                ..
            } => Some("Kubernetes"),
            // Those ask every few minutes, or keep the calendar; cron makes up for it.
            Format::Kubernetes { .. } | Format::Crontab { .. } => None,
        };
        let left_out = left_out
            .map(|scheduler| export::left_out(&config, wall_clock(), scheduler))
            .unwrap_or_default();
        let (exported, separator) = match &self.format {
            Format::Kubernetes {
                mode,
                image,
                namespace,
                secret,
                replicas,
                volume,
            } => {
                let options = Kubernetes {
                    mode: match mode {
                        ModeArg::Cronjobs => Mode::CronJobs,
                        ModeArg::Due => Mode::Due,
                        ModeArg::Serve => Mode::Serve,
                    },
                    image: image.clone(),
                    namespace: namespace.clone(),
                    secret: secret.clone(),
                    replicas: *replicas,
                    volume: *volume,
                    files: files(&config.path, &config.inventories)?,
                    templates: templates(config.folder())?,
                };
                let env = |name: &str| std::env::var(name).ok();
                (export::kubernetes(&config, &options, &env), "---\n")
            }
            Format::Systemd { program } => {
                let base = std::env::current_dir().map_err(|why| {
                    Failure::Other(format!(
                        "the folder that maint was called in is not there: {why}"
                    ))
                })?;
                let files = files(&config.path, &config.inventories)?;
                (export::systemd(&config, program, &base, &files), "\n")
            }
            Format::Crontab { program } => {
                let files = files(&config.path, &config.inventories)?;
                (export::crontab(&config, program, &files), "")
            }
        };
        let exported = exported.map_err(|error| Failure::Usage(error.to_string()))?;
        self.hand_out(&exported, separator)?;
        for note in exported.notes.iter().chain(&left_out) {
            errln!("note: {note}");
        }
        Ok(0)
    }

    fn hand_out(&self, exported: &Exported, separator: &str) -> Result<(), Failure> {
        let Some(folder) = &self.out else {
            for file in &exported.files {
                if exported.files.len() > 1 {
                    outln!("{separator}# {}", file.name);
                }
                out!("{}", file.text);
            }
            return Ok(());
        };
        let failed = |path: &Path, why: std::io::Error| {
            Failure::Other(format!(
                "{} cannot be written: {}",
                path.display(),
                describe(&why)
            ))
        };
        for file in &exported.files {
            written::may_take(&folder.join(&file.name), EXPORTED, is_exported)?;
        }
        std::fs::create_dir_all(folder).map_err(|why| failed(folder, why))?;
        for file in &exported.files {
            let path = folder.join(&file.name);
            std::fs::write(&path, &file.text).map_err(|why| failed(&path, why))?;
            errln!("wrote {}", path.display());
        }
        Ok(())
    }
}

/// What an exported file may be written over: a folder may be `/etc`.
const EXPORTED: &str = "a file that `maint export` has written";

fn is_exported(text: &str) -> bool {
    text.starts_with("# Written by `maint export")
        || text.contains("\nDescription=maint: the schedule ")
        || text.contains("\nDescription=When maint runs the schedule ")
        || text.contains("app.kubernetes.io/managed-by: maint")
}

/// The largest file of a configuration, in bytes.
const LARGEST: u64 = 16 << 20;

/// The templates of one's own, by their path below the folder of the configuration.
fn templates(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for name in built_in_files().map(|(name, _)| format!("templates/{name}")) {
        let path = folder.join(&name);
        if path.exists() {
            found.push((name, read(&path)?));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, Failure> {
    read_text(path, LARGEST).map_err(|why| Failure::Other(format!("{} {why}", path.display())))
}

/// The files of the configuration, by their path below its folder.
fn files(schedules: &Path, inventories: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    let mut files = vec![("schedules.yaml".to_owned(), read(schedules)?)];
    let folder = schedules.parent().unwrap_or(Path::new("")).join("tasks");
    let mut tasks: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|entries| entries.filter_map(|e| Some(e.ok()?.path())).collect())
        .unwrap_or_default();
    tasks.sort();
    for path in tasks {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            files.push((format!("tasks/{name}"), read(&path)?));
        }
    }
    let folder = schedules.parent().unwrap_or(Path::new(""));
    for path in inventories {
        // Any other is not part of the folder here, and is nowhere in a pod.
        let below = match (std::path::absolute(path), std::path::absolute(folder)) {
            (Ok(path), Ok(folder)) => path.strip_prefix(folder).map(Path::to_owned).ok(),
            _ => None,
        };
        let name = below.as_ref().and_then(|below| below.to_str());
        let Some(name) = name.filter(|name| !name.split('/').any(|part| part == "..")) else {
            return Err(Failure::Usage(format!(
                "{} is not in the folder of schedules.yaml, and would not be found elsewhere\n  hint: put the file of `targets_from` beside schedules.yaml",
                path.display()
            )));
        };
        files.push((name.to_owned(), read(path)?));
    }
    Ok(files)
}
