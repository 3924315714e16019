//! What an address says of where a server listens.

use std::collections::BTreeSet;

/// The TCP ports behind one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Their numbers; never none, unless only sockets or folders of a machine are named.
    pub numbers: BTreeSet<u16>,
    /// Why others may be meant as well, where the address does not say it; for people, no secrets.
    pub guess: Option<String>,
}

/// Where an address leads, as it says itself; nothing is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The servers that it names.
    pub servers: BTreeSet<String>,
    /// The database that it names.
    pub database: Option<String>,
}
