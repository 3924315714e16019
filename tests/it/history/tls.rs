//! A history in PostgreSQL that is reached over TLS, with a certificate in
//! place of a password.

use maint::history::{HistoryError, RunFilter, RunStatus, open, open_existing};

use super::{at, run};
use crate::connect::certificates::Authority;
use crate::connect::server::Server;
use crate::support::servers::connect;

#[tokio::test]
async fn a_history_is_kept_over_tls_with_a_client_certificate() {
    let server = Server::start(17);
    let folder = tempfile::tempdir().unwrap();
    server.authority.client("boss").write(folder.path(), "boss");
    Authority::new("stranger")
        .client("boss")
        .write(folder.path(), "stranger");
    let admin = format!("{}?sslmode=disable", server.url("localhost", "postgres"));
    let admin = connect(&admin).await;
    admin
        .batch_execute("CREATE DATABASE by_certificate")
        .await
        .unwrap();
    let url = |host: &str, name: &str| {
        let file = folder.path().join(name).display().to_string();
        format!(
            "postgres://boss@{host}:{}/by_certificate?sslmode=verify-full&sslrootcert={}\
             &sslcert={file}.crt&sslkey={file}.key",
            server.port,
            server.ca()
        )
    };
    for host in ["localhost", "127.0.0.1"] {
        let store = open(&url(host, "boss")).await.unwrap();
        let mut record = run(host, 0);
        record.id = uuid::Uuid::now_v7();
        store.open_run(&record).await.unwrap();
        record.status = RunStatus::Succeeded;
        record.finished_at = Some(at(5));
        store.close_run(&record).await.unwrap();
        // The sessions of the pool, not only the first one, are encrypted and
        // known by the certificate.
        let row = admin
            .query_one(
                "SELECT count(*), count(*) FILTER (WHERE s.ssl AND s.client_dn = '/CN=boss')
                   FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
                  WHERE a.datname = 'by_certificate'",
                &[],
            )
            .await
            .unwrap();
        let (all, encrypted): (i64, i64) = (row.get(0), row.get(1));
        assert!(all > 0 && all == encrypted, "{encrypted} of {all}");
        store.close().await;
    }
    let store = open_existing(&url("localhost", "boss")).await.unwrap();
    assert_eq!(store.runs(&RunFilter::default()).await.unwrap().len(), 2);
    store.close().await;
    // One of another authority is not let in, and whose it is does not matter.
    let refused = open(&url("localhost", "stranger")).await;
    assert!(
        matches!(refused, Err(HistoryError::NoConnection { .. })),
        "{:?}",
        refused.err()
    );
}
