//! The calendar: decisions, a year of them, and instances that share them.

mod calendar;
mod clocks;
mod decisions;
mod engine;
mod instances;
mod retries;
mod shared;
mod windows;
mod year;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use maint::config::Config;
use maint::history::{Ended, OccurrenceStatus, Recorder, Store};
use maint::scheduler::{Clock, Job, Outcome, Worker};

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A configuration of these schedules, with a task `analyze`.
fn config(folder: &Path, schedules: &str) -> Config {
    let file = folder.join("schedules.yaml");
    std::fs::create_dir_all(folder.join("tasks")).unwrap();
    std::fs::write(
        &file,
        format!(
            "targets:\n  app: {{ engine: postgres, url: \"postgres://127.0.0.1:1/none\" }}\nschedules:\n{schedules}"
        ),
    )
    .unwrap();
    std::fs::write(
        folder.join("tasks/analyze.yaml"),
        "kind: analyze\ntarget: app\n",
    )
    .unwrap();
    maint::config::load(&file, &maint::kinds::catalog(), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// A clock that is set by hand.
#[derive(Clone)]
struct Hands(Arc<Mutex<DateTime<Utc>>>);

impl Hands {
    fn at(now: DateTime<Utc>) -> Hands {
        Hands(Arc::new(Mutex::new(now)))
    }

    fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// Does nothing, and remembers how often it was asked to.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Done>>);

/// How often each occurrence was carried out.
type Done = BTreeMap<(String, DateTime<Utc>), u32>;

impl Worker for Tally {
    fn carry_out(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let mut done = self.0.lock().unwrap();
        *done.entry((job.schedule.name.clone(), job.at)).or_default() += 1;
        Box::pin(async move {
            Outcome::Ended(Ended {
                status: match job.catch_up {
                    true => OccurrenceStatus::CaughtUp,
                    false => OccurrenceStatus::Ran,
                },
                succeeded: Some(true),
                reason: None,
                runs: Vec::new(),
            })
        })
    }
}

/// Records runs in `store`, or nowhere: these histories do not go away.
fn recorder(store: &Arc<dyn Store>) -> Arc<Recorder> {
    let folder = std::env::temp_dir().join(format!("maint-no-spool-{}", std::process::id()));
    Arc::new(Recorder::start(Arc::clone(store), folder))
}
