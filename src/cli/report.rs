use std::path::{Path, PathBuf};

use chrono::Utc;

use super::Failure;
use super::context::Context;
use crate::config::Config;
use crate::report::{self, Asked, Pictures, Scope, Templates, compose, gather};

/// The report of a period: is all well, what was done, was it worth it?
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint report\n  maint report --period 2026-10 --html october.html\n  maint report --period 30d --output json\n  maint report --preview preview    what every message looks like"
)]
pub(super) struct Report {
    /// How far back (`7d`, `1mo`), a month (`2026-10`), or `since-last`: since
    /// the last report was mailed
    #[arg(long, default_value = "7d", value_name = "PERIOD")]
    period: Asked,
    /// Write it as a page instead
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every message with made-up data into this folder
    #[arg(long, value_name = "FOLDER")]
    preview: Option<PathBuf>,
}

impl Report {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let templates = templates(&config);
        if let Some(folder) = &self.preview {
            return preview(folder, &templates, &config);
        }
        let store = crate::history::open_existing(config.history.expose()).await?;
        let now = Utc::now();
        let (period, text) = self.period.period(now, config.timezone, None);
        let scope = Scope { period, text, now };
        let report = gather(store.as_ref(), &config, &scope).await?;
        store.close().await;
        if context.json() {
            println!("{}", serde_json::json!(report));
            return Ok(0);
        }
        let composed = compose(&report, &templates, config.timezone, Pictures::Inline)
            .map_err(|why| Failure::Other(format!("the report cannot be written: {why}")))?;
        match &self.html {
            Some(path) => {
                write(path, &composed.rendered.html)?;
                println!("{}: {}", composed.rendered.subject, path.display());
            }
            None => print!("{}", composed.rendered.text),
        }
        Ok(0)
    }
}

/// The templates with those of the configuration's folder; what is wrong with
/// them is logged, because a report with the built-in ones is better than none.
pub(super) fn templates(config: &Config) -> Templates {
    let (templates, problems) = Templates::with_overrides(&config.folder().join("templates"));
    for problem in problems {
        tracing::warn!("{problem}");
    }
    templates
}

fn preview(folder: &Path, templates: &Templates, config: &Config) -> Result<u8, Failure> {
    let unusable = |why| Failure::Other(format!("a template cannot be used: {why}"));
    let sample = report::sample::report();
    let composed =
        compose(&sample, templates, config.timezone, Pictures::Inline).map_err(unusable)?;
    let messages = [("report", composed.rendered)];
    for (name, message) in &messages {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|why| Failure::Other(format!("{} cannot be made: {why}", folder.display())))?;
        write(
            &folder.join("subject.txt"),
            &format!("{}\n", message.subject),
        )?;
        write(&folder.join("text.txt"), &message.text)?;
        write(&folder.join("html.html"), &message.html)?;
    }
    println!("{}: {} messages", folder.display(), messages.len());
    Ok(0)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|why| Failure::Other(format!("{} cannot be written: {why}", path.display())))
}
