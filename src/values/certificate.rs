//! Whose certificate a server may show, where a file names the ones to trust.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::regular;

/// A chain to a trusted authority, or the very certificate that the file names:
/// `openssl req -x509` makes a server's certificate that is its own authority, and OpenSSL,
/// and with it libpq, takes it.
#[derive(Debug)]
pub(crate) struct ChainOrNamed {
    /// What checks a chain.
    pub(crate) chain: Arc<WebPkiServerVerifier>,
    /// The certificates of the file.
    pub(crate) named: Vec<CertificateDer<'static>>,
}

/// The largest file of certificates that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// The certificates of a file in PEM, and those that they vouch for.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn trusted_certificates(file: &Path) -> Result<ChainOrNamed, String> {
    // Opening a pipe would wait for somebody to write to it.
    let named = regular(file, LARGEST)
        .map_err(pem::Error::Io)
        .and_then(|()| CertificateDer::pem_file_iter(file))
        .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>)
        .map_err(|why| why.to_string())?;
    if named.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for certificate in &named {
        roots
            .add(certificate.clone())
            .map_err(|why| why.to_string())?;
    }
    let provider = Arc::new(ring::default_provider());
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| why.to_string())?;
    Ok(ChainOrNamed { chain, named })
}

impl ServerCertVerifier for ChainOrNamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked = self
            .chain
            .verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match checked {
            // Dates are checked before this complaint, the name only after it. A test holds
            // webpki to that.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if is_an_authority(&why) && self.named.contains(end_entity) =>
            {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Whether the complaint is that an authority's certificate is used as a server's. The type of
/// the complaint belongs to a crate that is not ours to name; its name is part of its interface.
fn is_an_authority(why: &rustls::OtherError) -> bool {
    format!("{why:?}").contains("CaUsedAsEndEntity")
}
