//! The connection parameters libpq knows, and what maint does with each.

use std::collections::BTreeMap;

use super::dial_error::{DialError, Origin};

/// What happens when a parameter is given.
#[derive(Clone, Copy)]
enum Handling {
    /// It shapes the connection.
    Used,
    /// It is accepted and has no effect, because maint decides this itself
    /// or because it only tunes something maint does not have.
    Ignored,
    /// It is an error. Everything that promises protection and that maint
    /// cannot keep belongs here: dropping it silently would be a lie.
    Refused(&'static str),
}

struct Parameter {
    name: &'static str,
    variable: Option<&'static str>,
    handling: Handling,
}

const fn used(name: &'static str, variable: &'static str) -> Parameter {
    Parameter {
        name,
        variable: Some(variable),
        handling: Handling::Used,
    }
}

const fn used_without_variable(name: &'static str) -> Parameter {
    Parameter {
        name,
        variable: None,
        handling: Handling::Used,
    }
}

const fn ignored(name: &'static str) -> Parameter {
    Parameter {
        name,
        variable: None,
        handling: Handling::Ignored,
    }
}

const fn refused(
    name: &'static str,
    variable: Option<&'static str>,
    reason: &'static str,
) -> Parameter {
    Parameter {
        name,
        variable,
        handling: Handling::Refused(reason),
    }
}

const NO_GSS: &str = "it was built without Kerberos";
const NO_OAUTH: &str = "it cannot log in by OAuth";

const PARAMETERS: &[Parameter] = &[
    used("host", "PGHOST"),
    used("hostaddr", "PGHOSTADDR"),
    used("port", "PGPORT"),
    used("dbname", "PGDATABASE"),
    used("user", "PGUSER"),
    used("password", "PGPASSWORD"),
    used("passfile", "PGPASSFILE"),
    used("service", "PGSERVICE"),
    used("servicefile", "PGSERVICEFILE"),
    used("options", "PGOPTIONS"),
    used("connect_timeout", "PGCONNECT_TIMEOUT"),
    used("target_session_attrs", "PGTARGETSESSIONATTRS"),
    used("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    used("channel_binding", "PGCHANNELBINDING"),
    used("gssencmode", "PGGSSENCMODE"),
    used("sslmode", "PGSSLMODE"),
    used("sslnegotiation", "PGSSLNEGOTIATION"),
    used("sslrootcert", "PGSSLROOTCERT"),
    used("sslcert", "PGSSLCERT"),
    used("sslkey", "PGSSLKEY"),
    used("sslcertmode", "PGSSLCERTMODE"),
    used("sslcrl", "PGSSLCRL"),
    used("sslsni", "PGSSLSNI"),
    used("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    used_without_variable("keepalives"),
    used_without_variable("keepalives_idle"),
    used_without_variable("keepalives_interval"),
    used_without_variable("keepalives_count"),
    used_without_variable("tcp_user_timeout"),
    // The session's name is maint's own, so that `pg_stat_activity` tells
    // a DBA who is working.
    ignored("application_name"),
    ignored("fallback_application_name"),
    // The driver speaks UTF-8 only.
    ignored("client_encoding"),
    ignored("krbsrvname"),
    ignored("gsslib"),
    // rustls has no compression, which is what everybody wants since 2012.
    ignored("sslcompression"),
    refused("gssdelegation", None, NO_GSS),
    refused(
        "sslcrldir",
        Some("PGSSLCRLDIR"),
        "name one file with `sslcrl` instead",
    ),
    refused(
        "sslpassword",
        None,
        "it reads only unencrypted private keys",
    ),
    refused(
        "sslkeylogfile",
        None,
        "it never writes session keys to a file",
    ),
    refused(
        "ssl_max_protocol_version",
        Some("PGSSLMAXPROTOCOLVERSION"),
        "it always offers the newest TLS version",
    ),
    refused(
        "min_protocol_version",
        Some("PGMINPROTOCOLVERSION"),
        "it speaks protocol 3.0 only",
    ),
    refused(
        "max_protocol_version",
        Some("PGMAXPROTOCOLVERSION"),
        "it speaks protocol 3.0 only",
    ),
    refused(
        "requiressl",
        Some("PGREQUIRESSL"),
        "write `sslmode=require` instead",
    ),
    refused(
        "requirepeer",
        Some("PGREQUIREPEER"),
        "it cannot check who owns the server process",
    ),
    refused(
        "require_auth",
        Some("PGREQUIREAUTH"),
        "it cannot restrict the login method",
    ),
    refused("replication", None, "it needs an ordinary session"),
    refused(
        "scram_client_key",
        None,
        "it logs in with the password itself",
    ),
    refused(
        "scram_server_key",
        None,
        "it logs in with the password itself",
    ),
    refused("oauth_issuer", None, NO_OAUTH),
    refused("oauth_client_id", None, NO_OAUTH),
    refused("oauth_client_secret", None, NO_OAUTH),
    refused("oauth_scope", None, NO_OAUTH),
];

/// The names a user may write, for "did you mean".
fn known_names() -> impl Iterator<Item = &'static str> {
    PARAMETERS
        .iter()
        .filter(|parameter| !matches!(parameter.handling, Handling::Refused(_)))
        .map(|parameter| parameter.name)
}

/// One value and where it came from. Has no `Debug`: it may be a password.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) origin: Origin,
    /// Errors must not quote the value: it may be a piece of a password
    /// that was not percent-encoded.
    pub(super) discreet: bool,
}

impl Setting {
    pub(super) fn invalid(&self, name: &'static str, expected: &'static str) -> DialError {
        // A piece of a password may stand anywhere in a URL.
        let in_url = matches!(self.origin, Origin::Url);
        let value = if in_url || self.discreet || name == "password" {
            "a value (not shown)".to_owned()
        } else {
            format!("the value `{}`", self.value)
        };
        DialError::InvalidValue {
            name,
            origin: self.origin.clone(),
            value,
            expected,
        }
    }
}

/// Everything that was said, by parameter name. The first word wins, so
/// sources are added in the order of their precedence.
#[derive(Default)]
pub(super) struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// Takes one pair, unless an earlier source has already decided it.
    ///
    /// Empty values count as not given, as in libpq.
    pub(super) fn accept(&mut self, name: &str, setting: Setting) -> Result<(), DialError> {
        let Some(parameter) = PARAMETERS.iter().find(|known| known.name == name) else {
            let shown = if setting.discreet {
                "(not shown)"
            } else {
                name
            };
            return Err(DialError::UnknownParameter {
                name: shown.to_owned(),
                origin: setting.origin,
                nearest: nearest(name),
                known: known_names().collect(),
            });
        };
        if setting.value.is_empty() {
            return Ok(());
        }
        match parameter.handling {
            Handling::Used => {
                self.0.entry(parameter.name).or_insert(setting);
                Ok(())
            }
            Handling::Ignored => Ok(()),
            Handling::Refused(reason) => Err(DialError::Unsupported {
                name: parameter.name,
                origin: setting.origin,
                reason,
            }),
        }
    }

    /// Takes the `PG…` variables.
    pub(super) fn accept_environment(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), DialError> {
        for parameter in PARAMETERS {
            let Some(variable) = parameter.variable else {
                continue;
            };
            let Some(value) = env(variable) else { continue };
            let origin = Origin::Variable(variable);
            self.accept(
                parameter.name,
                Setting {
                    value,
                    origin,
                    discreet: false,
                },
            )?;
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|setting| setting.value.as_str())
    }

    /// The value as one of a few words, or an error that lists them.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &'static str,
        expected: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, DialError> {
        let Some(setting) = self.get(name) else {
            return Ok(None);
        };
        choices
            .iter()
            .find(|(word, _)| *word == setting.value)
            .map(|(_, choice)| Some(*choice))
            .ok_or_else(|| setting.invalid(name, expected))
    }

    /// The value as a whole number.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<i64>, DialError> {
        let Some(setting) = self.get(name) else {
            return Ok(None);
        };
        match setting.value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(setting.invalid(name, "a whole number")),
        }
    }
}

/// The known name a misspelt one probably means.
fn nearest(name: &str) -> Option<&'static str> {
    known_names()
        .map(|known| {
            (
                strsim::damerau_levenshtein(&name.to_lowercase(), known),
                known,
            )
        })
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 4))
        .min()
        .map(|(_, known)| known)
}

pub(super) fn invalid(
    settings: &Settings,
    name: &'static str,
    expected: &'static str,
) -> DialError {
    match settings.get(name) {
        Some(setting) => setting.invalid(name, expected),
        None => DialError::Mismatch {
            problem: format!("`{name}` must be {expected}"),
        },
    }
}
