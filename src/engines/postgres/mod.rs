//! PostgreSQL: connections, sessions, identifiers.

pub mod catalog;
pub mod connect;
pub mod copies;
pub mod definitions;
pub mod disk;
mod fault;
pub mod load;
pub mod claim;
pub mod grants;
mod held;
pub mod heirs;
pub mod meaning;
mod name;
mod origin;
pub mod pooler;
pub mod publications;
pub mod reach;
pub mod repacking;
pub mod rights;
mod row;
pub mod seats;
mod server;
mod session;
pub mod settings;
pub mod timeline;
pub(in crate::engines) mod told;
pub mod trust;
pub mod unhidden;
pub mod watch;

pub use fault::{Damage, Fault};
pub use held::Held;
pub use name::{Identifier, RelationName, literal};
pub use origin::Origin;
pub use row::{Answer, Row, each, first};
pub use server::Server;
pub use session::{Done, Session};
