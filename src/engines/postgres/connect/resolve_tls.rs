//! From words to how a connection is encrypted and whom it trusts.

use std::net::IpAddr;
use std::path::PathBuf;

use super::dial::Place;
use super::dial_error::{DialError, Origin};
use super::environment::Environment;
use super::parameters::{Settings, invalid};
use super::tls::{RootSource, TlsFiles, TlsMode};

/// The mode that was asked for, if any.
pub(super) fn mode(settings: &Settings, tls: &TlsFiles) -> Result<Option<TlsMode>, DialError> {
    let mode = settings.choice(
        "sslmode",
        "one of disable, allow, prefer, require, verify-ca, verify-full",
        &TlsMode::ALL.map(|mode| (mode.word(), mode)),
    )?;
    // As in libpq: the system trusts so many authorities that only the
    // host name makes their word mean something.
    if tls.root == RootSource::System && mode.is_some_and(|mode| mode != TlsMode::VerifyFull) {
        return Err(invalid(
            settings,
            "sslmode",
            "verify-full with `sslrootcert=system`",
        ));
    }
    Ok(mode)
}

pub(super) fn mode_for(
    place: &Place,
    asked: Option<TlsMode>,
    settings: &Settings,
    tls: &TlsFiles,
) -> Result<TlsMode, DialError> {
    let (name, address) = match place {
        // The server does not offer TLS on its socket; file permissions
        // protect it. libpq ignores the mode there, too.
        Place::Socket(_) => return Ok(TlsMode::Disable),
        Place::Tcp { name, address } => (name, address),
    };
    let mode = match asked {
        Some(mode) => mode,
        None => {
            // A root certificate beside the host is a wish for verification;
            // one in the environment may be meant for other servers.
            let wishes = tls.root == RootSource::System
                || settings
                    .get("sslrootcert")
                    .is_some_and(|root| !matches!(root.origin, Origin::Variable(_)));
            let loopback = match address {
                Some(address) => address.is_loopback(),
                None => {
                    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
                }
            };
            match (loopback, wishes) {
                (true, false) if tls.direct => TlsMode::Require,
                (true, false) => TlsMode::Prefer,
                _ => TlsMode::VerifyFull,
            }
        }
    };
    if tls.direct && matches!(mode, TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer) {
        return Err(invalid(
            settings,
            "sslmode",
            "require, verify-ca or verify-full with `sslnegotiation=direct`",
        ));
    }
    // libpq's rule: whoever has a root certificate wants it used.
    let has_root = match &tls.root {
        RootSource::File(_) => true,
        RootSource::Default(file) => file.is_some(),
        RootSource::System => false,
    };
    Ok(if mode == TlsMode::Require && has_root {
        TlsMode::VerifyCa
    } else {
        mode
    })
}

pub(super) fn tls_files(
    settings: &Settings,
    environment: &Environment<'_>,
) -> Result<TlsFiles, DialError> {
    let file = |name: &str| settings.value(name).map(PathBuf::from);
    let home = |name: &str| environment.home_file(&format!(".postgresql/{name}"));
    let existing = |name: &str| home(name).filter(|file| file.exists());
    let root = match settings.value("sslrootcert") {
        Some("system") => RootSource::System,
        Some(path) => RootSource::File(path.into()),
        None => RootSource::Default(existing("root.crt")),
    };
    let send_certificate = settings
        .choice(
            "sslcertmode",
            "disable or allow",
            &[("disable", false), ("allow", true)],
        )?
        .unwrap_or(true);
    let certificate = file("sslcert").or_else(|| existing("postgresql.crt"));
    Ok(TlsFiles {
        root,
        revoked: file("sslcrl").or_else(|| existing("root.crl")),
        certificate: certificate.filter(|_| send_certificate).map(|certificate| {
            let key = file("sslkey").or_else(|| home("postgresql.key"));
            (
                certificate,
                key.unwrap_or_else(|| PathBuf::from("postgresql.key")),
            )
        }),
        sni: settings
            .choice("sslsni", "0 or 1", &[("0", false), ("1", true)])?
            .unwrap_or(true),
        tls13_only: settings
            .choice(
                "ssl_min_protocol_version",
                "one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3",
                // Versions before 1.2 are never spoken, whatever is allowed.
                &[
                    ("TLSv1", false),
                    ("TLSv1.1", false),
                    ("TLSv1.2", false),
                    ("TLSv1.3", true),
                ],
            )?
            .unwrap_or(false),
        direct: settings
            .choice(
                "sslnegotiation",
                "postgres or direct",
                &[("postgres", false), ("direct", true)],
            )?
            .unwrap_or(false),
    })
}
