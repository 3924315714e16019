//! Tries one row, and keeps none.

use super::super::Job;
use super::super::lot::ExportError;
use super::super::there::trusted;
use super::{Sender, TAKES_ROWS};
use crate::engines::EngineError;
use crate::engines::postgres::trust;
use crate::plan::{Range, Without};

impl Sender<'_> {
    /// Whether the table there takes one row as it is, by its place here. It
    /// is not kept there.
    ///
    /// # Errors
    /// Why it does not.
    pub(in crate::execute::postgres) async fn takes(
        &self,
        place: &str,
        job: Job<'_>,
    ) -> Result<(), EngineError> {
        let range = Range::Rows(vec![place.to_owned()]);
        let there = &self.there;
        there
            .execute("opening a transaction there", "BEGIN")
            .await?;
        let trusted = trusted(&self.send.target, job);
        let storing = async {
            trust::admit(there, &self.send.into, TAKES_ROWS, &trusted).await?;
            match self.fill(&range, &Without::default(), job).await? {
                Some(load) => self.store(load).await,
                None => Ok(()),
            }
        };
        let stored = storing.await;
        there.execute("rolling back there", "ROLLBACK").await?;
        match stored.map_err(ExportError::into_engine) {
            Err(error) => Err(self.with_labels(error, job).await),
            taken => taken,
        }
    }
}
