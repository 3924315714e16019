//! The TCP ports behind addresses, as each engine reads its own; nothing is connected to.

use super::{Ports, mongodb, postgres};
use crate::values::{Engine, Secret};

/// The ports behind an address of `engine`; `env` looks up variables. An empty address is none.
pub fn ports(engine: Engine, url: Option<&Secret>, env: &dyn Fn(&str) -> Option<String>) -> Ports {
    let url = url.filter(|url| !url.expose().is_empty());
    match engine {
        Engine::Postgres => postgres::connect::Dial::ports(url.map(Secret::expose), env),
        Engine::Mongodb => mongodb::Dial::ports(url),
    }
}
