//! Words that YAML, code and reports share. No I/O, no other room.

mod engine;

pub use engine::Engine;
