//! What happens during a run, told to whoever shows it; telling must not hold up the work.

use crate::history::StepRecord;

/// What happens during a run, for whoever shows it.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A plan of so many steps is about to be carried out.
    Planned(usize),
    /// A step begins.
    Started(&'a StepRecord),
    /// A step has come this far.
    Progress {
        /// Which step.
        seq: u32,
        /// What the server calls the present phase.
        phase: &'a str,
        /// Blocks or rows done.
        done: i64,
        /// Of how many; 0 where the server does not say.
        total: i64,
    },
    /// A step waits for somebody just now. Told again and again for as long as it does;
    /// after that comes `Progress`.
    Blocked {
        /// Which step.
        seq: u32,
        /// For whom, since when.
        who: &'a str,
        /// Whether it has only just begun to wait.
        news: bool,
    },
    /// A step cannot go on now; the text says why and what follows.
    Waiting(&'a StepRecord, &'a str),
    /// A step has ended.
    Finished(&'a StepRecord),
}

/// Is told what happens, and must return quickly.
pub trait Observer: Send + Sync {
    /// Takes note.
    fn on(&self, event: Event<'_>);
}

/// Shows nothing.
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _event: Event<'_>) {}
}
