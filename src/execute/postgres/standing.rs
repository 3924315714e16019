//! The transaction of a batch begins under a lock that keeps the table as it is, and with a look whether
//! that is how the plan saw it: whoever detaches a partition, or has a foreign key take rows along, may
//! have waited for the batch before.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Job;
use super::gate::{self, Halt, Outcome};
use crate::engines::EngineError;
use crate::plan::Walk;

/// Opens the transaction of a batch by `begin`, and takes the lock: before any question, as a lock that has to
/// be waited for would make the snapshot an old one. It is rolled back again where there is an error.
pub(super) async fn open(
    begin: &str,
    walk: &Walk,
    job: Job<'_>,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<()> {
    let (session, execution) = (job.session, job.execution);
    if walk.stands.is_none() {
        let begun = session.execute("opening a transaction", begin).await;
        return begun.map(drop).map_err(Halt::Failed);
    }
    let left = gate::time_left(execution, step_ends)?;
    let limits = gate::limits(execution.limits.lock_timeout.get(), left);
    let sql = format!("{begin}; {limits}; {}", walk.lock());
    let opening = session.execute("opening a transaction", &sql);
    let opened = gate::until_stopped(session, opening, execution, step_ends, give_way).await;
    if let Err(error) = opened {
        let rolled_back = session.execute("rolling back", "ROLLBACK").await;
        let halt = gate::judge(error, execution, step_ends, give_way);
        return match rolled_back {
            Ok(_) => Err(halt),
            Err(error) => Err(Halt::Failed(error)),
        };
    }
    Ok(())
}

/// Looks whether the table is what the plan saw, in the transaction that is open, once all locks are there.
pub(super) async fn look(
    walk: &Walk,
    job: Job<'_>,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<()> {
    let Some(stands) = &walk.stands else {
        return Ok(());
    };
    let answer = gate::ask(job.session, stands, job.execution, step_ends, give_way).await?;
    let Some(row) = answer.first() else {
        return Err(Halt::Vanished(format!("{} has vanished", walk.table)));
    };
    let failed = |message| Err(Halt::Failed(EngineError::Files { message }));
    if !row.named("is_named_so").map_err(Halt::Failed)? {
        return Err(Halt::Vanished(format!(
            "{} goes by another name now, or is gone, and what has its name is another table: nothing more goes",
            walk.table
        )));
    }
    if !row.named("is_a_part").map_err(Halt::Failed)? {
        return Err(Halt::Vanished(format!(
            "{} is no part of its table any more: somebody detached it while its rows were gone through, and it is left alone",
            walk.table
        )));
    }
    if !row.named("has_its_columns").map_err(Halt::Failed)? {
        return failed(format!(
            "the columns of {} have changed since the plan was made, so that what is stored would not be all of each row, or be read as another type: nothing more goes; run the task again, and it stores what they are now",
            walk.table
        ));
    }
    match row.named("takes_along").map_err(Halt::Failed)? {
        None => Ok(()),
        Some::<String>(key) => failed(format!(
            "the foreign key {key} has come since the plan was made, and would delete or change rows that nobody planned to: nothing more of {} goes; run the task again, and it says what that key does",
            walk.table
        )),
    }
}
