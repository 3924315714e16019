//! What a manifest says is not trusted: whoever can write beside the files
//! can write anything. It is looked at before anything is done for it.

use std::collections::HashSet;

use super::Manifest;
use crate::engines::parquet::{Column, Form};
use crate::plan::archived::{self, Flaw, flaw};

/// A name of PostgreSQL has at most so many bytes.
const LONGEST_NAME: usize = 63;
/// PostgreSQL has no tables with more.
const MOST_COLUMNS: usize = 1_600;
/// Far more than a type with a schema and a modifier needs.
const LONGEST_TYPE: usize = 300;

impl Manifest {
    /// Looks at everything that is used of a manifest.
    ///
    /// # Errors
    /// The first flaw found.
    pub fn examine(&self) -> Result<(), Flaw> {
        for (field, text) in [("source", &self.source), ("table", &self.table)] {
            if text.is_empty() || text.contains('\0') || text.len() > 4 * LONGEST_NAME {
                return Err(flaw(field, "is no name of a table"));
            }
        }
        if !self.transaction.bytes().all(|b| b.is_ascii_digit()) || self.transaction.len() > 20 {
            return Err(flaw("transaction", "is no id of a transaction"));
        }
        if self.rows < 0 {
            return Err(flaw("rows", "is negative"));
        }
        columns(
            &self.columns,
            self.received.is_some() || self.whole.is_some(),
        )?;
        let rows = archived::examine(&self.files, ".parquet", "Parquet")?;
        if self.received.is_none() && rows != self.rows {
            let why = format!("is {}, and the files have {rows}", self.rows);
            return Err(flaw("rows", why));
        }
        Ok(())
    }
}

fn columns(columns: &[Column], may_be_none: bool) -> Result<(), Flaw> {
    if columns.len() > MOST_COLUMNS || (columns.is_empty() && !may_be_none) {
        return Err(flaw(
            "columns",
            format!("has {}; expected 1 to {MOST_COLUMNS}", columns.len()),
        ));
    }
    let mut names = HashSet::new();
    for (n, column) in columns.iter().enumerate() {
        let at = |field: &str| format!("columns[{n}].{field}");
        let name = &column.name;
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains('\0') {
            return Err(flaw(at("name"), "is no name of a column"));
        }
        if !names.insert(name.as_str()) {
            return Err(flaw(at("name"), format!("is `{name}`, as another's")));
        }
        type_name(&column.pg_type).map_err(|why| flaw(at("pg_type"), why))?;
        let (precision, scale, most) = match column.form {
            Form::Decimal128 { precision, scale } => (precision, scale, 38),
            Form::Decimal256 { precision, scale } => (precision, scale, 76),
            _ => continue,
        };
        let fits = u8::try_from(scale).is_ok_and(|scale| scale <= precision);
        if precision == 0 || precision > most || !fits {
            let why = format!("has precision {precision} and scale {scale}, which no number has");
            return Err(flaw(at("form"), why));
        }
    }
    Ok(())
}

/// A type name that can stand in a statement once the server has read it as
/// one: no comments, which could swallow what comes behind.
fn type_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > LONGEST_TYPE {
        return Err("is no name of a type".to_owned());
    }
    let odd = text.chars().any(char::is_control)
        || ["--", "/*", "*/", ";"]
            .iter()
            .any(|part| text.contains(part));
    if odd {
        return Err("is no name of a type".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "id": "0199c0de-0000-7000-8000-000000000001", "run": "0199c0de-0000-7000-8000-000000000002",
            "maint": "0.1.0", "created_at": "2026-01-01T00:00:00Z", "settled": true,
            "source": "public.t", "table": "public.t", "condition": "at < $1", "rows": 3,
            "columns": [{ "name": "id", "pg_type": "integer", "form": "int4" },
                { "name": "n", "pg_type": "numeric(10,2)", "form": { "decimal128": { "precision": 10, "scale": 2 } } }],
            "transaction": "734", "storage": "file:///x",
            "files": [{ "path": "table=public.t/a.parquet", "rows": 3, "bytes": 900, "sha256": "ab".repeat(32),
                "checksum": "0f".repeat(16), "span": null }]
        })
    }

    fn examined(value: Value) -> Result<(), String> {
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| e.to_string())?;
        manifest.examine().map_err(|flaw| flaw.field)
    }

    #[test]
    fn flaws_are_named() {
        examined(good()).unwrap();
        for (pointer, value, field) in [
            (
                "/files/0/path",
                json!("../../etc/hostname"),
                "files[0].path",
            ),
            (
                "/files/0/path",
                json!("/etc/hostname.parquet"),
                "files[0].path",
            ),
            ("/files/0/path", json!("a/../../b.parquet"), "files[0].path"),
            ("/files/0/path", json!("a//b.parquet"), "files[0].path"),
            ("/files/0/path", json!("a\0.parquet"), "files[0].path"),
            ("/files/0/bytes", json!(1_i64 << 40), "files[0].bytes"),
            ("/files/0/bytes", json!(-1), "files[0].bytes"),
            ("/files/0/rows", json!(-1), "files[0].rows"),
            ("/files/0/sha256", json!("zz"), "files[0].sha256"),
            ("/files/0/checksum", json!("+f"), "files[0].checksum"),
            ("/columns/0/name", json!(""), "columns[0].name"),
            ("/columns/0/name", json!("n"), "columns[1].name"),
            ("/columns/0/name", json!("x".repeat(64)), "columns[0].name"),
            (
                "/columns/0/pg_type",
                json!("integer); DROP TABLE x; --"),
                "columns[0].pg_type",
            ),
            (
                "/columns/0/pg_type",
                json!("integer /* "),
                "columns[0].pg_type",
            ),
            (
                "/columns/1/form/decimal128/precision",
                json!(200),
                "columns[1].form",
            ),
            (
                "/columns/1/form/decimal128/scale",
                json!(-3),
                "columns[1].form",
            ),
            ("/columns", json!([]), "columns"),
            ("/rows", json!(4), "rows"),
            ("/source", json!("\0"), "source"),
            ("/transaction", json!("1; x"), "transaction"),
        ] {
            let mut value_of = good();
            *value_of.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(
                examined(value_of),
                Err(field.to_owned()),
                "{pointer} {value}"
            );
        }
    }

    /// Every value of a document, by its pointer.
    fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    pointers(value, &format!("{at}/{key}"), all);
                }
            }
            Value::Array(list) => {
                for (n, value) in list.iter().enumerate() {
                    pointers(value, &format!("{at}/{n}"), all);
                }
            }
            _ => {}
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            Just(json!([])),
            Just(json!({})),
            Just(json!("table=x/../../../etc/passwd.parquet")),
            Just(json!({ "decimal256": { "precision": 255, "scale": -128 } })),
        ]
    }

    proptest! {
        /// Whatever is changed: it is examined or refused, and a manifest that
        /// passes has nothing that leads out, and columns that make a file.
        #[test]
        fn nothing_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..4)) {
            let mut value = good();
            for (which, new) in changes {
                let mut all = Vec::new();
                pointers(&value, "", &mut all);
                let at = all[which.index(all.len())].clone();
                if let Some(old) = value.pointer_mut(&at) {
                    *old = new;
                }
            }
            if let Ok(manifest) = serde_json::from_value::<Manifest>(value)
                && manifest.examine().is_ok()
            {
                for file in &manifest.files {
                    prop_assert!(!file.path.split('/').any(|part| part == "..") && !file.path.starts_with('/'));
                }
                let _ = crate::engines::parquet::schema_of(&manifest.columns);
                let _ = crate::engines::parquet::rows(bytes::Bytes::from_static(b"PAR1nothing"), &manifest.columns);
            }
        }
    }
}
