//! The connection to a mail server: TLS, the certificate, the log-in.

use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use super::bounded::Bounded;
use crate::values::ChainOrNamed;

/// How the connection is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, or nothing.
    StartTls,
    /// None: a relay on this machine.
    None,
}

/// How a mail server is entered.
pub(super) struct Door {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protection: Protection,
    /// Which certificates are taken; the system's authorities decide where there is none.
    pub(super) trusted: Option<ChainOrNamed>,
    pub(super) log_in: Option<(Credentials, Vec<Mechanism>)>,
    /// For a single answer.
    pub(super) patience: Duration,
}

/// Why a mail server could not be entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Mail(#[from] lettre::transport::smtp::Error),
    /// Nobody is there.
    #[error("no connection could be had")]
    Closed(#[source] std::io::Error),
    /// It shows a certificate that `?ca=` does not vouch for.
    #[error("its certificate is refused")]
    Certificate(#[source] rustls::Error),
}

impl Door {
    /// Connects, checks the certificate, and logs in where there is a user.
    ///
    /// # Errors
    /// When one of them fails.
    pub(super) async fn open(&self) -> Result<AsyncSmtpConnection, DoorError> {
        let hello = ClientId::Domain(gethostname::gethostname().to_string_lossy().into_owned());
        let tls = match self.protection {
            Protection::None => None,
            // With certificates of its own they are checked below, before anything is said
            // that is not for everybody: the library takes no verifier, and its own refuses
            // what `ChainOrNamed` takes. It does check that the server holds the key.
            _ => Some(
                TlsParameters::builder(self.host.clone())
                    .dangerous_accept_invalid_certs(self.trusted.is_some())
                    .build()?,
            ),
        };
        let at_once = tls
            .clone()
            .filter(|_| self.protection == Protection::Implicit);
        let address = (self.host.as_str(), self.port);
        let mut connection = match at_once {
            None => {
                let stream = TcpStream::connect(address)
                    .await
                    .map_err(DoorError::Closed)?;
                let stream = Box::new(Bounded::new(stream));
                AsyncSmtpConnection::connect_with_transport(stream, &hello).await?
            }
            // The library makes the connection itself, and knows whom it talks to.
            at_once => {
                let patience = Some(self.patience);
                AsyncSmtpConnection::connect_tokio1(address, patience, &hello, at_once, None)
                    .await?
            }
        };
        if let (Protection::StartTls, Some(tls)) = (self.protection, tls) {
            connection.starttls(tls, &hello).await?;
        }
        if let (Some(trusted), true) = (&self.trusted, self.protection != Protection::None) {
            let shown = connection.certificate_chain()?;
            if let Err(why) = self.check(trusted, &shown) {
                connection.abort().await;
                return Err(DoorError::Certificate(why));
            }
        }
        if let Some((credentials, mechanisms)) = &self.log_in {
            connection.auth(mechanisms, credentials).await?;
        }
        Ok(connection)
    }

    fn check(&self, trusted: &ChainOrNamed, shown: &[Vec<u8>]) -> Result<(), rustls::Error> {
        let shown: Vec<CertificateDer<'_>> =
            shown.iter().map(|der| der.as_slice().into()).collect();
        let Some((own, others)) = shown.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let name = ServerName::try_from(self.host.as_str())
            .map_err(|_| rustls::CertificateError::NotValidForName)?;
        trusted.verify_server_cert(own, others, &name, &[], UnixTime::now())?;
        Ok(())
    }
}
