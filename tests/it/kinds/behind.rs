//! Many objects behind one lock: one cause, told once, and a run that did nothing says so.

use crate::support::servers::{connect, fresh_database, wait_for_statistics};
use crate::support::workspace::Workspace;

for_oldest_and_newest! {
    /// Nine tables that one session holds are one entry of the report, with all names; and a night
    /// in which nothing was done is not "all well".
    async fn nine_tables_behind_one_lock_are_told_once(major: u32) {
        let db = fresh_database(major).await;
        for n in 1..=9 {
            db.execute(&format!(
                "CREATE TABLE t{n} (id int) WITH (autovacuum_enabled = off); INSERT INTO t{n} SELECT generate_series(1, 3000); DELETE FROM t{n}"
            )).await;
        }
        wait_for_statistics(&db.url);
        let workspace = Workspace::for_target(&db.url).task(
            "vacuum",
            "kind: vacuum\ntarget: app\noptions: { include: [\"public.*\"] }\nlimits: { lock_timeout: 200ms, lock_retries: 0, jobs: 3 }\n",
        );
        let holder = connect(&db.url).await;
        holder.batch_execute("BEGIN; LOCK TABLE t1, t2, t3, t4, t5, t6, t7, t8, t9 IN SHARE MODE").await.unwrap();
        let ran = workspace.run(["run", "vacuum", "--now"]).expect(0).stdout;
        assert!(ran.contains("nothing was done: all 18 steps were skipped"), "{ran}");
        let json = workspace.run(["report", "--output", "json"]).expect(0).json();
        let troubles = json["troubles"].as_array().unwrap();
        assert_eq!(troubles.len(), 1, "{json:#}");
        assert_eq!(troubles[0]["also_objects"].as_array().unwrap().len(), 8, "{json:#}");
        assert_eq!(troubles[0]["left"], true, "{json:#}");
        assert_eq!(json["verdict"], "watch", "{json:#}");
        let text = workspace.run(["report"]).expect(0).stdout;
        assert!(!text.contains("ALL WELL"), "{text}");
        assert!(!text.contains("\\n"), "{text}");
        assert!(text.contains("left 9 objects undone") && text.contains("8 more objects: "), "{text}");
        for n in 1..=9 {
            assert!(text.contains(&format!("public.t{n}")), "{n}: {text}");
        }
        assert_eq!(text.matches("left undone: vacuum").count(), 1, "{text}");
        let page = workspace.path().join("report.html");
        workspace.run(["report", "--html", page.to_str().unwrap()]).expect(0);
        let html = std::fs::read_to_string(&page).unwrap();
        assert_eq!(html.matches("left undone</span>").count(), 1, "{html}");
        // Once the lock is gone, the work is done, and all is well again.
        holder.batch_execute("ROLLBACK").await.unwrap();
        let ran = workspace.run(["run", "vacuum", "--now"]).expect(0).stdout;
        assert!(ran.contains("succeeded in"), "{ran}");
        let json = workspace.run(["report", "--output", "json"]).expect(0).json();
        assert_eq!(json["verdict"], "well", "{json:#}");
    }
}
