//! A disk that runs full while files are written to it.

use std::fs;

use serde_json::{Value, json};

use super::{checksum, workspace};
use crate::support::servers::fresh_database;

/// A small disk of its own, on a mount nobody else sees: what is archived
/// first fills it, then it gets larger.
const SCRIPT: &str = r#"
    mount -t tmpfs -o size=200k,mode=0777 tmpfs "$1" || exit 99
    "$2" run archive --now --output json >full.json 2>full.err; echo $? >full.code
    mount -o remount,size=64m tmpfs "$1" || exit 99
    "$2" run archive --now --output json >roomy.json 2>roomy.err; echo $? >roomy.code
    "$2" archive verify >verify.txt 2>&1; echo $? >verify.code
    "$2" archive restore --into back >restore.txt 2>&1; echo $? >restore.code
    find "$1" -type f >files.txt
"#;

for_versions! {
    [pg15 = 15]
    /// What finds no room stays in the database; the next run goes on.
    async fn a_full_disk_loses_nothing(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int PRIMARY KEY, at timestamptz NOT NULL, note text);
            INSERT INTO e SELECT n, now() - interval '1 year', (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 8) i) FROM generate_series(1, 6000) n;
            INSERT INTO e SELECT -n, now(), 'young' FROM generate_series(1, 10) n; ANALYZE e").await;
        let before = checksum(&db, "SELECT * FROM e WHERE id > 0").await;
        let disk = tempfile::tempdir().unwrap();
        let options = json!({ "table": "e", "column": "at", "older_than": "90d", "batch_goal": "10ms",
            "destination": { "files": format!("file://{}", disk.path().display()) } });
        let workspace = workspace(&db, &options);
        let maint = workspace.command(["run"]).get_program().to_owned();
        let mut command = std::process::Command::new("unshare");
        // An ordinary user is root in a namespace of its own.
        let who = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
        command.args([who, "sh", "-c", SCRIPT, "sh"]).arg(disk.path()).arg(&maint).current_dir(workspace.path());
        let ended = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        let read = |name: &str| fs::read_to_string(workspace.path().join(name)).unwrap_or_default();
        assert!(ended.success(), "{ended}");
        assert_eq!(read("full.code"), "1\n", "{}{}", read("full.json"), read("full.err"));
        let full: Value = serde_json::from_str(&read("full.json")).unwrap();
        let step = &full["runs"][0]["steps"][0];
        assert!(step["error"].as_str().unwrap().contains("No space left on device"), "{full:#}");
        assert_eq!(read("roomy.code"), "0\n", "{}{}", read("roomy.json"), read("roomy.err"));
        let roomy: Value = serde_json::from_str(&read("roomy.json")).unwrap();
        let rows = |document: &Value| document["runs"][0]["rows"].as_i64().unwrap();
        assert_eq!(rows(&full) + rows(&roomy), 6000, "{full:#} {roomy:#}");
        assert_eq!(db.number("SELECT count(*) FROM e").await, 10);
        assert_eq!(read("verify.code"), "0\n", "{}", read("verify.txt"));
        assert_eq!(read("restore.code"), "0\n", "{}", read("restore.txt"));
        assert_eq!(checksum(&db, "SELECT * FROM back").await, before);
        assert!(!read("files.txt").contains(".part"), "half-written files: {}", read("files.txt"));
    }
}
