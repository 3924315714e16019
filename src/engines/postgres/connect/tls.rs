//! TLS policy: whom to trust, and what to show in return.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::values::{ChainOrNamed, regular};

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub(super) const ALL: [TlsMode; 6] = [
        TlsMode::Disable,
        TlsMode::Allow,
        TlsMode::Prefer,
        TlsMode::Require,
        TlsMode::VerifyCa,
        TlsMode::VerifyFull,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Allow => "allow",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }
}

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootSource {
    /// `sslrootcert=FILE`.
    File(PathBuf),
    /// `sslrootcert=system`.
    System,
    /// libpq's file in the home folder if it exists, else the system's.
    Default(Option<PathBuf>),
}

/// Files and switches. Files are read per connection: certificates are
/// renewed while a daemon runs.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    pub(super) root: RootSource,
    pub(super) revoked: Option<PathBuf>,
    /// Certificate and key to show.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) sni: bool,
    pub(super) tls13_only: bool,
    pub(super) direct: bool,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A file that TLS needs and that cannot be used.
#[derive(Debug)]
pub(super) struct TlsFileFault {
    /// What the file is for and what is wrong with it, as a sentence.
    pub(super) problem: String,
    pub(super) hint: &'static str,
    pub(super) source: Option<Cause>,
}

impl TlsFileFault {
    fn new(problem: String, hint: &'static str, source: impl Into<Cause>) -> Self {
        TlsFileFault {
            problem,
            hint,
            source: Some(source.into()),
        }
    }
}

const PEM: &str = "the file must exist, be readable and be in PEM form";

/// The configuration for one connection.
pub(super) fn client_config(
    files: &TlsFiles,
    mode: TlsMode,
) -> Result<ClientConfig, Box<TlsFileFault>> {
    let provider = Arc::new(ring::default_provider());
    let internal = |error: rustls::Error| {
        TlsFileFault::new(
            "TLS cannot be set up".to_owned(),
            "report this as a defect",
            error,
        )
    };
    let versions: &[&rustls::SupportedProtocolVersion] = if files.tls13_only {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        TlsMode::VerifyFull => chain_verifier(files, mode, &provider)?,
        TlsMode::VerifyCa => Arc::new(AnyName(chain_verifier(files, mode, &provider)?)),
        TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => {
            Arc::new(AnyCertificate(Arc::clone(&provider)))
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &files.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(read_certificates(certificate)?, read_key(key)?)
            .map_err(|error| {
                TlsFileFault::new(
                    format!(
                        "the client certificate {} and the key {} do not work together",
                        certificate.display(),
                        key.display()
                    ),
                    "the key must be the one the certificate was made with",
                    error,
                )
            })?,
    };
    config.enable_sni = files.sni;
    // libpq 17 always says so; direct negotiation demands it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn chain_verifier(
    files: &TlsFiles,
    mode: TlsMode,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Box<TlsFileFault>> {
    let mut named = Vec::new();
    let roots = match &files.root {
        RootSource::File(file) | RootSource::Default(Some(file)) => {
            named = read_certificates(file)?;
            roots_of(file)?
        }
        RootSource::Default(None) if mode == TlsMode::VerifyCa => {
            // Every holder of any public certificate would pass.
            return Err(Box::new(TlsFileFault {
                problem: "`sslmode=verify-ca` needs a certificate authority of one's own, and \
                          there is no root certificate file"
                    .to_owned(),
                hint: "name the file with `sslrootcert`, or use `sslmode=verify-full`",
                source: None,
            }));
        }
        RootSource::Default(None) | RootSource::System => system_roots()?,
    };
    let mut builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(file) = &files.revoked {
        let lists = plain(file)
            .and_then(|()| CertificateRevocationListDer::pem_file_iter(file))
            .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>)
            .map_err(|error| unreadable("the revocation list", file, error))?;
        builder = builder.with_crls(lists);
    }
    let chain = builder.build().map_err(|error| {
        Box::new(TlsFileFault::new(
            "the trusted certificates cannot be used".to_owned(),
            PEM,
            error,
        ))
    })?;
    Ok(Arc::new(ChainOrNamed { chain, named }))
}

fn roots_of(file: &Path) -> Result<RootCertStore, Box<TlsFileFault>> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| unreadable("the root certificate file", file, error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Box<TlsFileFault>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    Err(Box::new(TlsFileFault {
        problem: "this system has no trusted certificates to check the server against".to_owned(),
        hint: "install the `ca-certificates` package, or name the server's authority with \
               `sslrootcert`",
        source: found.errors.into_iter().next().map(Into::into),
    }))
}

/// Opening a pipe would wait for somebody to write to it, and a device never ends.
fn plain(file: &Path) -> Result<(), pem::Error> {
    regular(file, LARGEST).map_err(pem::Error::Io)
}

/// The largest file of certificates or keys that is read, in bytes.
const LARGEST: u64 = 16 << 20;

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Box<TlsFileFault>> {
    let certificates = plain(file)
        .and_then(|()| CertificateDer::pem_file_iter(file))
        .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>)
        .map_err(|error| unreadable("the certificate file", file, error))?;
    if certificates.is_empty() {
        return Err(unreadable(
            "the certificate file",
            file,
            pem::Error::NoItemsFound,
        ));
    }
    Ok(certificates)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, Box<TlsFileFault>> {
    // libpq's rule: nobody else may read it, except root's group for a key
    // that belongs to root.
    if let Ok(metadata) = std::fs::metadata(file) {
        let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if metadata.mode() & forbidden != 0 {
            return Err(Box::new(TlsFileFault {
                problem: format!("the private key {} can be read by others", file.display()),
                hint: "set its permissions to 0600",
                source: None,
            }));
        }
    }
    let key = plain(file).and_then(|()| PrivateKeyDer::from_pem_file(file));
    key.map_err(|error| match error {
        pem::Error::NoItemsFound => Box::new(TlsFileFault::new(
            format!("the file {} has no unencrypted private key", file.display()),
            "remove the passphrase with `openssl pkey -in KEY -out NEWKEY`",
            error,
        )),
        error => unreadable("the private key", file, error),
    })
}

fn unreadable(what: &str, file: &Path, error: impl Into<Cause>) -> Box<TlsFileFault> {
    Box::new(TlsFileFault::new(
        format!("{what} {} cannot be read", file.display()),
        PEM,
        error,
    ))
}

/// `sslmode=require` and below: encryption, whoever is at the other end.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `sslmode=verify-ca`: the chain must hold, the name may be any.
///
/// rustls checks the chain first and the name last, so a complaint about
/// the name means that the chain has passed. A test holds it to that.
#[derive(Debug)]
struct AnyName(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self
            .0
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
