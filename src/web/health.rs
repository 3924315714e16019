//! What the probes answer: whether the scheduler is alive, and whether it can do its work, which
//! are two things.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without a look at the calendar for so long, the scheduler hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// Whether the scheduler is alive, and can do its work.
pub struct Health(Mutex<Standing>);

struct Standing {
    ticked: Instant,
    trouble: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Health(Mutex::new(Standing {
            ticked: Instant::now(),
            trouble: Some("starting".to_owned()),
        }))
    }
}

impl Health {
    /// The calendar was looked at; what kept it from being done, if anything.
    pub fn ticked(&self, trouble: Option<String>) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.ticked = Instant::now();
        standing.trouble = trouble;
    }

    /// Whether the calendar is looked at.
    ///
    /// # Errors
    /// In words, for how long it has not been.
    pub fn alive(&self) -> Result<(), String> {
        let standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = standing.ticked.elapsed();
        if silent > SILENCE {
            return Err(format!(
                "the scheduler has not looked at the calendar for {} s",
                silent.as_secs()
            ));
        }
        Ok(())
    }

    /// Whether the last look succeeded.
    ///
    /// # Errors
    /// In words, why not.
    pub fn ready(&self) -> Result<(), String> {
        let standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &standing.trouble {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }
}
