//! Labels of enums that the other database lacks, where that is why it takes no row.

use super::super::Job;
use super::Sender;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Row, literal};

/// Columns of enums, with the labels that they may hold.
const ENUMS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, NULL),
        ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid ORDER BY e.enumsortorder)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.typtype = 'e'
    WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

impl<'a> Sender<'a> {
    /// A value that does not fit, with the label that its enum there has not: the server names neither
    /// that nor the column where it must not tell what rows hold. It stays an error about a row, so
    /// that the others go.
    pub(super) async fn with_labels(&self, error: EngineError, job: Job<'_>) -> EngineError {
        if error.sqlstate() != Some("22P02") {
            return error;
        }
        match self.lacking(job).await {
            Some(message) => EngineError::NotKept { message },
            None => error,
        }
    }

    /// Which labels a column there lacks, in words; none where all are there, or nobody can tell.
    async fn lacking(&self, job: Job<'_>) -> Option<String> {
        let doing = "comparing labels of enums";
        let (here, there) = futures_util::future::join(
            job.session.query(doing, ENUMS, &[&self.walk.oid]),
            self.there.query(doing, ENUMS, &[&self.into]),
        )
        .await;
        let read = |row: &Row| -> Option<(String, String, Vec<String>)> {
            Some((row.get(0).ok()?, row.get(1).ok()?, row.get(2).ok()?))
        };
        let here: Vec<_> = here.ok()?.iter().filter_map(read).collect();
        for (column, of_type, labels) in there.ok()?.iter().filter_map(read) {
            let ours = here.iter().find(|(name, ..)| *name == column);
            let lost: Vec<&String> = ours
                .iter()
                .flat_map(|(.., ours)| ours)
                .filter(|label| !labels.contains(label))
                .collect();
            let Some(first) = lost.first() else { continue };
            let all: Vec<String> = lost.iter().map(|label| literal(label)).collect();
            return Some(format!(
                "column {} of {} on target {} is of type {of_type}, which lacks what the column here may hold: {}; there: ALTER TYPE {of_type} ADD VALUE {}, or make the column text",
                Identifier::new(&*column),
                self.send.into,
                self.send.target,
                all.join(", "),
                literal(first)
            ));
        }
        None
    }
}
