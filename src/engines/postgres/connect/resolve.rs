//! From words to a [`Dial`]: precedence, lists, defaults.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::ChannelBinding;

use super::dial::{Dial, Host, Password, Place, SessionKind};
use super::dial_error::{DialError, Origin};
use super::environment::{Environment, default_host, operating_system_user};
use super::parameters::{Setting, Settings, invalid};
use super::passfile::{self, Found, Wanted};
use super::resolve_tls::{mode, mode_for, tls_files};
use super::wire::Keepalive;
use super::{service, url};

/// How long one address may take to give a session.
///
/// libpq waits for ever, which a nightly job must not: behind a firewall
/// that drops packets it would hang through its whole window.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const DEFAULT_PORT: u16 = 5432;
const ROLE: &str = "the name of a role alone: between it and the password stands a `:` that is not percent-encoded, as in `postgres://role:password@host`; a role whose name has one, or a `;` or `,`, is given as PGUSER";
const PORT: &str = "a number from 1 to 65535, or one per host, separated by commas";

impl Dial {
    /// Resolves a connection from `url` (a `postgres://` URL or a libpq
    /// keyword string), then the service file, then the `PG…` variables,
    /// then the defaults. `env` looks up variables.
    pub fn resolve(
        url: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Dial, DialError> {
        let environment = Environment::new(env);
        build(&settings(url, env, &environment)?, &environment)
    }
}

/// What the URL, the service file and the variables say, in this order.
pub(super) fn settings(
    url: Option<&str>,
    env: &dyn Fn(&str) -> Option<String>,
    environment: &Environment<'_>,
) -> Result<Settings, DialError> {
    let mut settings = Settings::default();
    if let Some(url) = url {
        let parsed = url::parse(url)?;
        // The last word of a URL wins, and the first one accepted does.
        for (name, value) in parsed.pairs.into_iter().rev() {
            let discreet = parsed.discreet;
            settings.accept(
                &name,
                Setting {
                    value,
                    origin: Origin::Url,
                    discreet,
                },
            )?;
        }
    }
    let service = settings
        .value("service")
        .map(str::to_owned)
        .or_else(|| environment.get("PGSERVICE"));
    if let Some(service) = service {
        service::accept(&mut settings, &service, environment)?;
    }
    settings.accept_environment(env)?;
    Ok(settings)
}

fn build(settings: &Settings, environment: &Environment<'_>) -> Result<Dial, DialError> {
    let role = match settings.value("user") {
        Some(role) => role.to_owned(),
        None => operating_system_user()?,
    };
    if let Some(setting) = settings.get("user")
        && matches!(setting.origin, Origin::Url)
        && (role.contains([':', ';', ',']) || role.contains("password="))
    {
        // What follows is a password, as a template makes it that encodes user and password in one.
        let hidden = Setting {
            value: String::new(),
            origin: setting.origin.clone(),
            discreet: true,
        };
        return Err(hidden.invalid("user", ROLE));
    }
    let database = settings.value("dbname").unwrap_or(&role).to_owned();
    if settings.value("gssencmode") == Some("require") {
        return Err(DialError::Unsupported {
            name: "gssencmode",
            origin: settings
                .get("gssencmode")
                .map_or(Origin::Url, |s| s.origin.clone()),
            reason: "it was built without Kerberos",
        });
    }
    let tls = tls_files(settings, environment)?;
    let mode = mode(settings, &tls)?;
    let mut hosts = Vec::new();
    for (place, port) in places(settings)? {
        let mode_was_given = mode.is_some();
        let mode = mode_for(&place, mode, settings, &tls)?;
        let password = password(settings, environment, &place, port, &database, &role);
        hosts.push(Host {
            place,
            port,
            mode,
            mode_was_given,
            password,
        });
    }
    Ok(Dial {
        hosts,
        options: settings.value("options").map(str::to_owned),
        tls,
        channel_binding: settings
            .choice(
                "channel_binding",
                "one of disable, prefer, require",
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?
            .unwrap_or(ChannelBinding::Prefer),
        session: settings
            .choice(
                "target_session_attrs",
                "one of any, read-write, read-only, primary, standby, prefer-standby",
                &[
                    SessionKind::Any,
                    SessionKind::ReadWrite,
                    SessionKind::ReadOnly,
                    SessionKind::Primary,
                    SessionKind::Standby,
                    SessionKind::PreferStandby,
                ]
                .map(|kind| (kind.word(), kind)),
            )?
            .unwrap_or(SessionKind::Any),
        timeout: match settings.number("connect_timeout")? {
            None => Some(CONNECT_TIMEOUT),
            Some(seconds) => u64::try_from(seconds)
                .ok()
                .filter(|s| *s > 0)
                .map(Duration::from_secs),
        },
        keepalive: keepalive(settings)?,
        listed: false,
        random_order: settings
            .choice(
                "load_balance_hosts",
                "disable or random",
                &[("disable", false), ("random", true)],
            )?
            .unwrap_or(false),
        role,
        database,
    })
}

/// The hosts with their ports, in the order given.
pub(super) fn places(settings: &Settings) -> Result<Vec<(Place, u16)>, DialError> {
    let list = |name| -> Vec<String> {
        let value: Option<&str> = settings.value(name);
        value
            .map(|v| v.split(',').map(|s| s.trim().to_owned()).collect())
            .unwrap_or_default()
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(DialError::Mismatch {
            problem: format!(
                "there are {} hosts and {} addresses",
                names.len(),
                addresses.len()
            ),
        });
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(DialError::Mismatch {
            problem: format!("there are {count} hosts and {} ports", ports.len()),
        });
    }
    let mut places = Vec::with_capacity(count);
    for index in 0..count {
        let port = match ports.get(index).or(ports.first()).map(String::as_str) {
            None | Some("") => DEFAULT_PORT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| invalid(settings, "port", PORT))?,
        };
        let address = match addresses.get(index).map(String::as_str) {
            None | Some("") => None,
            Some(text) => Some(
                text.parse::<IpAddr>()
                    .map_err(|_| invalid(settings, "hostaddr", "an IPv4 or IPv6 address"))?,
            ),
        };
        let name = names.get(index).filter(|name| !name.is_empty()).cloned();
        let place = match (name, address) {
            (Some(name), None) if name.starts_with('/') => Place::Socket(PathBuf::from(name)),
            (Some(name), address) => Place::Tcp { name, address },
            (None, Some(address)) => Place::Tcp {
                name: address.to_string(),
                address: Some(address),
            },
            (None, None) => match default_host(port) {
                host if host.starts_with('/') => Place::Socket(PathBuf::from(host)),
                name => Place::Tcp {
                    name,
                    address: None,
                },
            },
        };
        places.push((place, port));
    }
    Ok(places)
}

fn keepalive(settings: &Settings) -> Result<Keepalive, DialError> {
    let positive = |name| -> Result<Option<u32>, DialError> {
        Ok(settings
            .number(name)?
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0))
    };
    let seconds = |name| -> Result<Option<Duration>, DialError> {
        Ok(positive(name)?.map(|seconds| Duration::from_secs(seconds.into())))
    };
    Ok(Keepalive {
        on: settings.number("keepalives")? != Some(0),
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: positive("keepalives_count")?,
        user_timeout: positive("tcp_user_timeout")?.map(|ms| Duration::from_millis(ms.into())),
    })
}

fn password(
    settings: &Settings,
    environment: &Environment<'_>,
    place: &Place,
    port: u16,
    database: &str,
    role: &str,
) -> Password {
    if let Some(setting) = settings.get("password") {
        return Password {
            value: Some(setting.value.clone().into()),
            sources: vec![setting.origin.to_string()],
        };
    }
    let mut sources = vec!["the URL".to_owned(), "PGPASSWORD".to_owned()];
    let file = settings
        .value("passfile")
        .map(PathBuf::from)
        .or_else(|| environment.home_file(".pgpass"));
    let Some(file) = file else {
        return Password {
            value: None,
            sources,
        };
    };
    let directory;
    let names: &[&str] = match place {
        Place::Socket(path) => {
            directory = path.display().to_string();
            &[directory.as_str(), "localhost"]
        }
        Place::Tcp { name, .. } => &[name.as_str()],
    };
    match passfile::look_up(
        &file,
        &Wanted {
            hosts: names,
            port,
            database,
            role,
        },
    ) {
        Found::Password(password) => Password {
            value: Some(password),
            sources: vec![shown(&file)],
        },
        Found::Nothing(reason) => {
            sources.push(format!("{} (which {reason})", shown(&file)));
            Password {
                value: None,
                sources,
            }
        }
    }
}

fn shown(file: &Path) -> String {
    format!("the file {}", file.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "resolve_tests.rs"]
mod tests;
