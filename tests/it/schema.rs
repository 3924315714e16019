//! The JSON Schemas in `docs/schema` are those of this version.

use std::path::Path;

use crate::support::workspace::maint;

#[test]
fn the_published_schemas_are_current() {
    for name in ["schedules", "task"] {
        let output = maint().args(["schema", name]).output().unwrap();
        assert!(output.status.success());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
        if std::env::var_os("MAINT_UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &output.stdout).unwrap();
        }
        let published = std::fs::read(&path).unwrap_or_default();
        assert!(
            published == output.stdout,
            "{} is out of date: write it anew with MAINT_UPDATE_EXPECTED=1",
            path.display()
        );
    }
}
