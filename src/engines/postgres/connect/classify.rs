//! From the driver's errors to ours.

use std::error::Error;
use std::io;

use chrono::DateTime;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};
use tokio_postgres::error::{DbError, SqlState};

use super::attempt::Attempt;
use super::error::{CertificateFault, ConnectError, TlsUse};
use super::tls::TlsFileFault;
use crate::values::FilesUsedUp;

impl Attempt<'_> {
    /// Turns an error of opening the socket or of talking before TLS.
    pub(super) fn network_error(&self, source: io::Error) -> ConnectError {
        let server = self.server.to_owned();
        if let Some(used_up) = FilesUsedUp::of(&source) {
            return ConnectError::OutOfFiles {
                server,
                used_up,
                source,
            };
        }
        match (source.kind(), self.endpoint.socket_path()) {
            (io::ErrorKind::NotFound, Some(path)) => ConnectError::NoSocket {
                server,
                path: path.display().to_string(),
                source,
            },
            (io::ErrorKind::ConnectionRefused, _) => ConnectError::Refused { server, source },
            _ => ConnectError::Network { server, source },
        }
    }

    pub(super) fn file_error(&self, fault: TlsFileFault) -> ConnectError {
        ConnectError::TlsFiles {
            server: self.server.to_owned(),
            problem: fault.problem,
            next_step: fault.hint,
            source: fault.source,
        }
    }

    /// Turns an error of the handshake, the login or the startup.
    pub(super) fn startup_error(&self, error: tokio_postgres::Error, tls: TlsUse) -> ConnectError {
        if let Some(refusal) = find::<DbError>(&error) {
            let refusal = refusal.clone();
            return self.refusal(&refusal, error, tls);
        }
        if let Some(fault) = find::<rustls::Error>(&error) {
            let fault = fault.clone();
            return self.tls_error(&fault, error);
        }
        let server = self.server.to_owned();
        let reason = error.source().map(ToString::to_string).unwrap_or_default();
        // The driver keeps its kinds to itself; its messages are held to
        // these by the tests.
        match error.to_string().as_str() {
            "invalid configuration" if reason == "password missing" => ConnectError::NoPassword {
                server,
                looked_at: self.host.password.sources.clone(),
                source: error.into(),
            },
            "authentication error" => ConnectError::Login {
                server,
                reason,
                source: error.into(),
            },
            "error performing TLS handshake" => ConnectError::Handshake {
                server,
                reason,
                direct: self.dial.tls.direct,
                source: error.into(),
            },
            "error communicating with the server" | "connection closed"
                if tls == TlsUse::Spoken =>
            {
                // Already past the handshake, so somebody knew TLS.
                ConnectError::NotPostgres {
                    server,
                    reason: "it ended the connection without an answer".to_owned(),
                    source: Some(error.into()),
                }
            }
            "error communicating with the server" | "connection closed" => {
                ConnectError::NotPostgres {
                    server,
                    reason: "it ended the connection without an intelligible answer".to_owned(),
                    source: Some(error.into()),
                }
            }
            kind => ConnectError::NotPostgres {
                server,
                reason: kind.to_owned(),
                source: Some(error.into()),
            },
        }
    }

    /// The server answered with an error of its own.
    fn refusal(
        &self,
        refusal: &DbError,
        error: tokio_postgres::Error,
        tls: TlsUse,
    ) -> ConnectError {
        let server = self.server.to_owned();
        let message = refusal.message().to_owned();
        let source = error.into();
        // The routine is the same in every language of the server, and the
        // message is not.
        let routine = refusal.routine().unwrap_or_default();
        let certificate_sent = tls == TlsUse::Spoken && self.dial.tls.certificate.is_some();
        match refusal.code() {
            code if *code == SqlState::INVALID_PASSWORD => ConnectError::WrongPassword {
                server,
                password_from: self.host.password.sources.clone(),
                certificate_sent,
                source,
            },
            code if *code == SqlState::INVALID_CATALOG_NAME => ConnectError::NoSuchDatabase {
                server,
                database: self.dial.database.clone(),
                listed: self.dial.listed,
                source,
            },
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE && routine == "CheckMyDatabase" => {
                ConnectError::MayNotConnect {
                    server,
                    database: self.dial.database.clone(),
                    role: self.dial.role.clone(),
                    source,
                }
            }
            code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => match routine {
                // It does not exist, or is `NOLOGIN`: only the words of the server say
                // which. No line of pg_hba.conf would help.
                "InitializeSessionUserId" => ConnectError::NoLogin {
                    server,
                    role: self.dial.role.clone(),
                    message,
                    source,
                },
                "ClientAuthentication" if tls == TlsUse::NotAsked && self.over_tcp() => {
                    ConnectError::EncryptionDemanded {
                        server,
                        mode: self.host.mode.word(),
                        message,
                        source,
                    }
                }
                "auth_failed" if certificate_sent => ConnectError::ClientCertificateRejected {
                    server,
                    reason: message,
                    source,
                },
                "auth_failed" => ConnectError::Login {
                    server,
                    reason: message,
                    source,
                },
                _ => ConnectError::NotAdmitted {
                    server,
                    tls,
                    certificate_sent,
                    message,
                    source,
                },
            },
            code if *code == SqlState::TOO_MANY_CONNECTIONS => ConnectError::TooManyConnections {
                server,
                message,
                source,
            },
            _ if waited_in_vain(refusal) => ConnectError::PoolFull { server, source },
            code if *code == SqlState::CANNOT_CONNECT_NOW => ConnectError::NotAccepting {
                server,
                message,
                source,
            },
            code => ConnectError::Server {
                server,
                code: code.code().to_owned(),
                message,
                source,
            },
        }
    }

    pub(super) fn tls_error(
        &self,
        fault: &rustls::Error,
        error: tokio_postgres::Error,
    ) -> ConnectError {
        let server = self.server.to_owned();
        let source = error.into();
        match fault {
            rustls::Error::InvalidCertificate(fault) => ConnectError::Untrusted {
                server,
                fault: Box::new(certificate_fault(fault)),
                source,
            },
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                ConnectError::ClientCertificateRequired { server, source }
            }
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied),
            ) => ConnectError::ClientCertificateRejected {
                server,
                reason: match alert {
                    AlertDescription::UnknownCA => {
                        "it was issued by an authority the server does not trust".to_owned()
                    }
                    AlertDescription::CertificateExpired => "it has expired".to_owned(),
                    AlertDescription::CertificateRevoked => "it was revoked".to_owned(),
                    other => format!("the server's alert is {other:?}"),
                },
                source,
            },
            other => ConnectError::Handshake {
                server,
                reason: other.to_string(),
                direct: self.dial.tls.direct,
                source,
            },
        }
    }
}

/// What PgBouncer says, in the one language it has, where nobody gave a connection back in time. It
/// takes the login before it looks for one, so that the first statement may be told.
pub(in crate::engines::postgres) fn waited_in_vain(refusal: &DbError) -> bool {
    *refusal.code() == SqlState::PROTOCOL_VIOLATION
        && refusal.message().starts_with("query_wait_timeout")
}

fn certificate_fault(error: &CertificateError) -> CertificateFault {
    let time = |time: &UnixTime| {
        i64::try_from(time.as_secs())
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
    };
    match error {
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::Expired => CertificateFault::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => {
            CertificateFault::Expired(time(not_after))
        }
        CertificateError::NotValidYet => CertificateFault::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            CertificateFault::NotYetValid(time(not_before))
        }
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => CertificateFault::WrongName {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| bare_name(name)).collect(),
        },
        // A self-signed certificate with `CA:TRUE`, as `openssl req -x509`
        // makes them.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            CertificateFault::Authority
        }
        other => CertificateFault::Other(other.to_string()),
    }
}

/// `DnsName("db.example")` as the verifier writes it, to `db.example`.
fn bare_name(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

/// Looks for a `T` among the causes.
///
/// `io::Error` hides the error it carries from `source()`, and TLS errors
/// travel in one.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    if let Some(carried) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        return find(carried);
    }
    find(error.source()?)
}
