//! Looking and claiming while the target fails over: what was cut short is begun again.

use std::time::Instant;

use crate::engines::EngineError;
use crate::execute::{BodyOf, Door, Stop};
use crate::plan::{AnyKind, Moment, Plan, Site};

/// What passes by itself is waited for, as long as the engine has it, and nobody stops it.
pub(super) struct Failover<'a> {
    stop: Option<&'a Stop>,
    /// When something was cut short first.
    since: Option<Instant>,
}

impl<'a> Failover<'a> {
    pub(super) fn until(stop: Option<&'a Stop>) -> Self {
        Failover { stop, since: None }
    }

    /// Whether what has failed may be begun again now; a moment has gone by then.
    pub(super) async fn passes<D: Door>(&mut self, door: &D, error: &EngineError) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let is_stopping = || self.stop.is_some_and(Stop::is_stopping);
        !is_stopping() && door.passes(error, since).await && !is_stopping()
    }

    /// Opens a session.
    pub(super) async fn open<D: Door>(
        mut self,
        door: &D,
        only_reads: bool,
    ) -> Result<D::Session, EngineError> {
        loop {
            match door.open(only_reads).await {
                Err(error) if self.passes(door, &error).await => {}
                opened => return opened,
            }
        }
    }

    /// Looks at everything, and decides.
    pub(super) async fn propose<D: Door>(
        mut self,
        door: &D,
        kind: &dyn AnyKind<D::Session>,
        site: &Site<D::Session>,
        at: &Moment,
    ) -> Result<Plan<BodyOf<D>>, EngineError> {
        loop {
            match kind.propose(site, at).await {
                Err(error) if self.passes(door, &error).await => {}
                proposed => return proposed,
            }
        }
    }
}
