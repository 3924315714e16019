//! Whether the history is away just now, so that nobody waits for it in vain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::LONG;

/// How long a history that did not answer is not asked again.
const AWAY_FOR: Duration = Duration::from_secs(30);

/// Until when the history is left alone, because somebody has waited for it in vain: known
/// to who asks and to who writes, so that a history that says nothing is waited for once.
#[derive(Clone, Default)]
pub(super) struct Away(Arc<Mutex<Option<(Instant, bool)>>>);

impl Away {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After having waited for so long.
    pub(super) fn begins(&self, waited: Duration) {
        *self.lock() = Some((Instant::now() + AWAY_FOR, waited >= LONG));
    }

    pub(super) fn ends(&self) {
        *self.lock() = None;
    }

    /// None once it may be asked again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.lock()
            .map(|(until, _)| until)
            .filter(|until| Instant::now() < *until)
    }

    /// The same where it says nothing: one that says no at once costs nobody time.
    pub(super) fn silent_until(&self) -> Option<Instant> {
        let silent = self.lock().filter(|(_, silent)| *silent);
        silent
            .map(|(until, _)| until)
            .filter(|until| Instant::now() < *until)
    }
}
