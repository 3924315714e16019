//! The files that a URL names for TLS, looked at before the driver does: it says of them only what
//! its own parts say.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use mongodb::options::TlsOptions;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";
/// Of the two ways in which a key is encrypted, the words of each.
const ENCRYPTED: [&str; 2] = [
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "Proc-Type: 4,ENCRYPTED",
];

/// What is to be done about a key that only a password opens.
pub(super) const DECRYPT: &str = "maint opens no encrypted keys: write it decrypted (openssl pkey -in FILE -out PLAIN), with its certificate, into a file that only maint's user may read, and name that";

/// What keeps these files from being used, each with what was expected.
pub(super) fn flaws(tls: &TlsOptions) -> Vec<String> {
    let mut flaws = Vec::new();
    if let Some(path) = &tls.ca_file_path {
        let expected = format!(
            "expected the certificates of the authorities that are trusted, each from `{CERTIFICATE}` on"
        );
        match text(path) {
            Err(why) => flaws.push(format!("`tlsCAFile` {}: {why}; {expected}", path.display())),
            Ok(text) if !text.contains(CERTIFICATE) => flaws.push(format!(
                "`tlsCAFile` {}: it holds no certificate; {expected}",
                path.display()
            )),
            Ok(_) => {}
        }
    }
    if let Some(path) = &tls.cert_key_file_path {
        let at = format!("`tlsCertificateKeyFile` {}", path.display());
        let expected = format!(
            "expected the certificate of the client, from `{CERTIFICATE}` on, and its private key"
        );
        match text(path) {
            Err(why) => flaws.push(format!("{at}: {why}; {expected}")),
            Ok(text) if ENCRYPTED.iter().any(|words| text.contains(words)) => {
                flaws.push(format!("{at}: its key is encrypted; {DECRYPT}"));
            }
            Ok(text) => match (text.contains(CERTIFICATE), text.contains(KEY)) {
                (true, true) => {}
                (true, false) => {
                    flaws.push(format!("{at}: it holds no private key; {expected}"));
                }
                (false, _) => flaws.push(format!("{at}: it holds no certificate; {expected}")),
            },
        }
    }
    flaws
}

fn text(path: &Path) -> Result<String, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(match error.kind() {
            ErrorKind::NotFound => "there is no such file".to_owned(),
            ErrorKind::PermissionDenied => "it may not be read".to_owned(),
            _ => format!("it could not be read: {error}"),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_told_with_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let certificate = file("c.pem", "-----BEGIN CERTIFICATE-----\n");
        let key = file("k.pem", "-----BEGIN PRIVATE KEY-----\n");
        let both = file(
            "b.pem",
            "-----BEGIN PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\n",
        );
        let encrypted = file("e.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        let gone = folder.path().join("gone.pem");
        let of = |authority: &Path, own: &Path| {
            let mut tls = TlsOptions::default();
            tls.ca_file_path = Some(authority.to_owned());
            tls.cert_key_file_path = Some(own.to_owned());
            flaws(&tls)
        };
        assert!(of(&certificate, &both).is_empty());
        for (authority, own, said) in [
            (&gone, &both, "gone.pem: there is no such file"),
            (&key, &both, "k.pem: it holds no certificate"),
            (&certificate, &gone, "`tlsCertificateKeyFile`"),
            (&certificate, &certificate, "c.pem: it holds no private key"),
            (&certificate, &key, "k.pem: it holds no certificate"),
            (&certificate, &encrypted, "openssl pkey"),
        ] {
            let told = of(authority, own);
            assert!(told.len() == 1 && told[0].contains(said), "{told:?}");
        }
    }
}
