//! Parse, call, map to an exit code.

fn main() {}
