//! The files that a URL names for TLS, looked at before the driver does: it says of them only what
//! its own parts say.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
                (true, true) => {
                    if let Some(version) = version(&text).filter(|version| *version != 3) {
                        flaws.push(format!("{at}: its certificate is of version {version} of X.509, and version 3 is needed: sign it anew with an extension, such as `extendedKeyUsage = clientAuth` (openssl x509 -req … -extfile FILE)"));
                    }
                }
                (true, false) => {
                    flaws.push(format!("{at}: it holds no private key; {expected}"));
                }
                (false, _) => flaws.push(format!("{at}: it holds no certificate; {expected}")),
            },
        }
    }
    flaws
}

/// The version of the first certificate in a text; none where that cannot be told.
fn version(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once(CERTIFICATE)?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    // A sequence, in which there is the sequence of what is signed. Its version is left out for 1.
    let (0x30, whole) = element(&der)? else {
        return None;
    };
    let (0x30, signed) = element(whole)? else {
        return None;
    };
    match element(signed)? {
        (0xa0, version) => match element(version)? {
            (0x02, [number]) => number.checked_add(1),
            _ => None,
        },
        _ => Some(1),
    }
}

/// The tag of a DER element, and its content.
fn element(der: &[u8]) -> Option<(u8, &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    Some((tag, rest.get(..length)?))
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
    fn the_version_of_a_certificate_is_read() {
        let pem = |signed: &[u8]| {
            let mut der = vec![0x30, 2 + signed.len() as u8, 0x30, signed.len() as u8];
            der.extend(signed);
            let body = STANDARD.encode(der);
            let (one, other) = body.split_at(4);
            format!("key\n{CERTIFICATE}\n{one}\n{other}\n-----END CERTIFICATE-----\n")
        };
        assert_eq!(version(&pem(&[0x02, 1, 7])), Some(1));
        assert_eq!(version(&pem(&[0xa0, 3, 0x02, 1, 1, 0x02, 1, 7])), Some(2));
        assert_eq!(version(&pem(&[0xa0, 3, 0x02, 1, 2, 0x02, 1, 7])), Some(3));
        assert_eq!(version(CERTIFICATE), None);
        let long = rcgen::generate_simple_self_signed(["a".repeat(200)]).unwrap();
        assert_eq!(version(&long.cert.pem()), Some(3));
    }

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
