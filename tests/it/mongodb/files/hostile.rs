//! Whoever can write beside the files reads nothing elsewhere, makes nobody
//! wait, and passes nothing off as what was archived.

use mongodb::bson::doc;
use serde_json::{Value, json};

use super::{address, files_below, manifest_of, old_documents, run, task};
use crate::mongodb::for_base;
use crate::support::mongo::TestBase;

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_not_trusted() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 10).await;
    let folder = tempfile::tempdir().unwrap();
    let files = address(folder.path());
    let workspace = task(for_base(&base), "events", &json!({ "files": files }));
    run(&workspace, "archive", 0);
    let path = manifest_of(folder.path());
    let good: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let below = path.parent().unwrap().strip_prefix(folder.path()).unwrap();
    let below = below.to_str().unwrap();
    let pipe = folder.path().join(below).join("pipe.jsonl.zst");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for (to, name) in [("/dev/zero", "zero"), ("/etc/passwd", "out")] {
        std::os::unix::fs::symlink(to, folder.path().join(format!("{name}.jsonl.zst"))).unwrap();
    }
    // A good file of other documents, as large as a good one.
    let data = files_below(folder.path())
        .into_iter()
        .find(|f| f.ends_with(".jsonl.zst") && !f.contains("pipe"));
    let data = folder.path().join(data.unwrap());
    let content = std::fs::read(&data).unwrap();
    let mut broken = content.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(folder.path().join("broken.jsonl.zst"), &broken).unwrap();
    for (pointer, value, code, said) in [
        (
            "/files/0/path",
            json!("../../etc/hostname.jsonl.zst"),
            2,
            "files[0].path",
        ),
        (
            "/files/0/path",
            json!(format!("{below}/x.parquet")),
            2,
            "files[0].path",
        ),
        (
            "/files/0/path",
            json!(format!("{below}/pipe.jsonl.zst")),
            1,
            "no plain file",
        ),
        (
            "/files/0/path",
            json!("zero.jsonl.zst"),
            1,
            "outside of the folder",
        ),
        (
            "/files/0/path",
            json!("out.jsonl.zst"),
            1,
            "outside of the folder",
        ),
        ("/files/0/path", json!("broken.jsonl.zst"), 1, "SHA-256"),
        ("/files/0/bytes", json!(1_i64 << 50), 2, "files[0].bytes"),
        ("/files/0/bytes", json!(7), 1, "not 7 as written"),
        ("/files/0/sha256", json!("ff".repeat(32)), 1, "SHA-256"),
        ("/files/0/checksum", json!("ff".repeat(16)), 1, "checksum"),
        ("/rows", json!(11), 2, "`rows`"),
        ("/rows", json!("x"), 2, "no manifest"),
        ("/format", json!("avro"), 2, "no manifest"),
        ("/format", json!("parquet"), 2, "files[0].path"),
        ("/engine", json!("postgres"), 2, "no manifest"),
        ("/engine", json!("mysql"), 2, "`engine`"),
        ("/collection", json!("a\u{0}b"), 2, "`collection`"),
        (
            "/id",
            json!("0199c0de-0000-7000-8000-000000000001"),
            2,
            "`id`",
        ),
    ] {
        let mut manifest = good.clone();
        *manifest.pointer_mut(pointer).unwrap() = value.clone();
        std::fs::write(&path, manifest.to_string()).unwrap();
        let output = workspace.run([
            "archive", "restore", "--files", &files, "--target", "app", "--into", "back",
        ]);
        let stderr = output.expect(code).stderr;
        assert!(stderr.contains(said), "{pointer} {value}: {stderr}");
        assert_eq!(base.count("back", doc! {}).await, 0, "{pointer} {value}");
    }
    std::fs::write(&path, good.to_string()).unwrap();
    // A file whose sums were made to fit holds nothing that is no document.
    for line in ["{\"_id\":1}\n", "[]\n", "{\"$maint_bson\":\"AAAA\"}\n", "{"] {
        let packed = zstd::stream::encode_all(line.as_bytes(), 3).unwrap();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&packed);
        let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        let mut manifest = good.clone();
        manifest["files"][0]["bytes"] = json!(packed.len());
        manifest["files"][0]["sha256"] = json!(digest);
        std::fs::write(&data, &packed).unwrap();
        std::fs::write(&path, manifest.to_string()).unwrap();
        let verified = workspace.run(["archive", "verify", "--files", &files]);
        let said = verified.expect(1).stdout;
        assert!(said.contains("line 1"), "{line}: {said}");
    }
    std::fs::write(&data, &content).unwrap();
    std::fs::write(&path, good.to_string()).unwrap();
    workspace
        .run([
            "archive", "restore", "--files", &files, "--target", "app", "--into", "back",
        ])
        .expect(0);
    assert_eq!(base.count("back", doc! {}).await, 10);
}
