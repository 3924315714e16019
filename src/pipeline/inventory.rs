//! Asks commands and queries which targets there are. What they answer is read by `config`, like a
//! file.

use std::path::Path;
use std::process::Stdio;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command as Process};

use super::{PipelineError, commands, engine};
use crate::config::{Answer, Answers, Ask, Source};
use crate::values::{Problem, Problems, TimeSpan, with_causes};

/// How much of what a program says beside its answer is kept: its end.
const KEPT_BYTES: usize = 1_000;

/// Why targets are not known.
#[derive(Debug)]
pub struct NotAnswered {
    /// A problem for each that did not answer.
    pub problems: Problems,
    /// Whether a server was out of reach, and nothing else is wrong.
    pub unreachable: bool,
}

/// Asks all of them at once; what those answered that did is there in any case.
pub async fn ask(sources: &[Source]) -> (Answers, Option<NotAnswered>) {
    let asked = join_all(sources.iter().map(one)).await;
    let mut answers = Answers::default();
    let mut problems = Vec::new();
    let mut unreachable = true;
    for (source, answer) in sources.iter().zip(asked) {
        match answer {
            Ok(answer) => answers.add(source, answer),
            Err(refusal) => {
                unreachable &= refusal.unreachable;
                problems.push(refusal.problem);
            }
        }
    }
    let failed = !problems.is_empty();
    let failed = failed.then(|| NotAnswered {
        problems: Problems::new(problems),
        unreachable,
    });
    (answers, failed)
}

struct Refusal {
    problem: Problem,
    unreachable: bool,
}

async fn one(source: &Source) -> Result<Answer, Refusal> {
    match &source.ask {
        Ask::Command { run, folder } => {
            let text = command(run, folder, source.time_limit).await;
            let text = text.map_err(|why| Refusal {
                problem: source.problem(why),
                unreachable: false,
            })?;
            Ok(Answer {
                from: format!("output of {}", source.name),
                text,
            })
        }
        Ask::Query { sql, target } => {
            let limit = source.time_limit.get();
            let asked = tokio::time::timeout(limit, engine::targets(target, sql, limit)).await;
            let refused = |message: String, hint: Option<String>, unreachable| {
                let problem = source.problem(message);
                let problem = match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                };
                Refusal {
                    problem,
                    unreachable,
                }
            };
            let rows = match asked {
                Ok(Ok(rows)) => rows,
                Ok(Err(PipelineError::Engine(error))) => {
                    let hint = error.hint();
                    let unreachable = error.is_unreachable();
                    return Err(refused(with_causes(&error), hint, unreachable));
                }
                Ok(Err(other)) => return Err(refused(with_causes(&other), None, false)),
                Err(_) => {
                    let why = format!("no answer within {} (`time_limit`)", source.time_limit);
                    return Err(refused(why, None, true));
                }
            };
            // A row is a line: its number is that of the row.
            let text = format!("[{}]", rows.join(",\n"));
            if text.len() > Source::LARGEST {
                return Err(refused(too_large(), None, false));
            }
            Ok(Answer {
                from: format!("rows of {}", source.name),
                text,
            })
        }
    }
}

fn too_large() -> String {
    format!(
        "the answer is larger than the {} MB that are read",
        Source::LARGEST >> 20
    )
}

/// What a program writes.
async fn command(run: &[String], folder: &Path, limit: TimeSpan) -> Result<String, String> {
    let mut process = spawned(run, folder).map_err(|why| format!("cannot be started: {why}"))?;
    let (Some(out), Some(err)) = (process.stdout.take(), process.stderr.take()) else {
        return Err("cannot be started: it has no output".to_owned());
    };
    // Until its end, and that of whatever it started and gave its output to: half an answer is
    // none.
    let said = async {
        let ended = async { Ok((last(err).await, process.wait().await)) };
        let (bytes, (beside, status)) = tokio::try_join!(answer(out), ended)?;
        Ok::<_, String>((bytes, beside, status))
    };
    let ended = match tokio::time::timeout(limit.get(), said).await {
        Ok(ended) => ended,
        Err(_) => Err(format!(
            "did not end within {limit} (`time_limit`), and was ended"
        )),
    };
    let (bytes, beside, status) = match ended {
        Ok(ended) => ended,
        Err(why) => {
            commands::end(&mut process).await;
            return Err(why);
        }
    };
    let wrong = match status {
        Ok(status) => commands::wrong(status),
        Err(why) => Some(format!("cannot be waited for: {why}")),
    };
    if let Some(why) = wrong {
        let said = commands::shown(&beside);
        return Err(match said.is_empty() {
            true => format!("{why}, and said nothing"),
            false => format!("{why}; it said: {said}"),
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| "its output is not UTF-8 text".to_owned())?;
    if text.trim().is_empty() {
        return Err("it wrote nothing: expected targets, or `[]` where there are none".to_owned());
    }
    Ok(text)
}

fn spawned(run: &[String], folder: &Path) -> std::io::Result<Child> {
    let (program, arguments) = run
        .split_first()
        .ok_or_else(|| std::io::Error::other("it has no name"))?;
    let folder = std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })?;
    // Others are looked for in PATH.
    let program = match program.contains('/') {
        true => folder.join(program),
        false => program.into(),
    };
    Process::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal for us is none for it: it is ended by us, with all that it started.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Everything, if that is not too much.
async fn answer(mut from: impl AsyncRead + Unpin) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match from.read(&mut piece).await {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(why) => return Err(format!("its output cannot be read: {why}")),
        }
        if bytes.len() > Source::LARGEST {
            return Err(too_large());
        }
    }
}

/// The end of what is written there.
async fn last(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        let over = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..over);
    }
    kept
}
