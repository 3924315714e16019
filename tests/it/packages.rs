//! What packages carry: a configuration that is right, and a service that may do little.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::workspace::maint;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_configuration_of_the_package_is_right_before_anything_is_set() {
    let output = maint()
        .args(["--config", "deploy/debian/schedules.yaml", "check"])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Every file that the package takes from the repository is there.
#[test]
fn the_package_names_files_that_exist() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let assets = manifest.split("\nassets = [").nth(1).unwrap();
    let mut seen = 0;
    for line in assets.lines().skip(1).take_while(|line| *line != "]") {
        let source = line.split('"').nth(1).unwrap();
        if source.starts_with("target/package/") {
            continue;
        }
        seen += 1;
        let source = root().join(source);
        let found = match source.file_name().unwrap().to_str().unwrap() {
            pattern if pattern.starts_with('*') => std::fs::read_dir(source.parent().unwrap())
                .unwrap()
                .any(|entry| {
                    let name = entry.unwrap().file_name();
                    name.to_str()
                        .unwrap()
                        .ends_with(pattern.trim_start_matches('*'))
                }),
            _ => source.is_file(),
        };
        assert!(found, "{line}");
    }
    assert!(seen >= 5, "{assets}");
    let files = manifest.split("conf-files = [").nth(1).unwrap();
    for file in files
        .split(']')
        .next()
        .unwrap()
        .split('"')
        .filter(|f| f.starts_with('/'))
    {
        let source = file.replace("/etc/maint", "deploy/debian");
        assert!(root().join(&source).is_file(), "{file}");
    }
}

#[test]
fn both_services_are_understood_and_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    let drop_in = folder.path().join("maint.service.d");
    std::fs::create_dir(&drop_in).unwrap();
    std::fs::copy(
        root().join("deploy/hardening.conf"),
        drop_in.join("hardening.conf"),
    )
    .unwrap();
    for source in ["deploy/debian/maint.service", "deploy/maint.service"] {
        let unit = folder.path().join("maint.service");
        // What is verified exists on this machine.
        let text = std::fs::read_to_string(root().join(source)).unwrap();
        let text = text
            .replace("/usr/bin/maint", "/bin/true")
            .replace("/usr/local/bin/maint", "/bin/true");
        std::fs::write(&unit, text).unwrap();
        let verdict = analyze(&["verify", "--man=no"], &unit);
        assert_eq!(verdict.trim(), "", "{source}");
        let exposure = analyze(
            &["security", "--offline=true", "--threshold=15", "--no-pager"],
            &unit,
        );
        assert!(exposure.contains("exposure level"), "{source}: {exposure}");
    }
}

/// What systemd says of a unit; it must be content.
fn analyze(arguments: &[&str], unit: &Path) -> String {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .output()
        .expect("systemd-analyze is installed: ./scripts/packages does that");
    let mut said = String::from_utf8(output.stdout).unwrap();
    said.push_str(&String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}");
    said
}
