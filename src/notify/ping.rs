//! Signs of life to a watchdog: tried a few times and never kept for later, because one that comes
//! late would be a lie.

use super::webhook;
use crate::values::with_causes;

/// What a watchdog is told, in the manner of healthchecks.io and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Work begins.
    Start,
    /// It succeeded.
    Success,
    /// It did not.
    Fail,
}

/// Tells a watchdog, which raises the alarm when it hears nothing. So nothing
/// is kept for later: a late sign of life would be a lie.
///
/// # Errors
/// Why it could not be told, after three attempts, without the URL.
pub(super) async fn ping(url: &str, signal: Signal) -> Result<(), String> {
    let client = webhook::client()?;
    let base = url.trim_end_matches('/');
    let url = match signal {
        Signal::Start => format!("{base}/start"),
        Signal::Success => base.to_owned(),
        Signal::Fail => format!("{base}/fail"),
    };
    let mut last = String::new();
    for attempt in 0..3 {
        if attempt > 0 {
            tokio::time::sleep(std::time::Duration::from_secs(attempt)).await;
        }
        last = match client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => format!("the watchdog answered {}", answer.status()),
            Err(why) => format!(
                "the watchdog is out of reach: {}",
                with_causes(&why.without_url())
            ),
        };
    }
    Err(last)
}
