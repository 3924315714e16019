//! Work that is questions: asked in a transaction that may not write; the
//! answers become findings.

use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempt, ends, until_done};
use super::gate::{self, Halt, Outcome};
use super::reach::is_elsewhere;
use super::{Job, damage, statements};
use crate::engines::EngineError;
use crate::engines::postgres::{Fault, Identifier, Row, grants};
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Answer, Check, Finding, Question, Severity, escape_finding};
use crate::values::{several, with_causes};

/// Asks the questions of a check, and carries out its statements if they find nothing.
pub(super) async fn carry_out(
    check: &Check,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let mut asking = Asking {
        check,
        findings,
        forbidden: None,
    };
    let asked = until_done(&mut asking, ends(job), job, record).await?;
    let refused = asking.forbidden.take();
    if asked.is_none() {
        if let Some(refused) = refused {
            findings.push(refused.told(job).await?);
        }
        return Ok(());
    }
    record.status = StepStatus::Succeeded;
    if findings.is_empty() && !check.when_clean.is_empty() {
        match &job.step.body.guard {
            Some(_) => statements::together(&check.when_clean, job, record).await?,
            None => {
                statements::each(&check.when_clean, job, record).await?;
            }
        }
    }
    Ok(())
}

/// The questions of a check. What is found is kept even where the role may not
/// ask all of them.
struct Asking<'a> {
    check: &'a Check,
    findings: &'a mut Vec<Finding>,
    /// What the role may not ask.
    forbidden: Option<Forbidden>,
}

/// A question that the role may not ask.
struct Forbidden {
    /// What the server says.
    why: String,
    /// What was asked.
    sql: String,
}

#[async_trait]
impl Attempt for Asking<'_> {
    type Done = ();

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<()> {
        // What an earlier attempt found is asked for again.
        self.findings.clear();
        // Row security would hide rows, and so make orphans or hide them. Switched
        // off, it makes the server refuse instead. What a constraint or a key says of days and moments
        // goes by the time zone that rows are written in.
        let begin = "BEGIN TRANSACTION READ ONLY; SET LOCAL row_security = off; SET LOCAL TimeZone = DEFAULT";
        let outcome = match self.check.questions.as_slice() {
            // Thousands of small objects are asked one question each.
            [question] if job.step.body.guard.is_none() => {
                let (session, query) = (job.session, &question.query);
                let (execution, ends) = (job.execution, step_ends);
                let asked = gate::ask_alone(session, begin, query, execution, ends, give_way);
                self.judge(question, asked.await, job).map(drop)
            }
            _ => {
                let begun = job.session.execute("opening a transaction", begin).await;
                begun.map_err(Halt::Failed)?;
                let outcome = self.ask(job, step_ends, give_way).await;
                if let Err(Halt::Failed(error)) = &outcome
                    && error.is_unreachable()
                {
                    return outcome;
                }
                let doing = "ending the transaction";
                if let Err(error) = job.session.execute(doing, "ROLLBACK").await
                    && !matches!(outcome, Err(Halt::Failed(_)))
                {
                    return Err(Halt::Failed(error));
                }
                outcome
            }
        };
        for finding in self.findings.iter_mut() {
            if !self.check.whereabouts.is_empty() {
                let place = format!(" ({})", self.check.whereabouts);
                finding.message.push_str(&place);
            }
        }
        outcome
    }
}

impl Asking<'_> {
    async fn ask(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<()> {
        if let Some(guard) = &job.step.body.guard {
            gate::keep(job.session, guard, job.execution, step_ends, give_way).await?;
        }
        for question in &self.check.questions {
            let query = &question.query;
            let asked = gate::ask(job.session, query, job.execution, step_ends, give_way);
            if self.judge(question, asked.await, job)? == Verdict::Damaged {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps what an answer says.
    fn judge(
        &mut self,
        question: &Question,
        asked: Outcome<Vec<Row>>,
        job: Job<'_>,
    ) -> Outcome<Verdict> {
        match asked {
            Ok(rows) => {
                let found = read(&question.answer, &rows);
                let mut found = found.map_err(Halt::Failed)?;
                found.iter_mut().for_each(escape_finding);
                self.findings.extend(found);
                Ok(Verdict::Answered)
            }
            // What another server says of itself is no damage of this one.
            Err(Halt::Failed(error))
                if !job.step.body.away.is_empty()
                    && Fault::of(&error) != Fault::Forbidden
                    && is_elsewhere(&error) =>
            {
                Err(Halt::Failed(error))
            }
            Err(Halt::Failed(error)) => match Fault::of(&error) {
                Fault::Damaged(what) => {
                    self.findings.push(damage::told(
                        what,
                        &error,
                        &job.step.object,
                        self.check.repair.clone(),
                    ));
                    Ok(Verdict::Damaged)
                }
                Fault::Forbidden => {
                    let why = with_causes(&error);
                    self.forbidden = Some(Forbidden {
                        why: why.clone(),
                        sql: question.query.sql.clone(),
                    });
                    Err(Halt::NotAllowed(why))
                }
                _ => Err(Halt::Failed(error)),
            },
            Err(other) => Err(other),
        }
    }
}

/// Whether the questions after this one make sense.
#[derive(PartialEq, Eq)]
enum Verdict {
    Answered,
    /// What was asked about cannot be read.
    Damaged,
}

fn read(answer: &Answer, rows: &[Row]) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    match answer {
        Answer::Counts(findings) => {
            let Some(row) = rows.first() else {
                return Ok(found);
            };
            for (n, finding) in findings.iter().enumerate() {
                let number: Option<i64> = row.get(n)?;
                if let Some(number) = number.filter(|number| *number != 0) {
                    let mut finding = finding.clone();
                    let violate = match number {
                        1 => "violates",
                        _ => "violate",
                    };
                    finding.message = finding
                        .message
                        .replace("{rows}", &several(number, "row"))
                        .replace("{violate}", violate)
                        .replace("{n}", &number.to_string());
                    found.push(finding);
                }
            }
        }
        Answer::Findings => {
            for row in rows {
                let severity: String = row.get(1)?;
                found.push(Finding {
                    code: row.get(0)?,
                    severity: match severity.as_str() {
                        "info" => Severity::Info,
                        "warning" => Severity::Warning,
                        _ => Severity::Critical,
                    },
                    object: row.get(2)?,
                    message: row.get(3)?,
                    suggestion: row.get(4)?,
                });
            }
        }
    }
    Ok(found)
}

impl Forbidden {
    /// The finding, with what would let the role ask.
    async fn told(self, job: Job<'_>) -> Result<Finding, EngineError> {
        let role = Identifier::new(&job.session.server.role);
        let object = &job.step.object;
        let suggestion = grants::missing(job.session, &[&self.sql]).await?;
        Ok(Finding {
            code: "privilege.missing".to_owned(),
            severity: Severity::Warning,
            object: object.clone(),
            message: format!("{object} could not be checked as {role}: {}", self.why),
            suggestion,
        })
    }
}
