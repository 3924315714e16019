//! A partition whose detachment waits for somebody until the run's time is up: its rows are not seen through its
//! table meanwhile, and that is told, with who it waited for.

use serde_json::json;

use super::outside::{options, rows, told, years};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

for_oldest_and_newest! {
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
                false => (format!("pid {pid} ("), format!("pg_terminate_backend({pid})")),
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
