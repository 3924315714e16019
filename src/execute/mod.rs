//! Carries steps out; knows no kind.
