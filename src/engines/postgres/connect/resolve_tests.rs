//! How a connection is put together from a URL, a service, the environment and defaults; and that
//! no outcome of it ever shows a password.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::super::dial::{Dial, SessionKind};
use super::super::dial_error::DialError;
use super::super::tls::{RootSource, TlsMode};

/// Resolves in an environment of its own: an empty home, no socket.
fn resolve(url: Option<&str>, variables: &[(&str, &str)]) -> Result<Dial, DialError> {
    let mut map: HashMap<String, String> = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    map.entry("HOME".to_owned())
        .or_insert_with(|| "/nonexistent".to_owned());
    Dial::resolve(url, &|name| map.get(name).cloned())
}

fn dial(url: &str, variables: &[(&str, &str)]) -> Dial {
    resolve(Some(url), variables).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn password(dial: &Dial) -> Option<&str> {
    dial.hosts[0]
        .password
        .value
        .as_ref()
        .map(ExposeSecret::expose_secret)
}

#[test]
fn the_url_beats_the_service_beats_the_environment_beats_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("services");
    std::fs::write(
        &services,
        "[s]\nhost=service\nport=2\ndbname=service\nsslmode=require\n",
    )
    .unwrap();
    let variables = [
        ("PGSERVICEFILE", services.to_str().unwrap()),
        ("PGSERVICE", "s"),
        ("PGHOST", "variable"),
        ("PGPORT", "3"),
        ("PGUSER", "variable"),
        ("PGPASSWORD", "variable"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGAPPNAME", "ignored"),
    ];
    let dial = dial("postgres:///url", &variables);
    assert_eq!(dial.describe(), "service:2/url as variable");
    assert_eq!(dial.database, "url");
    assert_eq!(password(&dial), Some("variable"));
    assert_eq!(dial.hosts[0].mode, TlsMode::Require);
    assert_eq!(dial.timeout, Some(Duration::from_secs(7)));

    let other = resolve(Some("host=url service=s user=u port=9"), &variables).unwrap();
    assert_eq!(other.describe(), "url:9/service as u");

    let error = resolve(Some("service=absent"), &variables).unwrap_err();
    assert!(
        error.to_string().contains("`absent` is defined in none of"),
        "{error}"
    );
}

#[test]
fn a_password_in_the_name_of_the_role_is_not_said() {
    for url in [
        "postgres://app%3AS3cret@h/d",
        "postgres://app;password=S3cret@h/d",
        "postgres://app,S3cret@h/d",
        "host=h user=app:S3cret",
    ] {
        let error = resolve(Some(url), &[]).unwrap_err().to_string();
        assert!(
            error.contains("not shown") && error.contains("PGUSER"),
            "{error}"
        );
        assert!(!error.contains("S3cret"), "{error}");
    }
    let odd = resolve(Some("postgres://h/d"), &[("PGUSER", "a:b")]).unwrap();
    assert_eq!(odd.describe(), "h:5432/d as a:b");
    let usual = resolve(Some("postgres://me%40corp.example@h/d"), &[]).unwrap();
    assert_eq!(usual.describe(), "h:5432/d as me@corp.example");
}

#[test]
fn defaults_are_the_operating_system_user_and_ten_seconds() {
    let dial = resolve(None, &[("PGHOST", "h")]).unwrap();
    let user = super::operating_system_user().unwrap();
    assert_eq!(dial.describe(), format!("h:5432/{user} as {user}"));
    assert_eq!(dial.timeout, Some(Duration::from_secs(10)));
    assert_eq!(dial.session, SessionKind::Any);
    assert!(dial.keepalive.on);
    assert_eq!(
        resolve(Some("postgres://h?connect_timeout=0"), &[])
            .unwrap()
            .timeout,
        None
    );
}

#[test]
fn hosts_ports_and_addresses_are_lists() {
    let cases = [
        ("postgres://r@a,b:6000/d", "a:5432,b:6000/d as r"),
        ("postgres://r@a,b/d?port=6000", "a:6000,b:6000/d as r"),
        ("postgres://r@[::1]/d", "[::1]:5432/d as r"),
        ("postgres://r@%2Frun%2Fpg:6000/d", "/run/pg:6000/d as r"),
        ("postgresql:///d?host=/run/pg&user=r", "/run/pg:5432/d as r"),
        (
            "hostaddr=127.0.0.1 dbname=d user=r",
            "127.0.0.1:5432/d as r",
        ),
        (
            "host=db hostaddr=10.0.0.1 dbname=d user=r",
            "db:5432/d as r",
        ),
        ("postgres://r@first/d?host=second", "second:5432/d as r"),
    ];
    for (url, expected) in cases {
        assert_eq!(dial(url, &[]).describe(), expected, "{url}");
    }
}

#[test]
fn tls_is_verified_unless_somebody_says_otherwise() {
    let cases = [
        ("postgres://db/d", TlsMode::VerifyFull),
        ("postgres://10.0.0.1/d", TlsMode::VerifyFull),
        ("host=db hostaddr=127.0.0.1", TlsMode::Prefer),
        ("host=localhost hostaddr=10.0.0.1", TlsMode::VerifyFull),
        ("postgres://localhost/d", TlsMode::Prefer),
        ("postgres://127.0.0.2/d", TlsMode::Prefer),
        ("postgres://[::1]/d", TlsMode::Prefer),
        (
            "postgres://localhost/d?sslrootcert=/ca.pem",
            TlsMode::VerifyFull,
        ),
        (
            "postgres://localhost/d?sslrootcert=system",
            TlsMode::VerifyFull,
        ),
        (
            "postgres://localhost/d?sslnegotiation=direct",
            TlsMode::Require,
        ),
        ("postgres://%2Frun/d", TlsMode::Disable),
        ("postgres://%2Frun/d?sslmode=verify-full", TlsMode::Disable),
        ("postgres://db/d?sslmode=disable", TlsMode::Disable),
        ("postgres://db/d?sslmode=allow", TlsMode::Allow),
        ("postgres://db/d?sslmode=require", TlsMode::Require),
        // libpq: who has a root certificate wants it used.
        (
            "postgres://db/d?sslmode=require&sslrootcert=/ca.pem",
            TlsMode::VerifyCa,
        ),
        ("postgres://db/d?ssl=true", TlsMode::Require),
    ];
    for (url, expected) in cases {
        assert_eq!(dial(url, &[]).hosts[0].mode, expected, "{url}");
    }
    let with_variable = dial("postgres://localhost/d", &[("PGSSLROOTCERT", "/ca.pem")]);
    assert_eq!(with_variable.hosts[0].mode, TlsMode::Prefer);
    assert_eq!(with_variable.tls.root, RootSource::File("/ca.pem".into()));
    let mixed = dial("postgres://localhost,db,%2Frun/d", &[]);
    let modes: Vec<_> = mixed.hosts.iter().map(|host| host.mode).collect();
    assert_eq!(
        modes,
        [TlsMode::Prefer, TlsMode::VerifyFull, TlsMode::Disable]
    );
}

#[test]
fn passwords_come_from_the_first_place_that_has_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    std::fs::write(&file, "a:*:*:*:for a\nlocalhost:*:*:*:for sockets\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let home = [("HOME", home.path().to_str().unwrap())];

    let dial = dial("postgres://r@b,a,%2Frun/d", &home);
    let passwords: Vec<_> = dial
        .hosts
        .iter()
        .map(|host| {
            host.password
                .value
                .as_ref()
                .map(ExposeSecret::expose_secret)
        })
        .collect();
    assert_eq!(passwords, [None, Some("for a"), Some("for sockets")]);
    let sources = dial.hosts[0].password.sources.join(", ");
    assert!(
        sources.starts_with("the URL, PGPASSWORD, the file "),
        "{sources}"
    );
    assert!(
        sources.ends_with(".pgpass (which has no line for this host, port, database and role)")
    );

    let given = resolve(Some("postgres://r:%C3%BC%40@a/d"), &home).unwrap();
    assert_eq!(password(&given), Some("ü@"));
    let empty = resolve(Some("postgres://r:@a/d"), &home).unwrap();
    assert_eq!(password(&empty), Some("for a"));
    let elsewhere = resolve(Some("postgres://r@a/d?passfile=/nonexistent/p"), &home).unwrap();
    assert_eq!(password(&elsewhere), None);
}

#[test]
fn mistakes_say_where_and_what_is_possible() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (
            "postgres://h/d?sslmod=require",
            &[],
            "the connection URL sets `sslmod`, which is not",
            "did you mean `sslmode`?",
        ),
        (
            "postgres://h/d?wibble=1",
            &[],
            "sets `wibble`",
            "known: host, hostaddr, port",
        ),
        (
            "postgres://h/d?sslmode=on",
            &[],
            "gives `sslmode` a value (not shown)",
            "verify-full",
        ),
        (
            "postgres://h/d",
            &[("PGPORT", "x")],
            "the variable PGPORT gives `port` the value `x`",
            "1 to 65535",
        ),
        (
            "postgres://h/d",
            &[("PGREQUIREAUTH", "scram-sha-256")],
            "the variable PGREQUIREAUTH sets `require_auth`, which maint does not support",
            "remove",
        ),
        (
            "host=a,b port=1,2,3",
            &[],
            "there are 2 hosts and 3 ports",
            "one port for all",
        ),
        (
            "host=a hostaddr=1.1.1.1,2.2.2.2",
            &[],
            "1 hosts and 2 addresses",
            "",
        ),
        (
            "hostaddr=db",
            &[],
            "gives `hostaddr` a value (not shown)",
            "IPv4",
        ),
        (
            "postgres://h/d?target_session_attrs=master",
            &[],
            "gives `target_session_attrs`",
            "read-write",
        ),
        (
            "postgres://h/d?connect_timeout=soon",
            &[],
            "gives `connect_timeout`",
            "a whole number",
        ),
        (
            "postgres://h/d?sslrootcert=system&sslmode=require",
            &[],
            "gives `sslmode`",
            "verify-full",
        ),
        (
            "postgres://h/d?sslnegotiation=direct&sslmode=prefer",
            &[],
            "gives `sslmode`",
            "require",
        ),
        (
            "postgres://h/d?gssencmode=require",
            &[],
            "sets `gssencmode`",
            "remove",
        ),
        (
            "postgres://h/d?sslcrldir=/x",
            &[],
            "sets `sslcrldir`",
            "remove",
        ),
    ];
    for (url, variables, problem, hint) in cases {
        let error = resolve(Some(url), variables)
            .err()
            .unwrap_or_else(|| panic!("{url} resolved"));
        assert!(error.to_string().contains(problem), "{url}: {error}");
        assert!(error.hint().contains(hint), "{url}: {}", error.hint());
    }
}

/// Everything anybody may print about the outcome.
fn shown(outcome: &Result<Dial, DialError>) -> String {
    match outcome {
        Ok(dial) => format!("{dial:?} {dial:#?} {}", dial.describe()),
        Err(error) => format!("{error} {error:?} {}", error.hint()),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn a_password_is_never_shown(
        rest in "[ -~]{0,16}",
        tail in prop::sample::select(vec!["", "?sslmod=x", "?port=x", "?sslmode=x", "?x", "?user=a@b"]),
    ) {
        // The marker must not appear even alone: a piece of a password
        // narrows the search for the rest.
        let password = format!("s3cr3t{rest}");
        let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
        let outcomes = [
            resolve(Some(&format!("postgres://u:{}@h:1/d{tail}", encoded(&password))), &[]),
            // Not encoded, as people do.
            resolve(Some(&format!("postgres://u:{password}@h:1/d{tail}")), &[]),
            resolve(Some(&format!("postgres://u:x{password}@h/d{tail}")), &[]),
            resolve(Some(&format!("host=h dbname=d password='{quoted}'")), &[]),
            resolve(Some(&format!("host=h password={} port=x", quoted.replace(' ', ""))), &[]),
            resolve(Some(&format!("postgres://u@h:1/d{tail}")), &[("PGPASSWORD", &password)]),
            resolve(Some(&format!("postgres://h/d?password={}", encoded(&password))), &[]),
        ];
        for outcome in &outcomes {
            let shown = shown(outcome);
            prop_assert!(!shown.contains("s3cr3t"), "{}", shown);
        }
    }
}
