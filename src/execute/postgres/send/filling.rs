//! Rows are read here and written there as they come, and stored once all of them are.

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::super::Job;
use super::super::added::Added;
use super::super::deferred::settle;
use super::super::gate::{self};
use super::super::lot::ExportError;
use super::super::stored::Places;
use super::super::there::{emptied_by_a_crash, names, selected};
use super::{MOST_BYTES, Sender};
use crate::engines::parquet::{Checksum, ParquetError, copy_line};
use crate::engines::postgres::first;
use crate::plan::{Range, Without, storing};
use crate::values::several;

/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;

/// Rows that were read here and wait there.
pub(super) struct Load {
    pub(super) rows: i64,
    pub(super) checksum: Checksum,
}

impl<'a> Sender<'a> {
    /// Reads the rows of a range, and writes them into the table for batches there while they
    /// come; `None` where they are too many.
    pub(super) async fn fill(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
    ) -> Result<Option<Load>, ExportError> {
        let (pieces, coming) = mpsc::unbounded_channel();
        let copy = "COPY pg_temp.maint_batch FROM STDIN";
        let copying = self
            .there
            .copy_as_it_comes("writing rows there", copy, coming);
        let reading = self.read(range, without, job, pieces);
        let (read, copied) = futures_util::future::join(reading, copying).await;
        let load = read?;
        // What was read ends early where it is not taken there, which is then said here.
        let filled = copied?;
        match load {
            Some(_) if !filled => Err(ExportError::Proof(format!(
                "nothing was deleted: the rows for {} were not taken to their end",
                self.send.into
            ))),
            load => Ok(load),
        }
    }

    /// Reads the rows of a range, and hands them on in the text format of COPY. Their end is only
    /// told where all of them were read, and are not too many.
    pub(super) async fn read(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        pieces: UnboundedSender<Option<Bytes>>,
    ) -> Result<Option<Load>, ExportError> {
        let columns = &self.send.columns;
        let query = self.walk.select(&selected(columns), range, without);
        let params = gate::bound(&query.params);
        let mut load = Load {
            rows: 0,
            checksum: Checksum::default(),
        };
        let (mut piece, mut size) = (String::new(), 0);
        let mut failed: Option<ParquetError> = None;
        let reading = job
            .session
            .stream("reading rows", &query.sql, &params, |fields| {
                load.checksum.add(columns, fields.iter().copied());
                load.rows += 1;
                if let Err(error) = copy_line(columns, fields, &mut piece) {
                    failed = Some(error);
                    return false;
                }
                if piece.len() >= PIECE {
                    size += piece.len();
                    let full = Bytes::from(std::mem::take(&mut piece));
                    if pieces.send(Some(full)).is_err() {
                        return false;
                    }
                }
                size <= MOST_BYTES
            });
        tokio::select! {
            result = reading => result?,
            () = job.execution.stop.now() => job.session.cancel().await?,
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        if size > MOST_BYTES {
            return Ok(None);
        }
        // Whoever does not listen any more says why himself.
        let _ = pieces.send(Some(Bytes::from(piece)));
        let _ = pieces.send(None);
        Ok(Some(load))
    }

    /// Stores the rows that wait there, and compares what was stored with what was read.
    pub(super) async fn store(&self, load: Load) -> Result<(), ExportError> {
        let (columns, into) = (&self.send.columns, &self.send.into);
        let names = names(columns);
        let insert = format!(
            "WITH stored AS ({} RETURNING tableoid AS leaf, ctid AS place)
            SELECT leaf::regclass::text, min(place)::text, max(place)::text FROM stored GROUP BY leaf",
            storing(into, &names, "pg_temp.maint_batch")
        );
        let held = self.there.hold().await?;
        let added = Added::of(&self.there, into).await?;
        let places = self.there.query("storing rows there", &insert, &[]).await?;
        settle(&self.there).await?;
        self.there.put_back(&held).await?;
        let (mut rows, mut checksum) = (0, Checksum::default());
        if !places.is_empty() {
            let places = Places::of(&places)?;
            let fleeting = format!("SELECT {}", places.fleeting());
            let doing = "looking how lasting the table there is";
            let answer = self.there.query(doing, &fleeting, &[]).await?;
            if first::<bool>(&answer, 0)?.unwrap_or(true) {
                return Err(emptied_by_a_crash(self.send));
            }
            let stored = places.select(&selected(columns));
            self.there
                .stream(
                    "reading back what was stored there",
                    &stored,
                    &[],
                    |fields| {
                        checksum.add(columns, fields.iter().copied());
                        rows += 1;
                        true
                    },
                )
                .await?;
        }
        if (rows, checksum) != (load.rows, load.checksum) {
            return Err(ExportError::Proof(format!(
                "nothing was deleted: {into} stored {} with checksum {checksum}, not {} with {}; a trigger or rule changes them",
                several(rows, "row"),
                load.rows,
                load.checksum
            )));
        }
        match added.more_than(&self.there, rows).await? {
            Some(why) => Err(ExportError::Proof(format!("nothing was deleted: {why}"))),
            None => Ok(()),
        }
    }
}
