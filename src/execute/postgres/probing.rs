//! Which rows of a batch do not go, tried one by one.

use super::aftermath::Before;
use super::deferred::settle;
use super::kept::{Kept, is_about_a_row};
use super::way::Way;
use super::{Job, ask};
use crate::engines::EngineError;
use crate::plan::{Fate, Query, Range, Walk, Without};

impl Kept {
    /// Tries the rows of a range one by one, and gives all of them back:
    /// which of them may not go, or may not come where they are to go?
    pub(super) async fn probe(
        &mut self,
        way: Way<'_>,
        range: &Range,
        without: &Without,
        job: Job<'_>,
    ) -> Result<Vec<String>, EngineError> {
        let session = job.session;
        session.execute("opening a transaction", "BEGIN").await?;
        let kept = match &job.step.body.guard {
            Some(guard) => guard.take(session).await,
            None => Ok(()),
        };
        let found = match kept {
            Ok(()) => self.try_each(way, range, without, job).await,
            Err(error) => Err(error),
        };
        session.execute("rolling back", "ROLLBACK").await?;
        found
    }

    async fn try_each(
        &mut self,
        way: Way<'_>,
        range: &Range,
        without: &Without,
        job: Job<'_>,
    ) -> Result<Vec<String>, EngineError> {
        let (session, walk) = (job.session, way.walk);
        let places = walk.select("ctid::text", range, without);
        let mut refused = Vec::new();
        for row in ask(session, "looking which rows are left", &places).await? {
            if job.execution.stop.is_stopping() {
                break;
            }
            let place: String = row.get(0)?;
            let alone = match walk.fate {
                Fate::Move { .. } => {
                    let range = Range::Rows(vec![place.clone()]);
                    walk.moving(&range, &Without::default(), way.image)
                }
                _ => walk.only(&place),
            };
            session.execute("trying a row", "SAVEPOINT one").await?;
            let tried = match (way.exporter, way.sender) {
                (Some(exporter), _) => exporter.takes(&place, job).await,
                (None, Some(sender)) => sender.takes(&place, job).await,
                (None, None) => Ok(()),
            };
            let tried = match tried {
                Ok(()) => alone_goes(walk, &alone, job).await,
                Err(error) => Err(error),
            };
            let back = "ROLLBACK TO SAVEPOINT one";
            session.execute("giving a row back", back).await?;
            match tried {
                Ok(()) => {}
                Err(error) if is_about_a_row(&error) => {
                    self.refuse(&place, &error);
                    refused.push(place);
                    if self.are_many() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }
}

async fn alone_goes(walk: &Walk, alone: &Query, job: Job<'_>) -> Result<(), EngineError> {
    let params = super::gate::bound(&alone.params);
    let session = job.session;
    let before = Before::of(session, walk).await?;
    session
        .execute_with("trying a row", &alone.sql, &params)
        .await?;
    settle(session).await?;
    before.compare(session, walk, 1).await
}
