//! Files to `Config`, or every problem at once; never connects.
