//! How many targets are worked on at once, and how many connections a server of many databases
//! has to bear.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Limits, Target, Throttle};
use crate::execute::Stop;

/// Connections of a run besides those of its steps: what looks and holds the claim, what watches,
/// what asks how busy the server is.
const BESIDES: u32 = 3;
/// Connections of a step: its own, and for some steps one beside it.
const OF_A_STEP: u32 = 2;

/// Seats at the servers whose connections are limited, shared by all runs of this process.
static SEATS: LazyLock<Mutex<HashMap<Server, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

/// A server by its target, and how many connections it bears: another number counts anew.
type Server = (String, u32);

/// Leave to work on a target, for as long as it is kept.
#[derive(Debug, Default)]
pub struct Leave(Vec<OwnedSemaphorePermit>);

/// The targets of one task.
#[derive(Debug)]
pub struct Lanes {
    all: Arc<Semaphore>,
    of_a_server: usize,
    servers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Lanes {
    /// As many at once as these limits say.
    pub fn of(limits: &Limits) -> Lanes {
        Lanes {
            all: Arc::new(Semaphore::new(limits.targets_at_once())),
            of_a_server: limits.databases_at_once(),
            servers: Mutex::default(),
        }
    }

    /// Waits for one's turn; not any longer once the process is to stop, so that whoever waits
    /// can say that nothing was begun.
    pub async fn enter(&self, target: &Target, limits: &Limits, stop: &Stop) -> Leave {
        let mut permits = Vec::new();
        // What others wait for comes last, so that nobody holds it while waiting.
        if target.database.is_some() {
            let lane = {
                let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
                let lane = servers.entry(target.server().to_owned());
                let new = || Arc::new(Semaphore::new(self.of_a_server));
                Arc::clone(lane.or_insert_with(new))
            };
            permits.extend(permit(lane, 1, stop).await);
        }
        permits.extend(seats(target, limits, stop).await.0);
        permits.extend(permit(Arc::clone(&self.all), 1, stop).await);
        Leave(permits)
    }
}

/// Waits until the server can bear the connections that a run on this target may have.
pub async fn seats(target: &Target, limits: &Limits, stop: &Stop) -> Leave {
    let Some(most) = target.max_connections else {
        return Leave::default();
    };
    let needed = (BESIDES + OF_A_STEP.saturating_mul(jobs(target, limits))).min(most);
    let free = {
        let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
        let server = seats.entry((target.server().to_owned(), most));
        let new = || Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Arc::clone(server.or_insert_with(new))
    };
    Leave(permit(free, needed, stop).await.into_iter().collect())
}

/// How many steps a run on this target may have at work at once.
pub(super) fn jobs(target: &Target, limits: &Limits) -> u32 {
    let most = target
        .max_connections
        .map_or(u32::MAX, |most| most.saturating_sub(BESIDES) / OF_A_STEP);
    limits.jobs.clamp(1, most.max(1))
}

/// Connections of a run that has so many steps at work at once: what looks and holds the claim, what
/// watches, what asks how busy the server is where that is asked, and those of the steps.
pub(super) fn needed(jobs: u32, throttle: &Throttle) -> u32 {
    let asks = u32::from(*throttle != Throttle::default());
    jobs.saturating_add(2 + asks)
}

/// So many steps at once are left of those that are allowed where the server has room for no more
/// than so many connections besides that which holds the claim. One is always tried.
pub(super) fn fewer(jobs: u32, throttle: &Throttle, spare: Option<u32>) -> u32 {
    let besides = needed(0, throttle) - 1;
    let most = spare.map_or(u32::MAX, |spare| spare.saturating_sub(besides));
    jobs.clamp(1, most.max(1))
}

async fn permit(of: Arc<Semaphore>, count: u32, stop: &Stop) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        permit = of.acquire_many_owned(count) => permit.ok(),
        () = stop.stopping() => None,
    }
}
