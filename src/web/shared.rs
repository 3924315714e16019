//! One answer for all who ask at the same time.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// Something that is made anew at most once in a while, however many ask for it.
pub(super) struct Shared<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared(Mutex::new(None))
    }
}

impl<T: Clone> Shared<T> {
    /// What was made within this time, or what is made now. Others wait for it meanwhile.
    ///
    /// # Errors
    /// Those of making it; the next who asks tries again.
    pub(super) async fn get<E>(
        &self,
        within: Duration,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut known = self.0.lock().await;
        if let Some((at, made)) = known.as_ref()
            && at.elapsed() < within
        {
            return Ok(made.clone());
        }
        let made = make.await?;
        *known = Some((Instant::now(), made.clone()));
        Ok(made)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_answer() {
        let (shared, made) = (Shared::default(), AtomicU32::new(0));
        let ask = |within| {
            shared.get(within, async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(made.fetch_add(1, Ordering::Relaxed))
            })
        };
        let hour = Duration::from_secs(3600);
        let answers = futures_util::future::join_all((0..100).map(|_| ask(hour))).await;
        assert_eq!(answers, vec![Ok(0); 100]);
        assert_eq!(ask(Duration::ZERO).await, Ok(1));
        assert_eq!(ask(hour).await, Ok(1));
        let failed = shared.get(Duration::ZERO, async { Err("no") }).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(ask(hour).await, Ok(1));
    }
}
