//! A run on the screen: bars on a terminal, a line per step elsewhere. All
//! of it on stderr; stdout is for results.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::execute::{Event, Observer};
use crate::history::StepStatus;
use crate::report::text::{counted, human_bytes, human_duration_ms, shown};
use crate::values::Engine;

/// The bars of everything that runs at once; there are none elsewhere than on
/// a terminal.
pub(super) struct Bars(Option<MultiProgress>);

impl Bars {
    pub(super) fn new() -> Bars {
        Bars(std::io::stderr().is_terminal().then(MultiProgress::new))
    }
}

pub(super) struct Screen {
    engine: Engine,
    bars: Option<MultiProgress>,
    /// What every line begins with.
    prefix: String,
    /// Steps at work: what they are called, and their bars where there are any.
    running: Mutex<HashMap<u32, (Option<ProgressBar>, String)>>,
    total: Mutex<usize>,
}

impl Screen {
    /// `target`: where others are worked on at the same time, the name that
    /// every line begins with.
    pub(super) fn new(bars: &Bars, engine: Engine, target: Option<&str>) -> Self {
        Screen {
            engine,
            bars: bars.0.clone(),
            prefix: target.map_or_else(String::new, |target| format!("{target}: ")),
            running: Mutex::default(),
            total: Mutex::new(0),
        }
    }

    fn line(&self, text: &str) {
        let text = format!("{}{text}", self.prefix);
        match &self.bars {
            // A line that cannot be written is not worth stopping for.
            Some(bars) => drop(bars.println(text)),
            None => errln!("{text}"),
        }
    }
}

impl Observer for Screen {
    fn on(&self, event: Event<'_>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned(steps) => {
                let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
                *total += steps;
            }
            Event::Started(step) => {
                let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
                let label = format!(
                    "{}[{}/{total}] {} {}",
                    self.prefix,
                    step.seq,
                    step.action,
                    shown(&step.object)
                );
                if let Some(bars) = &self.bars {
                    let bar = bars.add(
                        ProgressBar::new_spinner().with_style(
                            ProgressStyle::with_template("{spinner} {wide_msg}")
                                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                        ),
                    );
                    bar.set_message(label.clone());
                    bar.enable_steady_tick(std::time::Duration::from_millis(200));
                    running.insert(step.seq, (Some(bar), label));
                } else {
                    errln!("{label} …");
                    running.insert(step.seq, (None, label));
                }
            }
            Event::Progress {
                seq,
                phase,
                done,
                total,
            } => {
                if let Some((Some(bar), label)) = running.get(&seq) {
                    if let Ok(total) = u64::try_from(total)
                        && total > 0
                    {
                        if bar.length() != Some(total) {
                            // The label gives way, so that a line stays a line: a spinner, a bar
                            // and what is left take the rest.
                            bar.set_style(
                                ProgressStyle::with_template(
                                    "{spinner} {wide_msg} {bar:20} {percent:>3}%{left}",
                                )
                                .unwrap_or_else(|_| ProgressStyle::default_bar())
                                .with_key("left", left),
                            );
                            bar.set_length(total);
                        }
                        bar.set_position(u64::try_from(done).unwrap_or(0));
                    }
                    bar.set_message(match phase {
                        "" => label.clone(),
                        phase => format!("{label}: {phase}"),
                    });
                }
            }
            Event::Blocked { seq, who, news } => match running.get(&seq) {
                Some((Some(bar), label)) => {
                    // A bar is cut off at the edge of the terminal, before what would help.
                    if news && let Some(bars) = &self.bars {
                        drop(bars.println(format!("{label}: {}", shown(who))));
                    }
                    bar.set_message(format!("{label}: {}", shown(who)));
                }
                Some((None, label)) if news => errln!("{label}: {}", shown(who)),
                _ => {}
            },
            Event::Waiting(step, why) => {
                self.line(&format!(
                    "    {} {}: {}",
                    step.action,
                    shown(&step.object),
                    shown(why)
                ));
            }
            Event::Finished(step) => {
                if let Some((Some(bar), _)) = running.remove(&step.seq) {
                    bar.finish_and_clear();
                }
                let mark = match step.status {
                    StepStatus::Succeeded => "done",
                    _ => step.status.as_str(),
                };
                let sizes = match (step.bytes_before, step.bytes_after) {
                    // What has stayed as it is would read as a failure.
                    (Some(before), Some(after)) if before != after => {
                        format!(", {} → {}", human_bytes(before), human_bytes(after))
                    }
                    _ => String::new(),
                };
                let what = match step.action.starts_with("vacuum") {
                    true => "dead row",
                    false => self.engine.counted(),
                };
                let rows = step
                    .rows
                    .map(|rows| format!(", {}", counted(usize::try_from(rows).unwrap_or(0), what)))
                    .unwrap_or_default();
                let why = step
                    .error
                    .as_ref()
                    .map(|e| format!(": {}", shown(e)))
                    .unwrap_or_default();
                self.line(&format!(
                    "  {mark} {} {} in {}{rows}{sizes}{why}",
                    step.action,
                    shown(&step.object),
                    human_duration_ms(step.duration_ms)
                ));
            }
        }
    }
}

/// How long it still takes; nothing before there is a pace to tell it from.
fn left(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    let paced = state.pos() > 0 && state.elapsed().as_secs() >= 1;
    if paced && state.per_sec() > 0.0 {
        let ms = i64::try_from(state.eta().as_millis()).unwrap_or(i64::MAX);
        // A closed line is no reason to stop the work that it is about.
        let _ = write!(to, " {} left", human_duration_ms(ms));
    }
}
