//! Programs of the user's before and after a run, or an occurrence: they know of it from their
//! environment, and what they said is recorded with it.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command as Process};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Command, Commands};
use crate::execute::Stop;
use crate::history::{RunRecord, RunStatus, StepStatus};
use crate::plan::{Finding, Severity};
use crate::report::error_text;
use crate::values::{TimeSpan, redact, redact_output};

/// How much of what a program says is kept: its end, where it says why it failed.
const KEPT_BYTES: usize = 2_000;

/// How long a program has to end by itself once it was asked to.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long its output is waited for once it has ended: something that it
/// started may hold it open for ever.
const REST: Duration = Duration::from_millis(500);

/// Runs what comes before the work.
///
/// # Errors
/// Why nothing may be done: it failed, or did not end.
pub(super) async fn before(
    commands: &Commands,
    record: &mut RunRecord,
    stop: &Stop,
) -> Result<(), String> {
    let Some(command) = &commands.before else {
        return Ok(());
    };
    let ended = run("before", command, &known(record), stop.stopping()).await;
    record.findings.push(ended.finding());
    match ended.why {
        None => Ok(()),
        Some(_) => Err(format!("nothing was done: {}", ended.said())),
    }
}

/// Runs what comes after the run, whose status is known by now. A run whose program failed has not
/// succeeded.
pub(super) async fn after(commands: &Commands, record: &mut RunRecord, stop: &Stop) {
    // Nothing was begun; or there is no time left.
    if record.status == RunStatus::Skipped || stop.is_now() {
        return;
    }
    let failed = matches!(record.status, RunStatus::Failed | RunStatus::Partial);
    let on_error = commands.on_error.as_ref().filter(|_| failed);
    let both = [("on_error", on_error), ("after", commands.after.as_ref())];
    for (name, command) in both {
        let Some(command) = command else { continue };
        let ended = run(name, command, &known(record), stop.now()).await;
        record.findings.push(ended.finding());
        let well = matches!(record.status, RunStatus::Succeeded | RunStatus::Incomplete);
        if ended.why.is_some() && well {
            record.status = RunStatus::Partial;
            record.error.get_or_insert_with(|| ended.said());
        }
    }
}

/// How a program ended.
pub(crate) struct Ended {
    name: &'static str,
    program: String,
    took: Duration,
    /// What is wrong with that; none where it ended well.
    why: Option<String>,
    output: String,
}

impl Ended {
    /// Whether it did what it is there for.
    pub(crate) fn well(&self) -> bool {
        self.why.is_none()
    }

    /// How it ended, and the end of what it said.
    pub(crate) fn told(&self) -> String {
        match self.output.is_empty() {
            true => self.said(),
            false => format!("{}; it said: {}", self.said(), self.output),
        }
    }

    fn said(&self) -> String {
        let took = TimeSpan::from(self.took);
        match &self.why {
            None => format!(
                "`commands.{}`: {} ended well after {took}",
                self.name, self.program
            ),
            Some(why) => format!("`commands.{}`: {} {why}", self.name, self.program),
        }
    }

    fn finding(&self) -> Finding {
        let (code, severity) = match self.why {
            None => ("command.ran", Severity::Info),
            Some(_) => ("command.failed", Severity::Warning),
        };
        Finding {
            code: code.to_owned(),
            severity,
            object: format!("commands.{}", self.name),
            message: self.told(),
            suggestion: None,
        }
    }
}

/// Runs a program, which knows of the work what `known` says, until it ends, its time is up, or
/// `stopped` does.
pub(crate) async fn run(
    name: &'static str,
    command: &Command,
    known: &[(&'static str, String)],
    stopped: impl Future<Output = ()>,
) -> Ended {
    let began = Instant::now();
    // Its arguments may hold secrets.
    let program = command.run.first().cloned().unwrap_or_default();
    let ended = |why: Option<String>, output: String| Ended {
        name,
        program: redact(&program),
        took: began.elapsed(),
        why,
        output,
    };
    let mut process = match spawned(command, known) {
        Ok(process) => process,
        Err(error) => return ended(Some(format!("cannot be started: {error}")), String::new()),
    };
    let kept = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        process.stdout.take().map(|out| read(out, &kept)),
        process.stderr.take().map(|err| read(err, &kept)),
    ];
    let why = tokio::select! {
        status = process.wait() => match status {
            Ok(status) => wrong(status),
            Err(error) => Some(format!("cannot be waited for: {error}")),
        },
        () = tokio::time::sleep(command.timeout.get()) => {
            end(&mut process).await;
            Some(format!("did not end within {} (`timeout`), and was ended", command.timeout))
        }
        () = stopped => {
            end(&mut process).await;
            Some("was ended, because the run was".to_owned())
        }
    };
    let _ = tokio::time::timeout(REST, async {
        for reader in readers.into_iter().flatten() {
            let _ = reader.await;
        }
    })
    .await;
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    ended(why, shown(&kept))
}

fn spawned(command: &Command, known: &[(&str, String)]) -> std::io::Result<Child> {
    let (program, arguments) = command
        .run
        .split_first()
        .ok_or_else(|| std::io::Error::other("it has no name"))?;
    Process::new(program)
        .args(arguments)
        .envs(known.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal for us is none for it: it is ended by us, with all that it started.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// What a program knows of a run.
fn known(record: &RunRecord) -> Vec<(&'static str, String)> {
    vec![
        ("MAINT_RUN", record.id.to_string()),
        ("MAINT_TASK", record.task.clone()),
        ("MAINT_KIND", record.kind.clone()),
        ("MAINT_TARGET", record.target.clone()),
        ("MAINT_TRIGGER", record.trigger.as_str().to_owned()),
        ("MAINT_STATUS", record.status.as_str().to_owned()),
        ("MAINT_ROWS", record.rows.to_string()),
        ("MAINT_ERROR", error(record)),
    ]
}

/// What went wrong: with the run, or with the first of its steps that failed. A program may tell
/// anybody, so that it gets what may be told, without the words of the server.
fn error(record: &RunRecord) -> String {
    let failed = || record.steps.iter().find(|s| s.status == StepStatus::Failed);
    match (&record.error, failed()) {
        (Some(error), _) => error_text(error),
        (None, Some(step)) => {
            let error = error_text(step.error.as_deref().unwrap_or_default());
            format!("{}: {error}", step.object)
        }
        (None, None) => String::new(),
    }
}

/// What is wrong with how it ended.
pub(super) fn wrong(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("ended with the exit code {code}")),
        (None, Some(signal)) => Some(format!("was ended by the signal {signal}")),
        (None, None) => Some("ended in an unknown way".to_owned()),
    }
}

/// Ends it and what it started: it is asked first.
pub(super) async fn end(process: &mut Child) {
    let group = process.id().and_then(|id| i32::try_from(id).ok());
    let Some(group) = group.map(Pid::from_raw) else {
        return;
    };
    let _ = killpg(group, Signal::SIGTERM);
    if tokio::time::timeout(PATIENCE, process.wait())
        .await
        .is_err()
    {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = process.wait().await;
    }
}

fn read(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    kept: &Arc<Mutex<Vec<u8>>>,
) -> AbortOnDropHandle<()> {
    let kept = Arc::clone(kept);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&piece[..read]);
            let over = kept.len().saturating_sub(KEPT_BYTES);
            kept.drain(..over);
        }
    }))
}

/// Its output on one line, without secrets and control characters.
pub(super) fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    let plain: String = line.chars().filter(|c| !c.is_control()).collect();
    redact_output(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_one_line_without_secrets() {
        assert_eq!(shown(b"one\n\n\x1b[31mtwo\r\n"), "one; [31mtwo");
        assert_eq!(
            shown(b"postgres://u:pw@h/d\n"),
            redact("postgres://u:pw@h/d")
        );
        assert!(!shown(b"postgres://u:pw@h/d\n").contains("pw"));
    }
}
