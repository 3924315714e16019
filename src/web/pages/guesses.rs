//! How often a wrong token may be tried.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens in a row before somebody has to wait.
const AT_ONCE: f64 = 10.0;
/// One more may be tried after so long.
const ONE_MORE: Duration = Duration::from_secs(6);
/// Who is remembered at most; more at once would be an attempt to fill the memory.
const MOST: usize = 4096;

/// What is left to try, by where it comes from.
#[derive(Default)]
pub(super) struct Guesses(Mutex<HashMap<Option<IpAddr>, Left>>);

#[derive(Clone, Copy)]
struct Left {
    tries: f64,
    at: Instant,
}

impl Left {
    fn now(self, now: Instant) -> f64 {
        let refilled =
            now.saturating_duration_since(self.at).as_secs_f64() / ONE_MORE.as_secs_f64();
        (self.tries + refilled).min(AT_ONCE)
    }
}

impl Guesses {
    /// Whether a token from there may be looked at; else after how long.
    pub(super) fn may_try(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = all
            .get(&network(from))
            .map_or(AT_ONCE, |left| left.now(now));
        if tries >= 1.0 {
            return Ok(());
        }
        Err(ONE_MORE.mul_f64(1.0 - tries))
    }

    /// A token from there was wrong.
    pub(super) fn was_wrong(&self, from: Option<IpAddr>, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = network(from);
        if all.len() >= MOST && !all.contains_key(&from) {
            all.retain(|_, left| left.now(now) < AT_ONCE);
            // Whoever guesses most stays known for longest.
            if all.len() >= MOST {
                let most = all
                    .iter()
                    .max_by(|a, b| a.1.now(now).total_cmp(&b.1.now(now)));
                if let Some(least_guilty) = most.map(|(from, _)| *from) {
                    all.remove(&least_guilty);
                }
            }
        }
        let tries = all.get(&from).map_or(AT_ONCE, |left| left.now(now));
        let left = Left {
            tries: (tries - 1.0).max(0.0),
            at: now,
        };
        all.insert(from, left);
    }
}

/// One customer has many IPv6 addresses: their network counts.
fn network(from: Option<IpAddr>) -> Option<IpAddr> {
    Some(match from?.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip => ip,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn from(ip: &str) -> Option<IpAddr> {
        Some(ip.parse().unwrap())
    }

    #[test]
    fn whoever_guesses_has_to_wait_and_nobody_else() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..10 {
            guesses.may_try(from("10.0.0.1"), now).unwrap();
            guesses.was_wrong(from("10.0.0.1"), now);
            // The network counts, not the address.
            guesses.was_wrong(from(&format!("2001:db8::{n}")), now);
        }
        let wait = guesses.may_try(from("10.0.0.1"), now).unwrap_err();
        assert_eq!(wait, ONE_MORE);
        assert!(guesses.may_try(from("::ffff:10.0.0.1"), now).is_err());
        assert!(guesses.may_try(from("2001:db8::ffff"), now).is_err());
        for other in [from("10.0.0.2"), from("2001:db8:0:1::1"), None] {
            guesses.may_try(other, now).unwrap();
        }
        // One at a time from then on.
        let later = now + ONE_MORE;
        guesses.may_try(from("10.0.0.1"), later).unwrap();
        guesses.was_wrong(from("10.0.0.1"), later);
        assert!(guesses.may_try(from("10.0.0.1"), later).is_err());
    }

    #[test]
    fn many_sources_do_not_fill_the_memory_or_free_the_worst() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..10 {
            guesses.was_wrong(from("10.0.0.1"), now);
        }
        for n in 0..5000_u32 {
            guesses.was_wrong(Some(IpAddr::from(n.to_be_bytes())), now);
        }
        assert!(guesses.0.lock().unwrap().len() <= MOST);
        assert!(guesses.may_try(from("10.0.0.1"), now).is_err());
    }
}
