use clap::ValueEnum;

use super::Failure;
use crate::{config, kinds};

/// JSON Schema of the configuration files, for editors.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint schema schedules > schedules.schema.json\n  maint schema task > task.schema.json"
)]
pub(super) struct Schema {
    /// Which file
    #[arg(value_enum)]
    file: File,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// schedules.yaml
    Schedules,
    /// a file in tasks/
    Task,
}

impl Schema {
    pub(super) fn call(&self) -> Result<u8, Failure> {
        let schema = match self.file {
            File::Schedules => config::schema_for_schedules(),
            File::Task => config::schema_for_task(&kinds::catalog()),
        };
        let text =
            serde_json::to_string_pretty(&schema).map_err(|e| Failure::Other(e.to_string()))?;
        outln!("{text}");
        Ok(0)
    }
}
