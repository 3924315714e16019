//! Everything that needs more than one room: one binary, real servers.

mod history;
