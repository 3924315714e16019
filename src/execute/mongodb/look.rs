//! Questions whose answers become findings.

use mongodb::bson::{Bson, Document, doc};

use super::gate::{Ends, over, pass};
use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::Members;
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Look, Validate, shell_name, shell_text};
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
        let broken: Vec<&str> = indexes
            .iter()
            .filter(|(_, index)| {
                let valid = index.as_document().map(|index| index.get_bool("valid"));
                matches!(valid, Some(Ok(false)))
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let others = match &of.member {
            Some(member) => others(job, member).await,
            None => 0,
        };
        let damage = Damage {
            others,
            broken,
            corrupt,
        };
        findings.push(Finding {
            code: "collection.damaged".to_owned(),
            severity: Severity::Critical,
            object: object.clone(),
            message: format!("validate found damage{place}: {errors}"),
            suggestion: Some(damage.mended(&of.database, &of.collection)),
        });
    } else {
        findings.extend(warned(object, &place, &words("warnings")));
    }
    Ok(())
}

/// How many other members hold documents, and are up.
async fn others(job: Job<'_>, member: &str) -> usize {
    let members = Members::of(job.session).await.unwrap_or_default();
    let holding = members.0.iter().filter(|one| one.healthy && one.reads());
    holding.filter(|one| one.name != member).count()
}

/// What is damaged, and who could have it whole.
struct Damage<'a> {
    /// Members besides the one that was looked at.
    others: usize,
    /// Indexes.
    broken: Vec<&'a str>,
    /// Whether documents are.
    corrupt: bool,
}

impl Damage<'_> {
    /// What mends it. A server whose documents nobody else has is never to be emptied.
    fn mended(&self, database: &str, collection: &str) -> String {
        let indexes: Vec<&&str> = self.broken.iter().filter(|name| **name != "_id_").collect();
        if !self.corrupt && !indexes.is_empty() && indexes.len() == self.broken.len() {
            let shell = shell_name(database, collection);
            let drops = indexes.iter().map(|name| shell_text(name));
            let drops = drops.map(|name| format!("{shell}.dropIndex({name})"));
            return format!(
                "// only indexes are damaged: note how each is made ({shell}.getIndexes()), then drop it and make it anew: {}",
                drops.collect::<Vec<_>>().join("; ")
            );
        }
        match self.others {
            0 => "// nobody else has these documents: copy the data folder of the server first, and keep it; then restore from a backup, or write what can still be read to another server (mongodump)".to_owned(),
            _ => "// make sure that another member has the collection whole (validate it there); then stop this member, keep a copy of its data folder, empty it, and let it sync anew from the others".to_owned(),
        }
    }
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
    fn nobody_is_told_to_empty_the_only_server_that_has_the_documents() {
        let told = |others, broken: &[&'static str], corrupt| {
            let broken = broken.to_vec();
            let damage = Damage {
                others,
                broken,
                corrupt,
            };
            damage.mended("app", "a")
        };
        for broken in [&["_id_"][..], &[], &["_id_", "x_1"]] {
            let alone = told(0, broken, true);
            assert!(alone.contains("nobody else has"), "{alone}");
            assert!(!alone.contains("empty"), "{alone}");
            assert!(told(2, broken, true).contains("sync anew"));
        }
        for others in [0, 2] {
            let indexes = told(others, &["x_1"], false);
            assert!(indexes.contains("dropIndex(\"x_1\")"), "{indexes}");
            assert!(!indexes.contains("empty"), "{indexes}");
        }
    }

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
