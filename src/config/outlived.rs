//! Tasks that take from others what those were to keep: what is deleted when it is six months old is never
//! archived when it is a year old.

use chrono::{DateTime, Utc};

use super::types::{Config, Task};
use crate::plan::{Ageing, Gone, KindInfo};

/// What is to be said of such tasks.
pub(super) fn before_their_archive(
    config: &Config,
    kinds: &[KindInfo],
    now: DateTime<Utc>,
) -> Vec<String> {
    let enabled = config.tasks.values().filter(|task| task.enabled);
    let all: Vec<(&Task, Vec<Ageing>)> = enabled
        .filter_map(|task| {
            let is = |info: &&KindInfo| info.name == task.kind && info.engine == task.engine;
            Some((task, (kinds.iter().find(is)?.ages)(&task.options)))
        })
        .collect();
    let each = || {
        let tasks = all.iter();
        tasks.flat_map(|(task, ages)| ages.iter().map(move |of| (*task, of)))
    };
    let kept = each().filter(|(_, of)| of.fate == Gone::Kept);
    let pairs = kept.flat_map(|kept| each().map(move |lost| (kept, lost)));
    let said = pairs.filter(|((keeper, kept), (taker, lost))| {
        lost.fate == Gone::Lost
            && lost.object == kept.object
            && lost.after.before(now) >= kept.after.before(now)
            && taker
                .targets
                .iter()
                .any(|target| keeper.targets.contains(target))
    });
    said.map(|((keeper, kept), (taker, lost))| {
        format!(
            "task `{}` ({}) takes all of {} that is older than {}, and task `{}` keeps it only when it is older than {}: by then nothing is left to keep. Let the archive come first, with a shorter time, or leave {} out of `{}`",
            taker.name, taker.kind, lost.object, lost.after, keeper.name, kept.after, lost.object, taker.name
        )
    })
    .collect()
}
