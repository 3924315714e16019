//! Words that YAML, code and reports share. No I/O, no other room.
//!
//! Each is parsed once, where it is read, and needs no check afterwards.

mod bytes;
mod calendar_span;
mod causes;
mod certificate;
mod choice;
mod closest;
mod cron;
mod database_pattern;
mod dotted;
mod engine;
mod files_used_up;
mod local_time;
mod machine;
mod mail_address;
mod masks;
mod name_pattern;
mod natural;
mod percent;
mod problem;
mod regular;
mod schema_pattern;
mod secret;
mod table_name;
mod text;
mod time_span;
mod time_zone;
pub mod unreadable;
mod window;

pub use bytes::Bytes;
pub use calendar_span::CalendarSpan;
pub use causes::{causes, with_causes};
pub(crate) use certificate::ChainOrNamed;
pub use closest::closest;
pub use cron::Cron;
pub use database_pattern::DatabasePattern;
pub use engine::Engine;
pub use files_used_up::FilesUsedUp;
pub use local_time::first_instant;
pub use machine::{host, is_alive};
pub use mail_address::MailAddress;
pub use masks::Masks;
pub use name_pattern::NamePattern;
pub use natural::natural;
pub use percent::Percent;
pub use problem::{Problem, Problems};
pub use regular::{describe, read_regular, read_stream, read_text, regular};
pub use schema_pattern::SchemaPattern;
pub use secret::{Secret, redact};
pub use table_name::TableName;
pub use text::Invalid;
pub use time_span::TimeSpan;
pub use time_zone::TimeZone;
pub use window::Window;
