//! The TCP ports behind addresses, as each engine reads its own; nothing is connected to.

use super::{Ports, Whereabouts, mongodb, postgres};
use crate::values::{Engine, Secret};

/// The ports behind an address of `engine`; `env` looks up variables. An empty address is none.
pub fn ports(engine: Engine, url: Option<&Secret>, env: &dyn Fn(&str) -> Option<String>) -> Ports {
    let url = url.filter(|url| !url.expose().is_empty());
    match engine {
        Engine::Postgres => postgres::connect::Dial::ports(url.map(Secret::expose), env),
        Engine::Mongodb => mongodb::Dial::ports(url),
    }
}

/// Where an address of `engine` leads; none where that is not read from it.
pub fn whereabouts(engine: Engine, url: Option<&Secret>) -> Option<Whereabouts> {
    let url = url.filter(|url| !url.expose().is_empty())?;
    match engine {
        // A connection is to one database there, and no kind makes something in another.
        Engine::Postgres => None,
        Engine::Mongodb => mongodb::Dial::whereabouts(url),
    }
}
