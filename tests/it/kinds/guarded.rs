//! The benchmark of the guards, with small counts: runs of every kind ended at random moments leave nothing.

use std::process::Stdio;

use serde_json::Value;

/// On one server the whole of it, few times; `MAINT_TEST_SEED` gives other moments, and
/// `scripts/bench guards` larger numbers.
#[test]
fn nothing_is_left_at_random_moments() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let seed = std::env::var("MAINT_TEST_SEED").unwrap_or_else(|_| "0".to_owned());
    let counts = [
        "--terms",
        "11",
        "--kills",
        "6",
        "--servers",
        "3",
        "--twice",
        "2",
        "--waits",
        "1",
    ];
    let measured = std::process::Command::new("python3")
        .arg(root.join("scripts/bench.d/guards"))
        .args(counts)
        // How long it takes says nothing where others are at work on the machine: only that it ends.
        .args(["--major", "18", "--seed", &seed, "--waited", "120"])
        .env("MAINT_BIN", env!("CARGO_BIN_EXE_maint"))
        .env("MAINT_BENCH_RESULTS", &results)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&measured.stdout);
    let errors = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{said}\n{errors}");
    let told: Value = serde_json::from_str(&std::fs::read_to_string(&results).unwrap()).unwrap();
    let times = |what: &str| -> Option<&str> {
        let rows = told["table"].as_array().unwrap();
        let row = rows.iter().find(|row| row[0] == what)?;
        row[1].as_str()
    };
    // As many as were asked for were ended in the middle of a run.
    assert_eq!(times("SIGTERM"), Some("11"), "{told:#}");
    assert_eq!(times("SIGKILL"), Some("6"), "{told:#}");
    assert_eq!(times("server killed"), Some("3"), "{told:#}");
    assert_eq!(times("started twice, two histories"), Some("2"), "{told:#}");
    for kind in ["reindex", "vacuum", "refresh", "archive"] {
        assert!(
            times(&format!("ACCESS EXCLUSIVE behind {kind}")).is_some(),
            "{told:#}"
        );
    }
    let wrong = "invalid, pending, lost, doubled, open, or waited too long";
    assert_eq!(times(wrong), Some("0"), "{told:#}");
}
