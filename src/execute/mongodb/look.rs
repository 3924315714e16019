//! Questions whose answers become findings.

use mongodb::bson::{Bson, Document, doc};

use super::gate::{Ends, over, pass};
use super::{Job, end};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Look, Validate};
use crate::plan::{Finding, Severity};

pub(super) async fn carry_out(
    look: &Look,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    match look {
        Look::Validate(of) => validate(of, job, ends, record, findings).await,
        Look::Any {
            database,
            collection,
            pipeline,
            finding,
        } => {
            let stages: Result<Vec<Document>, String> =
                pipeline.iter().map(|stage| stage.document()).collect();
            let stages = stages.map_err(|message| crate::engines::mongodb::MongoError::Driver {
                doing: "reading the plan".to_owned(),
                message,
            })?;
            let Some(limit) = ends.left() else {
                end(record, StepStatus::Deferred, "no time was left");
                return Ok(());
            };
            let asked = job
                .session
                .aggregate("checking it", database, collection, stages, limit)
                .await;
            match asked {
                Ok(found) => {
                    record.status = StepStatus::Succeeded;
                    if let Some(first) = found.first() {
                        let n = crate::engines::mongodb::number(first.get("n"))
                            .unwrap_or(found.len() as i64);
                        let mut finding = (**finding).clone();
                        finding.message = finding.message.replace("{n}", &n.to_string());
                        findings.push(finding);
                    }
                    Ok(())
                }
                Err(error) => over(error, job.execution, ends, record),
            }
        }
    }
}

async fn validate(
    of: &Validate,
    job: Job<'_>,
    ends: Ends,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let member = match &of.member {
        Some(address) => Some(job.session.member(address).await?),
        None => None,
    };
    let session = member.as_ref().unwrap_or(job.session);
    let mut command = doc! { "validate": &of.collection };
    if of.full {
        command.insert("full", true);
    }
    if of.background {
        command.insert("background", true);
    }
    let at = ("validating it", of.database.as_str());
    let Some(answer) = pass(job, session, ends, record, at, &command, &mut 0).await? else {
        return Ok(());
    };
    record.status = StepStatus::Succeeded;
    record.rows = crate::engines::mongodb::number(answer.get("nrecords"));
    let object = format!("{}.{}", of.database, of.collection);
    let place = of
        .member
        .as_ref()
        .map(|m| format!(" on {m}"))
        .unwrap_or_default();
    let words = |key: &str| -> Vec<String> {
        let list = answer.get_array(key).map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .filter_map(Bson::as_str)
            .map(str::to_owned)
            .collect()
    };
    // Documents that do not meet the schema are whole all the same; newer
    // servers count them among the errors.
    let strangers =
        crate::engines::mongodb::number(answer.get("nNonCompliantDocuments")).unwrap_or(0);
    let corrupt = answer
        .get_array("corruptRecords")
        .is_ok_and(|records| !records.is_empty());
    let indexes = answer
        .get_document("indexDetails")
        .cloned()
        .unwrap_or_default();
    let broken = indexes
        .iter()
        .filter_map(|(_, index)| index.as_document())
        .any(|index| !index.get_bool("valid").unwrap_or(true));
    let only_strangers = strangers > 0 && !corrupt && !broken && words("errors").len() == 1;
    if only_strangers {
        tracing::debug!(strangers, "documents do not meet the schema");
    } else if !answer.get_bool("valid").unwrap_or(false) {
        let errors = words("errors").join("; ");
        findings.push(Finding {
            code: "collection.damaged".to_owned(),
            severity: Severity::Critical,
            object: object.clone(),
            message: format!("validate found damage{place}: {errors}"),
            suggestion: Some(match &of.member {
                Some(_) => "-- stop the member, empty its data folder, and let it sync anew from the others".to_owned(),
                None => "-- restore from a backup, or step down and resync this member from a healthy one".to_owned(),
            }),
        });
    } else {
        findings.extend(warned(object, &place, &words("warnings")));
    }
    Ok(())
}

/// What is to be known of warnings. A file that somebody uses at that very moment is not looked at,
/// which says nothing about it; without having found nothing, it is looked at again next time.
fn warned(object: String, place: &str, warnings: &[String]) -> Option<Finding> {
    let passing = |warning: &&String| warning.contains("transient issue");
    let (severity, message) = match warnings.iter().find(|warning| !passing(warning)) {
        _ if warnings.is_empty() => return None,
        None => (
            Severity::Info,
            format!(
                "validate could not look at all of {object}{place}, which was in use: it is looked at again next time"
            ),
        ),
        Some(_) => (
            Severity::Warning,
            format!("validate says{place}: {}", warnings.join("; ")),
        ),
    };
    Some(Finding {
        code: "collection.validate_warning".to_owned(),
        severity,
        object,
        message,
        suggestion: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_no_warning() {
        let told = |warnings: &[&str]| {
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            warned("app.a".to_owned(), " on b:1", &warnings)
        };
        let busy = "Could not complete validation of table:index-8. This is a transient issue as the collection was actively in use by other operations.";
        let found = told(&[busy, busy]).unwrap();
        assert_eq!(found.severity, Severity::Info);
        assert_eq!(
            found.message,
            "validate could not look at all of app.a on b:1, which was in use: it is looked at again next time"
        );
        let found = told(&[busy, "odd"]).unwrap();
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.message.ends_with("; odd"));
        assert_eq!(told(&[]), None);
    }
}
