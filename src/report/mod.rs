//! Records to text; pure.
