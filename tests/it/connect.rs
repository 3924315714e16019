//! From a URL to an open session, against real servers and real impostors.

pub(crate) mod certificates;
pub(crate) mod server;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use maint::engines::postgres::connect::{CertificateFault, ConnectError, Dial, Link, TlsUse};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use certificates::Authority;
use server::{PASSWORD, Server, shared};

/// Resolves in an empty environment: the machine's own must not matter.
fn dial(url: &str) -> Dial {
    let env = |name: &str| (name == "HOME").then(|| "/nonexistent".to_owned());
    Dial::resolve(Some(url), &env).unwrap_or_else(|error| panic!("{error}"))
}

async fn open(url: &str) -> Link {
    let dial = dial(url);
    match dial.connect("maint test").await {
        Ok(link) => link,
        Err(error) => panic!("{}: {error}: {error:?}", dial.describe()),
    }
}

/// The error of an attempt that must fail; checks what every error owes.
async fn refused(url: &str) -> ConnectError {
    let dial = dial(url);
    let error = match dial.connect("maint test").await {
        Ok(_) => panic!("{} was connected to", dial.describe()),
        Err(error) => error,
    };
    let shown = format!("{error} {error:?} {}", error.hint());
    assert!(
        !shown.contains("s3cr3t") && !shown.contains(PASSWORD),
        "{shown}"
    );
    assert!(error.to_string().contains(&dial.describe()), "{error}");
    assert!(!error.hint().is_empty());
    error
}

async fn value(link: &Link, query: &str) -> String {
    link.client.query_one(query, &[]).await.unwrap().get(0)
}

const ENCRYPTED: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

macro_rules! expect {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error}: {error:?}");
    };
}

#[tokio::test]
async fn every_version_gives_a_verified_session() {
    for major in [14, 17, 18] {
        let server = shared(major);
        let ca = server.ca();
        for host in ["localhost", "127.0.0.1"] {
            let query =
                format!("postgres?sslmode=verify-full&sslrootcert={ca}&channel_binding=require");
            let link = open(&server.url(host, &query)).await;
            assert_eq!(value(&link, ENCRYPTED).await, "true");
            let name = value(&link, "SELECT current_setting('application_name')").await;
            assert_eq!(name, "maint test");
        }
        let direct = format!("postgres?sslnegotiation=direct&sslrootcert={ca}&sslmode=verify-full");
        let direct = server.url("localhost", &direct);
        if major >= 17 {
            let link = open(&direct).await;
            assert_eq!(value(&link, ENCRYPTED).await, "true");
            cancels(&link).await;
        } else {
            expect!(
                refused(&direct).await,
                ConnectError::Handshake { direct: true, .. }
            );
        }
    }
}

/// What the server says of pg_hba.conf is told as a question of TLS only where it may be one:
/// not where the server has none, and nowhere as if TLS were sure to help.
#[tokio::test]
async fn what_pg_hba_refuses_is_told_as_a_question_of_tls_only_where_it_may_be_one() {
    let server = shared(17);
    let bare = Server::start(14);
    bare.set("ssl = off");
    bare.restart();
    let rejected = "pg_hba.conf rejects connection";
    let unlisted = "no pg_hba.conf entry";
    // `closed` has a line that rejects, `nowhere` has none.
    for (database, said) in [("closed", rejected), ("nowhere", unlisted)] {
        for mode in ["prefer", "allow"] {
            let error =
                refused(&bare.url("127.0.0.1", &format!("{database}?sslmode={mode}"))).await;
            let told = format!("{error}; {}", error.hint());
            assert!(
                told.contains("which the server does not offer") && told.contains(said),
                "{told}"
            );
            assert!(!told.contains("sslmode="), "{told}");
            assert!(told.contains("above any that rejects it"), "{told}");
            // Over TLS as without it: told of the try over TLS.
            let error =
                refused(&server.url("127.0.0.1", &format!("{database}?sslmode={mode}"))).await;
            assert!(error.to_string().contains(said), "{error}");
            expect!(
                error,
                ConnectError::NotAdmitted {
                    tls: TlsUse::Spoken,
                    ..
                }
            );
        }
        for server in [&*server, &bare] {
            let error =
                refused(&server.url("127.0.0.1", &format!("{database}?sslmode=disable"))).await;
            let told = format!("{error}; {}", error.hint());
            assert!(told.contains(said), "{told}");
            assert!(
                told.contains("if pg_hba.conf has a line") && told.contains("otherwise add a line"),
                "{told}"
            );
        }
    }
    // A line for TLS alone, on a server that has none, is a line that nobody reaches.
    let error = refused(&bare.url("127.0.0.1", "tls_only?sslmode=prefer")).await;
    expect!(
        error,
        ConnectError::NotAdmitted {
            tls: TlsUse::NotOffered,
            ..
        }
    );
}

#[tokio::test]
async fn modes_decide_about_encryption() {
    let server = shared(17);
    let setup = open(&server.url("localhost", "postgres")).await;
    for database in ["tls_only", "plain_only"] {
        // Another test may have been here first.
        let _ = setup
            .client
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await;
    }
    let cases = [
        ("postgres", "true"),
        ("postgres?sslmode=disable", "false"),
        ("postgres?sslmode=allow", "false"),
        ("postgres?sslmode=prefer", "true"),
        ("postgres?sslmode=require", "true"),
        (
            "postgres?sslmode=require&ssl_min_protocol_version=TLSv1.3",
            "true",
        ),
        ("tls_only?sslmode=allow", "true"),
        ("plain_only?sslmode=prefer", "false"),
    ];
    for (query, encrypted) in cases {
        let link = open(&server.url("127.0.0.1", query)).await;
        assert_eq!(value(&link, ENCRYPTED).await, encrypted, "{query}");
    }
    expect!(
        refused(&server.url("127.0.0.1", "tls_only?sslmode=disable")).await,
        ConnectError::EncryptionDemanded {
            mode: "disable",
            ..
        }
    );
    expect!(
        refused(&server.url("127.0.0.1", "plain_only?sslmode=require")).await,
        ConnectError::NotAdmitted {
            tls: TlsUse::Spoken,
            ..
        }
    );
    expect!(
        refused(&server.url(
            "127.0.0.1",
            "postgres?sslmode=disable&channel_binding=require"
        ))
        .await,
        ConnectError::Login { .. }
    );
}

#[tokio::test]
async fn certificates_are_checked_as_far_as_the_mode_says() {
    let server = Server::start(14);
    let ca = server.ca();
    let full = server.url(
        "localhost",
        &format!("postgres?sslmode=verify-full&sslrootcert={ca}"),
    );
    let chain = server.url(
        "localhost",
        &format!("postgres?sslmode=verify-ca&sslrootcert={ca}"),
    );
    let any = server.url("localhost", "postgres?sslmode=require");

    let fault = async |url: &str| match refused(url).await {
        ConnectError::Untrusted { fault, .. } => *fault,
        other => panic!("{other}: {other:?}"),
    };

    server.use_certificate(&server.authority.server(&["db.example", "10.0.0.1"]));
    server.restart();
    let wrong_name = refused(&full).await;
    assert!(
        wrong_name
            .to_string()
            .ends_with("it is not for `localhost`, but for db.example, 10.0.0.1"),
        "{wrong_name}"
    );
    open(&chain).await;
    open(&any).await;
    // The name counts, wherever the address leads.
    let named = full.replace("@localhost", "@db.example") + "&hostaddr=127.0.0.1";
    open(&named).await;

    server.use_certificate(&server.authority.expired_server());
    server.restart();
    let expired = refused(&full).await;
    assert!(
        expired
            .to_string()
            .ends_with("it expired (2021-02-03 00:00:00Z)"),
        "{expired}"
    );
    assert!(matches!(
        fault(&chain).await,
        CertificateFault::Expired(Some(_))
    ));
    open(&any).await;

    // Chain and name both wrong: the chain must still be noticed where the
    // name does not matter.
    server.use_certificate(&Authority::new("stranger").server(&["db.example"]));
    server.restart();
    assert_eq!(fault(&full).await, CertificateFault::UnknownIssuer);
    assert_eq!(fault(&chain).await, CertificateFault::UnknownIssuer);
    let system = server.url("localhost", "postgres?sslrootcert=system");
    assert_eq!(fault(&system).await, CertificateFault::UnknownIssuer);
    let require_with_root = format!("{any}&sslrootcert={ca}");
    assert_eq!(
        fault(&require_with_root).await,
        CertificateFault::UnknownIssuer
    );
    open(&any).await;

    // It is the one that the file names, but it names no host.
    server.use_certificate(&server.authority.itself());
    server.restart();
    assert!(matches!(
        fault(&full).await,
        CertificateFault::WrongName { .. }
    ));
    open(&chain).await;
    open(&any).await;

    // As `openssl req -x509` makes it: its own authority, and a server's. Named in the file it is
    // trusted, as libpq does; not named, for another host, or expired it is not.
    let folder = tempfile::tempdir().unwrap();
    for (names, expired) in [
        (["localhost"], false),
        (["db.example"], false),
        (["localhost"], true),
    ] {
        let own = Authority::of_its_own(&names, expired);
        let (named, _) = own.write(folder.path(), "own");
        server.use_certificate(&own);
        server.restart();
        // Another's authority does not make it good.
        fault(&full).await;
        fault(&chain).await;
        let full = full.replace(&ca, named.to_str().unwrap());
        let chain = chain.replace(&ca, named.to_str().unwrap());
        match (names, expired) {
            (["localhost"], false) => {
                open(&full).await;
                open(&chain).await;
            }
            (_, true) => {
                assert!(matches!(fault(&full).await, CertificateFault::Expired(_)));
                assert!(matches!(fault(&chain).await, CertificateFault::Expired(_)));
            }
            _ => {
                assert!(matches!(
                    fault(&full).await,
                    CertificateFault::WrongName { .. }
                ));
                open(&chain).await;
            }
        }
    }

    server.set("ssl = off");
    server.restart();
    expect!(
        refused(&full).await,
        ConnectError::TlsNotOffered {
            mode: "verify-full",
            mode_was_given: true,
            ..
        }
    );
    let plain = open(&server.url("localhost", "postgres")).await;
    assert_eq!(value(&plain, ENCRYPTED).await, "false");

    // What nobody said is named as ours.
    let ours = refused(&server.url("localhost", &format!("postgres?sslrootcert={ca}"))).await;
    assert!(ours.to_string().contains("unless told otherwise"), "{ours}");
    expect!(
        ours,
        ConnectError::TlsNotOffered {
            mode_was_given: false,
            ..
        }
    );
}

#[tokio::test]
async fn root_files_that_cannot_be_used_are_named() {
    let server = shared(17);
    for (file, problem) in [
        ("/nonexistent/ca.pem", "cannot be read"),
        ("/etc/hostname", "cannot be read"),
    ] {
        let url = server.url(
            "localhost",
            &format!("postgres?sslmode=verify-full&sslrootcert={file}"),
        );
        let error = refused(&url).await;
        assert!(matches!(error, ConnectError::TlsFiles { .. }));
        assert!(
            error.to_string().contains(file) && error.to_string().contains(problem),
            "{error}"
        );
    }
    let nothing = server.url("localhost", "postgres?sslmode=verify-ca");
    assert!(
        refused(&nothing)
            .await
            .to_string()
            .contains("needs a certificate authority of one's own")
    );
}

#[tokio::test]
async fn client_certificates_are_shown_and_their_absence_is_named() {
    let server = shared(17);
    let setup = open(&server.url("localhost", "postgres")).await;
    for database in ["certified", "by_certificate"] {
        let _ = setup
            .client
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await;
    }
    let folder = tempfile::tempdir().unwrap();
    let with = |database: &str, name: &str| {
        let file = folder.path().join(name).display().to_string();
        let query = format!("{database}?sslmode=require&sslcert={file}.crt&sslkey={file}.key");
        server.url("localhost", &query)
    };
    server.authority.client("boss").write(folder.path(), "boss");
    server
        .authority
        .client("other")
        .write(folder.path(), "other");
    let (_, loose) = server
        .authority
        .client("boss")
        .write(folder.path(), "loose");
    std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o644)).unwrap();
    Authority::new("stranger")
        .client("boss")
        .write(folder.path(), "stranger");

    for database in ["certified", "by_certificate"] {
        open(&with(database, "boss")).await;
        let none = refused(&server.url("localhost", &format!("{database}?sslmode=require"))).await;
        assert!(none.hint().contains("sslcert"), "{none:?}");
        expect!(
            none,
            ConnectError::NotAdmitted {
                certificate_sent: false,
                ..
            }
        );
        let stranger = refused(&with(database, "stranger")).await;
        expect!(stranger, ConnectError::ClientCertificateRejected { .. });
        let error = refused(&with(database, "loose")).await;
        assert!(
            error.to_string().contains("can be read by others"),
            "{error}"
        );
    }
    expect!(
        refused(&with("by_certificate", "other")).await,
        ConnectError::ClientCertificateRejected { .. }
    );
    // The server blames the password; our hint mentions the certificate.
    let blamed = refused(&with("certified", "other")).await;
    assert!(
        blamed
            .hint()
            .contains("client certificate is not for this role"),
        "{blamed:?}"
    );
    // Not sent when told so.
    let withheld = with("certified", "boss") + "&sslcertmode=disable";
    let withheld = refused(&withheld).await;
    assert!(withheld.hint().contains("sslcert"), "{withheld:?}");
}

#[tokio::test]
async fn the_server_says_no_and_we_say_why() {
    for major in [14, 17] {
        let server = shared(major);
        let port = server.port;
        let setup = open(&server.url("localhost", "postgres")).await;
        let _ = setup.client.batch_execute("CREATE DATABASE trusting").await;
        let _ = setup
            .client
            .batch_execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
            .await;

        let wrong = refused(&format!("postgres://boss:wrong@localhost:{port}/postgres")).await;
        assert_eq!(
            wrong.to_string(),
            format!(
                "localhost:{port}/postgres as boss rejects the password from the connection URL"
            )
        );
        let none = refused(&format!("postgres://boss@localhost:{port}/postgres")).await;
        assert_eq!(
            none.to_string(),
            format!(
                "localhost:{port}/postgres as boss asks for a password, and none is given; looked \
                 at: the URL, PGPASSWORD, the file /nonexistent/.pgpass (which does not exist)"
            )
        );
        let unknown = format!("postgres://nobody@localhost:{port}/trusting");
        let unknown = refused(&unknown).await;
        assert!(
            unknown.hint().contains("CREATE ROLE \"nobody\" LOGIN"),
            "{unknown:?}"
        );
        expect!(unknown, ConnectError::NoLogin { role, .. } if role == "nobody");
        let socket = server.folder.display().to_string().replace('/', "%2F");
        expect!(
            refused(&server.url(&socket, "absent")).await,
            ConnectError::NoSuchDatabase { database, .. } if database == "absent"
        );
        expect!(
            refused(&server.url("localhost", "closed?sslmode=require")).await,
            ConnectError::NotAdmitted {
                tls: TlsUse::Spoken,
                ..
            }
        );
        for statement in [
            "CREATE ROLE \"un invited\" LOGIN",
            "REVOKE CONNECT ON DATABASE trusting FROM PUBLIC",
        ] {
            setup.client.batch_execute(statement).await.unwrap();
        }
        let shut = refused(&format!(
            "postgres://un%20invited@localhost:{port}/trusting"
        ))
        .await;
        let grant = "GRANT CONNECT ON DATABASE trusting TO \"un invited\"";
        assert_eq!(shut.hint(), grant);
        expect!(shut, ConnectError::MayNotConnect { role, .. } if role == "un invited");
        setup.client.batch_execute(grant).await.unwrap();
        open(&format!(
            "postgres://un%20invited@localhost:{port}/trusting"
        ))
        .await;
        let no_login = "ALTER ROLE \"un invited\" NOLOGIN";
        setup.client.batch_execute(no_login).await.unwrap();
        let shut = refused(&format!(
            "postgres://un%20invited@localhost:{port}/trusting"
        ))
        .await;
        assert!(!shut.hint().contains("pg_hba"), "{shut:?}");
        let login = "ALTER ROLE \"un invited\" LOGIN";
        assert!(shut.hint().contains(login), "{shut:?}");
        expect!(shut, ConnectError::NoLogin { role, .. } if role == "un invited");
        setup
            .client
            .batch_execute("GRANT CONNECT ON DATABASE trusting TO PUBLIC")
            .await
            .unwrap();
        let full = refused(&format!("postgres://limited@localhost:{port}/trusting")).await;
        expect!(full, ConnectError::TooManyConnections { .. });
    }
}

#[tokio::test]
async fn a_server_going_down_is_passed_over_for_the_next_host() {
    let leaving = Server::start(17);
    let staying = shared(17);
    let held = open(&leaving.url("localhost", "postgres")).await;
    leaving.pg_ctl(&["-m", "smart", "-W", "stop"]);
    // The request is a signal; only the server knows when it has taken it.
    let url = leaving.url("localhost", "postgres");
    let error = loop {
        match dial(&url).connect("maint test").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    expect!(error, ConnectError::NotAccepting { .. });

    let hosts = format!("localhost:{},localhost", leaving.port);
    let link = open(&staying.url(&hosts, "postgres")).await;
    assert_eq!(
        value(&link, "SELECT current_setting('port')").await,
        staying.port.to_string()
    );
    drop(held);
}

#[tokio::test]
async fn sockets_need_no_tls_and_use_the_password_file_as_localhost() {
    let server = shared(14);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    let password = PASSWORD.replace(':', "\\:");
    std::fs::write(
        &file,
        format!("localhost:{}:*:boss:{password}\n", server.port),
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let env = |name: &str| match name {
        "HOME" => Some(home.path().display().to_string()),
        "PGHOST" => Some(server.folder.display().to_string()),
        "PGPORT" => Some(server.port.to_string()),
        "PGUSER" => Some("boss".to_owned()),
        "PGDATABASE" => Some("postgres".to_owned()),
        _ => None,
    };
    let link = Dial::resolve(None, &env)
        .unwrap()
        .connect("maint test")
        .await
        .unwrap();
    assert_eq!(value(&link, ENCRYPTED).await, "false");
    cancels(&link).await;

    let elsewhere = format!(
        "host=/nonexistent port={} user=boss dbname=postgres",
        server.port
    );
    expect!(refused(&elsewhere).await, ConnectError::NoSocket { .. });
}

#[tokio::test]
async fn unreachable_servers_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refusing = format!("postgres://boss@127.0.0.1:{free}/postgres");
    expect!(refused(&refusing).await, ConnectError::Refused { .. });
    let unknown = refused("postgres://boss@nonexistent.invalid/postgres").await;
    expect!(unknown, ConnectError::UnknownHost { host, .. } if host == "nonexistent.invalid");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let hanging = format!("postgres://boss@127.0.0.1:{port}/postgres?connect_timeout=1");
    expect!(refused(&hanging).await, ConnectError::TimedOut { .. });

    let several = format!("postgres://boss@127.0.0.1:{free},nonexistent.invalid:1/postgres");
    let error = refused(&several).await;
    expect!(&error, ConnectError::NoHost { failures, .. } if failures.len() == 2);
}

#[tokio::test]
async fn other_services_are_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for mode in ["disable", "prefer", "require"] {
        let url = format!("postgres://boss@127.0.0.1:{port}/postgres?sslmode={mode}");
        expect!(refused(&url).await, ConnectError::NotPostgres { .. });
    }
}

#[tokio::test]
async fn target_session_attributes_choose_the_server() {
    let server = shared(17);
    let read_only = "postgres?options=-c%20default_transaction_read_only%3Don";
    let attributes = |kind: &str| {
        server.url(
            "localhost",
            &format!("{read_only}&target_session_attrs={kind}"),
        )
    };
    for kind in ["any", "read-only", "primary", "prefer-standby"] {
        open(&attributes(kind)).await;
    }
    for kind in ["read-write", "standby"] {
        expect!(
            refused(&attributes(kind)).await,
            ConnectError::WrongKind { .. }
        );
    }
}

/// Cancels a statement of `link` and sees it end.
async fn cancels(link: &Link) {
    let canceller = link.canceller.clone();
    // The statement must have begun, and only another session could see
    // that; asking again until it ends needs no other session.
    let asking = async {
        loop {
            canceller.cancel().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let error = tokio::select! {
        outcome = link.client.batch_execute("SELECT pg_sleep(60)") => outcome.unwrap_err(),
        () = asking => unreachable!(),
    };
    assert_eq!(
        error.code().map(|code| code.code()),
        Some("57014"),
        "{error:?}"
    );
}

#[tokio::test]
async fn statements_are_cancelled_over_tls_and_without() {
    let server = shared(17);
    let ca = server.ca();
    for query in [
        format!("postgres?sslmode=verify-full&sslrootcert={ca}"),
        "postgres?sslmode=disable".to_owned(),
    ] {
        cancels(&open(&server.url("localhost", &query)).await).await;
    }
}

#[tokio::test]
async fn notices_arrive_and_the_end_is_announced() {
    let server = shared(14);
    let mut link = open(&server.url("localhost", "postgres")).await;
    link.client
        .batch_execute("DO $$ BEGIN RAISE WARNING 'mind the gap' USING ERRCODE = '01ABC'; END $$")
        .await
        .unwrap();
    let notice = link.notices.recv().await.unwrap();
    assert_eq!(
        (
            notice.is_warning,
            notice.code.as_str(),
            notice.message.as_str()
        ),
        (true, "01ABC", "mind the gap")
    );
    assert!(!link.closed.is_cancelled());

    let pid = value(&link, "SELECT pg_backend_pid()::text").await;
    let other = open(&server.url("localhost", "postgres")).await;
    other
        .client
        .batch_execute(&format!("SELECT pg_terminate_backend({pid})"))
        .await
        .unwrap();
    link.closed.cancelled().await;

    let Link { client, closed, .. } = other;
    drop(client);
    closed.cancelled().await;
}
