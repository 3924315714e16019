//! What moves the calendar on.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::cli::Failure;

/// Longer than a tick takes on a busy machine.
const SILENT: Duration = Duration::from_secs(3);

/// One tick each second, as long as it lives.
pub(super) struct Ticks {
    queue: mpsc::Receiver<()>,
    source: JobScheduler,
    last: Instant,
}

impl Ticks {
    pub(super) async fn begin() -> Result<Ticks, Failure> {
        let failed = |error| Failure::Other(format!("the ticks cannot be set up: {error}"));
        let (send, queue) = mpsc::channel(1);
        let source = JobScheduler::new_with_channel_size(8)
            .await
            .map_err(failed)?;
        let tick = Job::new_repeated(Duration::from_secs(1), move |_, _| {
            // One that waits is enough: it will see everything.
            let _ = send.try_send(());
        });
        source.add(tick.map_err(failed)?).await.map_err(failed)?;
        source.start().await.map_err(failed)?;
        Ok(Ticks {
            queue,
            source,
            last: Instant::now(),
        })
    }

    /// Waits for the next one, which comes whatever has happened to the clock: the source counts by the
    /// wall clock, and is silent for good where the process stood still for longer than a tick, and, where the
    /// clock was set back, until that has caught up. By a clock that only goes forward it is noticed, and begun anew.
    pub(super) async fn next(&mut self) -> Result<(), Failure> {
        tokio::select! {
            Some(()) = self.queue.recv() => {}
            () = sleep_until(self.last + SILENT) => {
                tracing::info!("the ticks stood still, as after a pause of this machine or a change of its clock; they are begun anew");
                let mut old = std::mem::replace(self, Ticks::begin().await?);
                if let Err(error) = old.source.shutdown().await {
                    tracing::debug!(%error, "the old ticks could not be ended");
                }
            }
        }
        self.last = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_that_is_silent_is_begun_anew() {
        let mut ticks = Ticks::begin().await.unwrap();
        ticks.next().await.unwrap();
        // Nothing comes out of this one any more, as after a stop of the process or a clock that was set back.
        let (silent, queue) = mpsc::channel(1);
        ticks.queue = queue;
        let deadline = Duration::from_secs(60);
        let waited = "waited in vain for a tick";
        tokio::time::timeout(deadline, ticks.next())
            .await
            .expect(waited)
            .unwrap();
        assert!(silent.is_closed(), "it is the old source still");
        for _ in 0..2 {
            tokio::time::timeout(deadline, ticks.queue.recv())
                .await
                .expect(waited)
                .expect("a tick");
        }
    }
}
