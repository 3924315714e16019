//! Where documents are kept, as a task says it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::cleanup::rule::fit;
use crate::engines::mongodb::{Field, FieldType};
use crate::engines::storage::check_address;
use crate::plan::mongodb::{Format, fields};

/// Where documents are kept: in `files`, or in a collection, of which at least one of
/// `collection`, `database` and `target` has to differ from where they come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Into {
    /// The collection; made where it does not exist. By default of the same name.
    #[serde(default)]
    pub(super) collection: Option<String>,
    /// Its database; by default the one that the target's `url` names.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// Another target, whose server keeps them.
    #[serde(default)]
    #[schemars(extend("format" = "maint-target"))]
    pub(super) target: Option<String>,
    /// Files below `file:///folder` or `s3://bucket/prefix`. Credentials for S3 come from the
    /// environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`.
    #[serde(default)]
    pub(super) files: Option<String>,
    /// How files are written.
    #[serde(default)]
    pub(super) format: Option<Format>,
    /// Top-level fields that get a column of their own in Parquet files, and their types. A value
    /// of another type is only in the whole document, which every row has.
    #[serde(default)]
    pub(super) columns: BTreeMap<String, FieldType>,
    /// Which columns Parquet files have: by default those declared under `columns`, and where none
    /// are, those that a sample of the documents suggests.
    #[serde(default)]
    pub(super) schema: Option<Columns>,
}

/// Where the columns of Parquet files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Columns {
    /// Those under `columns` and no others.
    Declared,
    /// Those under `columns`, and one for each other field that a sample of the documents has.
    Sample,
}

impl Into {
    /// Whether documents are looked at for columns.
    pub(super) fn samples(&self) -> bool {
        let default = match self.columns.is_empty() {
            true => Columns::Sample,
            false => Columns::Declared,
        };
        self.format == Some(Format::Parquet) && self.schema.unwrap_or(default) == Columns::Sample
    }

    pub(super) fn columns(&self) -> Vec<Field> {
        let field = |(name, kind): (&String, &FieldType)| Field {
            name: name.clone(),
            kind: *kind,
        };
        self.columns.iter().map(field).collect()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let collection = self.collection.as_deref();
        fit(
            "collection",
            collection.unwrap_or("its own"),
            self.database.as_deref(),
        )?;
        let Some(url) = &self.files else {
            if self.format.is_some() || !self.columns.is_empty() || self.schema.is_some() {
                return Err("`format`, `columns` and `schema` say how `files` are written, and the `destination` has none".to_owned());
            }
            return Ok(());
        };
        if self.collection.is_some() || self.database.is_some() || self.target.is_some() {
            return Err(
                "the `destination` names `files` and a collection; documents go to one of them"
                    .to_owned(),
            );
        }
        check_address(url).map_err(|why| why.to_string())?;
        let columns = !self.columns.is_empty() || self.schema.is_some();
        if columns && self.format != Some(Format::Parquet) {
            return Err("`columns` and `schema` are for `format: parquet`".to_owned());
        }
        fields(&self.columns()).map_err(|(_, why)| format!("a name in `columns` {why}"))
    }
}
