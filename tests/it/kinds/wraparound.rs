//! A rebuild never stands in the way of the vacuum that keeps the server alive.

use std::process::Stdio;

use crate::support::patience::Patience;
use crate::support::servers::private_cluster;
use crate::support::workspace::Workspace;

for_oldest_and_newest! {
    async fn a_rebuild_gives_way_to_a_vacuum_against_wraparound(major: u32) {
        // A hundred thousand transactions are as many as the server lets us ask for.
        let cluster = private_cluster(major, &[
            ("autovacuum_freeze_max_age", "100000"), ("autovacuum_naptime", "1s"), ("log_autovacuum_min_duration", "0"),
        ]);
        let url = cluster.url("postgres");
        let connect = || async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        };
        let client = connect().await;
        client.batch_execute("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 20000);
            CREATE INDEX t_id ON t (id); DELETE FROM t WHERE id % 5 <> 0;
            CREATE PROCEDURE burn() LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..110000 LOOP
                PERFORM txid_current(); COMMIT; END LOOP; END $$").await.unwrap();
        client.batch_execute("VACUUM (FREEZE, ANALYZE) t").await.unwrap();
        // It is shown nothing of what sessions of others do, and knows the vacuum all the same.
        client.batch_execute("CREATE ROLE keeper LOGIN PASSWORD 'word'; ALTER TABLE t OWNER TO keeper").await.unwrap();
        let mut its: url::Url = url.parse().unwrap();
        its.set_username("keeper").unwrap();
        its.set_password(Some("word")).unwrap();
        // A writer that has not decided yet: the rebuild waits for it, and keeps its lock meanwhile.
        let writer = connect().await;
        writer.batch_execute("BEGIN; INSERT INTO t VALUES (0)").await.unwrap();
        let workspace = Workspace::for_target(if major.is_multiple_of(2) { &url } else { its.as_str() })
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 100kB }\n");
        let process = workspace.process(["run", "reindex", "--now", "--output", "json"])
            .stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let patience = Patience::until("the half-built index");
        while client.query("SELECT 1 FROM pg_class WHERE relname = 't_id_ccnew'", &[]).await.unwrap().is_empty() {
            patience.pause().await;
        }
        // Time passes: the table becomes too old while the rebuild still waits.
        client.batch_execute("CALL burn()").await.unwrap();
        let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let step = document["runs"][0]["steps"].as_array().unwrap().iter().find(|s| s["action"] == "reindex").unwrap();
        assert_eq!(step["status"], "skipped", "{document:#}");
        assert!(step["error"].as_str().unwrap().contains("gave way to a vacuum that prevents transaction id wraparound"), "{step:#}");
        writer.batch_execute("ROLLBACK").await.unwrap();
        // The vacuum gets through, and the next run does the work and removes the leftover.
        let patience = Patience::until("the vacuum to get through");
        while client.query_one("SELECT age(relfrozenxid) >= 100000 FROM pg_class WHERE relname = 't'", &[]).await.unwrap().get(0) {
            patience.pause().await;
        }
        workspace.run(["run", "reindex", "--now"]).expect(0);
        let row = client.query_one("SELECT count(*), bool_and(i.indisvalid) FROM pg_index i WHERE i.indrelid = 't'::regclass", &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (1, true));
        cluster.stop().unwrap();
    }
}
