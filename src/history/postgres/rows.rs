use chrono::{DateTime, SubsecRound, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::history::rows::{Cells, Plain};

/// A time as it is kept: whole milliseconds, never rounded up.
pub(super) fn time(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

impl Cells for PgRow {
    fn cell<T: Plain>(&self, column: &str) -> Result<T, Error> {
        self.try_get(column)
    }

    fn maybe_id(&self, column: &str) -> Result<Option<Uuid>, Error> {
        self.try_get(column)
    }

    fn maybe_time(&self, column: &str) -> Result<Option<DateTime<Utc>>, Error> {
        self.try_get(column)
    }
}
