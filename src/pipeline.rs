//! The story of one run.
