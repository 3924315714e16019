use std::time::{Duration, Instant};

/// Far longer than anything a test waits for takes on a busy machine.
const LONGEST: Duration = Duration::from_secs(180);

/// Waiting for something that happens by itself, but not for ever.
pub(crate) struct Patience {
    began: Instant,
    what: String,
}

impl Patience {
    /// `what` completes "waited in vain for …".
    pub(crate) fn until(what: &str) -> Patience {
        Patience {
            began: Instant::now(),
            what: what.to_owned(),
        }
    }

    /// Lets a moment pass before the next look.
    #[track_caller]
    pub(crate) fn pause(&self) -> impl Future<Output = ()> + use<> {
        self.check();
        tokio::time::sleep(Duration::from_millis(10))
    }

    /// The same where nothing else has to go on in this thread.
    #[track_caller]
    pub(crate) fn wait(&self) {
        self.check();
        std::thread::sleep(Duration::from_millis(10));
    }

    #[track_caller]
    fn check(&self) {
        let so_far = self.began.elapsed();
        assert!(
            so_far < LONGEST,
            "waited in vain for {}: {} s",
            self.what,
            so_far.as_secs()
        );
    }
}
