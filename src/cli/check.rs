use super::Failure;
use super::context::Context;
use crate::report::Templates;
use crate::values::Problems;

/// Validates all files: every problem at once.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Also connect to every target
    #[arg(long)]
    connect: bool,
}

impl Check {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let (_, broken) = Templates::with_overrides(&config.folder().join("templates"));
        if !broken.is_empty() {
            return Err(Problems::new(broken).into());
        }
        let mut unreachable = Vec::new();
        if self.connect {
            for target in config.targets.values().filter(|t| t.configured) {
                if target.engine != crate::values::Engine::Postgres {
                    continue;
                }
                let dial = crate::pipeline::dial(target)?;
                if let Err(error) =
                    crate::engines::postgres::Session::open(&dial, "maint check").await
                {
                    let hint = error
                        .hint()
                        .map(|h| format!("\n  hint: {h}"))
                        .unwrap_or_default();
                    unreachable.push(format!("target `{}`: {error}{hint}", target.name));
                }
            }
        }
        if context.json() {
            let document = serde_json::json!({
                "problems": [],
                "warnings": config.warnings,
                "unreachable": unreachable,
            });
            println!("{document}");
        } else {
            println!(
                "{} is fine: {} tasks, {} targets, {} schedules",
                config.path.display(),
                config.tasks.len(),
                config.targets.len(),
                config.schedules.len()
            );
            for warning in &config.warnings {
                println!("note: {warning}");
            }
            for error in &unreachable {
                eprintln!("error: {error}");
            }
        }
        Ok(if unreachable.is_empty() { 0 } else { 3 })
    }
}
