//! Tables on other servers below one of this server.

use serde_json::json;

use super::{finding, objects};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

for_each_version! {
    /// A partition that cannot be read keeps statistics of the whole from being
    /// gathered, and nothing else: that is told, and no failure.
    async fn a_partition_out_of_reach_keeps_only_the_whole(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("old.csv");
        db.execute(&format!("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
            CREATE TABLE e (id int, at date) PARTITION BY RANGE (at);
            CREATE FOREIGN TABLE e_old PARTITION OF e FOR VALUES FROM (MINVALUE) TO ('2020-01-01') SERVER files OPTIONS (filename '{}', format 'csv');
            CREATE TABLE e_new PARTITION OF e FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
            CREATE TABLE beside (id int);
            INSERT INTO e_new SELECT g, '2024-01-01' FROM generate_series(1, 2000) g; INSERT INTO beside SELECT generate_series(1, 2000)", file.display())).await;
        let workspace = Workspace::for_target(&db.url).task("work", "kind: analyze\ntarget: app\n");
        let run = || workspace.run(["run", "work", "--now", "--output", "json"]).expect(0).json();
        let statistics = "SELECT DISTINCT tablename::text FROM pg_stats WHERE schemaname = 'public' AND tablename <> 'e_old' ORDER BY 1";
        let first = run();
        assert_eq!(first["runs"][0]["status"], "succeeded", "{first:#}");
        let done = objects(&first, "analyze", "succeeded");
        assert_eq!(done.into_iter().collect::<Vec<_>>(), ["public.beside", "public.e_new"], "{first:#}");
        let told = finding(&first, "foreign.unreachable");
        assert_eq!(told["object"], "public.e");
        assert!(told["message"].as_str().unwrap().contains("public.e_old"), "{told:#}");
        assert_eq!(db.strings(statistics).await, ["beside", "e_new"]);
        // Once it can be read the whole is analyzed, and then nothing is left to do.
        std::fs::write(&file, "1,2019-01-01\n").unwrap();
        let second = run();
        assert_eq!(objects(&second, "analyze", "succeeded").into_iter().collect::<Vec<_>>(), ["public.e"], "{second:#}");
        assert_eq!(second["runs"][0]["findings"], json!([]));
        assert_eq!(db.strings(statistics).await, ["beside", "e", "e_new"]);
        assert_eq!(run()["runs"][0]["steps"], json!([]));
    }
}
