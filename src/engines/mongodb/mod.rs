//! How to talk to MongoDB: connecting, commands with limits, members, the claim.

mod claim;
mod dial;
mod error;
mod json;
mod members;
mod probe;
mod session;

pub use claim::Claim;
pub use dial::Dial;
pub use error::{MongoError, Refusal, role_for};
pub use json::Json;
pub use members::{Member, Members};
pub use session::{Limit, Server, Session, kill_operations, namespace, number};
