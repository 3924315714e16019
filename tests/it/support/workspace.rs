use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use assert_cmd::Command;
use chrono::{DateTime, Utc};
use tempfile::TempDir;

use super::servers::{TestDatabase, wait_for_statistics};

/// A run that has not ended by then is killed, and the test fails.
const LONGEST: Duration = Duration::from_secs(300);

/// The same for processes that a test looks after itself.
const NEVER: Duration = Duration::from_secs(400);

/// The built `maint`, with nothing of the developer's environment in it.
pub(crate) fn maint() -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("maint");
    command.env_clear().env("TZ", "UTC").env("NO_COLOR", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A folder with `schedules.yaml` and `tasks/`, in which `maint` is run.
pub(crate) struct Workspace {
    folder: TempDir,
    environment: Vec<(String, String)>,
    /// Of the target, where there is one.
    url: Option<String>,
}

impl Workspace {
    pub(crate) fn new(schedules: &str) -> Self {
        let workspace = Self {
            folder: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
            url: None,
        };
        workspace.file("schedules.yaml", schedules);
        fs::create_dir(workspace.path().join("tasks")).unwrap();
        workspace
    }

    /// One target, `app`, the history in `maint.db` beside the files, no schedules.
    pub(crate) fn for_target(url: &str) -> Self {
        let mut workspace = Self::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
        ));
        workspace.url = Some(url.to_owned());
        workspace
    }

    /// As if its schedules had been known since then, whatever the history, a file beside it, knows of them.
    pub(crate) async fn known_since(&self, since: DateTime<Utc>) {
        let file = self.path().join("schedules.yaml");
        let config = maint::config::load(&file, &maint::kinds::catalog(), &|_| None).unwrap();
        let location = format!("sqlite:{}", self.history().display());
        let store = maint::history::open(&location).await.unwrap();
        let known = maint::scheduler::definitions(&config);
        let other = known
            .iter()
            .map(|(name, _)| (name.clone(), "another".to_owned()));
        let other: Vec<_> = other.collect();
        store.know_schedules(&other, Utc::now()).await.unwrap();
        store.know_schedules(&known, since).await.unwrap();
        store.close().await;
    }

    pub(crate) fn task(self, name: &str, yaml: &str) -> Self {
        self.file(&format!("tasks/{name}.yaml"), yaml);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file of the folder, new or anew.
    pub(crate) fn file(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Has the history know that a run of this kind was about to mark a table,
    /// as it does before the run marks one.
    pub(crate) async fn knows_mark(&self, kind: &str, db: &TestDatabase, table: &str) {
        let oid = db
            .number(&format!("SELECT '{table}'::regclass::oid::int8"))
            .await;
        self.knows(kind, format!("marked {oid}"), table.into())
            .await;
    }

    /// Has the history know of which table that one was a part.
    pub(crate) async fn knows_part(&self, kind: &str, db: &TestDatabase, table: &str, of: &str) {
        let oid = |name| format!("SELECT '{name}'::regclass::oid::int8");
        let (table, of) = (db.number(&oid(table)).await, db.number(&oid(of)).await);
        self.knows(kind, format!("part of {table}"), of.into())
            .await;
    }

    /// Has the history know with which bounds.
    pub(crate) async fn knows_bounds(
        &self,
        kind: &str,
        db: &TestDatabase,
        table: &str,
        bounds: &str,
    ) {
        let oid = format!("SELECT '{table}'::regclass::oid::int8");
        let key = format!("bounds of {}", db.number(&oid).await);
        self.knows(kind, key, bounds.into()).await;
    }

    /// Has the history remember something of this kind.
    pub(crate) async fn knows(&self, kind: &str, key: String, value: serde_json::Value) {
        let location = format!("sqlite:{}", self.history().display());
        let store = maint::history::open(&location).await.unwrap();
        let memory = maint::plan::Memory { key, value };
        store
            .remember("app", kind, chrono::Utc::now(), &[memory])
            .await
            .unwrap();
        store.close().await;
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.path().join("maint.db")
    }

    /// Keeps the history as it is now.
    pub(crate) fn keep_history(&self) -> TempDir {
        let kept = tempfile::tempdir().unwrap();
        for (file, name) in self.history_files() {
            if file.exists() {
                fs::copy(&file, kept.path().join(name)).unwrap();
            }
        }
        kept
    }

    /// Sets the history back to what was kept.
    pub(crate) fn set_history_back(&self, kept: &Path) {
        for (file, name) in self.history_files() {
            let _ = fs::remove_file(&file);
            if kept.join(&name).exists() {
                fs::copy(kept.join(name), file).unwrap();
            }
        }
    }

    /// The files that it may have, and names for them.
    fn history_files(&self) -> Vec<(PathBuf, String)> {
        let all = ["", "-wal", "-shm"].into_iter();
        all.map(|end| {
            let file = format!("{}{end}", self.history().display());
            (PathBuf::from(file), format!("kept{end}"))
        })
        .collect()
    }

    /// `maint` in this folder, to be run as the test likes.
    pub(crate) fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        if let Some(url) = &self.url {
            wait_for_statistics(url);
        }
        let mut command = maint();
        command.current_dir(self.path()).env("HOME", self.path());
        command.timeout(LONGEST);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for argument in args {
            command.arg(argument.as_ref());
        }
        command
    }

    /// Begins it as a process of its own, which says nothing: for tests that do something beside it, or kill it.
    pub(crate) fn begins<S: AsRef<str>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> std::process::Child {
        let mut process = self.process(args);
        process.stdout(Stdio::null()).stderr(Stdio::null());
        process.spawn().unwrap()
    }

    /// The same as a plain process, for tests that signal it while it runs.
    pub(crate) fn process<S: AsRef<str>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> std::process::Command {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(|| drop(std::thread::spawn(end_what_never_ends)));
        let command = self.command(args);
        let mut process = std::process::Command::new(command.get_program());
        process
            .args(command.get_args())
            .current_dir(self.path())
            .env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                process.env(name, value);
            }
        }
        process
    }

    /// Runs `maint` to its end.
    pub(crate) fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let output = self.command(args).output().unwrap();
        Output {
            // No code means a signal, which no test expects of a run to its end.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Kills every `maint` of ours that has been there for longer than any test
/// takes: whoever waits for its end goes on, and fails with what it said.
fn end_what_never_ends() {
    let ours = format!(" {} ", std::process::id());
    loop {
        std::thread::sleep(Duration::from_secs(5));
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let folder = entry.path();
            // `pid (name) state parent …`, see proc(5).
            let Ok(stat) = fs::read_to_string(folder.join("stat")) else {
                continue;
            };
            let Some((_, rest)) = stat.split_once(" (maint) ") else {
                continue;
            };
            let began = fs::metadata(&folder).and_then(|about| about.modified());
            let age = began.map(|at| at.elapsed().unwrap_or_default());
            if rest[1..].starts_with(&ours) && age.is_ok_and(|age| age > NEVER) {
                let pid = entry.file_name().to_string_lossy().parse().unwrap();
                eprintln!("maint {pid} was still there after {NEVER:?}, and was killed");
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}

/// How a run of `maint` ended and what it said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The one document on standard output.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("standard output is not one JSON document: {error}\n{self:#?}")
        })
    }

    /// The same output, after a look at its exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// The same process with a clock that is so far off.
pub(crate) fn off(mut process: std::process::Command, shift: &str) -> std::process::Command {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = libraries
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|library| library.exists())
        .expect("faketime is installed: ./scripts/packages does that");
    process
        .env("LD_PRELOAD", library)
        .env("FAKETIME", shift)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    process
}

/// Runs `maint` to its end, with a clock that is so far off.
pub(crate) fn run_off(workspace: &Workspace, shift: &str, args: &[&str]) -> Output {
    let done = off(workspace.process(args), shift).output().unwrap();
    Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8(done.stdout).unwrap(),
        stderr: String::from_utf8(done.stderr).unwrap(),
    }
}
