//! Why a server could not be reached: looked at once more, host by host,
//! without credentials, when the driver has given up.

use std::time::Duration;

use futures_util::future::join_all;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{AuthMechanism, ClientOptions, ServerAddress, Tls, TlsOptions};
use mongodb::{Client, error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::error::said;
use super::{MongoError, Refusal};

const PATIENCE: Duration = Duration::from_secs(3);
const DEFAULT_PORT: u16 = 27017;
/// How many names of members are tried.
const MOST_NAMES: usize = 7;
/// How often is looked for the reason of a server that ends a handshake.
const ALERTS: u32 = 4;

/// What kept the driver from getting in.
pub(super) async fn diagnose(
    options: &ClientOptions,
    by_default: bool,
    shown: &str,
    seen: &Error,
) -> MongoError {
    let of = |server: String, refusal| MongoError::Connect { server, refusal };
    if matches!(seen.kind.as_ref(), ErrorKind::Authentication { .. }) || code(seen) == Some(18) {
        let credential = options.credential.as_ref();
        let by_certificate = credential.and_then(|of| of.mechanism.as_ref());
        let refusal = match by_certificate {
            Some(AuthMechanism::MongoDbX509) => Refusal::Other(
                "authentication failed: in `$external` there is no user with the name that the certificate in `tlsCertificateKeyFile` has, or the server does not trust that certificate".to_owned(),
            ),
            _ => Refusal::Credentials,
        };
        return of(shown.to_owned(), refusal);
    }
    let mut worst = None;
    for address in &options.hosts {
        match look(options, address, by_default).await {
            // A member that answers tells more than those that are away.
            Looked::Answers(hello) => {
                let name = hello.get_str("setName").ok();
                let refusal = match (&options.repl_set_name, name) {
                    _ if options.load_balanced == Some(true) => Refusal::Other("the URL says `loadBalanced=true`, and what answers is no load balancer: leave it out".to_owned()),
                    (Some(_), None) => Refusal::NoSet,
                    (Some(wanted), Some(name)) if wanted != name => {
                        Refusal::SetName(name.to_owned())
                    }
                    (_, Some(_)) => match astray(options, &hello, by_default).await {
                        Some(refusal) => refusal,
                        None => Refusal::NoPrimary,
                    },
                    (None, None) => Refusal::Other(short(seen)),
                };
                return of(address.to_string(), refusal);
            }
            Looked::Refuses(refusal) => {
                worst.get_or_insert_with(|| of(address.to_string(), refusal));
            }
        }
    }
    worst.unwrap_or_else(|| of(shown.to_owned(), Refusal::Other(short(seen))))
}

/// That the set has a primary, and that the name it has there does not lead to it from here; none where
/// there is no primary, or it is reached.
async fn astray(options: &ClientOptions, hello: &Document, by_default: bool) -> Option<Refusal> {
    let primary = hello.get_str("primary").ok()?.to_owned();
    let hosts = hello.get_array("hosts").into_iter().flatten();
    let mut names: Vec<&str> = hosts.filter_map(Bson::as_str).take(MOST_NAMES).collect();
    if !names.contains(&primary.as_str()) {
        names.push(&primary);
    }
    let each = names.into_iter().map(async |name| {
        let refusal = match ServerAddress::parse(name) {
            Ok(address) => look(options, &address, by_default).await,
            Err(error) => Looked::Refuses(Refusal::Other(short(&error))),
        };
        match refusal {
            Looked::Answers(_) => None,
            Looked::Refuses(why) => Some((name.to_owned(), why)),
        }
    });
    let lost: Vec<(String, Refusal)> = join_all(each).await.into_iter().flatten().collect();
    let lost: Vec<(String, String)> = lost
        .into_iter()
        .map(|(name, why)| (name, why.in_short()))
        .collect();
    let is_lost = lost.iter().any(|(name, _)| *name == primary);
    is_lost.then(|| Refusal::Astray {
        primary,
        lost,
        writable: hello.get_bool("isWritablePrimary").unwrap_or(false),
    })
}

enum Looked {
    Answers(Document),
    Refuses(Refusal),
}

async fn look(options: &ClientOptions, address: &ServerAddress, by_default: bool) -> Looked {
    let ServerAddress::Tcp { host, port } = address else {
        return match hello(options, address, options.tls.clone()).await {
            Ok(hello) => Looked::Answers(hello),
            Err(error) => Looked::Refuses(Refusal::Other(short(&error))),
        };
    };
    let bare = host.trim_matches(['[', ']']);
    let Ok(Ok(addresses)) =
        timeout(PATIENCE, lookup_host((bare, port.unwrap_or(DEFAULT_PORT)))).await
    else {
        return Looked::Refuses(Refusal::UnknownHost);
    };
    let mut refusal = Refusal::NoAnswer;
    let mut open = None;
    for address in addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                open = Some(address);
                break;
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                refusal = Refusal::Refused;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    let Some(open) = open else {
        return Looked::Refuses(refusal);
    };
    if is_silent(open).await {
        return Looked::Refuses(Refusal::NoAnswer);
    }
    let asked = match hello(options, address, options.tls.clone()).await {
        Ok(hello) => return Looked::Answers(hello),
        Err(error) => error,
    };
    if matches!(options.tls, Some(Tls::Enabled(_))) {
        if hello(options, address, Some(Tls::Disabled)).await.is_ok() {
            return Looked::Refuses(Refusal::NoTls { by_default });
        }
        let mut trusting = TlsOptions::default();
        trusting.allow_invalid_certificates = Some(true);
        let without = Some(Tls::Enabled(trusting.clone()));
        if let Some(Tls::Enabled(own)) = &options.tls {
            trusting
                .cert_key_file_path
                .clone_from(&own.cert_key_file_path);
        }
        let comes_with_one = trusting.cert_key_file_path.is_some();
        let text = asked.to_string();
        let mut trusted = hello(options, address, Some(Tls::Enabled(trusting.clone()))).await;
        if !comes_with_one {
            // Why the server has ended the connection may be lost on the way where it was ended at once.
            for _ in 0..ALERTS {
                match &trusted {
                    Err(error) if demands_one(error) => {
                        return Looked::Refuses(Refusal::NoCertificate { said: true });
                    }
                    Err(error) if ends_at_once(error) => {
                        return Looked::Refuses(Refusal::NoCertificate { said: false });
                    }
                    Ok(_) => break,
                    Err(_) => {
                        trusted =
                            hello(options, address, Some(Tls::Enabled(trusting.clone()))).await;
                    }
                }
            }
        }
        // Where nothing of the server's is looked at, and it still ends the connection, it is about ours.
        if let Err(error) = &trusted
            && comes_with_one
            && (error.to_string().contains("fatal alert")
                || hello(options, address, without).await.is_ok())
        {
            return Looked::Refuses(Refusal::OurCertificate);
        }
        if trusted.is_ok() || text.contains("certificate") {
            return Looked::Refuses(Refusal::Certificate(certificate(&text)));
        }
        return Looked::Refuses(Refusal::Other(short(&asked)));
    }
    let mut trusting = TlsOptions::default();
    trusting.allow_invalid_certificates = Some(true);
    if let Some(Tls::Enabled(own)) = &options.tls {
        trusting
            .cert_key_file_path
            .clone_from(&own.cert_key_file_path);
    }
    match hello(options, address, Some(Tls::Enabled(trusting))).await {
        Ok(_) => Looked::Refuses(Refusal::WantsTls),
        // A server that wants a certificate of ours ends the handshake in its own words.
        Err(error) if demands_one(&error) => Looked::Refuses(Refusal::WantsTls),
        Err(_) => Looked::Refuses(Refusal::Other(short(&asked))),
    }
}

/// Whether a server has ended the handshake for want of a certificate of ours, as rustls, which is our
/// own, says it.
fn demands_one(error: &Error) -> bool {
    error.to_string().contains("CertificateRequired")
}

/// Whether a server has ended the connection after the handshake, without a word: newer ones look then
/// whether a certificate has come.
fn ends_at_once(error: &Error) -> bool {
    let text = error.to_string();
    let ended = [
        "close_notify",
        "reset by peer",
        "Broken pipe",
        "end of file",
    ];
    !text.contains("handshake") && ended.iter().any(|word| text.contains(word))
}

/// Whether nothing comes back to a question, not even an end: a server that wants TLS ends the
/// connection, and any other answers. What takes connections and is stuck does neither.
async fn is_silent(at: std::net::SocketAddr) -> bool {
    let Ok(body) = RawDocumentBuf::try_from(&doc! { "hello": 1, "$db": "admin" }) else {
        return false;
    };
    let length = 16 + 4 + 1 + body.as_bytes().len();
    let mut question = Vec::with_capacity(length);
    // Length, number of the question, of what it answers, OP_MSG; no flags; one body.
    for n in [u32::try_from(length).unwrap_or_default(), 1, 0, 2013, 0] {
        question.extend(n.to_le_bytes());
    }
    question.push(0);
    question.extend(body.as_bytes());
    let ask = async {
        let mut wire = TcpStream::connect(at).await?;
        wire.write_all(&question).await?;
        wire.read(&mut [0; 1]).await
    };
    timeout(PATIENCE, ask).await.is_err()
}

/// Asks one server who it is. Credentials stay here.
async fn hello(
    options: &ClientOptions,
    address: &ServerAddress,
    tls: Option<Tls>,
) -> error::Result<Document> {
    let mut plain = ClientOptions::default();
    plain.hosts = vec![address.clone()];
    plain.direct_connection = Some(true);
    plain.tls = tls;
    plain.app_name.clone_from(&options.app_name);
    plain.connect_timeout = Some(PATIENCE);
    plain.server_selection_timeout = Some(PATIENCE);
    let client = Client::with_options(plain)?;
    let answer = client
        .database("admin")
        .run_command(doc! { "hello": 1 })
        .await;
    client.shutdown().immediate(true).await;
    answer
}

/// What rustls, which is our own, says of a certificate.
fn certificate(text: &str) -> String {
    for (word, meaning) in [
        ("UnknownIssuer", "it is signed by an unknown authority"),
        (
            "CaUsedAsEndEntity",
            "it is the certificate of an authority, not of a server",
        ),
        ("NotValidForName", "it was made for another host"),
        ("Expired", "it has expired"),
        ("NotValidYet", "it is not valid yet"),
        ("Revoked", "it has been revoked"),
    ] {
        if text.contains(word) {
            return meaning.to_owned();
        }
    }
    "it could not be verified".to_owned()
}

fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}

fn short(error: &Error) -> String {
    said(error)
}
