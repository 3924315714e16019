//! Work that is questions: asked in a transaction that may not write; the
//! answers become findings.

use std::time::Instant;

use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use super::Job;
use super::gate::{self, Outcome};
use crate::engines::EngineError;
use crate::engines::postgres::Identifier;
use crate::plan::{Answer, Check, Finding, Severity};

/// Asks the questions of a check once, and adds what is found to `findings`.
pub(super) async fn pass(
    check: &Check,
    job: Job<'_>,
    step_ends: Instant,
    give_way: &CancellationToken,
    findings: &mut Vec<Finding>,
) -> Outcome {
    // What an earlier attempt found is asked for again.
    findings.clear();
    // Row security would hide rows, and so make orphans or hide them. Switched
    // off, it makes the server refuse instead.
    let begin = "BEGIN TRANSACTION READ ONLY; SET LOCAL row_security = off";
    if let Err(error) = job.session.execute("opening a transaction", begin).await {
        return Outcome::Failed(error);
    }
    let mut outcome = Outcome::Done {
        warnings: Vec::new(),
        rows: 0,
    };
    let kept = match &job.step.body.guard {
        Some(guard) => gate::keep(job.session, guard, job.execution, step_ends, give_way).await,
        None => Ok(()),
    };
    let questions: &[_] = match kept {
        Ok(()) => &check.questions,
        Err(refused) => {
            outcome = refused;
            &[]
        }
    };
    for question in questions {
        let asked = gate::ask(
            job.session,
            &question.query,
            job.execution,
            step_ends,
            give_way,
        );
        match asked.await {
            Ok(rows) => match read(&question.answer, &rows) {
                Ok(found) => findings.extend(found),
                Err(cause) => {
                    let doing = "reading the answer";
                    outcome = Outcome::Failed(EngineError::statement(doing, cause));
                    break;
                }
            },
            Err(Outcome::Failed(error)) => {
                match damage(&error, check, &job.step.object) {
                    Some(finding) => findings.push(finding),
                    None if error.sqlstate() == Some("42501") => {
                        findings.push(forbidden(&error, job));
                        outcome = Outcome::NotAllowed(error.to_string());
                    }
                    None => outcome = Outcome::Failed(error),
                }
                break;
            }
            Err(other) => {
                outcome = other;
                break;
            }
        }
    }
    if let Outcome::Failed(error) = &outcome
        && error.is_unreachable()
    {
        return outcome;
    }
    if let Err(error) = job
        .session
        .execute("ending the transaction", "ROLLBACK")
        .await
        && !matches!(outcome, Outcome::Failed(_))
    {
        outcome = Outcome::Failed(error);
    }
    for finding in findings.iter_mut() {
        if !check.whereabouts.is_empty() {
            finding
                .message
                .push_str(&format!(" ({})", check.whereabouts));
        }
    }
    outcome
}

fn read(answer: &Answer, rows: &[Row]) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let mut found = Vec::new();
    match answer {
        Answer::Counts(findings) => {
            let Some(row) = rows.first() else {
                return Ok(found);
            };
            for (n, finding) in findings.iter().enumerate() {
                let number: Option<i64> = row.try_get(n)?;
                if let Some(number) = number.filter(|number| *number != 0) {
                    let mut finding = finding.clone();
                    finding.message = finding.message.replace("{n}", &number.to_string());
                    found.push(finding);
                }
            }
        }
        Answer::Findings => {
            for row in rows {
                let severity: String = row.try_get(1)?;
                found.push(Finding {
                    code: row.try_get(0)?,
                    severity: match severity.as_str() {
                        "info" => Severity::Info,
                        "warning" => Severity::Warning,
                        _ => Severity::Critical,
                    },
                    object: row.try_get(2)?,
                    message: row.try_get(3)?,
                    suggestion: row.try_get(4)?,
                });
            }
        }
    }
    Ok(found)
}

/// What the server's error says about damaged files, if it does.
fn damage(error: &EngineError, check: &Check, object: &str) -> Option<Finding> {
    let EngineError::Statement { message, .. } = error else {
        return None;
    };
    let code = match error.sqlstate()? {
        // data_corrupted
        "XX001" => "corruption.data",
        // index_corrupted
        "XX002" => "corruption.index",
        // undefined_file: a file of the table, or of the transaction log, is
        // gone. A missing library of an extension is another matter.
        "58P01" if !message.contains("$libdir") => "corruption.file",
        _ => return None,
    };
    Some(Finding {
        code: code.to_owned(),
        severity: Severity::Critical,
        object: object.to_owned(),
        message: format!("{object} is damaged: {message}"),
        suggestion: check.repair.clone(),
    })
}

fn forbidden(error: &EngineError, job: Job<'_>) -> Finding {
    let role = Identifier::new(&job.session.server.role);
    let object = &job.step.object;
    Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: object.clone(),
        message: format!("{object} could not be checked as {role}: {error}"),
        suggestion: Some(format!("GRANT pg_read_all_data TO {role}")),
    }
}
