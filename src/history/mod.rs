//! What ran, and what was learned from it.
