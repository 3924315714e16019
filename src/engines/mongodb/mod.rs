//! How to talk to MongoDB: connecting, commands with limits, members, the claim.

mod claim;
mod columns;
mod copies;
mod dial;
mod equal;
mod error;
mod extended;
mod held;
mod json;
mod majority;
mod marks;
mod masked;
mod members;
mod names;
mod probe;
mod session;
mod shards;
mod tiger;

pub use columns::{Field, FieldType, columns, row};
pub(crate) use copies::{Copy, CopyMark, Stage, copies_of, listed};
pub use dial::Dial;
pub(crate) use equal::key;
pub use error::{MongoError, Refusal, role_for};
pub use extended::{MOST_DOCUMENT, MOST_LINE, read_line, write_line};
pub(crate) use held::identity_of;
pub use held::{Became, Held};
pub use json::Json;
pub use majority::unconfirmed;
pub use marks::MARKS;
pub(crate) use marks::mark;
pub(crate) use masked::{DAMAGED, is_of_the_server};
pub use members::{Member, Members};
pub use names::{CLAIMS, LONGEST_NAMESPACE, misnamed, misnamed_database};
pub use session::{Claim, Limit, Server, Session, kill_operations, namespace, number};
pub use shards::{Spread, Spreads};
pub use tiger::{is_compacting, writes};
