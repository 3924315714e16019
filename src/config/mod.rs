//! Files to `Config`, or every problem at once; never connects.
//!
//! A file is read into a tree that knows the place of every key and value (`yaml`), variables
//! are filled in (`interpolate`), and the tree is compared with the JSON Schema of the typed
//! model (`walk`), so that what editors are told, what is checked and what is read are the same
//! thing. Then comes what no schema can say (`names`, `check`, `options`).

mod built;
mod check;
mod closed;
mod databases;
mod files;
mod formats;
mod guess;
mod inventory;
mod interpolate;
mod leaf;
mod limits;
mod load;
mod locate;
mod model;
mod named_files;
mod names;
mod narrowed;
mod node;
mod opening;
mod options;
mod outlived;
mod overwritten;
mod reading;
mod schema;
mod set;
mod shape;
mod sources;
mod telling;
mod throttle;
mod told;
mod types;
mod unclear;
mod walk;
mod written;
mod yaml;

pub use load::{load, load_for_check, load_with};
pub use locate::locate;
pub use named_files::{FileUse, NamedFile, named_files};
pub use opening::{Opening, TaskWindow, had_a_chance, opening, windows_of};
pub use overwritten::overwritten_by_others;
pub use reading::Care;
pub use schema::{schema_for_schedules, schema_for_task, schema_with_id};
pub use sources::{Answer, Answers, Ask, Source, sources};
pub use types::{
    Command, Commands, Config, Database, Email, Event, Hook, Limits, Notify, Outside, ReplicaGone,
    Report, Retries, Schedule, Smtp, Target, Task, Throttle, Web, Webhook, WebhookFormat,
};
pub use written::written_secrets;
