//! A partition whose detachment waits for somebody until the run's time is up: its rows are not seen through its
//! table meanwhile, and that is told, with who it waited for.

use serde_json::json;

use super::outside::{exists, half_out_of, mark, options, rows, run, told, years};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

for_versions! {
    [pg15 = 15]
    /// While it waits it says for whom; then the run has failed and says which partition hangs, with how many
    /// rows, and what ends that. The next run finishes it.
    async fn whoever_holds_up_a_detachment_is_named(major: u32) {
        for (kind, prepared) in [("cleanup", true), ("archive", true), ("partitions", false)] {
            let db = fresh_database(major).await;
            years(&db).await;
            db.execute("DROP TABLE ev_2019, ev_2021; ANALYZE").await;
            let folder = tempfile::tempdir().unwrap();
            let yaml = format!("kind: {kind}\ntarget: app\noptions: {}\nlimits: {{ jobs: 1, lock_timeout: 300ms, lock_retries: 1, budget: 4s }}\n",
                options(kind, folder.path(), &json!({})));
            let workspace = Workspace::for_target(&db.url).task(kind, &yaml);
            let holder = db.connect().await;
            let gid = format!("held {}", db.name);
            let end = match prepared {
                true => format!("ROLLBACK PREPARED '{gid}'"),
                false => "ROLLBACK".to_owned(),
            };
            holder.batch_execute("BEGIN; SELECT count(*) FROM ev_now; INSERT INTO ev VALUES (1001, now(), 'new')").await.unwrap();
            if prepared {
                holder.batch_execute(&format!("PREPARE TRANSACTION '{gid}'")).await.unwrap();
            }
            let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            let output = workspace.run(["run", kind, "--now"]).expect(1);
            let run = workspace.run(["show", "last", "--output", "json"]).expect(0).json()["runs"][0].clone();
            let (who, help) = match prepared {
                true => (format!("the prepared transaction '{gid}'"), end.clone()),
                false => (format!("pid {pid} ("), format!("pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.pid = {pid} AND a.backend_start < ")),
            };
            let waits = |line: &&str| line.contains("public.ev_2020: waits since") && line.contains(&who);
            assert!(output.stderr.lines().any(|line| waits(&line)), "{kind}: {}", output.stderr);
            let finding = told(&run, "partitions.outside");
            let message = finding["message"].as_str().unwrap();
            assert_eq!((finding["object"].as_str(), finding["severity"].as_str()), (Some("public.ev_2020"), Some("critical")), "{run:#}");
            for part in ["the detachment of public.ev_2020 from public.ev was begun and is not finished", "About 100 rows are outside", "The next run goes on", &who, &help] {
                assert!(message.contains(part), "{kind}: {part}: {message}");
            }
            let step = &run["steps"][0];
            assert_eq!((step["object"].as_str(), step["status"].as_str()), (Some("public.ev_2020"), Some("failed")), "{run:#}");
            assert_eq!(rows(&db, "ev").await, 1, "{kind}");
            holder.batch_execute(&end).await.unwrap();
            // This kind judges what it has detached anew before it drops it.
            for _ in 0..if kind == "partitions" { 2 } else { 1 } {
                let run = workspace.run(["run", kind, "--now", "--output", "json"]).expect(0).json()["runs"][0].clone();
                assert!(run["findings"].as_array().unwrap().iter().all(|f| f["code"] != "partitions.outside"), "{run:#}");
            }
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_2020'").await, 0, "{kind}");
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// A run that does not get as far as what an earlier one has left half out tells of it again, each time; the
    /// one that finishes it does not.
    async fn what_is_half_out_is_told_until_it_is_whole(major: u32) {
        for kind in ["cleanup", "archive", "partitions"] {
            let db = fresh_database(major).await;
            years(&db).await;
            db.execute("DROP TABLE ev_2019, ev_2021").await;
            let folder = tempfile::tempdir().unwrap();
            let pause = folder.path().join("pause");
            let yaml = format!("kind: {kind}\ntarget: app\noptions: {}\nthrottle: {{ pause_file: {} }}\nlimits: {{ jobs: 1, budget: 2s }}\n",
                options(kind, folder.path(), &json!({})), pause.display());
            let workspace = Workspace::for_target(&db.url).task(kind, &yaml);
            mark(&db, &workspace, kind).await;
            half_out_of(&db, "ev", "ev_2020").await;
            std::fs::write(&pause, "").unwrap();
            for _ in 0..2 {
                let paused = run(&workspace, kind, 0);
                let steps = paused["steps"].as_array().unwrap();
                assert!(!steps.is_empty() && steps.iter().all(|s| s["status"] == "deferred"), "{kind}: {paused:#}");
                let finding = told(&paused, "partitions.outside");
                assert_eq!((finding["object"].as_str(), finding["severity"].as_str()), (Some("public.ev_2020"), Some("critical")), "{paused:#}");
                assert!(finding["message"].as_str().unwrap().contains("was begun and is not finished"), "{paused:#}");
                assert!(finding["suggestion"].as_str().unwrap().contains(" FINALIZE; ALTER TABLE public.ev ATTACH PARTITION "), "{paused:#}");
                assert_eq!((rows(&db, "ev").await, rows(&db, "ev_2020").await), (1, 100));
            }
            std::fs::remove_file(&pause).unwrap();
            for _ in 0..if kind == "partitions" { 2 } else { 1 } {
                let done = run(&workspace, kind, 0);
                assert!(done["findings"].as_array().unwrap().iter().all(|f| f["code"] != "partitions.outside"), "{kind}: {done:#}");
            }
            assert!(!exists(&db, "ev_2020").await, "{kind}");
            assert_eq!(run(&workspace, kind, 0)["steps"], json!([]), "{kind}");
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// A default partition that somebody adds meanwhile keeps nobody from finishing it: the server would not
    /// detach it a second time.
    async fn what_is_half_out_is_finished_beside_a_default_partition(major: u32) {
        for kind in ["cleanup", "archive", "partitions"] {
            let db = fresh_database(major).await;
            years(&db).await;
            db.execute("DROP TABLE ev_2019, ev_2021").await;
            let folder = tempfile::tempdir().unwrap();
            let yaml = format!("kind: {kind}\ntarget: app\noptions: {}\n", options(kind, folder.path(), &json!({})));
            let workspace = Workspace::for_target(&db.url).task(kind, &yaml);
            mark(&db, &workspace, kind).await;
            half_out_of(&db, "ev", "ev_2020").await;
            db.execute("CREATE TABLE ev_rest PARTITION OF ev DEFAULT; INSERT INTO ev VALUES (1001, '1999-01-01', 'keep')").await;
            for _ in 0..if kind == "partitions" { 2 } else { 1 } {
                run(&workspace, kind, 0);
            }
            assert!(!exists(&db, "ev_2020").await, "{kind}");
            assert_eq!(rows(&db, "ev_now").await, 1, "{kind}");
        }
    }
}
