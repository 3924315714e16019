//! Rows of a range become files, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::Job;
use super::super::gate;
use super::super::lot::{ExportError, beside_it, sha256};
use super::super::parts::{Part, Parts, add, shown};
use super::Exporter;
use crate::engines::parquet::{Column, ParquetError};
use crate::engines::postgres::Identifier;
use crate::plan::{ArchivedFile, Manifest, Range, Without, folder_key};

/// After so many bytes of values it is looked how large they have become.
const LOOK_BYTES: usize = 1 << 20;

/// All files of a batch together: they are held in memory until proved.
const MOST_BYTES: usize = 24 << 20;

/// What readers take for no value.
const NOWHERE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file of the batch, not yet written.
pub(in crate::execute::postgres) struct File {
    pub(in crate::execute::postgres) entry: ArchivedFile,
    pub(super) content: Bytes,
}

impl<'a> Exporter<'a> {
    /// What is selected of each row.
    pub(in crate::execute::postgres) fn selected(&self) -> String {
        let quoted = |c: &Column| Identifier::new(&*c.name).to_string();
        let columns = self.export.columns.iter();
        let what: Vec<String> = columns.map(|c| c.selected(&quoted(c))).collect();
        what.join(", ")
    }

    /// The rows of a range as files of this name; `None` where they would be too large.
    pub(in crate::execute::postgres) async fn read(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        name: &str,
    ) -> Result<Option<Vec<File>>, ExportError> {
        match self.fetch(range, without, job).await? {
            Some(parts) => self.finish(parts, name).await.map(Some),
            None => Ok(None),
        }
    }

    /// The rows of a range; `None` where they would be too large.
    pub(super) async fn fetch(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
    ) -> Result<Option<Parts>, ExportError> {
        let columns = &self.export.columns;
        let query = self.walk.select(&self.selected(), range, without);
        let mut parts: BTreeMap<Option<(i32, u32)>, Part> = BTreeMap::new();
        let mut failed = None;
        let mut too_many = false;
        let mut seen = 0;
        let params = gate::bound(&query.params);
        let reading = job
            .session
            .stream("reading rows", &query.sql, &params, |fields| {
                match add(self.export, columns, &mut parts, fields) {
                    Ok(()) => {}
                    Err(error) => {
                        failed = Some(error);
                        return false;
                    }
                }
                seen += 64 + fields.iter().flatten().map(|f| f.len()).sum::<usize>();
                if seen >= LOOK_BYTES {
                    seen = 0;
                    let size: usize = parts.values().map(|p| p.writer.size()).sum();
                    too_many = size > MOST_BYTES;
                }
                !too_many
            });
        tokio::select! {
            result = reading => result?,
            () = job.execution.stop.now() => {
                // The transaction is rolled back, and the rest of the answer with it.
                job.session.cancel().await?;
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        Ok((!too_many).then_some(Parts(parts)))
    }

    /// Rows as files of this name.
    pub(super) async fn finish(&self, parts: Parts, name: &str) -> Result<Vec<File>, ExportError> {
        let columns = &self.export.columns;
        let mut files = Vec::new();
        let (year, month_key) = (folder_key("year", columns), folder_key("month", columns));
        for (month, part) in parts.0 {
            let finished = beside_it(move || {
                let (content, rows, checksum) = part.writer.finish()?;
                let digest = sha256(&content);
                Ok::<_, ParquetError>((content, rows, checksum, digest))
            });
            let (content, rows, checksum, sha256) = finished.await??;
            let when = match month {
                Some((y, m)) => format!("{year}={y:04}/{month_key}={m:02}/"),
                None if self.export.month.is_some() => {
                    format!("{year}={NOWHERE}/{month_key}={NOWHERE}/")
                }
                None => String::new(),
            };
            let span = part.span.map(|(a, b)| (shown(a), shown(b)));
            files.push(File {
                entry: ArchivedFile {
                    path: format!(
                        "{}{when}{name}.parquet",
                        Manifest::folder_of(&self.export.source, columns)
                    ),
                    rows,
                    bytes: i64::try_from(content.len()).unwrap_or(i64::MAX),
                    sha256,
                    checksum: checksum.to_string(),
                    span,
                },
                content: content.into(),
            });
        }
        Ok(files)
    }
}
