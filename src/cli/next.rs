use chrono::Utc;

use super::Failure;
use super::context::Context;
use crate::report::text::{Align, Cell, Columns, Cut};

/// Upcoming occurrences, soonest first.
#[derive(Debug, clap::Args)]
pub(super) struct Next {
    /// How many of each schedule
    #[arg(long, default_value_t = 1)]
    count: usize,
}

impl Next {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let mut occurrences = Vec::new();
        for schedule in config.schedules.values().filter(|s| s.enabled) {
            let zone = schedule.timezone.unwrap_or(config.timezone);
            let mut after = Utc::now();
            for _ in 0..self.count {
                let Some(at) = schedule.cron.next_after(after, zone) else {
                    break;
                };
                occurrences.push((at, zone, schedule));
                after = at;
            }
        }
        occurrences.sort_by_key(|(at, _, schedule)| (*at, schedule.name.clone()));
        if context.json() {
            let list: Vec<_> = occurrences
                .iter()
                .map(|(at, _, s)| {
                    serde_json::json!({ "schedule": s.name, "at": at, "tasks": s.tasks })
                })
                .collect();
            println!("{}", serde_json::json!({ "next": list }));
            return Ok(0);
        }
        if occurrences.is_empty() {
            println!("nothing is scheduled: no schedule of the configuration is enabled");
            return Ok(0);
        }
        let mut table = Columns::new()
            .column("when", Align::Left, Cut::Never)
            .column("schedule", Align::Left, Cut::Never)
            .column("tasks", Align::Left, Cut::End);
        for (at, zone, schedule) in &occurrences {
            table.row([
                Cell::from(
                    &at.with_timezone(zone)
                        .format("%a %Y-%m-%d %H:%M %Z")
                        .to_string(),
                ),
                Cell::from(&schedule.name),
                Cell::from(&schedule.tasks.join(", ")),
            ]);
        }
        print!("{}", table.render(0, &context.style(config.timezone)));
        Ok(0)
    }
}
