//! The ports behind a URL, for who lets others through to them.

use mongodb::options::{HostInfo, ServerAddress};

use super::Dial;
use super::dial::parsed;
use crate::engines::{Ports, Whereabouts};
use crate::values::Secret;

/// Where a server listens, unless the URL says otherwise.
const DEFAULT_PORT: u16 = 27017;

impl Dial {
    /// The TCP ports that the URL names; nothing is looked up.
    pub fn ports(url: Option<&Secret>) -> Ports {
        let guess = |why: &str| Ports {
            numbers: [DEFAULT_PORT].into(),
            guess: Some(why.to_owned()),
        };
        let Some(url) = url else {
            return guess("it has no URL here");
        };
        match parsed(url).map(|url| url.host_info) {
            Ok(HostInfo::HostIdentifiers(hosts)) => Ports {
                numbers: hosts.iter().filter_map(port).collect(),
                guess: None,
            },
            // Of a kind to come nothing is known either.
            Ok(_) => {
                guess("which servers there are, and their ports, is said by DNS (`mongodb+srv`)")
            }
            Err(why) => guess(&format!("its address cannot be taken apart here: {why}")),
        }
    }
}

impl Dial {
    /// Where the URL leads, as far as it says that itself.
    pub fn whereabouts(url: &Secret) -> Option<Whereabouts> {
        let url = parsed(url).ok()?;
        let servers = match url.host_info {
            HostInfo::HostIdentifiers(hosts) => hosts.iter().filter_map(server).collect(),
            HostInfo::DnsRecord(name) => [name.to_ascii_lowercase()].into(),
            _ => return None,
        };
        Some(Whereabouts {
            servers,
            database: url.default_database.filter(|name| !name.is_empty()),
        })
    }
}

fn server(address: &ServerAddress) -> Option<String> {
    match address {
        ServerAddress::Tcp { host, port } => {
            let port = port.unwrap_or(DEFAULT_PORT);
            Some(format!("{}:{port}", host.to_ascii_lowercase()))
        }
        _ => None,
    }
}

fn port(address: &ServerAddress) -> Option<u16> {
    match address {
        ServerAddress::Tcp { port, .. } => Some(port.unwrap_or(DEFAULT_PORT)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_says_its_ports() {
        for (url, ports, guessed) in [
            ("mongodb://h/d", vec![27017], false),
            (
                "mongodb://u:p@h:6001,i,[::1]:6002/d?replicaSet=r",
                vec![6001, 6002, 27017],
                false,
            ),
            ("mongodb+srv://h.example.com/d", vec![27017], true),
            ("mongodb://h:none/d", vec![27017], true),
        ] {
            let found = Dial::ports(Some(&Secret::new(url)));
            assert!(found.numbers.into_iter().eq(ports), "{url}");
            assert_eq!(found.guess.is_some(), guessed, "{url}");
        }
        assert!(Dial::ports(None).guess.is_some());
    }
}
