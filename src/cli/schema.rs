//! Hands out JSON Schemas of the files and of what commands print, generated from the types that
//! read or write them.

use clap::ValueEnum;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};

use super::{Failure, documents};
use crate::report::model::Report;
use crate::{config, kinds};

/// JSON Schema of the configuration files, for editors, and of what `--output json` prints.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint schema schedules > schedules.schema.json\n  maint schema task > task.schema.json\n  maint schema run > run.schema.json"
)]
pub(super) struct Schema {
    /// Which file, or which command
    #[arg(value_enum)]
    of: Of,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    /// schedules.yaml
    Schedules,
    /// a file in tasks/
    Task,
    /// what `maint run` prints
    Run,
    /// what `maint plan` prints
    Plan,
    /// what `maint history` prints
    History,
    /// what `maint show` prints
    Show,
    /// what `maint report` prints
    Report,
    /// what `maint next` prints
    Next,
    /// what `maint check` prints
    Check,
    /// what `maint doctor` prints
    Doctor,
    /// what `maint status` prints
    Status,
    /// what `maint advise` prints
    Advise,
    /// what `maint archive list` prints
    ArchiveList,
    /// what a command prints that ended with an error
    Error,
}

impl Of {
    /// The schema, without its name.
    fn schema(self) -> JsonSchemaOf {
        let printed = || {
            SchemaSettings::draft2020_12()
                .for_serialize()
                .into_generator()
        };
        match self {
            Of::Schedules => config::schema_for_schedules(),
            Of::Task => config::schema_for_task(&kinds::catalog()),
            Of::Run => any_of(&[
                document::<documents::Runs<'_>>,
                document::<documents::DueRuns<'_>>,
                document::<documents::plans::Plans<'_>>,
            ]),
            Of::Plan => any_of(&[
                document::<documents::plans::Plans<'_>>,
                document::<documents::Saved<'_>>,
                document::<documents::Checked<'_>>,
            ]),
            Of::Show => any_of(&[
                document::<documents::Show<'_>>,
                document::<documents::ShowStep<'_>>,
            ]),
            Of::History => printed().into_root_schema_for::<documents::History<'_>>(),
            Of::Report => printed().into_root_schema_for::<Report>(),
            Of::Next => printed().into_root_schema_for::<documents::Next<'_>>(),
            Of::Check => printed().into_root_schema_for::<documents::Check<'_>>(),
            Of::Doctor => printed().into_root_schema_for::<documents::Doctor<'_>>(),
            Of::Status => printed().into_root_schema_for::<documents::Status<'_>>(),
            Of::Advise => printed().into_root_schema_for::<documents::Advice<'_>>(),
            Of::ArchiveList => printed().into_root_schema_for::<documents::Archives<'_>>(),
            Of::Error => printed().into_root_schema_for::<documents::Error<'_>>(),
        }
    }
}

fn document<T: JsonSchema>(generator: &mut SchemaGenerator) -> JsonSchemaOf {
    generator.subschema_for::<T>()
}

/// The schema of a command that prints one of several documents, by its options.
fn any_of(documents: &[fn(&mut SchemaGenerator) -> JsonSchemaOf]) -> JsonSchemaOf {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let each: Vec<_> = documents.iter().map(|of| of(&mut generator)).collect();
    let definitions = generator.take_definitions(true);
    json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "anyOf": each,
        "$defs": definitions,
    })
}

impl Schema {
    pub(super) fn call(&self) -> Result<u8, Failure> {
        let of = self.of.to_possible_value();
        let name = of.as_ref().map_or("", |value| value.get_name());
        let mut schema = self.of.schema();
        if !matches!(self.of, Of::Schedules | Of::Task) {
            schema = config::schema_with_id(schema, name);
            let title = format!("maint {} --output json", name.replace('-', " "));
            schema.insert("title".to_owned(), title.into());
        }
        let text =
            serde_json::to_string_pretty(&schema).map_err(|e| Failure::Other(e.to_string()))?;
        outln!("{text}");
        Ok(0)
    }
}
