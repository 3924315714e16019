//! From a URL to a connection not yet made: its parts, the time that connecting may take, and what
//! of it is fit to be shown.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::error::ErrorKind;
use mongodb::options::{
    AuthMechanism, ClientOptions, Compressor, ConnectionString, ReadPreference,
    ReadPreferenceOptions, ServerAddress, Tls, TlsOptions,
};

use super::error::said;
use super::{MongoError, Refusal, misnamed_database, tls_files};
use crate::values::Secret;

/// How long one attempt to connect may take, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a member to talk to is looked for, unless the URL says otherwise.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest name that a client may give itself.
const APP_NAME_BYTES: usize = 128;

/// How to reach a target: its URL, looked at, and not yet connected to.
#[derive(Clone)]
pub struct Dial {
    url: Secret,
    database: String,
    shown: String,
    /// Whether the URL would rather have secondaries asked, where that is all the same.
    prefers_secondaries: bool,
    /// Which members it would have read, the first that there are.
    tag_sets: Vec<HashMap<String, String>>,
}

impl Dial {
    /// Whether the driver can read the URL.
    ///
    /// # Errors
    /// When it cannot.
    pub fn look_at(url: &Secret) -> Result<(), MongoError> {
        parsed(url).map(drop)
    }

    /// Takes the URL apart.
    ///
    /// # Errors
    /// When it makes no sense, or names no database.
    pub fn resolve(url: &Secret) -> Result<Dial, MongoError> {
        let database = parsed(url)?
            .default_database
            .filter(|database| !database.is_empty())
            .ok_or(MongoError::NoDatabase)?;
        let own = matches!(database.as_str(), "admin" | "config" | "local");
        match misnamed_database(&database).filter(|_| !own) {
            Some(why) => Err(MongoError::Url(format!("the database `{database}` {why}"))),
            None => Ok(Dial::of(url, database)),
        }
    }

    /// The same server, and this database instead of the one in the URL.
    ///
    /// # Errors
    /// When the URL makes no sense.
    pub fn to_database(url: &Secret, database: &str) -> Result<Dial, MongoError> {
        parsed(url)?;
        Ok(Dial::of(url, database.to_owned()))
    }

    fn of(url: &Secret, database: String) -> Dial {
        // The part behind the credentials, without options: fit to be shown.
        let text = url.expose();
        let (scheme, rest) = text.split_once("://").unwrap_or(("mongodb", text));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let shown = match scheme {
            "mongodb+srv" => format!("{host} (srv)"),
            _ => host.to_owned(),
        };
        let wanted = parsed(url).ok().and_then(|url| url.read_preference);
        let (prefers_secondaries, tag_sets) = match wanted {
            Some(
                ReadPreference::Secondary { options }
                | ReadPreference::SecondaryPreferred { options },
            ) => (true, tags(options)),
            Some(ReadPreference::Nearest { options }) => (false, tags(options)),
            _ => (false, Vec::new()),
        };
        Dial {
            url: url.clone(),
            database,
            shown,
            prefers_secondaries,
            tag_sets,
        }
    }

    /// Whether the URL's `readPreference` is for secondaries. It counts where a task may as well
    /// read from one, and nowhere else.
    pub fn prefers_secondaries(&self) -> bool {
        self.prefers_secondaries
    }

    /// The `readPreferenceTags` of the URL, in their order; empty where any member will do.
    pub fn tag_sets(&self) -> &[HashMap<String, String>] {
        &self.tag_sets
    }

    /// The database to look after.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The servers, for people; no secrets.
    pub fn describe(&self) -> &str {
        &self.shown
    }

    /// What is wrong with the files that the URL names for TLS, and what it leaves unverified.
    pub fn warnings(&self) -> Vec<String> {
        let Ok(ConnectionString {
            tls: Some(Tls::Enabled(tls)),
            ..
        }) = parsed(&self.url)
        else {
            return Vec::new();
        };
        let mut warnings = tls_files::flaws(&tls);
        if tls.allow_invalid_certificates == Some(true) {
            warnings.push("the server's certificate is not verified (`tlsInsecure`, `tlsAllowInvalidCertificates`): whoever stands in its place reads along, the password first. Name the authority that signed it with `tlsCAFile` instead".to_owned());
        }
        warnings
    }

    /// The driver's options, our defaults filled in; and whether TLS is asked
    /// for by default only. `name` is what the client calls itself.
    ///
    /// # Errors
    /// When the names of a `mongodb+srv` URL cannot be looked up.
    pub(super) async fn options(&self, name: &str) -> Result<(ClientOptions, bool), MongoError> {
        let mut options =
            ClientOptions::parse(self.url.expose())
                .await
                .map_err(|error| match error.kind.as_ref() {
                    ErrorKind::DnsResolve { .. } => MongoError::Connect {
                        server: self.shown.clone(),
                        refusal: Refusal::NoNames,
                    },
                    _ => MongoError::Url(without_url(&error, &self.url)),
                })?;
        if let Some(Tls::Enabled(tls)) = &options.tls {
            let flaws = tls_files::flaws(tls);
            if !flaws.is_empty() {
                return Err(MongoError::Connect {
                    server: self.shown.clone(),
                    refusal: Refusal::Other(flaws.join("; ")),
                });
            }
        }
        // Whose it is says the certificate; the driver fails over a name, as other clients take it.
        if let Some(credential) = &mut options.credential
            && credential.mechanism == Some(AuthMechanism::MongoDbX509)
        {
            credential.username = None;
        }
        // What a task reads it goes by, and transactions take no other: the primary is asked,
        // what it answers is not older than what was written, and writes are confirmed.
        options.selection_criteria = None;
        options.read_concern = None;
        options.write_concern = None;
        let mut end = name.len().min(APP_NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        options.app_name = Some(name[..end].to_owned());
        options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        options
            .server_selection_timeout
            .get_or_insert(SELECTION_TIMEOUT);
        // Whatever a task does, it does one after the other.
        options.max_pool_size.get_or_insert(8);
        if options.compressors.is_none() && !options.hosts.iter().all(is_local) {
            options.compressors = Some(vec![Compressor::Zstd { level: None }]);
        }
        let by_default = options.tls.is_none() && !options.hosts.iter().all(is_local);
        if by_default {
            options.tls = Some(Tls::Enabled(TlsOptions::default()));
        }
        Ok((options, by_default))
    }
}

fn tags(options: Option<ReadPreferenceOptions>) -> Vec<HashMap<String, String>> {
    options
        .and_then(|options| options.tag_sets)
        .unwrap_or_default()
}

pub(super) fn parsed(url: &Secret) -> Result<ConnectionString, MongoError> {
    let options = url
        .expose()
        .split_once('?')
        .map_or("", |(_, options)| options);
    if options
        .to_lowercase()
        .contains("tlscertificatekeyfilepassword=")
    {
        return Err(MongoError::Url(format!(
            "`tlsCertificateKeyFilePassword`: {}, without this option",
            tls_files::DECRYPT
        )));
    }
    ConnectionString::parse(url.expose()).map_err(|error| {
        MongoError::Url(match misread(url.expose()) {
            Some(option) => format!(
                "`{option}` behind the question mark: the driver knows no such option, or it takes no such value, or not with the others"
            ),
            None => without_url(&error, url),
        })
    })
}

/// The one option without which the driver could read a URL, where its name can be no part of a
/// password.
fn misread(url: &str) -> Option<&str> {
    let (before, options) = url.split_once('?')?;
    if options.contains('@') {
        return None;
    }
    let options: Vec<&str> = options.split('&').collect();
    let is_read = |options: &[&str]| {
        ConnectionString::parse(format!("{before}?{}", options.join("&"))).is_ok()
    };
    let culprit = (0..options.len()).find(|n| {
        let mut others = options.clone();
        others.remove(*n);
        is_read(&others)
    })?;
    let name = options.get(culprit)?.split('=').next()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    is_name.then_some(name)
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// Whether the way to a server does not leave this machine.
fn is_local(address: &ServerAddress) -> bool {
    match address {
        ServerAddress::Tcp { host, .. } => {
            let host = host.trim_matches(['[', ']']);
            host.eq_ignore_ascii_case("localhost")
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        _ => true,
    }
}

/// What the driver says of a URL, without any part of the URL that could be a secret.
fn without_url(error: &mongodb::error::Error, url: &Secret) -> String {
    let text = match error.kind.as_ref() {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } => message.clone(),
        mongodb::error::ErrorKind::DnsResolve { message, .. } => {
            format!("its names could not be looked up: {message}")
        }
        _ => said(error),
    };
    // The driver cuts the URL where it believes its parts to be, so that any piece of a password
    // may be in what it says: what repeats one is not repeated.
    let url = url.expose();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (secret, open) = rest.rsplit_once('@').unwrap_or(("", rest));
    let values = open.split_once('?').map_or("", |(_, options)| options);
    let values = values.split(['&', ';']).filter_map(|o| o.split_once('='));
    let quoted = std::iter::once(secret)
        .chain(values.map(|(_, value)| value))
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .any(|piece| piece.len() > 1 && text.contains(piece));
    match quoted || (!secret.is_empty() && text.contains(url)) {
        true => "it is not as the driver reads it, which repeats parts of it that may be secret: \
             percent-encode every special character of the user's name and the password, and look \
             at the options behind the question mark"
            .to_owned(),
        false => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
