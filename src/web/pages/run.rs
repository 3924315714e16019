//! The page of one run, with its failures first where not all of its steps are shown.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::guard::Visit;
use super::live::at_work;
use super::{Pages, Sorry};
use crate::history::{self, RunStatus, StepStatus};
use crate::values::wall_clock;

/// More steps than anybody scrolls through; `maint show` has all.
const MOST_STEPS: usize = 500;

/// One run with its steps, statements, sizes, blockers and findings.
pub(super) async fn page(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Response, Sorry> {
    let mut run = history::run(&*pages.store, &id).await?;
    visit.errors(std::iter::once(&mut run.error));
    visit.errors(run.steps.iter_mut().map(|step| &mut step.error));
    visit.findings(run.findings.iter_mut().map(|one| &mut one.message));
    let steps = run.steps.len();
    let failed = run.steps.iter();
    let failed = failed.filter(|step| step.status == StepStatus::Failed);
    let failed = failed.count();
    // Failures first where not all are shown.
    if steps > MOST_STEPS {
        run.steps
            .sort_by_key(|step| (step.status == StepStatus::Succeeded, step.seq));
        run.steps.truncate(MOST_STEPS);
    }
    let is_running = run.status == RunStatus::Running;
    let asked = match is_running {
        true => pages.store.cancel_asked(run.id).await?,
        false => None,
    };
    let own = context! {
        run => Value::from(Serde(&run)),
        more => steps - run.steps.len(),
        all => steps,
        failed,
        word => pages.config().target(&run.target).map_or("row", |target| target.engine.counted()),
        is_running,
        asked,
        running => match is_running {
            true => at_work(&pages, Some(run.id)).await?,
            false => Value::from(Vec::<Value>::new()),
        },
        for_ms => (wall_clock() - run.started_at).num_milliseconds(),
    };
    pages.show(&visit, "run", own)
}
