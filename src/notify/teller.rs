//! What happened becomes notices, and notices become letters.

mod alone;
mod letters;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use self::alone::Alone;
use super::pinger::Pinger;
use super::rules::{
    ESCALATED, RECOVERED, event_of, is_failure, is_overdue, notice, noticed, of_severity, outcome,
    schedule_of, word,
};
use super::{Delivery, SmtpError};
use crate::config::{Config, Event, Notify};
use crate::history::{
    Alert, CLOCKS_DIFFER, HistoryError, Notice, RunFilter, RunRecord, RunStatus, Store,
};
use crate::plan::{Finding, Memory, Severity, tells_kept_out};
use crate::report::Templates;
use crate::values::wall_clock;

/// A finding that stands is told again after so long.
const TELL_AGAIN: TimeDelta = TimeDelta::days(7);
/// So many runs before one that succeeded are looked at for since when they had failed.
const MOST_BEFORE: u32 = 100;
/// Under which kind the history remembers what was told.
const TOLD: &str = "notify";

/// Tells people what happened.
#[derive(Clone)]
pub struct Teller {
    pub(super) config: Arc<Config>,
    templates: Arc<Templates>,
    host: String,
    pub(super) pinger: Pinger,
    alone: Alone,
}

impl Teller {
    /// For this configuration, with these templates.
    pub fn new(config: Arc<Config>, templates: Templates, host: String) -> Teller {
        Teller {
            config,
            templates: Arc::new(templates),
            host,
            pinger: Pinger::default(),
            alone: Alone::default(),
        }
    }

    fn notify(&self) -> Option<&Notify> {
        self.config.notify.as_ref()
    }

    /// Notes how a run ended: what is worth telling is kept until [`Self::tell`].
    ///
    /// # Errors
    /// When the history cannot be used.
    pub async fn note(&self, store: &dyn Store, run: &RunRecord) -> Result<(), HistoryError> {
        let Some(notify) = self.notify() else {
            return Ok(());
        };
        let Some(event) = event_of(run.status) else {
            return Ok(());
        };
        let schedule = schedule_of(&self.config, &run.task, run.scheduled_for);
        let schedule = schedule.map(|schedule| schedule.name.as_str());
        let mut notices = Vec::new();
        let alert = store
            .alerts()
            .await?
            .into_iter()
            .find(|alert| alert.task == run.task && alert.target == run.target);
        if alert.is_none() && is_failure(run.status) {
            let alert = Alert {
                task: run.task.clone(),
                target: run.target.clone(),
                since: run.started_at,
                escalated_at: None,
            };
            store.put_alert(&alert).await?;
        }
        if let Some(alert) = &alert
            && run.status == RunStatus::Succeeded
            && run.part.is_none()
            && store.clear_alert(&run.task, &run.target).await?
            && tells_failures(notify)
        {
            let since = self.when(alert.since);
            let text = format!("It succeeded again; it had failed since {since}.");
            notices.push(notice(RECOVERED, run, schedule, text));
        }
        // What failed while the history was away opened no alert, and was told without one.
        if alert.is_none()
            && run.status == RunStatus::Succeeded
            && run.part.is_none()
            && tells_failures(notify)
            && let Some(since) = failing_before(store, run).await?
        {
            let since = self.when(since);
            let text = format!("It succeeded again; it had failed since {since}.");
            notices.push(notice(RECOVERED, run, schedule, text));
        }
        // A failure that lasts was told when it began, and is told again by escalation.
        let lasts = is_failure(run.status) && alert.is_some();
        if notify.on.contains(&event) && !lasts {
            notices.push(notice(word(event), run, schedule, outcome(run)));
        }
        for (event, severity) in [
            (Event::Critical, Severity::Critical),
            (Event::Warning, Severity::Warning),
        ] {
            if tells(notify, event) {
                let news = self.news(store, run, (event, severity)).await?;
                if !news.is_empty() {
                    notices.push(notice(word(event), run, schedule, news));
                }
            }
        }
        store.add_notices(&notices).await
    }

    /// What a run is worth telling, decided without a history: whether it
    /// failed before, or was told lately, is not known.
    pub fn notices_alone(&self, run: &RunRecord) -> Vec<Notice> {
        let Some(notify) = self.notify() else {
            return Vec::new();
        };
        let schedule = schedule_of(&self.config, &run.task, run.scheduled_for);
        let schedule = schedule.map(|schedule| schedule.name.as_str());
        let mut notices = Vec::new();
        if let Some(event) = event_of(run.status).filter(|event| notify.on.contains(event)) {
            notices.push(notice(word(event), run, schedule, outcome(run)));
        }
        for (event, severity) in [
            (Event::Critical, Severity::Critical),
            (Event::Warning, Severity::Warning),
        ] {
            let found = self.found(run, (event, severity));
            if !found.is_empty() {
                notices.push(notice(word(event), run, schedule, noticed(&found)));
            }
        }
        notices
    }

    /// Findings of a severity, as far as they are to be told.
    fn found<'a>(
        &self,
        run: &'a RunRecord,
        (event, severity): (Event, Severity),
    ) -> Vec<&'a Finding> {
        let mut found = of_severity(run, severity);
        let Some(notify) = self.notify() else {
            return Vec::new();
        };
        if !notify.on.contains(&event) {
            // Work that is kept out again and again is left undone, as where it fails in part.
            found.retain(|one| tells(notify, event) && tells_kept_out(&one.code));
        }
        found
    }

    /// Findings of a severity that have not been told lately.
    async fn news(
        &self,
        store: &dyn Store,
        run: &RunRecord,
        which: (Event, Severity),
    ) -> Result<String, HistoryError> {
        let found = self.found(run, which);
        if found.is_empty() {
            return Ok(String::new());
        }
        let now = wall_clock();
        let told = store.memories(&run.target, TOLD).await?;
        let key = |finding: &Finding| format!("{}:{}", finding.code, finding.object);
        let lately = |finding: &Finding| {
            told.get(&key(finding))
                .and_then(Value::as_str)
                .and_then(|at| at.parse::<DateTime<Utc>>().ok())
                // A clock that was ahead silences nothing.
                .is_some_and(|at| now - at < TELL_AGAIN && at - now <= CLOCKS_DIFFER)
        };
        let news: Vec<_> = found.into_iter().filter(|one| !lately(one)).collect();
        let memories: Vec<Memory> = news
            .iter()
            .map(|finding| Memory {
                key: key(finding),
                value: json!(now),
            })
            .collect();
        store.remember(&run.target, TOLD, now, &memories).await?;
        Ok(noticed(&news))
    }

    /// Notes what has not succeeded for several periods.
    async fn escalate(&self, store: &dyn Store, now: DateTime<Utc>) -> Result<(), HistoryError> {
        let Some(notify) = self.notify() else {
            return Ok(());
        };
        for alert in store.alerts().await? {
            let schedules: Vec<_> = self
                .config
                .schedules
                .values()
                .filter(|one| one.enabled && one.tasks.contains(&alert.task))
                .map(|one| (one, one.timezone.unwrap_or(self.config.timezone)))
                .collect();
            if !is_overdue(&alert, &schedules, notify.escalate_after, now) {
                continue;
            }
            let last = store.last_run(&alert.task, &alert.target).await?;
            let last = last.filter(|run| is_failure(run.status));
            let notice = Notice {
                id: Uuid::now_v7(),
                at: now,
                event: ESCALATED.to_owned(),
                task: alert.task.clone(),
                target: alert.target.clone(),
                schedule: schedules.first().map(|(one, _)| one.name.clone()),
                run: last.as_ref().map(|run| run.id),
                text: format!(
                    "No success since {}, for {} periods or more. {}",
                    self.when(alert.since),
                    notify.escalate_after,
                    last.as_ref().map(outcome).unwrap_or_default()
                ),
            };
            store.add_notices(&[notice]).await?;
            let told = Alert {
                escalated_at: Some(now),
                ..alert
            };
            store.put_alert(&told).await?;
        }
        Ok(())
    }

    fn when(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.config.timezone)
            .format("%a %Y-%m-%d %H:%M %Z")
            .to_string()
    }
}

/// Since when what a run does had failed right before it, if it had: all of it runs that nobody could
/// note while the history was away.
async fn failing_before(
    store: &dyn Store,
    run: &RunRecord,
) -> Result<Option<DateTime<Utc>>, HistoryError> {
    let before = RunFilter {
        task: Some(run.task.clone()),
        target: Some(run.target.clone()),
        statuses: vec![
            RunStatus::Succeeded,
            RunStatus::Incomplete,
            RunStatus::Partial,
            RunStatus::Failed,
            RunStatus::Interrupted,
        ],
        limit: Some(MOST_BEFORE),
        after: Some((run.started_at, run.id)),
        ..RunFilter::default()
    };
    let runs = store.runs(&before).await?;
    let failed = runs.iter().take_while(|one| is_failure(one.status));
    Ok(failed.last().map(|one| one.started_at))
}

/// Whether findings that go by this event are told, or some of them.
fn tells(notify: &Notify, event: Event) -> bool {
    let undone = event == Event::Warning && notify.on.contains(&Event::Partial);
    undone || notify.on.contains(&event)
}

fn tells_failures(notify: &Notify) -> bool {
    [Event::Failed, Event::Partial, Event::Interrupted]
        .iter()
        .any(|event| notify.on.contains(event))
}

/// How letters travel, as the configuration says.
///
/// # Errors
/// When the mail server's URL makes no sense.
pub fn delivery(config: &Config) -> Result<Delivery, SmtpError> {
    let smtp = match &config.smtp {
        Some(smtp) => Some((super::Smtp::new(smtp.url.expose())?, smtp.from.clone())),
        None => None,
    };
    let notify = config.notify.as_ref();
    Ok(Delivery {
        smtp,
        webhook: notify.and_then(|notify| notify.webhook.clone()),
        file: notify.and_then(|notify| notify.file.clone()),
    })
}
