//! Why rows did not come back as they were archived.

use super::{Returning, Way, files};
use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, first};
use crate::values::several_do;

/// So many lost labels of an enum are named.
const MOST_LABELS: usize = 5;

/// What is said of rows with labels that an enum has lost: of a quoted column of this type, from there.
pub(in crate::execute::postgres) fn lost_labels(
    into: &RelationName,
    quoted: &str,
    pg_type: &str,
    from: &str,
    labels: &[impl AsRef<str>],
) -> EngineError {
    let labels: Vec<String> = labels
        .iter()
        .take(MOST_LABELS)
        .map(|label| format!("'{}'", label.as_ref().replace('\'', "''")))
        .collect();
    files(format!(
        "nothing was restored: column {quoted} of {into} is of type {pg_type} and does not take all values of {from}, where it is {pg_type}: it has no {}. {}",
        labels.join(", "),
        without_label(pg_type, quoted)
    ))
}

fn without_label(pg_type: &str, column: &str) -> String {
    format!(
        "The type has lost or renamed a label since: ALTER TYPE {pg_type} ADD VALUE that label, or restore into a table of yours where {column} is of type text"
    )
}

impl<'a> Returning<'a> {
    /// Why rows were not taken: a value that is none of its column's type is
    /// looked for, since the server does not name the column.
    pub(super) async fn refused(
        &self,
        error: EngineError,
        ways: &[Way],
        from: &str,
    ) -> EngineError {
        let session = self.session;
        if !error.sqlstate().is_some_and(|code| code.starts_with("22")) {
            return error;
        }
        for way in ways {
            let back = "ROLLBACK TO SAVEPOINT store";
            let doing = "looking for the column";
            if session.execute(doing, back).await.is_err() {
                return error;
            }
            let value = way.read(&way.stored);
            // As it would be stored; what is too long would be cut by this, and refused by a column.
            let sql = format!(
                "SELECT pg_catalog.count(*) FILTER (WHERE {value}::pg_catalog.text OPERATOR(pg_catalog.<>) ({value}::{})::pg_catalog.text) FROM {}",
                way.shown,
                Way::waiting(&[way])
            );
            let asked = session.query(doing, &sql, &[]).await;
            let changed: i64 = match &asked {
                Ok(rows) => first(rows, 0).ok().flatten().unwrap_or(0),
                Err(_) => 0,
            };
            let said = match (asked, self.lost_labels(way).await) {
                (Err(_), Some(labels)) => {
                    return lost_labels(self.into, &way.name, &way.shown, from, &labels);
                }
                (Err(found), None) => match found.sqlstate().unwrap_or_default() {
                    "22003" => "some are too large for it".to_owned(),
                    code => format!("SQLSTATE {code}"),
                },
                (Ok(_), _) if error.sqlstate() == Some("22001") && changed > 0 => {
                    let long = several_do(changed, "value", ("is", "are"));
                    format!("{long} too long for it")
                }
                // string_data_length_mismatch: of a type that takes one length only
                (Ok(_), _) if error.sqlstate() == Some("22026") && changed > 0 => {
                    let others = several_do(changed, "value", ("is", "are"));
                    format!("{others} of another length than it takes")
                }
                (Ok(_), _) => continue,
            };
            let help = match way.labels {
                true => without_label(&way.shown, &way.name),
                false => format!(
                    "Restore into a table of yours where {} is of a type that takes them, such as {}",
                    way.name,
                    if way.archived == way.shown {
                        "text"
                    } else {
                        &way.archived
                    }
                ),
            };
            return files(format!(
                "nothing was restored: column {} of {} is of type {} and does not take all values of {from}, where it is {}: {said}. {help}",
                way.name, self.into, way.shown, way.archived
            ));
        }
        error
    }

    /// The labels that rows wait with and their enum has not any more. Where they were archived as another
    /// type they are values of rows, which are not told.
    async fn lost_labels(&self, way: &Way) -> Option<Vec<String>> {
        if !way.labels || way.archived != way.shown {
            return None;
        }
        let (doing, session) = ("looking for lost labels", self.session);
        let back = "ROLLBACK TO SAVEPOINT store";
        session.execute(doing, back).await.ok()?;
        let sql = format!(
            "SELECT DISTINCT s.{0} FROM pg_temp.maint_back AS s
            WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_attribute a ON a.atttypid = e.enumtypid
                WHERE a.attrelid = $1::pg_catalog.oid AND a.attname::text = $2::text AND e.enumlabel::text = s.{0})
            ORDER BY 1 LIMIT {MOST_LABELS}",
            way.name
        );
        let rows = session
            .query(doing, &sql, &[&self.oid, &way.raw])
            .await
            .ok()?;
        let labels: Option<Vec<String>> = rows.iter().map(|row| row.get(0).ok()).collect();
        labels.filter(|labels| !labels.is_empty())
    }

    pub(super) fn differs(&self, given: i64, there: i64, ways: &[Way]) -> EngineError {
        let into = self.into;
        if given != there {
            return files(format!(
                "nothing was restored: of {given} archived rows {there} are in {into} as they were stored, once its triggers have run; `--disable-triggers` leaves triggers out"
            ));
        }
        let others: Vec<String> = ways
            .iter()
            .filter(|way| way.archived != way.shown)
            .map(|way| {
                format!(
                    "{} is {} there and {} in the archive",
                    way.name, way.shown, way.archived
                )
            })
            .collect();
        let why = match others.is_empty() {
            true => "a trigger changes them; `--disable-triggers` leaves triggers out".to_owned(),
            false => format!(
                "{}; give the table the types of the archive, or restore into a new one",
                others.join(", ")
            ),
        };
        files(format!(
            "nothing was restored: {into} would hold other values than the archive: {why}"
        ))
    }
}
