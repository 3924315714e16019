use chrono::Utc;

use super::Failure;
use super::context::Context;
use crate::report::{Asked, Scope, gather};

/// The report of a period: is all well, what was done, was it worth it?
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint report\n  maint report --period 2026-10\n  maint report --period 30d --output json"
)]
pub(super) struct Report {
    /// How far back (`7d`, `1mo`), a month (`2026-10`), or `since-last`: since
    /// the last report was mailed
    #[arg(long, default_value = "7d", value_name = "PERIOD")]
    period: Asked,
}

impl Report {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let store = crate::history::open_existing(config.history.expose()).await?;
        let now = Utc::now();
        let (period, text) = self.period.period(now, config.timezone, None);
        let scope = Scope { period, text, now };
        let report = gather(store.as_ref(), &config, &scope).await?;
        println!("{}", serde_json::json!(report));
        Ok(0)
    }
}
