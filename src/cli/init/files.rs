//! A draft as files: checked before the first is written, and never over one that is there.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::config::{self, Config};
use crate::init::Draft;
use crate::plan::KindInfo;
use crate::values::Problems;

/// What a variable holds while the files are checked, where nobody knows better.
const PLACEHOLDER: &str = "postgres://localhost/placeholder";

/// What the package for Debian puts into `/etc/maint`: nobody's work, so it gives way.
const SHIPPED: [(&str, &str); 4] = [
    (
        "schedules.yaml",
        include_str!("../../../deploy/debian/schedules.yaml"),
    ),
    (
        "tasks/analyze.yaml",
        include_str!("../../../deploy/debian/tasks/analyze.yaml"),
    ),
    (
        "tasks/reindex.yaml",
        include_str!("../../../deploy/debian/tasks/reindex.yaml"),
    ),
    (
        "tasks/vacuum.yaml",
        include_str!("../../../deploy/debian/tasks/vacuum.yaml"),
    ),
];

/// The files in the folder that are, byte for byte, what the package ships.
pub(in crate::cli) fn shipped(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let there = SHIPPED
        .iter()
        .map(|(name, text)| (folder.join(name), *text));
    // What a link leads to belongs to somebody.
    there
        .filter(|(path, text)| {
            path.symlink_metadata().is_ok_and(|one| one.is_file())
                && fs::read(path).is_ok_and(|found| found == text.as_bytes())
        })
        .collect()
}

/// Whether this can be the name of a variable in a file.
pub(super) fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}

/// The time zone of this machine, where it has a name.
pub(super) fn machine_zone() -> Option<String> {
    let named = |text: &str| {
        let zone = text.trim().parse::<crate::values::TimeZone>().ok()?;
        Some(zone.to_string())
    };
    if let Ok(zone) = std::env::var("TZ") {
        return named(zone.trim_start_matches(':'));
    }
    let file = fs::read_to_string("/etc/timezone").ok();
    file.as_deref().and_then(named).or_else(|| {
        let link = fs::read_link("/etc/localtime").ok()?;
        let text = link.to_str()?;
        named(text.split_once("zoneinfo/")?.1)
    })
}

/// Refuses where a file would be overwritten, or one that is there would be read with the new ones.
///
/// # Errors
/// All of them by name.
pub(super) fn in_the_way(folder: &Path, draft: &Draft) -> Result<(), Failure> {
    let mut there: Vec<PathBuf> = draft
        .files()
        .iter()
        .map(|(path, _)| folder.join(path))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    for entry in fs::read_dir(folder.join("tasks"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if yaml && !there.contains(&path) {
            there.push(path);
        }
    }
    let shipped = shipped(folder);
    there.retain(|path| !shipped.iter().any(|(one, _)| one == path));
    if there.is_empty() {
        return Ok(());
    }
    there.sort();
    let list: Vec<String> = there
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Err(Failure::Usage(format!(
        "nothing is overwritten, and nothing was written: {} {} there already\n  hint: `--dir` names another folder",
        list.join(", "),
        if list.len() == 1 { "is" } else { "are" }
    )))
}

/// Reads the draft as any configuration is read.
///
/// # Errors
/// Where it has a problem, which is a mistake of this program.
pub(super) fn checked(
    draft: &Draft,
    kinds: &[KindInfo],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Failure> {
    read(draft, kinds, variable)?.map_err(|problems| {
        Failure::Other(format!(
            "what would have been written does not pass the check, which is a mistake of maint; nothing was written\n{problems}"
        ))
    })
}

fn read(
    draft: &Draft,
    kinds: &[KindInfo],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Result<Config, Problems>, Failure> {
    let failed = |why: std::io::Error| Failure::Other(format!("the files cannot be tried: {why}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    fs::create_dir(folder.path().join("tasks")).map_err(failed)?;
    for (path, text) in draft.files() {
        fs::write(folder.path().join(path), text).map_err(failed)?;
    }
    let ours = |name: &str| draft.targets.iter().any(|target| target.variable == name);
    let env =
        |name: &str| variable(name).or_else(|| ours(name).then(|| placeholder(draft).to_owned()));
    let file = folder.path().join("schedules.yaml");
    Ok(config::load_for_check(&file, kinds, &env))
}

/// Takes out what was translated and does not pass the check, with its reason: a command may say what no
/// task can, and the others are none the worse for it.
///
/// # Errors
/// When nothing can be tried.
pub(super) fn without_what_fails(draft: &mut Draft, kinds: &[KindInfo]) -> Result<(), Failure> {
    if read(draft, kinds, &|_| None)?.is_ok() {
        return Ok(());
    }
    let translated = draft.tasks.iter().filter(|task| task.origin.is_some());
    for task in translated.cloned().collect::<Vec<_>>() {
        if let Err(problems) = read(&draft.with_only(&task), kinds, &|_| None)? {
            let why = problems.iter().next();
            let why = why.map_or("", |why| why.message.as_str());
            draft.give_up(&task.name, &format!("it makes no task: {why}"));
        }
    }
    Ok(())
}

fn placeholder(draft: &Draft) -> &'static str {
    use crate::values::Engine;
    match draft
        .targets
        .iter()
        .any(|target| target.engine == Engine::Mongodb)
    {
        true => "mongodb://localhost/placeholder",
        false => PLACEHOLDER,
    }
}

/// Writes the files, with the schemas that editors read beside them; their paths below the folder.
///
/// # Errors
/// When one cannot be written; those written before are taken back.
pub(super) fn write(
    folder: &Path,
    draft: &Draft,
    kinds: &[KindInfo],
) -> Result<Vec<String>, Failure> {
    let schema = |schema: schemars::Schema| {
        serde_json::to_string_pretty(&schema)
            .map(|text| text + "\n")
            .map_err(|why| Failure::Other(why.to_string()))
    };
    let mut files = draft.files();
    for (name, text) in [
        (
            "schema/schedules.json",
            schema(config::schema_for_schedules())?,
        ),
        ("schema/task.json", schema(config::schema_for_task(kinds))?),
    ] {
        // Those of another version are as good as none, and they are no work of anybody's.
        if !folder.join(name).exists() {
            files.push((name.to_owned(), text));
        }
    }
    let mut gone: Vec<(PathBuf, &str)> = Vec::new();
    let mut written: Vec<PathBuf> = Vec::new();
    let failed =
        |path: &Path, why: std::io::Error, written: &[PathBuf], gone: &[(PathBuf, &str)]| {
            for path in written {
                // What is left of it is told by the error.
                let _ = fs::remove_file(path);
            }
            for (path, text) in gone {
                let _ = create(path, text);
            }
            Failure::Other(format!(
                "{} cannot be written: {why}; nothing is left of what was",
                path.display()
            ))
        };
    for (path, text) in shipped(folder) {
        if let Err(why) = fs::remove_file(&path) {
            return Err(failed(&path, why, &written, &gone));
        }
        gone.push((path, text));
    }
    for (name, text) in &files {
        let path = folder.join(name);
        if let Err(why) = create(&path, text) {
            return Err(failed(&path, why, &written, &gone));
        }
        written.push(path);
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// No secret is in them, and a service of another user has to read them.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        fs::create_dir_all(parent)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
    }
    // Between the look and here somebody else may have been faster.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
