//! Whether the relations of the next steps still go by their names, asked for many at once: with
//! thousands of small objects, a question for each would take longer than the work.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::catalog::ALL_STILL_THERE;
use crate::plan::{Place, Step, There};

/// An older answer is of no use: it is asked again.
const FRESH: Duration = Duration::from_secs(1);

/// So many are asked for at once.
const AT_ONCE: usize = 64;

/// What was answered before it was needed. An answer is used once: whoever asks again, asks because
/// something has happened.
#[derive(Default)]
pub(super) struct Ahead(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Those of the plan, in its order: the number of the step, where it is done, and of what.
    all: Vec<(u32, Place, There)>,
    /// How far they were asked for.
    asked: HashSet<u32>,
    /// When it was asked, and what was answered, by the number of the step.
    answers: HashMap<u32, (Instant, bool)>,
}

impl Ahead {
    /// Notes what the steps of a plan will ask for.
    pub(super) fn coming(&self, steps: &[Step]) {
        let of = |step: &Step| {
            let condition = step.body.only_if.as_ref()?;
            Some((step.seq, step.place, condition.there.clone()?))
        };
        *self.known() = Known {
            all: steps.iter().filter_map(of).collect(),
            ..Known::default()
        };
    }

    /// Whether the relation of this step goes by its name.
    pub(super) async fn is_there(
        &self,
        session: &Session,
        step: &Step,
        there: &There,
    ) -> Result<bool, EngineError> {
        let mut these = vec![(step.seq, there.clone())];
        {
            let mut known = self.known();
            let answer = known.answers.remove(&step.seq);
            if let Some((_, true)) = answer.filter(|(at, _)| at.elapsed() < FRESH) {
                return Ok(true);
            }
            let first = known.asked.insert(step.seq);
            if first {
                these.extend(known.next(step));
            }
        }
        let asked_at = Instant::now();
        let ids: Vec<u32> = these.iter().map(|(_, there)| there.oid).collect();
        let schemas = names(&these, |there| there.name.schema.raw());
        let relations = names(&these, |there| there.name.relation.raw());
        let doing = "looking whether it is still needed";
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&ids, &schemas, &relations];
        let answers = session.query(doing, ALL_STILL_THERE, &params).await?;
        let mut own = false;
        let mut known = self.known();
        for (n, ((seq, _), row)) in these.iter().zip(&answers).enumerate() {
            let there = row.get::<Option<bool>>(0)? == Some(true);
            if n == 0 {
                own = there;
            } else {
                known.answers.insert(*seq, (asked_at, there));
            }
        }
        Ok(own)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Those behind this step, in the same place, that nobody has asked for.
    fn next(&mut self, step: &Step) -> Vec<(u32, There)> {
        let behind = self.all.partition_point(|(seq, ..)| *seq <= step.seq);
        let mut next = Vec::new();
        for (seq, place, there) in &self.all[behind..] {
            if next.len() + 1 >= AT_ONCE {
                break;
            }
            if *place == step.place && self.asked.insert(*seq) {
                next.push((*seq, there.clone()));
            }
        }
        next
    }
}

fn names<'a>(these: &'a [(u32, There)], name: impl Fn(&'a There) -> &'a str) -> Vec<&'a str> {
    these.iter().map(|(_, there)| name(there)).collect()
}
