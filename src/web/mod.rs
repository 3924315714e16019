//! What a running `maint serve` tells over HTTP.

pub mod pages;
