//! The ports behind a URL, for who lets others through to them.

use std::collections::BTreeSet;

use super::dial::{Dial, Place};
use super::dial_error::DialError;
use super::environment::Environment;
use super::resolve::{DEFAULT_PORT, places, settings};
use crate::engines::Ports;

impl Dial {
    /// The TCP ports that [`Dial::resolve`] would find, also where it would want files that this
    /// machine does not have. A variable such as `PGPORT` may be set here and not elsewhere, so that
    /// both ports are among them.
    pub fn ports(url: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Ports {
        let (mut numbers, failed) = match tcp(url, env) {
            Ok(found) => (found, None),
            Err(why) => (BTreeSet::new(), Some(why.to_string())),
        };
        // What is named by variables of this machine only is not there without them.
        numbers.extend(tcp(url, &|_| None).unwrap_or_default());
        let is_set = |name: &&str| env(name).is_some_and(|value| !value.is_empty());
        let variables = ["PGHOST", "PGPORT", "PGSERVICE"];
        let guess = match (failed, url) {
            (Some(why), _) => Some(format!("its address cannot be taken apart here: {why}")),
            (None, None) if !variables.iter().any(is_set) => Some(
                "it has no URL, and neither PGHOST nor PGPORT nor PGSERVICE is set here".to_owned(),
            ),
            (None, _) => None,
        };
        if numbers.is_empty() {
            numbers.insert(DEFAULT_PORT);
        }
        Ports { numbers, guess }
    }
}

fn tcp(
    url: Option<&str>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeSet<u16>, DialError> {
    let settings = settings(url, env, &Environment::new(env))?;
    let places = places(&settings)?.into_iter();
    let ports = places.filter_map(|(place, port)| match place {
        Place::Tcp { .. } => Some(port),
        Place::Socket(_) => None,
    });
    Ok(ports.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn of(url: Option<&str>, env: &[(&str, &str)]) -> (Vec<u16>, Option<String>) {
        let look_up = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let ports = Dial::ports(url, &look_up);
        (ports.numbers.into_iter().collect(), ports.guess)
    }

    #[test]
    fn every_form_of_an_address_says_its_ports() {
        for (url, ports) in [
            ("postgres://h/d", vec![5432]),
            ("postgres://u:p@h:6001/d", vec![6001]),
            ("postgres://h:6001,i,[::1]:6002/d", vec![5432, 6001, 6002]),
            ("host=h port=6003 dbname=d", vec![6003]),
            ("host=h,i port=6003,6004", vec![6003, 6004]),
            ("host=h,i port=6003", vec![6003]),
            ("postgres://u@/d?host=h&port=6005", vec![6005]),
            ("postgres://u@h/d?port=6006", vec![6006]),
            ("postgres://u@h:6001/d?port=6006", vec![6006]),
            ("hostaddr=10.1.2.3 port=6007", vec![6007]),
            // Files that only the other machine has are nothing to a port.
            (
                "postgres://h:6008/d?sslrootcert=/no/such.pem&sslmode=verify-full",
                vec![6008],
            ),
            ("host=/run/postgresql,h port=6009,6010", vec![6010]),
        ] {
            assert_eq!(of(Some(url), &[]), (ports, None), "{url}");
        }
    }

    #[test]
    fn what_is_said_elsewhere_counts_and_what_is_not_is_a_guess() {
        let here = [("PGHOST", "h"), ("PGPORT", "6011")];
        assert_eq!(of(None, &here).1, None);
        assert!(of(None, &here).0.contains(&6011));
        assert_eq!(of(Some("postgres://h/d"), &here), (vec![5432, 6011], None));
        let (ports, guess) = of(None, &[]);
        assert_eq!(ports, [5432]);
        assert!(guess.unwrap().contains("PGHOST"));
        let (ports, guess) = of(Some("service=none"), &[("PGSERVICEFILE", "/no/such/file")]);
        assert_eq!(ports, [5432]);
        assert!(guess.unwrap().contains("cannot be taken apart here"));
    }
}
