//! Records to text; pure.

pub mod text;
